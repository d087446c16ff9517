"""The gradient of every single row's loss, at weights that a checkpoint holds and the model need not."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.explain.running import Runner

__all__ = ["Checkpoint", "RowGradients", "check_default_loss", "default_loss", "predict", "read_checkpoint", "trace"]

Loss = Callable[[Any, torch.Tensor], torch.Tensor]
Weights = dict[str, torch.Tensor]
Rows = tuple[torch.Tensor, torch.Tensor]

BATCH_NUMBERS = 2**24
"""How many numbers the gradients of one batch may take."""


class Checkpoint:
    """Weights at one moment of a training.

    Attributes:
        label: what it is called.
        weights: name to tensor, all that a model's ``state_dict`` has; shared ones under their first name.
        lr: the learning rate then; None where nobody said.
    """

    def __init__(self, label: str, weights: Weights, lr: float | None) -> None:
        self.label, self.weights, self.lr = label, weights, lr


def read_checkpoint(given: Any, number: int, model: nn.Module) -> Checkpoint:
    """Read what a caller passed as a checkpoint, without unpickling any code.

    Args:
        given: the path of a file, a state dict or a dict that holds one, or a pair of these and a learning rate.
        number: its place in the caller's list.
        model: whose weights they are.

    Raises:
        DLStudioError: it cannot be read, or does not fit the model.
    """
    label, lr = f"checkpoint {number}", None
    if isinstance(given, tuple) and len(given) == 2:
        given, lr = given
        if isinstance(lr, bool) or not isinstance(lr, (int, float)) or not 0 < lr < float("inf"):
            raise DLStudioError(f"a learning rate above 0 with {label}", f"{lr!r}", "Pass (path, 1e-3).")
    if isinstance(given, (str, Path)):
        label, given = Path(given).name, _load(Path(given))
    if not isinstance(given, Mapping):
        raise DLStudioError("a path or a state dict as a checkpoint", type(given).__name__, "Pass model.state_dict().")
    inside = next((given[key] for key in ("model", "state_dict", "model_state_dict") if key in given), given)
    wanted = {name: item for name, item in model.state_dict().items() if isinstance(item, torch.Tensor)}
    if not isinstance(inside, Mapping) or set(inside) != set(wanted):
        keys = set(inside) if isinstance(inside, Mapping) else set()
        odd = [f"{name!r} missing" for name in sorted(set(wanted) - keys)]
        odd += [f"{name!r} unknown" for name in sorted(keys - set(wanted))]
        raise DLStudioError(
            f"weights of this {type(model).__name__} in {label}",
            ", ".join(odd[:4]) + (f" and {len(odd) - 4} more" if len(odd) > 4 else ""),
            "Build the model with the options it was trained with.",
        )
    weights = {}
    names = {name for name, _ in model.named_parameters()}
    shared = {name for name, _ in model.named_parameters(remove_duplicate=False)} - names
    for name, tensor in wanted.items():
        if inside[name].shape != tensor.shape:
            raise DLStudioError(
                f"{name!r} of shape {tuple(tensor.shape)} in {label}",
                f"shape {tuple(inside[name].shape)}",
                "Build the model with the options it was trained with.",
            )
        if name not in shared:  # functional_call wants one name of weights that have several
            weights[name] = inside[name].detach().to(tensor)
    return Checkpoint(label, weights, float(lr) if lr is not None else _learning_rate(given))


def default_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross entropy where targets are class indices, else the squared error."""
    if targets.is_floating_point():
        return functional.mse_loss(outputs.reshape(targets.shape), targets)
    return functional.cross_entropy(outputs, targets)


def check_default_loss(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> None:
    """Check that a model's outputs and targets (n,) suit `default_loss`.

    Raises:
        DLStudioError: they do not, with what to do.
    """
    n_rows = min(2, len(inputs))
    with torch.no_grad():
        outputs = model(inputs[:n_rows])
    if not isinstance(outputs, torch.Tensor):
        raise DLStudioError(
            "one tensor as the model's output",
            type(outputs).__name__,
            "Pass loss=, such as lambda outputs, targets: cross_entropy(outputs['logits'], targets).",
        )
    shape = tuple(outputs.shape)
    if targets.is_floating_point():
        if outputs.numel() != n_rows:
            raise DLStudioError(f"one value for each of {n_rows} rows", f"outputs of shape {shape}", "Pass loss=.")
        return
    if len(shape) != 2 or shape[1] < 2:
        raise DLStudioError("logits of shape (rows, classes)", f"outputs of shape {shape}", "Pass loss=.")
    bad = (targets < 0) | (targets >= shape[1])
    if bad.any():
        raise DLStudioError(
            f"targets from 0 to {shape[1] - 1}", f"{int(targets[bad][0])}", "Number the classes from 0."
        )


class RowGradients:
    """Computes the gradient of each row's own loss with respect to the weights of some layers.

    Args:
        model: in eval mode; its own weights are neither used nor changed.
        loss: of the model's output for one row and its target; rows come one by one, so means and sums are the same.
        layers: names of modules whose weights count; None for all that require gradients.

    Raises:
        DLStudioError: there is no such layer, or it has no weights.
    """

    def __init__(self, model: nn.Module, loss: Loss, layers: Sequence[str] | None) -> None:
        self._model, self._loss = model, loss
        trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
        self.names = trained or [name for name, _ in model.named_parameters()]
        if layers is not None:
            known = [name for name, _ in model.named_modules() if name]
            for layer in layers:
                if layer not in known:
                    raise unknown_name("layer", layer, known)
            parts = tuple(f"{layer}." for layer in layers)
            self.names = [name for name in self.names if name.startswith(parts)]
        if not self.names:
            raise DLStudioError("layers with weights", f"layers={layers!r} without any", "Name others, or None.")
        sizes = dict(model.named_parameters())
        self.n_weights = sum(sizes[name].numel() for name in self.names)
        self._together: bool | None = None

    def __call__(self, weights: Weights, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return gradients (rows, weights) at `weights`."""
        if self._together is None:
            self._together = self._agree(weights, inputs[:2], targets[:2])
        return (self._at_once if self._together else self._one_by_one)(weights, inputs, targets)

    def _split(self, weights: Weights) -> tuple[Weights, Weights]:
        chosen = {name: weights[name] for name in self.names}
        return chosen, {name: weight for name, weight in weights.items() if name not in chosen}

    def _value(self, chosen: Weights, rest: Weights, row: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        outputs = functional_call(self._model, {**rest, **chosen}, (row.unsqueeze(0),))
        return self._loss(outputs, target.unsqueeze(0)).sum()

    def _at_once(self, weights: Weights, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        chosen, rest = self._split(weights)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")
            found = vmap(grad(self._value), in_dims=(None, None, 0, 0))(chosen, rest, inputs, targets)
        return torch.cat([found[name].flatten(1) for name in self.names], dim=1).detach()

    def _one_by_one(self, weights: Weights, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        chosen, rest = self._split(weights)
        leaves = {name: weight.detach().requires_grad_() for name, weight in chosen.items()}
        rows = []
        for row, target in zip(inputs, targets, strict=True):
            value = self._value(leaves, rest, row, target)
            found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
            rows.append(torch.cat([part.flatten() for part in found]))
        return torch.stack(rows)

    def _agree(self, weights: Weights, inputs: torch.Tensor, targets: torch.Tensor) -> bool:
        """Whether all rows at once give what single rows give; not every model and layer can be vectorised."""
        expected = self._one_by_one(weights, inputs, targets)
        try:
            found = self._at_once(weights, inputs, targets)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError, ValueError, TypeError):
            return False
        return bool((found - expected).abs().max() <= 1e-4 * expected.abs().max())


def trace(
    gradients: RowGradients, moments: Sequence[Checkpoint], test: Rows, train: Rows, runner: Runner
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add up rate times inner products of loss gradients over checkpoints.

    Returns:
        Influence (n, m) of m training rows on n rows, and of training rows on themselves (m,), on the CPU; to be
        thrown away where the runner has stopped early.
    """
    (x, y), (x_train, y_train) = test, train
    n, m = len(x), len(x_train)
    influence = torch.zeros(n, m, dtype=moments[0].weights[gradients.names[0]].dtype)
    own = torch.zeros(m, dtype=influence.dtype)
    size = max(1, 4 * BATCH_NUMBERS // gradients.n_weights)
    passes = [(moment, at) for at in range(0, n, size) for moment in moments]
    prepared: dict[int, torch.Tensor] = {}

    def explained(number: int, limit: int) -> torch.Tensor:
        """Gradients of the rows in question of one pass; those of the last pass are forgotten."""
        if number not in prepared:
            prepared.clear()
            moment, at = passes[number]
            stop = min(n, at + size)
            parts = [
                gradients(moment.weights, x[low : min(stop, low + limit)], y[low : min(stop, low + limit)])
                for low in range(at, stop, limit)
            ]
            prepared[number] = torch.cat(parts)
        return prepared[number]

    def work(part: slice, limit: int) -> None:
        found = []
        at = part.start
        while at < part.stop:
            number, row = divmod(at, m)
            rows = slice(row, min(m, row + part.stop - at))
            moment, first = passes[number]
            wanted = explained(number, limit)
            given = gradients(moment.weights, x_train[rows], y_train[rows])
            rate = 1.0 if moment.lr is None else moment.lr
            own_part = (given**2).sum(dim=1) * rate if first == 0 else None
            found.append((slice(first, first + len(wanted)), rows, (wanted @ given.T * rate).cpu(), own_part))
            at += rows.stop - rows.start
        # Only now, when nothing can run out of memory any more: a batch that does is done again.
        for explained_rows, rows, values, own_part in found:
            influence[explained_rows, rows] += values
            if own_part is not None:
                own[rows] += own_part.cpu()

    runner.over_rows(len(passes) * m, 1, work)
    return influence, own


def predict(model: nn.Module, weights: Weights, test: Rows, batch: int) -> npt.NDArray[Any] | None:
    """Return the class or value (n,) that a model with these weights predicts; None for outputs of another kind."""
    x, y = test
    parts = []
    with torch.no_grad():
        for at in range(0, len(x), batch):
            outputs = functional_call(model, weights, (x[at : at + batch],))
            if not isinstance(outputs, torch.Tensor):
                return None
            parts.append(outputs)
    together = torch.cat(parts)
    if not y.is_floating_point() and together.dim() == 2:
        together = together.argmax(dim=1)
    elif together.numel() != len(x):
        return None
    predicted: npt.NDArray[Any] = together.reshape(len(x)).cpu().numpy()
    return predicted


def _load(path: Path) -> Any:
    if not path.exists():
        raise DLStudioError("the file of a checkpoint", f"{path}, which is not there", "Check the path.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise DLStudioError(
            "a checkpoint of tensors and plain values",
            f"{path} ({(str(error).strip() or repr(error)).splitlines()[0][:160]})",
            "Save model.state_dict() with torch.save.",
        ) from error


def _learning_rate(content: Mapping[str, Any]) -> float | None:
    """The learning rate that a checkpoint tells: its own, its optimiser's, or its recipe's."""
    optimizer = content.get("optimizer", content.get("optimizer_state_dict"))
    groups = optimizer.get("param_groups") if isinstance(optimizer, Mapping) else None
    recipe = content.get("recipe")
    for place in (content, groups[0] if groups else None, recipe):
        for key in ("lr", "learning_rate"):
            rate = place.get(key) if isinstance(place, Mapping) else None
            if isinstance(rate, (int, float)) and rate > 0:
                return float(rate)
    return None

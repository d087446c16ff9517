"""What a model decides of a row, and how far other rows are from the decision that is wanted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.explain.counterfactuals.space import Array

__all__ = ["Decision", "asked"]


@contextlib.contextmanager
def asked(model: Any, row: Array, output: Any, as_tensor: bool) -> Iterator[Callable[[Array], Array]]:
    """Lend a model as a function from encoded rows to outputs, both as arrays."""
    import torch
    from torch import nn

    if isinstance(model, nn.Module):
        from dlstudio.explain.inspection.untouched import untouched
        from dlstudio.explain.problem import try_model

        weights = next((item for item in model.parameters() if item.is_floating_point()), None)
        device = torch.device("cpu") if weights is None else weights.device
        dtypes = [torch.as_tensor(row).dtype]
        if weights is not None:  # whole numbers first as they are, for embeddings, then as the numbers of a layer
            dtypes = [weights.dtype] if dtypes[0].is_floating_point else [*dtypes, weights.dtype]

        with untouched(model), torch.no_grad():
            for dtype in dtypes:
                try:
                    outputs, _ = try_model(
                        model, torch.as_tensor(np.stack([row, row])).to(device, dtype), (), (), output
                    )
                    break
                except DLStudioError:
                    if dtype == dtypes[-1]:
                        raise
            yield lambda rows: outputs(torch.as_tensor(rows).to(device, dtype)).double().cpu().numpy()
        return
    if not callable(model):
        raise DLStudioError(
            "a module, a function of rows, or a run", type(model).__name__, "Pass for instance model.predict_proba."
        )

    def ask(rows: Array) -> Array:
        given = model(torch.as_tensor(rows) if as_tensor else rows)
        return np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)

    yield ask


class Decision:
    """The decision on one row, and the one that is wanted instead.

    Args:
        ask: encoded rows (m, features) to scores (m, k), labels (m,) of any other type than float, or values (m,).
        row: the encoded row (features,).
        target: class index or name, value or interval, as in `find_counterfactuals`.
        class_names: what the classes are called.

    Attributes:
        outputs: what the model returns for the row, (1, k) or (1,).
        name: the decision on the row in words.
        n_evaluations: rows that the model was given so far.

    Raises:
        DLStudioError: the model cannot be asked, a target is missing or unknown, or the row is there already.
    """

    def __init__(
        self, ask: Callable[[Array], Array], row: Array, *, target: Any, class_names: Sequence[str] = ()
    ) -> None:
        self._ask = ask
        self._class_names = tuple(class_names)
        self.n_evaluations = 0
        self.outputs = self._outputs(np.stack([row, row]))[:1]
        self._is_label = self.outputs.dtype.kind != "f"
        self._is_class = self.outputs.ndim == 2
        self.name = self.names(self.outputs)[0]
        if self._is_class or self._is_label:
            self._wanted = None if target is None else self._class(target)
            if self._wanted is not None and self._wanted == self._decided(self.outputs)[0]:
                raise DLStudioError(
                    "another class than the model decides for already",
                    f"target={target!r} for a row that is {self.name}",
                    "Choose another target or another row.",
                )
        else:
            self._low, self._high = self._interval(target)
        self._current = self._decided(self.outputs)[0] if self._is_class or self._is_label else None

    def judge(self, rows: Array) -> tuple[Array, Array]:
        """Return margins float64 (m,), the higher the closer to what is wanted, and whether that is reached (m,)."""
        return self._margins(self._outputs(rows))

    def ask_one(self, row: Array) -> tuple[Array, bool]:
        """Return the model's output for one row (1, features), and whether it is as wanted."""
        outputs = self._outputs(row)
        return outputs, bool(self._margins(outputs)[1][0])

    def names(self, outputs: Array) -> list[str]:
        """Return the decisions on outputs in words: names of classes, or values."""
        if outputs.ndim == 1 and outputs.dtype.kind == "f":
            return [f"{item:.4g}" for item in outputs.tolist()]
        return [self._called(item) for item in self._decided(outputs).tolist()]

    def _called(self, decided: Any) -> str:
        if self._class_names and isinstance(decided, int) and 0 <= decided < len(self._class_names):
            return str(self._class_names[int(decided)])
        return str(decided) if not self._is_class else f"class {decided}"

    def _decided(self, outputs: Array) -> Array:
        return outputs.argmax(axis=1) if outputs.ndim == 2 else outputs

    def _margins(self, outputs: Array) -> tuple[Array, Array]:
        if self._is_label:
            reached = outputs != self._current if self._wanted is None else outputs == self._wanted
            return reached.astype(np.float64) - 1.0, reached
        if not self._is_class:
            margins = np.minimum(outputs - self._low, self._high - outputs)
            return margins, margins >= 0
        decided = self._decided(outputs)
        others = outputs.copy()
        if self._wanted is None:
            others[:, self._current] = -np.inf
            return others.max(axis=1) - outputs[:, self._current], decided != self._current
        others[:, self._wanted] = -np.inf
        return outputs[:, self._wanted] - others.max(axis=1), decided == self._wanted

    def _outputs(self, rows: Array) -> Array:
        """Return scores (m, k) or values (m,) as float64, or labels (m,) as they are."""
        self.n_evaluations += len(rows)
        outputs = self._ask(rows)
        if outputs.ndim == 2 and outputs.shape[1] == 1:
            outputs = outputs[:, 0]
        if outputs.ndim not in (1, 2) or len(outputs) != len(rows) or outputs.size == 0:
            raise DLStudioError(
                f"scores (m, k), labels (m,) or values (m,) for m={len(rows)} rows",
                f"outputs of shape {outputs.shape}",
                "Pass a function that takes many rows at once, such as classifier.predict_proba.",
            )
        if outputs.dtype.kind == "f":
            if np.isnan(outputs).any():
                raise DLStudioError("outputs that are numbers", "NaN", "Check the model and the ranges of its inputs.")
            return outputs.astype(np.float64)
        if outputs.ndim == 2:
            raise DLStudioError("floats as scores of classes", f"{outputs.dtype}", "Return one label a row, or scores.")
        return outputs

    def _class(self, target: Any) -> Any:
        if isinstance(target, str) and self._class_names:
            if target not in self._class_names:
                raise unknown_name("class", target, self._class_names)
            return self._class_names.index(target)
        if self._is_label:
            return target
        n_classes = self.outputs.shape[1]
        if isinstance(target, bool) or not isinstance(target, int | np.integer) or not 0 <= target < n_classes:
            raise DLStudioError(
                f"the index of one of {n_classes} classes", f"target={target!r}", f"Choose 0 to {n_classes - 1}."
            )
        return int(target)

    def _interval(self, target: Any) -> tuple[float, float]:
        here = float(self.outputs[0])
        try:
            if isinstance(target, tuple | list):
                low, high = (float(end) for end in target)
            elif float(target) == here:
                low = high = here
            else:
                low, high = (float(target), np.inf) if here < float(target) else (-np.inf, float(target))
        except (TypeError, ValueError):
            raise DLStudioError(
                "the value to reach, or an interval (low, high), as the model returns one value a row",
                f"target={target!r}",
                "Pass target=0.0 for a logit, target=0.5 for a probability, or a value in the target's unit.",
            ) from None
        if not low <= high:
            raise DLStudioError("an interval (low, high)", f"target={target!r}", "Put the lower end first.")
        if low <= here <= high:
            raise DLStudioError(
                "a value that is not reached already",
                f"target={target!r} for a row at {here:.4g}",
                "Choose another target or another row.",
            )
        return low, high

"""Recipe: everything that decides how a training run goes, as plain values. Imports no torch."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.training.fields import Field, check, describe, described, fields_of, is_json

__all__ = ["Field", "Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to train, on what, and how.

    Every field has a default; `schema` describes each of them with its range. `data` and `model` are names of
    bundled sets and networks, or Python objects: a `DataFrame`, a tuple ``(inputs, targets)`` or a dict of
    datasets for `data`; an `nn.Module`, or a class or function that returns one, for `model` (called with
    `model_options`, and with ``dataset=`` if it has such a parameter). A recipe of names and numbers only is
    plain: it can be written as YAML.

    Raises:
        DLStudioError: a value is out of its range, or two of them contradict each other.

    Example:
        >>> recipe = Recipe(data="mortgage", model="mlp", epochs=5, schedule="cosine")
        >>> recipe.replace(lr=3e-4).lr
        0.0003
    """

    # fmt: off
    data: Any = described(
        "any", "Data", "Data", "A bundled set, or your own table, tensors or datasets.", "mortgage",
        suggestions=("mortgage", "employment", "fashion", "digits", "reviews", "bikes"))
    target: str | None = described(
        "text", "Data", "Target", "Column to predict; bundled sets know theirs.", optional=True)
    sensitive: tuple[str, ...] = described(
        "names", "Data", "Sensitive columns", "Columns that name groups of people; kept for audits.", ())
    model: Any = described(
        "any", "Model", "Model", "A reference network, or your own module.", "mlp",
        suggestions=("mlp", "cnn", "gru", "transformer"))
    model_options: dict[str, Any] = described(
        "options", "Model", "Model options", "Options of the network, by name.")
    epochs: int = described(
        "int", "Run", "Epochs", "Passes over the training part.", 20, minimum=1)
    batch_size: int = described(
        "int", "Run", "Batch size", "Rows of a batch, over all devices together.", 64, minimum=1)
    optimizer: str = described(
        "choice", "Optimiser", "Optimiser", "How gradients become updates.", "adamw",
        choices=("sgd", "adam", "adamw", "rmsprop"))
    lr: float = described(
        "float", "Optimiser", "Learning rate", "Its highest value; the schedule scales it.", 1e-3,
        minimum=0, above=True)
    weight_decay: float = described(
        "float", "Optimiser", "Weight decay", "Decoupled for adamw, else an L2 penalty.", 0.01, minimum=0)
    schedule: str = described(
        "choice", "Optimiser", "Schedule", "How the learning rate changes over the run.", "constant",
        choices=("constant", "cosine", "linear", "step", "one_cycle"))
    warmup_steps: int = described(
        "int", "Optimiser", "Warm-up steps", "Steps in which the rate rises from near zero.", 0, minimum=0)
    precision: str = described(
        "choice", "Machine", "Precision", "Number format of the forward and backward pass.", "32-true",
        choices=("32-true", "bf16-mixed", "16-mixed"))
    device: str = described(
        "text", "Machine", "Device", "auto, cpu, cuda or cuda:1.", "auto",
        suggestions=("auto", "cpu", "cuda"))
    devices: int = described(
        "int", "Machine", "Devices", "Processes, one a device.", 1, minimum=1)
    strategy: str = described(
        "choice", "Machine", "Strategy", "How devices share a model: ddp copies, fsdp shards it.", "auto",
        choices=("auto", "single", "ddp", "fsdp"))
    seed: int = described(
        "int", "Run", "Seed", "Of weights, data order and dropout.", 0, minimum=0, maximum=2**32 - 1)
    accumulate: int = described(
        "int", "Optimiser", "Accumulate", "Batches whose gradients make one step.", 1, minimum=1)
    clip_norm: float | None = described(
        "float", "Regularisation", "Clip gradient norm", "Largest global gradient norm.",
        minimum=0, above=True, optional=True)
    early_stopping: int | None = described(
        "int", "Regularisation", "Early stopping", "Evaluations in a row without a better loss.",
        minimum=1, optional=True)
    class_weights: bool = described(
        "bool", "Regularisation", "Class weights", "Weigh the loss against class imbalance.", False)
    balanced_sampler: bool = described(
        "bool", "Regularisation", "Balanced sampler", "Draw every class equally often.", False)
    reweigh: tuple[str, ...] = described(
        "names", "Regularisation", "Reweigh by", "Sensitive columns: draw rows so that groups share classes alike.", ())
    compile: bool = described(
        "bool", "Machine", "Compile", "Compile the model with torch.compile.", False)
    watch_every: int | None = described(
        "int", "Run", "Watch layers every", "Steps between samples of layer norms; None adapts.",
        minimum=1, optional=True)
    name: str | None = described(
        "text", "Run", "Name", "How the run is called.", optional=True)
    variant: str | None = described(
        "text", "Run", "Variant", "Label that runs of different seeds share.", optional=True)
    # fmt: on

    def __post_init__(self) -> None:
        for field in self.schema():
            object.__setattr__(self, field.name, check(field, getattr(self, field.name)))
        for name in ("data", "model"):
            value = getattr(self, name)
            if value is None or (isinstance(value, str) and not value.strip()):
                raise DLStudioError(
                    f"{name} to be a name or an object", f"{name}={value!r}", f"Give the {name} to train."
                )
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            near = difflib.get_close_matches(self.device, ("auto", "cpu", "cuda"), n=1)
            raise DLStudioError(
                "device to be 'auto', 'cpu', 'cuda' or 'cuda:N'",
                f"device={self.device!r}",
                f"Did you mean {near[0]!r}?" if near else "Use 'auto' to take what is there.",
            )
        if self.devices > 1 and (self.strategy == "single" or ":" in self.device):
            which = f"strategy={self.strategy!r}" if self.strategy == "single" else f"device={self.device!r}"
            raise DLStudioError(
                "several devices to share the work",
                f"devices={self.devices} with {which}",
                "Use strategy='ddp' or 'fsdp' and a device without a number, or devices=1.",
            )
        if self.precision == "16-mixed" and self.device == "cpu":
            raise precision_needs_cuda("device='cpu'")
        if self.reweigh and self.balanced_sampler:
            raise DLStudioError(
                "one rule by which rows are drawn",
                "reweigh and balanced_sampler together",
                "Switch one off; class_weights=True beside reweigh weighs classes too.",
            )
        if self.class_weights and self.balanced_sampler:
            raise DLStudioError(
                "one remedy against class imbalance",
                "class_weights and balanced_sampler together",
                "Switch one off: both at once would count the rare class twice.",
            )

    @classmethod
    def schema(cls) -> tuple[Field, ...]:
        """Describe every field: label, help, kind, range, default and the group a form shows it in."""
        return _schema()

    @property
    def is_plain(self) -> bool:
        """Whether it is made of names and numbers only, so that `to_dict` holds all of it."""
        return isinstance(self.data, str) and isinstance(self.model, str) and is_json(self.model_options)

    def replace(self, **changes: Any) -> Recipe:
        """Return a copy with other values, checked like a new recipe."""
        _check_names(changes)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, JSON-able; Python objects are described in words."""
        values = {field.name: getattr(self, field.name) for field in self.schema()}
        values["data"] = self.data if isinstance(self.data, str) else describe(self.data)
        values["model"] = self.model if isinstance(self.model, str) else describe(self.model)
        values["sensitive"], values["reweigh"] = list(self.sensitive), list(self.reweigh)
        values["model_options"] = {
            name: value if is_json(value) else describe(value) for name, value in self.model_options.items()
        }
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Make a recipe from a mapping; what it leaves out keeps its default.

        Raises:
            DLStudioError: it has an unknown field (the nearest one is named) or a value out of range.
        """
        if not isinstance(values, Mapping):
            raise DLStudioError(
                "a mapping of recipe fields", type(values).__name__, "Write lines such as 'epochs: 20'."
            )
        _check_names(values)
        return cls(**values)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Recipe:
        """Read a recipe from a YAML file.

        Raises:
            DLStudioError: the file is not there, is not YAML, or holds what `from_dict` rejects.
        """
        import yaml

        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise DLStudioError("a recipe file", f"{path} ({error.strerror})", "Check the path.") from error
        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as error:
            where = " ".join(str(error).split())
            raise DLStudioError("a YAML file of recipe fields", where, f"Correct {path}.") from error
        return cls.from_dict({} if values is None else values)

    def to_yaml(self) -> str:
        """Return the recipe as YAML, without the fields that have their default.

        Raises:
            DLStudioError: the recipe holds Python objects, which YAML cannot.
        """
        import yaml

        if not self.is_plain:
            raise DLStudioError(
                "a recipe of names and numbers",
                f"data {describe(self.data)}, model {describe(self.model)}",
                "Keep this recipe in Python.",
            )
        default = Recipe().to_dict()
        chosen = {name: value for name, value in self.to_dict().items() if value != default[name]}
        return str(yaml.safe_dump(chosen, sort_keys=False))


_init_of_fields = Recipe.__init__


@functools.wraps(_init_of_fields)
def _init(self: Recipe, **values: Any) -> None:
    _check_names(values)  # names the nearest field, where the dataclass itself would only raise a TypeError
    _init_of_fields(self, **values)


Recipe.__init__ = _init  # type: ignore[method-assign]


_SCHEMA: list[tuple[Field, ...]] = []


def _schema() -> tuple[Field, ...]:
    if not _SCHEMA:
        _SCHEMA.append(fields_of(Recipe))
    return _SCHEMA[0]


def precision_needs_cuda(got: str) -> DLStudioError:
    """Build the error for half precision on a CPU, which has no loss scaling worth the name."""
    return DLStudioError(
        "a CUDA device for precision '16-mixed'", got, "Use precision='bf16-mixed' or '32-true' on a CPU."
    )


def _check_names(values: Mapping[str, Any]) -> None:
    known = [field.name for field in _schema()]
    for name in values:
        if name not in known:
            raise unknown_name("recipe field", name, known)

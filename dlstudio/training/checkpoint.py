"""Checkpoints of a run: written whole or not at all, read without unpickling any code."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from dlstudio.runs.run import Run

__all__ = ["DESCRIBED", "describe_data", "load_model", "path_of", "read", "recipe_of", "saved_step", "write"]

FORMAT = 1
KINDS = ("last", "best")
DESCRIBED = ("recipe", "plain_recipe", "named_model", "data", "torch")
"""What a checkpoint tells beside weights; where no recipe trained these, ``trained_by`` says what did."""


def path_of(folder: Path, which: str) -> Path:
    """Return the path of a run's ``"last"`` or ``"best"`` checkpoint, there or not."""
    if which not in KINDS:
        raise unknown_name("checkpoint", which, KINDS)
    return folder / "checkpoints" / f"{which}.pt"


def write(path: Path, content: dict[str, Any]) -> None:
    """Replace a checkpoint; a reader, and a crash at any moment, finds the old or the new one whole.

    Args:
        path: where to.
        content: tensors and plain values only, so that it loads with ``weights_only=True``.

    Raises:
        OSError: it cannot be written; the old one is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            torch.save({"format": FORMAT, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except RuntimeError as error:  # torch's archive writer hides the OSError
        temporary.unlink(missing_ok=True)
        raise OSError(str(error).splitlines()[0]) from error
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        DLStudioError: it is not there, damaged, or of a newer version of dlstudio.
    """
    if not path.exists():
        raise DLStudioError(
            "a checkpoint of the run",
            f"no file {path}",
            "Runs save one after every epoch and when they are stopped; this one ended before that.",
        )
    try:
        with zipfile.ZipFile(path) as archive:  # torch checks no checksums
            broken = archive.testzip()
        if broken is not None:
            raise ValueError(f"{broken} has changed")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        other = path.with_name("best.pt" if path.name == "last.pt" else "last.pt")
        remedy = f"{other.name} beside it may be whole: load_model(run, {other.stem!r})." if other.exists() else ""
        cause = (str(error).strip() or repr(error)).splitlines()[0][:120]
        raise DLStudioError(
            "a whole checkpoint",
            f"a damaged file {path} ({cause})",
            f"{remedy} Start the run anew to train on.".strip(),
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise DLStudioError(
            f"a checkpoint of format {FORMAT}",
            f"{path} of format {found!r}",
            "Use the dlstudio that wrote it.",
        )
    return content


def saved_step(path: Path) -> int:
    """Return the step a checkpoint was taken at, from which a run can be continued.

    Raises:
        DLStudioError: it is not there, or damaged.
    """
    return int(read(path)["step"])


def describe_data(dataset: Any) -> dict[str, Any]:
    """Return what a model has to know of a data set, as plain values."""
    vocabulary, inputs = getattr(dataset, "vocabulary", ()), getattr(dataset, "inputs", None)
    n_tokens = None
    if dataset.modality == "text":
        n_tokens = len(vocabulary) or (int(inputs.max()) + 1 if inputs is not None else None)
    return {
        "name": str(dataset.name),
        "modality": str(dataset.modality),
        "task": str(dataset.task),
        "n_classes": int(dataset.n_classes),
        "input_shape": [int(size) for size in dataset.input_shape],
        "n_tokens": n_tokens,
        "class_names": [str(name) for name in getattr(dataset, "class_names", ())],
        "feature_names": [str(name) for name in getattr(dataset, "feature_names", ())],
        "fingerprint": str(dataset.fingerprint),
    }


def load_model(run: Run | str, which: str = "best", *, model: nn.Module | None = None) -> nn.Module:
    """Return a run's trained model in eval mode, on the CPU.

    Args:
        run: the run, or its name.
        which: ``"best"``, the weights with the lowest validation loss, or ``"last"``.
        model: for runs of a module of your own, one of the same shape; its weights are replaced.

    Raises:
        DLStudioError: there is no such checkpoint, or the run trained a module of your own and `model` is
            missing or of another shape.

    Example:
        >>> model = load_model("my-run")
        >>> model(load("mortgage").split("test")[0]).shape
        torch.Size([199, 2])
    """
    from dlstudio.runs.run import open_run

    folder = (open_run(run) if isinstance(run, str) else run).folder
    path = path_of(folder, which)
    content = read(path)
    if "model" not in content:
        raise DLStudioError(
            "a run with weights", f"one of {content['trained_by']}", "Take the model of the run that it came from."
        )
    if model is None:
        model = _rebuild(content, path)
    try:
        model.load_state_dict(content["model"])
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise DLStudioError(
            "a model of the same shape as the one trained",
            " ".join(lines[:3])[:400],
            "Build it with the same options.",
        ) from error
    return model.eval()


def _rebuild(content: dict[str, Any], path: Path) -> nn.Module:
    from dlstudio.models.build import available, build

    name, options = content["recipe"]["model"], dict(content["recipe"]["model_options"])
    if not content["named_model"] or name not in available():
        raise DLStudioError(
            "the module whose weights these are",
            f"a checkpoint of {name} in {path}",
            "Pass one of the same shape: load_model(run, model=MyModule()).",
        )
    data = SimpleNamespace(**content["data"])
    data.input_shape = tuple(data.input_shape)
    if data.n_tokens is not None:
        options.setdefault("n_tokens", data.n_tokens)
    with torch.random.fork_rng():
        return build(name, data, **options)


def recipe_of(content: dict[str, Any], path: Path) -> Recipe:
    """Return the recipe that trained the weights of a checkpoint.

    Raises:
        DLStudioError: the recipe had Python objects, which a checkpoint does not hold, or the weights come from
            something else, such as an adversarial training.
    """
    if "trained_by" in content:
        raise DLStudioError(
            "weights that a recipe trained",
            f"those of {path}, which come from {content['trained_by']}",
            "To train again would not give them: take the run it came from, or train each time yourself and pass what"
            " that predicts as arrays.",
        )
    if not content["plain_recipe"]:
        described = f"data {content['recipe']['data']}, model {content['recipe']['model']}"
        raise DLStudioError(
            "the recipe, which held Python objects",
            f"only their description in {path}: {described}",
            "Pass it again together with resume=.",
        )
    return Recipe.from_dict(content["recipe"])

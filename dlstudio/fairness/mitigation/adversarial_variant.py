"""Adversarial mitigation of a run, as a run of its own that can be launched, audited and compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.fairness.mitigation.adversarial import train_adversarial
from dlstudio.results import save
from dlstudio.runs.run import open_run
from dlstudio.training import checkpoint
from dlstudio.training.evaluate import evaluating, write_predictions
from dlstudio.training.metrics import score
from dlstudio.training.predicted import predictions_of

if TYPE_CHECKING:
    from dlstudio.runs.recorder import Recorder

__all__ = ["adversarial_variant"]

OPTIONS = ("criterion", "strength", "epochs", "batch_size", "lr", "adversary_lr", "seed")


def adversarial_variant(rec: Recorder, config: Mapping[str, Any]) -> None:
    """Train the model of a run on against an adversary, see `train_adversarial`; a function to launch.

    Afterwards the new run has weights and predictions of its own, so that it can be audited, explained and compared
    like the run it came from, which stays as it is. Predictions do not need the sensitive column,
    unless it is among the inputs.

    Args:
        rec: the recorder of the new run.
        config: ``"run"``, the name or key of a run that tells classes on a bundled table; ``"sensitive_features"``,
            the names of columns; and options of `train_adversarial` (criterion, strength, epochs, batch_size, lr,
            adversary_lr, seed).

    Raises:
        DLStudioError: a setting is missing or unknown, or the run has no columns to tell groups by.

    Example:
        >>> milder = dls.launch(
        ...     dls.adversarial_variant, config={"run": "my-run", "sensitive_features": ["race"], "strength": 2.0}
        ... )
        >>> dls.trade_off("my-run", sensitive_features=["race"], variants={"adversary": milder})
    """
    for name in config:
        if name not in ("run", "sensitive_features", *OPTIONS):
            raise unknown_name("setting", name, ("run", "sensitive_features", *OPTIONS))
    if not config.get("run") or not config.get("sensitive_features"):
        raise DLStudioError(
            "the run and the sensitive_features to train against",
            f"config={dict(config)}",
            "Write config={'run': 'my-run', 'sensitive_features': ['race']}.",
        )
    run, columns = open_run(config["run"]), list(config["sensitive_features"])
    known = predictions_of(run)
    dataset = known.dataset
    if known.task == "regression" or dataset is None or dataset.frame is None:
        got = "a regression" if known.task == "regression" else "data without columns"
        raise DLStudioError("a run that tells classes, on a bundled table", got, "Use train_adversarial on tensors.")
    for column in columns:
        if column not in dataset.frame.columns:
            raise unknown_name("column", column, map(str, dataset.frame.columns))
    rows = dataset.splits["train"]
    trained, went = train_adversarial(
        checkpoint.load_model(run),
        *dataset.split("train"),
        dataset.frame.iloc[rows][columns],
        progress=False,
        rec=rec,
        **{name: config[name] for name in OPTIONS if name in config},
    )
    content = {**checkpoint.read(checkpoint.path_of(run.folder, "best")), "model": trained.state_dict()}
    folder = rec.run.folder
    checkpoint.write(checkpoint.path_of(folder, "best"), content)
    parts = {}
    for split in ("val", "test"):
        if split in dataset.splits and len(dataset.splits[split]):
            inputs, targets = dataset.split(split)
            with evaluating(trained), torch.no_grad():
                outputs = torch.cat([trained(part).float() for part in inputs.split(4096)]).numpy()
            parts[split] = (outputs, targets.numpy(), dataset.splits[split])
            found = score(known.task, targets.numpy(), outputs)
            rec.log({f"{split}/{name}": value for name, value in found.items()}, step=len(went.loss))
    write_predictions(folder / "results" / "predictions.npz", known.task, parts)
    save(went, folder / "results", "adversarial-training")

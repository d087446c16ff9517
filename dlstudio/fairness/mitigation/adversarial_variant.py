"""Adversarial mitigation of a run, as a run of its own that can be launched, audited and compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from dlstudio.fairness.mitigation.adversarial import train_adversarial
from dlstudio.fairness.mitigation.parent import parent_of
from dlstudio.fairness.mitigation.taken import taken_of
from dlstudio.results import save
from dlstudio.training.checkpoint import load_model
from dlstudio.training.evaluate import evaluating, write_predictions
from dlstudio.training.metrics import score

if TYPE_CHECKING:
    from dlstudio.runs.recorder import Recorder

__all__ = ["adversarial_variant"]

OPTIONS = ("criterion", "strength", "epochs", "batch_size", "lr", "adversary_lr", "seed")


def adversarial_variant(rec: Recorder, config: Mapping[str, Any]) -> None:
    """Train the model of a run on against an adversary, see `train_adversarial`; a function to launch.

    Afterwards the new run has weights and predictions of its own, so that it can be audited, explained and compared
    like the run it came from, which stays as it is. It has no recipe of its own, so that it cannot be cross-validated.
    Predictions do not need the sensitive column, unless it is among the inputs.

    Args:
        rec: the recorder of the new run.
        config: ``"run"``, the name or key of a run that tells classes on a bundled table; ``"sensitive_features"``,
            the name of a column, or several; and options of `train_adversarial` (criterion, strength, epochs,
            batch_size, lr, adversary_lr, seed).

    Raises:
        DLStudioError: a setting is missing or unknown, or the run has no columns to tell groups by.

    Example:
        >>> milder = dls.launch(
        ...     dls.adversarial_variant, config={"run": "my-run", "sensitive_features": ["race"], "strength": 2.0}
        ... )
        >>> dls.trade_off("my-run", sensitive_features=["race"], variants={"adversary": milder})
    """
    parent = parent_of(config, OPTIONS)
    dataset, columns = parent.dataset, list(parent.columns)
    trained, went = train_adversarial(
        load_model(parent.run),
        *dataset.split("train"),
        parent.frame.iloc[dataset.splits["train"]][columns],
        progress=False,
        rec=rec,
        **{name: config[name] for name in OPTIONS if name in config},
    )
    folder = rec.run.folder
    n_epochs = len(went.loss)
    parent.write_checkpoint(folder, "adversarial training", model=trained.state_dict(), step=n_epochs, epoch=n_epochs)
    parts = {}
    for split in ("val", "test"):
        if split in dataset.splits and len(dataset.splits[split]):
            inputs, targets = dataset.split(split)
            with evaluating(trained), torch.no_grad():
                outputs = torch.cat([trained(part).float() for part in inputs.split(4096)]).numpy()
            parts[split] = (outputs, targets.numpy(), dataset.splits[split])
            found = score(parent.task, targets.numpy(), outputs)
            rec.log({f"{split}/{name}": value for name, value in found.items()}, step=n_epochs)
    write_predictions(folder / "results" / "predictions.npz", parent.task, parts)
    taken = taken_of(dataset, columns)
    needs = None if taken is None else bool(taken)
    save(dataclasses.replace(went, needs_sensitive_feature=needs), folder / "results", "adversarial-training")

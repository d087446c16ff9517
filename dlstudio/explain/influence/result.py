"""What `trace_influence` returns, and its words."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.results import Finding, Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["InfluenceResult", "describe", "findings_of", "label_of"]

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InfluenceResult(Result, schema=1):
    """What training rows did for the loss of n rows, added up over checkpoints.

    The influence of a training row is the learning rate times the inner product of its loss gradient with that of the
    explained row: how much one step on it lowers the explained row's loss, to first order. It is in units of the loss.

    Attributes:
        rows, train_rows: int64 (n,), (m,), row numbers in the data set, or 0, 1, 2, … of what was passed.
        proponents, opponents: int64 (n, top), places in `train_rows` of the training rows with the largest and the
            smallest influence, these first.
        proponent_influence, opponent_influence: float (n, top), theirs.
        self_influence: float (m,), of every training row on itself; largest for rows that the model could only learn
            by heart, wrong labels among them.
        y_true, y_pred: (n,) targets; classes or values that the last checkpoint predicts, None where its outputs are
            neither.
        y_train: (m,) targets of the training rows.
        class_names: one per class; () where unknown.
        checkpoints: what they are called.
        learning_rates: float64, one a checkpoint.
        layers: whose weights counted; () for all.
        n_weights: how many weights that is.
        model, run: the model's class; the run's key, empty without a run.
        findings: what follows; codes DLS425 to DLS428.
        wall_s: seconds it took.
    """

    rows: npt.NDArray[np.int64]
    train_rows: npt.NDArray[np.int64]
    proponents: npt.NDArray[np.int64]
    proponent_influence: Array
    opponents: npt.NDArray[np.int64]
    opponent_influence: Array
    self_influence: Array
    y_true: Array
    y_pred: Array | None
    y_train: Array
    class_names: tuple[str, ...] = ()
    checkpoints: tuple[str, ...]
    learning_rates: npt.NDArray[np.float64]
    layers: tuple[str, ...] = ()
    n_weights: int
    model: str = ""
    run: str = ""
    findings: tuple[Finding, ...] = ()
    wall_s: float = 0.0

    def __len__(self) -> int:
        return len(self.rows)

    def frame(self) -> pd.DataFrame:
        """Return a row per explained row and influential training row.

        Columns are ``row, kind, rank, train_row, influence, y_true, y_train``; a kind is ``"proponent"`` (training on
        it lowered the loss) or ``"opponent"`` (raised it).
        """
        import pandas as pd

        parts = []
        for kind, places, values in (
            ("proponent", self.proponents, self.proponent_influence),
            ("opponent", self.opponents, self.opponent_influence),
        ):
            n, top = places.shape
            parts.append(
                pd.DataFrame(
                    {
                        "row": np.repeat(self.rows, top),
                        "kind": kind,
                        "rank": np.tile(np.arange(1, top + 1), n),
                        "train_row": self.train_rows[places].ravel(),
                        "influence": values.ravel(),
                        "y_true": np.repeat(self.y_true, top),
                        "y_train": self.y_train[places].ravel(),
                    }
                )
            )
        both = pd.concat(parts, ignore_index=True)
        sign = both["kind"].map({"proponent": 1, "opponent": -1})
        return both[both["influence"] * sign > 0].reset_index(drop=True)

    def suspects(self, n: int = 20) -> pd.DataFrame:
        """Return the `n` training rows with the largest self-influence: ``train_row, self_influence, y_train``.

        These are the first to check for a wrong label.
        """
        import pandas as pd

        first = np.argsort(-self.self_influence, kind="stable")[:n]
        return pd.DataFrame(
            {
                "train_row": self.train_rows[first],
                "self_influence": self.self_influence[first],
                "y_train": self.y_train[first],
            }
        )


def label_of(result: InfluenceResult, target: Any) -> str:
    """Return a target as people read it: its class name, or its number.

    Example:
        >>> label_of(result, 1)
        'approved'
    """
    if result.y_train.dtype.kind in "iu" and 0 <= int(target) < len(result.class_names):
        return result.class_names[int(target)]
    return f"{target:g}" if isinstance(target, (float, np.floating)) else str(target)


def describe(result: InfluenceResult, at: int | None = None) -> tuple[str, ...]:
    """Return plain sentences on the `at`-th explained row, or on the whole result without `at`."""
    if at is None:
        return tuple(f"{finding.sentence} {finding.remedy}".strip() for finding in result.findings)
    true = label_of(result, result.y_true[at])
    said = "" if result.y_pred is None else f", predicted {label_of(result, result.y_pred[at])}"
    words = [f"Row {result.rows[at]} is {true}{said}."]
    for values, places, verb in (
        (result.proponent_influence[at], result.proponents[at], "lowered"),
        (result.opponent_influence[at], result.opponents[at], "raised"),
    ):
        if values[0] != 0 and (values[0] > 0) == (verb == "lowered"):
            row, label = result.train_rows[places[0]], label_of(result, result.y_train[places[0]])
            words.append(f"Training on row {row} ({label}) {verb} its loss the most.")
    return tuple(words)


def findings_of(result: InfluenceResult, guessed: Sequence[str] = ()) -> list[Finding]:
    """Return what follows from a result; `guessed` are checkpoints whose learning rate nobody knew."""
    found = []
    total = float(result.self_influence.sum())
    if total > 0:
        first = result.suspects(5)
        n = max(1, len(result.train_rows) // 100)
        share = float(np.sort(result.self_influence)[-n:].sum()) / total
        words = (
            f"The training rows with the largest influence on themselves are {', '.join(map(str, first['train_row']))};"
            f" the top 1 % hold {share:.0%} of it."
        )
        remedy = "Check their labels first: what a model can only learn by heart is rare or wrong."
        evidence = {"train_rows": [int(row) for row in first["train_row"]], "share": share}
        found.append(Finding(code="DLS425", severity="info", sentence=words, evidence=evidence, remedy=remedy))
    idle = int(
        (np.maximum(np.abs(result.proponent_influence[:, 0]), np.abs(result.opponent_influence[:, 0])) == 0).sum()
    )
    if idle:
        words = (
            f"{idle:,} of {len(result):,} rows have no loss gradient at these checkpoints, so nothing influences them."
        )
        found.append(
            Finding(
                code="DLS426",
                severity="warning",
                sentence=words,
                evidence={"n_rows": idle},
                remedy="Add checkpoints from earlier in the training.",
            )
        )
    if len(result.checkpoints) == 1:
        found.append(
            Finding(
                code="DLS427",
                severity="info",
                sentence="One checkpoint shows the influence at that moment only.",
                remedy="Add some from earlier in the training, where most is learned.",
            )
        )
    if guessed:
        found.append(
            Finding(
                code="DLS428",
                severity="info",
                sentence=f"The learning rate of {', '.join(guessed[:4])} is unknown and taken as 1: mind the unit.",
                remedy="Pass pairs: checkpoints=[(path, lr), …].",
            )
        )
    return found

"""What an audit of 277,677 people costs, beside fairlearn's own bootstrap of the same metrics."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING, Any

from dlstudio.bench.rows import Row, row_of
from dlstudio.bench.session import Session

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("SEX", "RAC1P", "DIS", "NATIVITY")
N_ROWS, N_BOOT, N_FEW = 277_677, 1000, 4
"""Rows of the employment data; draws of a bootstrap; and how many of them fairlearn is timed with."""
ONE = "one column, intervals of four metrics"
PEERS = {"dlstudio": "audit", "fairlearn": "bootstrap"}


def rows(session: Session) -> list[Row]:
    """Measure audits of four columns, alone and combined, and one column beside fairlearn."""
    n = session.n(N_ROWS, least=500)
    whole = session.compare(
        "fairness",
        {"dlstudio": {"how": "alone", "n_rows": n}, "dlstudio, combined": {"how": "combined", "n_rows": n}},
    )
    one = session.compare("fairness", {name: {"how": how, "n_rows": n} for name, how in PEERS.items()})
    case = f"{n:,} rows × {len(COLUMNS)} sensitive columns"
    return [
        row_of(f"{case}, with scores", "s", whole, "wall_s", budget=10),
        row_of("the same: memory at most", "GiB", whole, "peak_gib", budget=2),
        row_of(
            "the same and all combinations of two columns",
            "s",
            whole,
            "wall_s",
            subject="dlstudio, combined",
            budget=20,
        ),
        row_of(f"{ONE}, fairlearn's by {N_BOOT:,} draws (timed for {N_FEW}): time", "s", one, "wall_s"),
        row_of(f"{ONE}, fairlearn's by {N_BOOT:,} draws (timed for {N_FEW}): memory", "GiB", one, "peak_gib"),
    ]


def measure(how: str, n_rows: int) -> dict[str, float]:
    """Audit the first rows once, after a first call that imports what it needs.

    Returns:
        ``wall_s``, and ``peak_gib``, the most memory of the process, data included.
    """
    import pandas as pd

    from dlstudio import shipped

    frame = pd.read_parquet(shipped.path("datasets/employment.parquet")).head(n_rows)
    judge = {"alone": _alone, "combined": _combined, "audit": _one_column, "bootstrap": _fairlearn}[how]
    judge(frame.head(500), 2)
    start = time.perf_counter()
    judge(frame, N_FEW)
    wall_s = time.perf_counter() - start
    if how == "bootstrap":
        # Its time grows with the draws, less what the metrics themselves take.
        start = time.perf_counter()
        judge(frame, 0)
        metrics_s = time.perf_counter() - start
        wall_s = metrics_s + (wall_s - metrics_s) * N_BOOT / N_FEW
    return {"wall_s": wall_s, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def _alone(frame: pd.DataFrame, n_few: int) -> Any:
    return _audit(frame, COLUMNS, 1, scores=True)


def _combined(frame: pd.DataFrame, n_few: int) -> Any:
    return _audit(frame, COLUMNS, 2, scores=True)


def _one_column(frame: pd.DataFrame, n_few: int) -> Any:
    return _audit(frame, COLUMNS[1:2], 1, scores=False)


def _audit(frame: pd.DataFrame, columns: tuple[str, ...], most: int, *, scores: bool) -> Any:
    from dlstudio.fairness.audit import audit_fairness

    return audit_fairness(
        frame["employed"],
        frame["prediction"],
        y_score=frame["predicted_probability"] if scores else None,
        sensitive_features=frame[list(columns)],
        intersections=most,
        n_resamples=N_BOOT,
    )


def _fairlearn(frame: pd.DataFrame, n_few: int) -> Any:
    from fairlearn import metrics

    names = ("selection_rate", "true_positive_rate", "false_positive_rate", "count")
    drawn = {"n_boot": n_few, "ci_quantiles": [0.025, 0.975], "random_state": 0} if n_few else {}
    return metrics.MetricFrame(
        metrics={name: getattr(metrics, name) for name in names},
        y_true=frame["employed"],
        y_pred=frame["prediction"],
        sensitive_features=frame[COLUMNS[1]],
        **drawn,
    )

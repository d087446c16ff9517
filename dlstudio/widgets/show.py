"""One verb for looking at things in a notebook."""

from __future__ import annotations

from typing import Any

from dlstudio.errors import DLStudioError
from dlstudio.explain.result import Explanation
from dlstudio.results import Result
from dlstudio.runs.run import Run, open_run
from dlstudio.widgets.live import LiveView

__all__ = ["show"]


def show(what: Run | str | Result) -> Any:
    """Show a run as a live view, an explanation as an explorer, another result as words and pictures or as its table.

    The view follows the run while it goes on, whoever started it, and shows the whole of it once it is over. The
    explorer shows an explanation row by row and as a whole; where it is of a run of this studio home, it explains the
    rows by other methods and says what the model would make of a changed row. A trade-off comes with a slider over its
    operating points.
    Where no widgets can be shown, the value prints as text.

    Args:
        what: a run, or its name, key or MLflow run id; or a result.

    Returns:
        The widget, or the result's `DataFrame`.

    Raises:
        DLStudioError: there is no such run (the nearest name is suggested), or `what` cannot be shown.

    Example:
        >>> dls.show("my-run")
    """
    if isinstance(what, str):
        what = open_run(what)
    if isinstance(what, Run):
        return LiveView(what)
    if isinstance(what, Explanation):
        from dlstudio.widgets.explorer import Explorer  # plotly, which a live view can do without

        return Explorer(what)
    if isinstance(what, Result):
        from dlstudio.fairness.mitigation.trade_off_result import TradeOff
        from dlstudio.figures.answers import KINDS
        from dlstudio.widgets.card import Card
        from dlstudio.widgets.trade_off import TradeOffSlider

        if isinstance(what, TradeOff):
            return TradeOffSlider(what)
        return Card(what) if type(what) in KINDS else what.frame()
    raise DLStudioError(
        "a run, the name of one, or a result",
        f"a {type(what).__name__}",
        "Pass what dls.launch, dls.fit, dls.open_run, dls.explain or another verb returned.",
    )

"""One verb for looking at things in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlstudio.errors import DLStudioError
from dlstudio.explain.result import Explanation
from dlstudio.results import Result
from dlstudio.runs.run import Run, open_run
from dlstudio.widgets.live import LiveView

if TYPE_CHECKING:
    from dlstudio.tuning.ablation import Ablation
    from dlstudio.tuning.search import Search

__all__ = ["show"]


def show(what: Run | Search | Ablation | str | Result) -> Any:
    """Show a run as a live view, a search as a cockpit, an explanation as an explorer, another result in words.

    The view follows the run while it goes on, whoever started it, and shows the whole of it once it is over. The
    cockpit does the same with a search and steers it: a click fills in what to try next. Estimates of an ablation
    follow its runs in the same way. The explorer shows an
    explanation row by row and as a whole; where it is of a run of this studio home, it explains the rows by other
    methods and says what the model would make of a changed row. A trade-off comes with a slider over its operating
    points, an evaluation of two classes with one over thresholds and with what mistakes cost, a comparison with a
    button that trains the seeds it lacks.
    Where no widgets can be shown, the value prints as text.

    Args:
        what: a run, a search or an ablation, or its name, key or MLflow run id; or a result.

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
        return _searching(what) if what.info.get("kind") in ("search", "ablation") else LiveView(what)
    if isinstance(what, Explanation):
        from dlstudio.widgets.explorer import Explorer  # plotly, which a live view can do without

        return Explorer(what)
    if isinstance(what, Result):
        from dlstudio.compare.result import Comparison
        from dlstudio.fairness.mitigation.trade_off_result import TradeOff
        from dlstudio.figures.answers import KINDS
        from dlstudio.trust.evaluation_result import Evaluation
        from dlstudio.widgets.card import Card
        from dlstudio.widgets.comparison import ComparisonCard
        from dlstudio.widgets.threshold import ThresholdSlider
        from dlstudio.widgets.trade_off import TradeOffSlider

        if isinstance(what, Comparison):
            return ComparisonCard(what)
        if isinstance(what, TradeOff):
            return TradeOffSlider(what)
        if isinstance(what, Evaluation) and what.positive_scores is not None:
            return ThresholdSlider(what)
        return Card(what) if type(what) in KINDS else what.frame()
    view = _searching(what)
    if view is not None:
        return view
    raise DLStudioError(
        "a run, a search, an ablation, the name of one, or a result",
        f"a {type(what).__name__}",
        "Pass what dls.launch, dls.fit, dls.open_run, dls.explain or another verb returned.",
    )


def _searching(what: Any) -> Any:
    """The view of a search or an ablation, or None of anything else; a live view can do without Optuna and plotly."""
    from dlstudio.tuning.ablation import Ablation, is_ablation
    from dlstudio.tuning.search import Plan, Search, open_search

    if isinstance(what, Run):
        what = open_search(what.key)
    if isinstance(what, Plan):
        if not is_ablation(what):
            return LiveView(what.run)
        what = Ablation(what)
    if isinstance(what, Ablation):
        from dlstudio.widgets.ablation import AblationView

        return AblationView(what)
    if isinstance(what, Search):
        from dlstudio.widgets.cockpit import Cockpit

        return Cockpit(what)
    return None

"""One verb for looking at things in a notebook."""

from __future__ import annotations

from typing import Any

from dlstudio.errors import DLStudioError
from dlstudio.results import Result
from dlstudio.runs.run import Run, open_run
from dlstudio.widgets.live import LiveView


def show(what: Run | str | Result) -> Any:
    """Show a run as a live view, or a result as its table; in a notebook it appears under the cell.

    The view follows the run while it goes on, whoever started it, and shows the whole of it once it is over.
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
    if isinstance(what, Result):
        return what.frame()
    raise DLStudioError(
        "a run, the name of one, or a result",
        f"a {type(what).__name__}",
        "Pass what dls.launch, dls.fit or dls.open_run returned.",
    )

"""The live view of a run: one small anywidget that asks, and a feed that answers."""

from __future__ import annotations

import gzip
import importlib.util
import math
from functools import cache
from importlib import resources
from typing import Any

import anywidget
import traitlets

from dlstudio.errors import DLStudioError
from dlstudio.runs.run import Run
from dlstudio.summary.words import duration
from dlstudio.widgets.buckets import LAYER_STATS
from dlstudio.widgets.feed import Feed

_STATIC = resources.files("dlstudio.widgets") / "static"
_WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
_SAID = {
    "pause": "The run will pause after its current step.",
    "resume": "The run will go on.",
    "stop": "The run will stop after its current step and keep a checkpoint.",
    "checkpoint": "A checkpoint will be saved after the current step.",
}


def _joined(*names: str) -> str:
    return "\n".join((_STATIC / name).read_text(encoding="utf-8") for name in names)


class LiveView(anywidget.AnyWidget):
    """A run as it goes on, with its controls: status, curves, learning rate, layers, machine use, journal, log.

    The browser asks for news twice a second while the run is live and the view can be seen; no thread runs here.
    Nothing but the viewer's few settings is kept in widget state, so a saved notebook stays small. Messages arrive
    on a thread of their own: the buttons work while a cell is running.

    Args:
        run: the run to show, live or over.

    Example:
        >>> LiveView(dls.open_run("my-run"))
    """

    _esm = _joined("store.js", "page.js", "charts.js", "view.js")
    _css = _joined("live.css")
    settings = traitlets.Dict().tag(sync=True)
    """What the viewer chose: smoothing, log axis, metrics, layer statistic."""

    def __init__(self, run: Run, **traits: Any) -> None:
        super().__init__(**traits)
        self.run = run
        self.feed = Feed(run)
        self.on_msg(self._receive)

    def __repr__(self) -> str:
        return describe(self.run)

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        text = describe(self.run)
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {"text/plain": text, _WIDGET_MIME: view}, {}

    def _receive(self, _: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        client = str(content.get("client", ""))
        try:
            answer, parts = self._answer(content, client)
        except Exception as error:
            # Whatever it is, the viewer has to see it: an exception here would vanish in the kernel's own log.
            answer, parts = {"type": "fault", "words": f"{type(error).__name__}: {error}"}, []
        self.send({"client": client, **answer}, parts)

    def _answer(self, content: dict[str, Any], client: str) -> tuple[dict[str, Any], list[bytes]]:
        kind = content.get("type")
        if kind == "tick":
            stat = content.get("stat")
            delta, data = self.feed.tick(
                client=client,
                ack=int(content.get("ack") or 0),
                want=content.get("want"),
                stat=stat if stat in LAYER_STATS else LAYER_STATS[0],
                group=int(content.get("group") or 0),
            )
            return {"type": "delta", **delta}, [data]
        if kind == "plotly":
            return {"type": "plotly"}, [plotly_source()]
        if kind == "command":
            try:
                return {"type": "told", "ok": True, "words": self._command(content)}, []
            except DLStudioError as error:
                return {"type": "told", "ok": False, "words": str(error)}, []
        raise DLStudioError("a tick, plotly or command message", repr(kind), "Reload the page.")

    def _command(self, content: dict[str, Any]) -> str:
        name = content.get("name")
        if name == "set":
            lr = content.get("lr")
            if not isinstance(lr, int | float) or not math.isfinite(lr) or lr <= 0:
                raise DLStudioError("a learning rate above 0", repr(lr), "Try 1e-4.")
            self.run.set(lr=float(lr))
            return f"The learning rate will be {lr:g} from the next step on."
        if name not in _SAID:
            raise DLStudioError(f"one of {', '.join(_SAID)} or set", repr(name), "Reload the page.")
        getattr(self.run, name)()
        return _SAID[name]


@cache
def plotly_source() -> bytes:
    """The plotly.js that lies in the plotly package, compressed with gzip."""
    found = importlib.util.find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        raise DLStudioError("the plotly package", "none", "Install it with pip install plotly.")
    source = resources.files("plotly") / "package_data" / "plotly.min.js"
    return gzip.compress(source.read_bytes(), compresslevel=4)


def describe(run: Run) -> str:
    """One run in one or two lines of text, for places that show no widgets.

    Example:
        >>> describe(dls.open_run("my-run"))
        "Run 'my-run' (my-run-3f9c01aa): RUNNING, step 1,240, 42 s"
    """
    state = run.state()
    parts = [state.status]
    if state.step is not None:
        parts.append(f"step {state.step:,}")
    if state.started and state.ended:
        parts.append(duration(state.ended - state.started))
    reason = f"\n{state.reason}" if state.reason and state.status != "FINISHED" else ""
    return f"Run {run.name!r} ({run.key}): {', '.join(parts)}{reason}"

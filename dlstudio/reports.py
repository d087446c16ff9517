"""The report face: run a template notebook on one run and keep its outputs as one self-contained HTML page.

A template lies in ``notebooks/reports`` and takes the parameters ``run`` and ``home``; that of comparisons takes
``saved``, the file that holds one, in place of a run. Its code never shows, its figures are plotly figures, and
whatever text comes from a user goes through the helpers below, which escape it.
"""

from __future__ import annotations

import html
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlstudio import shipped
from dlstudio.errors import DLStudioError, unknown_name
from dlstudio.figures.theme import SEVERITY_COLORS, STATUS_COLORS
from dlstudio.results import Finding, save
from dlstudio.runs.run import Run, open_run
from dlstudio.summary.numbers import TrainingSummary
from dlstudio.summary.words import KeyNumber, label, moment, verdict
from dlstudio.tracking.detached import python_environment, python_of
from dlstudio.tracking.home import find_home

if TYPE_CHECKING:
    import nbformat
    import plotly.graph_objects as go

    from dlstudio.compare.result import Comparison

__all__ = ["Figure", "Markup", "cards", "head", "heading", "kinds", "notes", "paragraphs", "report", "table", "title"]

COMPARE = "compare"
"""The report that is on a comparison, not on a run."""

TIMEOUT_S = 300
PLOTLY_MIME = "application/vnd.plotly.v1+json"
# What may fetch something when a page is opened. A link that is only followed on a click is none of them.
_FETCHING = {"src", "srcset", "data", "poster", "background", "formaction", "action", "manifest", "xlink:href"}


def kinds() -> list[str]:
    """Names of the reports that can be made."""
    return sorted(path.stem for path in shipped.path("notebooks/reports").glob("*.ipynb"))


def report(
    kind: str = "training", *, run: Run | str | None = None, comparison: Comparison | None = None,
    out: Path | str | None = None,
) -> Path:  # fmt: skip
    """Write a report on a run, or on a comparison, as one HTML file that needs no network and no code to read.

    Args:
        kind: name of the report, one of `kinds`.
        run: the run, or its name, key or id; live runs are reported as they are now.
        comparison: what `dlstudio.compare` returned, for the report ``"compare"``, in place of a run.
        out: the file to write, or a folder to write it into; None takes ``reports/`` in the run's folder, so that
            the report is an artifact of the run, or in the studio home for a comparison.

    Returns:
        The path of the file.

    Raises:
        DLStudioError: there is no such report or run, the template failed, or the file cannot be written.

    Example:
        >>> dls.report("training", run="my-run", out="my-run.html")
        PosixPath('my-run.html')
        >>> dls.report("compare", comparison=dls.compare(metric="val/auc"))
    """
    if kind not in kinds():
        raise unknown_name("report", kind, kinds())
    if (kind == COMPARE) != (comparison is not None) or (kind == COMPARE) == (run is not None):
        wanted, given = ("comparison", "run") if kind == COMPARE else ("run", "comparison")
        got = f"a {given}" if (run if kind == COMPARE else comparison) is not None else "none"
        raise DLStudioError(f"a {wanted} to report", got, f"Pass {wanted}=.")
    about: Run | Comparison
    if comparison is not None:
        about, home = comparison, find_home()
        name, own = f"{kind}-{datetime.now(UTC):%Y%m%d-%H%M%S}", home / "reports"
        heading_ = f"{label(comparison.metric)} of {len(comparison)} variants: {kind} report"
    else:
        assert run is not None
        about = open_run(run) if isinstance(run, str) else run
        name, own = f"{kind}-{about.key}" if out is not None else kind, about.folder / "reports"
        heading_ = f"{about.name}: {kind} report"
    path = Path(out) if out is not None else own
    if out is None or path.is_dir():
        path = path / f"{name}.html"
    notebook = _execute(shipped.path(f"notebooks/reports/{kind}.ipynb"), about, path)
    page = _page(notebook, heading_)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise DLStudioError(
            "a place to write the report", f"{path} ({error.strerror})", "Choose another `out`."
        ) from None
    return path


def _execute(template: Path, about: Run | Comparison, out: Path) -> nbformat.NotebookNode:
    """Run the template in a kernel of this very Python, wherever its kernel specs may be or not be."""
    import papermill
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from papermill.exceptions import PapermillExecutionError

    with tempfile.TemporaryDirectory(prefix="dlstudio-report-") as folder:
        environment = {
            "DLSTUDIO_HOME": str(find_home()),
            "PLOTLY_RENDERER": "plotly_mimetype",
            "IPYTHONDIR": f"{folder}/ipython",  # no start-up files of the user
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        if path := python_environment().get("PYTHONPATH"):
            environment["PYTHONPATH"] = path
        options = ("-f", "{connection_file}", "--HistoryManager.enabled=False")
        spec = KernelSpec(
            argv=[*python_of("ipykernel_launcher"), *options],
            env=environment,
            display_name="dlstudio",
            language="python",
        )

        class ThisPython(AsyncKernelManager):
            transport = "ipc"  # sockets in the folder above: no port is open and none can clash
            connection_file = f"{folder}/kernel.json"

            @property
            def kernel_spec(self) -> KernelSpec:
                return spec

        executed = Path(folder) / "report.ipynb"
        what = {"run": about.key} if isinstance(about, Run) else {"saved": str(save(about, folder, "comparison"))}
        try:
            done: nbformat.NotebookNode = papermill.execute_notebook(
                template,
                executed,
                parameters={**what, "home": str(find_home())},
                kernel_name="python3",
                language="python",
                kernel_manager_class=ThisPython,
                progress_bar=False,
                cwd=folder,
                start_timeout=60,
                execution_timeout=TIMEOUT_S,
            )
            return done
        except PapermillExecutionError as error:
            kept = out.with_suffix(".failed.ipynb")
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(executed.read_bytes())
            raise DLStudioError(
                f"the template {template.name} to run to its end", f"{error.ename}: {error.evalue}", f"See {kept}."
            ) from None


def _page(notebook: nbformat.NotebookNode, title: str) -> str:
    from nbconvert.exporters.html import HTMLExporter
    from plotly.offline import get_plotlyjs

    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            figure = output.get("data", {}).pop(PLOTLY_MIME, None)
            if figure is not None:
                output["data"] = {"text/html": _figure(figure)}
    exporter: Any = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    body, _ = exporter.from_notebook_node(notebook)
    _check_self_contained(body)
    # Only scripts with this page's nonce run, and nothing may be fetched: markup that slipped in stays inert.
    nonce = secrets.token_hex(16)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; img-src data: blob:; "
        "font-src data:; base-uri 'none'; form-action 'none'"
    )
    parts = shipped.path("notebooks/reports/page.html").read_text(encoding="utf-8")
    for name, text in {
        "title": html.escape(title),
        "policy": policy,
        "nonce": nonce,
        "body": body,
        "plotly": get_plotlyjs(),
    }.items():
        parts = parts.replace(f"<!--{name}-->", text, -1 if name == "nonce" else 1)
    return parts


def _figure(figure: Mapping[str, Any]) -> str:
    spec = json.dumps({"data": figure.get("data", []), "layout": figure.get("layout", {})})
    height = int(figure.get("layout", {}).get("height", 360))
    safe = spec.replace("<", "\\u003c").replace(">", "\\u003e")
    return (
        f'<div class="figure" style="min-height:{height}px"></div>'
        f'<script type="application/json" class="figure-data">{safe}</script>'
    )


class _Fetches(HTMLParser):
    found: str = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, target in attrs:
            fetching = name in _FETCHING or (name == "href" and tag != "a")
            outside = fetching and target and not target.startswith(("data:", "#"))
            if outside or (name == "style" and re.search(r"url\(\s*['\"]?(?!data:|#)", target or "")):
                self.found = self.found or f"<{tag} {name}={str(target)[:80]!r}>"


def _check_self_contained(body: str) -> None:
    parser = _Fetches()
    parser.feed(body)
    if parser.found:
        raise DLStudioError("a report that fetches nothing", parser.found, "Embed it in the template as data instead.")


class Markup:
    """A piece of HTML that a notebook cell shows."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _repr_html_(self) -> str:
        return self.text


class Figure:
    """A plotly figure that a notebook cell shows; drawn by the reader's browser."""

    def __init__(self, figure: go.Figure) -> None:
        self.figure = figure

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        # What plotly's own display does, less its import of nbformat, which takes seconds.
        return {PLOTLY_MIME: json.loads(self.figure.to_json())}


def title(summary: TrainingSummary, kind: str = "Training report", told: str = "") -> Markup:
    """The head of a report: the run's name and status, what there is to be told first (its verdict), and the dates."""
    color, status = STATUS_COLORS.get(summary.status, "#5b6b7a"), html.escape(summary.status)
    pill = f' <span class="pill" style="background:{color}">{status}</span>'
    dates = f"Run created {moment(summary.created)} · "
    return _head(kind, html.escape(summary.name) + pill, told or verdict(summary), dates)


def head(name: str, kind: str, told: str) -> Markup:
    """The head of a report that is on no run: what it is on, of what kind it is, and what there is to be told first."""
    return _head(kind, html.escape(name), told)


def _head(kind: str, name: str, told: str, dates: str = "") -> Markup:
    now = datetime.now(UTC).timestamp()
    return Markup(
        f'<header><p class="kind">{html.escape(kind)}</p><h1>{name}</h1><p class="verdict">{html.escape(told)}</p>'
        f'<p class="dates">{dates}report written {moment(now)}</p></header>'
    )


def heading(text: str) -> Markup:
    """The heading of a part of a section."""
    return Markup(f"<h3>{html.escape(text)}</h3>")


def paragraphs(texts: Iterable[str]) -> Markup:
    """Paragraphs of plain text."""
    return Markup("".join(f"<p>{html.escape(text)}</p>" for text in texts))


def cards(numbers: Iterable[KeyNumber]) -> Markup:
    """Key numbers side by side, each with what it means."""
    shown = "".join(
        f'<div class="card"><div class="label">{html.escape(item.label)}</div>'
        f'<div class="number">{html.escape(item.text)}</div>'
        f'<div class="meaning">{html.escape(item.meaning)}</div></div>'
        for item in numbers
    )
    return Markup(f'<div class="cards">{shown}</div>')


def notes(found: Sequence[Finding]) -> Markup:
    """Findings, one box each, or a line that says there are none."""
    if not found:
        return Markup('<p class="quiet">Nothing unusual was recorded.</p>')
    return Markup(
        "".join(
            f'<div class="note" style="border-left-color:{SEVERITY_COLORS[item.severity]}">{html.escape(item.sentence)}'
            f'<div class="quiet">{html.escape(item.remedy)}</div></div>'
            for item in found
        )
    )


def table(
    rows: Mapping[str, object] | Iterable[Sequence[object]],
    columns: Sequence[str] = (),
    *,
    folded: str | None = None,
) -> Markup:
    """A table in which every cell shows its text as it is.

    Args:
        rows: cells row by row, or names with values.
        columns: the heads of the columns; none for names with values.
        folded: put it behind this line, to be opened by a click.
    """
    pairs = isinstance(rows, Mapping)
    listed = [list(row) for row in (rows.items() if isinstance(rows, Mapping) else rows)]
    if not listed:
        return Markup('<p class="quiet">None.</p>')
    head = "".join(f"<th>{html.escape(str(item))}</th>" for item in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(_text(item))}</td>" for item in row) + "</tr>" for row in listed)
    text = f'<table class="{"pairs" if pairs else "rows"}">{f"<tr>{head}</tr>" if head else ""}{body}</table>'
    if folded is not None:
        text = f"<details><summary>{html.escape(folded)}</summary>{text}</details>"
    return Markup(text)


def _text(item: object) -> str:
    if item in (None, "", [], {}):
        return "–"
    return item if isinstance(item, str) else json.dumps(item, default=str, ensure_ascii=False)

"""Compare: which variant is better, on what evidence, at what price, and what else differs between runs."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dlstudio import app
from dlstudio.compare.compare import compare
from dlstudio.compare.curves import overlay_of
from dlstudio.compare.diff import diff_runs
from dlstudio.compare.diff_result import RunDiff
from dlstudio.compare.fronts import pareto
from dlstudio.compare.gather import Gathered, gather, names_of
from dlstudio.compare.measure import measure
from dlstudio.compare.missing import TRAINING, missing_seeds
from dlstudio.compare.of_runs import USUAL, has
from dlstudio.compare.read_curves import Read, read_curves
from dlstudio.compare.recommend import COSTS
from dlstudio.compare.result import Comparison
from dlstudio.compare.variants import group
from dlstudio.compare.words import listed
from dlstudio.errors import DLStudioError
from dlstudio.explain.plain import in_plain_words, told
from dlstudio.figures import across, tables
from dlstudio.figures import comparison as figures
from dlstudio.figures.fronts import front
from dlstudio.figures.theme import ACCENT, STATUS_COLORS
from dlstudio.summary.words import label
from dlstudio.tracking.home import find_home
from dlstudio.training.directions import direction_of
from dlstudio.training.launch import launch

PAGES = ("Result", "Decision", "Curves", "Trade-offs", "Explore", "Two runs")
BY = {"variant": "Variant, or what differs beside the seed", "run": "Nothing: every run by itself",
      "example": "Nothing: one run each, on the same rows"}  # fmt: skip
WAYS = {"max": "More is better", "min": "Less is better"}
ALIGN = {"step": "Step", "epoch": "Epoch", "wall": "Wall time"}
MOST_KINDS, MOST_MEASURED, MOST_CURVES, MOST_CHARS = 100, 40, 8, 20_000
ALL = "all pairs"


@st.cache_resource(ttl=10, max_entries=8, show_spinner=False)
def gathered(home: str, what: str) -> list[Gathered]:
    """All runs of the home, or those that an MLflow filter finds in the store; none where there are none yet."""
    return gather(what or None)[0] if what or any(find_home().glob("runs/*/run.json")) else []


@st.cache_resource(max_entries=16, show_spinner="Comparing …")
def compared(stamp: int, keys: tuple[str, ...], _runs: Sequence[Gathered], **options: Any) -> Comparison:
    return compare(_runs, **options)


@st.cache_resource(max_entries=16, show_spinner="Reading both runs …")
def differing(stamp: int, a: str, b: str) -> RunDiff:
    return diff_runs(a, b)


@st.cache_resource(max_entries=16, show_spinner="Reading curves …")
def read(stamp: int, key: str, align: Any, _runs: Sequence[Gathered]) -> dict[str, Read]:
    """The curves of all runs: which of them are shown, and as what, changes nothing of what is read."""
    return read_curves(_runs, key, align)


def stamp_of(runs: Sequence[Gathered]) -> int:
    """Changes when a run is new, goes on, or was measured."""
    seen = ((one.key, one.status, one.n_steps, tuple(one.measures.items())) for one in runs)
    return hash((str(find_home()), *seen))


def chosen_runs() -> tuple[list[Gathered], list[Gathered]]:
    """Draw the choice of runs; returns them, and all that there are to choose from."""
    asked = st.query_params.get_all("run")
    with st.expander("Which runs", expanded=False):
        words = st.text_input("MLflow filter", key="filter", placeholder="For instance params.model = 'mlp'",
            help="Finds runs of every tool that logs to this store; empty takes all runs of this studio.")  # fmt: skip
        runs = gathered(str(find_home()), words.strip())
        left, middle, right = st.columns([3, 3, 5])
        sets = left.multiselect("Data", sorted({one.data for one in runs if one.data}), key="data")
        nets = {str(one.config.get("model", "")) for one in runs} - {""}
        models = middle.multiselect("Model", sorted(nets), key="model")
        names = {one.key: f"{one.name}  ({one.key})" for one in reversed(runs)}
        only = right.multiselect("Only these", list(names), default=[key for key in asked if key in names],
            format_func=names.__getitem__, placeholder="All of them", key="only")  # fmt: skip
    found = [
        one for one in runs
        if (not sets or one.data in sets) and (not models or str(one.config.get("model")) in models)
        and (not only or one.key in only)
    ]  # fmt: skip
    return found, runs


def settings(runs: Sequence[Gathered]) -> dict[str, Any]:
    """Draw what is compared, and how."""
    metrics = sorted({*names_of(runs, "metrics"), *names_of(runs, "measures")}, key=across.rank)
    usual = next((name for name in USUAL if name in metrics), None)
    first, second, third, fourth = st.columns([3, 4, 3, 2], vertical_alignment="bottom")
    at = metrics.index(usual) if usual else 0
    metric = first.selectbox("Metric", metrics, index=at, format_func=label, key="metric")
    if metric is None:
        raise DLStudioError("runs with metrics", "none", "Train some, or wait for their first values.")
    kinds: dict[str, set[str]] = {}
    for one in runs:
        for name, value in {**one.config, **one.tags}.items():
            kinds.setdefault(name, set()).add(str(value))
    several = sorted(
        name for name, seen in kinds.items() if name not in ("variant", "name") and 1 < len(seen) <= MOST_KINDS
    )
    ways = {**{name: name for name in several}, **BY}
    by = second.selectbox("A variant is made by", [*BY, *several], format_func=ways.__getitem__, key="by")
    # Runs without the metric name no variant that could be compared with.
    parts = group(runs, "run") if by == "example" else group([one for one in runs if has(one, metric)], by)
    names = [part.name for part in parts]
    against = third.selectbox("Compare with", [ALL, *names], key="reference")
    margin = fourth.number_input("Does not matter up to", 0.0, value=0.0, step=0.001, format="%g", key="margin",
        help="Differences up to this can be shown not to matter. 0 asks for any difference.")  # fmt: skip
    options: dict[str, Any] = {"metric": metric, "by": by, "margin": margin or None}
    options["reference"] = None if against == ALL else against
    try:
        direction_of(metric)
    except DLStudioError:
        options["direction"] = st.radio(
            "Of this metric", list(WAYS), format_func=WAYS.__getitem__, horizontal=True, key="way"
        )
    return options


def table(rows: tables.Rows, key: str) -> None:
    app.note(rows.told)
    st.dataframe(rows.frame(), hide_index=True, key=key, height=min(420, 38 + 35 * len(rows.cells)))


def result(c: Comparison) -> None:
    """What is shown and what is not: boxes, tables, pictures, sentences."""
    found = [in_plain_words(one) for one in c.findings]
    for one in found:
        if one.severity != "info":
            app.callout(one)
    table(tables.variants(c), "variants")
    for at, (words, figure) in enumerate(figures.pictures(c)):
        app.note(words)
        app.chart(figure, f"picture-{at}", words)
    if c.comparisons:
        st.subheader("Pair by pair", anchor=False)
        app.paragraphs(c.summary[1 : len(c.summary) - len(c.findings)])
        table(tables.pairs(c), "pairs")
    app.paragraphs(f"{one.sentence} {one.remedy}".rstrip() for one in found if one.severity == "info")
    offer_missing(c)
    if c.left_out:
        with st.expander(f"{len(c.left_out):,} left out"):
            st.dataframe(pd.DataFrame(c.left_out, columns=["Run", "Why"]), hide_index=True)


def offer_missing(c: Comparison) -> None:
    # A comparison of chosen runs does not learn of those that were started for it.
    started: set[str] = st.session_state.setdefault("started", set())
    missing = missing_seeds(c)
    going = [
        f"{one.variant} with seed {one.seed}" for one in missing
        if one.why_not == TRAINING or (one.recipe is not None and repr(one.recipe) in started)
    ]  # fmt: skip
    if going:
        app.note(f"Started already: {listed(going)}. The comparison changes once they have finished.")
    left = [one.recipe for one in missing if one.recipe is not None and repr(one.recipe) not in started]
    able = left[:MOST_MEASURED]
    if not able:
        return
    words = "Train the missing seed" if len(able) == 1 else f"Train the {len(able)} missing seeds"
    if st.button(words, key="missing", help="They train in the background, and appear under Runs."):
        for recipe in able:
            launch(recipe)
            started.add(repr(recipe))
        gathered.clear()
        st.rerun()


def named(column: str) -> str:
    return label(column.removeprefix("config."))


def decision(c: Comparison) -> None:
    """Which variant to ship within limits."""
    names = {name.removeprefix("config."): name for name in [c.metric, *across.numeric(c)]}
    chosen = st.multiselect("Limits on", list(names), format_func=label, placeholder="No limits", key="limits")
    limits: dict[str, tuple[float | None, float | None]] = {}
    for name in chosen:
        words, low, high = st.columns([2, 2, 2], vertical_alignment="bottom")
        with words:
            app.note(label(name))
        least = low.number_input("At least", value=None, format="%g", key=f"least-{name}")
        most = high.number_input("At most", value=None, format="%g", key=f"most-{name}")
        limits[name] = (least, most)
    found = c.recommend({name: ends for name, ends in limits.items() if ends != (None, None)})
    color = STATUS_COLORS["FINISHED"] if found.is_shown else ACCENT if found.variant else STATUS_COLORS["FAILED"]
    app.lead(found.sentence, color)
    for title, texts in (("What this rests on", found.evidence), ("What would change it", found.would_change)):
        if texts:
            st.subheader(title, anchor=False)
            app.paragraphs(texts)
    table(tables.candidates(found), "candidates")
    offer_measuring(c)


def offer_measuring(c: Comparison) -> None:
    """Time, parameters and memory are only known of runs that were measured."""
    frame = c.runs.dropna(subset=["value"])
    there = frame["latency_ms"].notna() if "latency_ms" in frame else pd.Series(False, index=frame.index)
    folders = find_home() / "runs"
    left = [key for key in frame["key"][~there] if key and (folders / key / "checkpoints" / "best.pt").exists()]
    left = left[:MOST_MEASURED]
    words = f"Measure what {len(left)} of the models cost" if len(left) > 1 else "Measure what one of the models costs"
    tip = "Latency, parameters and memory of a forward pass; about a second each."
    if left and st.button(words, key="measure", help=tip):
        bar = st.progress(0.0, "Measuring …")
        for at, key in enumerate(left):
            measure(key)
            bar.progress((at + 1) / len(left), "Measuring …")
        gathered.clear()
        st.rerun()


def curves(c: Comparison, every_run: Sequence[Gathered]) -> None:
    keys = sorted({name for record in c.run_records for name in record["metrics"]}, key=across.rank)
    if not keys:
        app.note("These have no curves.")
        return
    first, second, third = st.columns([4, 3, 3], vertical_alignment="bottom")
    at = keys.index(c.metric) if c.metric in keys else 0
    key = first.selectbox("Curve", keys, index=at, format_func=label, key="curve")
    align: Any = second.segmented_control(
        "Align by", list(ALIGN), default="step", format_func=ALIGN.__getitem__, required=True, key="align"
    )
    with third:
        bands = st.toggle("Mean and band of every variant", True, key="bands")
        log = st.toggle("Logarithmic", False, key="log")
    every = [one.name for one in c.ranked if one.n]
    shown = st.multiselect("Variants", every, default=every[:MOST_CURVES], key="shown")
    found = overlay_of(c, read(stamp_of(every_run), key, align, every_run), key, align)
    found = found.only(variants=[name for name in shown if name in found.variants] or list(found.variants))
    app.chart(figures.curves(found, bands=bands, log=log), "curves", f"{label(key)} of several variants")
    for one in found.findings:
        app.callout(in_plain_words(one))
    if found.left_out:
        name, why = found.left_out[0]
        app.note(f"{len(found.left_out):,} without this curve, for instance {name}: {why}.")


def trade_offs(c: Comparison) -> None:
    columns = across.numeric(c)
    own = [c.metric] if c.metric in columns else []
    costs = [name for name in COSTS if name in columns]
    rest = [name for name in columns if name not in own + costs]
    default = [*own, *costs, *rest][:2]
    chosen = st.multiselect(
        "Two or three of", columns, default=default, max_selections=3, format_func=named, key="objectives"
    )
    offer_measuring(c)
    if len(chosen) < 2:
        app.note("Choose two or three quantities.")
        return
    objectives = {}
    for place, name in zip(st.columns(len(chosen)), chosen, strict=True):
        objectives[name] = place.radio(
            app.plain(named(name)), list(WAYS), index=list(WAYS).index(way(c, name)), key=f"way-{name}",
            format_func=WAYS.__getitem__, horizontal=True,
        )  # fmt: skip
    each = st.toggle("Every run by itself", False, key="each")
    frame = c.runs.dropna(subset=["value"])
    found = pareto(c, objectives, by=("name" if frame["name"].is_unique else "key") if each else None)
    app.paragraphs(found.summary)
    app.chart(front(found), "front", "What is beaten by none in everything")
    table(tables.members(found), "members")


def way(c: Comparison, name: str) -> str:
    try:
        return c.direction if name == c.metric else direction_of(name.removeprefix("config."))
    except DLStudioError:
        return "min"


def explore(c: Comparison) -> None:
    """Runs across settings and metrics: lines, points, and a table to turn."""
    frame = c.runs.dropna(subset=["value"])
    kind = st.segmented_control("View", ("Parallel coordinates", "Scatter matrix", "Pivot table"),
        default="Parallel coordinates", required=True, label_visibility="collapsed", key="view")  # fmt: skip
    settings, numbers = across.varied(c), across.numeric(c)
    if kind == "Parallel coordinates":
        offered = list(dict.fromkeys([*settings, *numbers]))
        axes = st.multiselect(
            "Axes", offered, default=across.first_axes(c), max_selections=12, format_func=named, key="axes"
        )
        if axes:
            app.chart(across.parallel(c, axes), "parallel", "Runs as lines across settings and metrics")
        app.note("Drag along an axis to keep only the runs that pass there.")
    elif kind == "Scatter matrix":
        columns = st.multiselect("Numbers", ["value", *numbers], default=["value", *numbers[:3]], max_selections=6,
            format_func=lambda name: label(c.metric) if name == "value" else named(name), key="columns")  # fmt: skip
        if len(columns) > 1:
            app.chart(across.scatter_matrix(c, columns), "matrix", "Numbers of the runs against each other")
    else:
        pivot(c, frame, [*settings, "seed"], numbers)


def pivot(c: Comparison, frame: pd.DataFrame, names: list[str], numbers: list[str]) -> None:
    first, second, third, fourth = st.columns(4)
    down = first.selectbox("Rows", names, format_func=named, key="down")
    across = second.selectbox("Columns", names, index=None, format_func=named, placeholder="None", key="across")
    heads = {name: named(name) for name in numbers} | {"value": label(c.metric)}
    cell = third.selectbox("Values", ["value", *numbers], format_func=heads.__getitem__, key="cell")
    how = fourth.selectbox("Shown as", ("mean", "median", "std", "min", "max", "count"), key="how")
    names = list(dict.fromkeys([down, *([across] if across else [])]))
    grouped = frame[cell].groupby([frame[name].astype(str).rename(named(name)) for name in names], sort=False).agg(how)
    st.dataframe(grouped.unstack() if len(names) > 1 else grouped.rename(heads[cell]))


def two_runs(c: Comparison, runs: Sequence[Gathered], stamp: int) -> None:
    """Two runs side by side, what differs first; at the beginning of the two variants with the best means."""
    names = {one.key: f"{one.name}  ({one.key})" for one in reversed(runs)}
    if len(names) < 2:
        app.note("There is one run only.")
        return
    first = list(dict.fromkeys([*(one.runs[0] for one in c.ranked[:2] if one.runs), *names]))
    left, right = st.columns(2)
    a = left.selectbox("Run", list(names), list(names).index(first[1]), format_func=names.__getitem__, key="a")
    b = right.selectbox("Beside", list(names), list(names).index(first[0]), format_func=names.__getitem__, key="b")
    found = differing(stamp, a, b)
    app.paragraphs(found.summary)
    for one in found.findings:
        app.callout(in_plain_words(one))
    table(tables.differing(found), "differing")
    if found.patches:
        with st.expander(f"Uncommitted changes of {len(found.patches)} files"):
            for path, sides in found.patches.items():
                for name, patch in zip((found.a, found.b), sides, strict=True):
                    app.note(f"{path}, {name}")
                    st.code(patch[:MOST_CHARS] or "no changes", language="diff")
    with st.expander("Everything recorded"):
        st.dataframe(found.frame().astype({"a": str, "b": str}), hide_index=True)


def draw() -> None:
    runs, every_run = chosen_runs()
    if not runs:
        st.info("No runs to compare. Start some with `dlstudio demo`, or with one recipe and several seeds.")
        return
    options = settings(runs)
    stamp = stamp_of(runs)
    c = compared(stamp, tuple(one.key for one in runs), runs, **options)
    app.lead(c.summary[0], STATUS_COLORS["FINISHED"] if c.best else ACCENT)
    page = st.segmented_control(
        "Page", PAGES, default=PAGES[0], key="page", required=True, label_visibility="collapsed"
    )
    drawers: dict[str, Any] = {
        "Result": lambda: result(c),
        "Decision": lambda: decision(c),
        "Curves": lambda: curves(c, every_run),
        "Trade-offs": lambda: trade_offs(c),
        "Explore": lambda: explore(c),
        "Two runs": lambda: two_runs(c, runs, stamp),
    }
    drawers[page]()


app.heading("Compare")
try:
    draw()
except DLStudioError as error:
    app.note(told(error))

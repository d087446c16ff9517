"""One run: how it stands, its curves, what happened to it, and what it ran in."""

import json

import pandas as pd
import streamlit as st

from dlstudio import app
from dlstudio.errors import DLStudioError
from dlstudio.figures import training as figures
from dlstudio.runs.run import open_run
from dlstudio.summary.curves import LAYER_STATS
from dlstudio.summary.numbers import TrainingSummary
from dlstudio.summary.words import findings, key_numbers, moment, provenance, verdict

WORDS_S, CURVES_S, DETAILS_S = 1.0, 4.0, 8.0
CHART = {"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"]}
STATS = {
    "grad_norm": "Gradients",
    "update_ratio": "Update / weight",
    "update_norm": "Updates",
    "weight_norm": "Weights",
}


def plain(item: object) -> str:
    if item in (None, "", [], {}):
        return "–"
    return item if isinstance(item, str) else json.dumps(item, default=str)


def facts(rows: dict[str, object]) -> None:
    """A two-column table; every value is shown as it is."""
    frame = pd.DataFrame({"Name": list(rows), "Value": [plain(item) for item in rows.values()]})
    st.dataframe(frame, hide_index=True, width="stretch", height=min(600, 40 + 35 * len(frame)))


def chart(figure: object, key: str, alt: str) -> None:
    st.plotly_chart(figure, key=key, theme=None, config=CHART, alt=alt)


def header(summary: TrainingSummary) -> None:
    app.heading(summary.name, summary.status)
    app.note(f"{verdict(summary)} Created {moment(summary.created)}.")
    if summary.live and summary.n_steps_planned:
        st.progress(min(1.0, summary.n_steps / summary.n_steps_planned))
    for finding in findings(summary):
        if finding.severity != "info":
            app.callout(finding)
    if summary.traceback:
        with st.expander("Technical details of the failure"):
            st.code(summary.traceback, language=None, wrap_lines=True)
    app.cards(key_numbers(summary))


def curves(summary: TrainingSummary) -> None:
    title, smoothing, log = st.columns([5, 3, 2], vertical_alignment="center")
    title.subheader("Loss", anchor=False)
    smooth = smoothing.slider("Smoothing", 0.0, 0.99, 0.0, 0.01, key="smoothing")
    logarithmic = log.toggle("Logarithmic", key="log")
    chart(figures.loss(summary, smoothing=smooth, log=logarithmic), "loss", "Loss over steps")
    left, right = st.columns(2)
    with left:
        st.subheader("Quality on validation data", anchor=False)
        chart(figures.metrics(summary), "metrics", "Validation metrics over steps")
    with right:
        st.subheader("Learning rate", anchor=False)
        chart(figures.learning_rate(summary), "lr", "Learning rate over steps")


def layers(summary: TrainingSummary) -> None:
    stat = st.segmented_control(
        "Statistic",
        LAYER_STATS,
        default="grad_norm",
        format_func=STATS.__getitem__,
        required=True,
        key="stat",
    )
    chart(figures.layers(summary, stat or "grad_norm"), "layers", "Heat map of layers over steps")
    app.note("A row is a parameter, a column a step. Dark rows hardly learn; rows that turn bright grow.")


def events(summary: TrainingSummary) -> None:
    rows = [
        {
            "Time (UTC)": pd.Timestamp(event["time"], unit="s"),
            "Step": event.get("step"),
            "What": event["kind"],
            "Message": event.get("message") or "",
        }
        for event in reversed(summary.events)
    ]
    if not rows:
        app.note("Nothing happened yet.")
        return
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        height=min(600, 40 + 35 * len(rows)),
        column_config={"Time (UTC)": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss")},
    )


def environment(summary: TrainingSummary) -> None:
    facts(dict(provenance(summary)))
    packages = summary.environment.get("packages")
    if isinstance(packages, dict) and packages:
        with st.expander(f"{len(packages)} packages"):
            facts(dict(sorted(packages.items(), key=lambda item: str(item[0]).lower())))


SECTIONS = ("Layers", "Machine", "Events", "Settings", "Environment", "Log")


def details(summary: TrainingSummary, key: str) -> None:
    chosen = st.segmented_control(
        "Details", SECTIONS, default="Layers", required=True, key="section", label_visibility="collapsed"
    )
    if chosen == "Layers":
        layers(summary)
    elif chosen == "Machine":
        chart(figures.machine(summary), "machine", "Machine use over time")
    elif chosen == "Events":
        events(summary)
    elif chosen == "Settings":
        facts(dict(summary.config)) if summary.config else app.note("This run has no settings.")
    elif chosen == "Environment":
        environment(summary)
    else:
        text = open_run(key).log_tail(200)
        if text:
            st.code(text, language=None, height=420)
        else:
            app.note("Nothing was printed. A run inside a notebook prints there.")


def pick() -> str | None:
    """The run in the address, else the one chosen here."""
    frame = app.run_table()
    if frame.empty:
        app.heading("Run")
        st.info("No runs yet. Start one with `dlstudio demo`, `dlstudio train` or from a notebook.")
        return None
    asked = st.query_params.get("run")
    keys = frame["key"].tolist()
    if asked is None:
        st.query_params["run"] = asked = keys[0]
    if asked not in keys:
        try:
            asked = open_run(asked).key
        except DLStudioError as error:
            app.heading("No such run")
            app.note(error)
            st.page_link("board_pages/runs.py", label="All runs", icon=":material/arrow_back:")
            return None
    return asked


def draw(key: str) -> None:
    """Draw the run and, while it is live, draw it again and again: words often, charts less often.

    Streamlit builds a chart anew whenever its data changes, which costs the browser time and the reader the zoom;
    hence the switch that makes the charts stand still.
    """
    live = app.summary_of(key).live
    st.page_link("board_pages/runs.py", label="All runs", icon=":material/arrow_back:")

    @st.fragment(run_every=WORDS_S if live else None)
    def words() -> None:
        summary = app.summary_of(key)
        if summary.live != live:
            st.rerun()
        header(summary)

    words()
    follow = live and st.toggle("Charts follow the run", value=True, key="follow", help="Off: they stand still.")

    @st.fragment(run_every=CURVES_S if follow else None)
    def charts() -> None:
        curves(app.summary_of(key))

    @st.fragment(run_every=DETAILS_S if follow else None)
    def rest() -> None:
        details(app.summary_of(key), key)

    charts()
    rest()


chosen = pick()
if chosen is not None:
    draw(chosen)

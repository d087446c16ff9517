"""All runs: filter them, see the live ones move, open one."""

import numpy as np
import pandas as pd
import streamlit as st

from dlstudio import app
from dlstudio.figures.theme import STATUS_COLORS
from dlstudio.summary.numbers import LIVE
from dlstudio.summary.words import duration

LIVE_S, IDLE_S = 2.0, 5.0


def column(frame: pd.DataFrame, *names: str) -> pd.Series:
    """The first of these columns that is there; empty values otherwise."""
    found = next((name for name in names if name in frame), None)
    return frame[found] if found else pd.Series([None] * len(frame), index=frame.index, dtype=object)


def choices(frame: pd.DataFrame, name: str) -> list[str]:
    return sorted({str(item) for item in column(frame, name).dropna()})


def filtered(frame: pd.DataFrame) -> pd.DataFrame:
    text, status, data, model = st.columns([3, 3, 2, 2], vertical_alignment="bottom")
    words = text.text_input("Search", placeholder="Part of a name, a reason or a setting", key="search")
    chosen = status.multiselect("Status", [s for s in STATUS_COLORS if s in set(frame["status"])], key="status")
    sets = data.multiselect("Data", choices(frame, "config.data"), key="data")
    models = model.multiselect("Model", choices(frame, "config.model"), key="model")
    if words.strip():
        looked_at = ["name", "key", "reason", *(name for name in frame if str(name).startswith("config."))]
        rows = zip(*(frame[name] for name in looked_at), strict=True)
        hay = [" ".join(str(item) for item in row).lower() for row in rows]
        frame = frame[[all(word in text for word in words.lower().split()) for text in hay]]
    if chosen:
        frame = frame[frame["status"].isin(chosen)]
    if sets:
        frame = frame[column(frame, "config.data").astype(str).isin(sets)]
    if models:
        frame = frame[column(frame, "config.model").astype(str).isin(models)]
    return frame


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of the table, in reading order."""
    epoch, planned = column(frame, "epoch"), column(frame, "config.epochs")
    epochs = [
        "" if pd.isna(now) else f"{int(np.ceil(now))} of {int(of)}" if pd.notna(of) else f"{int(np.ceil(now))}"
        for now, of in zip(epoch, planned, strict=True)
    ]
    return pd.DataFrame(
        {
            "Status": [[status] for status in frame["status"]],
            "Name": frame["name"].astype(str),
            "Epoch": epochs,
            "Step": pd.to_numeric(frame["n_steps"], errors="coerce").astype("Int64"),
            "Training loss": pd.to_numeric(column(frame, "loss"), errors="coerce"),
            "Best validation loss": pd.to_numeric(column(frame, "best/val/loss", "val/loss"), errors="coerce"),
            "Accuracy": pd.to_numeric(column(frame, "val/accuracy"), errors="coerce"),
            "Duration": [duration(None if pd.isna(item) else item) for item in frame["wall_s"]],
            "Created (UTC)": frame["created"].dt.tz_convert(None),
            "Data": column(frame, "config.data").astype("string"),
            "Model": column(frame, "config.model").astype("string"),
            "Note": frame["reason"].astype("string"),
        }
    )


COLUMNS = {
    "Status": st.column_config.MultiselectColumn(
        options=list(STATUS_COLORS),
        color=list(STATUS_COLORS.values()),
        width=105,
        help="QUEUED waits, RUNNING and PAUSED are live, FINISHED reached its end, FAILED broke, KILLED was stopped.",
    ),
    "Name": st.column_config.TextColumn(width="medium"),
    "Epoch": st.column_config.TextColumn(width=95, help="Passes over the training data, done and planned."),
    "Step": st.column_config.NumberColumn(width=70, format="localized", help="Updates of the model's weights."),
    "Training loss": st.column_config.NumberColumn(width=100, format="%.4g", help="The latest; lower is better."),
    "Best validation loss": st.column_config.NumberColumn(
        width=150, format="%.4g", help="Lowest error on data the model does not learn from."
    ),
    "Accuracy": st.column_config.NumberColumn(width=80, format="%.4f", help="Validation accuracy, the latest."),
    "Duration": st.column_config.TextColumn(width=95),
    "Created (UTC)": st.column_config.DatetimeColumn(width=140, format="YYYY-MM-DD HH:mm"),
    "Data": st.column_config.TextColumn(width=85),
    "Model": st.column_config.TextColumn(width=85),
    "Note": st.column_config.TextColumn(width="medium", help="Why the run has its status."),
}


def any_live(frame: pd.DataFrame) -> bool:
    return bool(frame["status"].isin(LIVE).any())


def fetch_charts() -> None:
    """Draw a chart that nobody sees: the browser fetches what draws charts (5 MB) before the reader opens a run.

    Only once the table has been drawn, which is what the reader waits for first.
    """
    if st.session_state.setdefault("table_drawn", False):
        with st.container(key="unseen"):
            st.html("<style>.st-key-unseen{display:none}</style>")
            st.plotly_chart({"data": [{"type": "scatter", "y": [0]}]}, key="unseen_chart", theme=None)
    st.session_state["table_drawn"] = True


live = any_live(app.run_table())


# While nothing is live only a new run can change the page, so it looks up less often.
@st.fragment(run_every=LIVE_S if live else IDLE_S)
def table() -> None:
    frame = app.run_table()
    if any_live(frame) != live:
        st.rerun()
    counts = frame["status"].value_counts()
    app.heading("Runs")
    words = ", ".join(f"{counts[status]:,} {status.lower()}" for status in STATUS_COLORS if counts.get(status))
    total = f"{len(frame):,} run" + ("" if len(frame) == 1 else "s")
    app.note(f"{total}: {words}. Click a run to open it." if len(frame) else "No runs yet.")
    if frame.empty:
        st.info("Start one with `dlstudio demo`, `dlstudio train` or from a notebook; it appears here by itself.")
        return
    frame = filtered(frame)
    if frame.empty:
        st.info("No run matches these filters.")
        return
    event = st.dataframe(
        shown(frame),
        column_config=COLUMNS,
        hide_index=True,
        key="runs",
        on_select="rerun",
        selection_mode=["single-row", "single-cell"],
        height=min(720, 38 + 35 * len(frame)),
        placeholder="–",
        alt="Table of runs",
    )
    rows = [*event.selection.rows, *(row for row, _ in event.selection.cells)]
    if rows:
        st.switch_page("board_pages/run.py", query_params={"run": frame.iloc[rows[0]]["key"]})
    fetch_charts()


table()

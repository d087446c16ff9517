"""Several runs in one picture."""

import pandas as pd
import streamlit as st

from dlstudio import app
from dlstudio.figures import runs as figures
from dlstudio.summary.words import key_numbers, label

MOST = 8

app.heading("Compare runs")
frame = app.run_table()
created = frame["created"].dt.strftime("%Y-%m-%d %H:%M") if len(frame) else []
names: dict[str, str] = {
    str(key): f"{name}  ({when}, {str(status).lower()})"
    for key, name, when, status in zip(frame["key"], frame["name"], created, frame["status"], strict=True)
}
asked = [key for key in st.query_params.get_all("run") if key in names]
chosen = st.multiselect(
    "Runs",
    list(names),
    default=asked or list(names)[:2],
    format_func=names.__getitem__,
    max_selections=MOST,
    placeholder="Choose up to eight",
)
if not chosen:
    st.info("Choose two or more runs.")
    st.stop()
summaries = [app.summary_of(key) for key in chosen]
keys = sorted({key for summary in summaries for key in summary.curves})
best = next((key for key in ("val/loss", "loss") if key in keys), None)
metric = st.selectbox("Curve", keys, index=keys.index(best) if best else 0, format_func=label)
if metric:
    figure = figures.overlay(summaries, metric)
    st.plotly_chart(figure, key="overlay", theme=None, config={"displaylogo": False}, alt="Curves of several runs")
table = pd.DataFrame(
    [{"Run": s.name, "Status": s.status} | {n.label: n.text for n in key_numbers(s)} for s in summaries]
)
st.dataframe(table.fillna("–"), hide_index=True)

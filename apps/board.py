"""The board: every run of this studio, live, for people who do not write code."""

from pathlib import Path

import streamlit as st

from dlstudio import app

# A file of our own: Streamlit would fetch a named icon from a server outside.
ICON = str(Path(__file__).with_name("icon.svg"))
st.set_page_config(page_title="dlstudio board", page_icon=ICON, layout="wide")
st.html("<style>.block-container{padding-top:4rem;padding-bottom:3rem;max-width:1440px}</style>")

RUNS = st.Page("board_pages/runs.py", title="Runs", icon=":material/table_rows:", default=True)
RUN = st.Page("board_pages/run.py", title="Run", icon=":material/show_chart:", url_path="run")
COMPARE = st.Page("board_pages/compare.py", title="Compare", icon=":material/stacked_line_chart:", url_path="compare")
EXPLAIN = st.Page("board_pages/explain.py", title="Explain", icon=":material/lightbulb:", url_path="explain")
FAIRNESS = st.Page("board_pages/fairness.py", title="Fairness", icon=":material/balance:", url_path="fairness")
TRUST = st.Page("board_pages/trust.py", title="Trust", icon=":material/verified:", url_path="trust")

page = st.navigation([RUNS, RUN, COMPARE, EXPLAIN, FAIRNESS, TRUST], position="top")
if page == RUNS and "run" in st.query_params:  # a link such as http://127.0.0.1:8501/?run=KEY
    st.switch_page(RUN, query_params={"run": st.query_params["run"]})
page.run()
app.warm()

"""Fairness: what a run's model does to groups of people, how sure that is, and what a smaller gap would cost."""

from typing import Any

import pandas as pd
import streamlit as st

from dlstudio import app
from dlstudio.data.groups import AND
from dlstudio.errors import DLStudioError
from dlstudio.fairness.audit import audit_fairness
from dlstudio.fairness.mitigation.search import MIN_DENOMINATOR
from dlstudio.fairness.mitigation.trade_off import trade_off
from dlstudio.fairness.mitigation.trade_off_result import SPOKEN, TradeOff
from dlstudio.fairness.result import FairnessAudit, without_too_few
from dlstudio.fairness.words import METRIC_WORDS
from dlstudio.figures import fairness as figures
from dlstudio.figures.assessed import edge, first_point, labels, reviewed, traded
from dlstudio.runs.kept import kept
from dlstudio.runs.run import Run, open_run
from dlstudio.training.predicted import Predicted
from dlstudio.wording import listed, told

PAGES = ("In words", "Groups", "Gaps", "Combinations", "What a smaller gap costs")
MOST_GROUPS, PARTS, MOST_ROWS, MOST_COLUMNS, MOST_COMBINATIONS = 50, 4, 200, 6, 30
MOST_POINTS, FOUR_FIFTHS = 20.0, 0.8
QUIET = {"DLS303": "No gap shown", "DLS302": "Not enough data"}


def choices(predicted: Predicted) -> dict[str, str]:
    """The columns that make groups, those named as sensitive first, with how each is shown."""
    frame = predicted.frame
    if frame is None:
        return {}
    names = {}
    for column in [*predicted.sensitive, *(name for name in map(str, frame) if name not in predicted.sensitive)]:
        many = frame[column].nunique() > MOST_GROUPS
        if many and not pd.api.types.is_numeric_dtype(frame[column]):
            continue  # names of people, say
        names[column] = f"{column} (in {PARTS} parts)" if many else column
    return names


def form(run: Run, known: FairnessAudit | None) -> None:
    """Offer to audit the run; the audit is kept with it."""
    predicted = app.predictions(run.key)
    names = choices(predicted)
    if not names:
        app.note("The data of this run have no columns to make groups of. An engineer can pass them to the audit.")
        return
    # A new audit is as careful as the one that it takes the place of.
    options = dict(known.options) if known else {}
    before = [name for name in known.features if name in names] if known else list(predicted.sensitive)[:2]
    if gone := [name for name in known.features if name not in names] if known else []:
        app.note(
            f"The saved audit also compares groups by {listed(gone)}, which the data of this run do not tell. An audit"
            " made here leaves that out and takes the saved one's place."
        )
    with st.form("audit", border=False):
        columns = st.multiselect(
            "Compare groups by", list(names), default=before, max_selections=max(MOST_COLUMNS, len(before)),
            format_func=lambda name: app.plain(names[name]), key="columns",
        )  # fmt: skip
        left, right, last = st.columns([4, 4, 2], vertical_alignment="bottom")
        tip = "Smaller differences between groups are not called a gap. 0 asks for any difference at all."
        least = known.threshold if known else 0.0
        if predicted.task == "regression":
            threshold = left.number_input(
                "A gap matters from … on", 0.0, value=least, key="least", help=f"{tip} In the unit of the target."
            )
        else:
            points = left.slider(
                "A gap matters from … points on", 0.0, max(MOST_POINTS, 100 * least), 100 * least, 0.5, key="points",
                help=tip,
            )  # fmt: skip
            threshold = least if points == 100 * least else points / 100
        ratio = (known.threshold_ratio if known else None) or FOUR_FIFTHS
        fifths = right.checkbox(
            f"Ratios from {'four fifths' if ratio == FOUR_FIFTHS else f'{ratio:g}'} on do not matter",
            bool(known and known.threshold_ratio), key="fifths",
            help=f"Rates of which the smaller is at least {100 * ratio:g} % of the larger are not called a gap; 80 % is"
            " a rule of thumb.",
        )  # fmt: skip
        pressed = last.form_submit_button("Audit", type="primary")
    if not pressed:
        return
    if not columns:
        app.note("Choose at least one column.")
        return
    options |= {
        "threshold": threshold,
        "threshold_ratio": ratio if fifths else None,
        "bins": {name: PARTS for name in columns if names[name] != name} | of_columns(options.get("bins"), columns),
    }
    if isinstance(options.get("reference"), dict):
        options["reference"] = of_columns(options["reference"], columns)
    elif known and columns != list(known.features):
        options["reference"] = None  # it was a group of another column
    try:
        with st.spinner("Counting, and drawing anew …"):
            audit_fairness(run, sensitive_features=columns, **options)
    except (DLStudioError, RuntimeError, ValueError) as error:
        st.error("This run was not audited.")
        app.note(told(error))
        return
    st.rerun()


def of_columns(given: dict[str, Any] | None, columns: list[str]) -> dict[str, Any]:
    """What an option says of these columns."""
    return {name: value for name, value in (given or {}).items() if name in columns}


def in_words(audit: FairnessAudit) -> None:
    """What was found in boxes, then what was not, in paragraphs."""
    found = reviewed(audit).findings
    for finding in found:
        if finding.code not in QUIET:
            app.callout(finding)
    for code, title in QUIET.items():
        sentences = [finding.sentence for finding in found if finding.code == code]
        if sentences:
            st.subheader(title, anchor=False)
            app.paragraphs(sentences)


def feature_of(audit: FairnessAudit) -> str:
    return str(st.selectbox("Groups by", audit.features, format_func=app.plain, key="feature"))


def groups(audit: FairnessAudit) -> None:
    left, right = st.columns([1, 2])
    with left:
        feature = feature_of(audit)
    table = audit.by_group
    known = [name for name in METRIC_WORDS if name in set(table["metric"]) - {"count"}]
    metrics = right.multiselect(
        "Measures", known, format_func=METRIC_WORDS.__getitem__, max_selections=4, key="metrics",
        placeholder="Those that gaps are about",
    )  # fmt: skip
    words = (
        f"What each group of {feature} gets, with intervals: the fewer rows, the longer. The dotted line is everybody"
        " together; nothing is drawn of groups with too few rows to compare."
    )
    app.note(words)
    app.chart(figures.groups(audit, feature, metrics), "groups", words)
    with st.expander("All numbers"):
        st.dataframe(without_too_few(table[table["sensitive_feature"].isin([feature, ""])]), hide_index=True)


def gaps(audit: FairnessAudit) -> None:
    words = (
        "How far apart groups are by each criterion. Orange diamonds: gap shown; blue circles: no gap shown; open grey"
        " circles: not enough data. Intervals hold for all pairs of a criterion at once."
    )
    app.note(words)
    app.chart(figures.gaps(audit), "gaps", words)
    with st.expander("All numbers"):
        st.dataframe(without_too_few(audit.gaps), hide_index=True)


def combinations(run: Run, audit: FairnessAudit) -> None:
    """Several columns at once, the strongest evidence first, with the rows behind each."""
    frame = audit.intersections
    if frame.empty:
        app.note("Combinations need two columns to compare groups by.")
        return
    words = (
        "Combinations of groups, each against everybody else; the strongest evidence on top. Intervals hold for all"
        " combinations at once."
    )
    app.note(words)
    app.chart(figures.intersections(audit), "combinations", words)
    pairs = frame[["sensitive_feature", "group", "n"]].drop_duplicates().head(MOST_COMBINATIONS).to_dict("list")
    found = list(zip(pairs["sensitive_feature"], pairs["group"], pairs["n"], strict=True))
    at = st.selectbox(
        "Rows of", range(len(found)), format_func=lambda i: f"{found[i][0]}: {found[i][1]} ({found[i][2]:,} rows)",
        key="combination",
    )  # fmt: skip
    dataset = app.predictions(run.key).dataset
    if at is not None and dataset is not None and dataset.frame is not None:
        rows = audit.rows_of(*found[at][:2])
        st.dataframe(dataset.frame.iloc[rows[:MOST_ROWS]], height=280)
        app.note(f"{min(len(rows), MOST_ROWS):,} of {len(rows):,} rows.")
    with st.expander("All numbers"):
        st.dataframe(without_too_few(frame), hide_index=True)


def trading_form(run: Run, audit: FairnessAudit, known: TradeOff | None) -> None:
    left, middle, rows, right = st.columns([4, 4, 3, 3], vertical_alignment="bottom")
    # What is worked out anew is worked out as carefully as before.
    options = dict(known.options) if known else {}
    names = list(dict.fromkeys([*audit.features, *([known.sensitive_feature] if known else [])]))
    before = names.index(known.sensitive_feature) if known else 0
    feature = left.selectbox("Groups by", names, index=before, format_func=app.plain, key="traded-by")
    criteria = list(SPOKEN)
    index = criteria.index(known.criterion) if known else 0
    criterion = middle.selectbox("Gap", criteria, index=index, format_func=SPOKEN.__getitem__, key="criterion")
    least = rows.number_input(
        "Rows a group needs", 1, value=int(options.get("min_denominator", MIN_DENOMINATOR)), key="rows",
        help="Groups with fewer rows that could count keep the common threshold: one of their own would follow chance.",
    )  # fmt: skip
    if not right.button("Work out what it costs", type="secondary" if known else "primary"):
        return
    options |= {"criterion": criterion, "min_denominator": int(least)}
    try:
        with st.spinner("Searching thresholds …"):
            trade_off(run, sensitive_features=feature.split(AND), **options)
    except (DLStudioError, RuntimeError, ValueError) as error:
        st.error("This could not be worked out.")
        app.note(told(error))
        return
    st.session_state.pop("point", None)
    st.rerun()


def operating(result: TradeOff) -> None:
    """The curve with the point that the reader chooses, and its cost in words."""
    names = labels(result)
    start = st.session_state.setdefault("point", names[first_point(result)])
    if start not in names:
        st.session_state["point"] = names[first_point(result)]
    chosen = st.select_slider("Operating point", names, key="point")
    at = names.index(chosen)
    first, *others = result.words(at)
    app.lead(first)
    app.paragraphs(others)
    drawn = traded(result, at)
    for place, (column, (words, figure)) in enumerate(zip(st.columns(len(drawn)), drawn, strict=True)):
        with column:
            app.note(words)
            app.chart(figure, f"traded-{place}", words)


def cost(run: Run, audit: FairnessAudit) -> None:
    app.paragraphs(
        [
            "Another threshold for every group makes a gap smaller, and usually costs some right decisions. What is"
            " said here was measured on rows on which the thresholds were not found."
        ]
    )
    if audit.task != "binary":
        app.note("This is worked out for decisions between two classes only.")
        return
    result = kept(run, "trade-off", TradeOff)
    trading_form(run, audit, result)
    if audit.n_clusters:
        app.note("Unlike in the audit, rows that belong together are taken as independent of each other here.")
    if result is not None:
        for finding in reviewed(result).findings:
            if finding.severity != "info":
                app.callout(finding)
        operating(result)


def draw(key: str) -> None:
    run = open_run(key)
    try:
        audit = kept(run, "fairness", FairnessAudit)
        if audit is None:
            app.note("Nothing is saved yet that compares groups of people in this run.")
            form(run, None)
            return
        show(run, audit)
        with st.expander("Audit it another way"):
            form(run, audit)
    except DLStudioError as error:
        app.note(told(error))


def show(run: Run, audit: FairnessAudit) -> None:
    app.lead(reviewed(audit).summary[0], edge(audit))
    drawers: dict[str, Any] = {
        "In words": lambda: in_words(audit),
        "Groups": lambda: groups(audit),
        "Gaps": lambda: gaps(audit),
        "Combinations": lambda: combinations(run, audit),
        "What a smaller gap costs": lambda: cost(run, audit),
    }
    page = st.segmented_control(
        "Page", PAGES, default=PAGES[0], key="page", required=True, label_visibility="collapsed"
    )
    drawers[page]()
    app.note(
        "An audit says whether groups are treated differently, not why, and draws no conclusion in law. It was made"
        f" with {100 * audit.level:g} % confidence over all comparisons together, those of combinations among them;"
        f" groups in which fewer than {audit.min_denominator:,} rows could count were not compared."
    )


app.heading("Fairness")
chosen = app.pick_run(lambda key: (open_run(key).folder / "results" / "fairness.json").exists())
if chosen is not None:
    draw(chosen)

"""Explain: why the model of a run decided as it did, row by row and over all, and what would change its mind."""

from typing import Any

import streamlit as st

from dlstudio import app
from dlstudio.errors import DLStudioError
from dlstudio.explain.checks import CHECKS, Check, Checked, row_names
from dlstudio.explain.exploring import PREDICTED, offered, outcome, outputs_offered, soundest, story, typical
from dlstudio.explain.plain import told
from dlstudio.explain.quality.agreement_result import AgreementResult
from dlstudio.explain.result import Explanation
from dlstudio.explain.session import Session, explain_run, saved_explanations
from dlstudio.explain.trying import INTRO, Field, change, fields, outcomes, sentence, spans, try_out
from dlstudio.explain.words import headline, method_title
from dlstudio.figures import explanation as figures
from dlstudio.figures.answers import Answer, answers_of
from dlstudio.figures.checked import compared, pictures
from dlstudio.figures.explored import changed, features_of, overall, views
from dlstudio.runs.run import Run, open_run
from dlstudio.summary.words import KeyNumber

CHART = {"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"]}
PAGES = ("One row", "All rows", "What if", "Checks")
MORE = "More answers"
BEST = "The method that suits the model"
N_SHOWN, N_COLUMNS = 8, 4
MOST_S = 120.0


def chart(figure: object, key: str, alt: str) -> None:
    st.plotly_chart(figure, key=key, theme=None, config=CHART, alt=alt)


def progress(words: str) -> tuple[Any, Any]:
    """A bar, and what moves it; the words name what is done and all."""
    bar = st.progress(0.0, "Reading the model and the data …")
    return bar, lambda done, of: bar.progress(min(1.0, done / max(of, 1)), words.format(f"{done:,}", f"{of:,}"))


def compute(key: str, known: Explanation | None) -> None:
    """Offer to explain the run, or to explain it another way; what comes out is saved with it."""
    methods = offered(known.modality) if known else {}
    outputs = outputs_offered(known) if known else {}
    with st.form("compute", border=False):
        left, middle, right = st.columns([4, 3, 2], vertical_alignment="bottom")
        title = left.selectbox("Method", [BEST, *methods]) if known else BEST
        about = middle.selectbox("Explain", list(outputs)) if outputs else None
        pressed = (right if known else st).form_submit_button("Explain this run", type="primary")
    if not pressed:
        return
    bar, tell = progress("Explained {} of {} …")
    output = outputs.get(about, PREDICTED) if about else PREDICTED
    target, method = None if output == PREDICTED else output, methods.get(title, "auto")
    try:
        found = explain_run(key, method=method, target=target, progress=tell, max_seconds=MOST_S)
    except (DLStudioError, RuntimeError, ValueError) as error:
        bar.empty()
        st.error("This run was not explained.")
        app.note(told(error))
        return
    if len(saved_explanations(key)[found.method]) > len(found):
        bar.empty()
        app.note(f"Only {len(found):,} rows were explained in time, so the saved explanation of more rows stays.")
        return
    st.session_state["made"] = found.method
    st.rerun()


def choose_row(explanation: Explanation) -> int:
    """The row that the reader looks at, counted within the explanation."""
    n, notable = len(explanation), typical(explanation)
    if not 1 <= st.session_state.get("row", 1) <= n:
        st.session_state["row"] = 1
    left, middle, right = st.columns([2, 4, 5], vertical_alignment="bottom")
    at = int(left.number_input("Row", 1, n, key="row", help=f"1 to {n:,}, as they were explained")) - 1
    with middle:
        app.note(f"Row {int(explanation.rows[at]):,} of the data: {outcome(explanation, at)}")
    with right, st.container(horizontal=True):
        for name, place in notable.items():
            st.button(name, key=f"jump-{name}", on_click=st.session_state.update, kwargs={"row": place + 1})
    return at


def one_row(explanation: Explanation, at: int) -> None:
    opacity = 0.85
    if explanation.modality == "image" and explanation.verdict != "refused":
        opacity = st.slider("How strongly the map covers the image", 0.0, 1.0, 0.85, 0.05, key="opacity", width=320)
    if explanation.modality == "text":
        st.html(figures.tokens(explanation, at))
    mapped = explanation.modality == "image" and explanation.attributions.ndim >= 3
    figure = figures.overlay(explanation, at, opacity) if mapped else figures.figure_of(explanation, at)
    chart(figure, "one", headline(explanation, at))
    app.paragraphs(story(explanation, at))


def all_rows(explanation: Explanation) -> None:
    names = views(explanation)
    left, right = st.columns(2)
    view = left.selectbox("Show", names, key=f"view-{explanation.modality}")
    feature = right.selectbox("Feature", features_of(explanation), key="feature") if view == "One feature" else None
    chart(overall(explanation, view, feature), "all", headline(explanation))
    app.paragraphs(story(explanation))


def controls(session: Session, explanation: Explanation, row: int) -> dict[str, Any]:
    """Draw the form's controls; returns their values by name, as `change` takes them."""
    if explanation.modality == "text":
        return {"text": st.text_area("Text", sentence(session, row), height=140, key=f"text-{row}")}
    if explanation.modality != "tabular":
        left, right = st.columns(2)
        places = dict(zip(spans(session).items(), (left, right), strict=False))
        values: dict[str, Any] = {
            name: place.slider(f"{name.title()} to blank out", 0, size, (size // 3, size - size // 3))
            for (name, size), place in places.items()
        }
        if explanation.modality == "sequence":
            names = [None, *session.dataset.feature_names]
            values["channel"] = right.selectbox("Channel", names, format_func=lambda name: name or "all")
        return values
    offers = fields(session, row, explanation)
    others = {field.name: field for field in offers[N_SHOWN:]}
    shown = [*offers[:N_SHOWN], *(others[name] for name in st.session_state.get("also", []) if name in others)]
    columns = st.columns(N_COLUMNS)
    return {
        field.name: control(columns[place % N_COLUMNS], field, f"{field.name}-{row}")
        for place, field in enumerate(shown)
    }


def control(place: Any, field: Field, key: str) -> Any:
    name = app.plain(field.name)
    if field.choices:
        options = [*field.choices, *([field.value] if field.value not in field.choices else [])]
        return place.selectbox(name, options, index=options.index(field.value), key=key)
    step = field.step or None
    tip = f"In the data from {field.low:g} to {field.high:g}."
    return place.number_input(name, value=field.value, step=step, format="%.6g", key=key, help=tip)


def what_if(key: str, explanation: Explanation, at: int) -> None:
    if explanation.verdict == "refused":
        app.note("This explanation was refused, so nothing is tried on it.")
        return
    try:
        with app.session_of(key) as session:
            trial(session, explanation, at)
    except DLStudioError as error:
        app.note(told(error))


def trial(session: Session, explanation: Explanation, at: int) -> None:
    """The form, and below it the model's answer as the row is and as it was changed."""
    app.note(INTRO[explanation.modality])
    if explanation.modality == "tabular":
        st.multiselect("Also change", list(explanation.feature_names), key="also", placeholder="More columns")
    now = (explanation.run, explanation.method, at)
    row = int(explanation.rows[at])
    with st.form("trial"):
        values = controls(session, explanation, row)
        pressed = st.form_submit_button("Try it", type="primary")
    if pressed:
        edited, said = change(session, row, values)
        st.session_state["tried"] = (now, try_out(session, explanation, at, edited), said)
    known, tried, said = st.session_state.get("tried", (None, None, ""))
    if tried is None or known != now:
        return
    app.cards(
        KeyNumber(label=name, text=f"{before} → {after}", meaning="As the row is, and as it was changed.")
        for name, before, after in outcomes(tried)
    )
    if said:
        app.note(said)
    app.paragraphs([headline(tried, 1)])
    if tried.modality == "text":
        st.html(figures.tokens(tried, 1))
    chart(changed(tried), "tried", headline(tried, 1))


def checks(run: Run, explanation: Explanation) -> None:
    """Both checks of the explanation, as far as they are saved, with a button for what is not."""
    for check in CHECKS:
        st.subheader(check.question, anchor=False)
        app.paragraphs([check.intro])
        result, misfit = check.saved(explanation, run), check.misfit(explanation)
        if misfit:
            app.note(misfit)
        elif result is not None:
            answer(check, result, explanation)
        if not misfit and (result is None or check.unfinished(result)):
            make(check, run, explanation)


def make(check: Check, run: Run, explanation: Explanation) -> None:
    """Offer to make a check; its result is saved with the run."""
    app.note(check.cost(explanation))
    if not st.button(check.button, key=f"make-{check.name}", type="primary"):
        return
    bar, tell = progress("{} of {} " + check.steps + " …")
    try:
        with app.session_of(run.key) as session:
            check.keep(check.make(session, explanation, progress=tell), explanation, run)
    except (DLStudioError, RuntimeError, ValueError) as error:
        bar.empty()
        st.error("This could not be tested.")
        app.note(told(error))
        return
    st.rerun()


def answer(check: Check, result: Checked, explanation: Explanation) -> None:
    app.paragraphs(check.plain_words(result))
    drawn = pictures(result)
    for place, (words, figure) in enumerate(drawn, start=1):
        if isinstance(result, AgreementResult) and place == len(drawn) and result.sound.any():
            rows = row_names(result, explanation)
            at = st.selectbox("Row", range(len(rows)), format_func=rows.__getitem__, key="compared", width=480)
            words, figure = compared(result, at, rows[at])
        app.note(words)
        chart(figure, f"{check.name}-{place}", words)


def more(answers: list[Answer]) -> None:
    """What else is saved with the run, such as counterfactuals, in words and pictures."""
    for found in answers:
        st.subheader(app.plain(found.question), anchor=False)
        app.paragraphs(found.words)
        for place, (words, figure) in enumerate(found.pictures, start=1):
            if words:
                app.note(words)
            chart(figure, f"{found.name}-{place}", words or found.words[0])


def draw(key: str) -> None:
    saved, answers = app.explanations_of(key), answers_of(open_run(key))
    if not saved:
        app.note("Nothing is saved yet that explains this run. It takes from seconds to two minutes.")
        compute(key, None)
        more(answers)
        return
    if "made" in st.session_state:  # what a control is set to can only be changed before it is drawn
        st.session_state["method"] = st.session_state.pop("made")
    if st.session_state.get("method") not in saved:
        st.session_state["method"] = soundest(saved)
    if len(saved) > 1:
        st.segmented_control(
            "Explained by", list(saved), format_func=lambda name: method_title(saved[name]), key="method", required=True
        )
    explanation = saved[st.session_state["method"]]
    app.verdict(explanation)
    pages = [*PAGES, *([MORE] if answers else [])]
    if st.session_state.get("page") not in (None, *pages):
        st.session_state["page"] = PAGES[0]
    page = st.segmented_control(
        "Page", pages, default=PAGES[0], key="page", required=True, label_visibility="collapsed"
    )
    if page == "All rows":
        all_rows(explanation)
    elif page == "Checks":
        checks(open_run(key), explanation)
    elif page == MORE:
        more(answers)
    else:
        at = choose_row(explanation)
        if page == "What if":
            what_if(key, explanation, at)
        else:
            one_row(explanation, at)
    with st.expander("Explain it another way"):
        compute(key, explanation)


app.heading("Explain")
chosen = app.pick_run(app.explanations_of)
if chosen is not None:
    draw(chosen)

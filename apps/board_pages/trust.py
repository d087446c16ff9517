"""Trust: how good a run's model is, whether its probabilities are right, what breaks it, and where it is weak."""

import streamlit as st

from dlstudio import app
from dlstudio.errors import DLStudioError
from dlstudio.figures.answers import KINDS
from dlstudio.figures.assessed import decided, edge, reviewed
from dlstudio.runs.kept import keep
from dlstudio.runs.run import Run, open_run
from dlstudio.summary.words import KeyNumber
from dlstudio.trust.assessments import ASSESSMENTS, Assessed, Assessment
from dlstudio.trust.evaluation_result import Evaluation
from dlstudio.trust.slice_result import SliceResult
from dlstudio.trust.weighing import RATES, weigh, words_at
from dlstudio.wording import span, told

MOST_S = 60.0
MOST_ROWS = 200


def compute(run: Run, one: Assessment, again: bool) -> None:
    """Offer to answer a question; the answer is kept with the run."""
    label = "Compute again" if again else one.button
    if not st.button(label, key=f"make-{one.name}", type="secondary" if again else "primary"):
        return
    try:
        with st.spinner("Reading the model and the data …"):
            one.anew(run, MOST_S)
    except (DLStudioError, RuntimeError, ValueError) as error:
        st.error("This could not be assessed.")
        app.note(told(error))
        return
    st.rerun()


def percent(value: float) -> str:
    return "–" if value != value else f"{100 * value:.1f} %"


def threshold(run: Run, result: Evaluation) -> None:
    """Another threshold than a half: what it would do, and what that would cost."""
    name = result.class_names[1]
    st.subheader("Where to draw the line", anchor=False)
    what = "probability" if result.scores_are_probabilities else "score"
    app.paragraphs([f"The model says {name!r} from a {what} of 0.5 on. Another threshold changes whom it finds."])
    with st.form("costs", border=False):
        left, middle, right = st.columns([3, 3, 2], vertical_alignment="bottom")
        costs = {
            "false_positive": left.number_input(
                "Cost of a false alarm", value=float(result.costs.get("false_positive", 0.0)), key="false_alarm"
            ),
            "false_negative": middle.number_input(
                "Cost of a miss", value=float(result.costs.get("false_negative", 0.0)), key="miss"
            ),
        }
        if right.form_submit_button("Weigh costs"):
            # Only this is weighed anew: a cross-validation takes minutes.
            given = {**result.costs, **costs}
            keep(weigh(result, given if any(given.values()) else None), "evaluation", folder=run.folder)
            st.rerun()
    at = st.slider("Threshold", 0.0, 1.0, 0.5, 0.01, key="threshold")
    point = result.at(at)
    numbers = [
        KeyNumber(label=label, text=percent(value),
                  meaning=f"{meaning} {span(percent(low), percent(high), result.level)}.")
        for rate, (label, _, meaning) in RATES.items()
        for value, low, high in [point.rates[rate]]
    ]  # fmt: skip
    if result.costs:
        value, low, high = point.cost
        meaning = f"Mean cost of a row, {span(f'{low:.3g}', f'{high:.3g}', result.level)}."
        numbers.append(KeyNumber(label="Cost of a row", text=f"{value:.3g}", meaning=meaning))
    app.cards(numbers)
    app.note(words_at(result, at)[0])
    words, figure = decided(result, at)
    app.note(words)
    app.chart(figure, "thresholds", words)


def rows_behind(key: str, result: SliceResult) -> None:
    """The rows of a listed slice, the worst first."""
    names = [
        f"{name} ({n:,} rows{'' if shown else ', not shown to be worse'})"
        for name, n, shown in zip(result.slices, result.n.tolist(), result.shown.tolist(), strict=True)
    ]
    at = st.selectbox("Rows of", range(len(names)), format_func=lambda place: names[place], key="slice")
    dataset = app.predictions(key).dataset
    if at is None or dataset is None or dataset.frame is None:
        return
    rows = result.rows_of(at)
    st.dataframe(dataset.frame.iloc[rows[:MOST_ROWS]], height=320)
    app.note(f"{min(len(rows), MOST_ROWS):,} of {len(rows):,} rows, the largest errors first.")


def show(run: Run, one: Assessment, result: Assessed) -> None:
    kind = KINDS[one.kind]
    first, *others = kind.words(reviewed(result))
    app.lead(first, edge(result))
    app.paragraphs(others)
    drawn = kind.pictures(result)
    decides = result if isinstance(result, Evaluation) and result.positive_scores is not None else None
    for place, (words, figure) in enumerate(drawn if decides is None else drawn[:-1], start=1):
        app.note(words)
        app.chart(figure, f"{one.name}-{place}", words or first)
    if decides is not None:
        threshold(run, decides)
    if isinstance(result, SliceResult) and len(result):
        rows_behind(run.key, result)
    with st.expander("All numbers"):
        st.dataframe(result.frame(), hide_index=True)


def draw(key: str) -> None:
    run = open_run(key)
    titles = {one.title: one for one in ASSESSMENTS}
    chosen = st.segmented_control(
        "Question", list(titles), default=next(iter(titles)), key="question", required=True,
        label_visibility="collapsed",
    )  # fmt: skip
    one = titles[chosen]
    st.subheader(one.question, anchor=False)
    app.paragraphs([one.intro])
    result = one.saved(run)
    if result is None:
        app.note(f"Nothing is saved yet that answers this. It takes at most about {MOST_S:.0f} s.")
        compute(run, one, again=False)
        return
    show(run, one, result)
    app.note("Computed again, it is asked for in the same way as this answer was.")
    compute(run, one, again=True)


def saved(key: str) -> bool:
    run = open_run(key)
    return any((run.folder / "results" / f"{one.name}.json").exists() for one in ASSESSMENTS)


app.heading("Trust")
chosen = app.pick_run(saved)
if chosen is not None:
    draw(chosen)

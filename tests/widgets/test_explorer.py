"""The explorer against the explanation it shows: verdict, rows, pictures, other methods, and changed rows."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import dlstudio as dls
from dlstudio.errors import DLStudioError
from dlstudio.explain.checks import CHECKS
from dlstudio.explain.exploring import story, typical
from dlstudio.explain.result import Explanation
from dlstudio.explain.session import Session, explain_run
from dlstudio.explain.trying import fields, try_out
from dlstudio.explain.words import headline, verdict_line
from dlstudio.figures import explanation as figures
from dlstudio.figures.checked import compared, pictures
from dlstudio.results import Finding
from dlstudio.runs.run import Run
from dlstudio.widgets.explorer import Explorer
from tests.figures.reading import text_of

EVIL = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def run() -> Run:
    recipe = dls.Recipe(data="mortgage", model="mlp", epochs=2, name="explored", device="cpu")
    return dls.fit(recipe, progress=False)


@pytest.fixture(scope="module")
def explained(run: Run) -> Explanation:
    return explain_run(run, np.arange(5, 17), progress=False)


@pytest.fixture
def explorer(explained: Explanation) -> Iterator[Explorer]:
    shown = dls.show(explained)
    assert isinstance(shown, Explorer)
    yield shown
    shown.close()


def words(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", markup))


def made(**changes: Any) -> Explanation:
    """A table explained without any run, three rows of two columns."""
    values = np.array([[1.0, -0.5], [0.25, 0.5], [-2.0, 1.0]])
    outputs = np.stack([np.zeros(3), values.sum(axis=1)], axis=1)
    plain: dict[str, Any] = {
        "method": "shapley", "modality": "tabular", "attributions": values, "baseline_value": np.zeros(3),
        "prediction": values.sum(axis=1), "gap": 0.0, "gaps": np.zeros(3), "output_range": 2.0, "verdict": "ok",
        "inputs": np.arange(6.0).reshape(3, 2), "feature_names": ("height", "width"), "class_names": ("no", "yes"),
        "target": np.ones(3, dtype=np.int64), "outputs": outputs, "rows": np.arange(3), "y_true": np.array([1, 0, 0]),
    }  # fmt: skip
    return Explanation(**(plain | changes))


def test_a_row_is_shown_with_its_picture_and_its_words(explorer: Explorer, explained: Explanation) -> None:
    assert verdict_line(explained) in words(explorer.head.value)
    for at in (0, 7):
        explorer.show_row(at)
        assert explorer.picture.figure == figures.figure_of(explained, at)
        assert explorer.picture.alt == headline(explained, at)
        assert f"row {5 + at} of the data" in words(explorer.about.value)
        for text in story(explained, at):
            assert text in words(explorer.reasons.value)
    explorer.next.click()
    assert explorer.at == 8
    explorer.back.click()
    explorer.back.click()
    assert explorer.at == 6
    explorer.show_row(99)
    assert explorer.at == 11 and explorer.next.disabled and not explorer.back.disabled


def test_notable_rows_can_be_jumped_to(explorer: Explorer, explained: Explanation) -> None:
    for name, at in typical(explained).items():
        explorer.jump.value = at
        assert explorer.at == at and name in explorer.jump.label


def test_all_rows_are_shown_in_every_view(explorer: Explorer, explained: Explanation) -> None:
    assert explorer.view.options == ("Importance", "Spread", "One feature")
    explorer.view.value = "Spread"
    assert explorer.whole.figure == figures.beeswarm(explained)
    explorer.view.value = "One feature"
    first, second = explorer.feature.options[:2]
    order = np.argsort(-explained.importance, kind="stable")
    assert [first, second] == [explained.feature_names[at] for at in order[:2]]
    explorer.feature.value = second
    assert explorer.whole.figure == figures.dependence(explained, second)
    assert headline(explained) in words(explorer.summary.value)


def test_another_method_explains_the_same_rows(explorer: Explorer, explained: Explanation, run: Run) -> None:
    explorer.show_row(3)
    explorer.method.value = "integrated_gradients"
    explorer.target.value = 0
    explorer.start.click()
    explorer.wait()
    found = explorer.explanation
    assert found.method == "integrated_gradients" and set(found.target) == {0}
    np.testing.assert_array_equal(found.rows, explained.rows)
    expected = Session(run).explain(explained.rows, method="integrated_gradients", target=0, progress=False)
    np.testing.assert_allclose(found.attributions, expected.attributions, rtol=1e-6, atol=1e-8)
    assert explorer.at == 3 and explorer.picture.figure == figures.figure_of(found, 3)
    assert "Integrated gradients took" in words(explorer.message.value)
    assert not explorer.start.disabled


def test_what_fails_is_said_and_the_explanation_stays(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise DLStudioError("a model without <b>", "one", "Choose another.")

    before = explorer.explanation
    monkeypatch.setattr(explorer.session, "explain", fail)
    explorer.start.click()
    explorer.wait()
    assert "a model without <b>" in words(explorer.message.value) and "&lt;b&gt;" in explorer.message.value
    assert explorer.explanation is before and not explorer.start.disabled


def test_a_changed_column_changes_the_answer(explorer: Explorer, run: Run) -> None:
    explorer.show_row(2)
    row = int(explorer.explanation.rows[2])
    explorer.pages.value = "What if"
    trial = explorer.trial
    session = Session(run)
    offered = {field.name: field for field in fields(session, row)}
    largest = np.argsort(-abs(explorer.explanation.by_feature[2]), kind="stable")[:8]
    assert list(trial.controls) == [explorer.explanation.feature_names[at] for at in largest]
    trial.more.value = "loanprc" if "loanprc" not in trial.controls else trial.more.value
    assert trial.controls["loanprc"].value == offered["loanprc"].value
    trial.controls["loanprc"].value = 2.5
    trial.go.click()
    assert trial.tried is not None, words(trial.answer.value)
    edited = session.edited(row, {"loanprc": 2.5})
    np.testing.assert_allclose(trial.tried.outputs[1], session.outputs(edited)[0], rtol=1e-5)
    for chance in session.probabilities(edited)[0]:
        assert f"{100 * chance:.1f} %" in words(trial.answer.value)
    names = [re.sub("<[^>]+>", "", name) for name in trial.chart.figure.layout.yaxis.ticktext]
    assert names[0].startswith("loanprc = ") and names[0].endswith("→ 2.5")
    assert ("Beyond anything in the data: loanprc" in words(trial.answer.value)) == (offered["loanprc"].high < 2.5)
    trial.reset.click()
    assert trial.tried is None and trial.answer.value == ""


def test_nothing_changed_is_said(explorer: Explorer) -> None:
    explorer.pages.value = "What if"
    explorer.trial.go.click()
    assert "Nothing was changed" in words(explorer.trial.answer.value)
    np.testing.assert_array_equal(explorer.trial.tried.outputs[0], explorer.trial.tried.outputs[1])


def test_checks_are_made_on_a_click_and_not_saved(explorer: Explorer, explained: Explanation, run: Run) -> None:
    explorer.show_row(3)
    explorer.pages.value = "Checks"
    for check, section in zip(CHECKS, (explorer.checks.agreement, explorer.checks.quality), strict=True):
        assert section.told is None and check.cost(explained) in words(section.message.value)
        section.start.click()
        explorer.wait()
        result = section.told.result
        assert check.fits(result, explained) and set(result.rows) <= set(explained.rows)
        for sentence in check.words(result):
            assert sentence in words(section.told.children[0].value)
        assert "Not saved with the run." in words(section.message.value)
        assert section.start.layout.display == "none" and check.saved(explained, run) is None
        drawn = pictures(result)
        assert [chart.figure for chart in section.told.charts[:-1]] == [figure for _, figure in drawn[:-1]]
    section = explorer.checks.agreement
    section.row.value = 1
    assert section.told.charts[-1].figure == compared(section.told.result, 1)[1]
    assert f"Row {int(explained.rows[1])} of the data" in words(section.told.children[-2].value)
    # Another explanation has other checks; back at the first one its own are there again.
    before = section.told.result
    explorer._take(dataclasses.replace(explained, target=1 - explained.target))
    assert section.told is None and section.start.layout.display is None
    explorer._take(explained)
    assert section.told.result is before


def test_saved_checks_are_shown_at_once(explained: Explanation, run: Run) -> None:
    check = CHECKS[0]
    result = dls.compare_explanations(run, explained.rows[:3], methods=("shapley", "saliency"), progress=False)
    for one in (explained, dataclasses.replace(explained, method="saliency")):
        shown = Explorer(one)
        shown.pages.value = "Checks"
        assert shown.checks.agreement.told.result == result
        assert "Saved with the run." in words(shown.checks.agreement.message.value)
        assert shown.checks.quality.told is None
        shown.close()
    for other in (
        dataclasses.replace(explained, method="lime"),
        dataclasses.replace(explained, rows=explained.rows + 1),
        dataclasses.replace(explained, target=1 - explained.target),
        dataclasses.replace(explained, run="another"),
    ):
        assert check.saved(other, run) is None
    for path in (run.folder / "results").glob("agreement*"):
        path.unlink()


def test_a_check_that_fails_or_is_stopped_says_so(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    explorer.pages.value = "Checks"
    section = explorer.checks.quality

    def fail(*args: Any, **options: Any) -> None:
        raise DLStudioError("a model without <b>", "one", "Choose another.")

    monkeypatch.setattr(explorer.session, "explain", fail)
    section.start.click()
    explorer.wait()
    assert "a model without <b>" in words(section.message.value) and "&lt;b&gt;" in section.message.value
    assert section.told is None and not section.start.disabled
    monkeypatch.undo()
    with explorer._busy:  # as if something else was being explained
        section.start.click()
        section.stop.click()
    explorer.wait()
    assert "Stopped." in words(section.message.value) and section.told is None and not section.start.disabled


def test_a_refused_explanation_is_not_tested(explained: Explanation) -> None:
    shown = Explorer(dataclasses.replace(explained, verdict="refused"))
    shown.pages.value = "Checks"
    assert "not tested" in words(shown.checks.quality.message.value)
    assert shown.checks.quality.start.layout.display == "none"
    shown.close()


def test_a_table_without_a_run_has_no_methods_to_choose_from() -> None:
    shown = Explorer(made())
    assert shown.pages.options == ("One row", "All rows") and shown.trial is shown.checks is None
    assert shown.choices.layout.display == "none"
    assert shown.picture.figure == figures.figure_of(made(), 0)
    with pytest.raises(DLStudioError, match="explanation of a run"):
        _ = shown.session
    assert Explorer(made(run="of-another-home-1234")).trial is None


def test_an_image_has_a_map_whose_strength_can_be_chosen() -> None:
    values = np.random.default_rng(0).normal(size=(2, 1, 8, 8))
    image = made(
        modality="image", method="saliency", gap=None, gaps=None, feature_names=(), attributions=values,
        inputs=np.abs(values), target=np.ones(2, dtype=np.int64), outputs=np.zeros((2, 2)), prediction=np.zeros(2),
        baseline_value=np.zeros(2), rows=np.arange(2), y_true=None,
    )  # fmt: skip
    shown = Explorer(image)
    assert shown.view.options == ("Map", "Importance") and shown.opacity.layout.display is None
    shown.opacity.value = 0.25
    (drawn,) = (trace for trace in shown.picture.figure.data if trace.name == "attribution")
    assert drawn.opacity == 0.25


def test_a_refused_explanation_shows_its_reasons_and_no_number() -> None:
    values = np.full((3, 2), 123.456)
    finding = Finding(code="DLS401", severity="critical", sentence="It does not add up.", remedy="Raise n_steps.")
    shown = Explorer(made(verdict="refused", findings=(finding,), attributions=values))
    for text in ("it does not add up.", "Raise n_steps."):
        assert text in words(shown.head.value)
    for chart in (shown.picture, shown.whole):
        drawn = chart.figure.to_json()
        assert "does not add up" in drawn and "123" not in drawn
    assert "123" not in shown.reasons.value + shown.summary.value + repr(shown)


def test_any_text_is_shown_as_text() -> None:
    finding = Finding(code="DLS402", severity="warning", sentence=EVIL, remedy=EVIL)
    shown = Explorer(
        made(
            feature_names=(EVIL, "width"), class_names=("no", EVIL), model=EVIL, verdict="suspect", findings=(finding,)
        )
    )
    for part in (shown.head, shown.about, shown.reasons, shown.summary):
        assert "<img" not in part.value
    assert "<img" not in text_of(shown.picture.figure) and "<img" not in text_of(shown.whole.figure)
    assert EVIL in words(shown.head.value)


def test_state_that_a_notebook_would_save_stays_small(explorer: Explorer) -> None:
    explorer.pages.value = "What if"
    explorer.trial.go.click()
    saved = 0
    widgets = [explorer]
    while widgets:
        widget = widgets.pop()
        widgets += getattr(widget, "children", ())
        saved += len(json.dumps(widget.get_state(), default=str))
    assert saved < 100_000
    data, _ = explorer._repr_mimebundle_()
    assert verdict_line(explorer.explanation) in data["text/plain"]
    assert len(json.dumps(data)) < 5_000


def test_closing_takes_every_part_away(explained: Explanation) -> None:
    shown = Explorer(explained)
    parts = [shown.picture, shown.whole, shown.row, shown.trial.chart]
    shown.close()
    assert all(part.comm is None for part in (shown, *parts))


def test_edits_of_one_row_are_explained_beside_it(run: Run, explained: Explanation) -> None:
    session = Session(run)
    tried = try_out(session, explained, 4, {"loanprc": 0.2})
    alone = session.explain([explained.rows[4]], method=explained.method, target=1, progress=False)
    assert len(tried) == 2 and tried.y_true is None
    np.testing.assert_allclose(tried.attributions[0], alone.attributions[0], rtol=1e-5, atol=1e-6)
    with pytest.raises(DLStudioError, match="loanprc"):
        try_out(session, explained, 4, {"loanprice": 1})
    with torch.no_grad():
        expected = session.model(session.edited(int(explained.rows[4]), {"loanprc": 0.2}))[0].numpy()
    np.testing.assert_allclose(tried.outputs[1], expected, rtol=1e-5)


def test_show_takes_an_explanation_of_any_kind() -> None:
    assert isinstance(dls.show(dataclasses.replace(made(), class_names=())), Explorer)

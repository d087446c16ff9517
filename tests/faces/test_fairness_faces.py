"""Widget, board pages and reports show one audit, one trade-off and one assessment alike, and any text as text."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import dlstudio as dls
from dlstudio import app, cli, reports, results
from dlstudio.fairness.mitigation.trade_off_result import TradeOff
from dlstudio.fairness.result import FairnessAudit
from dlstudio.figures import fairness as figures
from dlstudio.figures.answers import KINDS
from dlstudio.figures.assessed import decided, first_point, labels, reviewed, traded
from dlstudio.figures.calibration import reliability
from dlstudio.results import Finding
from dlstudio.runs.kept import kept
from dlstudio.runs.run import Run
from dlstudio.training.predicted import predictions_of
from dlstudio.trust.assessments import ASSESSMENTS
from dlstudio.trust.calibration_result import CalibrationResult
from dlstudio.trust.evaluation_result import Evaluation
from dlstudio.trust.slice_result import SliceResult
from dlstudio.trust.weighing import weigh, words_at
from dlstudio.widgets.markup import paragraphs
from dlstudio.widgets.threshold import ThresholdSlider
from dlstudio.widgets.trade_off import TradeOffSlider
from tests.faces.reading import data_of, drawn, markup, page_of, read, shape_of
from tests.figures.reading import text_of

PATIENCE_MS = 120_000
EVIL = "<script>alert(1)</script> [x](javascript:alert(2)) :red[$x$]"
COST = "What a smaller gap costs"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("audited") / "home"
        patch.setenv("DLSTUDIO_HOME", str(path))
        yield path


def trained(name: str, data: str = "mortgage", epochs: int = 6) -> Run:
    recipe = dls.Recipe(data=data, model="mlp", epochs=epochs, name=name, device="cpu")
    return dls.fit(recipe, progress=False)


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    return trained("audited")


@pytest.fixture(scope="module")
def audit(run: Run) -> FairnessAudit:
    return dls.audit_fairness(run, sensitive_features=["black", "male"])


@pytest.fixture(scope="module")
def curve(run: Run) -> TradeOff:
    return dls.trade_off(run, sensitive_features=["black"])


@pytest.fixture(scope="module")
def evil(curve: TradeOff) -> Run:
    """A run whose saved results carry markup wherever a text can stand."""
    other = trained(EVIL, epochs=1)
    finding = Finding(code="DLS301", severity="warning", sentence=f"{EVIL} is a gap.", remedy=EVIL)

    p = predictions_of(other)
    assert p.frame is not None
    columns = {EVIL: np.where(p.frame["black"] == 1, EVIL, "no"), "male": p.frame["male"]}
    made = dls.audit_fairness(p.y_true, p.y_pred, y_score=p.y_score, sensitive_features=columns)
    bad = dataclasses.replace(
        made, run=other.key, rows=p.rows, data=EVIL, positive=EVIL, findings=(finding, *made.findings)
    )
    results.save(bad, other.folder / "results", "fairness")
    points = dataclasses.replace(
        curve, run=other.key, data=EVIL, positive=EVIL, sensitive_feature=EVIL, findings=(finding,),
        groups=(EVIL, *curve.groups[1:]), names=(EVIL, *curve.names[1:]),
    )  # fmt: skip
    results.save(points, other.folder / "results", "trade-off")
    for one in ASSESSMENTS:
        answer = one.answer(other, 20.0)
        said = {"findings": (finding, *answer.findings), "run": other.key, "data": EVIL}
        if isinstance(answer, SliceResult):
            said["conditions"] = ((EVIL,), *answer.conditions[1:])
        elif hasattr(answer, "class_names"):
            said["class_names"] = ("no", EVIL)
        results.save(dataclasses.replace(answer, **said), other.folder / "results", one.name)
    return other


def press(opened: AppTest, label: str) -> AppTest:
    next(button for button in opened.button if button.label == label).click().run()
    assert not opened.exception
    return opened


def test_a_verb_keeps_its_answer_with_the_run(run: Run, audit: FairnessAudit, curve: TradeOff) -> None:
    assert kept(run, "fairness", FairnessAudit) == audit
    assert kept(run, "trade-off", TradeOff) == curve
    evaluation = dls.evaluate(run)
    assert kept(run, "evaluation", Evaluation) == evaluation
    labels_only = dls.audit_fairness([0, 1] * 20, [0, 1] * 20, sensitive_features={"g": ["a", "b"] * 20})
    assert labels_only.run == "" and kept(run, "fairness", FairnessAudit) == audit, "arrays are kept nowhere"


def test_an_audit_is_the_same_on_all_faces(run: Run, audit: FairnessAudit, curve: TradeOff, tmp_path: Path) -> None:
    card = dls.show(audit)
    assert card.words == audit.summary
    body, in_report = read(reports.report("fairness", run=run, out=tmp_path / "fairness.html"))
    told = reviewed(audit)
    on_page = markup(page_of("fairness", run.key))
    assert told.summary[0] in body and told.summary[0] in on_page and told.summary[0] in audit.summary
    for finding in told.findings:
        assert finding.sentence in body and finding.sentence in on_page
        assert finding.sentence in html.unescape(card.children[1].value)
    for (words, figure), chart in zip(figures.pictures(audit), card.charts, strict=True):
        assert data_of(chart.figure) == data_of(figure) and data_of(figure) in in_report and words in body

    (groups,) = drawn(page_of("fairness", run.key, page="Groups", feature="male"))
    assert shape_of(groups) == shape_of(data_of(figures.groups(audit, "male")))
    (gaps,) = drawn(page_of("fairness", run.key, page="Gaps"))
    assert shape_of(gaps) == shape_of(data_of(figures.gaps(audit)))
    (combinations,) = drawn(page_of("fairness", run.key, page="Combinations"))
    assert shape_of(combinations) == shape_of(data_of(figures.intersections(audit)))
    for sentence in curve.words(first_point(curve)):
        assert sentence in body


def test_a_report_gives_no_numbers_of_too_few_rows(home: Path, tmp_path: Path) -> None:
    fresh = trained("few", epochs=1)
    found = dls.audit_fairness(fresh, sensitive_features=["race"], min_denominator=40, reference="white", split="val")
    few = found.by_group[~found.by_group["enough"]]
    assert {"black", "Hispanic"} <= set(few["group"]) and few["denominator"].max() > 0
    body, _ = read(reports.report("fairness", run=fresh, out=tmp_path / "few.html"))
    rows = [row for row in re.findall(r"<tr>(.*?)</tr>", body, flags=re.DOTALL) if ">false<" in row]
    assert len(rows) == len(few) and all(row.count("–") >= 4 for row in rows), "nor a numerator, which makes one"
    unknown = found.gaps[found.gaps["p_value"].isna()]
    rows = [row for row in re.findall(r"<tr>(.*?)</tr>", body, flags=re.DOTALL) if "equal_opportunity_" in row]
    silent = unknown["criterion"].str.startswith("equal_opportunity_").sum()
    assert silent and sum(row.count("–") >= 7 for row in rows) == silent
    table = page_of("fairness", fresh.key, page="Groups").dataframe[0].value
    assert table.loc[~table["enough"], ["value", "low", "high", "numerator"]].isna().all(axis=None)
    assert (~table["enough"]).any() and table.loc[table["enough"], "value"].notna().any()
    table = page_of("fairness", fresh.key, page="Gaps").dataframe[0].value
    hidden = table.loc[table["p_value"].isna(), ["value", "low", "high", "joint_low", "joint_high"]]
    assert len(hidden) == len(unknown) > 0 and hidden.isna().all(axis=None)
    assert "Predictions that were assessed, of the rows by which its best weights were chosen" in body
    assert re.search(r"Compared with.*?white", body, flags=re.DOTALL)


def test_an_operating_point_is_the_same_on_slider_page_and_report(
    run: Run, audit: FairnessAudit, curve: TradeOff, tmp_path: Path
) -> None:
    slider = dls.show(curve)
    assert isinstance(slider, TradeOffSlider) and slider.words == curve.words(first_point(curve))
    board = page_of("fairness", run.key, page=COST)
    names = labels(curve)
    for at in (0, len(curve) - 1):
        slider.point.value = at
        next(one for one in board.select_slider if one.label == "Operating point").set_value(names[at]).run()
        assert not board.exception
        for sentence in curve.words(at):
            assert sentence in html.unescape(slider.cost.value) and sentence in markup(board), sentence
        expected = [data_of(figure) for _, figure in traded(curve, at)]
        assert [data_of(chart.figure) for chart in slider.charts] == expected
        assert [shape_of(data) for data in drawn(board)] == [shape_of(data) for data in expected]
    slider.choose(0.0)
    assert slider.point.value == curve.choose(0.0) and slider.words == curve.words(curve.choose(0.0))
    slider.close()


def test_points_of_one_name_are_told_apart(curve: TradeOff) -> None:
    twice = dataclasses.replace(curve, names=("a",) * len(curve), kinds=("variant",) * len(curve))
    assert len(set(labels(twice))) == len(curve) and labels(twice)[:2] == ("a", "a (2)")
    assert len(set(labels(curve))) == len(curve)


def test_the_page_audits_for_the_first_time_and_another_way(home: Path) -> None:
    fresh = trained("never audited", epochs=1)
    board = page_of("fairness", fresh.key)
    assert "Nothing is saved yet" in markup(board)
    columns = next(one for one in board.multiselect if one.label == "Compare groups by")
    columns.set_value(["married", "appinc"])
    next(one for one in board.slider if one.label.startswith("A gap matters")).set_value(5.0)
    press(board, "Audit")
    found = kept(fresh, "fairness", FairnessAudit)
    assert found is not None and found.features == ("married", "appinc") and found.threshold == pytest.approx(0.05)
    assert 2 <= len(found.group_names[1]) <= 5, "a column of many numbers is taken in parts"
    assert reviewed(found).summary[0] in markup(board)


def test_the_page_audits_as_carefully_as_before(home: Path) -> None:
    fresh = trained("audited with care", epochs=1)
    careful = dls.audit_fairness(
        fresh, sensitive_features=["race", "male"], clusters="price", reference={"race": "white"}, level=0.9,
        min_denominator=7, threshold_ratio=0.9, split="val", seed=3, n_resamples=200, intersections=1,
    )  # fmt: skip
    board = page_of("fairness", fresh.key)
    next(one for one in board.multiselect if one.label == "Compare groups by").set_value(["race", "married", "appinc"])
    next(one for one in board.slider if one.label.startswith("A gap matters")).set_value(5.0)
    press(board, "Audit")
    found = kept(fresh, "fairness", FairnessAudit)
    assert found is not None and found.features == ("race", "married", "appinc") and found.n_clusters > 0
    changed = {"threshold": 0.05, "bins": {"appinc": 4}}
    assert found.options == {**careful.options, **changed}
    # A reference of a column that is not looked at any more does not stop the next audit.
    next(one for one in board.multiselect if one.label == "Compare groups by").set_value(["male"])
    press(board, "Audit")
    found = kept(fresh, "fairness", FairnessAudit)
    assert found is not None and found.features == ("male",) and found.level == 0.9


def test_the_page_opens_for_audits_that_its_form_does_not_offer(home: Path) -> None:
    fresh = trained("audited widely", epochs=1)
    columns = ["race", "sex", "married", "old", "white", "black", "hispan", "male"]
    wide = dls.audit_fairness(fresh, sensitive_features=columns, threshold=0.3, intersections=1)
    board = page_of("fairness", fresh.key)
    assert reviewed(wide).summary[0] in markup(board)
    press(board, "Audit")
    found = kept(fresh, "fairness", FairnessAudit)
    assert found is not None and found.threshold == 0.3 and found.features == tuple(columns)


def test_the_page_says_which_columns_an_audit_from_it_leaves_out(home: Path) -> None:
    fresh = trained("audited with a column of one's own", epochs=1)
    own = {"tenure": np.arange(len(predictions_of(fresh))) % 2, "male": predictions_of(fresh).frame["male"]}
    dls.audit_fairness(fresh, sensitive_features=own, intersections=1)
    board = page_of("fairness", fresh.key)
    assert "The saved audit also compares groups by tenure, which the data of this run do not tell." in markup(board)
    press(board, "Audit")
    found = kept(fresh, "fairness", FairnessAudit)
    assert found is not None and found.features == ("male",)
    assert "also compares groups by" not in markup(board)


def test_the_page_works_out_what_a_smaller_gap_costs(home: Path) -> None:
    fresh = trained("never traded", epochs=1)
    dls.audit_fairness(fresh, sensitive_features=["black"], intersections=1)
    board = press(page_of("fairness", fresh.key, page=COST), "Work out what it costs")
    found = kept(fresh, "trade-off", TradeOff)
    assert found is not None and found.sensitive_feature == "black" and found.run == fresh.key
    for sentence in found.words(first_point(found)):
        assert sentence in markup(board)
    assert found == dls.trade_off(fresh, sensitive_features=["black"]), "as the verb, which has defaults of its own"


def test_what_is_worked_out_anew_is_worked_out_as_carefully(home: Path, run: Run) -> None:
    fresh = trained("traded with care", epochs=1)
    dls.audit_fairness(fresh, sensitive_features=["black", "male"], intersections=1)
    careful = dls.trade_off(
        fresh, sensitive_features=["male"], variants={"longer": run}, level=0.9, threshold=0.6, n_points=5, seed=3,
        min_denominator=12,
    )  # fmt: skip
    board = page_of("fairness", fresh.key, page=COST)
    assert next(one for one in board.number_input if one.label == "Rows a group needs").value == 12
    press(board, "Work out what it costs")
    assert kept(fresh, "trade-off", TradeOff) == careful
    again = dls.trade_off(fresh, sensitive_features=["male"], **careful.options)
    assert again == careful and again.options["variants"] == {"longer": run.key}


def test_rows_behind_a_combination_are_those_of_the_data(run: Run, audit: FairnessAudit) -> None:
    board = page_of("fairness", run.key, page="Combinations")
    first = audit.intersections.iloc[0]
    rows = audit.rows_of(first["sensitive_feature"], first["group"])
    assert board.dataframe[0].value.index.tolist() == rows[:200].tolist()


@pytest.mark.parametrize("one", ASSESSMENTS, ids=lambda one: one.name)
def test_an_assessment_is_computed_once_and_told_alike(run: Run, one: Any, tmp_path: Path) -> None:
    (run.folder / "results" / f"{one.name}.json").unlink(missing_ok=True)
    assert one.saved(run) is None
    board = press(page_of("trust", run.key, question=one.title), one.button)
    result = one.saved(run)
    assert result is not None
    kind = KINDS[one.kind]
    words = kind.words(reviewed(result))
    assert words and len(set(words)) == len(words)
    for sentence in (one.intro, *words):
        assert sentence in markup(board), sentence
    on_page = [shape_of(data) for data in drawn(board)]
    for caption, figure in kind.pictures(result):
        assert caption in markup(board) and shape_of(data_of(figure)) in on_page
    card = dls.show(result)
    assert card.words == kind.words(result) and len(card.charts) == len(kind.pictures(result))
    assert one.button not in [button.label for button in board.button]


def test_the_report_on_trust_asks_what_was_not_asked_yet(home: Path, tmp_path: Path) -> None:
    fresh = trained("untrusted", epochs=1)
    body, in_report = read(reports.report("trust", run=fresh, out=tmp_path / "trust.html"))
    for one in ASSESSMENTS:
        result = one.saved(fresh)
        assert result is not None
        for sentence in (one.question, *KINDS[one.kind].words(reviewed(result))):
            assert sentence in body, sentence
        for _, figure in KINDS[one.kind].pictures(result):
            assert data_of(figure) in in_report


def test_what_is_computed_again_is_asked_for_as_before(home: Path) -> None:
    fresh = trained("asked again", epochs=1)
    black = predictions_of(fresh).frame["black"]
    given = {
        "Evaluation": dls.evaluate(fresh, costs={"false_positive": 5}, clusters="loanamt", level=0.9, seed=3),
        "Calibration": dls.assess_calibration(fresh, groups=black, threshold=0.02, fix="platt", n_resamples=200),
        "Robustness": dls.assess_robustness(
            fresh, rows=np.arange(40), corruptions={"missing": (0.3,)}, n_steps=2, progress=False
        ),
        "Weak spots": dls.find_slices(fresh, columns=["black", "sex"], depth=1, threshold=0.01),
        "Labels": dls.find_label_errors(fresh, level=0.8),
    }
    for one in ASSESSMENTS:
        before, path = given[one.title], fresh.folder / "results" / f"{one.name}.json"
        written = path.stat().st_mtime_ns
        board = page_of("trust", fresh.key, question=one.title)
        assert "in the same way" in markup(board)
        press(board, "Compute again")
        after = one.saved(fresh)
        assert path.stat().st_mtime_ns > written and results.equal(after.options, before.options), one.title
        assert results.equal(after.findings, before.findings) and after.frame().equals(before.frame()), one.title


def test_a_reviewers_first_calibration_is_by_sensitive_columns(home: Path) -> None:
    fresh = trained("calibrated", epochs=1)
    columns = predictions_of(fresh).sensitive
    board = press(page_of("trust", fresh.key, question="Calibration"), "Assess calibration")
    found = kept(fresh, "calibration", CalibrationResult)
    assert found is not None and set(found.errors["column"]) == {"", *columns} and len(columns) > 2
    on_page = [shape_of(data) for data in drawn(board)]
    for column in columns:
        assert shape_of(data_of(reliability(found, column=column))) in on_page


@pytest.mark.parametrize("kind", ["fairness", "trust"])
def test_the_command_line_writes_both_reports(run: Run, audit: FairnessAudit, kind: str, tmp_path: Path) -> None:
    out = tmp_path / f"{kind}.html"
    assert cli.main(["report", kind, "--run", run.key, "--out", str(out)]) == 0
    body, _ = read(out)
    first = audit.summary[0] if kind == "fairness" else ASSESSMENTS[0].question
    assert first in body


def test_another_threshold_and_its_cost(run: Run) -> None:
    dls.evaluate(run, costs={"false_positive": 5, "false_negative": 1})
    board = page_of("trust", run.key, question="Evaluation")
    next(one for one in board.slider if one.label == "Threshold").set_value(0.8).run()
    assert not board.exception
    result = kept(run, "evaluation", Evaluation)
    assert result is not None
    point = result.at(0.8)
    assert f"{point.counts['true_positive']:,} found, {point.counts['false_negative']:,} missed" in markup(board)
    assert f"{point.cost[0]:.3g}" in markup(board)
    dls.evaluate(run)


def test_to_weigh_costs_keeps_everything_else(home: Path) -> None:
    fresh = trained("weighed", epochs=1)
    crossed = dls.evaluate(fresh, cross_validate=2, level=0.9, split="val", seed=4, costs={"true_positive": -1.0})
    board = page_of("trust", fresh.key, question="Evaluation")
    next(one for one in board.number_input if one.label == "Cost of a false alarm").set_value(5.0)
    press(board, "Weigh costs")
    found = kept(fresh, "evaluation", Evaluation)
    assert found is not None and results.equal(found.tables, crossed.tables) and len(found.folds)
    assert (found.level, found.split, found.settings["seed"]) == (0.9, "val", 4)
    assert (found.costs["false_positive"], found.costs["true_positive"]) == (5.0, -1.0)
    assert found == weigh(crossed, {"true_positive": -1.0, "false_positive": 5.0})


def test_an_answer_that_found_nothing_is_an_answer(run: Run) -> None:
    labels = next(one for one in ASSESSMENTS if one.name == "label-errors")
    clean = dls.find_label_errors([0, 1] * 200, np.tile([0.02, 0.98], 200))
    assert len(clean) == 0
    before = labels.answer(run, 20.0)
    results.save(dataclasses.replace(clean, run=run.key), run.folder / "results", labels.name)
    found, why = labels.asked(run, 20.0)
    assert found is not None and len(found) == 0 and why == "" and labels.saved(run) == found
    results.save(before, run.folder / "results", labels.name)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), ValueError("no such value")])
def test_what_fails_ends_its_own_section_only(home: Path, tmp_path: Path, error: Exception) -> None:
    fresh = trained(f"fails {type(error).__name__}", epochs=1)

    def fails(*_: Any) -> Any:
        raise error

    broken = dataclasses.replace(ASSESSMENTS[1], answer=fails)
    assert broken.asked(fresh, 20.0) == (None, f"This could not be assessed: {error}")


def test_a_threshold_and_its_costs_in_a_notebook(run: Run) -> None:
    evaluation = dls.evaluate(run)
    slider = dls.show(evaluation)
    assert isinstance(slider, ThresholdSlider)
    assert slider.words == KINDS[Evaluation].words(evaluation)
    assert slider.point.value == paragraphs(words_at(evaluation, 0.5))
    slider.threshold.value = 0.8
    for sentence in words_at(evaluation, 0.8):
        assert sentence in html.unescape(slider.point.value)
    assert data_of(slider.charts[-1].figure) == data_of(decided(evaluation, 0.8)[1])
    assert slider.charts[-1].figure.layout.shapes[0].x0 == 0.8
    slider.false_alarm.value, slider.miss.value = 5.0, 1.0
    weighed = weigh(evaluation, {"false_positive": 5.0, "false_negative": 1.0})
    for sentence in words_at(weighed, 0.8):
        assert sentence in html.unescape(slider.point.value)
    assert "A row costs" in slider.point.value
    assert data_of(slider.charts[-1].figure) == data_of(decided(weighed, 0.8)[1])
    assert kept(run, "evaluation", Evaluation) == evaluation, "what is entered in a notebook is saved nowhere"
    slider.close()


def test_what_cannot_be_assessed_says_why(home: Path, tmp_path: Path) -> None:
    rides = trained("rides", data="bikes", epochs=1)
    board = press(page_of("trust", rides.key, question="Calibration"), "Assess calibration")
    assert "Expected" in markup(board)
    body, _ = read(reports.report("trust", run=rides, out=tmp_path / "rides.html"))
    assert "Expected" in body and "off by" in body

    with dls.record("no predictions") as rec:
        rec.log({"loss": 1.0}, step=1)
    assert "Expected" in markup(page_of("fairness", rec.run.key))
    board = press(page_of("trust", rec.run.key, question="Evaluation"), "Evaluate")
    assert "Expected a run that stored its predictions" in markup(board)


def test_hostile_names_are_text_in_widgets_pages_and_reports(evil: Run, tmp_path: Path) -> None:
    found = [kept(evil, "fairness", FairnessAudit), kept(evil, "trade-off", TradeOff)]
    found += [one.saved(evil) for one in ASSESSMENTS]
    for result in found:
        assert result is not None
        card = dls.show(result)
        assert all("<script" not in getattr(part, "value", "") for part in card.children)
        assert all("<script" not in text_of(chart.figure) for chart in card.charts)
        assert "&lt;script" in "".join(getattr(part, "value", "") for part in card.children)
    boards = [page_of("fairness", evil.key, page=page) for page in ("In words", "Groups", "Gaps", "Combinations", COST)]
    boards += [page_of("trust", evil.key, question=one.title) for one in ASSESSMENTS]
    for board in boards:
        assert all("<script" not in element.proto.body for element in board.get("html"))
        assert "<script" not in json.dumps(drawn(board))
    for kind in ("fairness", "trust"):
        written = reports.report(kind, run=evil, out=tmp_path / f"{kind}.html").read_text()
        assert "<script>alert" not in written and "&lt;script&gt;alert" in written


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_a_reviewer_audits_and_chooses_an_operating_point(
    run: Run, audit: FairnessAudit, curve: TradeOff, free_port: Callable[[], int], page: Any, tmp_path: Path
) -> None:
    outside: list[str] = []
    page.on("request", lambda request: outside.append(request.url) if "127.0.0.1" not in request.url else None)
    server = app.serve("board", port=free_port(), block=False)
    try:
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{server.url}/fairness?run={run.key}")
        page.get_by_text(reviewed(audit).summary[0]).wait_for()
        page.get_by_text(reviewed(audit).findings[0].sentence).first.wait_for()
        page.get_by_text("Groups", exact=True).click()
        page.wait_for_selector(".js-plotly-plot .main-svg")
        page.screenshot(path=tmp_path / "groups.png")
        page.get_by_text(COST, exact=True).click()
        page.get_by_text(curve.words(first_point(curve))[0]).wait_for()
        thumb = page.get_by_role("slider", name="Operating point")
        thumb.focus()
        for _ in range(len(curve)):
            page.keyboard.press("ArrowLeft")
        page.get_by_text(curve.words(0)[0]).wait_for()
        page.get_by_text(curve.words(0)[-1]).wait_for()
        page.keyboard.press("ArrowRight")
        page.get_by_text(curve.words(1)[-2]).wait_for()
        page.wait_for_selector(".js-plotly-plot .main-svg")
        page.screenshot(path=tmp_path / "cost.png")
        assert (tmp_path / "cost.png").stat().st_size > 10_000

        one = ASSESSMENTS[0]
        (run.folder / "results" / f"{one.name}.json").unlink(missing_ok=True)
        page.goto(f"{server.url}/trust?run={run.key}")
        page.get_by_role("button", name=one.button, exact=True).click()
        page.get_by_text("Where to draw the line").wait_for()
        result = one.saved(run)
        assert result is not None
        page.get_by_text(one.words(result)[0]).wait_for()
    finally:
        server.stop()
    assert [url for url in outside if not url.startswith(("data:", "blob:"))] == []
    assert page.faults == []


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_text_of_a_user_is_text_in_the_browser(
    evil: Run, free_port: Callable[[], int], page: Any, tmp_path: Path
) -> None:
    page.set_default_timeout(PATIENCE_MS)
    server = app.serve("board", port=free_port(), block=False)

    def inert() -> None:
        page.wait_for_timeout(1500)
        assert page.locator('[data-testid="stMain"] script').count() == 0
        assert page.locator('[data-testid="stMain"] a[href*="javascript"]').count() == 0
        assert page.locator('[data-testid="stException"]').count() == 0

    try:
        page.goto(f"{server.url}/fairness?run={evil.key}")
        for name in ("In words", "Groups", "Gaps", "Combinations", COST):
            page.get_by_text(name, exact=True).first.click()
            inert()
        page.goto(f"{server.url}/trust?run={evil.key}")
        for one in ASSESSMENTS:
            page.get_by_text(one.title, exact=True).first.click()
            page.get_by_text(f"{EVIL} is a gap.").first.wait_for()
            inert()
    finally:
        server.stop()
    for kind in ("fairness", "trust"):
        written = reports.report(kind, run=evil, out=tmp_path / f"{kind}.html")
        page.goto(written.as_uri())
        page.wait_for_selector(".js-plotly-plot .main-svg")
        assert page.locator("h1").inner_text().startswith(EVIL)
        assert page.locator("main script:not(.figure-data)").count() == 0
    assert page.dialogs == [] and page.faults == []


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_an_engineer_drives_the_slider_in_jupyterlab(
    run: Run, curve: TradeOff, lab: Any, page: Any, tmp_path: Path
) -> None:
    path = lab(
        "import dlstudio as dls\nfrom dlstudio.runs.kept import kept\n"
        "from dlstudio.fairness.mitigation.trade_off_result import TradeOff\n"
        f"dls.show(kept(dls.open_run({run.key!r}), 'trade-off', TradeOff))"
    )
    view = page.locator(".dls-explorer")
    words = view.locator(".dls-words")
    words.get_by_text(curve.words(first_point(curve))[0]).wait_for()
    page.wait_for_function("() => [...document.querySelectorAll('.dls-figure')].every(c => c.data?.length)")
    thumb = view.locator(".dls-point .noUi-handle")
    thumb.focus()
    page.keyboard.press("Home")
    words.get_by_text(curve.words(0)[0]).wait_for()
    page.keyboard.press("End")
    last = curve.words(len(curve) - 1)
    for sentence in last:
        words.get_by_text(sentence).wait_for()
    assert words.locator("p").count() == len(last)
    page.wait_for_function(
        "at => document.querySelector('.dls-figure').calcdata?.at(-1)?.[0]?.x === at",
        arg=float(curve.gap[len(curve) - 1]),
    )
    page.screenshot(path=tmp_path / "slider.png")
    before = path.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    for _ in range(200):
        if path.stat().st_mtime_ns != before:
            break
        page.wait_for_timeout(100)
    assert path.stat().st_size < 60_000
    assert page.locator(".dls-fault:visible").count() == 0 and page.faults == []


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_an_engineer_weighs_costs_in_jupyterlab(run: Run, lab: Any, page: Any, tmp_path: Path) -> None:
    evaluation = dls.evaluate(run)
    lab(
        "import dlstudio as dls\nfrom dlstudio.runs.kept import kept\n"
        "from dlstudio.trust.evaluation_result import Evaluation\n"
        f"dls.show(kept(dls.open_run({run.key!r}), 'evaluation', Evaluation))"
    )
    view = page.locator(".dls-explorer")
    view.get_by_text(words_at(evaluation, 0.5)[0]).wait_for()
    page.wait_for_function("() => [...document.querySelectorAll('.dls-figure')].every(c => c.data?.length)")
    thumb = view.locator(".dls-threshold .noUi-handle")
    thumb.focus()
    page.keyboard.press("End")
    view.get_by_text(words_at(evaluation, 1.0)[0]).wait_for()
    miss = view.get_by_label("Miss")
    miss.fill("3")
    miss.press("Enter")
    weighed = weigh(evaluation, {"false_negative": 3.0})
    view.get_by_text(words_at(weighed, 1.0)[-1]).wait_for()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.dls-figure')].at(-1).data.some(d => d.name === 'cost')"
    )
    view.locator(".dls-figure").last.scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / "threshold.png")
    assert page.locator(".dls-fault:visible").count() == 0 and page.faults == []

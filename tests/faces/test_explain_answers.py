"""What page and report say to readers without code, and show of what else is saved; names stay names on hovering."""

from __future__ import annotations

import dataclasses
import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

import dlstudio as dls
from dlstudio import app, reports, results
from dlstudio.explain.counterfactuals import describe as describe_counterfactuals
from dlstudio.explain.influence.result import InfluenceResult
from dlstudio.explain.quality.agreement_result import AgreementResult
from dlstudio.explain.result import Explanation
from dlstudio.explain.session import PREFIX, saved_explanations
from dlstudio.explain.words import verdict_line
from dlstudio.figures import explanation as figures
from dlstudio.figures.agreement import agreement
from dlstudio.figures.answers import answers_of
from dlstudio.figures.checked import compared
from dlstudio.results import Finding
from dlstudio.runs.run import Run
from dlstudio.widgets.explorer import Explorer
from tests.faces.reading import drawn, markup, page_of, read, specs

EVIL = "<script>alert(1)</script> [x](javascript:alert(2)) :red[$x$]"


def test_remedies_name_arguments_to_engineers_alone(explained: Explanation, run: Run, tmp_path: Path) -> None:
    remedy = "Pass n_samples=4,000, or leave it out."
    finding = Finding(code="DLS402", severity="warning", sentence="It is all chance.", remedy=remedy)
    noisy = dataclasses.replace(explained, verdict="suspect", findings=(finding,))
    path = run.folder / "results" / f"{PREFIX}{explained.method}.json"
    results.save(noisy, path.parent, path.stem)
    try:
        board = markup(page_of("explain", run.key))
        report = html.unescape(reports.report("explain", run=run, out=tmp_path / "noisy.html").read_text())
    finally:
        results.save(explained, path.parent, path.stem)
    body = report.split("<main>")[1].split("</main>")[0]
    for reader in (board, body):
        assert "all chance" in reader and "Ask the engineer to compute it with more random draws." in reader
        assert "n_samples" not in reader
    explorer = Explorer(noisy)
    assert remedy in html.unescape(explorer.head.value) and "Ask the engineer" not in explorer.head.value
    explorer.close()


def test_what_else_is_saved_is_shown_by_page_and_report(explained: Explanation, run: Run, tmp_path: Path) -> None:
    assert answers_of(run) == []
    assert "More answers" not in page_of("explain", run.key).segmented_control(key="page").options
    row = int(explained.rows[0])
    found = dls.find_counterfactuals(
        lambda rows: np.column_stack([5 - rows[:, 0], np.zeros(len(rows))]), np.zeros(2),
        background=np.array([[0, 1], [9, 2], [4, 3]]), feature_names=(EVIL, "rate"), class_names=(EVIL, "approved"),
    )  # fmt: skip
    answer = dataclasses.replace(found, run=run.key, row=row)
    assert len(answer)
    finding = Finding(code="DLS428", severity="info", sentence=f"{EVIL} is unknown.", remedy="Pass checkpoints=[…].")
    traced = InfluenceResult(
        rows=np.array([row]), train_rows=np.arange(2), proponents=np.array([[0, 1]]), opponents=np.array([[1, 0]]),
        proponent_influence=np.array([[2.0, 1.0]]), opponent_influence=np.array([[-2.0, -1.0]]),
        self_influence=np.array([1.0, 3.0]), y_true=np.array([1]), y_pred=None, y_train=np.array([0, 1]),
        class_names=("no", EVIL), checkpoints=("a",), learning_rates=np.ones(1), n_weights=3, run=run.key,
        findings=(finding,),
    )  # fmt: skip
    saved = [
        results.save(answer, run.folder / "results", f"counterfactuals-{row}"),
        results.save(traced, run.folder / "results", "influence"),
    ]
    (run.folder / "results" / "broken.json").write_text("{")
    try:
        first, second = answers_of(run)
        board = page_of("explain", run.key, page="More answers")
        body, in_report = read(reports.report("explain", run=run, out=tmp_path / "more.html"))
        expected = [json.loads(figure.to_json())["data"] for one in (first, second) for _, figure in one.pictures]
        assert drawn(board) == expected
        # A chosen page that is there no more gives way to the first.
        for path in saved:
            path.unlink()
        assert page_of("explain", run.key, page="More answers").segmented_control(key="page").value == "One row"
    finally:
        for path in (*saved, run.folder / "results" / "broken.json"):
            path.unlink(missing_ok=True)
    assert first.question == f"What would have to change? Row {row:,} of the data"
    assert first.words == describe_counterfactuals(answer) and second.words[0].startswith(f"{EVIL} is unknown. Ask the")
    for one in (first, second):
        for sentence in one.words:
            assert sentence in markup(board) and sentence in body
        assert all(json.loads(figure.to_json())["data"] in in_report for _, figure in one.pictures)
    assert [item.value for item in board.subheader] == [app.plain(one.question) for one in (first, second)]
    assert "checkpoints=" not in body and all("<script>alert" not in json.dumps(figure) for figure in specs(board))
    card = dls.show(answer)
    assert card.words == first.words and card.charts[0].figure == first.pictures[0][1]
    card.close()


def test_another_method_is_made_shown_and_offered_beside_the_first(explained: Explanation, run: Run) -> None:
    files = {path: path.stat().st_mtime_ns for path in (run.folder / "results").iterdir()}
    board = page_of("explain", run.key)
    try:
        for title in ("Saliency", "Input × gradient"):  # the second with two to choose from
            next(box for box in board.selectbox if box.label == "Method").set_value(title)
            next(button for button in board.button if button.label == "Explain this run").click().run()
            assert not board.exception
            assert board.segmented_control(key="method").value == {
                "Saliency": "saliency", "Input × gradient": "input_x_gradient"
            }[title]  # fmt: skip
    finally:
        for path in set((run.folder / "results").iterdir()) - set(files):
            path.unlink()


def test_the_page_explains_a_run_for_the_first_time(home: Path) -> None:
    recipe = dls.Recipe(data="mortgage", model="mlp", epochs=1, name="unexplained", device="cpu")
    fresh = dls.fit(recipe, progress=False)
    board = page_of("explain", fresh.key)
    assert "Nothing is saved yet" in markup(board)
    next(button for button in board.button if button.label == "Explain this run").click().run()
    assert not board.exception
    (found,) = saved_explanations(fresh).values()
    assert verdict_line(found) in markup(board)


def test_a_run_that_cannot_be_explained_says_why(home: Path) -> None:
    from dlstudio.runs.recorder import record

    with record("no model") as rec:
        rec.log({"loss": 1.0}, step=1)
    board = page_of("explain", rec.run.key)
    next(button for button in board.button if button.label == "Explain this run").click().run()
    assert not board.exception and "Expected" in markup(board)


def test_labels_show_markup_as_it_is() -> None:
    assert app.plain(":red[$x$] a_b <i>") == r"\:red\[\$x\$\] a\_b \<i\>"


@pytest.mark.browser
def test_names_on_hovering_are_as_they_are(explained: Explanation, page: Any) -> None:
    """Plotly fills in templates and reads a subset of HTML: neither in a name."""
    name = "<b>%{z}</b> %{x} <extra>y</extra>"
    first = int(explained.importance.argmax())
    names = tuple(name if at == first else other for at, other in enumerate(explained.feature_names))
    table = dataclasses.replace(explained, feature_names=names)
    shown = explained.attributions[:, :4].reshape(len(explained), 2, 2)
    waves = dataclasses.replace(
        explained, modality="sequence", attributions=shown, inputs=shown, labels=None, feature_names=(name, "b"),
    )  # fmt: skip
    marks = AgreementResult(
        methods=("shapley", "saliency"), titles=(name, "b"), verdicts=("ok", "ok"), verdict_reasons=("", ""),
        shares=np.ones((2, 1, 2)), rank_correlation=np.ones((2, 2)), row_correlation=np.ones(1),
        top_overlap=np.ones((2, 2)), k=1, reasons=(), failed={}, modality="tabular", shape=(2,),
        feature_names=(name, "b"), rows=np.arange(1), target=np.zeros(1, dtype=np.int64),
    )  # fmt: skip
    page.set_content("<div id=plot style='width:900px'></div>")
    page.add_script_tag(content=get_plotlyjs())
    draw = """async ([spec, x, y]) => {
        const plot = document.getElementById("plot"), {data, layout} = JSON.parse(spec);
        await Plotly.newPlot(plot, data, layout);
        const {xaxis, yaxis} = plot._fullLayout, {left, top} = plot.getBoundingClientRect();
        return [left + xaxis._offset + xaxis.d2p(x), top + yaxis._offset + yaxis.d2p(y)];
    }"""
    for figure, x, y in (
        (figures.importance(table), float(explained.importance.max()) / 2, 0),
        (figures.heat_strip(waves, 0), 1, 0),
        (compared(marks)[1], 1.0, -0.25),
        (agreement(marks), 1, 0),
    ):
        page.mouse.move(5, 5)
        page.mouse.move(*page.evaluate(draw, [figure.to_json(), x, y]), steps=3)
        page.wait_for_selector("#plot .hovertext")
        assert name in page.locator("#plot .hovertext").last.text_content()
    assert page.faults == []

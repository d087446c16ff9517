"""Explorer, board page and report show one saved explanation alike, in real browsers, and any text as text."""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlstudio as dls
from dlstudio import app, reports, results
from dlstudio.explain.checks import CHECKS
from dlstudio.explain.exploring import story, typical
from dlstudio.explain.quality.agreement_result import AgreementResult
from dlstudio.explain.result import Explanation
from dlstudio.explain.session import PREFIX, Session, saved_explanations
from dlstudio.explain.words import headline, verdict_line
from dlstudio.figures import explanation as figures
from dlstudio.figures.checked import pictures
from dlstudio.results import Finding
from dlstudio.runs.run import Run
from dlstudio.widgets.explorer import Explorer
from tests.faces.reading import drawn, markup, page_of, read, specs
from tests.figures.reading import text_of

PATIENCE_MS = 120_000
EVIL = "<script>alert(1)</script> [x](javascript:alert(2)) :red[$x$]"


@pytest.fixture(scope="module")
def evil(explained: Explanation, run: Run) -> Run:
    """A run whose explanation carries markup wherever a text can stand, and is suspect."""
    recipe = dls.Recipe(data="mortgage", model="mlp", epochs=1, name=EVIL, device="cpu")
    other = dls.fit(recipe, progress=False)
    finding = Finding(code="DLS402", severity="warning", sentence=f"{EVIL} is wrong.", remedy=EVIL)
    assert explained.labels is not None
    labels = explained.labels.astype(f"<U{len(EVIL)}")
    labels[:, 1] = EVIL
    bad = dataclasses.replace(
        explained, run=other.key, feature_names=(EVIL, *explained.feature_names[1:]), class_names=("no", EVIL),
        labels=labels, verdict="suspect", findings=(finding,), model=EVIL, why=EVIL,
    )  # fmt: skip
    results.save(bad, other.folder / "results", f"{PREFIX}{bad.method}")
    session = Session(other)
    plain = session.explain(bad.rows[:3], method=bad.method, target=bad.target[:3], progress=False)
    for check in CHECKS:
        made = check.make(session, plain)
        said: dict[str, Any] = {"findings": (finding, *made.findings)}
        if isinstance(made, AgreementResult):
            said |= {"feature_names": (EVIL,) * len(made.feature_names), "titles": (EVIL,) * len(made.titles)}
        else:
            said |= {"layers": (EVIL,) * len(made.layers), "skipped": {EVIL: EVIL}}
        check.keep(dataclasses.replace(made, **said), bad, other)
    return other


def bars_of(figure: dict[str, Any]) -> list[Any]:
    """The names beside the bars, which say which reasons are drawn and in which order."""
    return list(figure["layout"]["yaxis"]["ticktext"])


def test_widget_page_and_report_say_and_draw_the_same(explained: Explanation, run: Run, tmp_path: Path) -> None:
    explorer = Explorer(explained)
    at = typical(explained)["Most doubtful"]
    explorer.show_row(at)
    widget = html.unescape(explorer.head.value + explorer.reasons.value)
    board = page_of("explain", run.key, row=at + 1)
    body, in_report = read(reports.report("explain", run=run, out=tmp_path / "explain.html"))
    for text in (verdict_line(explained), *story(explained, at)[:-1]):
        assert text in widget and text in markup(board) and text in body, text
    assert headline(explained) in body and headline(explained) in html.unescape(explorer.summary.value)

    expected = json.loads(figures.figure_of(explained, at).to_json())
    assert json.loads(explorer.picture.figure.to_json()) == expected
    (on_page,) = specs(board)
    assert bars_of(on_page) == bars_of(expected) and on_page["data"][0]["x"] == expected["data"][0]["x"]
    assert expected["data"] in in_report
    explorer.close()


def test_checks_are_the_same_on_all_faces(explained: Explanation, run: Run, tmp_path: Path) -> None:
    for name in ("agreement", "quality"):
        for path in (run.folder / "results").glob(f"{name}*"):  # of a report
            path.unlink()
    board = page_of("explain", run.key, page="Checks")
    for check in CHECKS:
        assert check.saved(explained, run) is None
        next(button for button in board.button if button.label == check.button).click().run()
        assert not board.exception
    assert not any(button.label == check.button for button in board.button for check in CHECKS)
    explorer = Explorer(explained)
    explorer.pages.value = "Checks"
    body, in_report = read(reports.report("explain", run=run, out=tmp_path / "checked.html"))
    on_board = drawn(board)
    for check, section in zip(CHECKS, (explorer.checks.agreement, explorer.checks.quality), strict=True):
        result = check.saved(explained, run)
        assert result is not None and section.told.result == result and check.unfinished(result) is False
        shown = html.unescape("".join(part.value for part in (section.children[0], section.told.children[0])))
        assert all(sentence in shown for sentence in (check.question, check.intro, *check.words(result)))
        for sentence in (check.question, check.intro, *check.plain_words(result)):
            assert sentence in body, sentence
            assert sentence in markup(board) or sentence == board.subheader[CHECKS.index(check)].value, sentence
        for plain, exact in zip(check.plain_words(result), check.words(result), strict=True):
            assert plain == exact or "Ask the engineer" in plain or "_" in exact or "shapley" in exact, exact
        for words, figure in pictures(result):
            data = json.loads(figure.to_json())["data"]
            assert words in body and data in in_report and len(data) in map(len, on_board)
        first = json.loads(pictures(result)[0][1].to_json())["data"][0]
        assert any(data[0] == first for data in on_board)
    expected = dls.score_explanation(run, Session(run).explain(explained.rows, method=explained.method), progress=False)
    quality = CHECKS[1].saved(explained, run)
    np.testing.assert_allclose(expected.infidelity, quality.infidelity, atol=1e-6)
    np.testing.assert_allclose(expected.similarity, quality.similarity, atol=1e-6)
    np.testing.assert_allclose(expected.max_sensitivity, quality.max_sensitivity, rtol=1e-3)
    explorer.close()


def test_a_report_explains_what_was_not_explained_yet(home: Path, tmp_path: Path) -> None:
    recipe = dls.Recipe(data="mortgage", model="mlp", epochs=1, name="bare", device="cpu")
    bare = dls.fit(recipe, progress=False)
    assert saved_explanations(bare) == {}
    page = html.unescape(reports.report("explain", run=bare).read_text())
    (found,) = saved_explanations(bare).values()
    assert len(found) == 100 and verdict_line(found) in page
    for at in typical(found).values():
        assert headline(found, at) in page


def test_a_refused_explanation_is_told_and_not_drawn(explained: Explanation, run: Run, tmp_path: Path) -> None:
    finding = Finding(code="DLS401", severity="critical", sentence="It does not add up.", remedy="Raise n_steps.")
    names = tuple(f"column {at}" for at in range(len(explained.feature_names)))
    bad = dataclasses.replace(explained, verdict="refused", findings=(finding,), method="saliency", feature_names=names)
    path = results.save(bad, run.folder / "results", f"{PREFIX}saliency")
    try:
        for page in ("One row", "All rows"):
            board = page_of("explain", run.key, method="saliency", page=page)
            assert "does not add up" in markup(board) and "Ask the engineer to compute it more" in markup(board)
            assert "n_steps" not in markup(board)
            assert all("column " not in json.dumps(figure) for figure in specs(board))
        assert "not tested" in markup(page_of("explain", run.key, method="saliency", page="Checks"))
        assert "nothing is tried" in markup(page_of("explain", run.key, method="saliency", page="What if"))
    finally:
        path.unlink()
    body = reports.report("explain", run=run, out=tmp_path / "again.html").read_text()
    assert "column 0" not in body


def test_the_page_tries_a_changed_row(explained: Explanation, run: Run) -> None:
    files = {path.name: path.stat().st_mtime_ns for path in (run.folder / "results").iterdir()}
    board = page_of("explain", run.key, page="What if", row=4)
    row = int(explained.rows[3])
    weights = dict(zip(explained.feature_names, abs(explained.by_feature[3]), strict=True))
    numbers = {item.label: item for item in board.number_input if item.label in weights}
    name = max(numbers, key=lambda label: weights[label])
    numbers[name].set_value(3.0)
    next(button for button in board.button if button.label == "Try it").click().run()
    assert not board.exception
    session = Session(run)
    for chance in session.probabilities(session.edited(row, {name: 3.0}))[0]:
        assert f"→ {100 * chance:.1f} %" in markup(board)
    (figure,) = specs(board)
    assert any(f"{name} = " in text and "→ 3" in text for text in bars_of(figure))
    assert {path.name: path.stat().st_mtime_ns for path in (run.folder / "results").iterdir()} == files


def test_hostile_names_in_checks_are_text(evil: Run, tmp_path: Path) -> None:
    (hostile,) = saved_explanations(evil).values()
    explorer = Explorer(hostile)
    explorer.pages.value = "Checks"
    board = page_of("explain", evil.key, page="Checks")
    assert len(specs(board)) == 4 and all("<script" not in json.dumps(figure) for figure in specs(board))
    assert f"{EVIL} is wrong. Ask the engineer" in markup(board)
    assert all("<script" not in element.proto.body for element in board.get("html"))
    for section in (explorer.checks.agreement, explorer.checks.quality):
        assert f"{EVIL} is wrong. {EVIL}" in html.unescape(section.told.children[0].value)
        assert all("<script" not in getattr(part, "value", "") for part in section.told.children)
        assert all("<script" not in text_of(chart.figure) for chart in section.told.charts)
    explorer.close()


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_a_reviewer_reads_tries_and_jumps(
    explained: Explanation, run: Run, free_port: Callable[[], int], page: Any, tmp_path: Path
) -> None:
    outside: list[str] = []
    page.on("request", lambda request: outside.append(request.url) if "127.0.0.1" not in request.url else None)
    server = app.serve("board", port=free_port(), block=False)
    try:
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{server.url}/explain?run={run.key}")
        page.get_by_text(verdict_line(explained)).wait_for()
        page.wait_for_selector(".js-plotly-plot .main-svg")
        page.screenshot(path=tmp_path / "row.png")
        at = typical(explained)["Most doubtful"]
        page.get_by_role("button", name="Most doubtful").click()
        page.get_by_text(headline(explained, at)[:60]).wait_for()
        page.get_by_text("What if", exact=True).click()
        page.get_by_role("button", name="Try it").click()
        page.get_by_text("Nothing was changed.").wait_for()
        page.wait_for_selector(".js-plotly-plot .main-svg")
        page.screenshot(path=tmp_path / "what-if.png")
        assert (tmp_path / "what-if.png").stat().st_size > 10_000
    finally:
        server.stop()
    assert [url for url in outside if not url.startswith(("data:", "blob:"))] == []
    assert page.faults == []


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_text_of_a_user_is_text_on_the_board_and_in_the_report(
    evil: Run, free_port: Callable[[], int], page: Any, tmp_path: Path
) -> None:
    page.set_default_timeout(PATIENCE_MS)
    server = app.serve("board", port=free_port(), block=False)
    try:
        page.goto(f"{server.url}/explain?run={evil.key}")
        for name in ("One row", "All rows", "What if", "Checks"):
            page.get_by_text(name, exact=True).click()
            page.get_by_text(f"Suspect: {EVIL} is wrong.").first.wait_for()
            page.wait_for_timeout(1500)
            assert page.locator('[data-testid="stMain"] script').count() == 0
            assert page.locator('[data-testid="stMain"] a[href*="javascript"]').count() == 0
    finally:
        server.stop()
    written = reports.report("explain", run=evil, out=tmp_path / "evil.html")
    page.goto(written.as_uri())
    page.wait_for_selector(".js-plotly-plot .main-svg")
    assert page.locator("h1").inner_text().startswith(EVIL)
    assert page.locator("main script:not(.figure-data)").count() == 0
    assert page.dialogs == [] and page.faults == []


@pytest.mark.browser
@pytest.mark.timeout(900)
def test_an_engineer_explores_in_jupyterlab(
    explained: Explanation, run: Run, lab: Any, page: Any, tmp_path: Path
) -> None:
    source = (
        "import dlstudio as dls\nfrom dlstudio.explain.session import saved_explanations\n"
        f"dls.show(saved_explanations({run.key!r})['integrated_gradients'])"
    )
    path = lab(source)
    explorer = page.locator(".dls-explorer")
    explorer.get_by_text(verdict_line(explained)).wait_for()
    chart = explorer.locator(".dls-figure").first
    page.wait_for_function("chart => chart.data?.length", arg=chart.element_handle())
    names = page.evaluate("chart => chart.layout.yaxis.ticktext", chart.element_handle())
    assert names == list(figures.figure_of(explained, 0).layout.yaxis.ticktext)

    # A page that turns dark takes the picture along, and back.
    for light, ink in (("false", "#e6ebf0"), ("true", "#1b2733")):
        page.evaluate("light => { document.body.dataset.jpThemeLight = light; }", light)
        page.wait_for_function(
            "([chart, ink]) => chart.layout?.yaxis?.tickfont?.color === ink", arg=[chart.element_handle(), ink]
        )
        page.screenshot(path=tmp_path / f"light-{light}.png")

    # Another row, another method.
    explorer.get_by_role("spinbutton", name="Row").fill("8")
    page.keyboard.press("Enter")
    explorer.locator(".dls-words", has_text=headline(explained, 7)[:50]).wait_for()
    explorer.get_by_label("Method").select_option(label="Feature ablation")
    explorer.get_by_role("button", name="Compute").click()
    explorer.locator(".dls-said", has_text="Feature ablation took").wait_for()
    explorer.locator(".dls-what", has_text="Feature ablation").wait_for()

    # All rows, then what would change the answer.
    explorer.get_by_role("button", name="All rows").click()
    explorer.get_by_label("Show").select_option(label="Spread")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.dls-figure')].some(c => c.data?.[0]?.mode === 'markers')"
    )
    explorer.get_by_role("button", name="What if").click()
    control = explorer.locator(".dls-form input[type=number]").first
    control.fill("4")
    control.press("Tab")
    explorer.get_by_role("button", name="Try it").click()
    explorer.locator(".dls-outcomes").wait_for()

    # Whether all this can be relied on.
    explorer.get_by_role("button", name="Checks").click()
    explorer.get_by_text("Looks at all rows").last.wait_for()
    explorer.get_by_role("button", name="Test this explanation").click()
    explorer.locator(".dls-said", has_text="Not saved with the run").wait_for()
    explorer.get_by_text("Feature ablation on 20 rows").wait_for()

    # A notebook saved with all this is small, and the page can be loaded again.
    before = path.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    for _ in range(200):
        if path.stat().st_mtime_ns != before:
            break
        page.wait_for_timeout(100)
    assert path.stat().st_size < 100_000
    page.reload()
    explorer.get_by_text("Feature ablation ·").wait_for()
    page.wait_for_function("() => [...document.querySelectorAll('.dls-figure')].some(c => c.data?.length)")
    assert page.locator(".dls-fault:visible").count() == 0 and page.faults == []

"""Card, board page, report and terminal show one comparison alike, any text as text, and offer what is missing."""

from __future__ import annotations

import contextlib
import html
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from streamlit.testing.v1 import AppTest

import dlstudio as dls
from dlstudio import app, cli, reports
from dlstudio.compare.curves import overlay
from dlstudio.compare.missing import missing_seeds
from dlstudio.compare.result import Comparison
from dlstudio.errors import DLStudioError
from dlstudio.explain.plain import in_plain_words
from dlstudio.figures import across, tables
from dlstudio.figures import comparison as figures
from dlstudio.figures.answers import KINDS
from dlstudio.results import Result
from dlstudio.runs import process
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.recorder import record
from dlstudio.runs.run import list_runs, open_run
from dlstudio.widgets import comparison as card_module
from dlstudio.widgets.comparison import ComparisonCard
from tests.faces.reading import data_of, drawn, markup, page_of, read, shape_of

PATIENCE_MS = 120_000
EVIL = "<script>alert(1)</script> <b>x</b> [x](javascript:alert(2)) :red[$x$]"
AUC = {"wide": (0.84, 0.86, 0.85, 0.87, 0.83), "narrow": (0.80, 0.81, 0.82, 0.80)}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two variants of a recipe, of which one lacks a seed, that were recorded and not trained."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("compared") / "home"
        patch.setenv("DLSTUDIO_HOME", str(path))
        for variant, values in AUC.items():
            for seed, value in enumerate(values):
                logged(variant, seed, value)
        yield path


def logged(variant: str, seed: int, value: float, **more: Any) -> None:
    recipe = dls.Recipe(
        data="mortgage", model="mlp", model_options={"hidden": [len(variant)]}, seed=seed, variant=variant,
        name=f"{variant}-{seed}", device="cpu",
    )  # fmt: skip
    config = {**recipe.to_dict(), **more}
    with record(f"{variant}-{seed}", config=config, tags={"variant": variant, "seed": str(seed)}) as rec:
        for step in (1, 2, 3):
            rec.log({"val/auc": value - 0.1 / step + 0.1 / 3, "val/loss": 1 - value, "epoch": float(step)}, step=step)


@pytest.fixture(scope="module")
def compared(home: Path) -> Comparison:
    return dls.compare(metric="val/auc")


def open_page(**state: Any) -> AppTest:
    return page_of("compare", **{"metric": "val/auc", **state})


def rows_of(opened: AppTest) -> list[list[list[str]]]:
    return [frame.value.astype(str).to_numpy().tolist() for frame in opened.dataframe]


def cells(rows: tables.Rows) -> list[list[str]]:
    return [list(row) for row in rows.cells]


def test_a_comparison_is_the_same_on_all_faces(
    compared: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    c = compared
    assert c["wide"].mean == pytest.approx(np.mean(AUC["wide"])) and c["narrow"].n == 4
    card = dls.show(c)
    assert isinstance(card, ComparisonCard) and card.words == c.summary
    body, in_report = read(reports.report("compare", comparison=c, out=tmp_path / "compare.html"))
    page = open_page()
    on_page = markup(page)
    assert cli.main(["compare", "--metric", "val/auc"]) == 0
    in_terminal = " ".join(capsys.readouterr().out.split())
    on_card = html.unescape("\n".join(getattr(child, "value", "") for child in card.children))
    for sentence in c.summary[: -len(c.findings)]:
        for face in (on_card, body, on_page, in_terminal):
            assert sentence in face, sentence
    for finding in map(in_plain_words, c.findings):
        assert finding.sentence in on_card and finding.sentence in body and finding.sentence in on_page
    for rows in (tables.variants(c), tables.pairs(c)):
        assert cells(rows) in rows_of(page)
        for cell in (one for row in rows.cells for one in row):
            assert cell in on_card and cell in body and cell in in_terminal, cell
    on_pages = [
        shape_of(data) for shown in (page, open_page(page="Curves"), open_page(page="Explore")) for data in drawn(shown)
    ]
    for (words, figure), chart in zip(figures.in_full(c), card.charts, strict=True):
        assert data_of(chart.figure) == data_of(figure) and data_of(figure) in in_report
        assert words in body and words in on_card
        assert shape_of(data_of(figure)) in on_pages
    assert all(words in on_page for words, _ in figures.pictures(c))
    assert data_of(card.charts[-2].figure) == data_of(figures.curves(overlay(c, "val/auc")))
    assert data_of(card.charts[-1].figure) == data_of(across.parallel(c, across.first_axes(c)))
    assert [axis.label for axis in card.charts[-1].figure.data[0].dimensions].count("Validation AUC") == 1
    advice = c.recommend()
    decision = open_page(page="Decision")
    assert advice.sentence in body and advice.sentence in markup(decision)
    assert cells(tables.candidates(advice)) in rows_of(decision)
    card.close()


def test_a_report_says_what_was_counted(compared: Comparison, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 40)
    plain = dls.compare({"A": [0.80, 0.81, 0.83], "B": [0.84, 0.86, 0.85]}, metric="accuracy")
    rows = dls.compare({"A": y, "B": 1 - y}, y_true=y)
    counted = {"Runs": (compared, 9, "paired t"), "Values": (plain, 6, "paired t"), "Rows": (rows, 40, "McNemar")}
    for unit, (c, n, test) in counted.items():
        body, _ = read(reports.report("compare", comparison=c, out=tmp_path / f"{unit}.html"))
        seen = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))
        assert f" {unit} {n} " in seen or f" {n} {unit} " in seen, seen[:1500]
        assert ("trainings" in seen) == ("runs' own records" in seen) == (unit == "Runs")
        assert f"Tests {test} " in seen and "[" not in seen.split("How it was compared")[1]


def test_a_table_says_what_the_comparison_holds(compared: Comparison) -> None:
    rows = tables.variants(compared)
    assert [row[0] for row in rows.cells] == ["wide", "narrow"] and rows.cells[1][-1] == "4"
    (pair,) = compared.comparisons
    (row,) = tables.pairs(compared).cells
    assert row[:2] == (pair.variant, pair.reference) and float(row[2]) == pytest.approx(pair.difference, rel=1e-3)
    low, high = map(float, row[3].split(" to "))
    assert (low, high) == pytest.approx((pair.low, pair.high), rel=1e-3) and row[-1] == pair.verdict
    many = dls.compare({f"v{i}": [0.1 * i, 0.2 * i] for i in range(30)}, metric="accuracy")
    assert len(tables.pairs(many).cells) == tables.MOST_ROWS and "200 of 435" in tables.pairs(many).told
    alone = dls.compare({"A": [0.5]}, metric="accuracy")
    assert tables.variants(alone).cells == (("A", "0.5", "–", "1", "–"),) and tables.pairs(alone).cells == ()
    twins = dls.diff_runs("wide-0", "wide-0")
    assert len(set(tables.differing(twins).heads)) == 4


def test_a_missing_seed_is_named_and_launched_with_its_recipe(
    compared: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = missing_seeds(compared)
    assert (one.variant, one.seed) == ("narrow", 4) and one.recipe is not None
    assert one.recipe.to_dict() == open_run("narrow-0").config | {"seed": 4, "name": None}
    started: list[dls.Recipe] = []

    def launch(recipe: dls.Recipe) -> Any:
        started.append(recipe)
        return open_run("narrow-0")

    monkeypatch.setattr(card_module, "launch", launch)
    card = ComparisonCard(compared)
    assert "narrow: 4" in card.children[2].children[0].value and card.launch.description == "Train it"
    card.launch.click()
    card.launch.click()
    assert started == [one.recipe] and card.launch.disabled and "Started narrow-0" in card.message.value
    card.close()


def test_a_launch_that_fails_is_said_beside_the_button_and_tried_again(
    compared: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(recipe: dls.Recipe) -> Any:
        raise DLStudioError("a device", EVIL, "Wait.")

    monkeypatch.setattr(card_module, "launch", refuse)
    card = ComparisonCard(compared)
    card.launch.click()
    assert html.escape(EVIL) in card.message.value and EVIL not in card.message.value
    assert not card.launch.disabled and card.launched == []
    card.close()


def test_what_cannot_be_trained_again_is_not_offered(fresh_home: Path) -> None:
    for seed in range(2):
        with record(f"own-{seed}", config={"seed": seed, "lr": 0.1}, tags={"variant": "own"}) as rec:
            rec.log({"val/auc": 0.5 + seed / 10}, step=1)
    logged("recipe", 0, 0.5)
    logged("frame", 1, 0.6, data="DataFrame (100 × 3)")
    found = {(one.variant, one.seed): one for one in missing_seeds(dls.compare(metric="val/auc"))}
    assert set(found) == {("recipe", 1), ("frame", 0)}
    assert found["recipe", 1].recipe is not None
    assert found["frame", 0].recipe is None and "no recipe" in found["frame", 0].why_not
    assert missing_seeds(dls.compare({"A": {0: 1.0, 1: 2.0}, "B": {0: 1.0}}, metric="auc"))[0].recipe is None


def test_what_trains_already_or_diverged_is_not_trained_again(fresh_home: Path) -> None:
    for seed in range(4):
        logged("full", seed, 0.5 + seed / 10)
    logged("part", 0, 0.5)
    logged("part", 1, math.nan)
    running = RunFolder.create(
        "part-2", kind="launch", config={**open_run("part-0").config, "seed": 2}, tags={"variant": "part"}
    )
    running.set_status("RUNNING", worker=process.identity())
    found = {one.seed: one for one in missing_seeds(dls.compare(metric="val/auc"))}
    assert found[1].why_not == "it was trained and diverged" and found[1].recipe is None
    assert found[2].why_not == "it is training already" and found[2].recipe is None
    assert found[3].recipe is not None and found[3].recipe.seed == 3
    # Nor does a comparison offer it that was not asked about the run that goes on.
    names = [f"full-{seed}" for seed in range(4)] + ["part-0"]
    chosen = {one.seed: one for one in missing_seeds(dls.compare(names, metric="val/auc"))}
    assert chosen[2].why_not == "it is training already" and chosen[3].recipe is not None
    running.set_status("FAILED", reason="broke")
    again = {one.seed: one for one in missing_seeds(dls.compare(names, metric="val/auc"))}
    assert again[2].recipe is not None


def test_the_page_starts_a_missing_seed_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dls.Recipe] = []
    monkeypatch.setattr("dlstudio.training.launch.launch", started.append)
    page = open_page()
    (button,) = [one for one in page.button if one.label == "Train the missing seed"]
    button.click().run()
    assert not page.exception and [(one.variant, one.seed) for one in started] == [("narrow", 4)]
    assert "Started already: narrow with seed 4" in markup(page)
    assert not [one for one in page.button if one.label == "Train the missing seed"]
    page.run()
    assert len(started) == 1


def test_the_page_offers_only_variants_that_are_compared(fresh_home: Path) -> None:
    for variant in ("a", "b"):
        for seed in range(2):
            logged(variant, seed, 0.5 + seed / 10)
    with record("tokens", config={"seed": 0, "depth": 3}) as rec:  # of another metric, and of no variant here
        rec.log({"val/perplexity": 12.0}, step=1)
    page = open_page()
    (against,) = [one for one in page.selectbox if one.label == "Compare with"]
    assert against.options == ["all pairs", "a", "b"]
    against.set_value("b").run()
    assert not page.exception and dls.compare(metric="val/auc", reference="b").summary[0] in markup(page)


def test_single_curves_are_drawn_of_every_variant_and_counted(fresh_home: Path) -> None:
    for variant in ("a", "b"):
        for seed in range(40):
            logged(variant, seed, 0.5 + seed / 100)
    found = overlay(None, "val/auc")
    figure = figures.curves(found, bands=False)
    shown = [trace.legendgroup for trace in figure.data]
    assert [shown.count(name) for name in ("a", "b")] == [30, 30]
    assert [note.text for note in figure.layout.annotations] == ["60 of 80 runs"]
    assert not figures.curves(found.only(variants=["a"]), bands=False).layout.annotations


def test_an_overlay_is_shown_in_words_and_a_picture(compared: Comparison) -> None:
    found = dls.overlay(compared, "val/loss", align="epoch")
    card = dls.show(found)
    (chart,) = card.charts
    assert data_of(chart.figure) == data_of(figures.curves(found)) and card.words == found.summary
    assert "9 runs of 2 variants, by epoch" in card.words[0] and "wide 0.15 (n = 5)" in card.words[1]
    card.close()
    once = dls.compare({"A": [0.5, 0.6], "B": [0.7, 0.8]}, metric="auc")
    assert len(figures.in_full(once)) == len(figures.pictures(once)), "plain values have no curves"


def test_the_page_compares_as_it_is_asked(home: Path) -> None:
    page = open_page(reference="narrow", margin=0.2, by="variant")
    c = dls.compare(metric="val/auc", reference="narrow", margin=0.2)
    assert c.comparisons[0].verdict == "equivalent" and c.summary[0] in markup(page)
    assert c.comparisons[0].sentence in markup(page)
    by_run = open_page(by="run", only=[open_run("wide-0").key, open_run("narrow-0").key])
    assert "2 variants were compared" in markup(by_run) and "wide-0 0.84 (n = 1)" in markup(by_run)


def test_limits_decide(compared: Comparison) -> None:
    page = open_page(page="Decision", limits=["val/loss"])
    next(one for one in page.number_input if one.label == "At least").set_value(0.17).run()
    assert not page.exception
    advice = compared.recommend({"val/loss": (0.17, None)})
    assert advice.variant == "narrow" and advice.sentence in markup(page)


@pytest.mark.parametrize("align", ["step", "epoch", "wall"])
def test_curves_are_those_of_the_overlay(compared: Comparison, align: Any) -> None:
    page = open_page(page="Curves", align=align)
    (data,) = drawn(page)
    expected = data_of(figures.curves(overlay(compared, "val/auc", align=align)))
    assert shape_of(data) == shape_of(expected)
    assert {trace["name"] for trace in data if trace.get("name")} == {"wide (n = 5)", "narrow (n = 4)"}


def test_trade_offs_are_those_of_the_front(compared: Comparison) -> None:
    page = open_page(page="Trade-offs", objectives=["val/auc", "val/loss"])
    found = dls.pareto(compared, {"val/auc": "max", "val/loss": "min"})
    assert found.summary[0] in markup(page) and cells(tables.members(found)) in rows_of(page)


def test_exploring_draws_and_turns_the_runs(compared: Comparison) -> None:
    ((lines,),) = drawn(open_page(page="Explore"))
    assert lines["type"] == "parcoords" and lines["dimensions"][-1]["label"] == "Validation AUC"
    (points,) = drawn(open_page(page="Explore", view="Scatter matrix"))
    assert [trace["name"] for trace in points] == ["wide", "narrow"]
    turned = open_page(page="Explore", view="Pivot table", across="seed").dataframe[0].value
    assert turned.loc["wide", "3"] == pytest.approx(AUC["wide"][3]) and math.isnan(turned.loc["narrow", "4"])


def test_two_runs_are_laid_side_by_side(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = open_run("wide-0").key, open_run("narrow-1").key
    found = dls.diff_runs(a, b)
    page = open_page(page="Two runs", a=a, b=b)
    assert found.differing("config")["seed"] == ("0", "1")
    assert cells(tables.differing(found)) in rows_of(page)
    assert cli.main(["compare", a, b, "--diff"]) == 0
    in_terminal = " ".join(capsys.readouterr().out.split())
    card = dls.show(found)
    for sentence in found.summary:
        assert sentence in markup(page) and sentence in in_terminal and sentence in card.words
    assert cli.main(["compare", a, b, "--diff", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"section": "config", "item": "seed", "a": "0", "b": "1", "differs": True} in told["items"]
    card.close()


def test_the_terminal_writes_every_number_as_json(compared: Comparison, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "--metric", "val/auc", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (pair,) = told["pairs"]
    (expected,) = compared.comparisons
    assert pair["difference"] == pytest.approx(expected.difference) and pair["verdict"] == expected.verdict
    assert pair["p_equivalent"] is None, "NaN is no JSON"
    assert {one["variant"]: one["missing_seeds"] for one in told["variants"]} == {"wide": [], "narrow": [4]}
    assert told["summary"] == list(compared.summary)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "wide-0", "--diff"], "two runs"),
        (["compare", "wide-0", "--filter", "x"], "either runs or a filter"),
        (["compare", "--metric", "val/auk"], "Did you mean 'val/auc'?"),
        (["compare", "wide-0", "narrow-0", "--diff", "--metric", "val/auc"], "--metric"),
        (["compare", "wide-0", "narrow-0", "--diff", "--filter", "x"], "--filter"),
        (["report", "compare", "--run", "wide-0"], "Try --runs A B"),
        (["report", "training", "--run", "wide-0", "--metric", "val/auc"], "--metric"),
        (["report", "training"], "--run RUN"),
    ],
)
def test_wrong_input_is_told_in_one_line(
    home: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and error.startswith("dlstudio: Expected ")


def test_the_terminal_reports_what_it_compares(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["report", "compare", "--runs", "wide-0", "wide-1", "narrow-0", "narrow-1", "--metric", "val/auc"]
    assert cli.main(words) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.parent == home / "reports"
    body, _ = read(path)
    runs = ["wide-0", "wide-1", "narrow-0", "narrow-1"]
    assert dls.compare(runs, metric="val/auc").summary[0] in body


def answers() -> list[Result]:
    """One result of every kind that the notebook shows as words, pictures and tables."""
    rng = np.random.default_rng(0)
    c = dls.compare({"A": [0.81, 0.79, 0.80], "B": [0.84, 0.86, 0.85]}, metric="accuracy")
    table = pd.DataFrame(
        [
            {"layer": layer, "dropout": dropout, "seed": seed, "accuracy": 0.8 + 0.05 * layer + rng.normal(0, 0.01)}
            for layer in (True, False) for dropout in (True, False) for seed in range(4)
        ]
    )  # fmt: skip
    rows = rng.normal(size=(400, 2))
    return [
        c,
        c.recommend(),
        dls.pareto(pd.DataFrame(rows, columns=["auc", "loss"]), {"auc": "max", "loss": "min"}),
        dls.plan_ab_test(baseline=0.1, effect=0.02),
        dls.monitor_ab_test([10, 30], [100, 300], [20, 66], [100, 300]),
        dls.ablate_values(table, metric="accuracy", factors=["layer", "dropout"]),
        dls.find_lr(
            torch.nn.Linear(4, 2),
            loader=[(torch.randn(8, 4), torch.zeros(8, dtype=torch.long))],
            loss=torch.nn.functional.cross_entropy,
            optimizer=torch.optim.SGD,
            progress=False,
            n_steps=30,
        ),
    ]


def test_every_answer_has_words_and_is_shown() -> None:
    for result in answers():
        kind = KINDS[type(result)]
        card = dls.show(result)
        assert card.words == tuple(kind.words(result)) and all(card.words)
        assert len(card.charts) == len(kind.pictures(result)) and repr(card) == "\n".join(card.words)
        card.close()


@pytest.fixture
def evil_home(fresh_home: Path) -> Path:
    """Runs of which every text carries markup."""
    for variant in (EVIL, f"{EVIL} too"):
        for seed in range(3):
            config = {"seed": seed, EVIL: variant, "lr": len(variant)}
            with record(EVIL, config=config, tags={"variant": variant}) as rec:
                rec.log({"val/auc": 0.5 + seed / 10, f"val/{EVIL}": 0.1 * seed, "loss": 1.0}, step=1)
    with pytest.raises(ValueError, match="script"), record(EVIL, config={"seed": 9}, tags={"variant": EVIL}) as rec:
        raise ValueError(EVIL)
    return fresh_home


def inert(text: str) -> bool:
    return "<script>alert" not in text and "<b>x" not in text


def test_no_text_of_a_user_is_interpreted(evil_home: Path, tmp_path: Path) -> None:
    c = dls.compare(metric="val/auc", by="variant")
    assert c.left_out and len(c.variants) == 2
    cards = [dls.show(one) for one in (c, c.recommend(), dls.pareto(c, {"val/auc": "max", "loss": "min"}))]
    keys = [record["key"] for record in c.run_records]
    cards.append(dls.show(dls.diff_runs(keys[0], keys[-1])))
    for card in cards:
        for child in card.children:
            for part in (child, *getattr(child, "children", ())):
                assert inert(getattr(part, "value", "")), part
        for chart in card.charts:
            parts = re.findall(r'"(?:text|name|title|ticktext|label|hovertemplate)":[^{}]*', chart.figure.to_json())
            assert inert("".join(parts).encode().decode("unicode_escape"))
        card.close()
    for figure in (
        across.parallel(c, ["variant", f"config.{EVIL}"]),
        across.scatter_matrix(c, ["value", f"val/{EVIL}"]),
        figures.curves(overlay(c, f"val/{EVIL}")),
    ):
        for trace in figure.data:
            assert inert(str(trace.name)) and inert(str(getattr(trace, "text", ""))), trace
            assert inert(str(getattr(trace, "dimensions", ""))), trace
        assert inert(str(figure.layout))
    written = reports.report("compare", comparison=c, out=tmp_path / "evil.html").read_text()
    body = written.split("<main>")[1].split("</main>")[0]
    assert inert(re.sub(r"<script.*?</script>", "", body, flags=re.S)) and html.escape(EVIL) in body


@pytest.mark.browser
def test_a_reader_compares_in_a_browser(evil_home: Path, free_port: Callable[[], int], page: Any) -> None:
    page.set_default_timeout(PATIENCE_MS)
    c = dls.compare(metric="val/auc")
    server = app.serve("board", port=free_port(), block=False)
    try:
        page.goto(f"{server.url}/compare")
        page.get_by_text("2 variants were compared by loss").wait_for()
        page.get_by_role("combobox", name="Metric").click()
        page.get_by_role("option", name="Validation AUC").click()
        page.get_by_text(c.summary[0]).wait_for()
        page.wait_for_selector(".js-plotly-plot .scatterlayer .trace")
        page.get_by_text(c.comparisons[0].sentence).wait_for()
        margin = page.get_by_role("spinbutton", name="Does not matter up to")
        margin.fill("0.5")
        margin.press("Enter")
        sure = dls.compare(metric="val/auc", margin=0.5)
        assert sure.comparisons[0].verdict == "equivalent"
        page.get_by_text(sure.comparisons[0].sentence).wait_for()
        for name, seen in {
            "Decision": "What this rests on",
            "Curves": "Align by",
            "Trade-offs": "Every run by itself",
            "Explore": "Drag along an axis",
            "Two runs": "Everything recorded",
        }.items():
            tab = page.get_by_role("radio", name=name, exact=True)
            tab.or_(page.get_by_role("button", name=name, exact=True)).click()
            page.get_by_text(seen).first.wait_for(timeout=PATIENCE_MS)
        assert page.locator(".stException").count() == 0
        assert page.dialogs == [] and page.faults == []
        assert page.locator('a[href^="javascript"]').count() == 0
    finally:
        server.stop()


@pytest.mark.browser
def test_a_missing_seed_is_launched_from_a_notebook(compared: Comparison, lab: Any, page: Any, tmp_path: Path) -> None:
    lab("import dlstudio as dls\ndls.show(dls.compare(metric='val/auc'))")
    page.locator(".dls-rows", has_text="narrow").first.wait_for(timeout=PATIENCE_MS)
    page.wait_for_selector(".dls-figure .scatterlayer .trace", timeout=PATIENCE_MS)
    page.screenshot(path=tmp_path / "card.png")
    page.get_by_role("button", name="Train it").click()
    page.get_by_text("Started narrow-s4").wait_for(timeout=PATIENCE_MS)
    frame = list_runs()
    (key,) = frame.loc[frame["name"] == "narrow-s4", "key"]
    run = open_run(key)
    try:
        assert run.config["seed"] == 4 and run.config["variant"] == "narrow" and run.info["kind"] == "launch"
        assert page.faults == []
    finally:
        with contextlib.suppress(DLStudioError):  # it has ended by itself
            run.stop()
        run.wait(120)

"""The view of an ablation follows its runs, and says what its estimates say."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np

import dlstudio as dls
from dlstudio.widgets.ablation import AblationView
from tests.figures.reading import text_of
from tests.tuning.staged import staged, values_of

EVIL = "<b>x</b><script>alert(1)</script>"


def test_it_follows_the_runs_until_the_end(fresh_home: Path) -> None:
    ablation, plan = staged(values_of([0.5, 0.0], 8))
    view = dls.show(ablation)
    assert isinstance(view, AblationView)
    version, table, over = view._news()
    assert (version, over) == (1, False) and {row["state"] for row in table["rows"]} == {"waiting"}
    assert view._news()[0] == 1  # nothing has happened
    while not plan.state().is_over:
        plan.train()
        ablation.spare()
        view._news()
    version, table, over = view._news()
    found = ablation.estimate()
    assert over and view.result == found and version > 5
    for sentence in found.summary:
        assert html.escape(sentence) in view.head.value and sentence in repr(view)
    assert all(html.escape(finding.sentence) in view.head.value for finding in found.findings)
    assert [row["cells"] for row in table["rows"]] == [
        [row.label, row.state, str(row.seed), "" if np.isnan(row.value) else f"{row.value:.5g}"]
        for row in found.runs.itertuples()
    ]
    effects = view.charts[0].figure
    assert effects is not None
    drawn = {x for trace in effects.data for x in np.atleast_1d(trace.x) if trace.mode == "markers"}
    assert set(found.main.difference) <= drawn


def test_its_words_are_shown_as_text(fresh_home: Path) -> None:
    ablation, plan = staged(values_of([0.5]), names=[EVIL])
    plan.train(6)
    view = AblationView(ablation)
    assert html.escape(EVIL) in view.head.value and "<script" not in view.head.value
    assert all("<script" not in text_of(chart.figure) for chart in view.charts if chart.figure is not None)

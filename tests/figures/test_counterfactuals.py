"""The figure of counterfactuals says what the result says, with units, and takes any text."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest

from dlstudio.explain.counterfactuals import Constraints, CounterfactualResult, find_counterfactuals
from dlstudio.figures.counterfactuals import counterfactuals

EVIL = "<b>bold</b><script>alert(1)</script>"
BACKGROUND = np.array([[0, 10, 0], [5, 20, 1], [9, 30, 2], [3, 40, 0]])


def find(**limits: object) -> CounterfactualResult:
    return find_counterfactuals(
        lambda rows: np.column_stack([6.5 - rows[:, 0] - 4 * rows[:, 2], np.zeros(len(rows))]),
        np.array([0, 10, 0]),
        background=BACKGROUND,
        constraints=Constraints(categories={"kind": (0, 1, 2)}, **limits),  # type: ignore[arg-type]
        feature_names=(EVIL, "unused", "kind"),
        class_names=(EVIL, "approved"),
    )


def test_every_change_is_a_cell_and_nothing_else_is() -> None:
    result = find()
    figure = counterfactuals(result)
    assert isinstance(figure, go.Figure) and len(result) >= 2
    texts = [note.text for note in figure.layout.annotations]
    expected = [
        f"{before:g} → {after:g}" for before, after in result.frame()[["before", "after"]].astype(float).to_numpy()
    ]
    assert sorted(texts) == sorted(expected)
    numbers, categories = (np.array(trace.z, dtype=float) for trace in figure.data)
    rows = list(figure.layout.yaxis.ticktext)
    number_row = rows.index("&lt;b&gt;bold&lt;/b&gt;&lt;script&gt;alert(1)&lt;/script&gt;")
    np.testing.assert_allclose(
        numbers[number_row], np.where(result.changed[:, 0], result.shifts[:, 0], np.nan), equal_nan=True
    )
    assert np.isnan(numbers[rows.index("kind")]).all() and "unused" not in rows
    np.testing.assert_array_equal(np.isfinite(categories[rows.index("kind")]), result.changed[:, 2])


def test_axes_carry_units_and_markup_is_inert() -> None:
    figure = counterfactuals(find())
    assert "(units)" in figure.layout.xaxis.title.text and figure.layout.yaxis.title.text == "Column that changes"
    assert figure.data[0].colorbar.title.text == "Shift (units)"
    assert "<script>" not in figure.to_json().replace("\\u003c", "<")


def test_without_counterfactuals_the_figure_gives_the_reason() -> None:
    result = find(immutable=(EVIL, "kind"))
    assert len(result) == 0
    figure = counterfactuals(result)
    assert len(figure.data) == 0
    assert figure.layout.annotations[0].text.replace("<br>", " ") == result.reason


@pytest.mark.parametrize("only", ["kind"])
def test_categories_alone_need_no_scale(only: str) -> None:
    result = find_counterfactuals(
        lambda rows: np.where(rows[:, 0] > 0, "yes", "no"),
        np.array([0]),
        constraints=Constraints(categories={only: (0, 1)}),
        feature_names=(only,),
    )
    assert not counterfactuals(result).data[0].showscale

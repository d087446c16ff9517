"""Slices: what is planted is found and nothing else, every number agrees with scipy, false alarms keep their rate."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats as scipy_stats

from dlstudio.errors import DLStudioError
from dlstudio.results import load, save
from dlstudio.runs.run import Run
from dlstudio.training.checkpoint import load_model
from dlstudio.training.fit import fit
from dlstudio.training.predicted import predictions_of
from dlstudio.training.recipe import Recipe
from dlstudio.trust.embeddings import embeddings_of
from dlstudio.trust.slice_evidence import Population, Tally, p_worse
from dlstudio.trust.slice_result import SliceResult, words
from dlstudio.trust.slice_search import Search
from dlstudio.trust.slices import find_slices
from dlstudio.trust.slicing import cut_columns


def people(n: int = 4000, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "race": rng.choice(["white", "black", "asian"], n, p=[0.7, 0.2, 0.1]),
            "age": rng.integers(18, 90, n),
            "income": np.where(rng.random(n) < 0.1, np.nan, rng.lognormal(size=n)),
            "married": rng.random(n) < 0.5,
            "region": rng.choice(list("abcdef"), n),
        }
    )


def errors(bad: pd.Series, rate: float = 0.1, worse: float = 0.4, seed: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).random(len(bad)) < np.where(bad, worse, rate)).astype(float)


def listed(result: SliceResult) -> set[str]:
    return set(np.array(result.slices)[result.shown])


PLANTED = {
    "region = c": lambda f: f["region"] == "c",
    "race = black and married = True": lambda f: (f["race"] == "black") & f["married"],
    "income is missing": lambda f: f["income"].isna(),
    "race = asian and age ≤ 36": lambda f: (f["race"] == "asian") & (f["age"] <= 36),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_slice_is_found_whole_and_alone(name):
    frame = people(6000)
    frame["age"] = np.repeat(np.arange(1, 101), 60)  # so that the quartiles are known
    frame["age"] = frame["age"].sample(frac=1, random_state=0).to_numpy() + 11
    bad = PLANTED[name](frame)
    result = find_slices(frame, loss=errors(bad))
    assert listed(result) == {name}
    assert sorted(result.rows_of(name)) == np.flatnonzero(bad).tolist()
    assert result.n_redundant > 0, "what contains it, or lies in it, is worse as well"
    assert result.verdict == "slices shown" and result.findings[0].code == "DLS330"


@pytest.mark.parametrize("seed", [20, 22])  # of the second the part has the stronger evidence and is found first
def test_two_planted_slices_and_a_worse_part_of_one(seed):
    frame = people(8000, seed=seed)
    loss = errors(frame["region"] == "c", worse=0.3, seed=100 + seed)
    inner = (frame["region"] == "c") & (frame["race"] == "black")
    loss[inner] = errors(inner, worse=0.8, seed=200 + seed)[inner]
    other = frame["income"].isna()
    loss[other] = errors(other, worse=0.35, seed=300 + seed)[other]
    result = find_slices(frame, loss=loss)
    assert listed(result) == {"region = c", "race = black and region = c", "income is missing"}
    inside = {result.slices[place]: around for place, around in enumerate(result.within) if around >= 0}
    assert {name: result.slices[around] for name, around in inside.items()} == {
        "race = black and region = c": "region = c"
    }
    sentence = next(finding.sentence for finding in result.findings if finding.sentence.startswith("Within"))
    assert "Within region = c, it is worse still where race = black" in sentence


def test_rows_come_with_the_largest_loss_first_and_a_twin_column_adds_nothing():
    frame = people()
    loss = np.random.default_rng(0).gamma(2, 1, len(frame)) + 2.0 * (frame["race"] == "black")
    frame["dark"] = (frame["race"] == "black").astype(int)
    result = find_slices(frame, loss=loss)
    assert len(listed(result)) == 1
    own = loss[result.rows_of(0)]
    assert (np.diff(own) <= 0).all() and result.measure == "mean loss"
    assert result.value[0] == pytest.approx(loss[frame["race"] == "black"].mean(), rel=1e-12)
    assert result.elsewhere[0] == pytest.approx(loss[frame["race"] != "black"].mean(), rel=1e-12)


def test_every_number_of_an_error_rate_agrees_with_scipy():
    frame = people(1500)[["race", "region", "married"]]
    loss = errors(frame["region"] == "c", worse=0.15)
    result = find_slices(frame, loss=loss, max_slices=1000, min_rows=20)
    tested = find_slices(frame, loss=loss, max_slices=1000, min_rows=20, depth=1)
    assert result.n_tested > len(result) > tested.n_tested / 2
    p = {}
    for place, name in enumerate(result.slices):
        own = np.ones(len(frame), dtype=bool)
        for part in name.split(" and "):
            column, value = part.split(" = ")
            own &= frame[column].astype(str) == value
        k, n, other, rest = loss[own].sum(), own.sum(), loss[~own].sum(), (~own).sum()
        table = [[k, n - k], [other, rest - other]]
        p[name] = scipy_stats.fisher_exact(table, alternative="greater").pvalue
        assert (result.n[place], result.value[place]) == (n, k / n)
        assert result.difference[place] == pytest.approx(k / n - other / rest, abs=1e-12)
        assert result.p_value[place] == pytest.approx(p[name], rel=1e-9)
        among = tested.n_tested if " and " not in name else result.n_tested - tested.n_tested
        every = 1 - 0.05 / 2 / among
        exact = [scipy_stats.binomtest(int(x), int(m)).proportion_ci(every) for x, m in ((k, n), (other, rest))]
        low = result.difference[place] - np.hypot(k / n - exact[0].low, exact[1].high - other / rest)
        high = result.difference[place] + np.hypot(exact[0].high - k / n, other / rest - exact[1].low)
        assert (result.low[place], result.high[place]) == pytest.approx((low, high), abs=1e-9)
    assert (result.p_adjusted >= np.minimum(1, 2 * result.p_value)).all()
    single = tested.p_value.min()
    assert tested.p_adjusted[0] == pytest.approx(min(1, single * tested.n_tested)), "Holm's first step"
    place = int(np.flatnonzero(result.p_value == single)[0])
    assert result.p_adjusted[place] == pytest.approx(min(1, 2 * single * tested.n_tested)), "half for intersections"


@pytest.mark.parametrize("draw", ["exponential", "lognormal", "left"])
def test_the_permutation_test_of_a_mean_agrees_with_permutations(draw):
    rng = np.random.default_rng(4)
    size, n = 400, 40
    loss = {"exponential": rng.exponential(size=size), "lognormal": rng.lognormal(size=size)}.get(
        draw, -rng.exponential(size=size)
    )
    loss = loss - loss.mean()
    orders = np.argsort(rng.random((20_000, size)), axis=1)[:, :n]
    means = loss[orders].mean(axis=1)
    for share in (0.5, 0.9, 0.99):
        own = orders[np.argmin(np.abs(means - np.quantile(means, share)))]
        tally = Tally(np.array([n]), np.array([loss[own].sum()]), np.array([(loss[own] ** 2).sum()]))
        rest = np.delete(loss, own)
        simulated = (means >= loss[own].mean() - 1e-12).mean()
        welch = scipy_stats.ttest_ind(loss[own], rest, equal_var=False, alternative="greater").pvalue
        found = p_worse(tally, Population.of(loss), is_rate=False)[0]
        assert found == pytest.approx(max(simulated, welch), rel=0.15, abs=0.002)


def searched(rng: np.random.Generator, loss: np.ndarray) -> Search:
    n = len(loss)
    frame = pd.DataFrame({f"c{k}": rng.integers(0, k, n) for k in (2, 3, 4, 6)} | {"x": rng.normal(size=n)})
    cuts, _ = cut_columns(frame, None, 4, 30, strict=False)
    return Search(cuts, loss, depth=2, min_rows=30, threshold=0.0, level=0.95)


@pytest.mark.parametrize("kind", ["rare errors", "errors", "skewed", "left", "heavy"])
def test_false_alarms_keep_their_rate_and_all_intervals_hold_together(kind):
    rng, n, repetitions = np.random.default_rng(5), 600, 400
    alarms = misses = 0
    for _ in range(repetitions):
        loss = {
            "rare errors": lambda: (rng.random(n) < 0.05).astype(float),
            "errors": lambda: (rng.random(n) < 0.4).astype(float),
            "skewed": lambda: rng.exponential(size=n),
            "left": lambda: -rng.exponential(size=n),
            "heavy": lambda: rng.lognormal(sigma=1.5, size=n),
        }[kind]()
        search = searched(rng, loss)
        alarms += bool(search.shown.any())
        # The tail of such a loss is not in its third moment, so that an upper limit may be too low.
        misses += not ((search.low <= 0) & ((search.high >= 0) | (kind == "heavy"))).all()
    noise = 3 * np.sqrt(0.05 * 0.95 / repetitions)
    assert alarms / repetitions <= 0.05 + noise
    assert misses / repetitions <= 0.05 + noise


def test_a_slice_that_is_only_more_variable_raises_no_alarm():
    rng, alarms = np.random.default_rng(6), 0
    for _ in range(200):
        group = rng.integers(0, 8, 600)
        frame, loss = pd.DataFrame({"group": group}), rng.normal(size=600) * np.where(group == 0, 8, 1)
        alarms += bool(find_slices(frame, loss=loss).shown.any())
    assert alarms / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_no_slice_shown_says_what_could_still_be():
    frame = people(800)
    result = find_slices(frame, loss=errors(frame["age"] < 0))
    assert result.verdict == "no slice shown" and not result.shown.any()
    assert result.findings[0].code == "DLS331"
    assert f"{100 * result.largest_high:.1f} points worse" in result.findings[0].sentence
    assert result.largest_high >= result.high.max() > 0


def test_too_few_rows_are_no_verdict():
    result = find_slices(people(50), loss=np.zeros(50), min_rows=30)
    assert result.verdict == "not enough data" and not len(result) and np.isnan(result.largest_high)
    assert {finding.code for finding in result.findings} == {"DLS332"}
    assert "30 rows or more" in words(result)[1]


def test_a_threshold_asks_for_more_than_any_difference():
    frame = people()
    loss = errors(frame["region"] == "c", worse=0.25)
    gap = find_slices(frame, loss=loss).difference[0]
    assert find_slices(frame, loss=loss, threshold=0.02).verdict == "slices shown"
    assert find_slices(frame, loss=loss, threshold=float(gap)).verdict == "no slice shown"


def test_classes_and_values_have_their_own_loss():
    frame = people(300)
    truth = np.array(["yes", "no"] * 150)
    said = truth.copy()
    said[:30] = "maybe"
    classes = find_slices(frame, truth, said)
    assert (classes.measure, classes.overall) == ("error rate", 0.1)
    values = find_slices(frame, np.linspace(0, 1, 300), np.linspace(0, 1, 300) + 0.5)
    assert (values.measure, values.overall) == ("mean absolute error", pytest.approx(0.5))


def test_rows_without_a_loss_are_counted_and_left_out():
    frame = people()
    bad = frame["region"] == "c"
    loss = errors(bad)
    truth = np.zeros(len(frame), dtype=object)
    said = loss.astype(int).astype(object)
    said[:100] = None
    result = find_slices(frame, truth, said)
    assert (result.n_rows, result.n_dropped) == (len(frame) - 100, 100)
    assert "100 rows without a loss" in " ".join(words(result))
    assert (result.rows_of("region = c") >= 100).all()
    assert frame["region"].to_numpy()[result.rows_of("region = c")].tolist() == ["c"] * int(bad[100:].sum())


def test_columns_that_cannot_be_sliced_are_named():
    frame = people(300)
    frame["name"] = [f"person {row}" for row in range(300)]
    frame["when"] = pd.date_range("2020", periods=300)
    frame["constant"] = 1
    result = find_slices(frame, loss=errors(frame["married"]))
    assert set(result.skipped) == {"name", "when", "constant"} and result.skipped["name"] == "300 different values"
    assert "name (300 different values)" in " ".join(words(result))


def test_the_index_and_odd_types_do_not_matter():
    frame = people(3000)
    loss = errors(frame["region"] == "c")
    plain = find_slices(frame, loss=loss)
    odd = frame.set_index(np.arange(3000)[::-1]).astype({"region": "category", "race": "string", "married": "boolean"})
    before = odd.copy()
    again = find_slices(odd, loss=loss)
    assert again.frame().equals(plain.frame())
    pd.testing.assert_frame_equal(odd, before)


def test_clusters_of_embeddings_are_slices():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [9, 0], [0, 9], [9, 9]])
    cluster = rng.integers(0, 4, 2000)
    points = centres[cluster] + rng.normal(size=(2000, 2))
    result = find_slices(None, loss=errors(pd.Series(cluster == 2)), embeddings=points, n_clusters=4)
    assert len(listed(result)) == 1 and result.slices[0].startswith("embedding cluster ")
    assert sorted(result.rows_of(0)) == np.flatnonzero(cluster == 2).tolist()
    beside = find_slices(people(2000), loss=errors(pd.Series(cluster == 2)), embeddings=points, n_clusters=4)
    assert listed(beside) == listed(result), "and take part in no intersections"


def test_more_slices_than_asked_for_are_counted():
    frame = people(9000)
    loss = errors(frame["region"].isin(["a", "c"]) | frame["income"].isna())
    result = find_slices(frame, loss=loss, max_slices=1)
    assert len(result) == 1 and result.n_unlisted > 0 and result.n_redundant == 0
    assert "beyond those listed" in " ".join(words(result))


def test_three_columns_deep():
    frame = people(12_000)
    bad = (frame["race"] == "black") & frame["married"] & (frame["region"] == "b")
    result = find_slices(frame, loss=errors(bad, worse=0.7), depth=3)
    assert listed(result) == {"race = black and married = True and region = b"}


def test_a_result_is_saved_and_read_back(tmp_path):
    frame = people()
    result = find_slices(frame, loss=errors(frame["region"] == "c"))
    assert load(save(result, tmp_path, "slices")) == result
    table = result.frame()
    assert len(table) == len(result) and table["verdict"].iloc[0] == "worse"
    assert list(table) == [
        "slice", "n", "value", "elsewhere", "difference", "low", "high", "p_value", "p_adjusted", "verdict", "within",
    ]  # fmt: skip
    assert table["p_adjusted"][result.shown].is_monotonic_increasing


def test_words_hold_the_numbers():
    frame = people()
    result = find_slices(frame, loss=errors(frame["region"] == "c"))
    said = words(result)
    assert said[0].startswith("1 slice is shown to be worse than elsewhere")
    assert f"{100 * result.value[0]:.1f} %, against {100 * result.elsewhere[0]:.1f} % elsewhere" in said[1]
    assert f"{result.n_tested:,} slices tested" in said[1] and f"{100 * result.low[0]:.1f} to" in said[1]
    assert any(str(result.n_redundant) in sentence and "share" in sentence for sentence in said)


FRAME = people(100)
ZEROS = np.zeros(100)


def test_values_of_one_name_are_one_slice_and_cells_may_be_lists():
    frame = pd.DataFrame(
        {
            "mixed": [1, "1", True, 2.0] * 50,
            "listed": [[1, 2], [3], [3], None] * 50,
            "same": [[0]] * 200,
            "blank": ["missing", "", 7, None] * 50,
            "kinds": pd.Categorical([1, "1", "b", "b"] * 50, categories=[1, "1", "b"]),
        }
    )
    loss = np.random.default_rng(0).random(200)
    result = find_slices(frame, loss=loss, depth=1, max_slices=100)
    rows = {name: set(result.rows_of(name).tolist()) for name in result.slices}
    own = {
        "mixed = 1": (0, 1), "mixed = True": (2,), "mixed = 2": (3,),
        "listed = [1, 2]": (0,), "listed = [3]": (1, 2), "listed is missing": (3,),
        "blank = missing (group)": (0,), "blank = ''": (1,), "blank = 7": (2,), "blank is missing": (3,),
        "kinds = 1": (0, 1), "kinds = b": (2, 3),
    }  # fmt: skip
    assert len(result.slices) == len(rows)
    assert rows == {name: {row for row in range(200) if row % 4 in at} for name, at in own.items()}
    assert result.skipped == {"same": "every row has the same value"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"loss": np.zeros(99)}, "one for each of 100 rows"),
        ({"y_true": ZEROS}, "y_true and y_pred, or loss"),
        ({"y_true": ZEROS, "y_pred": ZEROS, "loss": ZEROS}, "y_true and y_pred, or loss"),
        ({"y_true": ZEROS, "y_pred": ZEROS[1:]}, "99 predictions"),
        ({"y_true": ["0"] * 100, "y_pred": ZEROS}, "none in y_true"),
        ({"loss": np.where(np.arange(100) == 7, np.inf, 0)}, "finite losses, but got 1 infinite"),
        ({"loss": np.full(100, np.nan)}, "rows with a loss"),
        ({"loss": ["a"] * 100}, "a number for every row"),
        ({"loss": np.linspace(0, 1e200, 100)}, "losses up to 1e.60 in size"),
        ({"loss": ZEROS, "columns": ["rce"]}, "Did you mean 'race'"),
        ({"loss": ZEROS, "columns": []}, "something to slice by"),
        ({"loss": ZEROS, "depth": 4}, "depth up to 3"),
        ({"loss": ZEROS, "min_rows": 1}, "min_rows of 2 or more"),
        ({"loss": ZEROS, "bins": 2.5}, "bins of 2 or more"),
        ({"loss": ZEROS, "level": 95}, "between 0 and 1"),
        ({"loss": ZEROS, "threshold": -1}, "threshold of 0 or more"),
        ({"loss": ZEROS, "threshold": "0.1"}, "threshold of 0 or more"),
        ({"loss": ZEROS, "level": "0.95"}, "between 0 and 1"),
        ({"loss": np.zeros((100, 2))}, "loss of shape"),
        ({"y_true": np.zeros((100, 2)), "y_pred": ZEROS}, "y_true of shape"),
        ({"loss": ZEROS, "embeddings": "last"}, "embeddings of numbers"),
        ({"loss": ZEROS, "embeddings": np.zeros((100, 2))}, "10 different embeddings"),
        ({"loss": ZEROS, "embeddings": np.zeros((90, 2))}, "90 embeddings"),
        ({"loss": ZEROS, "embeddings": np.full((100, 2), np.nan)}, "finite embeddings"),
    ],
)
def test_bad_input_is_refused(arguments, said):
    with pytest.raises(DLStudioError, match=said):
        find_slices(FRAME, **arguments)


def test_a_column_asked_for_that_cannot_be_sliced_is_refused():
    frame = FRAME.assign(name=[f"person {row}" for row in range(100)])
    with pytest.raises(DLStudioError, match="100 different values"):
        find_slices(frame, loss=ZEROS, columns=["name"])
    with pytest.raises(DLStudioError, match="a DataFrame, a run"):
        find_slices(ZEROS, loss=ZEROS)
    with pytest.raises(DLStudioError, match="no column"):
        find_slices(None, loss=ZEROS)
    with pytest.raises(DLStudioError, match="different names"):
        find_slices(pd.concat([FRAME, FRAME], axis=1), loss=ZEROS)


def test_there_is_no_such_slice():
    result = find_slices(people(500), loss=errors(people(500)["married"]))
    with pytest.raises(DLStudioError, match="Did you mean"):
        result.rows_of("married = Tru")
    with pytest.raises(DLStudioError, match="counted from 0"):
        result.rows_of(99)


@pytest.fixture(scope="module")
def mortgage() -> Run:
    return fit(Recipe(data="mortgage", epochs=2, name="slices-mortgage"), progress=False)


def test_a_run_is_sliced_by_what_its_model_sees_and_by_groups(mortgage):
    predicted = predictions_of(mortgage)
    result = find_slices(mortgage, max_slices=200)
    assert result.overall == pytest.approx((predicted.y_true != predicted.y_pred).mean())
    assert (result.data, result.run, result.n_rows) == ("mortgage", mortgage.key, len(predicted))
    assert not any("approve" in name or "reject" in name for name in result.slices), "the outcome is no slice"
    assert any("black" in name for name in find_slices(mortgage, columns="black", min_rows=5).slices)
    for place in range(3):
        assert set(result.rows_of(place)) <= set(predicted.rows)
    assert find_slices(mortgage.name, max_slices=200) == result
    with pytest.raises(DLStudioError, match="a run alone"):
        find_slices(mortgage, y_true=predicted.y_true, y_pred=predicted.y_pred)


def test_images_are_sliced_by_clusters():
    run = fit(Recipe(data="digits", model="cnn", epochs=1, name="slices-digits"), progress=False)
    result = find_slices(run, min_rows=10, n_clusters=5)
    assert result.n_tested and all(name.startswith("embedding cluster ") for name in result.slices)


def test_clusters_of_a_run_are_of_what_its_model_makes_of_rows(mortgage):
    predicted = predictions_of(mortgage)
    found = embeddings_of(mortgage, predicted.dataset, predicted.rows)
    last = [layer for layer in load_model(mortgage).modules() if isinstance(layer, torch.nn.Linear)][-1]
    with torch.no_grad():
        said = last(torch.from_numpy(found).float()).softmax(dim=1)[:, 1]
    np.testing.assert_allclose(said, predicted.y_score, atol=1e-5)
    alone = find_slices(None, predicted.y_true, predicted.y_pred, embeddings=found, n_clusters=4, min_rows=10)
    both = find_slices(mortgage, depth=1, n_clusters=4, min_rows=10, max_slices=500)
    named = find_slices(mortgage, columns=["black"], n_clusters=4, min_rows=10)
    assert both.n_tested > alone.n_tested >= 2 and not any("cluster" in name for name in named.slices)
    assert both.n_tested == find_slices(mortgage, depth=1, embeddings=found, n_clusters=4, min_rows=10).n_tested

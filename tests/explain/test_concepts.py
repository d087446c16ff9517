"""Concepts are found where they were planted, are not found where there are none, and agree with Captum's TCAV."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import torch
from torch import nn

from dlstudio import results
from dlstudio.errors import DLStudioError
from dlstudio.explain.concepts.directions import learn, products_of
from dlstudio.explain.concepts.explain_concepts import describe, explain_concepts
from dlstudio.explain.layers import named_layer

D = 12


class Ignoring(nn.Module):
    """Reads feature 0 upwards and feature 1 downwards, through a curved layer; all others only pass the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(D, D, bias=False)
        self.act = nn.Tanh()
        self.head = nn.Linear(D, 2, bias=False)
        with torch.no_grad():
            self.body.weight.copy_(torch.eye(D) * 0.5)
            self.head.weight.zero_()
            self.head.weight[1, 0], self.head.weight[1, 1] = 2.0, -2.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.body(x)))


def noise(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def showing(feature: int, n: int = 80, seed: int = 0) -> torch.Tensor:
    examples = noise(n, 1000 * feature + seed + 1)
    examples[:, feature] += 3
    return examples


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Ignoring()


@pytest.fixture(scope="module")
def result():
    concepts = {"up": showing(0), "down": showing(1), "ignored": showing(2), "nothing": noise(80, 5)}
    return explain_concepts(
        Ignoring(),
        noise(100),
        concepts=concepts,
        layer="act",
        target=1,
        random=noise(200, 9),
        class_names=("no", "yes"),
    )


def test_planted_concepts_are_found_with_their_direction(result):
    assert result.score[0] == 1 and result.score[1] == 0, "one raises the output in all rows, one lowers it"
    assert list(result.used) == [True, True, False, False]
    assert list(result.frame()["used"]) == [True, True, False, False]
    low, high = result.chance
    assert low < result.score[3] < high and low + high == pytest.approx(1)


def test_accuracy_says_what_the_layer_knows(result):
    assert (result.accuracy[:3] > 0.65).all(), "it can tell what the output ignores"
    assert 0.4 < result.accuracy[3] < 0.6
    assert [finding.code for finding in result.findings] == ["DLS420", "DLS420", "DLS421", "DLS421", "DLS422"]


def test_words_say_it_plainly(result):
    sentences = describe(result)
    assert sentences[0] == "up, down move the output for 'yes' at act, beyond what random examples do."
    assert "towards 'down' lowers the output for 'yes' in 100% of the rows" in sentences[2]
    assert "'ignored' cannot be told from random examples" in sentences[3]


def test_the_result_survives_saving(result, tmp_path):
    path = results.save(result, tmp_path, "concepts")
    assert results.load(path) == result


@pytest.mark.parametrize("kind", ["drawn like random examples", "known to the layer but ignored by the output"])
def test_false_alarms_stay_at_their_level(kind):
    """Without correction one in 20 is allowed; a t test over repeats that share examples gives up to three."""
    p = []
    for seed in range(3):
        concepts = {
            str(at): noise(60, 10_000 * (seed + 1) + at)
            if "drawn" in kind
            else showing(2 + at % 10, 60, 40 * at + seed)
            for at in range(40)
        }
        found = explain_concepts(
            Ignoring(),
            noise(50, seed),
            concepts=concepts,
            layer="act",
            target=1,
            random=noise(150, 77 + seed),
            seed=seed,
        )
        p.append(found.p_value)
        assert not found.used.any(), "none survives the correction for 40 concepts"
    assert (np.concatenate(p) < 0.05).mean() <= 0.10  # 120 of them: 5 % and twice their standard error


def test_directions_are_those_of_ridge_regression(model):
    """The dual form in inner products gives what scikit-learn finds in the space of activations."""
    from sklearn.linear_model import Ridge

    inputs, concept, pool = noise(30).double(), showing(0).double(), noise(100, 3).double()
    model = model.double()
    products = products_of(
        model, inputs, {"c": concept}, pool, named_layer(model, "act"),
        target=1, output=None, class_names=(), n_repeats=10, max_batch=None,
    )  # fmt: skip
    own, common = products.places
    index = np.concatenate([own[:8], common[5:13]])[None]
    scores, decisions = learn(products, index)
    with torch.no_grad():
        activations = torch.tanh(torch.cat([concept, pool]) @ model.body.weight.T).numpy()
        inside = torch.tanh(inputs @ model.body.weight.T)
    used = activations[index[0]]
    strength = ((used - used.mean(0)) ** 2).sum() / len(used)
    ridge = Ridge(alpha=strength).fit(used, np.repeat([1.0, -1.0], 8))
    np.testing.assert_allclose(decisions[0], ridge.predict(activations), atol=1e-9)
    moved = (model.head.weight[1].detach().numpy() @ ridge.coef_) * np.ones(len(inside))
    assert scores[0] == (moved > 0).mean()


def test_scores_equal_captums_tcav(model, tmp_path):
    from captum.concept import TCAV, Classifier, Concept

    class Same(Classifier):
        """The classifier of `learn`, in the space of activations, as TCAV wants it."""

        def __init__(self) -> None:
            pass

        def train_and_eval(self, dataloader, **_):
            parts = [(x, y) for x, y in dataloader]
            x, y = (torch.cat(column).double() for column in zip(*parts, strict=True))
            x = x - x.mean(0)
            sign = 1 - 2 * y
            strength = (x**2).sum() / len(x)
            self.found = x.T @ torch.linalg.solve(x @ x.T + strength * torch.eye(len(x)), sign)

        def weights(self):
            return torch.stack([self.found, -self.found])

        def classes(self):
            return [0, 1]

    class Curved(nn.Sequential):
        """With a second layer, so that rows move differently and scores lie between 0 and 1."""

    torch.manual_seed(4)
    model = Curved(nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2)).eval()
    inputs, concept, pool = noise(64), showing(0, 20), noise(20, 3)
    products = products_of(
        model, inputs, {"c": concept}, pool, named_layer(model, "1"),
        target=1, output=None, class_names=(), n_repeats=6, max_batch=None,
    )  # fmt: skip
    tcav = TCAV(model, ["1"], classifier=Same(), save_path=str(tmp_path))
    between = 0
    for at in range(6):
        chosen = slice(3 * at, 3 * at + 3)
        sets = [Concept(2 * at, "c", [concept[chosen]]), Concept(2 * at + 1, "r", [pool[chosen]])]
        tcav.classifier.classes = lambda at=at: [2 * at, 2 * at + 1]
        tcav.classifier.train_and_eval = lambda loader, at=at, **_: Same.train_and_eval(
            tcav.classifier, [(x, y - 2 * at) for x, y in loader]
        )
        expected = tcav.interpret(inputs, [sets], target=1)[f"{2 * at}-{2 * at + 1}"]["1"]["sign_count"][0]
        found, _ = learn(products, np.concatenate([products.places[0][chosen], products.places[1][chosen]])[None])
        assert found[0] == pytest.approx(float(expected))
        between += 0 < found[0] < 1
    assert between, "at least one score tells rows apart"


def test_swapping_concept_and_random_mirrors_the_score(model):
    products = products_of(
        model, noise(40), {"c": showing(0)}, noise(100, 3), named_layer(model, "act"),
        target=1, output=None, class_names=(), n_repeats=10, max_batch=None,
    )  # fmt: skip
    own, common = products.places
    forth, back = np.concatenate([own[:6], common[:6]]), np.concatenate([common[:6], own[:6]])
    scores, decisions = learn(products, np.stack([forth, back]))
    assert scores[0] == 1 - scores[1]
    np.testing.assert_allclose(decisions[0], -decisions[1], atol=1e-9)


def test_rows_that_do_not_move_count_half(model):
    dead = nn.Sequential(model.body, nn.ReLU(), model.head)
    with torch.no_grad():
        model.body.weight.copy_(torch.eye(D))
    inputs = torch.cat([noise(20).abs(), noise(20)])
    inputs[20:] = -inputs[20:].abs()  # these are cut off behind the first layer
    found = explain_concepts(dead, inputs, concepts={"up": showing(0)}, layer="0", target=1, random=noise(100, 3))
    assert (found.scores == 0.75).all()


def test_the_same_seed_gives_the_same_and_batches_do_not_matter(model):
    options = {
        "concepts": {"a": showing(0), "b": noise(50, 5)},
        "layer": model.act,
        "target": 1,
        "random": noise(90, 3),
    }
    first = explain_concepts(model, noise(50), **options)
    again = explain_concepts(model, noise(50), max_batch=7, **options)
    other = explain_concepts(model, noise(50), seed=1, **options)
    np.testing.assert_array_equal(first.scores, again.scores)
    np.testing.assert_array_equal(first.p_value, again.p_value)
    assert not np.array_equal(first.random_scores, other.random_scores)


@pytest.mark.parametrize("kind", ["cnn", "gru", "text"])
def test_other_kinds_of_models(kind):
    generator = torch.Generator().manual_seed(0)
    if kind == "cnn":
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 2))
        rows, layer = torch.randn(60, 1, 8, 8, generator=generator), "0"
        concept = rows + (torch.arange(8) % 2 * 4.0)
    elif kind == "gru":
        from dlstudio.models.gru import GRU

        model, layer = GRU(2, n_channels=3), "recurrent"
        rows = torch.randn(60, 5, 3, generator=generator)
        concept = rows + torch.tensor([2.0, 0, 0])
    else:
        from dlstudio.models.transformer import Transformer

        model, layer = Transformer(2, n_tokens=30, length=6), "reader"
        rows = torch.randint(1, 30, (60, 6), generator=generator)
        concept = torch.cat([torch.full((60, 1), 7), rows[:, 1:]], dim=1)
    found = explain_concepts(model, rows, concepts={"c": concept}, layer=layer, target=1)
    assert found.accuracy[0] > 0.8 and np.isfinite(found.p_value).all()


def test_the_model_is_left_as_found(model):
    model.train()
    model.head.weight.requires_grad_(False)
    model(noise(4)).sum().backward()
    before, grad, state = copy.deepcopy(model.state_dict()), model.body.weight.grad, torch.get_rng_state()
    explain_concepts(model, noise(30), concepts={"c": showing(0)}, layer="act", target=1)
    assert model.training and model.body.weight.grad is grad and not model.head.weight.requires_grad
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert all(torch.equal(before[name], item) for name, item in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


class Reusing(Ignoring):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.body(self.act(x))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": "atc"}, "Did you mean 'act'"),
        ({"layer": nn.Tanh()}, "a layer of this model"),
        ({"target": None}, "target"),
        ({"target": 2}, "targets from 0 to 1"),
        ({"n_random": 5}, "n_random of 6 or more"),
        ({"concepts": {}}, "one concept or more"),
        ({"concepts": {"few": noise(19)}}, "20 concept 'few' or more"),
        ({"concepts": {"odd": torch.zeros(40, D + 1)}}, "concept 'odd' of shape"),
        ({"concepts": {"broken": torch.full((40, D), torch.nan)}}, "finite inputs.*concept 'broken'"),
        ({"random": noise(10)}, "20 random examples or more"),
        ({"model": lambda x: x}, "torch.nn.Module with layers"),
        ({"model": Reusing()}, "runs 2 times"),
        ({"target": 0}, "an output that depends on the layer"),
        ({"max_seconds": 1e-9}, "Allow more max_seconds"),
        ({"max_seconds": "long"}, "max_seconds above 0"),
        ({"max_batch": 0}, "max_batch of 1 or more"),
        ({"n_random": 10.0}, "n_random of 6 or more"),
        ({"seed": "a"}, "seed of 0 or more"),
        ({"concepts": [showing(0)]}, "name to examples"),
        ({"concepts": {"none": None}}, "concept 'none'"),
        ({"layer": None}, "known layer names"),
        ({"layer": ["act"]}, "known layer names"),
    ],
)
def test_bad_input_is_answered(change, message, model):
    options = {"model": model, "concepts": {"c": showing(0)}, "layer": "act", "target": 1, "random": noise(90, 3)}
    options |= change
    with pytest.raises(DLStudioError, match=message):
        explain_concepts(options.pop("model"), noise(40), **options)


def test_numpys_numbers_and_one_row_are_fine(model):
    options = {"concepts": {"c": showing(0)}, "layer": "act", "target": 1, "random": noise(90, 3)}
    numbers = {"n_random": np.int64(7), "seed": np.uint8(3), "max_batch": np.int32(16)}
    found = explain_concepts(model, noise(1), **options, **numbers)
    plain = explain_concepts(model, noise(1), **options, **{name: int(number) for name, number in numbers.items()})
    assert found.n_rows == 1 and results.equal(found.scores, plain.scores) and found.scores.shape == (1, 7)


@pytest.mark.parametrize("calls", [1, 4])
def test_it_ends_when_it_is_cancelled(model, calls):
    event, seen = threading.Event(), []

    def count(*_):
        seen.append(1)
        if len(seen) >= calls:
            event.set()

    model.register_forward_hook(count)
    with pytest.raises(DLStudioError, match="time for all rows and examples, but got it was cancelled"):
        explain_concepts(
            model,
            noise(40),
            concepts={"c": showing(0)},
            layer="act",
            target=1,
            max_batch=8,
            cancel=event,
            progress=False,
        )
    assert len(seen) <= max(calls, 2)


def test_it_ends_between_concepts_when_time_is_over(model, monkeypatch):
    from dlstudio.explain.concepts import directions

    now, learned = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    whole = directions.learn

    def slow(products, index):
        now[0] += 20
        learned.append(1)
        return whole(products, index)

    monkeypatch.setattr(directions, "learn", slow)
    concepts = {str(at): noise(40, 50 + at) for at in range(9)}
    with pytest.raises(DLStudioError, match="the 50 s allowed were over"):
        explain_concepts(
            model, noise(40), concepts=concepts, layer="act", target=1, random=noise(90, 3), max_seconds=50
        )
    assert len(learned) == 3


def test_running_out_of_memory_halves_the_batch(model):
    sizes, most = [], [10**9]

    def tight(module, inputs):
        if len(inputs[0]) > most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        sizes.append(len(inputs[0]))

    model.body.register_forward_pre_hook(tight)
    options = {"concepts": {"c": showing(0)}, "layer": "act", "target": 1, "random": noise(90, 3), "progress": False}
    expected = explain_concepts(model, noise(40), **options)
    most[0] = 7
    sizes.clear()
    found = explain_concepts(model, noise(40), **options)
    np.testing.assert_allclose(found.scores, expected.scores)
    assert max(sizes) <= 7
    most[0] = 0
    with pytest.raises(DLStudioError, match="memory for a single row"):
        explain_concepts(model, noise(40), **options)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_a_scripted_model_is_refused():
    scripted = torch.jit.script(nn.Sequential(nn.Linear(D, 2)))
    with pytest.raises(DLStudioError, match="a layer in Python"):
        explain_concepts(scripted, noise(40), concepts={"c": showing(0)}, layer="0", target=1)

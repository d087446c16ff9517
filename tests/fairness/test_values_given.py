"""Rows as people hold them: tensors of any kind, pandas objects in other orders, labels that cannot be told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from dlstudio.data.groups import written_alike
from dlstudio.data.values import as_array, in_one_order
from dlstudio.errors import DLStudioError
from dlstudio.fairness.audit import audit_fairness
from dlstudio.fairness.mitigation.adversarial import train_adversarial
from dlstudio.fairness.mitigation.reweighing import reweigh
from dlstudio.fairness.mitigation.thresholds import group_thresholds
from dlstudio.fairness.mitigation.trade_off import trade_off

N = 400


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Scores are eighths, which every kind of float holds exactly; labels of rows are in no order."""
    generator = np.random.default_rng(0)
    score = generator.integers(0, 9, N) / 8
    found = pd.DataFrame({"score": score, "sex": generator.integers(0, 2, N), "person": np.arange(N) // 4})
    found["y"] = (generator.random(N) < score).astype(int)
    found["said"] = (score > 0.4).astype(int)
    found.index = pd.Index(generator.permutation(N) + 1000)
    return found


def audited(given: Any, **other: Any) -> Any:
    options: dict[str, Any] = {"y_score": given["score"], "sensitive_features": {"sex": given["sex"]}} | other
    return audit_fairness(given["y"], given["said"], n_resamples=100, **options)


# -- tensors -----------------------------------------------------------------------------------------------------------

KINDS = {
    "bfloat16": {"dtype": torch.bfloat16},
    "float16": {"dtype": torch.float16},
    "with a gradient": {"dtype": torch.float32, "requires_grad": True},
    "bfloat16 with a gradient": {"dtype": torch.bfloat16, "requires_grad": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_of_any_kind_are_the_numbers_they_hold(frame: pd.DataFrame, kind: str) -> None:
    columns = {name: frame[name].to_numpy() for name in frame}
    tensors = {name: torch.tensor(values.tolist(), **KINDS[kind]) for name, values in columns.items()}
    for name, tensor in tensors.items():
        expected = tensor.detach().float().numpy()
        np.testing.assert_array_equal(as_array(tensor), expected)
        np.testing.assert_array_equal(as_array(list(tensor)), expected)
        assert as_array(tensor, np.float64).dtype == np.float64, name
    audit = audited(tensors, clusters=tensors["person"])
    expected = audited(columns, clusters=as_array(tensors["person"]))
    pd.testing.assert_frame_equal(audit.gaps, expected.gaps)
    pd.testing.assert_frame_equal(audit.by_group, expected.by_group)
    assert audit.group_names == (("0", "1"),)

    y, score, sex = (tensors[name] for name in ("y", "score", "sex"))
    plain = columns["y"], columns["score"], columns["sex"]
    np.testing.assert_array_equal(reweigh(y, sex), reweigh(plain[0], plain[2]))
    found = group_thresholds(y, score, sex)
    assert found == group_thresholds(*plain)
    np.testing.assert_array_equal(found.predict(score, sex), found.predict(plain[1], plain[2]))
    traded = trade_off(y, score, sensitive_features=sex, variants={"same": score}, n_points=3)
    assert traded == trade_off(*plain[:2], sensitive_features=plain[2], variants={"same": plain[1]}, n_points=3)


def test_probabilities_of_every_class_may_be_half_precise(frame: pd.DataFrame) -> None:
    both = torch.tensor(np.stack([1 - frame["score"], frame["score"]], axis=1)).bfloat16().requires_grad_()
    arrays = {name: frame[name].to_numpy() for name in frame}
    pd.testing.assert_frame_equal(audited(arrays, y_score=both).gaps, audited(arrays).gaps)


# -- orders of rows ----------------------------------------------------------------------------------------------------


def test_rows_with_labels_go_by_these(frame: pd.DataFrame) -> None:
    other, third = (frame.sample(frac=1, random_state=seed) for seed in (1, 2))
    assert not other.index.equals(frame.index) and not third.index.equals(other.index)
    arrays = {name: frame[name].to_numpy() for name in frame}
    expected = audited(arrays, clusters=arrays["person"])
    for sensitive in (third[["sex"]], third["sex"], {"sex": third["sex"]}):
        audit = audit_fairness(
            frame["y"], other["said"], y_score=third["score"], sensitive_features=sensitive, clusters=other["person"],
            n_resamples=100,
        )  # fmt: skip
        pd.testing.assert_frame_equal(audit.gaps, expected.gaps)
        pd.testing.assert_frame_equal(audit.by_group, expected.by_group)
        np.testing.assert_array_equal(audit.codes, expected.codes)
        np.testing.assert_array_equal(audit.options["clusters"], expected.options["clusters"])

    found = group_thresholds(frame["y"], other["score"], third["sex"])
    plain = group_thresholds(arrays["y"], arrays["score"], frame["sex"])
    assert found == plain
    np.testing.assert_array_equal(
        found.predict(frame["score"], other[["sex"]]), found.predict(arrays["score"], frame[["sex"]])
    )
    np.testing.assert_array_equal(reweigh(frame["y"], other["sex"]), reweigh(arrays["y"], arrays["sex"]))
    traded = trade_off(
        frame["y"], other["score"], sensitive_features=third[["sex"]], variants={"same": other["score"]}, n_points=3
    )
    straight = trade_off(
        arrays["y"], arrays["score"], sensitive_features=frame[["sex"]], variants={"same": arrays["score"]}, n_points=3
    )
    assert traded == straight, "also the variants that it keeps to ask again"


def test_what_has_no_labels_goes_by_position(frame: pd.DataFrame) -> None:
    arrays = {name: frame[name].to_numpy() for name in frame}
    audit = audit_fairness(frame["y"], arrays["said"], sensitive_features=frame[["sex"]])
    pd.testing.assert_frame_equal(
        audit.gaps, audit_fairness(arrays["y"], arrays["said"], sensitive_features={"sex": arrays["sex"]}).gaps
    )
    counted = audit_fairness(frame["y"], pd.Series(arrays["said"]), sensitive_features=pd.DataFrame(arrays)[["sex"]])
    pd.testing.assert_frame_equal(audit.gaps, counted.gaps)
    repeated = frame.set_axis(np.arange(N) // 2)
    assert len(audit_fairness(repeated["y"], repeated["said"], sensitive_features=repeated[["sex"]])) == N


def test_labels_that_differ_are_told(frame: pd.DataFrame) -> None:
    y, said, sex = frame["y"], frame["said"], frame[["sex"]]
    with pytest.raises(DLStudioError, match="400 rows of y_pred that y_true does not have, such as other"):
        audit_fairness(y, said.rename(index="other {}".format), sensitive_features=sex)
    shuffled = frame.set_axis(np.random.default_rng(3).permutation(N))
    bare = pd.Series(said.to_numpy())  # in the order of the others, or by their numbers?
    with pytest.raises(DLStudioError, match="y_pred and y_true, but got row numbers in another order"):
        audit_fairness(shuffled["y"], bare, sensitive_features=shuffled[["sex"]])
    with pytest.raises(DLStudioError, match="y_true and sensitive_features, but got 1 row .* such as 7"):
        audit_fairness(y, said, sensitive_features=sex.rename(index={sex.index[3]: 7}))
    twice = frame.set_axis(np.arange(N) // 2)
    with pytest.raises(DLStudioError, match="labels that repeat, in another order in y_pred"):
        audit_fairness(twice["y"], twice["said"][::-1], sensitive_features=twice[["sex"]])
    with pytest.raises(DLStudioError, match="in one order of rows, as y_pred has no labels"):
        audit_fairness(y, said.to_numpy(), sensitive_features=sex[::-1])
    with pytest.raises(DLStudioError, match="400 targets and 399 predictions"):
        audit_fairness(y, said[1:], sensitive_features=sex)


def test_one_order_leaves_all_else_as_it_was() -> None:
    given = {"a": [1, 2], "b": None, "c": "race", "d": pd.Series([1, 2]), "e": {"f": np.zeros(2)}}
    assert all(one is other for one, other in zip(in_one_order(**given), given.values(), strict=True))


# -- labels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [np.array(["no", "yes"] * 20), ["no", "yes"] * 20, pd.Series(["no", "yes"] * 20)])
def test_text_is_no_target_of_an_adversary(targets: Any) -> None:
    x, sex = np.zeros((40, 3), dtype=np.float32), np.arange(40) // 20
    with pytest.raises(DLStudioError, match="numbers as targets, but got .*Number them from 0, classes"):
        train_adversarial(nn.Linear(3, 2), x, targets, sex, epochs=1, progress=False)
    with pytest.raises(DLStudioError, match="numbers as inputs"):
        train_adversarial(nn.Linear(3, 2), np.full((40, 3), "a"), np.arange(40) % 2, sex, epochs=1, progress=False)


def test_an_adversary_takes_tensors_with_a_gradient_and_rows_in_other_orders() -> None:
    generator = np.random.default_rng(0)
    table = pd.DataFrame(generator.normal(size=(40, 3)).astype(np.float32), index=100 + generator.permutation(40))
    y, sex = pd.Series(np.arange(40) % 2, index=table.index), pd.Series(np.arange(40) // 20, index=table.index)
    model = nn.Linear(3, 2)
    x = (torch.tensor(table.to_numpy()).requires_grad_() * 1.0).bfloat16().float()
    options = {"epochs": 2, "progress": False}
    _, expected = train_adversarial(model, x.detach(), y.to_numpy(), sex.to_numpy(), **options)
    assert train_adversarial(model, x, torch.tensor(y.to_numpy()), sex.to_numpy(), **options)[1] == expected
    rounded = pd.DataFrame(x.detach().numpy(), index=table.index)
    assert train_adversarial(model, rounded, y.sort_index(), sex[::-1], **options)[1] == expected


@pytest.mark.parametrize("label", [{"a": 1}, ["a"], {1}])
def test_clusters_that_cannot_be_told_apart_are_told(frame: pd.DataFrame, label: Any) -> None:
    labels = np.empty(N, dtype=object)
    labels[:] = [label] * N
    with pytest.raises(DLStudioError, match="labels of clusters that can be told apart, but got unhashable"):
        audited(frame, clusters=pd.Series(labels, index=frame.index))


@pytest.mark.parametrize(
    ("values", "alike"),
    [
        ([1, "1", 1.0, 2], {"1": ("1", "'1'")}),
        ([True, "True", "no"], {"True": ("True", "'True'")}),
        (["a × b", "a x b", "c"], {"a x b": ("'a × b'", "'a x b'")}),
        (pd.Categorical([1, "1", 2], categories=[1, 2, "1", "2"]), {"1": ("1", "'1'")}),
        ([1, 1.0, 2, None, np.nan], {}),
        ([1, True, "missing", None], {}),
        (["1", "2"], {}),
        (np.array([1, 2]), {}),
        (np.array([True, False]), {}),
        (pd.Series(["a", None], dtype="string"), {}),
    ],
)
def test_values_that_are_written_alike_are_found(values: Any, alike: dict[str, tuple[str, ...]]) -> None:
    assert written_alike(values) == alike


def test_an_audit_says_that_values_written_alike_are_one_group(frame: pd.DataFrame) -> None:
    mixed = pd.Series([1, "1", 2, True] * (N // 4), dtype=object, index=frame.index)
    audit = audit_fairness(
        frame["y"], frame["said"], sensitive_features={"who": mixed, "sex": frame["sex"]}, intersections=1
    )
    assert audit.group_names[0] == ("1", "2", "True") and len(audit.rows_of("who", "1")) == N // 2
    (found,) = [finding for finding in audit.findings if finding.code == "DLS310"]
    assert found.sentence == (
        "Different values of who that are written alike were taken as one group: 1 and '1' are the group 1."
    )
    assert found.evidence["groups"] == {"1": ["1", "'1'"]} and found.sentence in " ".join(audit.summary)
    plain = audit_fairness(frame["y"], frame["said"], sensitive_features=frame[["sex"]])
    assert not any(finding.code == "DLS310" for finding in plain.findings)

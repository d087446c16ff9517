"""Results survive the way through a file, and a file that is not right is refused by name."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlstudio import results
from dlstudio.errors import DLStudioError


@dataclass(frozen=True, kw_only=True, eq=False)
class Gap(results.Result, schema=3):
    anything: Any = None

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame({"anything": [self.anything]})


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner)
    | st.dictionaries(st.integers(), inner),
    max_leaves=12,
)  # fmt: skip


@given(plain)
@settings(max_examples=80, deadline=None)
def test_any_plain_value_comes_back_as_it_was(tmp_path_factory, item):
    folder = tmp_path_factory.mktemp("any")
    back = results.load(results.save(Gap(anything=item), folder, "gap"))
    assert results.equal(back.anything, item)
    assert type(back.anything) is type(item)


def test_nan_and_infinities_survive_in_numbers_and_in_arrays(tmp_path):
    array = np.array([1.5, np.nan, np.inf, -np.inf], np.float32)
    path = results.save(Gap(anything={"x": float("nan"), "y": -math.inf, "a": array}), tmp_path, "gap")
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    back = results.load(path).anything
    assert math.isnan(back["x"]) and back["y"] == -math.inf
    assert back["a"].dtype == np.float32
    np.testing.assert_array_equal(back["a"], array)


def test_findings_and_numpy_scalars_nest(tmp_path):
    finding = results.Finding(code="DLS101", severity="critical", sentence="The loss is NaN.", evidence={"step": 7})
    item = Gap(anything=(finding, [np.float32(0.5), np.int64(3)]))
    back = results.load(results.save(item, tmp_path, "gap"))
    assert back.anything == (finding, [0.5, 3])
    assert back == Gap(anything=(finding, [0.5, 3])) and back != Gap(anything=(finding, [0.5, 4]))


def test_saving_again_replaces_both_files(tmp_path):
    results.save(Gap(anything=np.zeros(3)), tmp_path, "gap")
    path = results.save(Gap(anything=np.ones(3)), tmp_path, "gap")
    assert len(list(tmp_path.iterdir())) == 2
    np.testing.assert_array_equal(results.load(path).anything, np.ones(3))
    results.save(Gap(anything=1), tmp_path, "gap")
    assert [file.name for file in tmp_path.iterdir()] == ["gap.json"]


def _change(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def test_another_schema_is_refused(tmp_path):
    path = _change(results.save(Gap(anything=1), tmp_path, "gap"), schema=4)
    with pytest.raises(DLStudioError, match="schema 3 of Gap, but got schema 4"):
        results.load(path)


def test_an_unknown_class_names_the_nearest(tmp_path):
    path = _change(results.save(Gap(anything=1), tmp_path, "gap"), type="Findin")
    with pytest.raises(DLStudioError, match="Did you mean 'Finding'"):
        results.load(path)


def test_a_file_cannot_make_dlstudio_import_something_else(tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for module in ("evil_module", "dlstudio.../evil_module", "dlstudio.nowhere"):
        path = _change(results.save(Gap(anything=1), tmp_path, "gap"), type="Evil", module=module)
        with pytest.raises(DLStudioError, match="result class"):
            results.load(path)


def test_a_pickled_array_is_refused(tmp_path):
    path = results.save(Gap(anything=np.zeros(3)), tmp_path, "gap")
    array_file = next(tmp_path.glob("*.npz"))
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(marker),)

    np.savez(array_file, **{"0": np.array([Evil()], dtype=object)}, allow_pickle=True)
    with pytest.raises(DLStudioError, match="arrays of gap.json"):
        results.load(path)
    array_file.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DLStudioError, match="arrays of gap.json"):
        results.load(path)
    assert not marker.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}', '{"format": "dlstudio.result"}'])
def test_garbage_is_refused(tmp_path, text):
    path = tmp_path / "gap.json"
    path.write_text(text)
    with pytest.raises(DLStudioError):
        results.load(path)


def test_fields_that_do_not_fit_are_named(tmp_path):
    path = _change(results.save(Gap(anything=1), tmp_path, "gap"), fields={"other": 1})
    with pytest.raises(DLStudioError, match="anything"):
        results.load(path)


def test_what_is_not_plain_is_refused_with_its_place(tmp_path):
    with pytest.raises(DLStudioError, match="DataFrame in 'anything.table'"):
        results.save(Gap(anything={"table": pd.DataFrame()}), tmp_path, "gap")
    with pytest.raises(DLStudioError, match="ndarray"):
        results.save(Gap(anything=np.array([object()])), tmp_path, "gap")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../gap", "a/b", "", ".hidden"])
def test_a_name_cannot_leave_the_folder(tmp_path, name):
    with pytest.raises(DLStudioError, match="plain file name"):
        results.save(Gap(anything=1), tmp_path, name)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(DLStudioError, match="not there"):
        results.load(tmp_path / "gone.json")


def test_a_repr_is_short():
    @dataclass(frozen=True, kw_only=True, eq=False)
    class Told(Gap):
        broken: bool = False

        @property
        def summary(self) -> tuple[str, ...]:
            return (str(1 // (1 - self.broken)) + " is told.", "Then more.")

    @dataclass(frozen=True, kw_only=True, eq=False)
    class Own(Told):
        def __repr__(self) -> str:
            return "mine"

    try:
        assert repr(Told(anything=list(range(9999)))) == "<Told: 1 is told.>"
        assert repr(Told(anything=3, broken=True)) == "<Told: anything=3, broken=True>"
        assert repr(Own()) == "mine" and len(repr(Gap(anything=["x" * 50] * 999))) < 300
        assert repr(Gap(anything=np.arange(3))) == "<Gap: anything=array([0, 1, 2])>"
    finally:
        for cls in (Told, Own):
            results._REGISTRY.pop(cls.__name__)


def test_severity_has_a_fixed_vocabulary():
    with pytest.raises(DLStudioError, match="Did you mean 'warning'"):
        results.Finding(code="DLS101", severity="warnin", sentence="x")


def test_results_are_light():
    heavy = ("pandas", "torch", "plotly", "mlflow")
    code = f"import sys, dlstudio.results; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"

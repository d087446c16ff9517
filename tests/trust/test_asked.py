"""What was asked for is kept as plain values that ask for the same again."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import torch

from dlstudio import results
from dlstudio.trust.asked import asked
from dlstudio.trust.slices import find_slices


def test_options_become_plain_values() -> None:
    found = asked(
        none=None, number=np.float32(0.5), names=("a", "b"), costs={"false_positive": np.int64(5)},
        text=np.array(["x", None], dtype=object), series=pd.Series(["a", None, "b"]), tensor=torch.arange(3),
        frame=pd.DataFrame({"sex": ["f", pd.NA], "age": [1, 2]}), day=datetime.date(2020, 1, 2),
    )  # fmt: skip
    assert results.equal(found, {
        "none": None, "number": 0.5, "names": ["a", "b"], "costs": {"false_positive": 5}, "text": ["x", None],
        "series": ["a", None, "b"], "tensor": np.arange(3),
        "frame": {"sex": ["f", None], "age": np.array([1, 2])}, "day": "2020-01-02",
    })  # fmt: skip


def test_options_survive_a_file_and_answer_alike(tmp_path) -> None:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"side": generator.choice(["left", "right"], 200)})
    loss = (generator.random(200) < 0.2 + 0.4 * (frame["side"] == "left")).astype(int)
    result = find_slices(frame, loss=loss, embeddings=generator.normal(size=(200, 3)), n_clusters=3, min_rows=20)
    back = results.load(results.save(result, tmp_path, "slices"))
    assert back == result and back.options["n_clusters"] == 3
    assert find_slices(frame, **back.options) == result

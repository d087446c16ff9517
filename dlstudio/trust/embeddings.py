"""How the model of a run sees rows: what it makes of them before its last layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlstudio.errors import DLStudioError

if TYPE_CHECKING:
    from dlstudio.data.dataset import Dataset
    from dlstudio.runs.run import Run

__all__ = ["embeddings_of"]

AT_ONCE = 256


def embeddings_of(run: Run, dataset: Dataset, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
    """Return what goes into the last linear layer that the best model of a run calls, (rows, d).

    None where the run has no weights of its own, or no linear layer that is called once for all rows of a batch.
    """
    import torch
    from torch import nn

    from dlstudio.training.checkpoint import load_model

    try:
        model = load_model(run)
    except DLStudioError:
        return None
    seen: list[torch.Tensor] = []
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    found: list[npt.NDArray[Any]] = []
    with torch.inference_mode():
        for start in range(0, len(rows), AT_ONCE):
            some = torch.from_numpy(rows[start : start + AT_ONCE])
            seen.clear()
            model(dataset.inputs[some])
            if not seen or len(seen[-1]) != len(some):
                return None
            found.append(seen[-1].flatten(1).double().numpy())
    return np.concatenate(found)

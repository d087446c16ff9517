"""SHAP's explainers, each as ``method(problem, limit, tick) -> attributions`` (see `dlstudio.explain.from_captum`)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dlstudio.errors import DLStudioError
from dlstudio.explain.problem import Problem

__all__ = ["SHAP"]

Tick = Callable[[], None]


class _Picked(nn.Module):
    """One output of a model, (n, 1), as SHAP computes every output it is shown."""

    def __init__(self, module: nn.Module, at: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module
        self.at = at
        self.dtype = dtype

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        # SHAP's GradientExplainer makes its samples in single precision, whatever comes in.
        outputs: torch.Tensor = self.module(inputs.to(self.dtype))[:, self.at : self.at + 1]
        return outputs


def _by_target(
    problem: Problem, name: str, explain: Callable[[nn.Module, torch.Tensor], npt.NDArray[np.float64]]
) -> torch.Tensor:
    """Explain the rows of every target together."""
    if problem.extra:
        raise DLStudioError(
            f"a model of one input for {name}",
            f"{len(problem.extra)} further inputs that have to stay with their rows",
            "Use integrated_gradients or gradient_shap, which Captum computes with further inputs.",
        )
    found = torch.zeros_like(problem.inputs)
    for at in torch.unique(problem.target).tolist():
        rows = (problem.target == at).nonzero().flatten()
        values = explain(_Picked(problem.module, at, found.dtype), problem.inputs[rows])
        found[rows] = torch.as_tensor(values[..., 0], dtype=found.dtype, device=found.device)
    return found


def shap_deep(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from shap import DeepExplainer

    background = problem.references
    n_parts = max(1, -(-len(background) // max(1, limit // 2)))

    def explain(module: nn.Module, inputs: torch.Tensor) -> npt.NDArray[np.float64]:
        module = copy.deepcopy(module)  # it leaves attributes on every layer
        total = np.zeros((*inputs.shape, 1))
        for part in background.chunk(n_parts):
            tick()
            # Its own check compares with 0.01 in output units, whatever these are; the gate judges by the range.
            values = DeepExplainer(module, part).shap_values(inputs, check_additivity=False)
            total += len(part) / len(background) * values
        return total

    return _by_target(problem, "shap_deep", explain)


def shap_gradient(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from shap import GradientExplainer

    def explain(module: nn.Module, inputs: torch.Tensor) -> npt.NDArray[np.float64]:
        tick()
        explainer = GradientExplainer(module, problem.references, batch_size=max(1, min(limit, 50)))
        seed = int(np.random.randint(2**31))
        values: npt.NDArray[np.float64] = np.asarray(
            explainer.shap_values(inputs, nsamples=problem.n_samples, rseed=seed)
        )
        return values

    return _by_target(problem, "shap_gradient", explain)


def shap_kernel(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
    from shap import KernelExplainer
    from shap.utils._legacy import DenseData

    shape = problem.inputs.shape[1:]
    dtype, device = problem.inputs.dtype, problem.inputs.device
    flat = problem.references.flatten(1).cpu().numpy()
    mask = np.arange(flat.shape[1]) if problem.mask is None else problem.mask.flatten().cpu().numpy()
    groups = [np.flatnonzero(mask == player) for player in range(problem.n_players)]
    data = DenseData(flat, [str(player) for player in range(len(groups))], groups)
    found = torch.zeros(problem.inputs.shape, dtype=torch.float64)
    for at in range(len(problem)):
        tick()
        row = problem.rows(slice(at, at + 1), paired=False)

        def function(inputs: npt.NDArray[np.float64], row: Problem = row) -> npt.NDArray[np.float64]:
            parts = []
            for start in range(0, len(inputs), limit):
                tick()
                batch = torch.as_tensor(inputs[start : start + limit]).to(dtype).to(device).reshape(-1, *shape)
                parts.append(row.values(batch, torch.zeros(len(batch), dtype=torch.int64, device=device)).cpu().numpy())
            return np.concatenate(parts).astype(np.float64)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            explainer = KernelExplainer(function, data)
            # Its default regularisation would zero every feature beyond ten.
            values = explainer.shap_values(
                row.inputs.flatten(1).cpu().numpy(), nsamples=problem.n_samples, l1_reg=0, silent=True
            )
        found[at] = torch.as_tensor(np.asarray(values).reshape(-1)[mask]).reshape(shape)
    return found.to(device)


def _quietly(function: Callable[[Problem, int, Tick], torch.Tensor]) -> Callable[[Problem, int, Tick], torch.Tensor]:
    def run(problem: Problem, limit: int, tick: Tick) -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(problem, limit, tick)

    return run


SHAP = {function.__name__: _quietly(function) for function in (shap_deep, shap_gradient, shap_kernel)}

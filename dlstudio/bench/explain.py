"""What explanations cost and how far they are from exact values, beside Captum and SHAP called directly."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dlstudio.bench.rows import Outcome, Row, row_of
from dlstudio.bench.session import Session, n_threads

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

N_FEATURES, N_BACKGROUND, N_ROWS, ORDERS = 20, 50, 10_000, 500
N_EXACT = 2
"""Rows with exact Shapley values: 2^20 coalitions × 50 background rows each."""
CASE = "20-64-64-2 MLP, 20 features, background of 50"
SHAPLEY = {
    "dlstudio": 100,
    "dlstudio, 500 orders": 100,
    "shap Kernel, 2,048 samples": 4,
    "shap Permutation, 500 evaluations": 4,
    "shap Gradient": 10,
    "shap Deep": 50,
    "captum KernelShap, 2,048 samples, mean baseline": 2,
    "captum DeepLiftShap": 100,
}
"""Who estimates Shapley values, and of how many rows."""
MORE = "dlstudio, 500 orders"
QUICK = ("dlstudio", MORE, "captum DeepLiftShap")
FEW_FEATURES = 6
"""For a quick look only."""
GATED = ("saliency", "deep_lift", "deep_lift_shap", "lrp", "feature_ablation")
"""Methods whose own work is short, or whose hooks want the model traced, so that the gate weighs most."""
MODELS = {"mlp": "mortgage", "cnn": "digits", "gru": "bikes_sequence", "transformer": "reviews"}
N_ROUNDS = {"mlp": 1024, "cnn": 256, "gru": 128, "transformer": 64}
"""Pairs of orders a background row that stand in for exact values where there are too many features for these."""
N_FEW, N_WORDS = 10, 24
"""Background rows, and words of a text, for the models whose one evaluation takes long."""
SEEDS = (2, 3, 4)


def rows(session: Session) -> list[Row]:
    """Measure Shapley values beside everyone who estimates them, integrated gradients, and what the gate adds."""
    whole = session.scale == 1
    size = {"n_features": N_FEATURES if whole else FEW_FEATURES}
    exact = session.measure("explain", how="exact", n_rows=N_EXACT, **size)
    truth = dict(exact.rounds[0]) if exact.rounds else {}
    estimates = {
        name: {"how": name, "n_rows": session.n(n, least=N_EXACT), "truth": truth, **size}
        for name, n in SHAPLEY.items()
        if whole or name in QUICK
    }
    found = session.compare("explain", estimates)
    many = session.n(N_ROWS, least=100)
    gradients = session.compare(
        "explain", {name: {"how": f"{name} IG", "n_rows": many} for name in ("dlstudio", "captum")}
    )
    shares = session.measure("explain", how="gate", n_rows=many)
    table = [
        row_of(f"Shapley values, {CASE}: a row", "ms", found, "row_ms", budget=1.0),
        row_of("the same: largest error, of the output range", "%", found, "error_percent"),
        row_of("the same: attributions miss the output by", "", found, "efficiency", budget=1e-5),
        Row(what=f"the same, {ORDERS} orders: a row", unit="ms", value=found[MORE].median("row_ms")),
        Row(what=f"the same, {ORDERS} orders: largest error", unit="%", value=found[MORE].median("error_percent")),
        row_of(f"integrated gradients, {many:,} rows × {N_FEATURES} features", "s", gradients, "wall_s", budget=3.0),
        row_of("the same: largest completeness gap", "%", gradients, "gap_percent"),
        Row(
            what="the gate's share of the rest: integrated gradients",
            unit="%",
            value=gradients["dlstudio"].median("gate_percent"),
            budget=20.0,
        ),
    ]
    table += [
        Row(
            what=f"the same: {method}, {many:,} rows",
            unit="%",
            value=shares.median(method),
            budget=20.0,
        )
        for method in GATED
    ]
    models = MODELS if whole else {"mlp": MODELS["mlp"]}
    return table + [row for model, data in models.items() for row in _equal_error(session, model, data)]


def _equal_error(session: Session, model: str, data: str) -> list[Row]:
    """Compare with SHAP's explainers on a model of the studio: our time to reach an error no larger than theirs."""
    n_rows, n_seeds = (2, len(SEEDS)) if session.scale == 1 else (1, 1)
    found: Outcome = session.measure(
        "explain", how="equal error", n_rows=n_rows, n_seeds=n_seeds, model=model, data=data
    )
    if found.reason is not None:
        return [Row(what=f"{model} on {data}", unit="ratio", value=found.reason)]
    figures = found.rounds[0]
    names = sorted({key.split(" | ")[0] for key in figures})
    return [
        Row(
            what=f"{model} on {data}, at the error of shap {name} ({figures[f'{name} | error']:.2g} % of the range)",
            unit="of its time",
            value=figures.get(f"{name} | ratio", "not reached"),
            budget=1.0,
        )
        for name in names
    ]


def measure(
    how: str,
    n_rows: int,
    n_features: int = N_FEATURES,
    truth: dict[str, float] | None = None,
    model: str = "",
    data: str = "",
    n_seeds: int = len(SEEDS),
) -> dict[str, float]:
    """Explain `n_rows` rows once, after a first call that imports what it needs.

    Returns:
        ``row_ms``, ``error_percent`` and ``efficiency`` of an estimate of Shapley values; ``wall_s``, ``gap_percent``
        and ``gate_percent`` of integrated gradients; the exact values themselves; or times at equal error.
    """
    import torch

    torch.set_num_threads(n_threads())
    torch.manual_seed(0)
    if how == "equal error":
        return _at_equal_error(model, data, n_rows, SEEDS[:n_seeds])
    network = torch.nn.Sequential(
        torch.nn.Linear(n_features, 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, 2),
    ).eval()
    background, inputs = torch.randn(N_BACKGROUND, n_features), torch.randn(max(n_rows, N_EXACT), n_features)
    if how == "exact":
        values = exact_shapley(network, inputs[:n_rows], background)
        return {f"{row},{at}": float(value) for row in range(n_rows) for at, value in enumerate(values[row])}
    if how.endswith(" IG"):
        return _integrated(how, network, inputs)
    if how == "gate":
        return {method: _gate_percent(method, network, inputs, background) for method in GATED}
    explain = _estimators(network, background)[how]
    explain(inputs[:2])
    start = time.perf_counter()
    values = explain(inputs)
    wall_s = time.perf_counter() - start
    with torch.no_grad():
        change = (network(inputs)[:, 1] - network(background)[:, 1].mean()).double().numpy()
    found = {"row_ms": wall_s / len(inputs) * 1e3, "efficiency": float(abs(values.sum(axis=1) - change).max())}
    if truth:
        off = max(abs(values[int(key.split(",")[0]), int(key.split(",")[1])] - value) for key, value in truth.items())
        found["error_percent"] = float(100 * off / (change.max() - change.min()))
    return found


def exact_shapley(network: nn.Module, inputs: torch.Tensor, background: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return Shapley values (n, d) of output 1 by their definition, over all 2^d coalitions."""
    import math

    import numpy as np
    import torch

    d = inputs.shape[1]
    members = (torch.arange(2**d)[:, None] >> torch.arange(d)) & 1
    sizes = members.sum(dim=1)
    weights = torch.tensor([math.factorial(s) * math.factorial(d - s - 1) / math.factorial(d) for s in range(d)])
    values = np.zeros((len(inputs), d))
    for row, given in enumerate(inputs):
        worth = torch.zeros(2**d, dtype=torch.float64)
        with torch.no_grad():
            for part, players in zip(worth.split(2**16), members.bool().split(2**16), strict=True):
                for other in background:
                    part += network(torch.where(players, given, other))[:, 1]
        worth /= len(background)
        for player in range(d):
            without = (members[:, player] == 0).nonzero().flatten()
            gain = worth[without + 2**player] - worth[without]
            values[row, player] = float((weights.double()[sizes[without]] * gain).sum())
    return values


def _estimators(network: nn.Module, background: torch.Tensor) -> dict[str, Callable[[torch.Tensor], Any]]:
    import numpy as np
    import torch

    from dlstudio.explain.explain import explain

    def value(inputs: Any) -> Any:
        with torch.no_grad():
            return network(torch.as_tensor(inputs, dtype=torch.float32))[:, 1].double().numpy()

    def ours(n_samples: int | None) -> Callable[[torch.Tensor], Any]:
        options: dict[str, Any] = {"method": "shapley", "target": 1, "baselines": background, "progress": False}
        return lambda inputs: explain(network, inputs, n_samples=n_samples, **options).attributions

    def shap(name: str, **options: Any) -> Callable[[torch.Tensor], Any]:
        import shap as library

        def run(inputs: torch.Tensor) -> Any:
            if name == "Kernel":
                explainer = library.KernelExplainer(value, background.numpy())
                return explainer.shap_values(inputs.numpy(), nsamples=2048, l1_reg=0, silent=True)
            if name == "Permutation":
                explainer = library.explainers.PermutationExplainer(value, background.numpy())
                return explainer(inputs.numpy(), max_evals=500, silent=True).values
            explainer = getattr(library, f"{name}Explainer")(network, background)
            return np.asarray(explainer.shap_values(inputs, **options))[..., 1]

        return run

    def captum(name: str) -> Callable[[torch.Tensor], Any]:
        from captum.attr import DeepLiftShap, KernelShap

        def run(inputs: torch.Tensor) -> Any:
            if name == "DeepLiftShap":
                return DeepLiftShap(network).attribute(inputs, background, target=1).detach().numpy()
            method = KernelShap(network)
            return np.concatenate(
                [
                    method.attribute(row[None], background.mean(0, keepdim=True), target=1, n_samples=2048).numpy()
                    for row in inputs
                ]
            )

        return run

    return {
        "dlstudio": ours(None),
        "dlstudio, 500 orders": ours(ORDERS),
        "shap Kernel, 2,048 samples": shap("Kernel"),
        "shap Permutation, 500 evaluations": shap("Permutation"),
        "shap Gradient": shap("Gradient"),
        "shap Deep": shap("Deep", check_additivity=False),
        "captum KernelShap, 2,048 samples, mean baseline": captum("KernelShap"),
        "captum DeepLiftShap": captum("DeepLiftShap"),
    }


def _integrated(how: str, network: nn.Module, inputs: torch.Tensor) -> dict[str, float]:
    import torch
    from captum.attr import IntegratedGradients

    from dlstudio.explain.explain import explain

    with torch.no_grad():
        change = (network(inputs) - network(torch.zeros_like(inputs[:1])))[:, 1].double().numpy()
    output_range = float(change.max() - min(0.0, change.min()))
    found = {}
    for rows in (inputs[:10], inputs):
        start = time.perf_counter()
        if how.startswith("captum"):
            values = IntegratedGradients(network).attribute(rows, target=1, internal_batch_size=8192).detach().numpy()
        else:
            result = explain(network, rows, target=1, method="integrated_gradients", progress=False)
            values = result.attributions
            found["gate_percent"] = 100 * result.gate_s / (result.wall_s - result.gate_s)
        found["wall_s"] = time.perf_counter() - start
    found["gap_percent"] = float(100 * abs(values.sum(axis=1) - change).max() / output_range)
    return found


def _gate_percent(method: str, network: nn.Module, inputs: torch.Tensor, background: torch.Tensor) -> float:
    """Return the gate's share of the rest of an explanation's time."""
    from dlstudio.explain.explain import explain
    from dlstudio.explain.methods import METHODS

    compared: dict[str, Any] = {"baselines": background} if METHODS[method].reference == "background" else {}
    for rows in (inputs[:10], inputs):
        found = explain(network, rows, target=1, method=method, progress=False, **compared)
    return 100 * found.gate_s / (found.wall_s - found.gate_s)


def _at_equal_error(model: str, data: str, n_rows: int, seeds: Sequence[int]) -> dict[str, float]:
    """Time SHAP's explainers on a network of the studio, and ours once it errs no more than they do.

    Both are compared with ours at `N_ROUNDS` pairs of other orders for every background row; errors are means over
    several seeds of the largest error.
    """
    import torch

    from dlstudio.data.load import load
    from dlstudio.explain.sampling.shapley import shapley
    from dlstudio.models.build import build

    dataset = load(data)
    torch.manual_seed(0)
    network = build(model, dataset).eval()
    n_background = N_FEW if model in ("gru", "transformer") else N_BACKGROUND
    inputs, background = dataset.split("test")[0][:n_rows], dataset.split("train")[0][:n_background]
    if model == "transformer":
        inputs, background = inputs[:, :N_WORDS], background[:, :N_WORDS]
    with torch.no_grad():
        at = int(network(inputs).reshape(n_rows, -1).mean(dim=0).argmax())
    shape = inputs.shape[1:]

    def value(batch: torch.Tensor, rows: torch.Tensor | None = None) -> torch.Tensor:
        with torch.no_grad():
            outputs: torch.Tensor = network(batch.reshape(-1, *shape))
        return outputs.reshape(len(batch), -1)[:, at]

    def ours(n_samples: int, seed: int) -> tuple[torch.Tensor, float]:
        start = time.perf_counter()
        found = shapley(value, inputs, background, n_samples=n_samples, seed=seed, max_batch=4096)
        return found.values.flatten(1).double(), (time.perf_counter() - start) / n_rows * 1e3

    most = n_background * 2 * N_ROUNDS[model]
    reference, _ = ours(most, seed=1)
    with torch.no_grad():
        outputs = torch.cat([value(inputs), value(background)])
    scale = float(outputs.max() - outputs.min()) / 100
    figures: dict[str, float] = {}

    def error_of(found: list[tuple[torch.Tensor, float]]) -> float:
        return sum(float((values.flatten(1) - reference).abs().max()) for values, _ in found) / len(found) / scale

    def ms_of(found: list[tuple[torch.Tensor, float]]) -> float:
        return sum(ms for _, ms in found) / len(found)

    for name, theirs in _shap_on(network, at, value, inputs, background, seeds).items():
        figures |= {f"{name} | error": error_of(theirs), f"{name} | theirs_ms": ms_of(theirs)}
        n_samples = 4
        while n_samples <= most // 8:  # the stand-in has to be several times as exact
            found = [ours(n_samples, seed) for seed in seeds]
            if error_of(found) <= error_of(theirs):
                figures |= {f"{name} | ours_ms": ms_of(found), f"{name} | ratio": ms_of(found) / ms_of(theirs)}
                break
            n_samples *= 2
    return figures


def _shap_on(
    network: nn.Module,
    at: int,
    value: Callable[..., torch.Tensor],
    inputs: torch.Tensor,
    background: torch.Tensor,
    seeds: Sequence[int],
) -> dict[str, list[tuple[torch.Tensor, float]]]:
    """Run those of SHAP's explainers that take this network, by several seeds: values (n, ...) and ms a row."""
    import numpy as np
    import shap
    import torch

    flat, table = inputs.flatten(1).numpy(), background.flatten(1).numpy()

    def on_arrays(batch: Any) -> Any:
        return value(torch.as_tensor(batch).to(inputs.dtype)).double().numpy()

    evaluations = max(500, 2 * flat.shape[1] + 1)
    runs: dict[str, Callable[[], Any]] = {
        "Kernel": lambda: shap.KernelExplainer(on_arrays, table).shap_values(flat, l1_reg=0, silent=True),
        "Permutation": lambda: (
            shap.explainers.PermutationExplainer(on_arrays, table)(flat, max_evals=evaluations, silent=True).values
        ),
    }
    if inputs.is_floating_point() and inputs.dim() != 3:  # it has no rules for recurrent networks
        runs["Deep"] = lambda: shap.DeepExplainer(network, background).shap_values(inputs, check_additivity=False)[
            ..., at
        ]
    found: dict[str, list[tuple[torch.Tensor, float]]] = {name: [] for name in runs}
    for seed in seeds:
        np.random.seed(seed)
        for name, run in runs.items():
            start = time.perf_counter()
            values = torch.as_tensor(run()).double().reshape(inputs.shape)
            found[name].append((values, (time.perf_counter() - start) / len(inputs) * 1e3))
    return found

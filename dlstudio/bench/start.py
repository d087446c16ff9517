"""How soon things happen: the import, the return of a launch, the first step, the table of many runs."""

from __future__ import annotations

import time
from importlib import import_module
from typing import TYPE_CHECKING

from dlstudio.bench.rows import Row, row_of
from dlstudio.bench.session import Session

if TYPE_CHECKING:
    from dlstudio.runs.run import Run

IMPORTS = ("torch", "mlflow", "lightning", "accelerate", "wandb", "aim", "trackio", "tensorboard", "tensorboardX")
IMPORT_MS, LAUNCH_MS, FIRST_STEP_S, TABLE_MS = 150.0, 300.0, 3.0, 1_000.0
N_RUNS = 1_000
PATIENCE_S = 120.0


def rows(session: Session) -> list[Row]:
    """Measure the import beside those of the peers, a launch, and the run table."""
    requires = {name: name for name in IMPORTS}
    imports = session.compare(
        "start", {name: {"what": "import", "module": name} for name in ("dlstudio", *IMPORTS)}, requires, "import"
    )
    launch = session.compare("start", {"dlstudio": {"what": "launch"}}, label="launch")["dlstudio"]
    n_runs = session.n(N_RUNS, least=10)
    table = session.compare("start", {"dlstudio": {"what": "table", "n_runs": n_runs}}, label="run table")["dlstudio"]
    return [
        row_of("import", "ms", imports, "import_ms", budget=IMPORT_MS),
        Row(
            what="dls.launch(mortgage, MLP) returns, first in its process",
            unit="ms",
            value=launch.median("launch_ms"),
            budget=LAUNCH_MS,
        ),
        Row(what="the same once more", unit="ms", value=launch.median("again_ms"), budget=LAUNCH_MS),
        Row(
            what="from the call of launch to the first recorded step",
            unit="s",
            value=launch.median("first_step_s"),
            budget=FIRST_STEP_S,
        ),
        Row(what="until a reader in another process sees it", unit="s", value=launch.median("seen_s")),
        Row(what=f"table of {n_runs:,} runs, list_runs()", unit="ms", value=table.median("table_ms"), budget=TABLE_MS),
        Row(what="the same, first in its process (imports pandas)", unit="ms", value=table.median("first_ms")),
    ]


def measure(what: str, module: str = "", n_runs: int = 0) -> dict[str, float]:
    """Time one of ``"import"`` (of `module`), ``"launch"`` and ``"table"`` (of `n_runs`)."""
    if what == "import":
        return _measure_import(module)
    return _measure_launch() if what == "launch" else _measure_table(n_runs)


def _measure_import(module: str) -> dict[str, float]:
    """Import in a fresh interpreter: this one has parts of dlstudio already."""
    import subprocess
    import sys

    code = f"import time; t = time.perf_counter(); import {module}; print((time.perf_counter() - t) * 1e3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {"import_ms": float(done.stdout.splitlines()[-1])}


def _measure_launch() -> dict[str, float]:
    from dlstudio.training.recipe import Recipe

    recipe = Recipe(data="mortgage", model="mlp", epochs=500, device="cpu")
    called, start = time.time(), time.perf_counter()
    # The first use of the public verb imports what it needs; a user waits for that too.
    run: Run = import_module("dlstudio.training.launch").launch(recipe)
    launch_ms = (time.perf_counter() - start) * 1e3
    try:
        first_s = _first_step_s(run)
        seen = time.time()
    finally:
        run.stop()
        run.wait(PATIENCE_S)
    start = time.perf_counter()
    again: Run = import_module("dlstudio.training.launch").launch(recipe.replace(epochs=1))
    again_ms = (time.perf_counter() - start) * 1e3
    again.stop()
    again.wait(PATIENCE_S)
    return {"launch_ms": launch_ms, "again_ms": again_ms, "first_step_s": first_s - called, "seen_s": seen - called}


def _first_step_s(run: Run) -> float:
    """Wait for the first recorded loss; returns when it was recorded, in seconds since the epoch."""
    from dlstudio.telemetry.reader import TelemetryReader

    reader = TelemetryReader(run.folder / "telemetry")
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for key, _, _, times_s in reader.read().scalars:
            if key == "loss":
                return float(times_s[0])
        time.sleep(0.01)
    state = run.state()
    raise AssertionError(f"no step within {PATIENCE_S:g} s; the run is {state.status}: {state.reason}")


def _measure_table(n_runs: int) -> dict[str, float]:
    from dlstudio.runs.folder import FINISHED, RunFolder, write_json
    from dlstudio.runs.run import list_runs

    config = {"data": "mortgage", "model": "mlp", "epochs": 20, "batch_size": 64, "lr": 1e-3, "optimizer": "adamw"}
    latest = {"loss": 0.3, "val/loss": 0.31, "val/accuracy": 0.9, "val/auc": 0.8, "grad_norm": 1.2, "lr": 1e-3}
    for seed in range(n_runs):
        folder = RunFolder.create(f"run-{seed}", kind="launch", config=config | {"seed": seed})
        began = time.time()
        folder.set_status(FINISHED, started=began, ended=began + 20, step=540, latest=latest)
        write_json(folder.path / "catalogue.json", {"entry": {"run_id": f"{seed:032x}"}})
    times_ms = []
    for _ in range(4):
        start = time.perf_counter()
        frame = list_runs()
        times_ms.append((time.perf_counter() - start) * 1e3)
        if len(frame) != n_runs:
            raise AssertionError(f"{len(frame)} of {n_runs} runs are in the table")
    return {"first_ms": times_ms[0], "table_ms": sorted(times_ms[1:])[1]}

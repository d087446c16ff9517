"""What a search costs beside its trainings, and how soon a long study is open."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from dlstudio.bench.rows import Row, row_of
from dlstudio.bench.session import Session

N_TRAININGS, N_TRIALS, N_REPORTS = 40, 2_000, 10
"""Trials of the search that trains, trials of the study that is opened, and reports of each of these."""
OVERHEAD_MS, OPEN_S = 50.0, 2.0
PEER = "plain Optuna"
PATIENCE_S = 300.0
REPEAT = 3
SPACE = {"lr": (1e-4, 1e-1, "log"), "batch_size": [32, 64, 128], "weight_decay": (0.0, 0.1)}


def rows(session: Session) -> list[Row]:
    """Measure the overhead of a trial, and opening a study beside plain Optuna."""
    n_trainings, n_trials = session.n(N_TRAININGS, least=6), session.n(N_TRIALS, least=20)
    trial = session.compare("tune", {"dlstudio": {"what": "trial", "n": n_trainings}}, label="trials")["dlstudio"]
    opened = session.compare("tune", {name: {"what": name, "n": n_trials} for name in ("dlstudio", PEER)})
    own = opened["dlstudio"]
    case = f"a study of {n_trials:,} trials, {N_REPORTS} reports each"
    return [
        Row(
            what="a trial (mortgage, MLP, one epoch), from the end of its training to the start of the next",
            unit="ms",
            value=trial.median("between_ms"),
            budget=OVERHEAD_MS,
        ),
        Row(what="the training itself", unit="ms", value=trial.median("training_ms")),
        Row(
            what=f"a trial of a function that only logs its metric {N_REPORTS} times, all in all",
            unit="ms",
            value=trial.median("empty_ms"),
        ),
        Row(
            what="from the call of tune to the first trial, the worker's imports included",
            unit="s",
            value=trial.median("first_s"),
        ),
        Row(what=f"{case}: opened, with importance and words", unit="s", value=own.median("result_s"), budget=OPEN_S),
        Row(what=f"{case}: the same, first in its process (imports)", unit="s", value=own.median("first_s")),
        row_of(f"{case}: the table of its trials", "s", opened, "table_s"),
    ]


def measure(what: str, n: int) -> dict[str, float]:
    """Time a search of `n` trials (``"trial"``), or opening a study of so many by dlstudio or by plain Optuna."""
    if what == "trial":
        return _measure_trial(n)
    folder = _write_study(n)
    return _open_plainly(folder, n) if what == PEER else _open(folder.name, n)


def _measure_trial(n: int) -> dict[str, float]:
    from dlstudio.training.recipe import Recipe

    called = time.time()
    trained = _searched(Recipe(data="mortgage", model="mlp", epochs=1, device="cpu"), n)
    empty = _searched(only_log, n)
    return {
        # The first training of a worker imports what it needs.
        "between_ms": 1e3 * statistics.median(later[0] - end for (_, end), later in pairwise(trained[1:])),
        "training_ms": 1e3 * statistics.median(end - start for start, end in trained[1:]),
        "empty_ms": 1e3 * statistics.median(later[0] - start for (start, _), later in pairwise(empty[1:])),
        "first_s": trained[0][0] - called,
    }


def only_log(rec: Any, config: Mapping[str, Any]) -> None:
    """Log a metric, as a training would."""
    for step in range(1, N_REPORTS + 1):
        rec.log({"val/loss": float(config["lr"]) + 1 / step}, step=step)


def _searched(what: Any, n: int) -> list[tuple[float, float]]:
    """When each trial of a search began and ended, in seconds since the epoch."""
    from dlstudio.tuning.tune import tune

    search = tune(what, {"lr": (0.9e-3, 1.1e-3)}, metric="val/loss", pruner="median", n_trials=n, workers=1)
    search.wait(PATIENCE_S)
    states = [run.state() for number in range(n) if (run := search.run_of(number)) is not None]
    if len(states) != n or set(search.trials["state"]) - {"complete", "pruned"}:
        raise AssertionError(f"{len(states)} of {n} trials ran; the search is {search.status}: {search.reason}")
    return [(float(state.started or 0), float(state.ended or 0)) for state in states]


def _write_study(n: int) -> Path:
    """A study as the workers of a search leave it: asked for, claimed, reported and told, trial by trial."""
    import numpy as np

    from dlstudio.training.recipe import Recipe
    from dlstudio.tuning.settings import Settings
    from dlstudio.tuning.space import read_space
    from dlstudio.tuning.start import create_folder
    from dlstudio.tuning.storage import open_study

    space = read_space(SPACE, Recipe())
    settings = Settings(
        kind="recipe", name="bench", metrics=("val/loss",), directions=("min",), space=space.to_json(), n_trials=n
    )
    folder = create_folder(settings, kind="search", config={}, tags={})
    study = open_study(settings.storage_in(folder.path), settings.name, directions=settings.directions)
    noise = np.random.default_rng(0).standard_normal((n, N_REPORTS))
    for number in range(n):
        trial = study.ask(space.distributions)
        trial.set_user_attr("run", {"key": f"bench-{number}", "worker": {}})
        best = float(trial.params["lr"]) + 0.3
        for step in range(1, N_REPORTS + 1):
            trial.report(best + 1 / step + 0.01 * float(noise[number, step - 1]), step)
        study.tell(trial, best + 0.01 * float(noise[number, -1]))
    return folder.path


def _open(key: str, n: int) -> dict[str, float]:
    from dlstudio.tuning.search import open_search

    def result_s() -> float:
        start = time.perf_counter()
        result = open_search(key).result()
        found = result.frame(), result.best, result.importance, result.summary
        elapsed_s = time.perf_counter() - start
        if len(found[0]) != n or found[1] is None:
            raise AssertionError(f"{len(found[0])} of {n} trials were read")
        return elapsed_s

    def table_s() -> float:
        start = time.perf_counter()
        _check(open_search(key).trials, n)
        return time.perf_counter() - start

    return {
        "first_s": result_s(),
        "result_s": statistics.median(result_s() for _ in range(REPEAT)),
        "table_s": statistics.median(table_s() for _ in range(REPEAT)),
    }


def _open_plainly(folder: Path, n: int) -> dict[str, float]:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    def table_s() -> float:
        start = time.perf_counter()
        storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
        _check(optuna.load_study(study_name="bench", storage=storage).trials_dataframe(), n)
        return time.perf_counter() - start

    table_s()  # imports pandas
    return {"table_s": statistics.median(table_s() for _ in range(REPEAT))}


def _check(table: Any, n: int) -> None:
    if len(table) != n:
        raise AssertionError(f"{len(table)} of {n} trials are in the table")

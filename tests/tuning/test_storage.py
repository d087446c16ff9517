"""Where studies lie: safe against kills, the same for the same seed, shared by URL."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from dlstudio.errors import DLStudioError
from dlstudio.runs import process
from dlstudio.runs.control import Command
from dlstudio.runs.folder import RunFolder
from dlstudio.runs.run import Run
from dlstudio.tuning import presence, reach, studies
from dlstudio.tuning.coordinator import Coordinator
from dlstudio.tuning.settings import Settings, read_settings
from dlstudio.tuning.space import read_space
from dlstudio.tuning.start import create_folder
from dlstudio.tuning.steering import Steering
from dlstudio.tuning.storage import (
    PRUNERS,
    SAMPLERS,
    Journal,
    Sampler,
    asking,
    make_pruner,
    open_storage,
    open_study,
)
from dlstudio.tuning.studies import SharedStudy, agree, counts, first_failures

SPACE = {"x": FloatDistribution(0.0, 1.0), "c": CategoricalDistribution(["a", "b"])}


def study_at(path: Path, sampler: str = "tpe", seed: int = 0, space: Any = SPACE, **more: Any) -> optuna.Study:
    made = Sampler(sampler, seed, SAMPLERS[sampler])
    made.space = space
    return open_study(str(path), "s", directions=["min"], sampler=made, **more)


def run_trials(study: optuna.Study, n: int, space: Any = SPACE) -> list[dict[str, Any]]:
    params = []
    for _ in range(n):
        trial = study.ask(space)
        params.append(trial.params)
        study.tell(trial, (trial.params["x"] - 0.3) ** 2)
    return params


def test_every_argument_of_the_samplers_and_pruners_is_what_optuna_takes() -> None:
    for name, arguments in PRUNERS.items():
        assert make_pruner(name, arguments) is not None
    assert set(SAMPLERS) == {"tpe", "random", "grid"}
    with pytest.raises(DLStudioError, match="Did you mean 'median'"):
        make_pruner("medain", {})


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_seed_suggests_the_same_also_when_the_study_is_opened_anew(tmp_path: Path, sampler: str) -> None:
    whole = run_trials(study_at(tmp_path / "a", sampler), 16)
    parts = [run_trials(study_at(tmp_path / "b", sampler), n) for n in (3, 9, 4)]
    assert sum(parts, []) == whole
    assert run_trials(study_at(tmp_path / "c", sampler, seed=1), 16) != whole


def test_tpe_finds_what_chance_does_not(tmp_path: Path) -> None:
    errors = {}
    for sampler in ("tpe", "random"):
        found = [run_trials(study_at(tmp_path / f"{sampler}{s}", sampler, seed=s), 30)[15:] for s in range(3)]
        errors[sampler] = sum(abs(p["x"] - 0.3) for params in found for p in params)
    assert errors["tpe"] < errors["random"] / 2


@pytest.mark.parametrize("ends", [(0.4, 0.5), (0.28, 0.31)])
def test_a_range_set_anew_is_searched_from_then_on(tmp_path: Path, ends: tuple[float, float]) -> None:
    study = study_at(tmp_path / "s")
    run_trials(study, 15)
    space = {**SPACE, "x": FloatDistribution(*ends)}
    study.sampler.space = space  # type: ignore[attr-defined]
    after = [params["x"] for params in run_trials(study, 15, space)]
    assert all(ends[0] <= x <= ends[1] for x in after) and len(set(after)) == 15
    nearest = min(max(0.3, ends[0]), ends[1])  # still guided: close to the best place that is left
    assert sorted(abs(x - nearest) for x in after)[7] < 0.2 * (ends[1] - ends[0])


def test_a_wider_range_is_searched_in_all_of_it(tmp_path: Path) -> None:
    study = study_at(tmp_path / "s")
    run_trials(study, 15)
    space = {**SPACE, "x": FloatDistribution(-3.0, 1.0)}
    study.sampler.space = space  # type: ignore[attr-defined]
    after = [params["x"] for params in run_trials(study, 15, space)]
    assert min(after) < 0 and all(-3 <= x <= 1 for x in after)


def test_constraints_are_kept_by_the_sampler(tmp_path: Path) -> None:
    kept = {}
    for limit in (0.6, -1.0):  # x is to be so large at least; without that 0 is best
        study = study_at(tmp_path / f"{limit}")
        xs = []
        for _ in range(40):
            trial = study.ask(SPACE)
            trial.set_constraint("x", limit - trial.params["x"])
            study.tell(trial, trial.params["x"])
            xs.append(trial.params["x"])
        kept[limit] = sum(x >= 0.6 for x in xs[15:])
    assert kept[0.6] >= 10 and kept[-1.0] <= 3


def test_a_line_that_a_killed_writer_left_half_costs_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "s"
    run_trials(study_at(path), 3)
    before = path.read_bytes()
    for torn in (before[:-7], before + b'{"op_code":4,"wor'):
        path.write_bytes(torn)
        study = study_at(path)
        run_trials(study, 1)
        lines = path.read_bytes().splitlines()
        assert all(json.loads(line) for line in lines)
        assert len(study_at(path).trials) >= 4


def test_a_half_line_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal(path)
    journal.append_logs([{"a": 1}])
    with open(path, "ab") as file:
        file.write(b"x" * 100_000)
    journal.append_logs([{"b": 2}])
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == [{"a": 1}, {"b": 2}]
    path.write_bytes(b"y" * 5000)
    journal.append_logs([{"c": 3}])
    assert path.read_bytes() == b'{"c":3}\n'


HOLDER = """
import sys, time
from dlstudio.tuning.storage import asking
with asking(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "s")], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    with open(tmp_path / "s.asking") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # Optuna's own lock would be held for 30 s
    with asking(str(tmp_path / "s")), open(tmp_path / "s.asking") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


WRITER = """
import sys
from optuna.distributions import FloatDistribution
from dlstudio.tuning.storage import Sampler, SAMPLERS, asking, open_study
sampler = Sampler("random", 0, {})
study = open_study(sys.argv[1], "s", directions=["min"], sampler=sampler)
for _ in range(25):
    with asking(sys.argv[1]):
        trial = study.ask({"x": FloatDistribution(0.0, 1.0)})
    study.tell(trial, trial.params["x"])
"""


def test_two_processes_share_a_journal_and_repeat_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path]) for _ in range(2)]
    assert [writer.wait(180) for writer in writers] == [0, 0]
    trials = open_study(path, "s", directions=["min"]).trials
    assert [trial.number for trial in trials] == list(range(50))
    assert all(trial.state == TrialState.COMPLETE for trial in trials)
    assert len({trial.params["x"] for trial in trials}) == 50


def test_a_study_in_a_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = open_study(url, "s", directions=["min", "max"])
    study.tell(study.ask(SPACE), [1.0, 2.0])
    again = open_study(url, "s", directions=["min", "max"])
    assert again.trials[0].values == [1.0, 2.0]
    with pytest.raises(DLStudioError, match="Choose another name"):
        open_study(url, "s", directions=["max", "max"])
    (tmp_path / "study.db").chmod(0o400)
    read_only = f"sqlite:///file:{tmp_path}/study.db?mode=ro&uri=true"
    with pytest.raises(DLStudioError, match="can be written"):
        open_study(read_only, "another", directions=["min"])


def test_a_shared_study_is_of_one_space_and_recipe(tmp_path: Path) -> None:
    study = open_study(str(tmp_path / "s"), "s", directions=["min"])
    mine = {"space": {"x": (0, 1)}, "recipe": {"lr": 0.1}, "metrics": ("val/loss",)}
    agree(study, mine)
    agree(open_study(str(tmp_path / "s"), "s", directions=["min"]), mine)
    for other, complaint in (
        ({"space": {"x": (0, 2)}}, "same space, but"),
        ({"space": {}, "recipe": {"lr": 0.2}}, "same space and recipe, but"),
    ):
        with pytest.raises(DLStudioError, match=complaint):
            agree(study, {**mine, **other})
    foreign = optuna.create_study(storage=open_storage(str(tmp_path / "s")), study_name="foreign")
    agree(foreign, mine)  # one without a trial may be anyone's
    foreign = optuna.create_study(storage=open_storage(str(tmp_path / "s")), study_name="begun")
    foreign.tell(foreign.ask(SPACE), 1.0)
    with pytest.raises(DLStudioError, match="no search of dlstudio"):
        agree(foreign, mine)


def shared(folder: Path, storage: str | None, **options: Any) -> tuple[RunFolder, Settings]:
    space = read_space({"x": (0.0, 1.0)}, None).to_json()
    settings = Settings(
        kind="function", name="s", metrics=("loss",), directions=("min",), space=space, n_trials=3, storage=storage
    )
    return create_folder(settings, kind="search", config={}, tags={}), settings


def test_an_unclaimed_trial_ages_by_the_clock_of_who_looks(
    studio_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, settings = shared(tmp_path, f"sqlite:///{tmp_path}/study.db")
    study = SharedStudy(folder, settings)
    elsewhere = datetime.now() - timedelta(hours=9)  # it was asked for just now, in another time zone
    study.study.add_trial(create_trial(state=TrialState.RUNNING, params={"x": 0.5}, distributions={"x": SPACE["x"]}))
    trial = study.study.get_trials(deepcopy=False)[0]
    monkeypatch.setattr(type(trial), "datetime_start", property(lambda self: elsewhere, lambda self, value: None))
    study.free_stale({}, ())
    assert study.trials()[0].state == TrialState.RUNNING
    now = time.monotonic()
    monkeypatch.setattr(studies.time, "monotonic", lambda: now + 61)
    study.free_stale({}, ())
    assert study.trials()[0].state == TrialState.FAIL and not counts(study.trials()[0])


def test_trials_of_a_machine_that_vanished_are_freed_and_of_one_that_is_there_are_not(
    studio_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, settings = shared(tmp_path, f"sqlite:///{tmp_path}/study.db")
    study, other = SharedStudy(folder, settings), SharedStudy(folder, settings)
    now, host = time.monotonic(), socket.gethostname()
    monkeypatch.setattr(presence.time, "monotonic", lambda: now)

    def claimed(params: dict[str, float]) -> optuna.Trial:
        study.study.enqueue_trial(params)
        trial = study.study.ask(SPACE)
        trial.set_user_attr("run", {"key": "elsewhere", "worker": {"pid": 1, "host": "elsewhere", "boot": "x"}})
        return trial

    def look(hours: float, shows: bool) -> str:
        nonlocal now
        now += 3600 * hours
        if shows:
            monkeypatch.setattr(presence.socket, "gethostname", lambda: "elsewhere")
            other.show_presence()
            monkeypatch.setattr(presence.socket, "gethostname", lambda: host)
        study.show_presence()
        study.free_stale({}, ())
        return study.trials()[0].state.name

    trial = claimed({"x": 0.25})
    assert [look(1, shows=True) for _ in range(3)] == ["RUNNING"] * 3  # the first look only begins to watch
    assert look(presence.GONE_S / 3600 - 0.01, shows=False) == "RUNNING"
    assert look(0.02, shows=False) == "FAIL"
    freed, again = study.trials()
    assert freed.user_attrs["reason"] == "its machine elsewhere is gone" and not counts(freed)
    assert again.state == TrialState.WAITING and again.system_attrs["fixed_params"] == {"x": 0.25}
    study.study.tell(trial, 1.0, skip_if_finished=True)  # it was only asleep: what it says comes too late
    assert study.trials()[0].state == TrialState.FAIL


def test_a_search_waits_for_a_trial_that_nobody_claims_and_has_another_in_its_place(
    studio_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, settings = shared(tmp_path, f"sqlite:///{tmp_path}/study.db")  # of three trials
    coordinator = Coordinator(folder)
    started: list[int] = []
    monkeypatch.setattr(coordinator.crew, "start", started.append)
    study = coordinator.study.study
    for _ in range(2):
        trial = study.ask(SPACE)
        trial.set_user_attr("run", {"key": "gone", "worker": {"pid": 1, "host": "elsewhere"}})
        study.tell(trial, 1.0)
    study.ask(SPACE)  # and the worker is gone
    with coordinator.recorder:
        assert not coordinator._is_over() and not started
        now = time.monotonic()
        monkeypatch.setattr(studies.time, "monotonic", lambda: now + 61)
        assert not coordinator._is_over()  # now it is freed
        assert not coordinator._is_over() and started == [1]
        states = [trial.state for trial in study.get_trials(deepcopy=False)]
        assert states[:3] == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAIL]
        coordinator.crew.release()


def test_a_trial_that_was_stopped_and_did_not_obey_counts_as_stopped(studio_home: Path, tmp_path: Path) -> None:
    folder, settings = shared(tmp_path, None)
    study = SharedStudy(folder, settings)
    steering = Steering(folder, settings, study)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    worker = process.identity(dead.pid)
    dead.wait()
    trial = study.study.ask(SPACE)
    key = RunFolder.create("deaf", kind="trial", config={}).key
    trial.set_user_attr("run", {"key": key, "worker": worker})
    assert steering.stopping_s({dead.pid}) == {}
    steering.carry_out(Command("stop_trial", {"number": 0}))
    steering.follow_up(study.trials())
    (waited,) = steering.stopping_s({dead.pid}).values()
    assert 0 <= waited < 60 and steering.stopping_s({dead.pid + 1}) == {}
    study.free_stale({}, ())
    (row,) = study.trials()
    assert (row.state, row.user_attrs["reason"]) == (TrialState.PRUNED, "stopped on request") and counts(row)


def test_only_trials_that_failed_by_themselves_make_a_search_hopeless() -> None:
    def over(n: int, **attributes: Any) -> list[Any]:
        return [create_trial(state=TrialState.FAIL, user_attrs=attributes) for _ in range(n)]

    assert len(first_failures(over(7, reason="loss was nan"))) == 5
    assert not first_failures(over(4, reason="loss was nan"))
    assert not first_failures(over(9, lost=True)) and not first_failures(over(9, reason="stopped on request"))
    assert not first_failures(over(4) + over(5, lost=True) + over(5, reason="stopped on request"))
    assert not first_failures([*over(9), create_trial(value=1.0)])


def test_every_trial_is_logged_once_whatever_the_clock_of_its_machine(studio_home: Path, tmp_path: Path) -> None:
    folder, _ = shared(tmp_path, None)
    noon = datetime(2026, 1, 1, 12)
    ended = [
        create_trial(value=value, params={"x": value}, distributions={"x": SPACE["x"]}) for value in (0.5, 0.1, 0.3)
    ]
    for number, (trial, hours) in enumerate(zip(ended, (0, -9, 1), strict=True)):
        trial.number, trial.datetime_complete = number, noon + timedelta(hours=hours)
    coordinator = Coordinator(folder)
    with coordinator.recorder:
        for n in (1, 2, 3):
            coordinator._log(ended[:n])
    run = Run(folder)
    assert run.scalars("trial")[1].tolist() == [0, 1, 2] and run.scalars("trial")[0].tolist() == [1, 2, 3]
    assert run.scalars("best/loss")[1].tolist() == [0.5, 0.1, 0.1]


def test_what_a_storage_that_is_away_was_asked_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def ask(error: type[Exception], times: int) -> int:
        asked.append(1)
        if len(asked) <= times:
            raise error("gone")
        return len(asked)

    monkeypatch.setattr(reach.time, "sleep", lambda seconds: None)
    assert reach.patiently(lambda: ask(RuntimeError, 3)) == 4
    for error, patience in ((ValueError, 60.0), (RuntimeError, -1.0)):
        monkeypatch.setattr(reach, "PATIENCE_S", patience)
        asked.clear()
        with pytest.raises(error, match="gone"):
            reach.patiently(lambda error=error: ask(error, 9))
        assert len(asked) == 1


def test_a_password_is_in_no_file_of_the_run(studio_home: Path, tmp_path: Path) -> None:
    url = "postgresql://me:hunter2@host/db?password=hunter2"
    folder, settings = shared(tmp_path, url)
    assert read_settings(folder.path) == settings and settings.storage == url
    inside = [path for path in folder.path.rglob("*") if path.is_file()]
    assert len(inside) >= 3 and not any(b"hunter2" in path.read_bytes() for path in inside)
    secret = folder.home / "secrets" / f"{folder.key}.json"  # which no artifact store copies or serves
    assert url in secret.read_text() and secret.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "url", ["nonsense://host/name", "sqlite:////no/such/folder/study.db", "/no/such/folder/journal.log"]
)
def test_a_storage_that_cannot_be_reached_is_told_at_once(url: str) -> None:
    with pytest.raises(DLStudioError, match="study storage"):
        open_storage(url)


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(DLStudioError) as caught:
        open_storage("nonsense://me:secret@host/name")
    assert "secret" not in str(caught.value)


def test_a_study_behind_a_grpc_server_on_this_machine(tmp_path: Path) -> None:
    from optuna.storages._grpc.server import make_server

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"sqlite:///{tmp_path}/study.db"
    server = make_server(open_storage(url), "127.0.0.1", port, ThreadPoolExecutor(2))
    server.start()
    try:
        study = open_study(f"grpc://127.0.0.1:{port}", "s", directions=["min"])
        study.tell(study.ask(SPACE), 1.0)
        assert open_study(url, "s", directions=["min"]).trials[0].value == 1.0
    finally:
        server.stop(None).wait()

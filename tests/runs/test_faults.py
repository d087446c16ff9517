"""Processes are killed, disks fill up, homes vanish: training goes on and the run tells the truth."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from dlstudio.runs import process
from dlstudio.runs.folder import RunFolder, read_json, write_json
from dlstudio.runs.recorder import record
from dlstudio.runs.run import Run, list_runs, open_run
from tests.waiting import until

VICTIM = """
import sys, threading, time
from dlstudio.runs.recorder import POLL_S, record
late = 0.0
def gauge():  # how much later than it asked to a thread that sleeps as the recorder's does is woken here
    global late
    while True:
        begun = time.monotonic()
        time.sleep(POLL_S)
        late = max(late, time.monotonic() - begun - POLL_S)
threading.Thread(target=gauge, daemon=True).start()
with record("victim") as rec:
    step = 0
    while True:
        rec.log({"x": float(step), "y": -float(step)}, step=step)
        if step % 20 == 0:
            print(step, time.time(), late, flush=True)
        step += 1
        time.sleep(0.001)
"""


def start(code, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("trial", range(20))
def test_a_killed_process_loses_half_a_second_at_most_and_is_told_to_have_failed(trial):
    with start(VICTIM) as victim:
        victim.stdout.readline()
        time.sleep(random.Random(trial).uniform(0.0, 1.6))
        victim.kill()
        killed = time.time()
        printed = [tuple(map(float, line.split())) for line in victim.stdout.read().splitlines()]
    run = open_run("victim")
    assert run.status == "FAILED" and "killed" in run.reason
    steps = run.scalars("x")[0].tolist() if run.keys() else []
    assert steps == list(range(len(steps)))
    late = max((late for *_, late in printed), default=0.0)
    due = [step for step, when, _ in printed if when < killed - 0.5 - 2 * late]  # two turns of a busy processor
    assert not due or steps[-1] >= due[-1]
    if steps:
        assert run.scalars("y")[1].tolist() == [-float(step) for step in steps]


def test_a_killed_reader_or_registrar_does_not_touch_the_run(fresh_home):
    with record("watched") as rec:
        rec.log({"x": 1.0}, step=0)
        registrar = _registrar_of(fresh_home)
        os.kill(registrar, signal.SIGKILL)
        rec.log({"x": 2.0}, step=1)
    run = rec.run.wait(60)
    until(lambda: not list((fresh_home / "active").iterdir()))
    from mlflow.tracking import MlflowClient

    found = MlflowClient(tracking_uri=f"sqlite:///{fresh_home}/mlflow.db").get_run(run.id)
    assert found.info.status == "FINISHED" and found.data.metrics["x"] == 2.0


def _registrar_of(home):
    import psutil

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for candidate in psutil.process_iter(["cmdline"]):
            if candidate.info["cmdline"] and candidate.info["cmdline"][-2:] == ["dlstudio.runs.registrar", str(home)]:
                return candidate.pid
        time.sleep(0.05)
    raise AssertionError("no registrar")


DISK_FULL = """
import json, resource, sys, warnings
from dlstudio.runs.recorder import record
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with record("full") as rec:
        import time
        rec.log({"x": 0.0}, step=0)
        rec.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))  # the file system refuses to grow any file further
        for step in range(1, 20001):
            rec.log({"x": float(step)}, step=step)
        time.sleep(0.6)
print(json.dumps({"n_lost": rec.n_lost, "warnings": [str(w.message) for w in caught if w.category is RuntimeWarning]}))
"""


def test_a_full_disk_costs_telemetry_which_is_counted_and_nothing_else(fresh_home):
    with start(DISK_FULL) as done:
        told = json.loads(done.communicate(timeout=120)[0])
    assert done.returncode == 0
    run = open_run("full")
    steps = run.scalars("x")[0].tolist()
    assert steps == list(range(len(steps))) and run.damage() == []
    # events and machine readings count too, so at least the missing scalars were lost
    assert 20001 - len(steps) <= told["n_lost"] <= 20001 - len(steps) + 30
    assert len(told["warnings"]) == 1 and "Training goes on" in told["warnings"][0]
    assert run.state().n_lost == told["n_lost"] and run.status == "FINISHED"


def test_a_home_that_vanishes_while_training(fresh_home):
    with pytest.warns(RuntimeWarning, match="Training goes on") as caught, record("gone") as rec:
        rec.log({"x": 0.0}, step=0)
        rec.flush()
        # Others write there meanwhile, and what they write between two calls of the system stops `rmtree`.
        until(lambda: shutil.rmtree(fresh_home, ignore_errors=True) or not fresh_home.exists())
        for step in range(1, 100):
            rec.log({"x": 1.0}, step=step)
        time.sleep(0.6)
    assert len(caught) == 1 and rec.n_lost >= 99


def test_a_home_that_cannot_be_made_is_told_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DLSTUDIO_HOME", str(tmp_path / "file" / "home"))
    from dlstudio.errors import DLStudioError

    with pytest.raises(DLStudioError, match="DLSTUDIO_HOME"):
        record("nowhere")


MANY = """
import sys
from dlstudio.runs.recorder import record
number = int(sys.argv[1])
with record(f"many-{number}", config={"number": number}) as rec:
    for step in range(200):
        rec.log({"x": float(number * 1000 + step)}, step=step)
"""


def test_sixteen_processes_make_the_home_and_record_at_once(fresh_home):
    environment = {**os.environ, "DLSTUDIO_HOME": str(fresh_home)}
    started = [subprocess.Popen([sys.executable, "-c", MANY, str(n)], env=environment) for n in range(16)]
    assert [p.wait(120) for p in started] == [0] * 16
    until(lambda: not list((fresh_home / "active").iterdir()))  # a process waits 30 s at most for its entry
    table = list_runs().set_index("name")
    assert len(table) == 16 and set(table["status"]) == {"FINISHED"}
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{fresh_home}/mlflow.db")
    experiment = client.get_experiment_by_name("dlstudio")
    entries = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(entries) == set(table.index)
    for number in range(16):
        run = open_run(f"many-{number}")
        assert run.scalars("x")[1].tolist() == [number * 1000 + step for step in range(200)]
        entry = entries[run.name]
        assert entry.info.status == "FINISHED" and entry.data.params["number"] == str(number)
        assert entry.data.metrics["x"] == number * 1000 + 199


@pytest.fixture
def abandoned(fresh_home):
    """A run whose status still says RUNNING, as its files look when nobody closed it."""

    def make(**worker):
        folder = RunFolder.create("abandoned", kind="record", config={})
        folder.set_status("RUNNING", worker={**process.identity(), **worker})
        return folder

    return make


def test_a_restarted_machine_is_named(abandoned):
    run = Run(abandoned(boot="another boot"))
    assert run.status == "FAILED" and "machine was restarted" in run.reason


def test_a_reused_process_number_is_no_sign_of_life(abandoned):
    run = Run(abandoned(pid_created=1.0))
    assert run.status == "FAILED" and "killed" in run.reason


def test_a_run_elsewhere_is_alive_as_long_as_its_heart_beats(abandoned):
    folder = abandoned(host="another-host")
    assert Run(folder).status == "RUNNING"
    status = read_json(folder.path / "status.json")
    write_json(folder.path / "status.json", {**status, "heartbeat": time.time() - 120})
    run = Run(folder)
    assert run.status == "FAILED" and "lost heartbeat of another-host" in run.reason


def test_a_live_run_is_left_alone(abandoned):
    assert Run(abandoned()).status == "RUNNING"


def test_damaged_files_of_one_run_do_not_hide_the_others(fresh_home):
    with record("good") as good:
        good.log({"x": 1.0})
    with record("bad") as bad:
        bad.log({"x": 1.0})
    (bad.folder / "status.json").write_text("{ half")
    (bad.folder / "control.jsonl").write_text("not json\n")
    assert set(list_runs()["name"]) == {"good", "bad"}
    assert open_run("good").status == "FINISHED"


def test_who_settles_at_the_same_time_as_another_tells_what_that_one_found(fresh_home, monkeypatch):
    with start(VICTIM) as victim:
        victim.stdout.readline()
        victim.kill()
    folder = open_run("victim").folder
    settle, alive = RunFolder.settle, process.is_alive

    def settled_meanwhile(owner):
        monkeypatch.setattr(process, "is_alive", alive)
        settle(RunFolder(folder))
        return alive(owner)

    monkeypatch.setattr(process, "is_alive", settled_meanwhile)
    assert RunFolder(folder).settle()["status"] == "FAILED"

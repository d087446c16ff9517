"""Detached runs: they start, queue, obey, survive, and say how they ended."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
import torch

from dlstudio.errors import DLStudioError
from dlstudio.runs.run import open_run
from dlstudio.training import job as jobs
from dlstudio.training.job import Job
from dlstudio.training.launch import launch
from dlstudio.training.leases import N_CPU_SLOTS, lease, try_lease, wanted_devices
from dlstudio.training.recipe import Recipe
from tests.waiting import until


def counting(rec, config):
    """Count steps until told otherwise; a function of a module that no other process can import by name."""
    for step in range(config["n"]):
        rec.log({"x": float(step * config["scale"])}, step=step)
        time.sleep(config.get("wait", 0.0))


ENDLESS = {"n": 10**9, "scale": 1, "wait": 0.005}


def test_a_function_runs_detached_with_its_config():
    run = launch(counting, config={"n": 50, "scale": 3}, name="counted")
    assert run.status in {"QUEUED", "RUNNING"}
    assert run.wait(60).status == "FINISHED", run.log_tail()
    assert run.scalars("x")[1].tolist() == [3.0 * step for step in range(50)]
    assert run.config == {"n": 50, "scale": 3} and open_run("counted") == run
    until(lambda: run.state().exit_code == 0)  # the process ends a moment after its run


def test_a_closure_from_a_script_with_its_own_class_runs(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("""
import torch, dlstudio as dls
factor = 7
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(1))
    def forward(self, x):
        return self.w * x * factor
def train(rec, config):
    rec.log({"y": Net()(torch.tensor([config["x"]]))})
if __name__ == "__main__":
    print(dls.launch(train, config={"x": 3.0}).wait(60).scalars("y")[1].tolist())
""")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.stdout.strip() == "[21.0]", done.stderr


def test_modules_are_found_as_in_the_launching_process(tmp_path):
    code, folder = tmp_path / "code", tmp_path / "folder"
    code.mkdir()
    folder.mkdir()
    (code / "steps.py").write_text("def train(rec, config):\n    rec.log({'y': 2.0})\n")
    (code / "script.py").write_text("""
import dlstudio as dls
from steps import train
if __name__ == "__main__":
    print(dls.launch(train).wait(60).scalars("y")[1].tolist())
""")
    (folder / "re.py").write_text("raise ImportError('this stood in for a module of Python')")
    command = [sys.executable, str(code / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
    assert done.stdout.strip() == "[2.0]", done.stderr


def test_an_exception_is_told_with_its_traceback():
    def broken(rec, config):
        raise LookupError("nothing there")

    run = launch(broken).wait(60)
    state = run.state()
    assert state.status == "FAILED" and state.reason == "LookupError: nothing there"
    until(lambda: run.state().exit_code == 1)
    assert "nothing there" in state.traceback and "nothing there" in run.log_tail()


@pytest.mark.parametrize(
    ("number", "status", "told"),
    [
        (signal.SIGKILL, "KILLED", "SIGKILL"),
        (signal.SIGTERM, "KILLED", "SIGTERM"),
        (signal.SIGSEGV, "FAILED", "SIGSEGV"),
    ],
)
def test_a_trainer_that_is_killed_is_noticed_and_named(number, status, told):
    run = launch(counting, config=ENDLESS)
    until(lambda: run.state().pid)
    os.kill(run.state().pid, number)
    run.wait(60)
    assert run.status == status and told in run.reason and run.state().exit_code == -number


def test_a_trainer_that_exits_silently_is_not_called_finished():
    def leave(rec, config):
        os._exit(3)

    run = launch(leave).wait(60)
    assert run.status == "FAILED" and "exit code 3" in run.reason


def test_killing_the_supervisor_does_not_touch_the_training():
    run = launch(counting, config=ENDLESS)
    until(lambda: run.state().pid)
    supervisor = run._files.status["supervisor"]["pid"]
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(supervisor) or psutil.Process(supervisor).status() == psutil.STATUS_ZOMBIE)
    assert run.status == "RUNNING"
    run.stop()
    until(lambda: run.status == "KILLED")
    assert "request" in run.reason


def test_killing_supervisor_and_trainer_is_noticed_by_the_next_reader():
    run = launch(counting, config=ENDLESS)
    until(lambda: run.state().pid)
    for pid in (run._files.status["supervisor"]["pid"], run.state().pid):
        os.kill(pid, signal.SIGKILL)
    until(lambda: run.status == "FAILED")
    assert "killed" in run.reason


def test_pause_resume_and_stop():
    run = launch(counting, config=ENDLESS)
    until(lambda: run.keys())
    run.pause()
    until(lambda: run.status == "PAUSED")

    def still() -> int:
        """How many values there are, once no more come: the last ones are written a moment after the pause."""
        n = len(run.scalars("x")[0])
        time.sleep(0.6)
        return n if len(run.scalars("x")[0]) == n else 0

    n = until(still)
    run.resume()
    until(lambda: len(run.scalars("x")[0]) > n)
    run.stop()
    assert run.wait(60).status == "KILLED"
    assert [e["kind"] for e in run.events()] == ["pause", "resume", "stop"]


def test_launches_queue_and_a_queued_one_can_be_stopped(fresh_home, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    first = [launch(counting, config=ENDLESS, name=f"first-{n}") for n in range(N_CPU_SLOTS)]
    until(lambda: all(run.status == "RUNNING" for run in first))
    waiting, cancelled = launch(counting, config={"n": 3, "scale": 1}), launch(counting, config=ENDLESS)
    until(lambda: waiting.reason and cancelled.reason)
    assert waiting.status == "QUEUED" and "held by first-0" in waiting.reason
    cancelled.stop()
    assert cancelled.wait(60).status == "KILLED" and "waiting" in cancelled.reason
    os.kill(first[0].state().pid, signal.SIGKILL)  # a lease ends with its holder, however that ends
    assert waiting.wait(60).status == "FINISHED"
    for run in first[1:]:
        run.stop()
        run.wait(60)


def test_a_recipe_trains_detached_and_a_killed_run_is_resumed(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(600, 4)
    recipe = Recipe(data=(x, (x.sum(1) > 0).long()), epochs=400, batch_size=32, device="cpu", seed=3)
    run = launch(recipe, name="to resume")
    until(lambda: (run.folder / "checkpoints" / "last.pt").exists() and run.state().step)
    time.sleep(1.0)
    os.kill(run.state().pid, signal.SIGKILL)
    run.wait(60)
    assert run.status == "KILLED"
    with pytest.raises(DLStudioError, match="either something to launch or a run to resume"):
        launch(recipe, resume=run)
    n_before = int(run.scalars("loss")[0][-1])
    launch(resume="to resume")
    until(lambda: run.status == "RUNNING")
    with pytest.raises(DLStudioError, match="a run that has ended"):
        launch(resume=run)
    until(lambda: run.status != "RUNNING" or int(run.scalars("loss")[0][-1]) > n_before + 50)
    run.stop()
    run.wait(60)
    steps = run.scalars("loss")[0]
    assert steps.tolist() == list(range(1, len(steps) + 1)), "no step is missing or twice"
    assert any(event["kind"] == "resumed" for event in run.events())
    assert "epoch 1 of 400" in run.log_tail(10_000) and "val loss" in run.log_tail()


def test_what_cannot_be_launched_is_told_at_once():
    with pytest.raises(DLStudioError, match="a Recipe or a function"):
        launch("mortgage")
    with pytest.raises(DLStudioError, match="a Recipe or a function"):
        launch()
    with pytest.raises(DLStudioError, match="one of the known run names|none yet"):
        launch(resume="no such run anywhere at all")
    lock = threading.Lock()
    with pytest.raises(DLStudioError, match="sent to another process"):
        launch(lambda rec, config: lock.acquire(), name="never made")
    with pytest.raises(DLStudioError):
        open_run("never made")
    with pytest.raises(DLStudioError, match="Did you mean 'mortgage'"):
        launch(Recipe(data="mortgages"))
    with pytest.raises(DLStudioError, match="Did you mean 'mlp'"):
        launch(Recipe(model="mpl"))
    if not torch.cuda.is_available():
        with pytest.raises(DLStudioError, match="CUDA"):
            launch(Recipe(device="cuda"))
    finished = launch(counting, config={"n": 1, "scale": 1}).wait(60)
    with pytest.raises(DLStudioError, match="recipe run with a checkpoint"):
        launch(resume=finished)


def test_a_pickle_that_launch_did_not_write_is_never_opened(tmp_path):
    jobs.pack(Job(function=counting, config={})).write(tmp_path)
    (tmp_path / "job.pkl").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR.")
    with pytest.raises(DLStudioError, match="not opened"):
        jobs.read(tmp_path)
    assert not (tmp_path / "owned").exists()


def test_a_pickle_of_another_version_is_refused_with_both_versions(tmp_path):
    jobs.pack(Job(function=counting, config={})).write(tmp_path)
    from dlstudio.runs.folder import read_json, write_json

    description = read_json(tmp_path / "job.json")
    description["versions"]["python"] = "3.9"
    write_json(tmp_path / "job.json", description)
    with pytest.raises(DLStudioError, match=r"python 3\.9.*Launch it anew"):
        jobs.read(tmp_path)


def test_a_plain_recipe_travels_without_a_pickle(tmp_path):
    recipe = Recipe(data="mortgage", model="mlp", model_options={"hidden": [8]}, lr=0.5)
    jobs.pack(Job(recipe=recipe)).write(tmp_path)
    assert not (tmp_path / "job.pkl").exists() and jobs.read(tmp_path).recipe == recipe


@pytest.mark.parametrize(
    ("device", "visible", "n_gpus", "wanted"),
    [
        ("cpu", None, 2, "cpu:0"),
        ("auto", None, 0, "cpu:0"),
        ("auto", "", 0, "cpu:0"),
        ("auto", None, 2, "cuda:0"),
        ("cuda", "3,1", 4, "cuda:3"),
        ("cuda:1", None, 2, "cuda:1"),
        ("cuda:1", "5,6", 8, "cuda:6"),
    ],
)
def test_which_devices_are_leased(device, visible, n_gpus, wanted):
    assert wanted_devices(device, visible, n_gpus)[0] == wanted


def test_leases_exclude_and_come_back(tmp_path):
    first, _ = try_lease(tmp_path, ["cpu:0", "cpu:1"], 1, "one")
    second, _ = try_lease(tmp_path, ["cpu:0", "cpu:1"], 1, "two")
    assert (first.names, second.names) == (["cpu:0"], ["cpu:1"])
    none, missing = try_lease(tmp_path, ["cpu:0", "cpu:1"], 1, "three")
    assert none is None and missing == "cpu:0 (held by one), cpu:1 (held by two)"
    asked = []
    assert lease(tmp_path, ["cpu:0"], 1, "four", waiting=lambda m: asked.append(m) or len(asked) < 3) is None
    first.release()
    third, _ = try_lease(tmp_path, ["cpu:0", "cpu:1"], 1, "three")
    assert third.names == ["cpu:0"]
    second.release()
    third.release()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_are_launched_steered_and_stopped_together(strategy):
    recipe = Recipe(data="mortgage", devices=2, device="cpu", strategy=strategy, epochs=5000, seed=1)
    run = launch(recipe, name=f"two ranks {strategy}")
    until(lambda: run.keys() or run.state().is_over, 120)
    assert run.status == "RUNNING", run.log_tail()
    run.set(lr=5e-4)
    until(lambda: any(event["kind"] == "set" for event in run.events()))
    run.pause()
    until(lambda: run.status == "PAUSED")
    n = len(run.scalars("loss")[0])
    time.sleep(1.0)
    assert len(run.scalars("loss")[0]) - n < 30
    run.resume()
    until(lambda: len(run.scalars("loss")[0]) > n + 30)
    run.stop()
    assert run.wait(60).status == "KILLED", run.reason
    assert "request" in run.reason and (run.folder / "checkpoints" / "last.pt").exists()
    assert run.layers("grad_norm")[2].shape[1] == 6

"""Recording from any loop: what is logged is there, what is asked is done, and the end is told right."""

import gc
import json
import subprocess
import sys
import time
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from dlstudio.errors import DLStudioError, RunStopped
from dlstudio.runs.recorder import record
from dlstudio.runs.run import list_runs, open_run
from tests.waiting import until


def small():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    return model, torch.optim.SGD(model.parameters(), 0.1)


def train_step(model, optimizer):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 4)).pow(2).mean()
    loss.backward()
    optimizer.step()
    return loss


def test_what_was_logged_is_there_afterwards():
    with record("plain", config={"lr": 0.1, "nested": {"a": [1, 2]}}) as rec:
        for step in range(1000):
            rec.log({"loss": 1 / (step + 1), "n": step}, step=step)
            if step == 500:
                rec.log({"late": torch.tensor(2.5)}, step=step)
    run = open_run("plain")
    assert run.status == "FINISHED" and run.reason is None and run.damage() == []
    steps, loss = run.scalars("loss")
    assert steps.dtype == np.int64 and loss.dtype == np.float64
    np.testing.assert_array_equal(loss, 1 / (np.arange(1000) + 1.0))
    assert run.scalars("late")[0].tolist() == [500] and run.scalars("late")[1].tolist() == [2.5]
    assert run.keys() == ["late", "loss", "n"]
    assert run.config == {"lr": 0.1, "nested": {"a": [1, 2]}}
    assert run.state().latest["n"] == 999 and run.state().step == 999


@pytest.mark.parametrize(
    "value",
    [3, True, np.float32(3), np.int64(3), np.array(3.0), torch.tensor(3), torch.tensor([[3.0]]), 3.0],
)
def test_every_kind_of_number(value):
    with record() as rec:
        rec.log({"x": value})
    assert rec.run.scalars("x")[1].tolist() == [float(value)]


@pytest.mark.parametrize(
    ("value", "told"),
    [("high", "'high' of type str"), (None, "None"), (torch.ones(3), r"shape \(3,\)"), ([1.0], "list"),
     (torch.tensor(1j), "complex64")],
)  # fmt: skip
def test_what_is_no_number_is_named(value, told):
    with record() as rec, pytest.raises(DLStudioError, match=told):
        rec.log({"loss": value})
    assert rec.run.status == "FINISHED"


def test_a_tensor_keeps_the_value_it_had_when_logged():
    with record() as rec:
        total = torch.zeros(())
        for step in range(5):
            total += 1
            rec.log({"total": total}, step=step)
    assert rec.run.scalars("total")[1].tolist() == [1, 2, 3, 4, 5]


def test_a_reused_dict_keeps_the_values_it_had_when_logged():
    with record() as rec:
        row = {"x": 0.0}
        for step in range(5):
            row["x"] = float(step)
            rec.log(row, step=step)
    assert rec.run.scalars("x")[1].tolist() == [0, 1, 2, 3, 4]


def test_steps_count_by_themselves_and_must_be_whole():
    with record() as rec:
        rec.log({"x": 1.0})
        rec.log({"x": 1.0}, step=np.int32(10))
        rec.log({"x": 1.0})
        with pytest.raises(DLStudioError, match="whole number"):
            rec.log({"x": 1.0}, step=1.5)
        with pytest.raises(DLStudioError, match="text as the name"):
            rec.log({1: 1})
    assert rec.run.scalars("x")[0].tolist() == [0, 10, 11]


@pytest.mark.parametrize("log_first", [False, True])
def test_layer_norms_carry_the_step_of_their_own_log_call(log_first):
    model, optimizer = small()
    expected = []
    with record() as rec:
        rec.watch(model, optimizer, every=1)
        for step in range(100, 110):
            optimizer.zero_grad()
            loss = model(torch.randn(8, 4)).pow(2).mean()
            loss.backward()
            expected.append([p.grad.norm().item() for p in model.parameters()])
            if log_first:
                rec.log({"loss": loss}, step=step)
            optimizer.step()
            if not log_first:
                rec.log({"loss": loss}, step=step)
    steps, names, matrix = rec.run.layers("grad_norm")
    assert steps.tolist() == list(range(100, 110))
    assert names == ["0.weight", "0.bias", "2.weight", "2.bias"]
    np.testing.assert_allclose(matrix, expected, rtol=1e-5)
    np.testing.assert_allclose(rec.run.scalars("grad_norm")[1], np.linalg.norm(expected, axis=1), rtol=1e-5)
    ratio = rec.run.layers("update_ratio")[2]
    np.testing.assert_allclose(ratio, rec.run.layers("update_norm")[2] / rec.run.layers("weight_norm")[2], rtol=1e-6)


def test_clipping_is_seen_with_its_coefficient():
    model, optimizer = small()
    with record() as rec:
        rec.watch(model, optimizer)
        totals = []
        for step in range(20):
            optimizer.zero_grad()
            (model(torch.randn(8, 4)).pow(2).mean() * 10).backward()
            totals.append(nn.utils.clip_grad_norm_(model.parameters(), 0.5).item())
            optimizer.step()
            rec.log({}, step=step)
    np.testing.assert_allclose(rec.run.scalars("grad_norm")[1], totals, rtol=1e-5)
    coefficients = rec.run.scalars("clip_coefficient")[1]
    np.testing.assert_allclose(coefficients, np.minimum(1, 0.5 / (np.array(totals) + 1e-6)), rtol=1e-5)
    layers = rec.run.layers("grad_norm")
    np.testing.assert_allclose(np.linalg.norm(layers[2], axis=1), np.array(totals)[layers[0]], rtol=1e-5)


def test_two_models_stand_side_by_side():
    (generator, g), (critic, c) = small(), small()
    with record() as rec:
        rec.watch(generator, g, every=1)
        rec.watch(critic, c, every=1)
        for step in range(4):
            train_step(critic, c)
            if step % 2:
                train_step(generator, g)
            rec.log({"x": 1.0}, step=step)
    _, names, matrix = rec.run.layers()
    assert names[0] == "0.weight" and names[4] == "model2.0.weight" and matrix.shape == (4, 8)
    assert np.isfinite(matrix[:, 4:]).all()


def test_the_error_of_a_loop_is_told_and_raised():
    with pytest.raises(ZeroDivisionError), record("broken") as rec:
        rec.log({"x": 1.0})
        1 / 0  # noqa: B018
    state = rec.run.state()
    assert state.status == "FAILED" and state.reason == "ZeroDivisionError: division by zero"
    assert "test_recorder.py" in state.traceback
    assert rec.run.scalars("x")[1].tolist() == [1.0]


def test_out_of_memory_says_what_to_change():
    with pytest.raises(torch.OutOfMemoryError), record() as rec:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    assert "out of GPU memory" in rec.run.reason and "batch_size" in rec.run.reason
    with pytest.raises(MemoryError), record() as rec:
        raise MemoryError("no")
    assert "out of host memory" in rec.run.reason


def test_stop_ends_the_loop_and_nothing_swallows_it():
    model, optimizer = small()
    with record("stopped") as rec:
        rec.watch(model, optimizer)
        rec.run.stop()
        step = 0
        while True:
            try:
                rec.log({"x": float(step)}, step=step)
            except Exception:
                pytest.fail("a stop is no Exception")
            step += 1
            time.sleep(0.01)
    assert rec.run.status == "KILLED" and "request" in rec.run.reason
    assert [e["kind"] for e in rec.run.events()] == ["stop"]
    assert issubclass(RunStopped, BaseException) and not issubclass(RunStopped, Exception)


def test_pause_resume_and_a_new_learning_rate_are_done_and_journaled():
    import threading

    model, optimizer = small()
    done = threading.Event()
    with record("steered") as rec:
        rec.watch(model, optimizer)
        run = rec.run

        def steer():
            run.set(lr=0.025)
            until(lambda: any(e["kind"] == "set" for e in run.events()))
            run.pause()
            until(lambda: run.status == "PAUSED")
            before = rec._next_step
            time.sleep(0.3)
            assert rec._next_step == before
            run.resume()
            until(lambda: run.status == "RUNNING")
            done.set()

        thread = threading.Thread(target=steer)
        thread.start()
        step = 0
        while not done.is_set():
            rec.log({"loss": train_step(model, optimizer)}, step=step)
            step += 1
            time.sleep(0.005)
        thread.join()
    assert optimizer.param_groups[0]["lr"] == 0.025
    kinds = {event["kind"]: event for event in run.events()}
    assert kinds["set"]["data"] == {"lr": 0.025, "old": 0.1} and kinds["set"]["step"] > 0
    assert {"pause", "resume"} <= set(kinds)


def test_commands_of_one_moment_are_all_carried_out_in_their_order():
    model, optimizer = small()
    with record("hurried") as rec:
        rec.watch(model, optimizer)
        for command, arguments in (("pause", {}), ("resume", {}), ("set", {"lr": 0.5}), ("pause", {}), ("resume", {})):
            rec.run._files.command(command, **arguments)
        deadline = time.monotonic() + 20
        while len(rec.run.events()) < 5 and time.monotonic() < deadline:
            rec.log({"loss": 1.0})
            time.sleep(0.01)
        assert rec.run.status == "RUNNING"
    assert [event["kind"] for event in rec.run.events()] == ["pause", "resume", "set", "pause", "resume"]
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_controls_reject_what_makes_no_sense():
    with record() as rec:
        for bad in (0, -1, float("nan"), float("inf"), "fast"):
            with pytest.raises(DLStudioError, match="learning rate above 0"):
                rec.run.set(lr=bad)
    with pytest.raises(DLStudioError, match="live run to pause"):
        rec.run.pause()


def test_what_was_watched_is_let_go_with_the_recorder():
    """Not only when the garbage collector comes round: a model and its optimiser may fill the device's memory."""

    def watched():
        model, optimizer = small()
        with record() as rec:
            rec.watch(model, optimizer)
            rec.log({"loss": train_step(model, optimizer)})
        return [weakref.ref(held) for held in (rec, model, optimizer)]

    watched()  # PyTorch keeps something of the first training step of a process
    gc.collect()
    gc.disable()
    try:
        assert [held() for held in watched()] == [None, None, None]
    finally:
        gc.enable()


def test_watch_rejects_what_has_no_parameters():
    with record() as rec:
        with pytest.raises(DLStudioError, match="with parameters"):
            rec.watch(nn.ReLU())
        with pytest.raises(DLStudioError, match="every"):
            rec.watch(nn.Linear(1, 1), every=0)


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "two\nlines", 7])
def test_names_that_cannot_be(name):
    with pytest.raises(DLStudioError, match="run name"):
        record(name)


def test_any_other_name_is_kept_as_it_is():
    name = "../<b>ünï</b> 'x' | $(rm)"
    with record(name) as rec:
        rec.log({"x": 1.0})
    assert open_run(name).folder == rec.folder and rec.folder.parent.name == "runs"


def test_logging_outside_the_with_block_is_an_error():
    rec = record()
    with pytest.raises(DLStudioError, match="closed"):
        rec.log({"x": 1.0})
    with rec:
        pass
    with pytest.raises(DLStudioError, match="closed"):
        rec.log({"x": 1.0})


def test_of_several_runs_with_one_name_the_latest_is_found_and_a_misspelt_one_is_suggested():
    with record("twin"):
        pass
    with record("twin") as second:
        pass
    assert open_run("twin") == second.run and open_run(second.folder.name) == second.run
    with pytest.raises(DLStudioError, match="Did you mean 'twin'"):
        open_run("twni")
    with pytest.raises(DLStudioError, match="no|Did"):
        open_run("")


def test_a_missing_scalar_is_suggested():
    with record() as rec:
        rec.log({"val/loss": 1.0})
    with pytest.raises(DLStudioError, match="Did you mean 'val/loss'"):
        rec.run.scalars("val_loss")
    with pytest.raises(DLStudioError, match="watch"):
        rec.run.layers()
    with pytest.raises(DLStudioError, match="grad_norm"):
        rec.run.layers("gradnorm")


def test_list_runs_has_settings_and_latest_metrics(fresh_home):
    assert list_runs().empty
    with record("one", config={"lr": 0.1}) as rec:
        rec.log({"val/loss": 0.5}, step=3)
    with pytest.raises(KeyError), record("two"):
        raise KeyError("x")
    table = list_runs()
    assert table["name"].tolist() == ["two", "one"]
    row = table.iloc[1]
    assert (row["status"], row["config.lr"], row["val/loss"], row["n_steps"]) == ("FINISHED", 0.1, 0.5, 3)
    assert list_runs(status="FAILED")["name"].tolist() == ["two"]


def test_recording_needs_neither_torch_nor_mlflow(tmp_path):
    code = """
import json, sys
from dlstudio.runs.recorder import record
with record("light") as rec:
    rec.log({"x": 1.0})
print(json.dumps([m for m in ("torch", "mlflow", "pandas", "plotly", "streamlit") if m in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("half a li", "no command 'half a li'"),
        ('["stop"]', "no command '[\"stop\"]'"),
        ('{"command": "dance"}', "no command 'dance'"),
        ('{"command": ["stop"]}', "no command"),
        ('{"command": "set"}', "set takes lr, not {}"),
        ('{"command": "set", "arguments": {"lr": 0.1, "momentum": 0.9}}', "set takes lr"),
        ('{"command": "set", "arguments": [0.1]}', "set takes lr"),
        ('{"command": "set", "arguments": {"lr": NaN}}', "above 0, not nan"),
        ('{"command": "set", "arguments": {"lr": -1}}', "above 0, not -1"),
        ('{"command": "set", "arguments": {"lr": "0.1"}}', "above 0"),
        ('{"command": "set", "arguments": {"lr": 1' + 400 * "0" + "}}", "above 0"),
        ('{"command": "stop", "arguments": {"now": true}}', "stop takes nothing"),
    ],
)
def test_a_line_of_the_journal_that_makes_no_sense_is_told_and_the_next_carried_out(line, told):
    model, optimizer = small()
    with record() as rec:
        rec.watch(model, optimizer)
        with open(rec.folder / "control.jsonl", "a") as journal:
            journal.write(line + "\n")
        rec.run.set(lr=0.5)
        deadline = time.monotonic() + 20
        while len(rec.run.events()) < 2 and time.monotonic() < deadline:
            rec.log({"loss": 1.0})
            time.sleep(0.01)
    events = rec.run.events()
    assert [event["kind"] for event in events] == ["warning", "set"] and told in events[0]["message"]
    assert optimizer.param_groups[0]["lr"] == 0.5 and rec.run.status == "FINISHED"

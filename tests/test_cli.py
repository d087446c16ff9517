"""The command line: what it does end to end, and how it answers wrong input."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

import dlstudio as dls
from dlstudio import cli, serving
from dlstudio.cli import main
from dlstudio.errors import DLStudioError
from dlstudio.runs.run import open_run
from tests.waiting import until

COMMANDS = (
    "demo",
    "lab",
    "runs",
    "show",
    "train",
    "stop",
    "pause",
    "resume",
    "app",
    "compare",
    "report",
    "doctor",
    "bench",
)
RECIPE = "data: mortgage\nmodel: mlp\nepochs: 2\nlr: 1e-3\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def error_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must fail on its input; return the one line it says."""
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("dlstudio: Expected ")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    return said.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"dlstudio {command}" in capsys.readouterr().out


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert [command for command in COMMANDS if f"\n    {command}" not in text] == []


@pytest.mark.parametrize("words", [[], ["lunch"], ["show"], ["runs", "--status", "DEAD"], ["report"]])
def test_wrong_usage_exits_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert "usage: dlstudio" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["show", "stop", "pause", "resume"])
def test_an_unknown_run_is_one_clean_line(command: str, fresh_home: Path, capsys) -> None:
    assert "'nobody'" in error_of(capsys, command, "nobody")


def test_an_unknown_run_to_report_is_one_clean_line(fresh_home: Path, capsys) -> None:
    assert "'nobody'" in error_of(capsys, "report", "training", "--run", "nobody")


def test_an_unknown_app_names_the_nearest(capsys) -> None:
    assert "Did you mean 'board'" in error_of(capsys, "app", "bord")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("epoch: 3", "Did you mean 'epochs'"),
        ("epochs: 0", "epochs"),
        ("- 1", "mapping"),
        ("a: b: c", "YAML"),
    ],
)
def test_a_recipe_that_is_not_right(recipe: Path, fresh_home: Path, text: str, complaint: str, capsys) -> None:
    recipe.write_text(text)
    assert complaint in error_of(capsys, "train", str(recipe))


@pytest.mark.parametrize(
    ("change", "complaint"), [("lr", "--set KEY=VALUE"), ("lrr=1", "Did you mean 'lr'"), ("lr=-1", "lr")]
)
def test_a_change_that_is_not_right(recipe: Path, change: str, complaint: str, capsys) -> None:
    assert complaint in error_of(capsys, "train", str(recipe), "--set", change)


def test_a_recipe_that_is_not_there(tmp_path: Path, capsys) -> None:
    assert "gone.yaml" in error_of(capsys, "train", str(tmp_path / "gone.yaml"))


def test_a_taken_port_is_named_with_a_free_one(capsys) -> None:
    with socket.socket() as server:
        server.bind((serving.LOOPBACK, 0))
        server.listen()
        port = server.getsockname()[1]
        assert str(port) in error_of(capsys, "app", "board", "--port", str(port))
        assert str(port) in error_of(capsys, "lab", "--port", str(port))
    assert "65535" in error_of(capsys, "app", "board", "--port", "70000")


def test_a_port_nobody_asked_for_is_moved_to_the_next_free_one() -> None:
    with socket.socket() as server:
        server.bind((serving.LOOPBACK, 0))
        server.listen()
        taken = server.getsockname()[1]
        chosen = serving.choose_port(None, taken)
    assert taken < chosen < taken + 100


def test_servers_are_asked_to_listen_on_loopback_only(tmp_path: Path) -> None:
    assert "--server.address=127.0.0.1" in serving.app_command("board", 8600)
    lab = serving.lab_command(8900, browser=False)
    assert "--ServerApp.ip=127.0.0.1" in lab
    assert "--no-browser" in lab
    assert any(word.endswith("01-train-and-watch.ipynb") and Path(word).is_file() for word in lab)


def test_an_installed_tutorial_is_copied_once_and_never_overwritten(tmp_path: Path, monkeypatch) -> None:
    source = tmp_path / "site" / "_shipped" / "notebooks" / "tutorials"
    source.mkdir(parents=True)
    (source / "01-train-and-watch.ipynb").write_text("original")
    monkeypatch.setattr(serving.shipped, "path", lambda relative: tmp_path / "site" / "_shipped" / relative)
    monkeypatch.chdir(tmp_path)
    serving.lab_command(8900)
    copy = tmp_path / "dlstudio-tutorials" / "01-train-and-watch.ipynb"
    assert copy.read_text() == "original"
    copy.write_text("mine")
    assert str(copy) in serving.lab_command(8900)
    assert copy.read_text() == "mine"


def test_ctrl_c_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def interrupted(arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_runs", interrupted)
    assert main(["runs"]) == 130
    assert capsys.readouterr().err == "\ndlstudio: interrupted\n"


def test_a_reader_that_goes_away_is_no_error(fresh_home: Path) -> None:
    command = f"{sys.executable} -m dlstudio runs --json | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_runs_yet(fresh_home: Path, capsys) -> None:
    assert main(["runs"]) == 0
    assert "No runs yet" in capsys.readouterr().out
    assert main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_train_list_show_and_report(recipe: Path, fresh_home: Path, tmp_path: Path, capsys) -> None:
    assert main(["train", str(recipe), "--name", "first [bold]", "--set", "lr=0.01", "--set", "epochs=1"]) == 0
    assert "first [bold] FINISHED" in capsys.readouterr().out

    assert main(["runs", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["status"], row["kind"]) == ("first [bold]", "FINISHED", "fit")
    assert (row["config.lr"], row["config.epochs"]) == (0.01, 1)

    assert main(["runs"]) == 0
    table = capsys.readouterr().out
    assert "first [bold]" in table
    assert "FINISHED" in table

    assert main(["show", "first [bold]"]) == 0
    text = capsys.readouterr().out
    assert "first [bold]" in text
    assert "Training finished after 1 of 1 epoch" in text

    out = tmp_path / "report.html"
    assert main(["report", "training", "--run", "first [bold]", "--out", str(out)]) == 0
    assert Path(capsys.readouterr().out.strip()) == out
    assert out.read_text().lstrip().lower().startswith("<!doctype html")

    assert "'training'" in error_of(capsys, "report", "trainin", "--run", "first [bold]")


def test_detached_pause_resume_stop_and_continue(recipe: Path, fresh_home: Path, capsys) -> None:
    assert main(["train", str(recipe), "--detach", "--name", "far", "--set", "epochs=5000"]) == 0
    assert "dlstudio stop far" in capsys.readouterr().out
    run = open_run("far")
    until(lambda: run.state().step)  # what it is asked for is done between two steps, and the first takes a while

    assert main(["pause", "far"]) == 0
    assert capsys.readouterr().out == "far is PAUSED.\n"
    assert main(["resume", "far"]) == 0
    assert capsys.readouterr().out == "far is RUNNING.\n"
    assert main(["stop", "far"]) == 0
    assert capsys.readouterr().out == "far is KILLED.\n"
    assert "'far', which is KILLED" in error_of(capsys, "stop", "far")

    stopped_at = run.state().step or 0
    assert main(["resume", "far"]) == 0
    assert "goes on from its last checkpoint" in capsys.readouterr().out
    again = open_run("far")
    until(lambda: (again.state().step or 0) > stopped_at)
    again.stop()
    again.wait(timeout=60)


def tried(rec: Any, config: dict[str, Any]) -> None:
    """A trial that prints, and fails where it is told to."""
    print(f"this is x={config['x']}", flush=True)
    rec.log({"err": config["x"] + 0.5})
    if config["x"] > 1:
        raise ValueError("no x above 1 [bold]")


def test_a_search_and_its_trials_are_shown_as_what_they_are(fresh_home: Path, capsys) -> None:
    options = {"metric": "err", "direction": "min", "sampler": "grid", "pruner": None}
    search = dls.tune(tried, {"x": [0, 1, 2, 3]}, name="few", **options).wait()
    result = search.result()
    assert main(["show", "few"]) == 0
    text = capsys.readouterr().out
    assert all(f"{sentence}\n" in text for sentence in result.summary) and "Training" not in text
    assert "The best err is 0.5" in text and "DLS521" in text and "no x above 1 [bold]" in text
    assert main(["show", "few", "--log", "20"]) == 0
    text = capsys.readouterr().out
    assert all(f"this is x={x}\n" in text for x in (0, 1, 2, 3))

    failed, _ = [row for row in result.rows if row.state == "failed"]
    assert failed.run is not None
    assert main(["show", failed.run]) == 0
    text = capsys.readouterr().out
    assert "Traceback (most" not in text and f"dlstudio show few-{failed.number} --log" in text
    assert main(["show", failed.run, "--log", "5"]) == 0
    text = capsys.readouterr().out
    assert "Traceback (most recent call last)" in text and "ValueError: no x above 1 [bold]" in text
    assert str(search.folder / "workers.log") in text and "checkpoint" not in text
    assert "dlstudio resume few." in error_of(capsys, "resume", failed.run)


def test_an_ablation_is_shown_with_its_effects(fresh_home: Path, capsys) -> None:
    whole = dls.Recipe(data="digits", model="mlp", epochs=1, device="cpu", batch_size=1024)
    ablation = dls.ablate(
        whole, {"width": {"model_options.hidden": [2]}}, metric="val/loss", seeds=2, name="parts"
    ).wait()
    assert main(["show", "parts"]) == 0
    text = capsys.readouterr().out
    summary = ablation.estimate().summary
    assert len(summary) > 1 and all(f"{sentence}\n" in text for sentence in summary)
    assert "The ablation finished" in text and "Training" not in text and "Epochs" not in text


def test_a_failure_that_nobody_printed_is_shown_with_the_log(fresh_home: Path, capsys) -> None:
    with pytest.raises(ZeroDivisionError), dls.record("divided"):
        _ = 1 / 0
    assert main(["show", "divided"]) == 0
    assert "dlstudio show divided --log 20" in capsys.readouterr().out
    assert main(["show", "divided", "--log", "3"]) == 0
    assert "ZeroDivisionError: division by zero" in capsys.readouterr().out
    with dls.record("whole"):
        pass
    assert main(["show", "whole", "--log", "3"]) == 0
    assert "no output" in capsys.readouterr().out


def test_a_training_that_fails_is_a_failed_command(recipe: Path, fresh_home: Path, monkeypatch, capsys) -> None:
    assert "mortgag" in error_of(capsys, "train", str(recipe), "--set", "data=mortgag")


@pytest.mark.parametrize(
    ("words", "answer", "ending"),
    [
        (["app", "board"], "/_stcore/health", signal.SIGINT),
        (["lab", "--no-browser"], "/api", signal.SIGTERM),  # JupyterLab asks back on Ctrl-C
    ],
    ids=["board", "lab"],
)
def test_a_server_listens_on_loopback_only_and_ends_when_told(
    words: list[str], answer: str, ending: signal.Signals, fresh_home: Path, tmp_path: Path
) -> None:
    port = serving.choose_port(None, 8700)
    command = [sys.executable, "-m", "dlstudio", *words, "--port", str(port)]
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{answer}", timeout=5) as page:
                    assert page.status == 200
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < until, (tmp_path / "log").read_text()
                time.sleep(0.2)
        family = (psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True))
        connections = [each for one in family for each in one.net_connections(kind="inet")]
        listening = [each.laddr for each in connections if each.status == psutil.CONN_LISTEN]
        assert port in {address.port for address in listening}
        assert {address.ip for address in listening} == {"127.0.0.1"}
        server.send_signal(ending)
        assert server.wait(timeout=30) in (0, -ending, 130)
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def test_an_error_of_ours_never_shows_a_traceback_and_another_does(monkeypatch, capsys) -> None:
    def wrong(arguments: object) -> None:
        raise DLStudioError("tea", "coffee", "Boil water.")

    monkeypatch.setattr(cli, "_runs", wrong)
    assert error_of(capsys, "runs") == "dlstudio: Expected tea, but got coffee. Boil water.\n"

    def bug(arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_runs", bug)
    with pytest.raises(ZeroDivisionError):
        main(["runs"])

"""The `dlstudio` command. Parsing is quick; each command imports what it needs when it runs."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dlstudio
from dlstudio.errors import DLStudioError, RunStopped

if TYPE_CHECKING:
    from dlstudio.compare.result import Comparison
    from dlstudio.runs.run import Run
    from dlstudio.training.recipe import Recipe

__all__ = ["main"]

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
TERMINAL = ("FINISHED", "FAILED", "KILLED")
COMPARING = ("metric", "by", "direction", "margin", "reference")
ANSWER_S = 10.0
"""How long `stop`, `pause` and `resume` wait for the run to obey."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``dlstudio``; None takes the process's own.

    Returns:
        The exit code: 0 done, 1 a run failed or a check found a problem, 2 wrong input, 130 interrupted.
    """
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int | None] = arguments.command
    try:
        return command(arguments) or OK
    except DLStudioError as error:
        print(f"dlstudio: {error}", file=sys.stderr)
        return USAGE
    except (KeyboardInterrupt, RunStopped):
        print("\ndlstudio: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away, as in `dlstudio runs | head`. Without this Python complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dlstudio", description="Record, launch and watch real training runs.")
    parser.add_argument("--version", action="version", version=f"dlstudio {dlstudio.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(command=command)
        return sub

    sub = add("demo", _demo, "train four real runs, compare and audit them, write a report and serve the board")
    sub.add_argument("--no-serve", dest="serve", action="store_false", help="end instead of serving the board")
    sub.add_argument("--epochs", type=int, metavar="N", help="epochs of each run, for a shorter or longer demo")
    sub.add_argument("--port", type=int, help="port of the board (default: 8501, or the next that is free)")

    sub = add("lab", _lab, "open the first tutorial in JupyterLab")
    sub.add_argument("--port", type=int, help="port (default: 8888, or the next that is free)")
    sub.add_argument("--no-browser", dest="browser", action="store_false", help="only print the address")

    sub = add("runs", _runs, "list the runs of this studio home, newest first")
    sub.add_argument("--status", type=str.upper, choices=("QUEUED", "RUNNING", "PAUSED", *TERMINAL), help="only these")
    sub.add_argument("--limit", type=int, default=30, metavar="N", help="at most so many (default: 30; 0 lists all)")
    sub.add_argument("--json", dest="as_json", action="store_true", help="every column, as JSON")

    sub = add("show", _show, "say how a run is doing")
    sub.add_argument("run", metavar="RUN", help="name or id of a run")
    sub.add_argument(
        "--log", type=int, default=0, metavar="N", help="with the last N lines it printed, and its traceback"
    )

    sub = add("train", _train, "train the recipe in a YAML file")
    sub.add_argument("recipe", type=Path, metavar="recipe.yaml")
    sub.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="change a field")
    sub.add_argument("--name", help="name of the run")
    sub.add_argument("--detach", action="store_true", help="in the background: return at once and go on without me")

    for name, text in {
        "stop": "stop a run after its current step",
        "pause": "hold a run after its current step",
        "resume": "let a paused run go on, or continue one that ended: from its checkpoint, or with the trials left",
    }.items():
        sub = add(name, {"stop": _stop, "pause": _pause, "resume": _resume}[name], text)
        sub.add_argument("run", metavar="RUN", help="name or id of a run")

    sub = add("app", _app, "serve an app on the loopback interface")
    sub.add_argument("name", nargs="?", default="board", metavar="NAME", help="which app (default: board)")
    sub.add_argument("--port", type=int, help="port (default: 8501, or the next that is free)")

    sub = add("compare", _compare, "say which variant is better, and whether that is more than a lucky seed")
    sub.add_argument("runs", nargs="*", metavar="RUN", help="names or ids of runs (default: all of this studio home)")
    _add_comparing(sub)
    sub.add_argument("--diff", action="store_true", help="say instead what differs between two runs")
    sub.add_argument("--json", dest="as_json", action="store_true", help="as JSON")

    sub = add("report", _report, "write a self-contained HTML report")
    sub.add_argument("kind", metavar="KIND", help="which report: training, explain, fairness, trust or compare")
    sub.add_argument("--run", metavar="RUN", help="name or id of a run; compare takes --runs or --filter instead")
    sub.add_argument("--runs", nargs="+", metavar="RUN", help="runs to compare (default: all of this studio home)")
    _add_comparing(sub)
    sub.add_argument("--out", type=Path, metavar="FILE", help="where to write it (default: with the run, or the home)")

    sub = add("doctor", _doctor, "check Python, packages, GPUs, the studio home and the ports")
    sub.add_argument("--json", dest="as_json", action="store_true", help="as JSON")

    sub = add("bench", _bench, "measure dlstudio beside every peer that is installed")
    parts = ("record", "layers", "loop", "read", "live", "start", "explain", "fairness", "compare", "tune", "all")
    sub.add_argument("which", nargs="?", default="all", choices=parts, help="which part (default: all)")
    sub.add_argument("--json", dest="as_json", action="store_true", help="as JSON")
    return parser


def _add_comparing(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--filter", metavar="TEXT", help="runs that an MLflow filter finds, other tools' among them")
    sub.add_argument("--metric", help="what to compare (default: the validation loss)")
    sub.add_argument("--by", metavar="NAME", help="what makes a variant: a setting or tag; example: row by row")
    sub.add_argument("--direction", choices=("max", "min"), help="which is better, where the name does not tell")
    sub.add_argument("--margin", type=float, help="the largest difference that does not matter")
    sub.add_argument("--reference", metavar="VARIANT", help="compare all others with this one (default: all pairs)")


def _demo(arguments: argparse.Namespace) -> int:
    from dlstudio.demo import run_demo

    return run_demo(serve=arguments.serve, epochs=arguments.epochs, port=arguments.port)


def _lab(arguments: argparse.Namespace) -> None:
    from dlstudio import serving

    port = serving.choose_port(arguments.port, serving.LAB_PORT)
    serving.become(serving.lab_command(port, browser=arguments.browser))


def _app(arguments: argparse.Namespace) -> None:
    from dlstudio import serving

    port = serving.choose_port(arguments.port, serving.APP_PORT)
    command = serving.app_command(arguments.name, port)
    print(f"Serving {arguments.name} on http://{serving.LOOPBACK}:{port} (Ctrl-C ends it)")
    serving.become(command)


def _runs(arguments: argparse.Namespace) -> None:
    from dlstudio.runs.run import list_runs

    frame = list_runs(status=arguments.status)
    if arguments.limit > 0:
        frame = frame.head(arguments.limit)
    if arguments.as_json:
        print(frame.to_json(orient="records", date_format="iso", indent=1))
        return
    if frame.empty:
        print("No runs yet. `dlstudio demo` makes some.")
        return
    from dlstudio.terminal import console, run_table

    console().print(run_table(frame))


def _show(arguments: argparse.Namespace) -> None:
    from dlstudio.terminal import run_words

    print(run_words(_opened(arguments.run), arguments.log))


def _train(arguments: argparse.Namespace) -> int:
    from dlstudio.training.recipe import Recipe

    recipe = _changed(Recipe.from_yaml(arguments.recipe), arguments.changes, arguments.name)
    if arguments.detach:
        from dlstudio.training.launch import launch

        run = launch(recipe)
        print(f"{run.name} is {run.status} in the background.")
        print(f"  dlstudio show {run.name}\n  dlstudio stop {run.name}\n  dlstudio app board")
        return OK
    from dlstudio.training.fit import fit

    run = fit(recipe)
    state = run.state()
    print(f"{run.name} {state.status}" + (f": {state.reason}" if state.reason else ""))
    return OK if state.status == "FINISHED" else FAILED


def _changed(recipe: Recipe, changes: Sequence[str], name: str | None) -> Recipe:
    fields: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise DLStudioError("--set KEY=VALUE", repr(change), "Try --set lr=0.001.")
        fields[key.strip()] = _parsed(text)
    if name is not None:
        fields["name"] = name
    return recipe.replace(**fields) if fields else recipe


def _parsed(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text  # the recipe says what it wanted there


def _stop(arguments: argparse.Namespace) -> None:
    run = _opened(arguments.run)
    run.stop()
    _await(run, TERMINAL, "stop")


def _pause(arguments: argparse.Namespace) -> None:
    run = _opened(arguments.run)
    run.pause()
    _await(run, ("PAUSED", *TERMINAL), "pause")


def _resume(arguments: argparse.Namespace) -> None:
    run = _opened(arguments.run)
    if run.status in TERMINAL:
        from dlstudio.training.launch import launch

        if run.info.get("kind") in ("search", "ablation"):
            print(f"{_search_again(run)} goes on with what is left to train in the background.")
            return
        try:
            again = launch(resume=run)
        except DLStudioError as error:
            search = (run.info.get("tags") or {}).get("search")
            if search is None:
                raise
            remedy = f"Continue what it is a trial of: dlstudio resume {shlex.quote(str(search))}."
            raise DLStudioError(error.expected, error.got, remedy) from error
        print(f"{again.name} goes on from its last checkpoint in the background ({again.status}).")
        return
    run.resume()
    _await(run, ("RUNNING", *TERMINAL), "resume")


def _search_again(run: Run) -> str:
    """Continue a search or an ablation that is over; returns its name."""
    from dlstudio.tuning.ablate import ablate
    from dlstudio.tuning.tune import tune

    return tune(resume=run.key).name if run.info["kind"] == "search" else ablate(resume=run.key).name


def _opened(name: str) -> Run:
    from dlstudio.runs.run import open_run

    return open_run(name)


def _await(run: Run, wanted: Sequence[str], verb: str) -> None:
    """Print what became of a command; a busy run may take a step before it obeys."""
    until = time.monotonic() + ANSWER_S
    while (status := run.status) not in wanted and time.monotonic() < until:
        time.sleep(0.1)
    if status in wanted:
        print(f"{run.name} is {status}.")
    else:
        print(f"{run.name} is still {status}; it was asked to {verb} and will do so after its current step.")


def _compare(arguments: argparse.Namespace) -> None:
    if arguments.diff:
        _diff(arguments)
        return
    found = _compared(arguments)
    if arguments.as_json:
        kept = {name: getattr(found, name) for name in ("metric", "direction", "level", "margin", "pairing", "best")}
        frames = {"variants": found.table, "pairs": found.pairs}
        told = {"left_out": found.left_out, "summary": found.summary}
        _print_json({**kept, **{name: _records(frame) for name, frame in frames.items()}, **told})
        return
    from dlstudio.figures import tables
    from dlstudio.terminal import console, words_table

    screen = console()
    first, *others = found.summary
    screen.print(first, markup=False)
    for rows in (tables.variants(found), *([tables.pairs(found)] if found.comparisons else [])):
        screen.print()
        screen.print(words_table(rows.heads, rows.cells))
    screen.print()
    screen.print("\n".join(others), markup=False)


def _compared(arguments: argparse.Namespace) -> Comparison:
    from dlstudio.compare.compare import compare

    if arguments.runs and arguments.filter:
        raise DLStudioError("either runs or a filter", "both", "Leave one out.")
    options = {name: getattr(arguments, name) for name in COMPARING}
    return compare(arguments.runs or arguments.filter, **options)


def _diff(arguments: argparse.Namespace) -> None:
    from dlstudio.compare.diff import diff_runs

    stray = _given(arguments, "filter", *COMPARING)
    if stray is not None:
        raise DLStudioError("two runs alone beside --diff", f"--{stray}", "It lists everything; leave the option out.")
    if len(arguments.runs) != 2:
        raise DLStudioError("two runs beside --diff", f"{len(arguments.runs)}", "Try dlstudio compare A B --diff.")
    found = diff_runs(*arguments.runs)
    if arguments.as_json:
        kept = {"a": found.a, "b": found.b, "summary": found.summary, "items": _records(found.frame())}
        _print_json(kept)
        return
    from dlstudio.figures import tables
    from dlstudio.terminal import console, words_table

    screen, rows = console(), tables.differing(found)
    said = [*found.summary, *(f"{one.sentence} {one.remedy}".rstrip() for one in found.findings)]
    screen.print("\n".join(said), markup=False)
    screen.print()
    screen.print(words_table(rows.heads, rows.cells))


def _given(arguments: argparse.Namespace, *names: str) -> str | None:
    """The first of these options that was given."""
    return next((name for name in names if getattr(arguments, name) is not None), None)


def _records(frame: Any) -> list[Any]:
    """Rows as plain values, what is no number as null."""
    return list(json.loads(frame.to_json(orient="records", double_precision=15)))


def _print_json(values: dict[str, Any]) -> None:
    print(json.dumps(values, indent=1))


def _report(arguments: argparse.Namespace) -> None:
    from dlstudio.reports import report

    if arguments.kind == "compare" and arguments.run is None:
        print(report(arguments.kind, comparison=_compared(arguments), out=arguments.out))
        return
    if arguments.kind == "compare":
        raise DLStudioError("--runs or --filter for this report", "--run", "Try --runs A B, or leave both out for all.")
    stray = _given(arguments, "runs", "filter", *COMPARING)
    if stray is not None:
        raise DLStudioError("--run for this report", f"--{stray}", "Try dlstudio report compare.")
    if arguments.run is None:
        raise DLStudioError("--run RUN for this report", "none", "`dlstudio runs` lists them.")
    print(report(arguments.kind, run=arguments.run, out=arguments.out))


def _doctor(arguments: argparse.Namespace) -> int:
    from dlstudio import doctor

    result = doctor.examine()
    if arguments.as_json:
        print(json.dumps(result.frame().to_dict(orient="records"), indent=1))
    else:
        from dlstudio.terminal import console

        console().print(doctor.table(result))
    return FAILED if result.verdict == doctor.PROBLEM else OK


def _bench(arguments: argparse.Namespace) -> int | None:
    from dlstudio.bench.run import run

    return run(arguments.which, as_json=arguments.as_json)


if __name__ == "__main__":
    sys.exit(main())

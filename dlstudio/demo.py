"""The demo: four real trainings in the background, watched from the terminal, then compared, audited and reported."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table
from rich.text import Text

from dlstudio import serving
from dlstudio.summary.summarize import Summarizer, TrainingSummary
from dlstudio.summary.words import duration, number, verdict
from dlstudio.terminal import console, run_table, status_text

if TYPE_CHECKING:
    from rich.console import Console

    from dlstudio.compare.result import Comparison
    from dlstudio.fairness.result import FairnessAudit
    from dlstudio.runs.run import Run
    from dlstudio.training.recipe import Recipe

__all__ = ["audits", "comparison", "gap_table", "recipes", "run_demo"]

DATA = "mortgage"
RACE = "race"
"""The column of the data that says whether an applicant is black."""
EPOCHS = 60
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"hidden": [256, 128]},
    "dropout": {"hidden": [256, 128], "dropout": 0.5},
}
"""One network learns the training data by heart after some epochs, the other cannot: the curves show it."""
SEEDS = (0, 1)
METRIC = "val/auc"
"""What the variants are compared by."""
REFRESH_S = 0.5
LINE_EVERY_S = 5.0
"""Where the output is no terminal, a progress line comes this often instead of a live table."""


def run_demo(*, serve: bool = True, epochs: int | None = None, port: int | None = None) -> int:
    """Train four runs on the mortgage data, compare and audit them, explain and report the best, then serve the board.

    Afterwards the runs, their telemetry, their audits, the explanation and the report lie in the studio home. The
    trainings are detached: when this process is interrupted they go on.

    Args:
        serve: whether to become the board's server at the end; False returns instead.
        epochs: of each run; None trains the full demo.
        port: of the board; None takes the usual one or the next that is free.

    Returns:
        0 when all four finished, 1 otherwise.

    Raises:
        DLStudioError: the port asked for is taken, or a number is out of range.
    """
    from dlstudio.reports import report
    from dlstudio.runs.run import list_runs
    from dlstudio.training.launch import launch

    if serve:
        port = serving.choose_port(port, serving.APP_PORT)
    screen = console()
    begin = time.monotonic()
    planned = recipes(EPOCHS if epochs is None else epochs)
    screen.print(
        f"Training {len(planned)} networks on the {DATA} data, {len(VARIANTS)} variants × {len(SEEDS)} seeds, "
        "in the background: will the bank approve the loan?\n"
    )
    runs = [launch(recipe) for recipe in planned]
    try:
        summaries = follow(runs, screen)
    except KeyboardInterrupt:
        screen.print("\nThe trainings go on. `dlstudio runs` lists them, `dlstudio stop RUN` ends one.")
        raise
    pairs = list(zip(runs, summaries, strict=True))
    finished = [pair for pair in pairs if pair[1].status == "FINISHED"]
    for run, summary in pairs:
        if summary.status != "FINISHED":
            screen.print(Text(f"\n{run.name}: {verdict(summary)}"))
    if not finished:
        screen.print("No run finished, so there is nothing to report. `dlstudio doctor` may know why.")
        return 1
    best, its_summary = min(finished, key=lambda pair: _best_loss(pair[1]))
    screen.print(f"\nWriting the report of the best, {best.name} …")
    path = report("training", run=best.key)

    frame = list_runs()
    screen.print(run_table(frame[frame["key"].isin([run.key for run in runs])]))
    loss, took = number(its_summary.best.get("val/loss")), duration(time.monotonic() - begin)
    screen.print(f"\nLowest validation loss: {loss} by {best.name}. Took {took}.\n")
    if len(finished) > 1:
        screen.print("Is one variant better, or were its seeds only luckier? All seeds of both, compared:")
        screen.print(Text("\n".join((*comparison([run for run, _ in finished]).summary, ""))))
    screen.print("Who is approved? Every model, audited by race on applications that it has not seen:")
    audited = audits([run for run, _ in finished])
    screen.print(gap_table(audited))
    screen.print(Text(f"\n{audited[best.name].summary[0]}\n"))
    screen.print(f"What does the best, {best.name}, go by? Its decisions on 100 applications, explained and checked:")
    screen.print(Text("\n".join((*explanation(best), ""))))
    _say_what_next(screen, best, str(path), port if serve else None)
    if serve:
        assert port is not None
        serving.become(serving.app_command("board", port))
    return 0 if len(finished) == len(runs) else 1


def recipes(epochs: int = EPOCHS) -> list[Recipe]:
    """The four recipes of the demo: every variant with every seed."""
    from dlstudio.training.recipe import Recipe

    return [
        Recipe(
            data=DATA, model="mlp", model_options=options, epochs=epochs, lr=3e-4,
            schedule="cosine", seed=seed, variant=variant, name=f"demo-{variant}-{seed}",
        )
        for variant, options in VARIANTS.items()
        for seed in SEEDS
    ]  # fmt: skip


def comparison(runs: Sequence[Run]) -> Comparison:
    """Compare the variants over the seeds that were trained."""
    from dlstudio.compare.compare import compare

    return compare(list(runs), metric=METRIC)


def audits(runs: Sequence[Run]) -> dict[str, FairnessAudit]:
    """Audit some runs on the mortgage data by race; the audits are kept with them.

    Returns:
        By the name of the run.
    """
    from dlstudio.fairness.audit import audit_fairness

    return {run.name: audit_fairness(run, sensitive_features=[RACE], intersections=1) for run in runs}


def explanation(run: Run) -> tuple[str, ...]:
    """Explain a run's decisions; the explanation is kept with it.

    Returns:
        Whether it can be believed, and what it says, in a sentence each.
    """
    from dlstudio.explain.explain import explain
    from dlstudio.explain.words import headline, verdict_line

    found = explain(run, progress=False, max_seconds=60)
    return verdict_line(found), headline(found)


def gap_table(audited: Mapping[str, FairnessAudit]) -> Table:
    """Lay out the gap in approvals of every audited model, with its interval and what can be said of it."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Run", no_wrap=True)
    for heading in ("Black approved", "White approved", "Gap in points", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Verdict")
    for name, audit in audited.items():
        rates = audit.by_group.query("metric == 'selection_rate' and sensitive_feature == @RACE").set_index("group")
        black, white = (
            f"{100 * row['value']:.1f} % ({row['numerator']:.0f} of {row['denominator']:.0f})"
            for _, row in rates.loc[["black", "white"]].iterrows()
        )
        pair = "criterion == 'demographic_parity_difference' and group == 'black' and reference == 'white'"
        gap = audit.gaps.query(pair).iloc[0]
        low, high = (f"{100 * gap[end]:+.1f}" for end in ("low", "high"))
        table.add_row(Text(name), black, white, f"{100 * gap['value']:+.1f}", f"{low} to {high}", gap["verdict"])
    return table


def follow(runs: Sequence[Run], screen: Console) -> list[TrainingSummary]:
    """Show the progress of some runs until all are over.

    Returns:
        Their final summaries, in the order of `runs`.
    """
    followers = [Summarizer(run) for run in runs]
    summaries = [follower.update() for follower in followers]
    next_line = 0.0
    with Live(progress_table(summaries), console=screen, auto_refresh=False, transient=False) as live:
        while True:
            live.update(progress_table(summaries), refresh=screen.is_terminal)
            if not screen.is_terminal and time.monotonic() >= next_line:
                next_line = time.monotonic() + LINE_EVERY_S
                screen.print(Text(progress_line(summaries)))
            if not any(summary.live for summary in summaries):
                return summaries
            time.sleep(REFRESH_S)
            summaries = [
                follower.update() if summary.live else summary
                for follower, summary in zip(followers, summaries, strict=True)
            ]


def progress_table(summaries: Sequence[TrainingSummary]) -> Table:
    """Lay out how far each run is, and how well it does."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Run", no_wrap=True)
    table.add_column("Status", no_wrap=True, min_width=8)
    for heading in ("Epoch", "Step", "Loss", "Val. loss", "Val. balanced accuracy", "Time left"):
        table.add_column(heading, justify="right", no_wrap=True)
    for summary in summaries:
        table.add_row(
            Text(summary.name),
            status_text(summary.status),
            f"{summary.n_epochs} of {summary.n_epochs_planned}" if summary.n_epochs_planned else "–",
            number(summary.n_steps),
            number(summary.final.get("loss")),
            number(summary.final.get("val/loss")),
            number(summary.final.get("val/balanced_accuracy")),
            duration(time_left_s(summary)) if summary.live else "done",
        )
    return table


def progress_line(summaries: Sequence[TrainingSummary]) -> str:
    """The same as one line, for output that goes to a file."""
    parts = []
    for summary in summaries:
        part = f"{summary.name} {summary.status}"
        if summary.n_steps_planned and summary.live and summary.n_steps:
            part += f" {100 * summary.n_steps // summary.n_steps_planned} %"
        parts.append(part)
    return " · ".join(parts)


def time_left_s(summary: TrainingSummary) -> float | None:
    """Seconds to go at the pace so far; None while that cannot be said."""
    if not summary.n_steps_planned or not summary.n_steps or not summary.wall_s or summary.status != "RUNNING":
        return None
    return max(0.0, (summary.n_steps_planned - summary.n_steps) * summary.wall_s / summary.n_steps)


def _best_loss(summary: TrainingSummary) -> float:
    loss = summary.best.get("val/loss", math.inf)
    return loss if math.isfinite(loss) else math.inf


def _say_what_next(screen: Console, best: Run, report: str, port: int | None) -> None:
    rows = {"Report": report}
    if port is None:
        rows["Board"] = "dlstudio app board"
    else:
        rows["Board"] = f"http://{serving.LOOPBACK}:{port} (Ctrl-C ends it)"
    rows["Tutorial"] = "dlstudio lab"
    rows["In a notebook"] = f'import dlstudio as dls; dls.show("{best.name}")'
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for what, how in rows.items():
        grid.add_row(Text(what, style="bold"), Text(how, overflow="fold"))
    screen.print("What to open next:")
    screen.print(grid)

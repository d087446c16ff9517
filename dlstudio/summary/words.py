"""A training summary in plain words: the verdict, the key numbers and the findings that every face shows."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dlstudio.results import Finding
from dlstudio.summary.numbers import TrainingSummary

__all__ = [
    "KeyNumber",
    "describe",
    "duration",
    "findings",
    "key_numbers",
    "label",
    "moment",
    "number",
    "verdict",
]

_LABELS = {
    "loss": "Training loss",
    "train/loss": "Training loss, epoch mean",
    "lr": "Learning rate",
    "epoch": "Epoch",
    "throughput_samples_per_s": "Throughput (samples/s)",
    "best/val/loss": "Best validation loss",
    "latency_ms": "Latency of a row (ms)",
    "latency_p95_ms": "Latency of a row, 95th percentile (ms)",
    "batch_latency_ms": "Latency of a batch (ms)",
    "batch_latency_p95_ms": "Latency of a batch, 95th percentile (ms)",
    "rows_per_s": "Rows a second",
    "n_parameters": "Parameters",
    "size_mib": "Size (MiB)",
    "peak_mib": "Peak memory (MiB)",
    "calibration_error": "Calibration error",
}
_SPLITS = {"train": "Training", "val": "Validation", "test": "Test"}
_METRICS = {
    "auc": "AUC",
    "f1": "F1",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "r2": "R²",
}
_HEADLINE_METRICS = ("val/accuracy", "val/balanced_accuracy", "val/auc", "val/rmse", "val/r2")
_STATUS = {
    "RUNNING": "is running",
    "PAUSED": "is paused",
    "FINISHED": "finished",
    "FAILED": "failed",
    "KILLED": "was stopped",
}
_GROUPS = {"search": "The search", "ablation": "The ablation", "plan": "The list of runs"}


@dataclass(frozen=True, kw_only=True)
class KeyNumber:
    """One number at the top of a page: its label, the text to show, and one sentence on what it means."""

    label: str
    text: str
    meaning: str


def number(item: float | int | None) -> str:
    """Format a number for people: four significant digits, separators in whole ones, a dash when missing.

    Example:
        >>> number(0.123456), number(1234567), number(float("nan")), number(None)
        ('0.1235', '1,234,567', 'NaN', '–')
    """
    if item is None:
        return "–"
    if isinstance(item, int):
        return f"{item:,}"
    if not math.isfinite(item):
        return "NaN" if math.isnan(item) else ("∞" if item > 0 else "−∞")
    if item == 0 or 1e-4 <= abs(item) < 1e4:
        return f"{item:.4g}"
    return f"{item:,.0f}" if 1e4 <= abs(item) < 1e9 else f"{item:.3e}"


def duration(seconds: float | None) -> str:
    """Format a time span: ``"0.8 s"``, ``"42 s"``, ``"3 min 5 s"``, ``"2 h 10 min"``, ``"3 d 4 h"``."""
    if seconds is None:
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for size, unit, smaller, smaller_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {smaller_unit}" if rest else "")
    return f"{whole} s"


def moment(seconds: float | None) -> str:
    """Format seconds since the epoch as ``"2026-11-21 09:13 UTC"``."""
    return "–" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def label(key: str) -> str:
    """The plain name of a recorded key: ``"val/auc"`` is "Validation AUC"."""
    if key in _LABELS:
        return _LABELS[key]
    head, _, tail = key.partition("/")
    if head in _SPLITS and tail:
        return f"{_SPLITS[head]} {_METRICS.get(tail, tail.replace('_', ' '))}"
    return key


def _of(done: int, planned: int | None) -> str:
    return f"{done:,} of {planned:,}" if planned else f"{done:,}"


def _counted(done: int, planned: int | None, what: str) -> str:
    return f"{_of(done, planned)} {what}" + ("" if (planned or done) == 1 else "s")


def verdict(summary: TrainingSummary) -> str:
    """Say in a few sentences how the run stands; only what is certain."""
    return f"{_standing(summary)}{_best(summary)}"


def _standing(summary: TrainingSummary, *, counted: bool = True) -> str:
    done = ""
    if summary.part is not None:
        planned = summary.n_steps_planned or 0
        said = _counted(summary.n_steps, planned if planned >= summary.n_steps else None, summary.part)
        done = said if counted else ""
    elif summary.n_epochs:
        done = _counted(summary.n_epochs, summary.n_epochs_planned, "epoch")
    elif summary.n_steps:
        done = _counted(summary.n_steps, summary.n_steps_planned, "step")
    text = f"{_GROUPS.get(summary.kind, 'Training')} {_STATUS.get(summary.status, summary.status)}"
    if summary.status == "QUEUED":
        text = "Waiting to start"
    if summary.live:
        text += f", {done} done" if done else ""
    else:
        parts = [part for part in (done, duration(summary.wall_s) if summary.wall_s is not None else "") if part]
        text += f" after {' and '.join(parts)}" if parts else ""
    text += "."
    if summary.reason and summary.status != "FINISHED":
        text += f" {_sentence(summary.reason)}"
    return text


def _best(summary: TrainingSummary) -> str:
    verb = "so far is" if summary.live else "was"
    if summary.part is not None:
        found = _best_of_group(summary)
        return "".join(f" The best {metric} {verb} {number(value)}." for metric, value in found.items())
    if "val/loss" in summary.best:
        at = f"in epoch {summary.best_epoch:,}" if summary.best_epoch else f"at step {summary.best_step:,}"
        return f" The lowest validation loss {verb} {number(summary.best['val/loss'])}, {at}."
    return f" The last training loss is {number(summary.final['loss'])}." if "loss" in summary.final else ""


def _best_of_group(summary: TrainingSummary) -> dict[str, float]:
    """By metric, the best value that a search has logged."""
    return {key.removeprefix("best/"): value for key, value in sorted(summary.final.items()) if key.startswith("best/")}


def _sentence(reason: str) -> str:
    return reason[:1].upper() + reason[1:].rstrip(". ") + "."


def key_numbers(summary: TrainingSummary) -> list[KeyNumber]:
    """The numbers that head a page, in reading order; the same on every face.

    Example:
        >>> key_numbers(summary)[0].label, key_numbers(summary)[0].text
        ('Epochs', '20 of 20')
    """
    shown = []

    def add(name: str, text: str, meaning: str) -> None:
        shown.append(KeyNumber(label=name, text=text, meaning=meaning))

    if summary.part is not None:
        add(f"{summary.part.capitalize()}s", _of(summary.n_steps, summary.n_steps_planned), "Those that have ended.")
        add("Duration", duration(summary.wall_s), "From the start to the end, or to now.")
        for metric, value in _best_of_group(summary).items():
            name = label(metric) if label(metric) == metric else label(metric)[:1].lower() + label(metric)[1:]
            add(f"Best {name}", number(value), f"Of all {summary.part}s that have ended.")
        return shown
    if summary.n_epochs_planned or summary.n_epochs:
        add("Epochs", _of(summary.n_epochs, summary.n_epochs_planned), "Passes over the training data.")
    add("Steps", _of(summary.n_steps, summary.n_steps_planned), "Updates of the model's weights.")
    add("Duration", duration(summary.wall_s), "From the start to the end, or to now.")
    if "loss" in summary.final:
        meaning = "The last recorded error on the data the model learns from; lower is better."
        add("Training loss", number(summary.final["loss"]), meaning)
    if "val/loss" in summary.best:
        meaning = "The lowest error on data the model does not learn from."
        add("Best validation loss", number(summary.best["val/loss"]), meaning)
    where = f" (epoch {summary.best_epoch:,})" if summary.best_epoch else ""
    for key in _HEADLINE_METRICS:
        if key in summary.best and len(shown) < 7:
            add(
                label(key),
                number(summary.best[key]),
                f"Measured where the validation loss was lowest{where}.",
            )
    if summary.throughput_samples_per_s is not None:
        speed = summary.throughput_samples_per_s
        add(
            "Samples per second",
            number(round(speed)) if math.isfinite(speed) else number(speed),
            "Training speed, as last measured.",
        )
    return shown


def findings(summary: TrainingSummary) -> list[Finding]:
    """State what is certain and worth knowing, most severe first.

    Codes DLS100 to DLS109 are facts of the run itself; nothing here is a guess about causes.

    DLS100 the run failed, 101 a loss was not finite, 102 telemetry was lost, 103 telemetry is damaged, 104 the run
    was stopped, 105 where the best epoch lies.
    """
    found: list[Finding] = []

    def add(code: str, severity: str, sentence: str, remedy: str = "", **evidence: Any) -> None:
        found.append(Finding(code=code, severity=severity, sentence=sentence, evidence=evidence, remedy=remedy))

    if summary.status == "FAILED":
        because = f": {summary.reason.strip().rstrip('.')}" if summary.reason else ""
        add(
            "DLS100",
            "critical",
            f"{_GROUPS.get(summary.kind, 'The run')} failed{because}.",
            _remedy(summary),
            status=summary.status,
            reason=summary.reason,
        )
    for key in ("loss", "val/loss"):
        curve = summary.curves.get(key)
        if curve is not None and curve.n_nonfinite:
            many = f"{curve.n_nonfinite:,} of {curve.n:,} values"
            add(
                "DLS101",
                "critical",
                f"{label(key)} was not a finite number at step {curve.first_nonfinite_x:,} "
                f"for the first time ({many}).",
                "Lower the learning rate, clip gradients or check the data.",
                key=key,
                first_step=curve.first_nonfinite_x,
                n=curve.n_nonfinite,
            )
    if summary.n_lost:
        add(
            "DLS102",
            "warning",
            f"{summary.n_lost:,} recorded points could not be written, so the curves have gaps; "
            "training itself went on.",
            "Check free space and permissions of the studio home.",
            n_lost=summary.n_lost,
        )
    for damage in summary.damage:
        add("DLS103", "warning", f"Part of the recording cannot be read: {damage}.", damage=damage)
    if summary.status == "KILLED":
        because = f": {summary.reason.strip().rstrip('.')}" if summary.reason else ""
        sentence = f"{_GROUPS.get(summary.kind, 'The run')} was stopped before its end{because}."
        remedy = _remedy(summary) if summary.part is not None else ""
        add("DLS104", "info", sentence, remedy, reason=summary.reason)
    if summary.best_epoch and summary.n_epochs and not summary.live:
        add(
            "DLS105",
            "info",
            f"The validation loss was lowest in epoch {summary.best_epoch:,} of {summary.n_epochs:,}.",
            best_epoch=summary.best_epoch,
            n_epochs=summary.n_epochs,
        )
    return found


def _remedy(summary: TrainingSummary) -> str:
    """What to do about a run that failed; only a launched one has a log of its own."""
    traced = summary.traceback is not None
    if summary.part is not None:
        again = f"; dlstudio resume {shlex.quote(summary.name)} continues it" if summary.kind != "plan" else ""
        return f"Read workers.log in its folder{again}."
    if summary.kind == "trial":
        both = "its traceback, and " if traced else ""
        return f"Read {both}workers.log of its search; dlstudio resume continues a search that has ended."
    if summary.kind == "launch":
        return "Read the log, then resume from the last checkpoint."
    again = "resume from the last checkpoint." if summary.kind == "fit" else "run it again."
    return f"Read the traceback, then {again}" if traced else again[0].upper() + again[1:]


def provenance(summary: TrainingSummary) -> dict[str, str]:
    """Where the run comes from, as words by name: times, model size, code, command, machine; packages left out."""
    facts = {
        "Key": summary.key,
        "Catalogue id": summary.run_id or "not yet in the catalogue",
        "Started": moment(summary.started),
        "Ended": moment(summary.ended),
    }
    if summary.n_parameters is not None:
        facts["Model parameters"] = number(summary.n_parameters)
    for key, item in summary.environment.items():
        if key == "packages" or item in (None, "", [], {}):
            continue
        if key == "git" and isinstance(item, Mapping):
            facts["Code"] = f"commit {str(item.get('commit'))[:12]} on {item.get('branch') or 'no branch'}"
            changed = item.get("changed") or []
            facts["Uncommitted changes"] = f"{len(changed)} files (see code.diff)" if changed else "none"
        else:
            facts[{"n_cpus": "Processors", "cwd": "Folder"}.get(key, key.replace("_", " ").capitalize())] = _words(item)
    return facts


def _words(item: object) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, list | tuple):
        parts = [str(part) for part in item]
        return shlex.join(parts) if parts and parts[0].startswith("/") else ", ".join(parts)
    return json.dumps(item, default=str, ensure_ascii=False)


def describe(summary: TrainingSummary, found: Sequence[str] = (), mind: Sequence[Finding] = ()) -> str:
    """The run as a few lines of text for a terminal.

    Args:
        summary: of the run.
        found: sentences on what its runs show together, where it is made of others.
        mind: findings about these.
    """
    # What the runs show together counts them better: a trial that was lost and tried again is one.
    said = [_standing(summary, counted=False), *found] if found else [verdict(summary)]
    lines = [f"{summary.name}  [{summary.status}]", *said, ""]
    rows = [(item.label, item.text) for item in key_numbers(summary)[1 if found else 0 :]]
    rows += [("Created", moment(summary.created)), ("Key", summary.key)]
    for key in sorted(key for key in summary.final if key.startswith("test/")):
        rows.append((label(key), number(summary.final[key])))
    width = max(len(name) for name, _ in rows)
    lines += [f"  {name:<{width}}  {text}" for name, text in rows]
    notes = [finding for finding in (*findings(summary), *mind) if finding.severity != "info"]
    if notes:
        lines += [""] + [
            f"  {note.code} {note.sentence}" + (f" {note.remedy}" if note.remedy else "") for note in notes
        ]
    return "\n".join(lines)

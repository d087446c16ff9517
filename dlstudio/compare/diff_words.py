"""What differs between two runs, in sentences."""

from __future__ import annotations

from collections.abc import Mapping

from dlstudio.compare.diff_facts import Value
from dlstudio.compare.diff_result import RunDiff
from dlstudio.compare.words import listed
from dlstudio.results import Finding

__all__ = ["describe", "findings_of"]

CAUSES = {
    "config": "settings",
    "data": "data",
    "model": "model structure",
    "code": "code",
    "notebook": "notebook cells",
    "packages": "packages",
    "environment": "machine",
}
_CHANGING = ("status", "reason", "steps", "wall_s", "weights", "lr", "epoch")
_TIMED = ("phase/", "throughput")


def describe(diff: RunDiff) -> tuple[str, ...]:
    """Say what differs, what is the same, what is not known and what came of it."""
    known = {row[0] for row in diff.rows} - diff.unrecorded.keys()
    sentences = []
    settings = diff.differing("config")
    if settings:
        sentences.append(f"{_some(len(settings), 'setting')}: {_changes(settings)}.")
    if "data" in diff.sections:
        sentences.append(f"They were trained on other data: {_changes(_shortened(diff.differing('data')))}.")
    if "model" in diff.sections:
        sentences.append(f"The models differ: {_changes(diff.differing('model'))}.")
    if "code" in diff.sections:
        sentences.append(f"The code differs: {_code(diff)}.")
    if "notebook" in diff.sections:
        n = len(diff.differing("notebook"))
        sentences.append(f"{n} notebook cell{'s' if n > 1 else ''} executed before the run {_are(n)} not the same.")
    if "packages" in diff.sections:
        packages = diff.differing("packages")
        sentences.append(f"{_some(len(packages), 'package')} of another version: {_changes(packages)}.")
    if "environment" in diff.sections:
        sentences.append(f"They ran elsewhere: {_changes(diff.differing('environment'))}.")
    same = [words for section, words in CAUSES.items() if section in known and section not in diff.sections]
    if same:
        sentences.append(f"The same in both: {listed(same, len(same))}.")
    for side, name in (("a", diff.a), ("b", diff.b)):
        missing = [CAUSES[section] for section, which in diff.unrecorded.items() if which == _other(side)]
        if missing:
            sentences.append(f"Of {name!r} nothing is recorded of: {listed(missing, len(missing))}.")
    metrics = _metrics(diff)
    if metrics:
        sentences.append(f"What came of it: {_changes(metrics)}.")
    return tuple(sentences)


def findings_of(diff: RunDiff) -> tuple[Finding, ...]:
    """Say what follows for whoever wants to compare the two."""
    found = []
    data = {item: pair for item, pair in diff.differing("data").items() if item.endswith("fingerprint")}
    if data:
        found.append(
            Finding(
                code="DLS501",
                severity="warning",
                sentence=f"{diff.a!r} and {diff.b!r} were trained on different data: their metrics are not comparable.",
                evidence={item: list(pair) for item, pair in data.items()},
                remedy="Train both on the same data, or compare them on rows that both have not seen.",
            )
        )
    causes = [section for section in CAUSES if section in diff.sections]
    outcome = _metrics(diff)
    if not causes and outcome and not diff.unrecorded:
        found.append(
            Finding(
                code="DLS511",
                severity="warning",
                sentence="Nothing recorded of the two runs differs, and yet their metrics do.",
                evidence={item: list(pair) for item, pair in outcome.items()},
                remedy="Look for randomness without a seed, operations whose order varies, or code outside git.",
            )
        )
    untracked = sorted({row[1].removeprefix("new file ") for row in diff.rows if row[1].startswith("new file ")})
    if untracked:
        found.append(
            Finding(
                code="DLS512",
                severity="info",
                sentence=f"{_some(len(untracked), 'file')} beside the code {_are(len(untracked))} not in git: what "
                "is in them was not recorded and may differ.",
                evidence={"files": untracked},
                remedy="Add them to git (git add), so that later runs record them.",
            )
        )
    return tuple(found)


def _code(diff: RunDiff) -> str:
    pairs = diff.differing("code")
    files = [(item.split(" ")[0], item) for item in pairs]
    said = [_changes(_shortened({item: pairs[item]})) for item in ("commit", "branch", "command") if item in pairs]
    for kind, words in (
        ("committed", "{} changed between the commits"),
        ("uncommitted", "{} with other uncommitted changes"),
        ("new", "{} not in git beside only one of them"),
    ):
        n = sum(start == kind for start, _ in files)
        said += [words.format(_some(n, "file"))] if n else []
    return ", ".join(said)


def _metrics(diff: RunDiff) -> dict[str, tuple[Value, Value]]:
    """Measured quality that differs: what the test rows say, where there are any."""
    found = {
        item: pair
        for item, pair in diff.differing("outcome").items()
        if item not in _CHANGING and not item.startswith(_TIMED) and None not in pair
    }
    return {item: pair for item, pair in found.items() if item.startswith("test/")} or found


def _changes(pairs: Mapping[str, tuple[Value, Value]], most: int = 5) -> str:
    shown = [f"{item} {_value(a)} → {_value(b)}" for item, (a, b) in list(pairs.items())[:most]]
    return ", ".join(shown) + (f" and {len(pairs) - most} more" if len(pairs) > most else "")


def _shortened(pairs: Mapping[str, tuple[Value, Value]]) -> dict[str, tuple[Value, Value]]:
    def short(value: Value) -> Value:
        return value[:9] if isinstance(value, str) and len(value) >= 40 and " " not in value else value

    return {item: (short(a), short(b)) for item, (a, b) in pairs.items()}


def _value(value: Value) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}…"


def _some(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _other(side: str) -> str:
    return "b" if side == "a" else "a"

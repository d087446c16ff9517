"""Two runs side by side: what differs between them, and so may be why one is better."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from dlstudio.compare.diff_facts import SECTIONS, Facts, Value, facts_of
from dlstudio.compare.diff_result import RunDiff
from dlstudio.compare.diff_words import describe, findings_of
from dlstudio.tracking.environment import changed_between

__all__ = ["diff_runs"]

CHECKPOINTED = "modality"
"""Told of the data by a checkpoint; before the first one, and by other tools, less is known."""
Row = tuple[str, str, Value, Value, bool]


def diff_runs(a: Any, b: Any) -> RunDiff:
    """Put everything recorded of two runs side by side: settings, data, model, code, notebook, machine and outcome.

    Code is compared with its uncommitted changes; where git knows both commits, with what was committed between them.
    Parameters of the model are those of the best checkpoint. A setting that a recipe did not have when a run was
    recorded counts as its default.

    Args:
        a, b: runs, their names, keys or MLflow ids; or runs that anything else entered into the MLflow store, of which
            there are parameters, tags, metrics and named data sets.

    Returns:
        What differs first, with a summary in words.

    Raises:
        DLStudioError: there is no such run.

    Example:
        >>> d = dls.diff_runs("baseline", "wider")
        >>> d.summary
        >>> d.frame().query("differs")[["section", "item", "a", "b"]]
    """
    one, two = facts_of(a), facts_of(b)
    rows: list[Row] = []
    unrecorded: dict[str, str] = {}
    for section in SECTIONS:
        if section not in one.sections and section not in two.sections:
            continue
        known = section in one.sections and section in two.sections
        if not known:
            unrecorded[section] = "b" if section in two.sections else "a"
        pairs = _cells(one, two) if section == "notebook" else _pairs(one, two, section)
        rows += [(section, item, left, right, known and not _same(left, right)) for item, left, right in pairs]
        if section == "code" and known:
            rows += [("code", item, left, right, True) for item, left, right in _committed(one, two)]
    files = {
        path: (one.patches.get(path, ""), two.patches.get(path, ""))
        for path in sorted(one.patches.keys() | two.patches.keys())
    }
    result = RunDiff(
        a=one.name,
        b=two.name,
        a_key=one.key,
        b_key=two.key,
        rows=tuple(sorted(rows, key=lambda row: not row[4])),
        unrecorded=unrecorded,
        patches={path: both for path, both in files.items() if both[0] != both[1]},
    )
    return dataclasses.replace(result, summary=describe(result), findings=findings_of(result))


def _pairs(one: Facts, two: Facts, section: str) -> list[tuple[str, Value, Value]]:
    left, right = one.sections.get(section, {}), two.sections.get(section, {})
    if section == "data" and left and right and not (CHECKPOINTED in left and CHECKPOINTED in right):
        return [(item, left[item], right[item]) for item in left if item in right]  # what is known of both
    return [(item, left.get(item), right.get(item)) for item in {**left, **right}]


def _same(left: Value, right: Value) -> bool:
    # NaN equals NaN here, and MLflow gives as text what a run's own folder holds as a number.
    return left == right or str(left) == str(right)


def _cells(one: Facts, two: Facts) -> list[tuple[str, Value, Value]]:
    """Cells in the order they were executed, those with the same source side by side."""
    rows: list[tuple[str, Value, Value]] = []
    matcher = difflib.SequenceMatcher(None, one.cells, two.cells, autojunk=False)
    for _, i, i_end, j, j_end in matcher.get_opcodes():
        for offset in range(max(i_end - i, j_end - j)):
            left = one.cells[i + offset] if i + offset < i_end else None
            right = two.cells[j + offset] if j + offset < j_end else None
            rows.append((f"cell {len(rows) + 1}", left, right))
    return rows


def _committed(one: Facts, two: Facts) -> list[tuple[str, Value, Value]]:
    if one.commit == two.commit:
        return []
    for cwd in {one.cwd: None, two.cwd: None}:
        changed = changed_between(cwd, one.commit, two.commit) if cwd else None
        if changed is not None:
            return [(f"committed {path}", None, f"+{more} -{less}") for path, (more, less) in changed.items()]
    return []

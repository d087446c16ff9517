"""What `diff_runs` returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dlstudio.compare.diff_facts import SECTIONS, Value
from dlstudio.errors import unknown_name
from dlstudio.results import Finding, Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RunDiff"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RunDiff(Result, schema=1):
    """Everything recorded of two runs side by side, what differs first.

    Attributes:
        a, b: what the runs are called.
        a_key, b_key: names of their folders, or MLflow ids.
        rows: ``(section, item, value of a, value of b, differs)``; sections in the order config, data, model, code,
            notebook, environment, packages, run, outcome. A value is None where a run does not have the item.
        unrecorded: section to ``"a"``, ``"b"``: sections that only one run has a record of. They differ in
            nothing that could be told.
        patches: of files whose uncommitted changes differ, by path: those of a and of b as git shows them, "" for
            none.
        summary: what differs, in sentences.
        findings: what follows; codes DLS501, DLS511 and DLS512.

    Example:
        >>> d = dls.diff_runs("my-run", "my-run-2")
        >>> d.differing("config")
        {'lr': ('0.001', '0.01')}
        >>> d.frame().query("differs")
    """

    a: str
    b: str
    a_key: str
    b_key: str
    rows: tuple[tuple[str, str, Value, Value, bool], ...]
    unrecorded: Mapping[str, str] = dataclasses.field(default_factory=dict)
    patches: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    summary: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return sum(row[4] for row in self.rows)

    def frame(self) -> pd.DataFrame:
        """Return a row per item: ``section, item, a, b, differs``; what differs first."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=["section", "item", "a", "b", "differs"]).astype({"differs": bool})

    def differing(self, section: str) -> dict[str, tuple[Value, Value]]:
        """Return the items of one section that differ, as ``(value of a, value of b)``.

        Raises:
            DLStudioError: there is no such section.
        """
        if section not in SECTIONS:
            raise unknown_name("section", section, SECTIONS)
        return {item: (a, b) for place, item, a, b, differs in self.rows if place == section and differs}

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections that differ."""
        found = {row[0] for row in self.rows if row[4]}
        return tuple(section for section in SECTIONS if section in found)

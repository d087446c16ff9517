"""Numbers, intervals, p-values, names, rows and errors as sentences say them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable

from dlstudio.errors import DLStudioError

__all__ = ["ASK", "CODE", "listed", "p_words", "percent", "points", "rows_in", "span", "told"]

ASK = "Ask the engineer to look into this."
"""What to do where no more is known than that the remedy is code."""
CODE = re.compile(r"[a-z]\w*_\w+|\b\w+=|`|\w\(|\b\w+\.[a-z_]\w*|\w\[")
"""Names with underscores, arguments, calls, attributes, places."""


def percent(share: float, digits: int = 1) -> str:
    """Return a share as people read it.

    Example:
        >>> percent(0.8733)
        '87.3 %'
    """
    return f"{100 * share:.{digits}f} %"


def points(share: float) -> str:
    """Return a difference of shares in percentage points, without a sign of its own when it is above 0.

    Example:
        >>> points(-0.0213)
        '-2.1'
    """
    return f"{100 * share:.1f}"


def span(low: str, high: str, level: float) -> str:
    """Return an interval in words.

    Example:
        >>> span("1.2", "3.4", 0.95)
        '95 % interval 1.2 to 3.4'
    """
    return f"{100 * level:g} % interval {low} to {high}"


def rows_in(n: int, split: str = "", data: str = "") -> str:
    """Say which rows a number rests on.

    Example:
        >>> rows_in(298, "test", "mortgage")
        'the 298 test rows of mortgage'
    """
    if not split:
        return f"{n:,} rows"
    return f"the {n:,} {split} rows" + (f" of {data}" if data else "")


def p_words(p: float) -> str:
    """Return a p-value as people write it.

    Example:
        >>> p_words(0.00002)
        'p < 0.001'
    """
    return "p unknown" if math.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def listed(names: Iterable[str], most: int = 4) -> str:
    """Join names, the first few of many.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    known = list(names)
    if len(known) > most:
        return f"{', '.join(known[:most])} and {len(known) - most} more"
    return " and ".join([", ".join(known[:-1]), known[-1]] if len(known) > 1 else known)


def told(error: Exception, named: Callable[[str], str] = str) -> str:
    """Return what went wrong in words, with whom to ask where only code would help.

    Args:
        error: that was raised.
        named: puts names that stand in its words into others.

    Example:
        >>> told(DLStudioError("two groups", "one", "Pass groups=['sex']."))
        'Expected two groups, but got one. Ask the engineer to look into this.'
    """
    if not isinstance(error, DLStudioError):
        return f"{error}".strip() or type(error).__name__
    remedy = named(error.remedy)
    found = named(f"Expected {error.expected}, but got {error.got}.")
    return f"{found} {ASK if CODE.search(remedy) else remedy}".strip()

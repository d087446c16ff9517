"""Numbers, intervals and rows as sentences say them."""

from __future__ import annotations

__all__ = ["listed", "percent", "points", "rows_in", "span"]


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


def listed(names: list[str], most: int = 4) -> str:
    """Join names, the first few of many.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

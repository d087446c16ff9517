"""Show how far a few long steps have come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

__all__ = ["counted"]

_T = TypeVar("_T")


def counted(items: Sequence[_T], progress: bool | Callable[[int, int], None], unit: str) -> Iterator[_T]:
    """Go through items; show a bar once that takes more than a moment, or call `progress` with items done and all.

    Args:
        items: what is gone through.
        progress: whether to show a bar, or the function to call.
        unit: what an item is.
    """
    if callable(progress):
        for done, item in enumerate(items):
            progress(done, len(items))
            yield item
        progress(len(items), len(items))
    elif not progress:
        yield from items
    else:
        from tqdm.auto import tqdm

        yield from tqdm(items, unit=unit, desc="Explaining", delay=1.0, leave=False)

"""The bundled data sets by name."""

from __future__ import annotations

from collections.abc import Callable

from dlstudio.data import bundled
from dlstudio.data.dataset import Dataset
from dlstudio.data.names import names
from dlstudio.errors import unknown_name

__all__ = ["available", "load"]

_LOADERS: dict[str, Callable[[int], Dataset]] = {
    loader.__name__: loader
    for loader in (
        bundled.mortgage,
        bundled.employment,
        bundled.fashion,
        bundled.fashion_full,
        bundled.digits,
        bundled.reviews,
        bundled.bikes,
        bundled.bikes_sequence,
    )
}


def available() -> dict[str, str]:
    """Return the names that `load` can read on this machine, each with a line that describes it."""
    return {name: (_LOADERS[name].__doc__ or "").strip().splitlines()[0] for name in names()}


def load(name: str, seed: int = 0) -> Dataset:
    """Read a bundled data set, encoded and split.

    Args:
        name: one of `available`.
        seed: decides which rows train, validate and test; sets with an official or a time order keep it.

    Returns:
        The data set; the same name, seed and version give the same fingerprint.

    Raises:
        DLStudioError: there is no such set, or its file is missing.

    Example:
        >>> load("mortgage").class_names
        ('denied', 'approved')
    """
    loader = _LOADERS.get(name) if isinstance(name, str) else None
    if loader is None:
        raise unknown_name("data set", name, available())
    return loader(seed)

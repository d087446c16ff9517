"""Names of the bundled data sets, for those who only need to know what there is. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package ``dataset-fashion-mnist`` puts the full set."""

_NAMES = ("mortgage", "employment", "fashion", "digits", "reviews", "bikes", "bikes_sequence")


def names() -> tuple[str, ...]:
    """The sets that can be loaded on this machine."""
    return (*_NAMES, "fashion_full") if FASHION_FOLDER.is_dir() else _NAMES

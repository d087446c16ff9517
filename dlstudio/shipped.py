"""Where the files live that are no Python modules: dlstudio's apps, notebooks and data sets, others' data."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from dlstudio.errors import DLStudioError

__all__ = ["package_file", "path"]


def path(relative: str) -> Path:
    """Find a shipped file or folder: in the checkout first, in the installed package second.

    Args:
        relative: the place as it is in the repository, with forward slashes, such as ``"apps/board.py"``.

    Returns:
        An absolute path that exists.

    Raises:
        DLStudioError: the file is in neither place.

    Example:
        >>> path("datasets/bikes.csv").name
        'bikes.csv'
    """
    package = Path(__file__).resolve().parent
    checkout = package.parent
    places = [package / "_shipped" / relative]
    if (checkout / "pyproject.toml").is_file():
        places.insert(0, checkout / relative)
    for place in places:
        if place.exists():
            return place
    raise DLStudioError(
        f"the shipped file {relative!r} in {' or '.join(str(place) for place in places)}",
        "nothing there",
        "Install dlstudio again (pip install --force-reinstall dlstudio), or use a complete checkout.",
    )


def package_file(package: str, relative: str) -> Path:
    """Find a file inside an installed package without importing the package, which may take seconds.

    Args:
        package: the package's import name.
        relative: the place inside it, with forward slashes.

    Raises:
        DLStudioError: the package or the file is not there.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (place := Path(folder) / relative).is_file():
            return place
    raise DLStudioError(
        f"the file {relative} inside the installed package {package}",
        "a package without that file" if spec else "no such package",
        "Install dlstudio with its tested dependencies: pip install -c constraints.txt dlstudio.",
    )

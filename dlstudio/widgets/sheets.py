"""Style sheets that travel with a widget made of ipywidgets."""

from __future__ import annotations

from importlib import resources

__all__ = ["style"]


def style(*names: str) -> str:
    """Return style sheets of this package as one ``<style>`` element."""
    folder = resources.files("dlstudio.widgets") / "static"
    return f"<style>{''.join((folder / name).read_text(encoding='utf-8') for name in names)}</style>"

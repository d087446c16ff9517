"""Notebook faces: the launcher form and the live view of a run."""

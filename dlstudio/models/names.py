"""Names of the reference networks, for those who only need to know what there is. Imports nothing heavy."""

from __future__ import annotations

NAMES = ("mlp", "cnn", "gru", "transformer")

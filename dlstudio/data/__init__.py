"""Data sets: the bundled ones and your own, their splits, encoding and fingerprints."""

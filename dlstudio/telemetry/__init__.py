"""The log of a run: columnar, append-only, written by one process and read by any number."""

"""What can be said about a run: its curves, its numbers, and both in words. The one source for all faces."""

"""What a run is, wherever it came from: its folder, its recorder, its readers and its place in the catalogue."""

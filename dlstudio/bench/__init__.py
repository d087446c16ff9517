"""Measurements of dlstudio beside its peers: what recording, watching, training, reading and starting cost."""

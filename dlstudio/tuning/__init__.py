"""Capability: searches over recipes, ablations, and the two finders, all of them background runs."""

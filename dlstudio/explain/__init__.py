"""Explanations: why a model said what it said, and whether that answer can be believed."""

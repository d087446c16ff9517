"""Figures: a result or summary in, a plotly figure out; one look for all."""

"""Comparing: variants over their seeds, two runs with each other, trade-offs, and what an A/B test needs."""

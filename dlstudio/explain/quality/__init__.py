"""Explanations put to the test: scores of one, and the agreement of several."""

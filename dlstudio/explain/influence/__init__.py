"""Explanations by the training rows that made the model say what it says."""

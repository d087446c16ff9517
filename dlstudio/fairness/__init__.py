"""Assess fairness with its uncertainty, and mitigate what was found."""

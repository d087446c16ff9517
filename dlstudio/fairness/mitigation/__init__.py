"""Mitigation: before training (weights), in training (an adversary), after it (thresholds), and what each costs."""

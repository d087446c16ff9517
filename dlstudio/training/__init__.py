"""Training: a recipe, the loop that follows it, its checkpoints, and the processes it runs in."""

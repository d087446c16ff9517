"""Where runs are kept: the studio home, the MLflow catalogue, the environment of a run."""

"""Whether a model can be trusted: calibration, evaluation, robustness, error slices and label errors."""

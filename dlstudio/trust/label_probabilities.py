"""Probabilities of labels from features, for `find_label_errors`: each fold predicted from the others."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from dlstudio.errors import DLStudioError
from dlstudio.trust.label_result import Floats, Ints

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["by_regression"]

MOST_VALUES = 50
PENALTIES = (1.0, 0.1, 0.01)
"""Inverse strengths of the logistic regression's penalty, of which the one with the lowest log loss is taken."""


def by_regression(features: Any, codes: Ints, n_folds: int, seed: int) -> Floats:
    """Return probabilities (n, classes) by a logistic regression that learned from the other folds.

    Of several penalties the one with the lowest log loss is taken.

    Args:
        features: a DataFrame, or an array (n, …) of numbers; NaN are filled with the median.
        codes: int64 (n,), the class of every row; rows of -1 are neither learned from nor predicted.
        n_folds, seed: how many folds, stratified by class; which.

    Raises:
        DLStudioError: a class has fewer rows than there are folds; a frame has no column to learn from.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    known = np.flatnonzero(codes >= 0)
    labels = codes[known]
    fewest = int(np.unique(labels, return_counts=True)[1].min(initial=len(labels)))
    if fewest < n_folds:
        raise DLStudioError(
            f"{n_folds} rows or more of every class, one for each fold",
            f"a class of {fewest}",
            "Drop or merge rare classes, or choose fewer folds.",
        )
    if hasattr(features, "columns"):
        given, steps = features.iloc[known], [_encoding(features)]
    else:
        given, steps = np.asarray(features, dtype=np.float64).reshape(len(codes), -1)[known], _standard()
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    best, lowest = None, np.inf
    with warnings.catch_warnings():
        # Not quite at its optimum it predicts as well, and the log loss judges the outcome anyway.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for penalty in PENALTIES:
            model = make_pipeline(*steps, LogisticRegression(C=penalty, max_iter=500))
            found = cross_val_predict(model, given, labels, cv=folds, method="predict_proba")
            if (score := log_loss(labels, found)) < lowest:
                best, lowest = found, score
    assert best is not None
    # Columns are the classes that occur; codes count them all.
    whole = np.zeros((len(codes), int(codes.max()) + 1))
    whole[np.ix_(known, np.unique(labels))] = best
    return whole


def _standard() -> list[Any]:
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    return [SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()]


def _encoding(frame: pd.DataFrame) -> Any:
    """Numbers standardised, words of few values as columns of 0 and 1; columns of many values, such as names, left."""
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    numeric = [name for name in frame.columns if frame[name].dtype.kind in "iufb"]
    words = [name for name in frame.columns if name not in numeric and frame[name].nunique() <= MOST_VALUES]
    if not numeric and not words:
        raise DLStudioError(
            "columns of numbers or of few values", f"{list(frame.columns)[:6]}", "Pass y_prob= of a model of your own."
        )
    return make_column_transformer(
        (make_pipeline(*_standard()), numeric), (OneHotEncoder(handle_unknown="ignore"), words)
    )

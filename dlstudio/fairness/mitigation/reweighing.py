"""Reweighing: weights of training rows with which outcome and group are independent."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dlstudio.data.groups import group_names
from dlstudio.data.values import as_array, in_one_order
from dlstudio.data.weights import independence_weights
from dlstudio.errors import DLStudioError

__all__ = ["reweigh"]


def reweigh(y: Any, sensitive_features: Any) -> npt.NDArray[np.float64]:
    """Return a weight per training row; with them every group has the same share of every class.

    Multiply each row's loss by its weight, or draw rows in proportion to it, which ``Recipe(reweigh=("race",))`` does.
    Prediction does not need the sensitive feature, unless it is among the inputs. The weights mitigate what labels and
    groups have to do with each other; a model may still tell groups apart, so audit it again.

    Args:
        y: (n,) classes, of any values.
        sensitive_features: (n,) groups, or several columns, whose combinations are the groups; missing values are a
            group of their own.

    Returns:
        float64 (n,), P(group) P(class) / P(group, class); their mean is 1.

    Raises:
        DLStudioError: lengths differ, a class is missing, `y` are quantities, or a group has no row of a class.

    Example:
        >>> w = reweigh(y, frame["race"])
        >>> loss = (w * cross_entropy(model(x), y, reduction="none")).mean()

    References:
        Kamiran and Calders, Data preprocessing techniques for classification without discrimination (2012).
    """
    import pandas as pd

    y, sensitive_features = in_one_order(y=y, sensitive_features=sensitive_features)
    labels = as_array(y)
    if labels.ndim != 1:
        raise DLStudioError("one class a row", f"shape {labels.shape}", "Pass y (n,).")
    missing = int(np.sum(pd.isna(labels)))
    if missing:
        raise DLStudioError("a class for every row", f"{missing:,} missing", "Leave these rows out.")
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.round(labels)):
        raise DLStudioError(
            "classes", "quantities", "Reweighing makes shares of classes equal; bin the quantity first."
        )
    return independence_weights(labels, group_names(sensitive_features, len(labels))[1])

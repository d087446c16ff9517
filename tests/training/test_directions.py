"""Which way metrics are better, by names that people use."""

from __future__ import annotations

import pytest

from dlstudio.errors import DLStudioError
from dlstudio.training.directions import direction_of

HIGH = (
    "val/auc neg_log_loss brier_skill_score loss_head/accuracy cost_savings mAP val/mAP50 ap rouge1 rougeL top-1 top5"
    " exact_match explained_variance tpr true_negative_rate negative_predictive_value jaccard samples_per_second"
    " rows_per_s pass@1 accuracy/class_0 loss_drop error_reduction log_likelihood neg_mean_squared_error recall@10"
)
LOW = (
    "val/loss negative_log_likelihood neg_log_likelihood davies_bouldin_score accuracy_drop logloss mlogloss smape fpr"
    " false_negative_rate bpb bits_per_byte wall_s accuracy_head/loss seconds_per_step ms_per_token val/loss/total"
    " top1_error errors_per_minute cost_per_hour demographic_parity_difference fit_time"
)


@pytest.mark.parametrize(
    ("metric", "best"), [*((name, "max") for name in HIGH.split()), *((name, "min") for name in LOW.split())]
)
def test_names_tell(metric, best):
    assert direction_of(metric) == best
    assert direction_of(f"test/{metric}") == best


@pytest.mark.parametrize("metric", ["foo", "learning_rate", "s", "epoch", "", "/", "dropout_rate"])
def test_other_names_do_not_tell(metric):
    with pytest.raises(DLStudioError, match="direction="):
        direction_of(metric)
    assert direction_of(metric, "min") == "min"

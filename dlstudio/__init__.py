"""dlstudio, a notebook-first studio for deep learning engineers.

    >>> import dlstudio as dls
    >>> run = dls.launch(dls.Recipe(data="mortgage", model="mlp", epochs=20))   # trains in the background
    >>> dls.show(run)                                                           # and is watched from here

The names below are resolved on first use (PEP 562), so importing dlstudio is quick and loads no framework.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlstudio.compare.compare import compare
    from dlstudio.compare.curves import overlay
    from dlstudio.compare.diff import diff_runs
    from dlstudio.compare.fronts import pareto
    from dlstudio.compare.measure import measure
    from dlstudio.compare.planning import plan_ab_test
    from dlstudio.compare.sequential import monitor_ab_means, monitor_ab_test
    from dlstudio.data.load import load as load_data
    from dlstudio.errors import DLStudioError, RunStopped
    from dlstudio.explain.concepts.explain_concepts import explain_concepts
    from dlstudio.explain.counterfactuals import Constraints, find_counterfactuals
    from dlstudio.explain.explain import explain
    from dlstudio.explain.influence.trace import trace_influence
    from dlstudio.explain.quality.compare import compare_explanations
    from dlstudio.explain.quality.score import score_explanation
    from dlstudio.fairness.audit import audit_fairness
    from dlstudio.fairness.mitigation.adversarial import train_adversarial
    from dlstudio.fairness.mitigation.adversarial_variant import adversarial_variant
    from dlstudio.fairness.mitigation.reweighing import reweigh
    from dlstudio.fairness.mitigation.thresholds import group_thresholds
    from dlstudio.fairness.mitigation.thresholds_variant import thresholds_variant
    from dlstudio.fairness.mitigation.trade_off import trade_off
    from dlstudio.reports import report
    from dlstudio.runs.recorder import record
    from dlstudio.runs.run import list_runs, open_run
    from dlstudio.summary.summarize import summarize
    from dlstudio.tracking.catalogue import tracking_uri
    from dlstudio.training.checkpoint import load_model
    from dlstudio.training.fit import fit
    from dlstudio.training.launch import launch
    from dlstudio.training.recipe import Recipe
    from dlstudio.trust.calibration import assess_calibration
    from dlstudio.trust.evaluation import evaluate
    from dlstudio.trust.label_errors import find_label_errors
    from dlstudio.trust.robustness import assess_robustness
    from dlstudio.trust.slices import find_slices
    from dlstudio.tuning.ablate import ablate, ablate_values
    from dlstudio.tuning.ablation import open_ablation
    from dlstudio.tuning.find_batch_size import find_batch_size
    from dlstudio.tuning.find_lr import find_lr
    from dlstudio.tuning.search import open_search
    from dlstudio.tuning.tune import tune
    from dlstudio.widgets.launcher import launcher
    from dlstudio.widgets.show import show

__version__ = "0.1.0"

__all__ = [
    "Constraints",
    "DLStudioError",
    "Recipe",
    "RunStopped",
    "__version__",
    "ablate",
    "ablate_values",
    "adversarial_variant",
    "assess_calibration",
    "assess_robustness",
    "audit_fairness",
    "compare",
    "compare_explanations",
    "diff_runs",
    "evaluate",
    "explain",
    "explain_concepts",
    "find_batch_size",
    "find_counterfactuals",
    "find_label_errors",
    "find_lr",
    "find_slices",
    "fit",
    "group_thresholds",
    "launch",
    "launcher",
    "list_runs",
    "load_data",
    "load_model",
    "measure",
    "monitor_ab_means",
    "monitor_ab_test",
    "open_ablation",
    "open_run",
    "open_search",
    "overlay",
    "pareto",
    "plan_ab_test",
    "record",
    "report",
    "reweigh",
    "score_explanation",
    "show",
    "summarize",
    "thresholds_variant",
    "trace_influence",
    "tracking_uri",
    "trade_off",
    "train_adversarial",
    "tune",
]

# Public name -> where it lives, as "module:name".
_WHERE = {
    "Constraints": "dlstudio.explain.counterfactuals:Constraints",
    "DLStudioError": "dlstudio.errors:DLStudioError",
    "Recipe": "dlstudio.training.recipe:Recipe",
    "RunStopped": "dlstudio.errors:RunStopped",
    "ablate": "dlstudio.tuning.ablate:ablate",
    "ablate_values": "dlstudio.tuning.ablate:ablate_values",
    "adversarial_variant": "dlstudio.fairness.mitigation.adversarial_variant:adversarial_variant",
    "assess_calibration": "dlstudio.trust.calibration:assess_calibration",
    "assess_robustness": "dlstudio.trust.robustness:assess_robustness",
    "audit_fairness": "dlstudio.fairness.audit:audit_fairness",
    "compare": "dlstudio.compare.compare:compare",
    "compare_explanations": "dlstudio.explain.quality.compare:compare_explanations",
    "diff_runs": "dlstudio.compare.diff:diff_runs",
    "evaluate": "dlstudio.trust.evaluation:evaluate",
    "explain": "dlstudio.explain.explain:explain",
    "explain_concepts": "dlstudio.explain.concepts.explain_concepts:explain_concepts",
    "find_batch_size": "dlstudio.tuning.find_batch_size:find_batch_size",
    "find_counterfactuals": "dlstudio.explain.counterfactuals:find_counterfactuals",
    "find_label_errors": "dlstudio.trust.label_errors:find_label_errors",
    "find_lr": "dlstudio.tuning.find_lr:find_lr",
    "find_slices": "dlstudio.trust.slices:find_slices",
    "fit": "dlstudio.training.fit:fit",
    "group_thresholds": "dlstudio.fairness.mitigation.thresholds:group_thresholds",
    "launch": "dlstudio.training.launch:launch",
    "launcher": "dlstudio.widgets.launcher:launcher",
    "list_runs": "dlstudio.runs.run:list_runs",
    "load_data": "dlstudio.data.load:load",
    "load_model": "dlstudio.training.checkpoint:load_model",
    "measure": "dlstudio.compare.measure:measure",
    "monitor_ab_means": "dlstudio.compare.sequential:monitor_ab_means",
    "monitor_ab_test": "dlstudio.compare.sequential:monitor_ab_test",
    "open_ablation": "dlstudio.tuning.ablation:open_ablation",
    "open_run": "dlstudio.runs.run:open_run",
    "open_search": "dlstudio.tuning.search:open_search",
    "overlay": "dlstudio.compare.curves:overlay",
    "pareto": "dlstudio.compare.fronts:pareto",
    "plan_ab_test": "dlstudio.compare.planning:plan_ab_test",
    "record": "dlstudio.runs.recorder:record",
    "report": "dlstudio.reports:report",
    "reweigh": "dlstudio.fairness.mitigation.reweighing:reweigh",
    "score_explanation": "dlstudio.explain.quality.score:score_explanation",
    "show": "dlstudio.widgets.show:show",
    "summarize": "dlstudio.summary.summarize:summarize",
    "trace_influence": "dlstudio.explain.influence.trace:trace_influence",
    "thresholds_variant": "dlstudio.fairness.mitigation.thresholds_variant:thresholds_variant",
    "tracking_uri": "dlstudio.tracking.catalogue:tracking_uri",
    "trade_off": "dlstudio.fairness.mitigation.trade_off:trade_off",
    "train_adversarial": "dlstudio.fairness.mitigation.adversarial:train_adversarial",
    "tune": "dlstudio.tuning.tune:tune",
}


class _Package(ModuleType):
    """This package, in which a verb stays a verb: importing the room of its name does not put the room in its place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _WHERE and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module 'dlstudio' has no attribute {name!r}; it has {', '.join(sorted(_WHERE))}")
    module, attribute = where.split(":")
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

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
    from dlstudio.fairness.mitigation.trade_off import trade_off
    from dlstudio.reports import report
    from dlstudio.runs.recorder import record
    from dlstudio.runs.run import list_runs, open_run
    from dlstudio.summary.summarize import summarize
    from dlstudio.training.checkpoint import load_model
    from dlstudio.training.fit import fit
    from dlstudio.training.launch import launch
    from dlstudio.training.recipe import Recipe
    from dlstudio.trust.calibration import assess_calibration
    from dlstudio.trust.evaluation import evaluate
    from dlstudio.trust.label_errors import find_label_errors
    from dlstudio.trust.robustness import assess_robustness
    from dlstudio.trust.slices import find_slices
    from dlstudio.widgets.launcher import launcher
    from dlstudio.widgets.show import show

__version__ = "0.1.0"

__all__ = [
    "Constraints",
    "DLStudioError",
    "Recipe",
    "RunStopped",
    "__version__",
    "adversarial_variant",
    "assess_calibration",
    "assess_robustness",
    "audit_fairness",
    "compare_explanations",
    "evaluate",
    "explain",
    "explain_concepts",
    "find_counterfactuals",
    "find_label_errors",
    "find_slices",
    "fit",
    "group_thresholds",
    "launch",
    "launcher",
    "list_runs",
    "load_data",
    "load_model",
    "open_run",
    "record",
    "report",
    "reweigh",
    "score_explanation",
    "show",
    "summarize",
    "trace_influence",
    "trade_off",
    "train_adversarial",
]

# Public name -> where it lives, as "module:name".
_WHERE = {
    "Constraints": "dlstudio.explain.counterfactuals:Constraints",
    "DLStudioError": "dlstudio.errors:DLStudioError",
    "Recipe": "dlstudio.training.recipe:Recipe",
    "RunStopped": "dlstudio.errors:RunStopped",
    "adversarial_variant": "dlstudio.fairness.mitigation.adversarial_variant:adversarial_variant",
    "assess_calibration": "dlstudio.trust.calibration:assess_calibration",
    "assess_robustness": "dlstudio.trust.robustness:assess_robustness",
    "audit_fairness": "dlstudio.fairness.audit:audit_fairness",
    "compare_explanations": "dlstudio.explain.quality.compare:compare_explanations",
    "evaluate": "dlstudio.trust.evaluation:evaluate",
    "explain": "dlstudio.explain.explain:explain",
    "explain_concepts": "dlstudio.explain.concepts.explain_concepts:explain_concepts",
    "find_counterfactuals": "dlstudio.explain.counterfactuals:find_counterfactuals",
    "find_label_errors": "dlstudio.trust.label_errors:find_label_errors",
    "find_slices": "dlstudio.trust.slices:find_slices",
    "fit": "dlstudio.training.fit:fit",
    "group_thresholds": "dlstudio.fairness.mitigation.thresholds:group_thresholds",
    "launch": "dlstudio.training.launch:launch",
    "launcher": "dlstudio.widgets.launcher:launcher",
    "list_runs": "dlstudio.runs.run:list_runs",
    "load_data": "dlstudio.data.load:load",
    "load_model": "dlstudio.training.checkpoint:load_model",
    "open_run": "dlstudio.runs.run:open_run",
    "record": "dlstudio.runs.recorder:record",
    "report": "dlstudio.reports:report",
    "reweigh": "dlstudio.fairness.mitigation.reweighing:reweigh",
    "score_explanation": "dlstudio.explain.quality.score:score_explanation",
    "show": "dlstudio.widgets.show:show",
    "summarize": "dlstudio.summary.summarize:summarize",
    "trace_influence": "dlstudio.explain.influence.trace:trace_influence",
    "trade_off": "dlstudio.fairness.mitigation.trade_off:trade_off",
    "train_adversarial": "dlstudio.fairness.mitigation.adversarial:train_adversarial",
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

"""Counterfactuals: the nearest table rows that a model decides otherwise, under constraints."""

from dlstudio.explain.counterfactuals.constraints import Constraints
from dlstudio.explain.counterfactuals.find import find_counterfactuals
from dlstudio.explain.counterfactuals.result import CounterfactualResult, describe

__all__ = ["Constraints", "CounterfactualResult", "describe", "find_counterfactuals"]

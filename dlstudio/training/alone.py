"""A run in one process: what `distributed.Ranks` does for several, where nothing has to be shared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from dlstudio.training.device import resolve_device
from dlstudio.training.recipe import Recipe

__all__ = ["Alone", "State"]

State = dict[str, Any]


class Alone:
    """A run in one process.

    Args:
        recipe: decides the device.
    """

    rank, world = 0, 1

    def __init__(self, recipe: Recipe) -> None:
        self.device = resolve_device(recipe)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return what to call instead of the module, so that all ranks share its gradients."""
        return module

    def sync_gradients(self, network: nn.Module, now: bool) -> None:
        """Have the next backward pass share its gradients, or keep them until a step is complete."""

    def mean(self, loss: torch.Tensor) -> torch.Tensor:
        """Return the mean over ranks."""
        return loss

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the rows of all ranks, equally many from each, in the order of ranks."""
        return tensor

    def gather_objects(self, value: Any) -> list[Any]:
        """Return the values of all ranks on each."""
        return [value]

    def agree(self, value: Any) -> Any:
        """Return rank 0's value on each rank."""
        return value

    def follow(self, recorder: Any, actions: dict[str, Callable[..., None]]) -> None:
        """Arrange that what is asked of the run, to set a learning rate and to save, happens on all ranks."""
        for name, action in actions.items():
            recorder.on(name, action)

    def obey(self, recorder: Any, step: int) -> None:
        """Carry out together what was asked of the run; a recorder by itself does so when it is logged to."""

    def watch(self, recorder: Any, module: nn.Module, optimizer: torch.optim.Optimizer, every: int | None) -> None:
        """Have the layers of the module recorded."""
        recorder.watch(module, optimizer, every=every)

    def model_state(self, module: nn.Module) -> State:
        """Return the whole state of the model, on rank 0 at least."""
        return module.state_dict()

    def optimizer_state(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> State:
        """Return the whole state of the optimiser, on rank 0 at least, as it is in one process."""
        return optimizer.state_dict()

    def load_model(self, module: nn.Module, state: State) -> None:
        """Load what `model_state` returned, however many processes there were then."""
        module.load_state_dict(state)

    def load_optimizer(self, module: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
        """Load what `optimizer_state` returned."""
        optimizer.load_state_dict(state)

    def barrier(self) -> None:
        """Wait until all ranks are here."""

    def close(self) -> None:
        """Leave the group of processes."""

"""One run in several processes: started by torchrun, every process calls `train`, rank 0 records."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
from torch import nn

from dlstudio.errors import DLStudioError, RunStopped
from dlstudio.training.alone import Alone, State
from dlstudio.training.device import resolve_device
from dlstudio.training.recipe import Recipe

__all__ = ["Ranks", "connect"]

_TIMEOUT = timedelta(days=7)
"""A paused run waits in a collective, so that must not time out; torchrun ends the others when one rank
dies."""
POLL_S, MAX_POLL_STEPS = 0.5, 10
"""Rank 0 looks for commands about so often, and at least every so many steps."""
"""Rank 0 looks for commands about so often, and at least every so many steps."""
_GO_ON, _SET, _SAVE, _STOP = range(4)


class Ranks(Alone):
    """A run in several processes, with DDP or FSDP2.

    Args:
        recipe: decides device and strategy.
    """

    def __init__(self, recipe: Recipe) -> None:
        import torch.distributed as dist

        self._dist = dist
        self.device = resolve_device(recipe, int(os.environ.get("LOCAL_RANK", "0")))
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        self._owns_group = not dist.is_initialized()
        if self._owns_group:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo", timeout=_TIMEOUT)
        # Control travels on the host: reading it from a device would make the loop wait for the device.
        self._control = dist.new_group(backend="gloo", timeout=_TIMEOUT)
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self._sharded = recipe.strategy == "fsdp"
        self._actions: dict[str, Callable[..., None]] = {}
        self._next_poll, self._polled_at = 0, 0
        self._clock = 0.0
        self._probe: Any = None

    def wrap(self, module: nn.Module) -> nn.Module:
        if not self._sharded:
            from torch.nn.parallel import DistributedDataParallel

            return DistributedDataParallel(module, device_ids=[self.device] if self.device.type == "cuda" else None)
        from torch.distributed.fsdp import fully_shard

        for block in _blocks(module):
            fully_shard(block)
        fully_shard(module)
        return module

    def sync_gradients(self, network: nn.Module, now: bool) -> None:
        if self._sharded:
            network.set_requires_gradient_sync(now)  # type: ignore[operator]
        else:
            network.require_backward_grad_sync = now  # type: ignore[assignment]

    def mean(self, loss: torch.Tensor) -> torch.Tensor:
        mean = loss.clone()
        self._dist.all_reduce(mean)
        return mean.div_(self.world)

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(tensor) for _ in range(self.world)]
        self._dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def gather_objects(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.world
        self._dist.all_gather_object(values, value, group=self._control)
        return values

    def agree(self, value: Any) -> Any:
        box = [value]
        self._dist.broadcast_object_list(box, src=0, group=self._control)
        return box[0]

    # -- control: rank 0 carries commands out, each of its actions sends the others a word first -----------

    def follow(self, recorder: Any, actions: dict[str, Callable[..., None]]) -> None:
        self._actions = actions
        if self.rank == 0:
            recorder.defer_control = True
            recorder.on("set", lambda lr: (self._send(_SET, lr), actions["set"](lr=lr)))
            recorder.on("checkpoint", lambda **_: (self._send(_SAVE), actions["checkpoint"]()))

    def obey(self, recorder: Any, step: int) -> None:
        if step < self._next_poll:
            return
        if self.rank == 0:
            try:
                for command in recorder.take_commands():
                    recorder.carry_out(command, step)
            except RunStopped:
                self._send(_STOP)
                raise
            n_steps = self._send(_GO_ON, self._poll_in(step))
        else:
            while (word := self._receive())[0] != _GO_ON:
                if word[0] == _SET:
                    self._actions["set"](lr=word[1])
                elif word[0] == _SAVE:
                    self._actions["checkpoint"]()
                else:
                    raise RunStopped("stopped on request")
            n_steps = word[1]
        self._next_poll = step + int(n_steps)

    def _poll_in(self, step: int) -> int:
        """Steps until the next look: about half a second of them, ten at most."""
        now = time.perf_counter()
        step_s = (now - self._clock) / max(step - self._polled_at, 1) if self._clock else POLL_S
        self._clock, self._polled_at = now, step
        return min(max(int(POLL_S / max(step_s, 1e-6)), 1), MAX_POLL_STEPS)

    def _send(self, code: int, value: float = 0.0) -> float:
        self._dist.broadcast(torch.tensor([code, value], dtype=torch.float64), src=0, group=self._control)
        return value

    def _receive(self) -> list[float]:
        word = torch.zeros(2, dtype=torch.float64)
        self._dist.broadcast(word, src=0, group=self._control)
        return word.tolist()

    # -- state ---------------------------------------------------------------------------------------------

    def watch(self, recorder: Any, module: nn.Module, optimizer: torch.optim.Optimizer, every: int | None) -> None:
        if self.rank == 0:
            recorder.watch(module, optimizer, every=every)
        elif self._sharded:
            # The norms of a sharded parameter are a sum over all ranks: each has to take part.
            from dlstudio.telemetry.probes import LayerProbe

            self._probe = LayerProbe(module, optimizer, every, lambda sample: None, lambda clip: None)

    def model_state(self, module: nn.Module) -> State:
        if not self._sharded:
            return module.state_dict()
        from torch.distributed.checkpoint import state_dict as dcp

        options = dcp.StateDictOptions(full_state_dict=True, cpu_offload=True)
        return dcp.get_model_state_dict(module, options=options)

    def optimizer_state(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> State:
        if not self._sharded:
            return optimizer.state_dict()
        from torch.distributed.checkpoint import state_dict as dcp

        options = dcp.StateDictOptions(full_state_dict=True, cpu_offload=True)
        named = dcp.get_optimizer_state_dict(module, optimizer, options=options)
        return named if self.rank else _renamed(named, {name: i for i, name in enumerate(_trained_names(module))})

    def load_model(self, module: nn.Module, state: State) -> None:
        if not self._sharded:
            module.load_state_dict(state)
            return
        from torch.distributed.checkpoint import state_dict as dcp

        dcp.set_model_state_dict(module, state, options=dcp.StateDictOptions(full_state_dict=True))

    def load_optimizer(self, module: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
        if not self._sharded:
            optimizer.load_state_dict(state)
            return
        from torch.distributed.checkpoint import state_dict as dcp

        named = _renamed(state, dict(enumerate(_trained_names(module))))
        options = dcp.StateDictOptions(full_state_dict=True)
        dcp.set_optimizer_state_dict(module, optimizer, named, options=options)

    def barrier(self) -> None:
        self._dist.barrier(group=self._control)

    def close(self) -> None:
        if self._probe is not None:
            self._probe.close()
        if self._owns_group and self._dist.is_initialized():
            self._dist.destroy_process_group()


def connect(recipe: Recipe) -> Alone:
    """Join the processes that torchrun started, or be alone.

    Raises:
        DLStudioError: the recipe asks for several devices and this is one process, or torchrun started
            another number of processes than the recipe has devices.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if recipe.devices != world:
        raise DLStudioError(
            f"{recipe.devices} processes for devices={recipe.devices}",
            f"{world}",
            "Use dls.launch(recipe), which starts them, or torchrun with that many processes.",
        )
    return Alone(recipe) if world == 1 else Ranks(recipe)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The largest parts that can be sharded by themselves: children with parameters that are theirs alone."""
    children = []
    for child in module.children():
        inside = child.children() if isinstance(child, nn.ModuleList | nn.Sequential) else (child,)
        children += [block for block in inside if any(True for _ in block.parameters())]
    owned = [id(parameter) for block in children for parameter in block.parameters()]
    if len(owned) == len(set(owned)):
        yield from children


def _trained_names(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def _renamed(state: State, names: dict[Any, Any]) -> State:
    """An optimiser's state with its parameters under other names; ranks without the state have none."""
    return {
        "state": {names[key]: value for key, value in state.get("state", {}).items()},
        "param_groups": [
            {**group, "params": [names[key] for key in group["params"]]} for group in state.get("param_groups", [])
        ],
    }

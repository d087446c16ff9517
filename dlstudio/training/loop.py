"""The training loop, on PyTorch's own pieces."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dlstudio.errors import DLStudioError, RunStopped
from dlstudio.training import checkpoint, rng
from dlstudio.training.alone import Alone
from dlstudio.training.clock import PAUSE_S, Clock
from dlstudio.training.device import check_device
from dlstudio.training.distributed import connect
from dlstudio.training.evaluate import outputs_of, write_predictions
from dlstudio.training.metrics import score
from dlstudio.training.recipe import Recipe
from dlstudio.training.saving import Position, Saver
from dlstudio.training.schedule import factor
from dlstudio.training.setup import make_parts
from dlstudio.training.showing import Bar, Lines, Silent

if TYPE_CHECKING:
    from dlstudio.runs.recorder import Recorder

__all__ = ["train"]


def train(recipe: Recipe, recorder: Recorder | None, *, progress: bool | str = False) -> nn.Module:
    """Train what a recipe says, and record it.

    Called by `fit` and by the detached trainer; under torchrun in every process, with a recorder on rank 0
    only. A recorder with a `resume_step` continues from the run's last checkpoint, bit by bit as if it had
    never been interrupted. The caller's random numbers are left as they were.

    Args:
        recipe: what to train.
        recorder: an open recorder; its folder receives ``checkpoints/`` and ``results/predictions.npz``.
        progress: whether to show a progress bar; ``"lines"`` prints a line an epoch instead.

    Returns:
        The module in eval mode, with the weights of its lowest validation loss.

    Raises:
        DLStudioError: the recipe asks for what is not there, or model and data do not fit.
        RunStopped: someone stopped the run; a checkpoint was saved.
    """
    check_device(recipe)
    ranks = connect(recipe)
    loop = None
    try:
        with rng.undisturbed():
            loop = Loop(recipe, Silent() if recorder is None else recorder, ranks, progress)
            return loop.run()
    except RunStopped:
        if ranks.rank and loop is not None:  # rank 0 tells how the run ended; here it is no failure
            return loop.parts.module
        raise
    finally:
        ranks.close()


class Loop:
    """One run of `train`; `run` does it."""

    def __init__(self, recipe: Recipe, recorder: Any, ranks: Alone, progress: bool | str) -> None:
        self.recipe, self.recorder, self.ranks = recipe, recorder, ranks
        self.folder = Path(ranks.agree(str(recorder.folder)))
        self.parts = make_parts(recipe, ranks)
        self.at = Position(lr=recipe.lr)
        self.n_steps = recipe.epochs * self.parts.batches.steps_per_epoch
        self._has_val = "val" in self.parts.batches.rows
        self._lr_varies, self._lr_is_news = recipe.schedule != "constant" or recipe.warmup_steps > 0, False
        self.saver = Saver(self.folder, recipe, self.parts, ranks, recorder)
        self._random_state: dict[str, Any] | None = None
        if ranks.agree(recorder.resume_step) is not None:
            self.at, self._random_state = self.saver.load()
        # Summed on the device: a step waits for nothing, and float64 keeps long epochs exact.
        self._loss_sum = torch.tensor(self.at.loss_sum, dtype=torch.float64, device=ranks.device)
        self._schedule_lr()
        self.clock = Clock(ranks.device)
        shown = bool(progress) and ranks.rank == 0
        in_lines = shown and progress == "lines"
        self.bar = Lines() if in_lines else Bar(self.n_steps, self.at.step, shown=shown)

    # -- the run -------------------------------------------------------------------------------------------

    def run(self) -> nn.Module:
        """Train to the end, a stop or an early stop, and test the best weights."""
        self.ranks.watch(self.recorder, self.parts.module, self.parts.optimizer, self.recipe.watch_every)
        self.ranks.follow(self.recorder, {"checkpoint": self._save, "set": self._set_lr})
        self._announce()
        self._begin_random_numbers()
        try:
            while self.at.epoch < self.recipe.epochs and not self._is_stale():
                self._train_epoch()
                self._end_epoch()
        except RunStopped:
            self._save()
            raise
        finally:
            self.bar.close()
        self._test()
        return self.parts.module.eval()

    def _begin_random_numbers(self) -> None:
        # Only now: what was imported and built before may have drawn some, and more of them the first time.
        if self._random_state is not None:
            rng.restore(self._random_state)
        else:
            rng.seed_all(self.recipe.seed + self.ranks.rank)  # equal weights, but a dropout of its own

    def _train_epoch(self) -> None:
        parts, clock, ranks = self.parts, self.clock, self.ranks
        network, criterion, autocast, scaler = parts.network, parts.criterion, parts.autocast, parts.scaler
        step_loss: torch.Tensor | None = None
        clock.skip()
        for inputs, targets, share, n_rows in parts.batches.epoch(self.at.epoch, self.at.batch):
            clock.lap("data")
            ranks.sync_gradients(network, n_rows > 0)
            with autocast:
                outputs = network(inputs)
            loss = criterion(outputs, targets)
            if share != 1.0:  # one of several batches, or of several ranks, of this step
                loss = loss * share
            clock.lap("forward")
            (loss if scaler is None else scaler.scale(loss)).backward()
            clock.lap("backward")
            step_loss = loss.detach() if step_loss is None else step_loss + loss.detach()
            if n_rows:
                self._update()
                clock.lap("optimizer")
                self._record(ranks.mean(step_loss), n_rows)
                step_loss = None

    def _update(self) -> None:
        optimizer, scaler, clip_norm = self.parts.optimizer, self.parts.scaler, self.recipe.clip_norm
        if clip_norm is not None:
            if scaler is not None:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self.parts.module.parameters(), clip_norm)  # the recorder's watch sees this
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad()

    def _record(self, loss: torch.Tensor, n_rows: int) -> None:
        """Count a step and log it; a pause waits in here, a stop is raised from here."""
        at = self.at
        at.step += 1
        at.batch += 1
        at.n_rows += n_rows
        self._loss_sum.add_(loss, alpha=n_rows)
        values: dict[str, float | torch.Tensor] = {"loss": loss}
        if self._lr_varies or self._lr_is_news or at.batch == 1:
            values["lr"] = self._lr
            self._lr_is_news = False
        if at.batch == 1:
            values["epoch"] = float(at.epoch + 1)
        if self._lr_varies:
            self._schedule_lr()
        if self.clock.step(n_rows):
            values |= self.clock.report()
            self.bar.show(at.step)
        self.recorder.log(values, step=at.step)
        self.ranks.obey(self.recorder, at.step)
        self.clock.skip(PAUSE_S)

    def _end_epoch(self) -> None:
        """Evaluate, keep the best weights, log, and save."""
        start, at = time.perf_counter(), self.at
        values = {"train/loss": self._loss_sum.item() / at.n_rows}
        if not self.clock.has_reported:
            values |= self.clock.report()
        judge = "val/loss" if self._has_val else "train/loss"
        if self._has_val:
            with rng.undisturbed():  # the first evaluation imports libraries, and those draw random numbers
                values |= self._evaluate("val")[0]
        at.epoch, at.batch, at.n_rows = at.epoch + 1, 0, 0
        self._loss_sum.zero_()
        at.stale += 1
        if values[judge] < at.best or at.best_step == 0:
            at.best = values[judge] if values[judge] < at.best else at.best
            at.best_step, at.stale = at.step, 0
            self.saver.save_best(at, values)
        if math.isfinite(at.best):
            values[f"best/{judge}"] = at.best
        values["phase/eval_ms"] = (time.perf_counter() - start) * 1e3
        self.bar.epoch(at.step, at.epoch, self.recipe.epochs, values)
        self.recorder.event("epoch", f"epoch {at.epoch} of {self.recipe.epochs}", step=at.step, epoch=at.epoch)
        self.recorder.log(values, step=at.step)
        self._save()
        if self._is_stale():
            message = f"no better {judge} for {at.stale} evaluations"
            self.recorder.event("early_stop", message, step=at.step, epoch=at.epoch, best_step=at.best_step)

    def _is_stale(self) -> bool:
        patience = self.recipe.early_stopping
        return patience is not None and self.at.stale >= patience

    def _evaluate(self, split: str) -> tuple[dict[str, float], Any]:
        """Metrics of a part, and what `write_predictions` needs of it."""
        parts = self.parts
        outputs, targets = outputs_of(parts.module, parts.batches, split, parts.autocast, self.ranks)
        found = {"loss": parts.criterion(outputs, targets).item()}
        on_host = outputs.cpu().numpy(), targets.cpu().numpy()
        found |= score(parts.task, on_host[1], on_host[0])
        rows = parts.batches.rows[split].numpy()
        return {f"{split}/{name}": value for name, value in found.items()}, (*on_host, rows)

    def _test(self) -> None:
        """Go back to the best weights; log what they are worth and keep their predictions."""
        try:
            best = checkpoint.read(checkpoint.path_of(self.folder, "best"))
        except DLStudioError as error:
            self.recorder.event("warning", f"tested with the last weights: {error}", step=self.at.step)
        else:
            self.ranks.load_model(self.parts.module, best["model"])
        found: dict[str, Any] = {
            split: self._evaluate(split) for split in ("val", "test") if split in self.parts.batches.rows
        }
        if self.ranks.rank == 0 and found:
            path, rows = (
                self.folder / "results" / "predictions.npz",
                {name: rows for name, (_, rows) in found.items()},
            )
            self.saver.guarded(path, lambda: write_predictions(path, self.parts.task, rows))
        if "test" in found:
            self.recorder.log(found["test"][0], step=self.at.step)

    def _save(self) -> None:
        self.at.loss_sum = self._loss_sum.item()
        self.saver.save_last(self.at)

    # -- learning rate -------------------------------------------------------------------------------------

    def _schedule_lr(self) -> None:
        """Put the learning rate of the next step into the optimiser."""
        recipe, at = self.recipe, self.at
        step = min(at.step, self.n_steps - 1)
        self._lr = at.lr * factor(recipe.schedule, step, self.n_steps, recipe.warmup_steps)
        for group in self.parts.optimizer.param_groups:
            group["lr"] = self._lr

    def _set_lr(self, lr: float) -> None:
        """Make `lr` the learning rate of the next step; the schedule keeps its shape from there."""
        step = min(self.at.step, self.n_steps - 1)
        self.at.lr = lr / factor(self.recipe.schedule, step, self.n_steps, self.recipe.warmup_steps)
        self._lr_is_news = True
        self._schedule_lr()

    def _announce(self) -> None:
        n_params = sum(parameter.numel() for parameter in self.parts.module.parameters())
        self.recorder.event(
            "plan",
            f"{self.n_steps} steps in {self.recipe.epochs} epochs on {self.ranks.device}",
            step=self.at.step,
            n_steps=self.n_steps,
            n_epochs=self.recipe.epochs,
            steps_per_epoch=self.parts.batches.steps_per_epoch,
            n_params=n_params,
            n_train=len(self.parts.batches.rows["train"]),
            device=str(self.ranks.device),
            devices=self.ranks.world,
        )

"""How each peer is told the scalars of one step, in the way its documentation says."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

Log = Callable[[int, Mapping[str, float]], None]
Close = Callable[[], object]

REQUIRES = {
    "mlflow": "mlflow",
    "mlflow async": "mlflow",
    "tensorboard": "tensorboard",
    "tensorboardX": "tensorboardX",
    "wandb": "wandb",
    "aim": "aim",
    "trackio": "trackio",
    "lightning csv": "lightning",
}
"""Logger to the module it needs."""


def open_logger(name: str, home: Path) -> tuple[Log, Close]:
    """Open a peer's logger in an empty folder.

    Returns:
        What logs the scalars of one step, and what closes the logger so that everything is on disk.
    """
    return _OPEN[name](home)


def _mlflow(home: Path, *, wait: bool = True) -> tuple[Log, Close]:
    mlflow = import_module("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
    mlflow.set_experiment("bench")
    mlflow.start_run()
    queued: list[Any] = []

    def log(step: int, values: Mapping[str, float]) -> None:
        queued.append(mlflow.log_metrics(values, step=step, synchronous=wait))

    def close() -> None:
        for operation in queued:
            if operation is not None:
                operation.wait()
        mlflow.end_run()

    return log, close


def _mlflow_async(home: Path) -> tuple[Log, Close]:
    return _mlflow(home, wait=False)


def _summary_writer(module: str) -> Callable[[Path], tuple[Log, Close]]:
    def make(home: Path) -> tuple[Log, Close]:
        writer = import_module(module).SummaryWriter(str(home))

        def log(step: int, values: Mapping[str, float]) -> None:
            for key, value in values.items():
                writer.add_scalar(key, value, step)

        return log, writer.close

    return make


def _wandb(home: Path) -> tuple[Log, Close]:
    run = import_module("wandb").init(project="bench", dir=str(home), mode="offline")
    return lambda step, values: run.log(values, step=step), run.finish


def _aim(home: Path) -> tuple[Log, Close]:
    run = import_module("aim").Run(repo=str(home), system_tracking_interval=None, log_system_params=False)

    def log(step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            run.track(value, name=key, step=step)

    return log, run.close


def _trackio(home: Path) -> tuple[Log, Close]:
    trackio = import_module("trackio")
    trackio.init(project="bench")
    return lambda step, values: trackio.log(values, step=step), trackio.finish


def _lightning_csv(home: Path) -> tuple[Log, Close]:
    logger = import_module("lightning.pytorch.loggers").CSVLogger(str(home))

    def log(step: int, values: Mapping[str, float]) -> None:
        logger.log_metrics(values, step=step)
        if step % 100 == 99:
            logger.save()

    def close() -> None:
        with contextlib.suppress(StopIteration):  # nothing new since the last save
            logger.save()

    return log, close


_OPEN: dict[str, Callable[[Path], tuple[Log, Close]]] = {
    "mlflow": _mlflow,
    "mlflow async": _mlflow_async,
    "tensorboard": _summary_writer("torch.utils.tensorboard"),
    "tensorboardX": _summary_writer("tensorboardX"),
    "wandb": _wandb,
    "aim": _aim,
    "trackio": _trackio,
    "lightning csv": _lightning_csv,
}

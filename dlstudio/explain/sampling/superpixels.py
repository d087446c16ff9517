"""Players for inputs with too many elements to be players each: patches of images, windows of sequences."""

from __future__ import annotations

import math

import torch

from dlstudio.errors import DLStudioError

__all__ = ["superpixels", "windows"]


def superpixels(image_shape: tuple[int, ...], n: int) -> torch.Tensor:
    """Cut an image into a regular grid of at most `n` patches, as many and as square as possible.

    Args:
        image_shape: (channels, height, width), or (height, width).
        n: the most patches.

    Returns:
        Int64 of `image_shape`: the number of every pixel's patch, 0 to P - 1, left to right and top to bottom, the
        same in all channels. Patches differ by at most one pixel in height and in width.

    Raises:
        DLStudioError: the shape is no image's, or `n` is below 1.

    Example:
        >>> superpixels((3, 224, 224), 50).unique().numel()
        49
    """
    if len(image_shape) < 2 or min(image_shape) < 1:
        raise DLStudioError(
            "the shape of an image, (channels, height, width)", repr(tuple(image_shape)), "Pass inputs.shape[1:]."
        )
    _check(n)
    height, width = image_shape[-2:]

    def cost(grid: tuple[int, int]) -> float:
        rows, columns = grid
        stretch = (height / rows) / (width / columns)
        return math.log(min(n, height * width) / (rows * columns)) + abs(math.log(stretch)) / 2

    rows, columns = min(((rows, min(width, n // rows)) for rows in range(1, min(height, n) + 1)), key=cost)
    patches = _cut(height, rows)[:, None] * columns + _cut(width, columns)
    return patches.expand(image_shape).contiguous()


def windows(time: int, channels: int, n: int) -> torch.Tensor:
    """Cut a sequence into windows of time, with at most `n` players.

    Every channel of a window is a player of its own; with more channels than `n`, all channels of a window are one.

    Args:
        time, channels: the shape of one sequence.
        n: the most players.

    Returns:
        Int64 (time, channels): the number of every value's player, 0 to P - 1, in order of time and then of channel.
        Windows differ by at most one step.

    Raises:
        DLStudioError: a size is below 1.

    Example:
        >>> windows(4, 2, 4).tolist()
        [[0, 1], [0, 1], [2, 3], [2, 3]]
    """
    if time < 1 or channels < 1:
        raise DLStudioError("a sequence of (time, channels)", f"({time}, {channels})", "Pass *inputs.shape[1:].")
    _check(n)
    if channels > n:
        return _cut(time, min(time, n))[:, None].repeat(1, channels)
    return _cut(time, min(time, n // channels))[:, None] * channels + torch.arange(channels)


def _cut(length: int, parts: int) -> torch.Tensor:
    """Number the places of a line by the part they lie in, int64 (length,)."""
    return torch.arange(length) * parts // length


def _check(n: int) -> None:
    if n < 1:
        raise DLStudioError("at least one player", f"n={n}", "Try n=50.")

"""Players for images and sequences: regular, complete, and no more than asked for."""

from __future__ import annotations

import pytest
import torch

from dlstudio.errors import DLStudioError
from dlstudio.explain.sampling.superpixels import superpixels, windows


@pytest.mark.parametrize(
    ("shape", "n", "grid"),
    [
        ((3, 224, 224), 50, (7, 7)),
        ((1, 28, 28), 49, (7, 7)),
        ((3, 32, 64), 8, (2, 4)),
        ((3, 64, 32), 8, (4, 2)),
        ((3, 9, 9), 1, (1, 1)),
        ((1, 2, 3), 100, (2, 3)),
        ((1, 1, 40), 10, (1, 10)),
        ((30, 30), 9, (3, 3)),
    ],
)
def test_a_grid_of_patches(shape: tuple[int, ...], n: int, grid: tuple[int, int]) -> None:
    players = superpixels(shape, n)
    assert players.shape == shape and players.dtype == torch.int64
    plane = players.reshape(-1, *shape[-2:])
    assert (plane == plane[0]).all()
    rows, columns = grid
    assert players.unique().tolist() == list(range(rows * columns))
    # Every patch is a rectangle: its number follows from where its row and its column lie.
    assert (plane[0] // columns == plane[0][:, :1] // columns).all()
    assert (plane[0] % columns == plane[0][:1] % columns).all()
    assert plane[0, 0, -1] == columns - 1 and plane[0, -1, 0] == (rows - 1) * columns


@pytest.mark.parametrize("height", [1, 5, 17, 96])
@pytest.mark.parametrize("width", [1, 6, 31, 96])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 20, 64, 1000])
def test_any_size_gives_about_as_many_even_patches(height: int, width: int, n: int) -> None:
    players = superpixels((height, width), n)
    sizes = players.flatten().bincount()
    assert (sizes > 0).all()
    assert min(n, height * width) / 2 <= len(sizes) <= n
    for line in (players[:, 0], players[0]):
        lengths = line.unique(return_counts=True)[1]
        assert lengths.max() - lengths.min() <= 1


def test_windows_of_each_channel() -> None:
    players = windows(50, 3, 30)
    assert players.shape == (50, 3) and players.dtype == torch.int64
    assert players.unique().tolist() == list(range(30))
    assert (players.flatten().bincount() == 5).all()
    assert (players % 3 == torch.arange(3)).all()
    assert (players[:, 0] // 3).diff().min() >= 0


def test_windows_shared_by_channels_where_there_are_too_many() -> None:
    players = windows(12, 8, 6)
    assert (players == torch.arange(12)[:, None] // 2).all()


@pytest.mark.parametrize(("time", "channels", "n"), [(1, 1, 1), (3, 2, 100), (7, 1, 3), (10, 4, 4), (5, 9, 2)])
def test_windows_never_exceed_n_and_miss_none(time: int, channels: int, n: int) -> None:
    players = windows(time, channels, n)
    numbers = players.unique()
    assert len(numbers) <= n and torch.equal(numbers, torch.arange(len(numbers)))


def test_bad_shapes() -> None:
    with pytest.raises(DLStudioError, match="shape of an image"):
        superpixels((5,), 4)
    with pytest.raises(DLStudioError, match="at least one player"):
        superpixels((5, 5), 0)
    with pytest.raises(DLStudioError, match="a sequence"):
        windows(0, 3, 4)
    with pytest.raises(DLStudioError, match="at least one player"):
        windows(5, 3, 0)

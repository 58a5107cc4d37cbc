"""Owns the cutting of images into tiles of one shape, and their way through the device and back."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from emd.models.autoencoder import STRIDE

_AHEAD = 2  # batches the device may be given before the first has come back


class Tile(NamedTuple):
    """Where a tile's own pixels, without its halo, begin."""

    frame: int
    row: int
    column: int


class Tiling(NamedTuple):
    """Frames cut into tiles of one shape, and how many of each go through the device at a time.

    Attributes:
      shape: height and width of a frame [px].
      tile: height and width of a tile without its halo, multiples of 8 [px]. Tiles begin at
        multiples of them; the last ones may reach beyond the frame.
      frames: how many frames are worked on together: more than one only where they are small.
      batch: tiles given to the device at a time.
    """

    shape: tuple[int, int]
    tile: tuple[int, int]
    frames: int
    batch: int

    def tiles(self, frames: int) -> Iterator[Tile]:
        """All tiles of the first `frames` frames, row by row."""
        return itertools.starmap(
            Tile,
            itertools.product(
                range(frames),
                range(0, self.shape[0], self.tile[0]),
                range(0, self.shape[1], self.tile[1]),
            ),
        )


def make_tiling(shape: tuple[int, int], *, frames: int, tile_px: int) -> Tiling:
    """A tiling with tiles no larger than `tile_px`, rounded up to 8, that waste little.

    Args:
      shape: height and width of a frame [px].
      frames: how many frames there are.
      tile_px: the largest side of a tile, and its square the most pixels in a batch.

    Raises:
      ValueError: `tile_px` is below 1.
    """
    if tile_px < 1:
        raise ValueError(f"tile_px is {tile_px}: give a side of at least 1 pixel")
    sides = [_even_side(length, tile_px) for length in shape]
    count = [-(-length // side) for length, side in zip(shape, sides, strict=True)]
    frames = min(frames, max(1, tile_px**2 // (shape[0] * shape[1])))
    tiles = frames * count[0] * count[1]
    batches = -(-tiles // max(1, tile_px**2 // (sides[0] * sides[1])))
    return Tiling(shape, (sides[0], sides[1]), frames, -(-tiles // batches))


def _even_side(length: int, tile_px: int) -> int:
    """The side of as few, equal tiles as cover `length`."""
    largest = -(-tile_px // STRIDE) * STRIDE
    equal = -(-length // -(-length // largest))
    return -(-equal // STRIDE) * STRIDE


def gather(
    image: Shaped[np.ndarray, "h w ..."],
    rows: Int[np.ndarray, " i"],
    columns: Int[np.ndarray, " j"],
) -> Shaped[np.ndarray, "i j ..."]:
    """The pixels at the crossings of `rows` and `columns`, without a copy of whole rows."""
    top, left = rows.min(), columns.min()
    part = image[top : rows.max() + 1, left : columns.max() + 1]
    return np.asarray(part.take(rows - top, axis=0).take(columns - left, axis=1))


def paste(
    image: Shaped[np.ndarray, "h w ..."], tile: Shaped[np.ndarray, "i j ..."], row: int, column: int
) -> None:
    """Writes `tile` into `image` from (row, column) on, less what reaches beyond it."""
    part = image[row : row + tile.shape[0], column : column + tile.shape[1]]
    part[...] = tile[: part.shape[0], : part.shape[1]]


def stream(
    tiles: Iterator[Tile],
    read: Callable[[Tile], Sequence[Any]],
    call: Callable[..., Any],
    batch: int,
) -> Iterator[tuple[Tile, Shaped[np.ndarray, "i j ..."]]]:
    """Each tile with its result, in order, while the device works on the next ones.

    Args:
      tiles: what to work on.
      read: the inputs of one tile; they are stacked over a batch.
      call: the device's function of stacked inputs. Returns before it is done, as jax's do.
      batch: tiles in every call; the last is filled up, so that it is compiled only once.
    """
    pending: deque[tuple[list[Tile], Any]] = deque()
    while group := list(itertools.islice(tiles, batch)):
        inputs = [read(tile) for tile in group]
        inputs += inputs[-1:] * (batch - len(inputs))
        pending.append((group, call(*(np.stack(part) for part in zip(*inputs, strict=True)))))
        if len(pending) > _AHEAD:
            yield from _results(*pending.popleft())
    while pending:
        yield from _results(*pending.popleft())


def _results(group: list[Tile], output: Any) -> Iterator[tuple[Tile, Any]]:
    yield from zip(group, np.asarray(output), strict=False)

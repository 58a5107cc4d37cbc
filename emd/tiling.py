"""Owns the cutting of images into tiles of one shape, and their way through the device and back."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from emd.models.autoencoder import STRIDE
from emd.threads import share

_ALIGNMENT = 64  # bytes


class Tile(NamedTuple):
    """Where a tile's own pixels, without its halo, begin."""

    frame: int
    row: int
    column: int


class Tiling(NamedTuple):
    """Frames cut into tiles of one shape, and how many of each go through the device at a time.

    Attributes:
      shape: height and width of a frame [px].
      tile: height and width of a tile without its halo, multiples of a cell [px]. Tiles begin at
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


def make_tiling(
    shape: tuple[int, int],
    *,
    frames: int,
    largest: tuple[int, int],
    workers: int = 1,
    cell: int = STRIDE,
) -> Tiling:
    """A tiling with tiles no larger than `largest`, rounded up to cells, that waste little.

    Args:
      shape: height and width of a frame [px].
      frames: how many frames there are.
      largest: height and width of the largest tile, and their product the most pixels in a batch.
      workers: how many batches are on their way at once.
      cell: what sides are multiples of [px].

    Raises:
      ValueError: a side of `largest` is below 1.
    """
    if min(largest) < 1:
        raise ValueError(f"tile_px is {min(largest)}: give a side of at least 1 pixel")
    sides = [_even_side(length, most, cell) for length, most in zip(shape, largest, strict=True)]
    count = [-(-length // side) for length, side in zip(shape, sides, strict=True)]
    area = largest[0] * largest[1]
    frames = min(frames, max(1, workers * area // (shape[0] * shape[1])))
    tiles = frames * count[0] * count[1]
    batches = -(-tiles // max(1, area // (sides[0] * sides[1])))
    return Tiling(shape, (sides[0], sides[1]), frames, -(-tiles // batches))


def _even_side(length: int, most: int, cell: int) -> int:
    """The side of as few, equal tiles as cover `length`."""
    largest = -(-most // cell) * cell
    equal = -(-length // -(-length // largest))
    return -(-equal // cell) * cell


def gather(
    image: Shaped[np.ndarray, "h w ..."],
    rows: Int[np.ndarray, " i"],
    columns: Int[np.ndarray, " j"],
    put: Callable[[Shaped[np.ndarray, "a b ..."], Shaped[np.ndarray, "a b ..."]], Any],
    out: Shaped[np.ndarray, "i j ..."],
) -> None:
    """Fills `out` with the pixels at the crossings of `rows` and `columns`, block by block.

    Args:
      image: where they are read.
      rows: numbers of rows; all but those of a border go up one by one.
      columns: likewise.
      put: writes its first argument, part of the image, to its second, part of `out`.
      out: of any type that `put` can write.
    """
    for down, across in itertools.product(_blocks(rows), _blocks(columns)):
        put(image[down[1]][:, across[1]], out[down[0], across[0]])


def _blocks(places: Int[np.ndarray, " k"]) -> list[tuple[slice, slice | Int[np.ndarray, " j"]]]:
    """The first places that go up one by one as a slice, and those before and after them."""
    steps = np.append(np.diff(places) == 1, False)
    first = int(steps.argmax())
    end = first + int(steps[first:].argmin()) + 1
    blocks: list[tuple[slice, Any]] = [
        (slice(0, first), places[:first]),
        (slice(first, end), slice(places[first], places[end - 1] + 1)),
        (slice(end, len(places)), places[end:]),
    ]
    return [(where, which) for where, which in blocks if where.start < where.stop]


def stacked(parts: Sequence[Any]) -> Shaped[np.ndarray, "n ..."]:
    """Arrays of one shape as one; no copy of a single one."""
    return np.asarray(parts[0])[None] if len(parts) == 1 else np.stack(parts)


def paste(
    image: Shaped[np.ndarray, "h w ..."], tile: Shaped[np.ndarray, "i j ..."], row: int, column: int
) -> None:
    """Writes `tile` into `image` from (row, column) on, less what reaches beyond it."""
    part = image[row : row + tile.shape[0], column : column + tile.shape[1]]
    part[...] = tile[: part.shape[0], : part.shape[1]]


def stream(
    tiles: Iterator[Tile],
    read: Callable[[Tile, Shaped[np.ndarray, "h w ..."]], Sequence[Any]],
    call: Callable[..., Any],
    write: Callable[[Tile, Shaped[np.ndarray, "i j ..."]], None],
    inputs: np.ndarray,
    *,
    workers: int,
) -> None:
    """Takes each tile through the device, several batches on their way at once.

    Args:
      tiles: what to work on.
      read: fills the input of one tile, and gives numbers that go with it.
      call: the device's function of a batch of inputs, and of their numbers.
      write: puts a tile's result where it belongs. No two tiles may write to the same place.
      inputs: an empty batch, of which each worker gets one like it. A last batch is filled up,
        so that it is compiled only once.
      workers: threads, each with one batch: while one reads or writes, the device works on
        another's.
    """
    own = threading.local()

    def work(group: list[Tile]) -> None:
        if not hasattr(own, "inputs"):
            own.inputs = _aligned(inputs)
        numbers = [read(*pair) for pair in zip(group, own.inputs, strict=False)]
        numbers += numbers[-1:] * (len(inputs) - len(group))
        outputs = np.asarray(
            call(own.inputs, *(np.stack(part) for part in zip(*numbers, strict=True)))
        )
        for tile, piece in zip(group, outputs, strict=False):
            write(tile, piece)

    groups = iter(lambda: list(itertools.islice(tiles, len(inputs))), [])
    share(work, groups, workers=workers)


def _aligned(like: np.ndarray) -> np.ndarray:
    """Zeros in memory that jax uses on the CPU as it is; other memory it copies."""
    memory = np.zeros(like.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + like.nbytes].view(like.dtype).reshape(like.shape)

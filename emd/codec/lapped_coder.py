"""Owns the coder `lapped`: frames as quantised frequencies of a lapped transform, and back."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from emd.codec import bands, lapped
from emd.codec.bands import LARGEST, Knowledge
from emd.codec.lapped_layout import layout
from emd.data.contents import FormatError
from emd.threads import share

NAME = "lapped"
VERSION = 1
BLOCK_PX = 512
"""Side of the blocks that decode by themselves: a multiple of each side of a transform."""

_STRIP_PX = 1 << 24  # of a frame, worked on at a time
EXCHANGE = 0.1
"""Squared error, in steps, that a bit is worth."""

_FIELDS = struct.Struct("<Bffbb")
PARAMETERS = _FIELDS.size
"""Bytes of the parameters in a header."""

_CENTRE_UNIT = 256


class Settled(NamedTuple):
    """How frames are quantised: what the header holds.

    Attributes:
      side: of the transform's blocks [px].
      step: of frequencies whose image has norm 1 [counts].
      offset: what is taken off all pixels [counts].
      centres: how much nearer to 0 than the number itself the values of 1, and of more, lie on
        average, in 2^-8 of a step.
    """

    side: int
    step: float
    offset: float
    centres: tuple[int, int] = (0, 0)

    def to_bytes(self) -> bytes:
        """The parameters that the header holds."""
        return _FIELDS.pack(self.side, self.step, self.offset, *self.centres)


def from_bytes(parameters: bytes) -> Settled:
    """What a header's parameters say.

    Raises:
      FormatError: they say nothing.
    """
    if len(parameters) != _FIELDS.size:
        raise FormatError("parameters are damaged: get the file anew")
    side, step, offset, first, second = _FIELDS.unpack(parameters)
    if side not in lapped.SIDES or not 0 < step < np.inf or not np.isfinite(offset):
        raise FormatError("parameters are damaged: get the file anew")
    return Settled(side, step, offset, (first, second))


def settled(side: int, step: float, offset: float) -> Settled:
    """The settings as a header would give them back.

    Raises:
      ValueError: no header holds such a step.
    """
    with np.errstate(over="ignore"):
        if not 0 < np.float32(step) < np.inf:
            raise ValueError(f"pixels ask for a step of {step:g}, beyond float32: scale them")
    return from_bytes(Settled(side, step, offset).to_bytes())


class Trial(NamedTuple):
    """What came of quantising.

    Attributes:
      bits: about how many its numbers take.
      error: squared and added up [counts squared].
      settled: the settings, with the centres that suit.
    """

    bits: float
    error: float
    settled: Settled


def attempt(crops: list[Float[np.ndarray, "_ _"]], how: Settled, known: Knowledge) -> Trial:
    """What these settings would make of crops, at most `BLOCK_PX` a side."""

    def one(crop: Float[np.ndarray, "h w"]) -> tuple[np.ndarray, np.ndarray, float]:
        values = analyse(crop, how, slice(0, crop.shape[0]))
        return values, *bands.choose(values, layout(how.side), known, EXCHANGE)

    values, numbers, bits = zip(*share(one, crops), strict=True)
    flat = np.concatenate([each.reshape(-1) for each in values])
    chosen = np.concatenate([each.reshape(-1) for each in numbers])
    gap = (np.abs(chosen) - np.abs(flat)) * (chosen != 0)
    sizes = np.abs(chosen)
    first, second = (
        round(float(gap[where].mean() if where.any() else 0) * _CENTRE_UNIT)
        for where in (sizes == 1, sizes > 1)
    )
    tuned = how._replace(centres=(min(max(first, -127), 127), min(max(second, -127), 127)))
    error = float(((_values(chosen, tuned) - flat) ** 2).sum()) * how.step**2
    return Trial(sum(bits), error, tuned)


def encode(frame: Shaped[np.ndarray, "h w"], how: Settled, known: Knowledge) -> Iterator[bytes]:
    """The chunks of a frame's blocks, row by row.

    Raises:
      ValueError: pixels so far from the rest that their numbers are too large.
    """
    height, width = frame.shape
    cells = BLOCK_PX // how.side

    def one(block: Float[np.ndarray, "i j c"]) -> bytes:
        numbers, _ = bands.choose(block, layout(how.side), known, EXCHANGE)
        return bands.encode(numbers, layout(how.side), known)

    for rows in _strips(height, width):
        values = analyse(frame, how, rows)
        if (farthest := float(np.abs(values).max())) > LARGEST:
            raise ValueError(
                f"pixels lie {farthest:.2g} steps from the rest, beyond {LARGEST}: despike them, "
                "or ask for less quality"
            )
        yield from share(
            one,
            [
                values[i : i + cells, j : j + cells]
                for i in range(0, values.shape[0], cells)
                for j in range(0, values.shape[1], cells)
            ],
        )


def decode(
    chunk: Callable[[int], bytes],
    shape: tuple[int, int],
    how: Settled,
    known: Knowledge,
    region: tuple[int, int, int, int],
) -> Float[np.ndarray, "h w"]:
    """The pixels of a frame's region y0, y1, x0, x1, in counts.

    Args:
      chunk: gives a block's chunk by its number; only those that are needed are asked for.
      shape: of the frame.
      how: as it was encoded.
      known: likewise.
      region: within the frame.

    Raises:
      FormatError: a chunk is damaged.
    """
    y0, y1, x0, x1 = region
    pixels = np.empty((y1 - y0, x1 - x0))
    for rows in _strips(y1 - y0, x1 - x0):
        strip = (y0 + rows.start, y0 + rows.stop, x0, x1)
        pixels[rows] = _decode_strip(chunk, shape, how, known, strip)
    return pixels


def _decode_strip(
    chunk: Callable[[int], bytes],
    shape: tuple[int, int],
    how: Settled,
    known: Knowledge,
    region: tuple[int, int, int, int],
) -> Float[np.ndarray, "h w"]:
    side, cells = how.side, BLOCK_PX // how.side
    high, wide = (-(-length // side) for length in shape)
    # one block of the transform around shapes the region, too
    (top, bottom), (left, right) = (
        (max(0, start // side - 1), min(limit, -(-end // side) + 1))
        for start, end, limit in ((*region[:2], high), (*region[2:], wide))
    )
    numbers = np.empty((bottom - top, right - left, side * side))
    across = -(-wide // cells)

    def one(place: tuple[int, int]) -> None:
        i, j = place
        grid = min(cells, high - i * cells), min(cells, wide - j * cells)
        block = bands.decode(data[place], grid, layout(side), known)
        y, x = i * cells - top, j * cells - left
        target = numbers[max(0, y) : y + grid[0], max(0, x) : x + grid[1]]
        target[...] = block[max(0, -y) :, max(0, -x) :][: target.shape[0], : target.shape[1]]

    places = [
        (i, j)
        for i in range(top // cells, -(-bottom // cells))
        for j in range(left // cells, -(-right // cells))
    ]
    # the file has one place: it is read by one thread
    data = {(i, j): chunk(i * across + j) for i, j in places}
    share(one, places)
    values = _values(numbers, how).reshape(*numbers.shape[:2], side, side)
    whole = lapped.backward(values * (how.step / lapped.gains(side)))
    y, x = region[0] - top * side, region[2] - left * side
    height, width = region[1] - region[0], region[3] - region[2]
    return whole[y : y + height, x : x + width] + how.offset


def _values(numbers: Shaped[np.ndarray, "*s"], how: Settled) -> Float[np.ndarray, "*s"]:
    """What numbers stand for, in steps."""
    first, second = (centre / _CENTRE_UNIT for centre in how.centres)
    sizes = np.abs(numbers)
    return np.sign(numbers) * (sizes - first * (sizes == 1) - second * (sizes > 1))


def _strips(height: int, width: int) -> Iterator[slice]:
    """Rows that are worked on at a time: whole blocks."""
    rows = max(1, _STRIP_PX // (width * BLOCK_PX)) * BLOCK_PX
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def analyse(
    frame: Shaped[np.ndarray, "h w"], how: Settled, rows: slice
) -> Float[np.ndarray, "i j c"]:
    """The frequencies of some rows, in steps."""
    side = how.side
    height, width = frame.shape
    top, bottom = max(0, rows.start - side), min(height, rows.stop + side)
    part = frame[top:bottom].astype(np.float64) - how.offset
    below = -bottom % side if bottom == height else 0
    padded = np.pad(part, ((0, below), (0, -width % side)), mode="symmetric")
    values = lapped.forward(padded, side) * (lapped.gains(side) / how.step)
    first = (rows.start - top) // side
    count = -(-(rows.stop - rows.start) // side)
    return values[first : first + count].reshape(count, values.shape[1], side * side)


def crops(frame: Shaped[np.ndarray, "h w"], count: int) -> list[Float[np.ndarray, "_ _"]]:
    """At most so many blocks, spread over the frame."""
    corners = [
        (top, left)
        for top in range(0, frame.shape[0], BLOCK_PX)
        for left in range(0, frame.shape[1], BLOCK_PX)
    ]
    step = -(-len(corners) // count)
    return [
        frame[top : top + BLOCK_PX, left : left + BLOCK_PX].astype(np.float64)
        for top, left in corners[::step]
    ]

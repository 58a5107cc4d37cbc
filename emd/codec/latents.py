"""Owns autoencoders as a transform of lossy streams: micrographs to quantised latents, and back.

A frame is normalised as a whole, reflected to whole cells of 8 pixels and encoded once, no cell
twice. A latent is coded as the whole number nearest to it in units of ``global step * its channel's
step``; the numbers' own coding is `emd.codec.latent_numbers`. Numbers come back bit for bit; only
the network that makes pixels of them computes in floating point.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from emd.codec import latent_numbers
from emd.codec.latent_numbers import LARGEST, STEP_UNITS
from emd.codec.weights import Weights
from emd.data.contents import FormatError
from emd.data.normalise import Scale

CELL_PX = 8
"""Pixels a side that a cell stands for."""

BLOCK_CELLS = 64
"""Cells a side of the blocks that decode by themselves."""

BLOCK_PX = BLOCK_CELLS * CELL_PX

STEPS = (STEP_UNITS // 64, 16 * STEP_UNITS)
"""The smallest and the largest global step, in 4096ths of the mean intensity."""

_SIDE = struct.Struct("<df")
_HALO = 1  # cells around that shape a cell's pixels
_DAMAGED = "a frame's normalisation is damaged: get the file anew"


class Analysed(NamedTuple):
    """A frame as latents, before quantisation: one for any global step.

    Attributes:
      latent: >= 0, in units of the channels' steps.
      scale: minimum and mean above it, in counts, as the stream holds them.
    """

    latent: Float[np.ndarray, "i j c"]
    scale: Scale


# --- frames ----------------------------------------------------------------------------------


def grid(shape: tuple[int, int]) -> tuple[int, int]:
    """How many cells a frame has each way."""
    return -(-shape[0] // CELL_PX), -(-shape[1] // CELL_PX)


def analyse(pixels: Shaped[np.ndarray, "h w"], weights: Weights) -> Analysed:
    """The latents of a whole frame; non-finite pixels count as the median of the others."""
    from emd.restore import encode as encode_frame

    encoded = encode_frame(pixels, weights.network)
    high, wide = grid((pixels.shape[0], pixels.shape[1]))
    # the cells beyond the border shape only its pixels: decoding has their neighbours instead
    latent = encoded.latent[1 : high + 1, 1 : wide + 1] / weights.channel_steps
    minimum, mean = _SIDE.unpack(_SIDE.pack(*map(float, encoded.scale)))
    return Analysed(latent, Scale(minimum, mean))


def quantise(analysed: Analysed, step: int) -> Int[np.ndarray, "i j c"]:
    """The numbers of latents at a global step, in 4096ths of the mean intensity.

    Raises:
      ValueError: a step outside `STEPS`.
    """
    if not STEPS[0] <= step <= STEPS[1]:
        raise ValueError(f"step {step} does not fit: give one from {STEPS[0]} to {STEPS[1]}")
    scaled = analysed.latent.astype(np.float64) * (STEP_UNITS / step)
    return np.rint(scaled).clip(0, LARGEST).astype(np.int64)


def synthesise(
    numbers: Int[np.ndarray, "i j c"],
    weights: Weights,
    step: int,
    scale: Scale,
    shape: tuple[int, int],
) -> Float[np.ndarray, "h w"]:
    """The pixels of a frame's numbers, in counts.

    Args:
      numbers: of all its cells.
      weights: those that it was analysed with.
      step: the global step that it was quantised at.
      scale: as `analyse` gave it.
      shape: of the frame [px].
    """
    high, wide = grid(shape)
    whole = _synthesise(_edged(numbers, (0, high), (0, wide), (0, 0)), weights, step, scale)
    return whole[: shape[0], : shape[1]]


def _synthesise(
    numbers: Int[np.ndarray, "i j c"], weights: Weights, step: int, scale: Scale
) -> Float[np.ndarray, "h w"]:
    """The pixels of cells less one on each side."""
    from emd.restore import Encoded
    from emd.restore import decode as decode_frame

    units = weights.channel_steps * np.float32(step / STEP_UNITS)
    shape = tuple(CELL_PX * (side - 2 * _HALO) for side in numbers.shape[:2])
    encoded = Encoded(numbers.astype(np.float32) * units, (shape[0], shape[1]), scale)
    return decode_frame(encoded, weights.network)


def _edged(
    numbers: Int[np.ndarray, "i j c"],
    rows: tuple[int, int],
    columns: tuple[int, int],
    origin: tuple[int, int],
) -> Int[np.ndarray, "i2 j2 c"]:
    """Cells from here to there with one around, those at the border repeated beyond it."""
    row, column = (
        (np.arange(start - _HALO, end + _HALO) - first).clip(0, size - 1)
        for (start, end), first, size in zip((rows, columns), origin, numbers.shape, strict=False)
    )
    return numbers[row[:, None], column]


# --- streams ---------------------------------------------------------------------------------


def encode(analysed: Analysed, weights: Weights, step: int) -> tuple[bytes, list[bytes]]:
    """A frame's side information, and the chunks of its blocks, row by row."""
    numbers = quantise(analysed, step)
    high, wide = numbers.shape[:2]
    chunks = [
        latent_numbers.encode(
            numbers[top : top + BLOCK_CELLS, left : left + BLOCK_CELLS], weights.knowledge, step
        )
        for top in range(0, high, BLOCK_CELLS)
        for left in range(0, wide, BLOCK_CELLS)
    ]
    return _SIDE.pack(*map(float, analysed.scale)), chunks


def read_scale(side: bytes) -> Scale:
    """A frame's minimum, and mean above it, from its side information.

    Raises:
      FormatError: it holds none.
    """
    if len(side) != _SIDE.size:
        raise FormatError(_DAMAGED)
    minimum, mean = _SIDE.unpack(side)
    if not np.isfinite(minimum) or not 0 <= mean < np.inf:
        raise FormatError(_DAMAGED)
    return Scale(minimum, mean)


def decode_numbers(
    chunk: Callable[[int], bytes],
    shape: tuple[int, int],
    weights: Weights,
    step: int,
    rows: tuple[int, int],
    columns: tuple[int, int],
) -> Int[np.ndarray, "i j c"]:
    """The numbers of cells from here to there.

    Args:
      chunk: gives a block's chunk by its number; called for those blocks alone that are needed.
      shape: of the frame [px].
      weights: those that it was encoded with.
      step: likewise.
      rows: the first cell, and the one after the last.
      columns: likewise.

    Raises:
      FormatError: a chunk is damaged.
    """
    high, wide = grid(shape)
    across = -(-wide // BLOCK_CELLS)
    numbers = np.empty((rows[1] - rows[0], columns[1] - columns[0], weights.depth), np.int64)
    for top in range(rows[0] // BLOCK_CELLS * BLOCK_CELLS, rows[1], BLOCK_CELLS):
        for left in range(columns[0] // BLOCK_CELLS * BLOCK_CELLS, columns[1], BLOCK_CELLS):
            size = (min(BLOCK_CELLS, high - top), min(BLOCK_CELLS, wide - left))
            data = chunk(top // BLOCK_CELLS * across + left // BLOCK_CELLS)
            block = latent_numbers.decode(data, size, weights.knowledge, step)
            (y0, y1), (x0, x1) = (
                (max(start, first), min(end, first + count))
                for (start, end), first, count in zip(
                    (rows, columns), (top, left), size, strict=True
                )
            )
            part = block[y0 - top : y1 - top, x0 - left : x1 - left]
            numbers[y0 - rows[0] : y1 - rows[0], x0 - columns[0] : x1 - columns[0]] = part
    return numbers


def decode(
    chunk: Callable[[int], bytes],
    side: bytes,
    shape: tuple[int, int],
    weights: Weights,
    step: int,
    region: tuple[int, int, int, int] | None = None,
) -> Float[np.ndarray, "h w"]:
    """The pixels of a frame, or of its region y0, y1, x0, x1, in counts.

    Those of a region are the frame's to within the network's rounding. The other arguments are
    as of `decode_numbers`; `side` is the frame's side information.

    Raises:
      FormatError: side information or a chunk is damaged.
    """
    y0, y1, x0, x1 = region or (0, shape[0], 0, shape[1])
    if not STEPS[0] <= step <= STEPS[1]:
        raise FormatError(f"holds a step of {step}, not from {STEPS[0]} to {STEPS[1]}: {_DAMAGED}")
    scale = read_scale(side)
    limits = grid(shape)
    wanted = [(a // CELL_PX, -(-b // CELL_PX)) for a, b in ((y0, y1), (x0, x1))]
    needed = [
        (max(0, a - _HALO), min(limit, b + _HALO))
        for (a, b), limit in zip(wanted, limits, strict=True)
    ]
    numbers = decode_numbers(chunk, shape, weights, step, needed[0], needed[1])
    origin = (needed[0][0], needed[1][0])
    whole = _synthesise(_edged(numbers, wanted[0], wanted[1], origin), weights, step, scale)
    top, left = y0 - CELL_PX * wanted[0][0], x0 - CELL_PX * wanted[1][0]
    return whole[top : top + y1 - y0, left : left + x1 - x0]

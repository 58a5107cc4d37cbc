"""A frame in pieces: measured, restored and brought back to counts as if it had come whole.

Owns what a piece has to know of its frame: the scale, what its non-finite pixels become, and what
restores its mean. NumPy in, NumPy out; who hands out the pieces, and in what order, is not said.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from emd.apply import Engine, over_frames, tiling_of
from emd.data.intensity import Frame, Outcome, finish
from emd.data.normalise import Scale

DIGIT_BITS = 16
"""Bits of a float that one pass for the median looks at."""


class Sums(NamedTuple):
    """Of finite pixels: extremes, sum above the minimum, number; and how many are not finite."""

    low: float
    high: float
    above: float
    finite: int
    wrong: int


class Measured(NamedTuple):
    """A frame's scale, what its pixels that are not finite become, and its finite pixels' sums."""

    scale: Scale
    fill: float
    above: float
    finite: int


def sums_of(piece: Shaped[np.ndarray, "h w"]) -> Sums:
    """The sums of a piece; those of integers are exact."""
    if piece.dtype.kind != "f":
        low = int(piece.min())
        above = int(piece.sum(dtype=np.int64)) - piece.size * low
        return Sums(low, int(piece.max()), above, piece.size, 0)
    finite = piece[np.isfinite(piece)].astype(np.float64)
    if not finite.size:
        return Sums(math.inf, -math.inf, 0.0, 0, piece.size)
    least = float(finite.min())
    with np.errstate(over="ignore"):
        total = float((finite - least).sum())
    return Sums(least, float(finite.max()), total, finite.size, piece.size - finite.size)


def join_sums(parts: list[Sums]) -> Sums:
    """The sums of a frame from those of its pieces."""
    low, high = min(part.low for part in parts), max(part.high for part in parts)
    above = sum(part.above + part.finite * (part.low - low) for part in parts if part.finite)
    finite, wrong = sum(part.finite for part in parts), sum(part.wrong for part in parts)
    return Sums(low, high, above, finite, wrong)


def measured_by(sums: Sums, state: tuple[int, int] | None = None, dtype: Any = None) -> Measured:
    """A frame's scale from its sums, and from the median of the frame's type, where it needs one.

    Raises:
      ValueError: intensities so far apart that their sum overflows.
    """
    if not sums.finite:
        return Measured(Scale(0.0, 0.0), 0.0, 0.0, 0)
    fill = sums.low if state is None else _value(state[0], dtype)
    total = sums.above + sums.wrong * (fill - sums.low)
    mean = total / (sums.finite + sums.wrong)
    if not math.isfinite(mean):
        low, high = sums.low, sums.high
        raise ValueError(f"pixels from {low:g} to {high:g} are too far apart: divide them by 1e9")
    return Measured(Scale(float(sums.low), mean), fill, float(sums.above), sums.finite)


def begin_median(sums: Sums) -> tuple[int, int] | None:
    """No digits yet, and how many finite pixels lie below the median: of frames that need it."""
    return (0, sums.finite // 2) if sums.wrong and sums.finite else None


def histogram(place: int, piece: np.ndarray, state: tuple[int, int] | None) -> Any:
    """How often each next digit occurs among the pixels that begin with those found."""
    if state is None:
        return None
    finite = piece[np.isfinite(piece)]
    bits = finite.view(f"u{finite.itemsize}")
    top = bits.dtype.type(1 << (8 * finite.itemsize - 1))
    keys = np.where(bits & top, ~bits, bits | top)  # in the order of the floats
    if place + DIGIT_BITS < 8 * finite.itemsize:
        keys = keys[keys >> (place + DIGIT_BITS) == state[0]]
    digits = (keys >> place) & (2**DIGIT_BITS - 1)
    return np.bincount(digits.astype(np.int64), minlength=2**DIGIT_BITS)


def narrow_median(parts: list[Any], state: tuple[int, int] | None) -> tuple[int, int] | None:
    """The digits of the median found so far, with the next one from the pieces' histograms."""
    if state is None:
        return None
    below = np.cumsum(sum(parts))
    digit = int(np.searchsorted(below, state[1], side="right"))
    return (state[0] << DIGIT_BITS) | digit, state[1] - int(below[digit - 1] if digit else 0)


def _value(key: int, dtype: np.dtype) -> float:
    top = 1 << (8 * dtype.itemsize - 1)
    bits = key ^ top if key & top else key ^ (2 * top - 1)
    return float(np.array(bits, f"u{dtype.itemsize}").view(dtype))


def _filled(piece: Shaped[np.ndarray, "h w"], measured: Measured, scale: Scale) -> Frame:
    """A piece as what `emd.data.intensity` works on, whatever its frame's other pieces hold."""
    wrong = ~np.isfinite(piece) if piece.dtype.kind == "f" else np.zeros((), bool)
    if not wrong.any():
        return Frame(piece, None, 0, scale, None)
    pixels = piece.copy()
    pixels[wrong] = measured.fill
    return Frame(pixels, wrong, 0, scale, None)


def restored(
    padded: Shaped[np.ndarray, "h w"],
    own: tuple[slice, slice],
    measured: Measured,
    engine: Engine,
    tile_px: int | None = None,
) -> Float[np.ndarray, "i j"]:
    """A normalised piece restored: its own pixels, without those around that it comes with."""
    height, width = padded.shape
    frame = _filled(padded, measured, measured.scale)
    whole = np.empty((height, width), np.float32)
    over_frames(engine, tiling_of(engine, (height, width), 1, tile_px), [frame], whole[None])
    return whole[own]


def raw_sum(piece: np.ndarray, raw: np.ndarray, _: Measured) -> float:
    """The sum of a normalised result where pixels are finite."""
    if piece.dtype.kind == "f":
        return float(raw.sum(dtype=np.float64, where=np.isfinite(piece)))
    return float(raw.sum(dtype=np.float64))


def correction(parts: list[float], measured: Measured) -> float:
    """What restores a frame's mean, in counts."""
    return (measured.above - measured.scale.mean * sum(parts)) / max(measured.finite, 1)


def finished(
    piece: Shaped[np.ndarray, "h w"],
    raw: Float[np.ndarray, "h w"],
    measured: Measured,
    shift: float,
    out: Shaped[np.ndarray, "h w"],
) -> Outcome:
    """Writes a piece to `out` in counts again, and gives what was done; works on `raw` in place."""
    scale = Scale(measured.scale.minimum + shift, measured.scale.mean)
    frame = _filled(piece, measured, scale)
    # the mean of the whole frame is in the scale already: that of a piece says nothing
    return finish(frame, raw, piece, out, keep_mean=False)

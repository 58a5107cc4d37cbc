"""Owns the whole numbers that pixels are coded as: which value each stands for, and back.

Level q is the value low + step * q, or, where a file uses few of the values in its range, the
value of rank q. With a step above 1 no value comes back further than half of it from what it was.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from emd.codec.varints import Fields, pack, pack_bytes, signed, unsigned
from emd.data.contents import FormatError

MOST = 1 << 24
"""Levels stay below this: what keeps sums of their products exact."""

_MOST_RANKS = 1 << 14
_STEP = struct.Struct("<d")
_INTEGERS, _FLOATS, _RANKS = range(3)


class Levels(NamedTuple):
    """Which value each level stands for.

    Attributes:
      low: the value of level 0; of floats, that value in steps.
      step: between levels; a whole number for pixels that are integers.
      total: how many levels there are.
      is_float: of pixels that are floats: their values are (low + q) * step.
      ranks: the values by rank; None where they are evenly spaced.
    """

    low: int
    step: float
    total: int
    is_float: bool = False
    ranks: Int[np.ndarray, " k"] | None = None

    def of(self, pixels: Shaped[np.ndarray, "*s"]) -> Int[np.ndarray, "*s"]:
        """The levels of finite pixels."""
        if self.is_float:
            return np.rint(pixels.astype(np.float64) / self.step).astype(np.int64) - self.low
        if self.ranks is not None:
            return np.searchsorted(self.ranks, pixels).astype(np.int64)
        step = int(self.step)
        return (pixels.astype(np.int64) - self.low + step // 2) // step

    def values(
        self, levels: Int[np.ndarray, "*s"], dtype: np.dtype[Any]
    ) -> Shaped[np.ndarray, "*s"]:
        """The pixels of levels, in their type; the same on every machine.

        Raises:
          FormatError: there is no such level.
        """
        if levels.size and (levels.min() < 0 or levels.max() >= self.total):
            raise FormatError("pixels are damaged: get the file anew")
        if self.is_float:
            # one product of doubles, rounded once: IEEE 754 leaves no choice
            with np.errstate(over="ignore"):
                return ((levels + self.low) * np.float64(self.step)).astype(dtype)
        if self.ranks is not None:
            return self.ranks[levels].astype(dtype)
        bounds = np.iinfo(dtype)
        return (levels * int(self.step) + self.low).clip(bounds.min, bounds.max).astype(dtype)

    def to_bytes(self) -> bytes:
        """What `from_bytes` reads."""
        start = pack(unsigned(self.low)) + pack(self.total)
        if self.is_float:
            return bytes([_FLOATS]) + start + _STEP.pack(self.step)
        if self.ranks is None:
            return bytes([_INTEGERS]) + start + pack(int(self.step))
        gaps = b"".join(pack(int(gap)) for gap in np.diff(self.ranks))
        return bytes([_RANKS]) + start + pack_bytes(zlib.compress(gaps, 9))


def from_bytes(fields: Fields, dtype: np.dtype[Any]) -> Levels:
    """The levels that stand next in `fields`.

    Raises:
      FormatError: none do, or those of another type of pixels.
    """
    (kind,) = fields.take(1)
    low = signed(fields.number())
    count = fields.number()
    if not 0 < count <= MOST or kind > _RANKS or (kind == _FLOATS) != (dtype.kind == "f"):
        raise FormatError("levels are damaged: get the file anew")
    if kind == _FLOATS:
        (step,) = _STEP.unpack(fields.take(_STEP.size))
        if not 0 < step < np.inf or abs(low) > 2**53:
            raise FormatError("levels are damaged: get the file anew")
        return Levels(low, step, count, is_float=True)
    if kind == _INTEGERS:
        return _checked(Levels(low, fields.number(), count), dtype)
    inflater = zlib.decompressobj()
    try:
        gaps = Fields(inflater.decompress(fields.counted(), 8 * _MOST_RANKS))
    except zlib.error:
        raise FormatError("levels are damaged: get the file anew") from None
    if count > _MOST_RANKS:
        raise FormatError("levels are damaged: get the file anew")
    ranks = low + np.cumsum([0, *(gaps.number() for _ in range(count - 1))])
    return _checked(Levels(low, 1, count, ranks=ranks), dtype)


def _checked(levels: Levels, dtype: np.dtype[Any]) -> Levels:
    bounds = np.iinfo(dtype)
    if levels.ranks is not None:
        top, margin = int(levels.ranks[-1]), 0
    else:
        # the outermost levels of wide steps may lie half a step beyond the type
        top, margin = levels.low + (levels.total - 1) * int(levels.step), int(levels.step)
    if levels.step < 1 or levels.low < bounds.min or top > bounds.max + margin:
        raise FormatError("levels are damaged: get the file anew")
    return levels


def survey(frames: Iterable[Shaped[np.ndarray, "_ _"]], max_error: float) -> Levels | None:
    """The levels that bring all pixels back within an error; None where there are none.

    Args:
      frames: all of them, of one type; pixels that are not finite do not count.
      max_error: in counts; 0 for pixels exactly as they are. Floats then have levels only where
        all are whole numbers.
    """
    seen = _Seen(max_error)
    for frame in frames:
        if not seen.add(frame):
            return None
    return seen.levels()


class _Seen:
    """What the pixels seen so far have in common."""

    def __init__(self, max_error: float) -> None:
        self._max_error = max_error
        self._low, self._high = np.inf, -np.inf
        self._is_float = False
        self._values: set[int] | None = set() if max_error == 0 else None
        # floats come back rounded to their type: a little less than twice the error leaves room
        self._float_step = 2 * max_error * (1 - 2.0**-20) if max_error else 1.0

    def add(self, frame: Shaped[np.ndarray, "h w"]) -> bool:
        """Whether there are levels still."""
        self._is_float = frame.dtype.kind == "f"
        pixels = frame[np.isfinite(frame)] if self._is_float else frame
        if not pixels.size:
            return True
        self._low = min(self._low, float(pixels.min()))
        self._high = max(self._high, float(pixels.max()))
        if self._is_float:
            return self._holds(pixels)
        if self._values is not None:
            self._values.update(np.unique(pixels).tolist())
            if len(self._values) > _MOST_RANKS:
                self._values = None
        return True

    def _holds(self, pixels: Shaped[np.ndarray, " n"]) -> bool:
        """Whether levels bring these floats back."""
        # at the ends of what floats hold there are no levels, and no warning is due
        with np.errstate(over="ignore", invalid="ignore"):
            levels = np.rint(pixels.astype(np.float64) / self._float_step)
            if not np.abs(levels).max() <= 2**52:
                return False
            # whole numbers have one 0: -0 comes back as another
            back = (levels.astype(np.int64) * np.float64(self._float_step)).astype(pixels.dtype)
            if self._max_error == 0:
                return back.tobytes() == pixels.tobytes()
            gaps = np.abs(back.astype(np.float64) - pixels.astype(np.float64))
        return bool(gaps.max() <= self._max_error)

    def levels(self) -> Levels | None:
        if self._low > self._high:  # no pixel is finite
            return Levels(0, 1.0, 1, is_float=True)
        if self._is_float:
            low = round(self._low / self._float_step)
            count = round(self._high / self._float_step) - low + 1
            found = Levels(low, self._float_step, count, is_float=True)
            return found if count <= MOST else None
        low, high = int(self._low), int(self._high)
        if self._values and 2 * len(self._values) <= high - low + 1:
            ranks = np.array(sorted(self._values))
            return Levels(low, 1, len(ranks), ranks=ranks)
        step = 2 * int(self._max_error) + 1
        count = (high - low + step // 2) // step + 1
        return Levels(low, step, count) if count <= MOST else None

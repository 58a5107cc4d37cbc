"""Owns the frames that are coded: read one by one, restored where asked for, made finite."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Shaped

from emd.codec.varints import Fields, pack_bytes
from emd.data.contents import FormatError
from emd.data.pixels import fill_nonfinite

_DAMAGED = "a frame is damaged: get the file anew"


@runtime_checkable
class Given(Protocol):
    """Pixels of a micrograph with what is known of it, as `emd.data.source.Source`."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    calibration: tuple[tuple[float, float] | None, str]
    metadata: dict[str, Any]

    def __getitem__(self, part: slice, /) -> np.ndarray:
        """The pixels of some frames, (n, h, w)."""


class Frame(NamedTuple):
    """A frame as it is coded.

    Attributes:
      pixels: all finite.
      wrong: where they were not; None where all were.
      values: what they were there.
    """

    pixels: Shaped[np.ndarray, "h w"]
    wrong: Bool[np.ndarray, "h w"] | None
    values: Shaped[np.ndarray, " k"] | None

    def to_bytes(self) -> bytes:
        """What does not fit into the pixels; empty where all does."""
        if self.wrong is None or self.values is None:
            return b""
        little = self.values.astype(self.values.dtype.newbyteorder("<"))
        places = zlib.compress(np.packbits(self.wrong).tobytes(), 9)
        return pack_bytes(places) + zlib.compress(little.tobytes(), 9)


class Frames:
    """The frames of what is given, one at a time."""

    def __init__(
        self, given: Given, restore: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> None:
        """Takes pixels, and what is to be done to each frame first."""
        self._given = given
        self._restore = restore
        self.shape: tuple[int, int] = (given.shape[-2], given.shape[-1])
        self.dtype = given.dtype
        self._kept: tuple[int, Frame] | None = None

    def __len__(self) -> int:
        """How many there are."""
        return math.prod(self._given.shape[:-2])

    def __getitem__(self, number: int) -> Frame:
        """A frame; the last one asked for is at hand."""
        if self._kept is None or self._kept[0] != number:
            pixels = np.asarray(self._given[number : number + 1][0])
            pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
            if self._restore is not None:
                pixels = self._restore(pixels)
            finite, wrong = fill_nonfinite(pixels)
            values = None if wrong is None else pixels[wrong]
            self._kept = number, Frame(finite, wrong, values)
        return self._kept[1]

    def __iter__(self) -> Iterator[Frame]:
        """All of them, in order."""
        return (self[number] for number in range(len(self)))

    def some(self, count: int) -> Iterator[Frame]:
        """At most so many, spread over all."""
        step = -(-len(self) // count)
        return (self[number] for number in range(0, len(self), step))


def put_back(
    data: bytes, pixels: Shaped[np.ndarray, "h w"], region: tuple[int, int, int, int], width: int
) -> None:
    """Nothing; a region's pixels are then as they were where they were not finite.

    Args:
      data: what `Frame.to_bytes` gave.
      pixels: of the region, in their type.
      region: y0, y1, x0, x1.
      width: of the frame.

    Raises:
      FormatError: the data are damaged.
    """
    if not data:
        return
    y0, y1, x0, x1 = region
    fields = Fields(data)
    first, last = y0 * width, y1 * width
    places = _inflate(fields.counted(), -(-last // 8))
    if 8 * len(places) < last or pixels.dtype.kind != "f":
        raise FormatError(_DAMAGED)
    wrong = np.unpackbits(np.frombuffer(places, np.uint8), count=last).astype(bool)
    before = int(wrong[:first].sum())
    inside = wrong[first:].reshape(y1 - y0, width)
    size = (before + int(inside.sum())) * pixels.dtype.itemsize
    data = _inflate(fields.rest(), size)
    if len(data) < size:
        raise FormatError(_DAMAGED)
    values = np.frombuffer(data, pixels.dtype.newbyteorder("<"))
    whole = np.zeros(inside.shape, pixels.dtype)
    whole[inside] = values[before:]
    pixels[inside[:, x0:x1]] = whole[:, x0:x1][inside[:, x0:x1]]


def _inflate(data: bytes, size: int) -> bytes:
    """The first bytes of deflated ones."""
    try:
        return zlib.decompressobj().decompress(data, size) if size else b""
    except zlib.error:
        raise FormatError(_DAMAGED) from None

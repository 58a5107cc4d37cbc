"""Owns what a file is made of: signals, some of them micrographs, and the choice among them."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from emd.data.calibration import NONE, Calibration
from emd.data.contents import FormatError, check_pixels

_NARROW = {"int64": "int32", "uint64": "uint32"}


class Summary(NamedTuple):
    """A signal of a file, without its pixels.

    Attributes:
      name: the file's own name for it, else its number; unlike any other in the file.
      shape: as the file holds it; all axes but the last two count frames.
      dtype: the pixels' data type.
      fault: why it is no micrograph; empty where it is one.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    fault: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Signal:
    """One thing that a file holds, its pixels not yet read.

    Attributes:
      name: as in `Summary`.
      shape: as in `Summary`.
      dtype: the pixels' data type.
      load: gives the pixels of one frame, or of all for None, in `shape` but for the frame's axes.
      calibration: size of a pixel, and its unit.
      metadata: what else is known, as JSON holds it.
      reason: why the reader takes it for no image; empty where only `fault` has to see.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[int | None], np.ndarray]
    calibration: Calibration = NONE
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    reason: str = ""

    @property
    def frames(self) -> int:
        """How many images it holds."""
        return math.prod(self.shape[:-2])

    @property
    def fault(self) -> str:
        """Why it is no micrograph; empty where it is one."""
        if self.reason:
            return self.reason
        dtype = narrowed(self.dtype)
        if self.dtype.names is not None:
            return f"pixels are {''.join(self.dtype.names)} colour: convert to one grey channel"
        if self.dtype.kind == "O":
            return "holds objects, or arrays of unlike length (ragged): not an image"
        if len(self.shape) < 2:
            return f"is a line or spectrum of {math.prod(self.shape)} points, not an image"
        flat = self.shape if len(self.shape) == 2 else (self.frames, *self.shape[-2:])
        try:
            check_pixels(np.broadcast_to(np.zeros((), dtype), flat))  # takes no memory
        except ValueError as error:
            return str(error)
        return ""

    @property
    def summary(self) -> Summary:
        """What there is to know without the pixels."""
        name = "colour" if self.dtype.names else self.dtype.name
        return Summary(self.name, self.shape, name, self.fault)


def narrowed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that pixels of a type are kept in: 32 bits for 64-bit integers."""
    return np.dtype(_NARROW.get(dtype.name, dtype))


def narrow(pixels: np.ndarray) -> np.ndarray:
    """The pixels, 64-bit integers in 32 bits: no detector counts further, programs still use them.

    Raises:
      FormatError: they do not fit.
    """
    dtype = narrowed(pixels.dtype)
    if dtype == pixels.dtype:
        return pixels
    limits = np.iinfo(dtype)
    if pixels.min() < limits.min or pixels.max() > limits.max:
        raise FormatError(f"pixels of type {pixels.dtype.name} do not fit {dtype}: save as float64")
    return pixels.astype(dtype)


def choose(signals: Sequence[Signal], wanted: str | int | None) -> Signal:
    """The signal of that name or number; for None the only image.

    Raises:
      FormatError: there is no such signal, or no image, or, for None, more than one.
    """
    if not signals:
        raise FormatError("holds no image: its data are of another kind")
    if wanted is not None:
        return _named(signals, wanted)
    images = [s for s in signals if not s.fault]
    if len(images) == 1:
        return images[0]
    if images:
        raise FormatError(
            f"holds {len(images)} images ({_listing(signals)}): choose one with --signal"
        )
    faults = "; ".join(f"signal {s.name!r} {s.fault}" for s in signals)
    raise FormatError(f"holds no micrograph: {faults}")


def _named(signals: Sequence[Signal], wanted: str | int) -> Signal:
    found = [s for s in signals if s.name == wanted]
    if found:
        return found[0]
    number = int(wanted) if isinstance(wanted, int) or wanted.isdecimal() else -1
    if 0 <= number < len(signals):
        return signals[number]
    raise FormatError(f"has no signal {wanted!r}: it holds {_listing(signals)}")


def _listing(signals: Sequence[Signal]) -> str:
    return ", ".join(f"{k}: {s.name}" for k, s in enumerate(signals) if not s.fault)


def unique(names: Sequence[str]) -> list[str]:
    """The names, each its own: an empty one becomes its number, a repeated one gains it."""
    given = [name or str(k) for k, name in enumerate(names)]
    return [n if given.count(n) == 1 else f"{n} ({k})" for k, n in enumerate(given)]

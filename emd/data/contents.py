"""Owns what a micrograph may be made of, whichever format holds it."""

from typing import Any, NamedTuple

import numpy as np

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")


class Contents(NamedTuple):
    """What a file holds: the fields of an `emd.data.micrograph.Micrograph`."""

    pixels: np.ndarray
    pixel_size: tuple[float, float] | None
    unit: str
    metadata: dict[str, Any]


class FormatError(ValueError):
    """A file or stream that cannot be read: the message names it, what is wrong and what to do."""


def check_pixels(pixels: np.ndarray) -> None:
    """Nothing.

    Raises:
      ValueError: the array cannot be a micrograph or a stack of them.
    """
    shape, name = pixels.shape, pixels.dtype.name
    remedy = "convert to one of " + ", ".join(DTYPES)
    if pixels.dtype.kind == "c":
        raise ValueError(f"pixels are complex ({name}): save their modulus or real part instead")
    if pixels.dtype.kind == "b":
        raise ValueError("pixels are boolean, a mask and not a micrograph: convert to uint8")
    if name not in DTYPES:
        raise ValueError(f"pixels of type {name} are not supported: {remedy}")
    if len(shape) not in (2, 3):
        raise ValueError(f"pixels of shape {shape} are neither (h, w) nor (n, h, w): reshape them")
    # Colour comes in whole bytes; a stack of many grey frames 3 pixels wide does not come at all.
    is_thin = len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) >= 16
    if is_thin and name in ("uint8", "uint16"):
        raise ValueError(f"pixels of shape {shape} look like RGB: convert to one grey channel")
    if 0 in shape:
        raise ValueError(f"pixels of shape {shape} are empty: give at least one pixel")


def check_frame(frame: int, frames: int) -> None:
    """Nothing.

    Raises:
      FormatError: there is no such frame.
    """
    if not 0 <= frame < frames:
        raise FormatError(f"has no frame {frame}: its frames are 0 to {frames - 1}")

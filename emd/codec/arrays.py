"""Owns arrays of any number of axes as streams: the last two axes are the image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emd import codec
from emd.codec.settings import Settings
from emd.data.contents import DTYPES, FormatError
from emd.data.micrograph import Micrograph

_NAME = "array"  # of what a stream keeps of an array that is not what a micrograph can be
_THIN_PX = 4  # a stack of uint8 so thin counts as colour


def settings_of(asked: Mapping[str, Any]) -> Settings:
    """The settings that a codec's configuration stands for: without loss where it has none.

    An archive is to lose nothing that nobody said may be lost.

    Raises:
      ValueError: there is no such setting.
    """
    names = set(asked) - set(Settings._fields)
    if names:
        known = ", ".join(Settings._fields)
        raise ValueError(f"emdz has no setting {min(names)!r}: its settings are {known}")
    kept = {k: v for k, v in asked.items() if v is not None and v is not False}
    return Settings(**kept) if kept else Settings(lossless=True)


def configuration(settings: Settings) -> dict[str, Any]:
    """Those settings that are set, as JSON holds them."""
    return {k: v for k, v in settings._asdict().items() if v is not None and v is not False}


def check(shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Nothing.

    Raises:
      ValueError: emdz holds no such arrays.
    """
    if dtype.name not in DTYPES:
        raise ValueError(f"emdz holds no {dtype.name}: convert to one of {', '.join(DTYPES)}")
    if len(shape) < 2:
        raise ValueError(
            f"emdz compresses images, the last two axes of an array: shape {tuple(shape)} has none"
        )


def compress(array: np.ndarray, settings: Settings, *, keeps_form: bool = False) -> bytes:
    """The stream of an array.

    Args:
      array: of two axes or more.
      settings: how.
      keeps_form: also keep what a micrograph does not have, for `decompress` to give back: further
        axes, byte order, order in memory.

    Raises:
      ValueError: emdz holds no such arrays, or not with such settings.
    """
    check(array.shape, array.dtype)
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    pixels = native.reshape(_laid(array.shape))
    form: dict[str, Any] = {}
    if pixels.shape != array.shape:
        form["shape"] = list(array.shape)
    if not array.dtype.isnative:
        form["byteorder"] = array.dtype.str[0]
    if not array.flags.c_contiguous and array.flags.f_contiguous:
        form["order"] = "F"
    metadata = {_NAME: form} if form and keeps_form else {}
    return codec.compress(Micrograph(pixels, metadata=metadata), settings)


def _laid(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape as a micrograph may have it: (h, w), (n, h, w), or, very thin, (n * h, w)."""
    *leading, height, width = shape
    frames = math.prod(leading)
    if frames == 1:
        return height, width
    return (frames * height, width) if width <= _THIN_PX else (frames, height, width)


def decompress(data: bytes) -> np.ndarray:
    """The array of a stream, in the form that it was kept with.

    Raises:
      FormatError: it is none, or damaged.
    """
    found = codec.decompress(data)
    form = found.metadata.get(_NAME, {})
    try:
        array = found.pixels.reshape(form.get("shape", found.pixels.shape))
        dtype = array.dtype.newbyteorder(form.get("byteorder", "="))
        return np.asarray(array, dtype, order=form.get("order", "C"))
    except (AttributeError, TypeError, ValueError) as error:
        raise FormatError(f"is damaged: form {form!r} of an array ({error})") from None


def shaped(data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """The array of a stream, whose shape and type are known.

    Raises:
      FormatError: it is none, damaged, or of another shape or type.
    """
    found = codec.decompress(data)
    if found.pixels.size != math.prod(shape) or found.dtype.name != dtype.name:
        raise FormatError(
            f"is of another chunk: {found.pixels.shape} {found.dtype.name} where {shape} "
            f"{dtype.name} is due"
        )
    return found.pixels.reshape(shape).astype(dtype, copy=False)

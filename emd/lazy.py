"""A model over dask arrays: chunk by chunk, and yet the same pixels as from the whole image.

Owns the chunk grid. Frames that lie whole in a chunk are restored one chunk at a time. Others are
measured first, restored in pieces that overlap by the model's reach, and shifted to their mean:
all in one lazy graph. Until its mean is known a frame's pieces wait as float32.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from jaxtyping import Shaped

from emd.apply import over_frames, restoring, tiling_of
from emd.checkpoint import Model
from emd.data.intensity import Frame, finish
from emd.data.normalise import Scale
from emd.data.pixels import reflected
from emd.models.autoencoder import STRIDE

_LEAST_PX = 64
"""Narrower chunks are restored together: their halos would cost more than they do."""

_DIGIT = 16  # bits of a float that one pass for the median looks at


def over_chunks(array: Any, model: Model, whole: Callable[[np.ndarray], np.ndarray]) -> Any:
    """The restored array, of the same shape, type and chunks, not computed yet.

    Args:
      array: a dask array (..., h, w) of known sides and a type that `emd.data.micrograph` knows.
      model: as `emd.checkpoint.load` gives it.
      whole: restores a NumPy array of whole frames.

    The returned array raises, when computed:
      ValueError: counts so far apart that their sum overflows; a model whose result is not finite.

    >>> import dask.array as da
    >>> import emd
    >>> movie = da.random.default_rng(0).poisson(9.0, (6, 64, 64), chunks=(2, 64, 64))
    >>> restored = emd.load("tem_kernel_w3")(movie.astype("uint16"))
    >>> restored.shape, restored.dtype, restored.numblocks
    ((6, 64, 64), dtype('uint16'), (3, 1, 1))
    """
    halo = restoring(model).halo
    pieces = array.rechunk((*array.chunks[:-2], *(_sides(s, halo) for s in array.chunks[-2:])))
    if pieces.numblocks[-2:] == (1, 1):
        out = da.map_blocks(whole, pieces, dtype=array.dtype, meta=array._meta)
        return out.rechunk(array.chunks)
    measured = _measured(pieces)
    depth = {array.ndim - 2: halo, array.ndim - 1: halo}
    padded = da.overlap.overlap(_padded(pieces, halo), depth, "none", allow_rechunk=False)
    raw = da.map_blocks(
        functools.partial(_restored, model=model),
        padded,
        measured,
        chunks=pieces.chunks,
        dtype=np.float32,
        meta=np.empty((0,) * array.ndim, np.float32),
    )
    ready = [pieces, raw, measured]
    if not model.config.published:
        ready.append(_per_frame(_raw_sum, _correction, pieces, raw, measured))
    out = da.map_blocks(_finished, *ready, dtype=array.dtype, meta=array._meta)
    return out.rechunk(array.chunks)


# --- the chunk grid --------------------------------------------------------------------------


def _sides(sides: tuple[int, ...], halo: int) -> tuple[int, ...]:
    """An axis's chunks [px] with ends at multiples of the autoencoder's stride, none too narrow."""
    length, least = sum(sides), max(halo, _LEAST_PX)
    bounds = [0]
    for end in np.cumsum(sides[:-1]):
        near = STRIDE * round(int(end) / STRIDE)
        if near - bounds[-1] >= least and length - near >= least:
            bounds.append(near)
    return tuple(b - a for a, b in zip(bounds, [*bounds[1:], length], strict=True))


def _padded(pieces: Any, halo: int) -> Any:
    """The array reflected beyond the border of its frames; the outermost chunks grow by it."""
    for axis in (pieces.ndim - 2, pieces.ndim - 1):
        side, sides = pieces.shape[axis], list(pieces.chunks[axis])
        outside = [np.arange(-halo, 0), np.arange(side, side + halo)]
        before, after = (da.take(pieces, reflected(o, side), axis) for o in outside)
        sides[0] += halo
        sides[-1] += halo
        pieces = da.concatenate([before, pieces, after], axis).rechunk({axis: tuple(sides)})
    return pieces


def _per_frame(one: Callable[..., Any], join: Callable[..., Any], *arrays: Any) -> Any:
    """A dask array of objects (..., 1, 1): `join` of what `one` gives for each piece of a frame.

    Where `arrays` has frames' own objects, `one` gets them beside the piece, `join` after the list.
    """
    pieces, own = arrays[0], [array for array in arrays if array.dtype == object]
    lead, (rows, columns) = pieces.chunks[:-2], pieces.numblocks[-2:]
    ones = ((1,) * rows, (1,) * columns)
    parts = _map(functools.partial(_each, one), *arrays, chunks=(*lead, *ones))
    parts = parts.rechunk((*lead, (rows,), (columns,)))
    joined = functools.partial(_each, functools.partial(_join, join))
    return _map(joined, parts, *own, chunks=(*lead, (1,), (1,)))


def _map(function: Callable[..., np.ndarray], *arrays: Any, chunks: Any) -> Any:
    meta = np.empty((0,) * len(chunks), object)
    return da.map_blocks(function, *arrays, chunks=chunks, dtype=object, meta=meta)


def _each(function: Callable[..., Any], *blocks: np.ndarray) -> np.ndarray:
    """What a function gives for each frame of blocks, as an array of objects (..., 1, 1)."""
    out = np.empty((*blocks[0].shape[:-2], 1, 1), object)
    for index in np.ndindex(out.shape[:-2]):
        out[(*index, 0, 0)] = function(*(_of_frame(block[index]) for block in blocks))
    return out


def _of_frame(part: np.ndarray) -> Any:
    return part.item() if part.dtype == object and part.shape == (1, 1) else part


def _join(join: Callable[..., Any], parts: np.ndarray, *own: Any) -> Any:
    return join(parts.reshape(-1).tolist(), *own)


# --- a frame measured ------------------------------------------------------------------------


class _Sums(NamedTuple):
    """Of finite pixels: extremes, sum above the minimum, number; and how many are not finite."""

    low: float
    high: float
    above: float
    finite: int
    wrong: int


class _Measured(NamedTuple):
    """A frame's scale, what its pixels that are not finite become, and its finite pixels' sums."""

    scale: Scale
    fill: float
    above: float
    finite: int


def _measured(pieces: Any) -> Any:
    sums = _per_frame(_sum, _join_sums, pieces)
    chunks = sums.chunks
    if pieces.dtype.kind != "f":
        return _map(functools.partial(_each, _scale), sums, chunks=chunks)
    # The exact median, digit by digit from the highest; frames of finite pixels pass through.
    state = _map(functools.partial(_each, _begin), sums, chunks=chunks)
    for place in reversed(range(0, 8 * pieces.dtype.itemsize, _DIGIT)):
        state = _per_frame(functools.partial(_histogram, place), _narrow, pieces, state)
    ends = functools.partial(_scale, dtype=pieces.dtype)
    return _map(functools.partial(_each, ends), sums, state, chunks=chunks)


def _sum(piece: Shaped[np.ndarray, "h w"]) -> _Sums:
    if piece.dtype.kind != "f":
        low = int(piece.min())
        above = int(piece.sum(dtype=np.int64)) - piece.size * low
        return _Sums(low, int(piece.max()), above, piece.size, 0)
    finite = piece[np.isfinite(piece)].astype(np.float64)
    if not finite.size:
        return _Sums(math.inf, -math.inf, 0.0, 0, piece.size)
    least = float(finite.min())
    with np.errstate(over="ignore"):
        total = float((finite - least).sum())
    return _Sums(least, float(finite.max()), total, finite.size, piece.size - finite.size)


def _join_sums(parts: list[_Sums]) -> _Sums:
    low, high = min(part.low for part in parts), max(part.high for part in parts)
    above = sum(part.above + part.finite * (part.low - low) for part in parts if part.finite)
    finite, wrong = sum(part.finite for part in parts), sum(part.wrong for part in parts)
    return _Sums(low, high, above, finite, wrong)


def _scale(sums: _Sums, state: tuple[int, int] | None = None, dtype: Any = None) -> _Measured:
    if not sums.finite:
        return _Measured(Scale(0.0, 0.0), 0.0, 0.0, 0)
    fill = sums.low if state is None else _value(state[0], dtype)
    total = sums.above + sums.wrong * (fill - sums.low)
    mean = total / (sums.finite + sums.wrong)
    if not math.isfinite(mean):
        low, high = sums.low, sums.high
        raise ValueError(f"pixels from {low:g} to {high:g} are too far apart: divide them by 1e9")
    return _Measured(Scale(float(sums.low), mean), fill, float(sums.above), sums.finite)


def _begin(sums: _Sums) -> tuple[int, int] | None:
    """No digits yet, and how many finite pixels lie below the median: of frames that need it."""
    return (0, sums.finite // 2) if sums.wrong and sums.finite else None


def _histogram(place: int, piece: np.ndarray, state: tuple[int, int] | None) -> Any:
    """How often each next digit occurs among the pixels that begin with those found."""
    if state is None:
        return None
    finite = piece[np.isfinite(piece)]
    bits = finite.view(f"u{finite.itemsize}")
    top = bits.dtype.type(1 << (8 * finite.itemsize - 1))
    keys = np.where(bits & top, ~bits, bits | top)  # in the order of the floats
    if place + _DIGIT < 8 * finite.itemsize:
        keys = keys[keys >> (place + _DIGIT) == state[0]]
    digits = (keys >> place) & (2**_DIGIT - 1)
    return np.bincount(digits.astype(np.int64), minlength=2**_DIGIT)


def _narrow(parts: list[Any], state: tuple[int, int] | None) -> tuple[int, int] | None:
    if state is None:
        return None
    below = np.cumsum(sum(parts))
    digit = int(np.searchsorted(below, state[1], side="right"))
    return (state[0] << _DIGIT) | digit, state[1] - int(below[digit - 1] if digit else 0)


def _value(key: int, dtype: np.dtype) -> float:
    top = 1 << (8 * dtype.itemsize - 1)
    bits = key ^ top if key & top else key ^ (2 * top - 1)
    return float(np.array(bits, f"u{dtype.itemsize}").view(dtype))


# --- pieces restored -------------------------------------------------------------------------


def _filled(piece: Shaped[np.ndarray, "h w"], measured: _Measured, scale: Scale) -> Frame:
    """A piece as what `emd.data.intensity` works on, whatever its frame's other pieces hold."""
    wrong = ~np.isfinite(piece) if piece.dtype.kind == "f" else np.zeros((), bool)
    if not wrong.any():
        return Frame(piece, None, 0, scale, None)
    pixels = piece.copy()
    pixels[wrong] = measured.fill
    return Frame(pixels, wrong, 0, scale, None)


def _restored(padded: np.ndarray, measured: np.ndarray, *, model: Model) -> np.ndarray:
    """Normalised pieces restored, without the halo that they come with."""
    engine = restoring(model)
    halo = engine.halo
    height, width = padded.shape[-2:]
    out = np.empty((*padded.shape[:-2], height - 2 * halo, width - 2 * halo), np.float32)
    for index in np.ndindex(out.shape[:-2]):
        own = _of_frame(measured[index])
        frame = _filled(padded[index], own, own.scale)
        whole = np.empty((height, width), np.float32)
        over_frames(engine, tiling_of(engine, (height, width), 1, None), [frame], whole[None])
        out[index] = whole[halo:-halo, halo:-halo]
    return out


def _raw_sum(piece: np.ndarray, raw: np.ndarray, _: _Measured) -> float:
    """The sum of a normalised result where pixels are finite."""
    if piece.dtype.kind == "f":
        return float(raw.sum(dtype=np.float64, where=np.isfinite(piece)))
    return float(raw.sum(dtype=np.float64))


def _correction(parts: list[float], measured: _Measured) -> float:
    """What restores a frame's mean, in counts."""
    return (measured.above - measured.scale.mean * sum(parts)) / max(measured.finite, 1)


def _finished(
    pieces: np.ndarray, raw: np.ndarray, measured: np.ndarray, *correction: np.ndarray
) -> np.ndarray:
    """Pieces in counts again, of the type that they came in."""
    out = np.empty_like(pieces)
    for index in np.ndindex(pieces.shape[:-2]):
        own = _of_frame(measured[index])
        shift = _of_frame(correction[0][index]) if correction else 0.0
        scale = Scale(own.scale.minimum + shift, own.scale.mean)
        frame = _filled(pieces[index], own, scale)
        # the mean of the whole frame is in the scale already: that of a piece says nothing
        finish(frame, raw[index].copy(), pieces[index], out[index], keep_mean=False)
    return out

"""A model over dask arrays: chunk by chunk, and yet the same pixels as from the whole image.

Owns the chunk grid. Frames that lie whole in a chunk are restored one chunk at a time. Others are
measured first, restored in pieces that overlap by the model's reach, and shifted to their mean:
all in one lazy graph. Until its mean is known a frame's pieces wait as float32.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np

from emd.apply import restoring
from emd.checkpoint import Model
from emd.data.pixels import reflected
from emd.models.autoencoder import Autoencoder
from emd.models.skip import Skip
from emd.pieces import (
    DIGIT_BITS,
    begin_median,
    correction,
    finished,
    histogram,
    join_sums,
    measured_by,
    narrow_median,
    raw_sum,
    restored,
    sums_of,
)

_CELL_PX = math.lcm(Autoencoder.cell_px, Skip.cell_px)
_LEAST_PX = 64
"""Narrower chunks are restored together: their halos would cost more than they do."""


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
    engine = restoring(model)
    halo = engine.halo
    pieces = array.rechunk((*array.chunks[:-2], *(sides_of(s, halo) for s in array.chunks[-2:])))
    if pieces.numblocks[-2:] == (1, 1):
        out = da.map_blocks(whole, pieces, dtype=array.dtype, meta=array._meta)
        return out.rechunk(array.chunks)
    measured = _measured(pieces)
    padded = pieces if engine.pads_itself else _padded(pieces, halo)
    # a single piece has no neighbour, and may be narrower than a halo
    axes = array.ndim - 2, array.ndim - 1
    depth = {axis: halo if pieces.numblocks[axis] > 1 else 0 for axis in axes}
    padded = da.overlap.overlap(padded, depth, "none", allow_rechunk=False)
    raw = da.map_blocks(
        functools.partial(_restored, model=model, sides=pieces.chunks[-2:]),
        padded,
        measured,
        chunks=pieces.chunks,
        dtype=np.float32,
        meta=np.empty((0,) * array.ndim, np.float32),
    )
    ready = [pieces, raw, measured]
    if not model.config.published:
        ready.append(_per_frame(raw_sum, correction, pieces, raw, measured))
    out = da.map_blocks(_finished, *ready, dtype=array.dtype, meta=array._meta)
    return out.rechunk(array.chunks)


# --- the chunk grid --------------------------------------------------------------------------


def sides_of(sides: tuple[int, ...], halo: int) -> tuple[int, ...]:
    """An axis's chunks [px] with ends where networks' cells may end, none too narrow."""
    length, least = sum(sides), max(halo, _LEAST_PX)
    bounds = [0]
    for end in np.cumsum(sides[:-1]):
        near = _CELL_PX * round(int(end) / _CELL_PX)
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


def _measured(pieces: Any) -> Any:
    sums = _per_frame(sums_of, join_sums, pieces)
    chunks = sums.chunks
    if pieces.dtype.kind != "f":
        return _map(functools.partial(_each, measured_by), sums, chunks=chunks)
    # The exact median, digit by digit from the highest; frames of finite pixels pass through.
    state = _map(functools.partial(_each, begin_median), sums, chunks=chunks)
    for place in reversed(range(0, 8 * pieces.dtype.itemsize, DIGIT_BITS)):
        state = _per_frame(functools.partial(histogram, place), narrow_median, pieces, state)
    ends = functools.partial(measured_by, dtype=pieces.dtype)
    return _map(functools.partial(_each, ends), sums, state, chunks=chunks)


# --- pieces restored -------------------------------------------------------------------------


def _restored(
    padded: np.ndarray,
    measured: np.ndarray,
    *,
    model: Model,
    sides: tuple[tuple[int, ...], tuple[int, ...]],
    block_id: tuple[int, ...],
) -> np.ndarray:
    """Normalised pieces restored, without the halo that they come with."""
    engine = restoring(model)
    own = []
    for number, lengths in zip(block_id[-2:], sides, strict=True):
        # before the first piece of an image that is not reflected there is nothing
        before = engine.halo if number or not engine.pads_itself else 0
        own.append(slice(before, before + lengths[number]))
    out = np.empty(padded[..., own[0], own[1]].shape, np.float32)
    for index in np.ndindex(out.shape[:-2]):
        frame = _of_frame(measured[index])
        out[index] = restored(padded[index], (own[0], own[1]), frame, engine)
    return out


def _finished(
    pieces: np.ndarray, raw: np.ndarray, measured: np.ndarray, *correction: np.ndarray
) -> np.ndarray:
    """Pieces in counts again, of the type that they came in."""
    out = np.empty_like(pieces)
    for index in np.ndindex(pieces.shape[:-2]):
        shift = _of_frame(correction[0][index]) if correction else 0.0
        own = _of_frame(measured[index])
        finished(pieces[index], raw[index].copy(), own, shift, out[index])
    return out

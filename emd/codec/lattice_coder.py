"""Owns the coder `lattice`: pixels without loss, or within a bound, in independent blocks.

A block's rows and columns that repeat the one before go first: images that a program enlarged, and
padded ones, are full of them. What is left is predicted and coded pass by pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from emd.codec import contexts, lattice, lattice_fit, levels
from emd.codec.lattice import Bounds, Predictor
from emd.codec.rans import Decoder, Encoder
from emd.codec.varints import Fields, pack, signed, unsigned
from emd.data.contents import FormatError

NAME = "lattice"
VERSION = 1
_REPEATS_ROWS, _REPEATS_COLUMNS = 1, 2
_LIMIT = 1 << 19  # of a weight
_FIT_PX = 1_500_000  # more would hardly change the fit


class Lattice:
    """Predictors, contexts and levels of a file, ready to code its blocks."""

    def __init__(
        self,
        levels_: levels.Levels,
        predictors: dict[tuple[int, int], Predictor],
        model: contexts.Model,
    ) -> None:
        """Takes what the parameters in the header hold."""
        self.levels = levels_
        self._predictors = predictors
        self._model = model
        self._bounds = Bounds(0, levels_.total - 1)

    def encode(self, block: Shaped[np.ndarray, "h w"]) -> bytes:
        """A block of finite pixels as a chunk."""
        rows, columns, kept = _distinct(self.levels.of(block).astype(np.float64))
        flags = _REPEATS_ROWS * (not rows.all()) + _REPEATS_COLUMNS * (not columns.all())
        masks = [np.packbits(mask).tobytes() for mask in (rows, columns) if not mask.all()]
        encoder, escapes = Encoder(), list[int]()
        for each in lattice.passes(kept, self._predictors, self._bounds):
            residuals = each.target.reshape(-1).astype(np.int64) - each.centre
            self._model.encode(encoder, escapes, each.contexts, each.fractions, residuals)
        plain = lattice.start(kept).astype(np.int64).reshape(-1).tolist()
        numbers = [pack(value) for value in plain]
        numbers += [pack(unsigned(value)) for value in reversed(escapes)]
        return (
            bytes([flags])
            + b"".join(masks)
            + pack(len(escapes))
            + b"".join(numbers)
            + encoder.to_bytes()
        )

    def decode(
        self, chunk: bytes, shape: tuple[int, int], dtype: np.dtype[Any]
    ) -> Shaped[np.ndarray, "h w"]:
        """The block of a shape that a chunk holds.

        Raises:
          FormatError: it holds none.
        """
        fields = Fields(chunk)
        (flags,) = fields.take(1)
        if flags > _REPEATS_ROWS + _REPEATS_COLUMNS:
            raise FormatError("a block is damaged: get the file anew")
        rows, columns = (
            _mask(fields, side) if flags & flag else np.ones(side, bool)
            for side, flag in zip(shape, (_REPEATS_ROWS, _REPEATS_COLUMNS), strict=True)
        )
        kept = np.zeros((int(rows.sum()), int(columns.sum())))
        plain = lattice.start(kept)
        count = fields.number()
        if count > kept.size:
            raise FormatError("a block is damaged: get the file anew")
        for place in np.ndindex(plain.shape):
            plain[place] = min(fields.number(), self._bounds.high)
        escapes = [signed(fields.number()) for _ in range(count)]
        decoder = Decoder(fields.rest())
        for each in lattice.passes(kept, self._predictors, self._bounds):
            residuals = self._model.decode(decoder, escapes, each.contexts, each.fractions)
            # what is damaged must not grow beyond what doubles hold
            found = (each.centre + residuals).clip(*self._bounds)
            each.target[...] = found.reshape(each.target.shape)
        if escapes:
            raise FormatError("a block is damaged: get the file anew")
        decoder.finish()
        whole = kept[np.cumsum(rows) - 1][:, np.cumsum(columns) - 1]
        return self.levels.values(whole.astype(np.int64), dtype)

    def to_bytes(self) -> bytes:
        """The parameters that the header holds."""
        body = self.levels.to_bytes()
        for level, kind in _SETS:
            predictor = self._predictors[level, kind]
            for value in (*predictor.weights.tolist(), *predictor.activity.tolist()):
                body += pack(unsigned(value))
        return body + self._model.to_bytes()


_SETS = [(level, kind) for level in range(lattice.LEVELS) for kind in range(len(lattice.KINDS))]


def from_bytes(parameters: bytes, dtype: np.dtype[Any]) -> Lattice:
    """The coder whose parameters a header holds.

    Raises:
      FormatError: it holds none.
    """
    fields = Fields(parameters)
    found = levels.from_bytes(fields, dtype)
    predictors = {}
    for level, kind in _SETS:
        sizes = len(lattice.taps(level, kind)), lattice.near(level, kind) + 2
        weights, activity = (
            np.array([signed(fields.number()) for _ in range(size)]) for size in sizes
        )
        if max(np.abs(weights).max(), activity.max()) > _LIMIT or activity.min() < 0:
            raise FormatError("weights are damaged: get the file anew")
        predictors[level, kind] = Predictor(weights, activity)
    model, end = contexts.from_bytes(rest := fields.rest())
    if end != len(rest):
        raise FormatError("parameters are damaged: get the file anew")
    return Lattice(found, predictors, model)


def fit(levels_: levels.Levels, blocks: Sequence[Shaped[np.ndarray, "_ _"]]) -> Lattice:
    """The coder that suits blocks like these, of finite pixels."""
    bounds = Bounds(0, levels_.total - 1)
    kept, size = [], 0
    for block in _spread(blocks):
        kept.append(_distinct(levels_.of(block).astype(np.float64))[2])
        size += kept[-1].size
        if size > _FIT_PX:
            break
    predictors = lattice_fit.fit(kept, bounds)
    found = [each for block in kept for each in lattice.passes(block, predictors, bounds)]
    if not found:
        return Lattice(levels_, predictors, contexts.fit(*(np.zeros(0, np.int64),) * 3))
    residuals = [each.target.reshape(-1).astype(np.int64) - each.centre for each in found]
    model = contexts.fit(
        np.concatenate([each.contexts for each in found]),
        np.concatenate([each.fractions for each in found]),
        np.concatenate(residuals),
    )
    return Lattice(levels_, predictors, model)


def _spread(
    blocks: Sequence[Shaped[np.ndarray, "_ _"]],
) -> Iterable[Shaped[np.ndarray, "_ _"]]:
    """The blocks in an order whose start is spread over all of them."""
    order = sorted(range(len(blocks)), key=lambda k: int(f"{k:032b}"[::-1], 2))
    return (blocks[k] for k in order)


def _distinct(
    block: Shaped[np.ndarray, "h w"],
) -> tuple[Bool[np.ndarray, " h"], Bool[np.ndarray, " w"], Shaped[np.ndarray, "i j"]]:
    """Which rows and columns differ from those before, and the block of these."""
    rows = np.append(True, (block[1:] != block[:-1]).any(1))
    columns = np.append(True, (block[:, 1:] != block[:, :-1]).any(0))
    return rows, columns, block[rows][:, columns]


def _mask(fields: Fields, side: int) -> Bool[np.ndarray, " k"]:
    packed = np.frombuffer(fields.take(-(-side // 8)), np.uint8)
    mask = np.unpackbits(packed, count=side).astype(bool)
    if not mask[0]:
        raise FormatError("a block is damaged: get the file anew")
    return mask

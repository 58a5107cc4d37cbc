"""Owns the coding of an autoencoder's quantised latents, channel by channel, cell by cell.

Cells are taken coarse to fine, as pixels are in `emd.codec.lattice`, and at each the channels one
after another. A number's prediction is linear in all channels of the four known cells around and in
the channels before it at its own; how far those were from their predictions says how far it will
be. The weights belong to the autoencoder's and are whole numbers.

Doubles hold the integers here: every product and sum stays below 2^53, so none is ever rounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from emd.codec import contexts, grid, lattice
from emd.codec.rans import Decoder, Encoder
from emd.codec.varints import Fields, pack, signed, unsigned
from emd.data.contents import FormatError

STEP_UNITS = 4096
"""Global steps and the channels' means are whole numbers of this fraction."""

WEIGHT_BITS = 14
"""Weights of predictions are in 2^-14."""

MISS_BITS = 10
"""Weights of what is expected to be missed are in 2^-10, each >= 0."""

SUBCOUNTS = 16
"""Predictions are in sixteenths of a number."""

RANGES = (800, 1900)
"""Global steps, in 4096ths, from which the next set of weights serves."""

LEVELS = 3
"""Spacings 1 and 2 have weights of their own; those from 4 on share theirs."""

PHASES = 1 + LEVELS * len(lattice.KINDS)
"""The coarsest cells; then three kinds of cells a level."""

LARGEST = 1 << 20
"""Numbers are below this."""

_MISS_CAP = SUBCOUNTS << 12
_ACTIVITY_CAP = float(1 << 40)
_DAMAGED = "a block is damaged: get the file anew"


class Knowledge(NamedTuple):
    """What coding takes beside the numbers, by range of steps and phase.

    Attributes:
      mean: of the channels, in 4096ths of their own steps.
      around: weights of the channels of the four known cells, in 2^-14.
      before: weights of the channels before, [of, for] each, in 2^-14.
      miss_around: of the four cells' misses, in 2^-10.
      miss_before: of the misses of the channels before, in 2^-10.
      unrest: of the differences between the four, in 2^-10.
      least: misses where all this is 0, in 2^-10 of a sixteenth.
      models: how residuals of a context are coded, by range.
    """

    mean: Int[np.ndarray, " c"]
    around: Int[np.ndarray, "r p 4*c c"]
    before: Int[np.ndarray, "r p c c"]
    miss_around: Int[np.ndarray, "r p c c"]
    miss_before: Int[np.ndarray, "r p c c"]
    unrest: Int[np.ndarray, "r p c"]
    least: Int[np.ndarray, "r p c"]
    models: tuple[contexts.Model, ...]

    def origin(self, step: int) -> Float[np.ndarray, " c"]:
        """The channels' means at a global step, in sixteenths of a number, as whole numbers."""
        return ((2 * SUBCOUNTS * self.mean + step) // (2 * step)).astype(np.float64)


class Places(NamedTuple):
    """Cells that are coded at once.

    Attributes:
      rows, columns: theirs.
      phase: which weights serve them.
      around: rows and columns of the four known cells; empty in phase 0.
    """

    rows: Int[np.ndarray, " n"]
    columns: Int[np.ndarray, " n"]
    phase: int
    around: tuple[Int[np.ndarray, "k n"], Int[np.ndarray, "k n"]]


class Known(NamedTuple):
    """What is known of a channel's numbers before they are coded, for some cells.

    Attributes:
      predicted: in sixteenths.
      expected: how far they will be from it, in sixteenths.
    """

    predicted: Int[np.ndarray, " n"]
    expected: Int[np.ndarray, " n"]


def range_of(step: int) -> int:
    """Which set of weights serves a global step."""
    return sum(step >= limit for limit in RANGES)


def places(high: int, wide: int) -> Iterator[Places]:
    """The cells of a block, in the order of coding."""
    for rows, columns, spacing, kind, around in grid.groups(high, wide):
        level = min(spacing.bit_length() - 1, LEVELS - 1)
        phase = 1 + level * len(lattice.KINDS) + kind if spacing else 0
        yield Places(rows, columns, phase, around)


class Block:
    """A block's numbers as far as they are known, and what these say of the next."""

    def __init__(self, size: tuple[int, int], knowledge: Knowledge, step: int) -> None:
        """Knows nothing yet."""
        self._knowledge = knowledge
        self._range = range_of(step)
        self._origin = knowledge.origin(step)
        depth = len(self._origin)
        self.numbers = np.zeros((*size, depth), np.int64)
        self.above = np.zeros((*size, depth))
        """Numbers above their channel's mean, in sixteenths."""
        self.missed = np.zeros((*size, depth))
        """How far they were from their predictions, in sixteenths."""

    def enter(self, cells: Places) -> None:
        """Nothing; the cells around are then taken into account for these."""
        self._cells = cells
        own, phase = self._knowledge, (self._range, cells.phase)
        count, depth = len(cells.rows), len(self._origin)
        self._linear = np.zeros((count, depth))
        self._misses = np.zeros((count, depth)) + own.least[phase].astype(np.float64)
        self._beside = np.zeros((count, depth)), np.zeros((count, depth))
        if len(cells.around[0]):
            values = self.above[cells.around]
            flat = values.transpose(1, 0, 2).reshape(count, -1)
            self._linear = flat @ own.around[phase].astype(np.float64)
            missed = self.missed[cells.around].sum(0)
            self._misses += missed @ own.miss_around[phase].astype(np.float64)
            self._misses += unrest(values) * own.unrest[phase].astype(np.float64)
        self._before = own.before[phase].astype(np.float64)
        self._miss_before = own.miss_before[phase].astype(np.float64)

    def expect(self, channel: int) -> Known:
        """What is known of a channel's numbers at the cells entered."""
        values, misses = self._beside
        total = self._linear[:, channel] + values[:, :channel] @ self._before[:channel, channel]
        predicted = self._origin[channel] + np.floor(total / (1 << WEIGHT_BITS) + 0.5)
        expected = self._misses[:, channel]
        expected = expected + misses[:, :channel] @ self._miss_before[:channel, channel]
        expected = np.minimum(np.floor(expected / (1 << MISS_BITS)), _ACTIVITY_CAP)
        predicted = predicted.clip(0, SUBCOUNTS * LARGEST)
        return Known(predicted.astype(np.int64), expected.astype(np.int64))

    def put(self, channel: int, known: Known, numbers: Int[np.ndarray, " n"]) -> None:
        """Nothing; these numbers of a channel are then known."""
        at = self._cells.rows, self._cells.columns, channel
        scaled = SUBCOUNTS * numbers
        values, misses = self._beside
        values[:, channel] = scaled - self._origin[channel]
        misses[:, channel] = np.minimum(np.abs(scaled - known.predicted), _MISS_CAP)
        self.numbers[at] = numbers
        self.above[at] = values[:, channel]
        self.missed[at] = misses[:, channel]


def unrest(values: Float[np.ndarray, "4 n c"]) -> Float[np.ndarray, "n c"]:
    """How far the four cells around differ."""
    first, second = np.abs(values[0] - values[3]), np.abs(values[1] - values[2])
    return np.minimum(first + second, _MISS_CAP)


def _split(
    known: Known,
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Whole predictions, the fractions beyond them, and contexts."""
    centre = known.predicted + SUBCOUNTS // 2 >> 4
    fractions = known.predicted - SUBCOUNTS * centre + SUBCOUNTS // 2 >> 1
    return centre, fractions, contexts.classes(known.expected)


def residuals(
    numbers: Int[np.ndarray, "i j c"], knowledge: Knowledge, step: int
) -> Iterator[tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]]:
    """Contexts, fractions and residuals of a block's numbers, in the order of coding."""
    block = Block((numbers.shape[0], numbers.shape[1]), knowledge, step)
    for cells in places(*numbers.shape[:2]):
        block.enter(cells)
        for channel in range(numbers.shape[2]):
            known = block.expect(channel)
            found = numbers[cells.rows, cells.columns, channel]
            block.put(channel, known, found)
            centre, fractions, classes = _split(known)
            yield classes, fractions, found - centre


def encode(numbers: Int[np.ndarray, "i j c"], knowledge: Knowledge, step: int) -> bytes:
    """A block's numbers, from 0 to `LARGEST`, as a chunk."""
    encoder, escapes = Encoder(), list[int]()
    model = knowledge.models[range_of(step)]
    for classes, fractions, found in residuals(numbers, knowledge, step):
        model.encode(encoder, escapes, classes, fractions, found)
    packed = b"".join(pack(unsigned(number)) for number in reversed(escapes))
    return pack(len(escapes)) + packed + encoder.to_bytes()


def decode(
    chunk: bytes, size: tuple[int, int], knowledge: Knowledge, step: int
) -> Int[np.ndarray, "i j c"]:
    """The numbers that `encode` made a chunk of.

    Raises:
      FormatError: it holds none of this size.
    """
    fields = Fields(chunk)
    count = fields.number()
    block = Block(size, knowledge, step)
    if count > block.numbers.size:
        raise FormatError(_DAMAGED)
    escapes = [_escape(fields) for _ in range(count)]
    decoder = Decoder(fields.rest())
    model = knowledge.models[range_of(step)]
    for cells in places(*size):
        block.enter(cells)
        for channel in range(block.numbers.shape[2]):
            known = block.expect(channel)
            centre, fractions, classes = _split(known)
            found = centre + model.decode(decoder, escapes, classes, fractions)
            if found.min() < 0 or found.max() > LARGEST:
                raise FormatError(_DAMAGED)
            block.put(channel, known, found)
    if escapes:
        raise FormatError(_DAMAGED)
    decoder.finish()
    return block.numbers


def _escape(fields: Fields) -> int:
    """The next residual that has no symbol."""
    number = signed(fields.number())
    if abs(number) > LARGEST:
        raise FormatError(_DAMAGED)
    return number

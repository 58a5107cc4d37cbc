"""Owns the coding of quantised transforms: bands of whole numbers over a grid of places.

Places are taken coarse to fine, as pixels are in `emd.codec.lattice`, and at each the bands shell
by shell. What is known then, at the places around and in lower shells, says how large the next
numbers are likely to be. All in integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from emd.codec import contexts, grid, tables
from emd.codec.rans import Decoder, Encoder
from emd.codec.varints import Fields, pack, signed, unsigned
from emd.data.contents import FormatError

EXPECTED_BITS = 12
"""What is expected of a number's magnitude is in 2^-12."""

WEIGHT_BITS = 10
"""Weights of what is known are in 2^-10."""

FEATURES = 6
PHASES = 3
"""Places of the coarsest grid; centres of squares; midpoints of sides."""

LARGEST = 1 << 30
"""Numbers are no larger."""

_CAP = 255  # magnitudes count no more than this
_ONE_BIT = np.ones(1, np.int64)
_DAMAGED = "a block is damaged: get the file anew"


class Layout(NamedTuple):
    """How the bands of a transform hang together; index `bands` stands for none.

    Attributes:
      shells: bands in the order of coding, shell by shell. The first holds one band, the mean,
        which is predicted from the places around.
      parent: of each band, one of a lower shell that tells most of it.
      above: of each band, others of lower shells.
      beside: of each band, those like it, itself included: they tell of it at places around.
    """

    shells: tuple[Int[np.ndarray, " k"], ...]
    parent: Int[np.ndarray, " c"]
    above: Int[np.ndarray, "c a"]
    beside: Int[np.ndarray, "c b"]

    @property
    def bands(self) -> int:
        """How many there are."""
        return len(self.parent)


class Knowledge(NamedTuple):
    """What coding takes beside the numbers: it is part of a stream's weights.

    Attributes:
      weights: of the features, by phase and shell, in 2^-10.
      models: how numbers of a context are coded: those of the mean, and the others.
    """

    weights: Int[np.ndarray, "p s f"]
    models: tuple[contexts.Model, contexts.Model]


class Step(NamedTuple):
    """Numbers that are coded at once.

    Attributes:
      rows, columns: their places.
      shell: their bands.
      predicted: what they are expected to be.
      features: what is known of their magnitude, in 2^-12: whole numbers, held exactly.
      phase: of their places.
      number: of their shell.
    """

    rows: Int[np.ndarray, " n"]
    columns: Int[np.ndarray, " n"]
    shell: Int[np.ndarray, " k"]
    predicted: Int[np.ndarray, "n k"]
    features: Float[np.ndarray, "f n k"]
    phase: int
    number: int

    @property
    def place(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where they lie in a block's numbers."""
        return self.rows[:, None], self.columns[:, None], self.shell

    @property
    def is_plain(self) -> bool:
        """Whether they are the means that nothing is known of."""
        return not (self.phase or self.number)


def steps(numbers: Int[np.ndarray, "i j c"], layout: Layout) -> Iterator[Step]:
    """The steps of coding, in order; the numbers of each must be in place before the next."""
    high, wide, bands = numbers.shape
    magnitudes = np.zeros((high, wide, bands + 1), np.int64)  # the last band is none
    known = np.zeros_like(numbers)  # no more than a decoder has at the time
    sums, count = np.zeros(bands, np.int64), 0
    for rows, columns, spacing, kind, around in grid.groups(high, wide):
        phase = (1 + (kind > 0)) if spacing else 0
        here = len(rows)
        near = magnitudes[around].sum(0) if phase else np.zeros((here, bands + 1), np.int64)
        own = np.zeros((here, bands + 1), np.int64)
        average = (sums << EXPECTED_BITS) // max(count, 1)
        for number, shell in enumerate(layout.shells):
            features = np.zeros((FEATURES, here, len(shell)))
            features[0] = near[:, shell] << EXPECTED_BITS - 2
            features[1] = average[shell]
            predicted = np.zeros((here, len(shell)), np.int64)
            if number:
                features[2] = own[:, layout.parent[shell]] << EXPECTED_BITS
                features[3] = _mean(own, layout.above[shell])
                features[4] = _mean(near, layout.beside[shell]) >> 2
            elif phase:
                values = known[around][..., shell]
                predicted = values.sum(0) + 2 >> 2
                spread = np.abs(4 * values - values.sum(0)).sum(0)
                features[5] = np.minimum(spread, 16 * _CAP) << EXPECTED_BITS - 4
            yield Step(rows, columns, shell, predicted, features, phase, number)
            found = numbers[rows[:, None], columns[:, None], shell] - predicted
            own[:, shell] = np.minimum(np.abs(found), _CAP)
        magnitudes[rows, columns] = own
        known[rows, columns] = numbers[rows, columns]
        sums += own[:, :-1].sum(0)
        count += here


def _mean(known: Int[np.ndarray, "n c"], related: Int[np.ndarray, "k r"]) -> Int[np.ndarray, "n k"]:
    """The mean magnitude of each band's related ones, in 2^-12."""
    total = np.zeros((len(known), len(related)), np.int64)
    for column in related.T:
        total += known[:, column]
    return (total << EXPECTED_BITS) // related.shape[1]


def choose(
    values: Float[np.ndarray, "i j c"],
    layout: Layout,
    knowledge: Knowledge,
    exchange: float,
) -> tuple[Int[np.ndarray, "i j c"], float]:
    """Whole numbers for these values, and about how many bits they take.

    Of the two beside a value and 0, that of the least squared error, plus `exchange` times its
    bits, given what was chosen before.
    """
    values = values.clip(-LARGEST, LARGEST)
    numbers = np.rint(values).astype(np.int64)
    total = 0.0
    for step in steps(numbers, layout):
        wanted = values[step.place]
        below = np.floor(wanted).astype(np.int64)
        known = _contexts(step, knowledge)
        model = knowledge.models[step.number > 0]
        least, best, bits = np.full(wanted.shape, np.inf), below, np.zeros(wanted.shape)
        for candidate in (below, below + 1, np.zeros_like(below)):
            cost = model.cost(known, candidate - step.predicted)
            loss = (wanted - candidate) ** 2 + exchange * cost
            is_better = loss < least
            least[is_better] = loss[is_better]
            best, bits = np.where(is_better, candidate, best), np.where(is_better, cost, bits)
        numbers[step.place] = best
        total += float(bits.sum())
    return numbers, total


def encode(numbers: Int[np.ndarray, "i j c"], layout: Layout, knowledge: Knowledge) -> bytes:
    """A block's numbers as a chunk."""
    used = [k for k, shell in enumerate(layout.shells) if numbers[..., shell].any()]
    shells = used[-1] + 1 if used else 0
    encoder, plain, escapes = Encoder(), list[int](), list[int]()
    for step in steps(numbers, layout):
        found = (numbers[step.place] - step.predicted).reshape(-1)
        if step.number >= shells:
            continue
        if step.is_plain:
            plain += found.tolist()
            continue
        known = _contexts(step, knowledge).reshape(-1)
        # most numbers of a small stream lie where all around is 0: one bit says so of all of them
        if (is_blank := known == 0).any():
            has_more = found[is_blank].any(keepdims=True)
            encoder.put_bits(has_more.astype(np.int64), _ONE_BIT)
            if not has_more:
                known, found = known[~is_blank], found[~is_blank]
        centred = np.full(known.shape, tables.CENTRED)
        knowledge.models[step.number > 0].encode(encoder, escapes, known, centred, found)
    packed = b"".join(pack(unsigned(number)) for number in (*plain, *reversed(escapes)))
    return bytes([shells]) + pack(len(escapes)) + packed + encoder.to_bytes()


def decode(
    chunk: bytes, size: tuple[int, int], layout: Layout, knowledge: Knowledge
) -> Int[np.ndarray, "i j c"]:
    """The numbers that `encode` made a chunk of.

    Raises:
      FormatError: it holds none.
    """
    fields = Fields(chunk)
    (shells,) = fields.take(1)
    count = fields.number()
    numbers = np.zeros((*size, layout.bands), np.int64)
    if shells > len(layout.shells) or count > numbers.size:
        raise FormatError(_DAMAGED)
    first, *_ = next(grid.groups(*size))
    plain = [_small(fields) for _ in range(len(first) if shells else 0)]
    escapes = [_small(fields) for _ in range(count)]
    decoder = Decoder(fields.rest())
    for step in steps(numbers, layout):
        if step.number >= shells:
            continue
        if step.is_plain:
            numbers[step.place] = np.reshape(plain, step.predicted.shape)
            continue
        known = _contexts(step, knowledge).reshape(-1)
        is_coded = np.ones(known.shape, bool)
        if (is_blank := known == 0).any() and not decoder.take_bits(_ONE_BIT)[0]:
            is_coded = ~is_blank
        known, found = known[is_coded], np.zeros(known.shape, np.int64)
        centred = np.full(known.shape, tables.CENTRED)
        model = knowledge.models[step.number > 0]
        found[is_coded] = model.decode(decoder, escapes, known, centred)
        found = found.reshape(step.predicted.shape) + step.predicted
        numbers[step.place] = found.clip(-LARGEST, LARGEST)
    if escapes:
        raise FormatError(_DAMAGED)
    decoder.finish()
    return numbers


def _small(fields: Fields) -> int:
    """The next number; what is damaged must not grow beyond what integers hold."""
    return max(-LARGEST, min(LARGEST, signed(fields.number())))


def _contexts(step: Step, knowledge: Knowledge) -> Int[np.ndarray, "n k"]:
    """The contexts of the numbers of a step."""
    weights = knowledge.weights[step.phase, step.number].astype(np.float64)
    expected = np.floor(np.tensordot(weights, step.features, 1) / (1 << WEIGHT_BITS))
    return contexts.classes(expected.reshape(-1)).reshape(expected.shape)

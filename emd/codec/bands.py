"""Owns the coding of quantised transforms: bands of whole numbers over a grid of places.

Places are taken coarse to fine, as pixels are in `emd.codec.lattice`, and at each the bands shell
by shell. What is known then, at the places around and in lower shells, says how large the next
numbers are likely to be. All in integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from emd.codec import contexts, lattice, tables
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

_COARSEST = 4  # places a side, of the coarsest grid of a block
_LIMIT = 1 << 30  # of a number
_CAP = 255  # magnitudes count no more than this
_DAMAGED = "a block is damaged: get the file anew"


class Layout(NamedTuple):
    """How the bands of a transform hang together; index `bands` stands for none.

    Attributes:
      shells: bands in the order of coding, shell by shell.
      parent: of each band, one of a lower shell that tells most of it.
      above: of each band, others of lower shells.
      beside: of each band, those like it, itself included: they tell of it at places around.
      is_smooth: bands that are predicted from the places around.
    """

    shells: tuple[Int[np.ndarray, " k"], ...]
    parent: Int[np.ndarray, " c"]
    above: Int[np.ndarray, "c a"]
    beside: Int[np.ndarray, "c b"]
    is_smooth: Bool[np.ndarray, " c"]

    @property
    def bands(self) -> int:
        """How many there are."""
        return len(self.parent)


class Knowledge(NamedTuple):
    """What coding takes beside the numbers: it is part of a stream's weights.

    Attributes:
      weights: of the features, by phase and shell, in 2^-10.
      models: how numbers of a context are coded: those of smooth bands, and the others.
    """

    weights: Int[np.ndarray, "p s f"]
    models: tuple[contexts.Model, contexts.Model]


class Step(NamedTuple):
    """Numbers that are coded at once.

    Attributes:
      rows, columns: their places.
      shell: their bands.
      predicted: what they are expected to be.
      features: what is known of their magnitude, in 2^-12.
      phase: of their places.
      number: of their shell.
    """

    rows: Int[np.ndarray, " n"]
    columns: Int[np.ndarray, " n"]
    shell: Int[np.ndarray, " k"]
    predicted: Int[np.ndarray, "n k"]
    features: Int[np.ndarray, "f n k"]
    phase: int
    number: int


def steps(numbers: Int[np.ndarray, "i j c"], layout: Layout) -> Iterator[Step]:
    """The steps of coding, in order; the numbers of each must be in place before the next."""
    high, wide, bands = numbers.shape
    magnitudes = np.zeros((high, wide, bands + 1), np.int64)  # the last band is none
    known = np.zeros_like(numbers)  # no more than a decoder has at the time
    sums, count = np.zeros(bands, np.int64), 0
    for rows, columns, phase, around in _places(high, wide):
        here = len(rows)
        near = np.zeros((here, bands + 1), np.int64)
        spread = np.zeros((here, bands), np.int64)
        mean = np.zeros((here, bands), np.int64)
        if phase:
            near = magnitudes[around].sum(0)
            values = known[around][..., layout.is_smooth]
            mean[:, layout.is_smooth] = values.sum(0) + 2 >> 2
            spread[:, layout.is_smooth] = np.minimum(
                np.abs(4 * values - values.sum(0)).sum(0), 16 * _CAP
            )
        own = np.zeros((here, bands + 1), np.int64)
        average = (sums << EXPECTED_BITS) // max(count, 1)
        for number, shell in enumerate(layout.shells):
            features = np.stack(
                [
                    near[:, shell] << EXPECTED_BITS - 2,
                    np.broadcast_to(average[shell], (here, len(shell))),
                    own[:, layout.parent[shell]] << EXPECTED_BITS,
                    _mean(own, layout.above[shell]),
                    _mean(near, layout.beside[shell]) >> 2,
                    spread[:, shell] << EXPECTED_BITS - 4,
                ]
            )
            yield Step(rows, columns, shell, mean[:, shell], features, phase, number)
            found = numbers[rows[:, None], columns[:, None], shell] - mean[:, shell]
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


def _places(
    high: int, wide: int
) -> Iterator[tuple[np.ndarray, np.ndarray, int, tuple[np.ndarray, np.ndarray]]]:
    """Rows and columns of the places of each phase, and of the four known ones around each."""
    spacing = 1
    while max(high, wide) > _COARSEST * spacing:
        spacing *= 2
    rows, columns = _grid(high, wide, 0, 0, spacing)
    nowhere = np.zeros((0, 0), np.int64)
    yield rows, columns, 0, (nowhere, nowhere)
    while spacing > 1:
        half = spacing // 2
        for kind, (down, right) in enumerate(lattice.KINDS):
            rows, columns = _grid(high, wide, down * half, right * half, spacing)
            if not len(rows):
                continue
            offsets = ((1, 1), (1, -1), (-1, 1), (-1, -1))
            if kind:
                offsets = ((1, 0), (-1, 0), (0, 1), (0, -1))
            pairs = [
                (_within(rows + y * half, high, half), _within(columns + x * half, wide, half))
                for y, x in offsets
            ]
            around = tuple(np.stack(part) for part in zip(*pairs, strict=True))
            yield rows, columns, 1 + (kind > 0), (around[0], around[1])
        spacing = half


def _grid(high: int, wide: int, down: int, right: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[down:high:step, right:wide:step]
    return rows.reshape(-1), columns.reshape(-1)


def _within(places: Int[np.ndarray, " n"], side: int, half: int) -> Int[np.ndarray, " n"]:
    """Places beyond the grid are those opposite; where none is, they stay on it."""
    places = np.where(places >= side, places - 2 * half, np.abs(places))
    return places.clip(0, side - 1)


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
    numbers = np.rint(values).astype(np.int64)
    total = 0.0
    for step in steps(numbers, layout):
        place = step.rows[:, None], step.columns[:, None], step.shell
        wanted = values[place]
        below = np.floor(wanted).astype(np.int64)
        smooth = np.broadcast_to(layout.is_smooth[step.shell], wanted.shape)
        best, least = below, np.full(wanted.shape, np.inf)
        bits = np.zeros(wanted.shape)
        expected = _expected(step, knowledge)
        for candidate in (below, below + 1, np.zeros_like(below)):
            cost = np.zeros(wanted.shape)
            residuals = candidate - step.predicted
            for is_smooth, model in zip((True, False), knowledge.models, strict=True):
                chosen = smooth == is_smooth
                cost[chosen] = model.cost(expected[chosen], residuals[chosen])
            loss = (wanted - candidate) ** 2 + exchange * cost
            is_better = loss < least
            best = np.where(is_better, candidate, best)
            least = np.where(is_better, loss, least)
            bits = np.where(is_better, cost, bits)
        numbers[place] = best
        total += float(bits.sum())
    return numbers, total


def encode(numbers: Int[np.ndarray, "i j c"], layout: Layout, knowledge: Knowledge) -> bytes:
    """A block's numbers as a chunk."""
    shells = _shells_used(numbers, layout)
    encoder, plain = Encoder(), list[int]()
    escapes = list[int]()
    for step in steps(numbers, layout):
        if step.number >= shells:
            continue
        found = numbers[step.rows[:, None], step.columns[:, None], step.shell] - step.predicted
        smooth = layout.is_smooth[step.shell]
        if not step.phase:
            plain += found[:, smooth].reshape(-1).tolist()
        for is_smooth, chosen in ((True, smooth & (step.phase > 0)), (False, ~smooth)):
            if chosen.any():
                known = _contexts(step, chosen, knowledge)
                centred = np.full(known.shape, tables.CENTRED)
                model = knowledge.models[not is_smooth]
                model.encode(encoder, escapes, known, centred, found[:, chosen].reshape(-1))
    numbers_ = [*plain, *reversed(escapes)]
    packed = b"".join(pack(unsigned(number)) for number in numbers_)
    return bytes([shells]) + pack(len(escapes)) + packed + encoder.to_bytes()


def decode(
    chunk: bytes, grid: tuple[int, int], layout: Layout, knowledge: Knowledge
) -> Int[np.ndarray, "i j c"]:
    """The numbers that `encode` made a chunk of.

    Raises:
      FormatError: it holds none.
    """
    fields = Fields(chunk)
    (shells,) = fields.take(1)
    count = fields.number()
    numbers = np.zeros((*grid, layout.bands), np.int64)
    if shells > len(layout.shells) or count > numbers.size:
        raise FormatError(_DAMAGED)
    smooth = sum(int(layout.is_smooth[shell].sum()) for shell in layout.shells[:shells])
    rows, _, _, _ = next(_places(*grid))
    plain = [_small(fields) for _ in range(len(rows) * smooth)]
    escapes = [_small(fields) for _ in range(count)]
    decoder = Decoder(fields.rest())
    for step in steps(numbers, layout):
        if step.number >= shells:
            continue
        found = np.zeros(step.predicted.shape, np.int64)
        smooth_ = layout.is_smooth[step.shell]
        if not step.phase:
            size = int(smooth_.sum())
            found[:, smooth_] = np.reshape(plain[: len(found) * size], (len(found), size))
            plain = plain[len(found) * size :]
        for is_smooth, chosen in ((True, smooth_ & (step.phase > 0)), (False, ~smooth_)):
            if chosen.any():
                known = _contexts(step, chosen, knowledge)
                centred = np.full(known.shape, tables.CENTRED)
                model = knowledge.models[not is_smooth]
                part = model.decode(decoder, escapes, known, centred)
                found[:, chosen] = part.reshape(len(found), -1)
        found = (found + step.predicted).clip(-_LIMIT, _LIMIT)
        numbers[step.rows[:, None], step.columns[:, None], step.shell] = found
    decoder.finish()
    return numbers


def _small(fields: Fields) -> int:
    """The next number; what is damaged must not grow beyond what integers hold."""
    return max(-_LIMIT, min(_LIMIT, signed(fields.number())))


def _shells_used(numbers: Int[np.ndarray, "i j c"], layout: Layout) -> int:
    used = [k for k, shell in enumerate(layout.shells) if numbers[..., shell].any()]
    return used[-1] + 1 if used else 0


def _contexts(
    step: Step, chosen: Bool[np.ndarray, " k"], knowledge: Knowledge
) -> Int[np.ndarray, " n"]:
    return _expected(step, knowledge)[:, chosen].reshape(-1)


def _expected(step: Step, knowledge: Knowledge) -> Int[np.ndarray, "n k"]:
    """The contexts of all numbers of a step."""
    weights = knowledge.weights[step.phase, step.number]
    expected = np.tensordot(weights, step.features, 1) >> WEIGHT_BITS
    return contexts.classes(expected.reshape(-1)).reshape(expected.shape)

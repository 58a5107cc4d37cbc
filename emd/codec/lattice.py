"""Owns the prediction of pixels from those around them, coarse to fine, in integers.

A block's pixels are taken lattice by lattice: every 64th a side plain, then, with the spacing
halved each time, the centres of the known squares and the two midpoints of their sides. So each
pixel is predicted from all sides, all pixels of a pass at once, and the finest passes, three
quarters of the pixels, from full surroundings. The weights are the least-squares ones of the file;
a window's two halves share them, as an image's correlations are point symmetric.

Doubles hold the integers here: every product and sum stays below 2^53, so none is ever rounded.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from emd.codec import contexts

TOP = 32
"""The widest spacing that is predicted; pixels twice as far apart are plain."""

WEIGHT_BITS = 16
"""Weights are in 2^-16."""

ACTIVITY_BITS = 10
"""Weights of the activity are in 2^-10."""

SUBCOUNTS = 16
"""Predictions and activities are in sixteenths of a count."""

KINDS = ((1, 1), (0, 1), (1, 0))
"""Parity of the pixels of a lattice's three passes: centres, then both kinds of midpoints."""

LEVELS = 4
"""Spacings 1, 2, 4 have weights of their own; those from 8 on share theirs."""

_RADII = ((7, 5, 4), (5, 4, 3), (3, 3, 3), (3, 2, 2))  # of the windows, by level and kind
_NEAR = 6  # pairs of pixels that tell the activity
_FAR = 9  # more than any radius

Tap = tuple[int, int]


class Predictor(NamedTuple):
    """How the pixels of a pass are predicted.

    Attributes:
      weights: of each pair of `taps`, in 2^-16.
      activity: of the nearest pairs' differences from the prediction, of the intensity above the
        lowest, and a constant, in 2^-10 and each >= 0.
    """

    weights: Int[np.ndarray, " t"]
    activity: Int[np.ndarray, " a"]


class Bounds(NamedTuple):
    """The lowest and highest pixel of a file."""

    low: int
    high: int


class Pass(NamedTuple):
    """Pixels that are predicted at once.

    Attributes:
      target: where they lie in the block: a view of it.
      centre: their predictions, rounded.
      fractions: what rounding took, see `emd.codec.tables`.
      contexts: see `emd.codec.contexts`.
    """

    target: np.ndarray
    centre: Int[np.ndarray, " n"]
    fractions: Int[np.ndarray, " n"]
    contexts: Int[np.ndarray, " n"]


@functools.cache
def taps(level: int, kind: int) -> tuple[Tap, ...]:
    """One of each pair of known pixels around one of a pass: rows down, columns right.

    The nearest come first; the other of a pair lies opposite.
    """
    radius = _RADII[level][kind]
    down, right = KINDS[kind]
    known = {(0, 0), *KINDS[:kind]}
    found = [
        (y, x)
        for y in range(radius + 1)
        for x in range(-radius, radius + 1)
        if (y, x) > (0, 0)
        and y * y + x * x <= radius * radius + 1
        and ((down + y) % 2, (right + x) % 2) in known
    ]
    return tuple(sorted(found, key=lambda tap: (tap[0] ** 2 + tap[1] ** 2, tap)))


def start(block: np.ndarray) -> np.ndarray:
    """The plain pixels of a block: a view of it."""
    return block[:: 2 * TOP, :: 2 * TOP]


def passes(
    block: Float[np.ndarray, "h w"], predictors: dict[tuple[int, int], Predictor], bounds: Bounds
) -> Iterator[Pass]:
    """The passes over a block, in order; each one's pixels must be in it before the next is asked.

    Args:
      block: pixels as whole numbers; those not yet known may be anything finite.
      predictors: by level and kind.
      bounds: of the file's pixels.
    """
    for _, level, kind, lattice in lattices(block):
        predictor = predictors[level, kind]
        around = Surroundings(lattice, level, kind)
        predicted = around.predict(predictor.weights, bounds)
        active = around.activity(predicted, predictor.activity, bounds)
        predicted = predicted.reshape(-1).astype(np.int64)
        centre = predicted + SUBCOUNTS // 2 >> 4
        fractions = predicted - SUBCOUNTS * centre + SUBCOUNTS // 2 >> 1
        yield Pass(
            around.target, centre, fractions, contexts.classes(active.reshape(-1).astype(np.int64))
        )


def lattices(
    block: np.ndarray,
) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """Spacing, level, kind and lattice (a view of the block) of each pass that has pixels."""
    spacing = TOP
    while spacing:
        lattice = block[::spacing, ::spacing]
        for kind, (down, right) in enumerate(KINDS):
            if lattice[down::2, right::2].size:
                yield spacing, min(spacing.bit_length() - 1, LEVELS - 1), kind, lattice
        spacing //= 2


class Surroundings:
    """The known pixels around those of a pass; beyond the block it is reflected."""

    def __init__(self, lattice: Float[np.ndarray, "h w"], level: int, kind: int) -> None:
        """Takes the lattice of the pass."""
        self._down, self._right = KINDS[kind]
        self.target = lattice[self._down :: 2, self._right :: 2]
        self._padded = np.pad(lattice, _FAR, mode="reflect")
        # reflection about the only row or column would land on pixels of the pass itself
        is_thin = min(lattice.shape) < 2
        self.taps: tuple[Tap, ...] = (KINDS[kind],) if is_thin else taps(level, kind)

    def at(self, tap: Tap) -> Float[np.ndarray, "i j"]:
        """The pixels at a tap, for all of the pass."""
        top, left = _FAR + self._down + tap[0], _FAR + self._right + tap[1]
        height, width = self.target.shape
        return self._padded[top : top + 2 * height : 2, left : left + 2 * width : 2][
            :height, :width
        ]

    def pair(self, tap: Tap) -> Float[np.ndarray, "i j"]:
        """The sum of a tap's pixel and that opposite."""
        return self.at(tap) + self.at((-tap[0], -tap[1]))

    def predict(self, weights: Int[np.ndarray, " t"], bounds: Bounds) -> Float[np.ndarray, "i j"]:
        """The predictions within bounds, in sixteenths of a count, as whole numbers."""
        if len(self.taps) == 1:
            weights = np.array([1 << WEIGHT_BITS - 1])
        total = np.zeros(self.target.shape)
        for tap, weight in zip(self.taps, weights.tolist(), strict=True):
            if weight:
                total += weight * (self.pair(tap) - 2 * bounds.low)
        steps = SUBCOUNTS / (1 << WEIGHT_BITS)
        predicted = np.floor(total * steps + 0.5) + SUBCOUNTS * bounds.low
        return predicted.clip(SUBCOUNTS * bounds.low, SUBCOUNTS * bounds.high)

    def activity(
        self, predicted: Float[np.ndarray, "i j"], weights: Int[np.ndarray, " a"], bounds: Bounds
    ) -> Float[np.ndarray, "i j"]:
        """How far residuals are to be expected from 0, in sixteenths of a count."""
        total = np.full(predicted.shape, float(weights[-1] * SUBCOUNTS))
        for tap, weight in zip(self.taps, weights[:-2].tolist(), strict=False):
            if weight:
                total += weight * self.difference(tap, predicted)
        total += weights[-2] * (predicted - SUBCOUNTS * bounds.low)
        return np.floor(total / (1 << ACTIVITY_BITS))

    def difference(self, tap: Tap, predicted: Float[np.ndarray, "i j"]) -> Float[np.ndarray, "i j"]:
        """How far a pair's two pixels lie from the predictions, added up."""
        opposite = (-tap[0], -tap[1])
        return np.abs(SUBCOUNTS * self.at(tap) - predicted) + np.abs(
            SUBCOUNTS * self.at(opposite) - predicted
        )


def near(level: int, kind: int) -> int:
    """How many pairs tell the activity."""
    return min(_NEAR, len(taps(level, kind)))

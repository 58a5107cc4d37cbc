"""Owns the family of integer probability tables by which residuals are coded.

A residual e is a whole number whose distribution is symmetric about a fraction of a count. A table
is known by its shape, by its scale (the mean magnitude, in quarters of an octave) and by the
fraction. Everything is computed in integers, so that every machine has the same tables.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from emd.codec.rans import PRECISION, TOTAL, Tables

SCALES = 37
"""How many scales there are: scale s is a mean magnitude of 2^(s/4 - 6), 1/64 to 8."""

FRACTIONS = 9
"""Fraction f stands for a mean of (4 f - 15) / 32, the last one, `CENTRED`, for a mean of 0."""

CENTRED = 8

FINE_SCALES = 32
"""Scales from here on, 4 and more, do not care for the fraction: all take `CENTRED`'s table."""

_UNIT = 32  # a count, in the steps that edges are given in
_KNOTS = 128  # of a cumulative distribution, an eighth of the mean magnitude apart
_MASS = 1 << 24
_QUARTER_OCTAVES = (65536, 55109, 46341, 38968)  # 2^16 / 2^(k/4)

# Parts of a density's magnitude: its first value, the ratio of the second to it, and the ratio of
# each ratio to the one before, in 2^-32. Gaussian; between; Laplacian; Gaussian with tails; two
# Laplacians; two further apart. Each has mean magnitude 1.
_SHAPES = (
    ((341499300, 4252421119, 4252421119),),
    ((411579031, 4018181472, 4275200147),),
    ((505290270, 3789677026, 4294967296),),
    ((372633819, 4149440748, 4258793538), (6531957, 4077235748, 4294967296)),
    ((568235151, 3537320428, 4294967296), (63185186, 4042226597, 4294967296)),
    ((813824346, 3042929841, 4294967296), (83909015, 4055227353, 4294967296)),
)
SHAPES = len(_SHAPES)


class Kind(NamedTuple):
    """What a table is known by."""

    shape: int
    scale: int


def reach(scale: int) -> int:
    """The largest magnitude that a table of this scale has a symbol for; others escape."""
    return 4 + ((10 << (scale // 4)) >> 6)


@functools.cache
def _distribution(shape: int) -> Int[np.ndarray, " k"]:
    """The cumulative distribution of a shape's magnitude at its knots, in 2^-24."""
    density = [0] * _KNOTS
    for first, ratio, bend in _SHAPES[shape]:
        value = first
        for knot in range(_KNOTS):
            density[knot] += value
            value = value * ratio >> 32
            ratio = ratio * bend >> 32
    sums = list(itertools.accumulate(density, initial=0))
    return np.array([each * _MASS // sums[-1] for each in sums], np.int64)


@functools.cache
def cumulative(kind: Kind, fraction: int) -> Int[np.ndarray, " k"]:
    """Cumulative frequencies of the residuals from -reach to reach, and of the escape after them.

    Each has a slot at least; the others follow the shape's mass between the residual's edges.
    """
    last = reach(kind.scale)
    mean = 4 * fraction - 15 if fraction != CENTRED else 0
    edges = _UNIT * np.arange(-last, last + 2, dtype=np.int64) - _UNIT // 2 - mean
    # in eighths of the mean magnitude, times 2^16
    steps = np.abs(edges) * (_QUARTER_OCTAVES[kind.scale % 4] << 4) >> kind.scale // 4
    steps = np.minimum(steps, (_KNOTS << 16) - 1)
    distribution = _distribution(kind.shape)
    knots, rest = steps >> 16, steps & 0xFFFF
    within = distribution[knots] + ((distribution[knots + 1] - distribution[knots]) * rest >> 16)
    below = (_MASS + np.sign(edges) * within) >> 1
    symbols = 2 * last + 2
    cut = (below - below[0]) * (TOTAL - symbols) >> 24
    return np.append(cut + np.arange(symbols), TOTAL)


def build(kinds: list[Kind]) -> tuple[Tables, Int[np.ndarray, " k"]]:
    """Tables of these kinds, and the place of each kind's first."""
    tables: list[np.ndarray] = []
    places = []
    for kind in kinds:
        places.append(len(tables))
        tables += [cumulative(kind, f) for f in fractions(kind.scale)]
    return Tables(tables), np.array(places)


def fractions(scale: int) -> range:
    """The fractions that tables of a scale are made for."""
    return range(0 if scale < FINE_SCALES else CENTRED, FRACTIONS)


@functools.cache
def costs(kind: Kind) -> Float[np.ndarray, "f s"]:
    """What each symbol costs [bits], for each fraction, as a coder of this kind would spend it.

    Symbols are those of the widest scale; what escapes costs 16 bits more.
    """
    widest, own = reach(SCALES - 1), reach(kind.scale)
    rows = []
    for fraction in fractions(kind.scale):
        bits = PRECISION - np.log2(np.diff(cumulative(kind, fraction)).astype(float))
        row = np.full(2 * widest + 2, bits[-1] + 16)
        row[widest - own : widest + own + 1] = bits[:-1]
        rows.append(row)
    return np.stack(rows * (FRACTIONS // len(rows)))

"""Points of a rate-distortion curve, spread evenly over the rates by the codec's own control."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

LEAST_BPP, MOST_BPP = 0.01, 2.0
"""Rates that curves cover; what lies outside only bounds them."""

_DENSE_BPP = (0.08, 0.6)  # where curves are compared they have more points
_DENSITY = 3
_CLOSE = 0.2  # doublings, so stretched: no need to come closer


class Span(NamedTuple):
    """What a codec's control may be.

    Attributes:
      low: an end of it.
      high: the other end.
      whole: whether it is a whole number.
      is_log: whether its logarithm is the even scale.
    """

    low: float
    high: float
    whole: bool = False
    is_log: bool = False

    def between(self, one: float, other: float) -> float:
        """Return what lies in the middle of two values."""
        middle = math.sqrt(one * other) if self.is_log else (one + other) / 2
        return float(round(middle)) if self.whole else middle


class HasRate(Protocol):
    """What is measured at a control."""

    @property
    def bpp(self) -> float:
        """Bits a pixel."""


PointT = TypeVar("PointT", bound=HasRate)


def sweep(
    measure: Callable[[float], PointT],
    span: Span,
    *,
    count: int,
    rates: tuple[float, float] = (LEAST_BPP, MOST_BPP),
) -> list[PointT]:
    """Return about ``count`` points of a curve, by rising control.

    The widest gap between neighbours, in the logarithm of their rates inside ``rates``, is halved
    again and again, so that it matters little how a control acts on an image. Gaps count threefold
    between 0.08 and 0.6 bits a pixel.
    """
    known = {control: measure(control) for control in (span.low, span.high)}
    finished: set[tuple[float, float]] = set()
    while len(known) < count:
        controls = sorted(known)
        pairs = [pair for pair in itertools.pairwise(controls) if pair not in finished]
        gaps = {pair: _gap(known[pair[0]].bpp, known[pair[1]].bpp, rates) for pair in pairs}
        widest = max(gaps, key=lambda pair: gaps[pair], default=None)
        if widest is None or gaps[widest] < _CLOSE:
            break
        middle = span.between(*widest)
        if middle in known:
            finished.add(widest)
        else:
            known[middle] = measure(middle)
    return [known[control] for control in sorted(known)]


def _gap(one: float, other: float, rates: tuple[float, float]) -> float:
    """How far two rates lie apart inside the bounds, in doublings, stretched where it matters."""
    return abs(_place(one, rates) - _place(other, rates))


def _place(rate: float, rates: tuple[float, float]) -> float:
    inside, dense = (min(max(rate, low), high) for low, high in (rates, _DENSE_BPP))
    return math.log2(inside) + (_DENSITY - 1) * math.log2(dense)

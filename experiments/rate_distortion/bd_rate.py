"""Bjøntegaard's measures of two curves: how many bits less for the same quality, and the reverse.

Source: G. Bjøntegaard, "Calculation of average PSNR differences between RD-curves", ITU-T
VCEG-M33 (2001).
Deviation: piecewise cubic (PCHIP) instead of one cubic, as JVET does, for curves of many points;
only between two rates.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator

from experiments.rate_distortion.curves import Curve

WITHIN = (0.1, 0.5)
"""Rates between which curves are compared, in bits a pixel."""

_STEPS = 64  # of the mean over rates
_LEAST_SPAN = 1.5  # of the rates that both curves reach, the highest over the lowest

BOTH, ABOVE, BELOW, CROSSING, SHORT = "both", "above", "below", "crossing", "short"


class Comparison(NamedTuple):
    """How a curve compares with another between two rates, or where both have begun.

    Attributes:
      rate: mean of the logarithm of the ratio of rates at equal quality, as a relative change:
        -0.2 is a fifth fewer bits. None where no range of quality is reached by both.
      gain_db: mean difference of quality at equal rate; None where one does not reach the rates.
      where: "both" where a range of quality is reached by both. Else "above" or "below": the curve
        is better, or worse, at every rate than the other at any; "crossing": one of them is level
        between these rates, and the other goes through its level; "short": one does not reach them.
    """

    rate: float | None
    gain_db: float | None
    where: str


def compare(curve: Curve, other: Curve, *, within: tuple[float, float] = WITHIN) -> Comparison:
    """Return how a curve compares with another."""
    low, high = _common(curve, other, within)
    if high < _LEAST_SPAN * low:
        return Comparison(None, None, SHORT)
    gain = _gain_db(curve, other, low, high)
    least, most = _ends(curve, low, high)
    its_least, its_most = _ends(other, low, high)
    bottom, top = max(least, its_least), min(most, its_most)
    if top > bottom:
        mean = (_log_rates(curve, bottom, top) - _log_rates(other, bottom, top)) / (top - bottom)
        return Comparison(float(np.expm1(mean)), gain, BOTH)
    if least >= its_most:
        return Comparison(None, gain, ABOVE)
    return Comparison(None, gain, BELOW if most <= its_least else CROSSING)


def _common(curve: Curve, other: Curve, within: tuple[float, float]) -> tuple[float, float]:
    """The part of the rates in which both curves have begun; empty if one has no point."""
    if not (len(curve.bpp) and len(other.bpp)):
        return within[1], within[1]
    return max(within[0], float(curve.bpp[0]), float(other.bpp[0])), within[1]


def _ends(curve: Curve, low: float, high: float) -> tuple[float, float]:
    least, most = (curve.level(np.array([rate]))[0] for rate in (low, high))
    return float(least), float(most)


def _gain_db(curve: Curve, other: Curve, low: float, high: float) -> float:
    """The mean difference of quality over the logarithm of the rate."""
    rates = np.geomspace(low, high, _STEPS + 1)
    return float(np.trapezoid(curve.level(rates) - other.level(rates)) / _STEPS)


def _log_rates(curve: Curve, bottom: float, top: float) -> float:
    """The integral of the logarithm of the rate over the quality between two of its values."""
    through = PchipInterpolator(curve.quality, np.log(curve.bpp))
    return float(through.integrate(bottom, top))

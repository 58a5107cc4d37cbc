"""Curves of quality against rate: what of them counts, and what they say at a rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

RATES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)
"""Bits a pixel at which curves are compared."""


class Curve(NamedTuple):
    """Quality against rate, both strictly rising.

    Attributes:
      bpp: rates in bits a pixel.
      quality: what is reached at each.
    """

    bpp: Float[np.ndarray, " k"]
    quality: Float[np.ndarray, " k"]

    def at(self, bpp: float) -> float | None:
        """Return the quality at a rate, linear in its logarithm; None below the least rate."""
        if len(self.bpp) == 0 or bpp < self.bpp[0]:
            return None
        return float(self.level(np.array([bpp]))[0])

    def level(self, bpp: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return the quality at rates, linear in their logarithm, and beyond the ends that of them.

        So it is above the highest rate in truth: nobody has to use up the bits.
        """
        return np.interp(np.log(bpp), np.log(self.bpp), self.quality)


def best(points: Sequence[tuple[float, float]]) -> Curve:
    """Return the curve through the points (rate, quality) that no cheaper one equals.

    Curves that fall somewhere, as a codec's distance from the truth does once it has bits enough
    for the noise, keep their level there: the better file is also the smaller one.
    """
    kept: list[tuple[float, float]] = []
    for bpp, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if np.isfinite(quality) and (not kept or quality > kept[-1][1]):
            kept.append((bpp, quality))
    rates, qualities = np.array(kept, np.float64).reshape(-1, 2).T
    return Curve(rates, qualities)

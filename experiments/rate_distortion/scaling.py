"""A micrograph on the scale that a codec codes best, and back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped


class Scaling(NamedTuple):
    """A linear map of an image's intensities onto [0, top].

    Attributes:
      low: the least intensity.
      high: the greatest.
      top: what the greatest becomes.
      dtype: of the mapped pixels; integers are rounded.
    """

    low: float
    high: float
    top: float
    dtype: str

    def forth(self, pixels: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, "h w"]:
        """Return the pixels on the codec's scale."""
        mapped = (pixels.astype(np.float64) - self.low) * self._factor
        if np.dtype(self.dtype).kind != "f":
            mapped = np.rint(mapped)
        return mapped.astype(self.dtype)

    def back(self, pixels: Shaped[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        """Return pixels on the image's own scale, not rounded to its type."""
        return pixels.astype(np.float64) / self._factor + self.low

    @property
    def _factor(self) -> float:
        # a constant image has one level, which is 0 on every scale
        return self.top / (self.high - self.low) if self.high > self.low else 1.0


def onto(pixels: Shaped[np.ndarray, "h w"], top: float, dtype: str) -> Scaling:
    """Return the map of an image's own range onto [0, top]."""
    return Scaling(float(pixels.min()), float(pixels.max()), top, dtype)


def as_integers(pixels: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, "h w"]:
    """Return an image as unsigned integers: itself, or, of floats, 16 bits over its range.

    Most codecs know no floats, so that all of them are given the same integers.
    """
    if pixels.dtype.kind == "u":
        return pixels
    return onto(pixels, 65535, "uint16").forth(pixels)

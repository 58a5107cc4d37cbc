"""How much of a checkerboard an image shows: what stands out of its spectrum every 1/8 cycle.

A network of stride 8 may print its grid on what it makes. A grid of period 8 px has all its energy
at multiples of 1/8 cycle a pixel; whatever else an image holds lies around those points as well. So
each of the 63 points is held against the ring around it. A smooth filter scales a point and its
ring nearly alike, and so makes no grid; a zero of its response at a point leaves less than none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

PERIOD_PX = 8
"""Of the grid: the stride of the autoencoders."""

NEAR = 1
"""A point's energy lies within so many bins, since a Hann window spreads it no further."""

RING = (3, 8)
"""Bins from a point of those that are its background, first and last."""

SIDE_PX = PERIOD_PX * (RING[1] + NEAR + 1)
"""Least side of an image: else rings would hold the next point."""

_FLOOR = 1e-12
"""Of a spectrum's mean: what rounding leaves where there is nothing."""


class Grid(NamedTuple):
    """How far a grid of period 8 px stands out of an image."""

    excess: float
    """Energy at the grid's frequencies over that beside them, less 1, mean over the points."""
    share: float
    """Root mean square of what stands out, as a fraction of the image's mean."""


def measure(image: Float[np.ndarray, "h w"]) -> Grid:
    """Return how far a grid of period 8 px stands out of an image; about 0 for white noise.

    The image is cut to multiples of 8 px.

    Raises:
        ValueError: a side is below 80 px.
    """
    if min(image.shape) < SIDE_PX:
        raise ValueError(
            f"an image of {image.shape[0]}x{image.shape[1]} px: give at least {SIDE_PX} px a side"
        )
    height, width = (side - side % PERIOD_PX for side in image.shape)
    pixels = image[:height, :width].astype(np.float64)
    window = np.outer(_hann(height), _hann(width))
    spectrum = np.abs(np.fft.fft2((pixels - pixels.mean()) * window)) ** 2
    peak, ring = _around(spectrum, NEAR, 0), _around(spectrum, RING[1], RING[0])
    floor = max(_FLOOR * spectrum.mean(), np.finfo(np.float64).tiny)
    excess = (peak.mean(-1) + floor) / (ring.mean(-1) + floor) - 1
    energy = np.sum(peak.mean(-1) - ring.mean(-1)) * peak.shape[-1]
    # by Parseval, of a wave seen through the window
    variance = max(energy, 0.0) / (pixels.size * np.sum(window**2))
    mean = abs(pixels.mean())
    return Grid(float(excess.mean()), float(variance**0.5 / mean) if mean > 0 else 0.0)


def _hann(side: int) -> Float[np.ndarray, " n"]:
    """A periodic Hann window, whose own spectrum is three bins wide."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(side) / side)


def _around(
    spectrum: Float[np.ndarray, "h w"], last: int, first: int
) -> Float[np.ndarray, "points bins"]:
    """The bins ``first`` to ``last`` away from each of the grid's frequencies but 0."""
    offsets = np.arange(-last, last + 1)
    down, across = (grid.ravel() for grid in np.meshgrid(offsets, offsets, indexing="ij"))
    keep = np.maximum(np.abs(down), np.abs(across)) >= first
    points = [
        (i * spectrum.shape[0] // PERIOD_PX, j * spectrum.shape[1] // PERIOD_PX)
        for i in range(PERIOD_PX)
        for j in range(PERIOD_PX)
        if i or j
    ]
    return np.stack([
        spectrum[(row + down[keep]) % spectrum.shape[0],
                 (column + across[keep]) % spectrum.shape[1]]
        for row, column in points
    ])  # fmt: skip

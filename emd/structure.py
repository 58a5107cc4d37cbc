"""Which part of a residual is structure, by its spectrum: what has more power than noise has.

Source: Blackman and Tukey, "The measurement of power spectra" (Dover, 1958), for the lag window.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import fft

from emd.threads import cores

_TOLERANCE = 0.1  # of the noise's variance, which is not known any better
_CERTAIN = 6.0  # standard errors: what is less is chance
_FINE = 0.1  # cycles a pixel; below it an image has most of its structure
_RING_CELLS = 500  # fewer, and the least of the rings falls short of the noise by chance
_RING_BINS = 4.0  # width of a ring of spatial frequencies
_BLUR_BINS = 2.0  # standard deviation of the spectrum's blur: a lattice's reflections are narrow
_PEAK = 5.0  # a bin by itself: the chance that noise has one so high is e^-5


def structure(
    residual: Float[np.ndarray, "h w"], *, most: float | None = 1.0
) -> Float[np.ndarray, "h w"]:
    """What of a residual is structure; it comes in units of its white noise, of variance 1.

    Of noise that may have a power of up to `most`, that is what most of a ring has; None where
    there is none but white noise.
    """
    shape = residual.shape
    spectrum = fft.rfft2(residual, workers=cores())
    power = (spectrum.real**2 + spectrum.imag**2) / residual.size
    if most is not None:
        power = _in_noise(power, shape, most)
    spectrum *= np.maximum(0, 1 - (1 + _TOLERANCE) / expected_power(power, shape))
    return np.asarray(fft.irfft2(spectrum, s=shape, workers=cores()))


def _in_noise(
    power: Float[np.ndarray, "h k"], shape: tuple[int, ...], most: float
) -> Float[np.ndarray, "h k"]:
    """The power in units of what noise may have."""
    power /= row_noise(power, shape)
    # noise that differs from place to place may be more than the image's spectrum tells; the
    # residual has at least as much at every frequency
    rings = _rings(shape)
    enough = rings.bins >= min(_RING_CELLS, rings.bins.max())
    power /= max(1.0, rings.mean(power)[enough].min())
    if most > 1:
        power /= np.clip(rings.median(power) / math.log(2), 1, most)[rings.of].astype(np.float32)
    return power


def row_noise(power: Float[np.ndarray, "h k"], shape: tuple[int, ...]) -> Float[np.ndarray, " k"]:
    """The power of noise by frequency along rows: 1, or more where rows have noise of their own.

    That of scans is no more alike from row to row than white noise is: it has the same power at all
    frequencies down the image. Their median tells of it, where it is clearly above the one for the
    same frequency down the image, which structure without a direction would raise as much.
    """
    down, along = np.abs(np.fft.fftfreq(shape[0])), np.fft.rfftfreq(shape[1])
    half = slice(0, shape[0] // 2 + 1)
    is_fine_down, is_fine_along = down > _FINE, along > _FINE
    rows = np.median(power[is_fine_down], 0)
    mirrored = np.roll(power[::-1], 1, 0)
    columns = np.median(np.concatenate([power, mirrored], 1)[half, np.tile(is_fine_along, 2)], 1)
    # an exponential's median is log 2 of its mean, and has a standard error of 1 / sqrt(count)
    other = np.maximum(1, np.interp(along, down[half], columns) / math.log(2))
    count = np.count_nonzero(is_fine_down) * math.log(2) ** 2
    return _where_certain(rows / math.log(2) / other, count).astype(np.float32)


def expected_power(
    power: Float[np.ndarray, "h k"], shape: tuple[int, ...]
) -> Float[np.ndarray, "h k"]:
    """The power of which a residual's bins are draws: 1 where they may be those of white noise.

    Told by rings of spatial frequency, then by each bin's neighbourhood, then by the bin alone.
    """
    rings = _rings(shape)
    certain = _where_certain(rings.mean(power), rings.bins / 2)
    expected = certain.astype(np.float32)[rings.of]
    # a product with a Gaussian of the lags is a blur of the spectrum, all round
    frequencies = np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1])
    down, along = (np.exp(-2 * (np.pi * _BLUR_BINS * f) ** 2) for f in frequencies)
    correlation = fft.irfft2(power / expected, s=shape, workers=cores())
    correlation *= np.outer(down, along).astype(np.float32)
    blurred = fft.rfft2(correlation, workers=cores()).real
    expected *= _where_certain(blurred, 4 * np.pi * _BLUR_BINS**2)
    is_peak = power > expected * (math.log(shape[0] * shape[1] / 2) + _PEAK)
    return np.where(is_peak, power, expected)


class _Rings(NamedTuple):
    """Rings of spatial frequency of half a spectrum, as of a real image.

    Attributes:
      of: the ring of each bin.
      bins: of each ring, how many bins of the whole plane it has; at least 1.
      twice: how many bins of the plane each bin stands for.
    """

    of: Int[np.ndarray, "h k"]
    bins: Float[np.ndarray, " r"]
    twice: Float[np.ndarray, " k"]

    def mean(self, power: Float[np.ndarray, "h k"]) -> Float[np.ndarray, " r"]:
        """The mean power of each ring."""
        return np.bincount(self.of.ravel(), (self.twice * power).ravel()) / self.bins

    def median(self, power: Float[np.ndarray, "h k"]) -> Float[np.ndarray, " r"]:
        """The median power of each ring; 0 of an empty one."""
        order = np.argsort(self.of, axis=None, kind="stable")
        ends = np.cumsum(np.bincount(self.of.ravel()))[:-1]
        parts = np.split(power.ravel()[order], ends)
        return np.array([np.median(part) if part.size else 0.0 for part in parts])


@functools.lru_cache(maxsize=2)
def _rings(shape: tuple[int, int]) -> _Rings:
    """The rings of an image's spectrum."""
    down, along = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    ring = np.rint(np.hypot(down, along) * (min(shape) / _RING_BINS)).astype(np.intp)
    # the other half of the plane mirrors this one but for its first and last columns
    twice = np.full(ring.shape[1], 2.0)
    twice[0] = 1
    if shape[1] % 2 == 0:
        twice[-1] = 1
    count = np.bincount(ring.ravel(), np.broadcast_to(twice, ring.shape).ravel())
    return _Rings(ring, np.maximum(count, 1.0), twice)


def _where_certain(
    mean: Float[np.ndarray, "*s"], count: Float[np.ndarray, "*#s"] | float
) -> Float[np.ndarray, "*s"]:
    """Mean powers of so many bins; 1 where they are not clearly above it."""
    return np.where(mean > 1 + _TOLERANCE + _CERTAIN / np.sqrt(count), mean, 1.0)

"""What a model took away beyond the noise, put back: structure that only the residual still has.

Owns the law of it. What a model takes away should be noise alone: white, of the variance that the
image tells. Where the residual's spectrum has clearly more power, the model took structure with it,
and Wiener's filter of the residual gives back the share that is structure. So no model blurs what
the image itself shows above its noise, whatever it learnt; a residual of noise alone stays out.
Where noise is correlated, more of a residual may be noise. Large images are done in blocks.

Source: Tukey, "Exploratory data analysis" (Addison-Wesley, 1977), for adding the smoothed residual;
Brunet, Vrscay and Wang, "The use of residuals in image denoising" (ICIAR 2009), for testing it;
Blackman and Tukey, "The measurement of power spectra" (Dover, 1958), for the lag window.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import fft

from emd.fit import spectral_floor
from emd.noise import Noise, estimate
from emd.threads import cores

LEAST_PX = 32
"""Shortest side of an image that tells a spectrum."""

_MOST = 10.0  # of the noise's variance: what correlated noise has at a frequency; more is structure
_BLOCK_PX, _OVERLAP_PX = 1152, 128  # steps of 1024
_TOLERANCE = 0.1  # of the noise's variance, which is not known any better
_CERTAIN = 6.0  # standard errors: what is less is chance
_FINE = 0.1  # cycles a pixel; below it an image has most of its structure
_RING_CELLS = 500  # fewer, and the least of the rings falls short of the noise by chance
_RING_BINS = 4.0  # width of a ring of spatial frequencies
_BLUR_BINS = 2.0  # standard deviation of the spectrum's blur: a lattice's reflections are narrow
_PEAK = 5.0  # a bin by itself: the chance that noise has one so high is e^-5
_LEAST = 1e-6  # of the estimated variance: an image without any at some frequency is all structure
_DARKEST = 0.02  # of the mean variance: where an estimate falls below the black level


class PutBack(NamedTuple):
    """An image with structure put back.

    Attributes:
      pixels: in counts.
      share: of the power that the model had taken away, from 0 to 1.
      warning: why nothing or little could be put back, in one line.
    """

    pixels: Float[np.ndarray, "h w"]
    share: float
    warning: str | None = None


def put_back(seen: Shaped[np.ndarray, "h w"], restored: Float[np.ndarray, "h w"]) -> PutBack:
    """What a model made of an image, and the structure that it should have left there.

    As with the model, f(a x + b) = a f(x) + b for a > 0. Of an image without noise all comes back.
    Structure that the image hides in its noise cannot, nor contrast that is white, as fine as a
    pixel and everywhere: it is noise to `emd.noise.estimate`. What differs from row to row, as the
    noise and the jitter of scans, stays out. Where noise is not white, as of interpolated images,
    what its ring of spatial frequencies has in common stays out, too, unless it is many times the
    noise; what stands out of that comes back, as a lattice's reflections.

    Args:
      seen: finite counts, as the model was given them.
      restored: the model's result, in counts.
    """
    if min(seen.shape) < LEAST_PX:
        return PutBack(restored, 0.0, f"nothing is put back: a side is below {LEAST_PX} px")
    noise = estimate(seen)
    if noise.std is None:
        return PutBack(restored, 0.0, f"nothing is put back: {noise.warnings[-1]}")
    if noise.std == 0:
        return PutBack(seen.astype(np.float32), 1.0)
    is_white = not any("correlated" in warning for warning in noise.warnings)
    mean = float(seen.mean(dtype=np.float64))
    pixels = restored.astype(np.float32)
    found = taken = 0.0
    for block, weight in _blocks(seen.shape):
        std, floor = _white_noise(seen[block], restored[block], noise, mean)
        residual = ((seen[block] - restored[block]) / std).astype(np.float32)
        back = structure(residual, most=1.0 if is_white else _MOST / floor)
        pixels[block] += weight * std * back
        found += float(np.vdot(weight * back, back))
        taken += float(np.vdot(weight * residual, residual))
    warning = (
        "noise is correlated, or structure as fine as a pixel looks so: only what stands out of it "
        "is put back"
    )
    return PutBack(pixels, min(found / max(taken, 1e-30), 1.0), None if is_white else warning)


def _blocks(
    shape: tuple[int, ...],
) -> Iterator[tuple[tuple[slice, slice], Float[np.ndarray, "a b"]]]:
    """The blocks of an image, and what each of their pixels counts for: of all blocks, 1 in sum."""
    rows, columns = (_spans(side) for side in shape)
    for row, down in rows:
        for column, along in columns:
            yield (row, column), np.outer(down, along)


def _spans(length: int) -> list[tuple[slice, Float[np.ndarray, " a"]]]:
    """Parts of an axis, evenly spread; where they overlap, one fades into the next."""
    side = min(length, _BLOCK_PX)
    count = 1 + -(-(length - side) // (_BLOCK_PX - _OVERLAP_PX))
    parts = [slice(k, k + side) for k in np.rint(np.linspace(0, length - side, count)).astype(int)]
    from_end = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    weight, total = np.minimum(from_end, _OVERLAP_PX), np.zeros(length)
    for part in parts:
        total[part] += weight
    return [(part, (weight / total[part]).astype(np.float32)) for part in parts]


def _white_noise(
    seen: Shaped[np.ndarray, "h w"],
    restored: Float[np.ndarray, "h w"],
    noise: Noise,
    mean: float,
) -> tuple[Float[np.ndarray, "h w"], float]:
    """The standard deviation of a block's white noise, in counts, and its share of the variance.

    How noise grows with the counts is the estimate's, for an image of a mean. How much there is
    tell the frequencies that have the least, since fine structure, which the estimate takes for
    noise, is seldom at all of them.
    """
    level = float(noise.std or 0) ** 2
    variance = np.full_like(restored, level)
    if noise.gain is not None and noise.offset is not None:  # it grows with the counts
        variance *= (restored - noise.offset) / (mean - noise.offset)
    std = np.sqrt(np.maximum(variance, _DARKEST * level))
    scaled = (seen - np.float32(seen.mean(dtype=np.float64))) / std
    floor = max(spectral_floor(scaled), _LEAST)
    return std * np.float32(math.sqrt(floor)), floor


# --- the spectrum of what was taken away -------------------------------------------------------


def structure(residual: Float[np.ndarray, "h w"], *, most: float = 1.0) -> Float[np.ndarray, "h w"]:
    """What of a residual is structure; it comes in units of its white noise, of variance 1.

    Of noise that may have a power of up to `most`, that is what most of a ring has.
    """
    shape = residual.shape
    spectrum = fft.rfft2(residual, workers=cores())
    power = (spectrum.real**2 + spectrum.imag**2) / residual.size
    power /= row_noise(power, shape)
    # noise that differs from place to place may be more than the image's spectrum tells; the
    # residual has at least as much at every frequency
    rings = _rings(shape)
    enough = rings.bins >= min(_RING_CELLS, rings.bins.max())
    power /= max(1.0, rings.mean(power)[enough].min())
    if most > 1:
        power /= np.clip(rings.median(power) / math.log(2), 1, most)[rings.of].astype(np.float32)
    spectrum *= np.maximum(0, 1 - (1 + _TOLERANCE) / expected_power(power, shape))
    return np.asarray(fft.irfft2(spectrum, s=shape, workers=cores()))


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

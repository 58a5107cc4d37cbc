"""What a model took away beyond the noise, put back: structure that only the residual still has.

Owns the law of it. What a model takes away should be noise alone: white, of the variance that the
image tells. Where the residual's spectrum has clearly more power, the model took structure with it,
and Wiener's filter of the residual gives back the share that is structure. So no model blurs what
the image itself shows above its noise, whatever it learnt; a residual of noise alone stays out.

Source: Tukey, "Exploratory data analysis" (Addison-Wesley, 1977), for adding the smoothed residual;
Brunet, Vrscay and Wang, "The use of residuals in image denoising" (ICIAR 2009), for testing it;
Blackman and Tukey, "The measurement of power spectra" (Dover, 1958), for the lag window.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import fft

from emd.fit import spectral_floor
from emd.noise import estimate
from emd.threads import cores

LEAST_PX = 32
"""Shortest side of an image that tells a spectrum."""

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
      warning: why nothing could be put back, or noise may have been with it, in one line.
    """

    pixels: Float[np.ndarray, "h w"]
    share: float
    warning: str | None = None


def put_back(seen: Shaped[np.ndarray, "h w"], restored: Float[np.ndarray, "h w"]) -> PutBack:
    """What a model made of an image, and the structure that it should have left there.

    As with the model, f(a x + b) = a f(x) + b for a > 0. Of an image without noise all comes back.
    Structure that the image hides in its noise cannot, nor contrast that is white, as fine as a
    pixel and everywhere: it is noise to `emd.noise.estimate`. What differs from row to row, as the
    noise and the jitter of scans, stays out; other noise that is not white, as of interpolated
    images, passes for structure and comes back with it.

    Args:
      seen: finite counts, as the model was given them.
      restored: the model's result, in counts.
    """
    if min(seen.shape) < LEAST_PX:
        return PutBack(restored, 0.0, f"nothing is put back: a side is below {LEAST_PX} px")
    noise = estimate(seen)
    if noise.std is None:
        return PutBack(restored, 0.0, f"nothing is put back: {noise.warnings[0]}")
    if noise.std == 0:
        return PutBack(seen.astype(np.float32), 1.0)
    mean = float(seen.mean(dtype=np.float64))
    variance = np.full_like(restored, noise.std**2)
    if noise.gain is not None and noise.offset is not None:  # it grows with the counts
        variance *= (restored - noise.offset) / (mean - noise.offset)
    std = np.sqrt(np.maximum(variance, _DARKEST * noise.std**2))
    # how noise grows is the estimate's; how much there is tell the frequencies that have the least,
    # since fine structure, which the estimate takes for noise, is seldom at all of them
    std *= math.sqrt(max(spectral_floor((seen - mean) / std), _LEAST))
    found = _wiener(seen, restored, std)
    if not any("correlated" in warning for warning in noise.warnings):
        return found
    return found._replace(
        warning=f"{100 * found.share:.0f} % of what the model took away is put back: its noise is "
        "correlated, or fine structure looks so, and what of it is noise comes back too"
    )


def _wiener(
    seen: Shaped[np.ndarray, "h w"],
    restored: Float[np.ndarray, "h w"],
    std: Float[np.ndarray, "h w"],
) -> PutBack:
    """An image with what Wiener's filter makes of the residual; ``std`` is the noise's."""
    residual = ((seen - restored) / std).astype(np.float32)
    spectrum = fft.rfft2(residual, workers=cores())
    power = (spectrum.real**2 + spectrum.imag**2) / residual.size
    power /= row_noise(power, residual.shape)
    # noise that differs from place to place may be more than the image's spectrum tells; the
    # residual has at least as much at every frequency
    _, mean, count = _rings(power, residual.shape)
    power /= max(1.0, mean[count >= min(_RING_CELLS, count.max())].min())
    kept = np.maximum(0, 1 - (1 + _TOLERANCE) / expected_power(power, residual.shape))
    back = fft.irfft2(spectrum * kept, s=residual.shape, workers=cores())
    share = float(np.vdot(back, back) / max(np.vdot(residual, residual), 1e-30))
    return PutBack(restored + std * back, min(share, 1.0))


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
    ring, mean, count = _rings(power, shape)
    expected = _where_certain(mean, count / 2)[ring].astype(np.float32)
    down = np.fft.fftfreq(shape[0])[:, None]
    # a product with a Gaussian of the lags is a blur of the spectrum, all round
    lag = np.exp(
        -2 * (np.pi * _BLUR_BINS) ** 2 * (down**2 + np.fft.fftfreq(shape[1])[None] ** 2)
    ).astype(np.float32)
    correlation = fft.irfft2(power / expected, s=shape, workers=cores())
    blurred = fft.rfft2(correlation * lag, workers=cores()).real
    expected *= _where_certain(blurred, 4 * np.pi * _BLUR_BINS**2)
    is_peak = power > expected * (math.log(shape[0] * shape[1] / 2) + _PEAK)
    return np.where(is_peak, power, expected)


def _rings(
    power: Float[np.ndarray, "h k"], shape: tuple[int, ...]
) -> tuple[Int[np.ndarray, "h k"], Float[np.ndarray, " r"], Float[np.ndarray, " r"]]:
    """The ring of each bin; of each ring the mean power, and how many bins of the plane it has."""
    down, along = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    ring = np.rint(np.hypot(down, along) * (min(shape) / _RING_BINS)).astype(np.intp)
    # the other half of the plane mirrors this one but for its first and last columns
    twice = np.full(power.shape, 2.0)
    twice[:, 0] = 1
    if shape[1] % 2 == 0:
        twice[:, -1] = 1
    count = np.maximum(np.bincount(ring.ravel(), twice.ravel()), 1.0)
    return ring, np.bincount(ring.ravel(), (twice * power).ravel()) / count, count


def _where_certain(
    mean: Float[np.ndarray, "*s"], count: Float[np.ndarray, "*#s"] | float
) -> Float[np.ndarray, "*s"]:
    """Mean powers of so many bins; 1 where they are not clearly above it."""
    return np.where(mean > 1 + _TOLERANCE + _CERTAIN / np.sqrt(count), mean, 1.0)

"""A kernel fitted to one noisy micrograph, in closed form: no training data, no truth.

Owns the fit and the judgement of whether it may be used. The best symmetric kernel for a stationary
image under white noise follows from the image's own autocovariance (Wiener and Hopf's equations):
it predicts each pixel from the others of its window, which independent noise cannot help with, and
mixes the pixel itself back as far as its own noise is smaller than the error of that prediction.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped
from scipy import fft

from emd.checkpoint import Model
from emd.data.pixels import fill_nonfinite
from emd.models.pixelwise import Kernel
from emd.models.symmetry import WIDTHS, check_width, free_count, orbits
from emd.noise import Noise, estimate
from emd.threads import cores
from emd.zoo import ModelConfig

LEAST_GAIN_DB = 0.5  # below it a filter's risks outweigh it
_RING = 0.04  # cycles a pixel
_RING_CELLS = 500  # fewer, and the least of the rings falls short of the noise by chance
_NOISE_ERROR = 0.05  # of its variance; it adds to the error that is left
_LEAST_LIKELIHOOD = -0.01  # a pixel: worse by 2 % of the error than the mean of its neighbours
_RIDGE = 1e-9  # of the variance: keeps noiseless images solvable


class Moments(NamedTuple):
    """Second moments of an image that decide the error of every symmetric kernel of a width.

    Attributes:
      gram: mean product of the sums that two free weights multiply; the mean is taken out.
      moment: mean product of such a sum and the pixel in the middle.
      variance: of the pixels.
    """

    gram: Float[np.ndarray, "k k"]
    moment: Float[np.ndarray, " k"]
    variance: float

    def narrowed(self, width: int) -> Moments:
        """Those of the narrower windows in the middle, whose free weights come first."""
        free = free_count(width)
        return Moments(self.gram[:free, :free], self.moment[:free], self.variance)

    def averaged(self, other: Moments) -> Moments:
        """Those of two images of one size taken together."""
        return Moments(
            (self.gram + other.gram) / 2,
            (self.moment + other.moment) / 2,
            (self.variance + other.variance) / 2,
        )


class Fit(NamedTuple):
    """A kernel fitted to an image, and whether to use it.

    Attributes:
      model: as `emd.checkpoint.load` gives others.
      verdict: "use it", "no gain" or "do not use".
      reason: why, in one line.
      noise: what the image told of its noise.
      gain_db: by how much the squared error falls at least, measured on the half of the image that
        each kernel was not fitted to; None where the noise is 0 or not known. 5 % of its variance
        count as error, since it is not known any better, so no more than 13 dB can be told.
      likelihood: of a pixel of the other half given its window, above that given the mean of its
        eight neighbours, in natural units a pixel.
    """

    model: Model
    verdict: str
    reason: str
    noise: Noise
    gain_db: float | None
    likelihood: float


def fit(
    image: Shaped[np.ndarray, "h w"],
    *,
    name: str,
    width: int | None = None,
    noise_std: float | None = None,
) -> Fit:
    """The best symmetric kernel for an image and those taken like it, and whether it is of use.

    Args:
      image: one noisy exposure, in counts.
      name: of the model.
      width: of the kernel [px]; without it the one that predicts the other half of the image best.
      noise_std: standard deviation of the noise at the image's mean [counts]; measured without it.

    Raises:
      ValueError: a width that no kernel has; an image too small, or constant; a
        noise below 0.

    Source: N. Wiener and E. Hopf's equations, under the eight symmetries of the square.
    Deviation: noise that grows with the counts is taken at its mean.
    """
    if noise_std is not None and not noise_std >= 0:
        raise ValueError(f"noise is {noise_std}: give a standard deviation of at least 0 counts")
    pixels, _ = fill_nonfinite(image)
    widths = _widths(pixels.shape, width)
    x = pixels - pixels.mean(dtype=np.float64)
    parts = np.array_split(x, 2, int(x.shape[1] > x.shape[0]))
    one, other = (moments(part, max(widths)) for part in parts)
    if one.variance + other.variance == 0:
        raise ValueError("all pixels are equal: there is nothing to fit to")
    pairs = [(one, other), (other, one)]  # what to fit to, and what to test on
    best = min(widths, key=lambda w: sum(_missed(own, test, w) for own, test in pairs))
    pairs = [(own.narrowed(best), test.narrowed(best)) for own, test in pairs]
    whole = pairs[0][0].averaged(pairs[0][1])
    noise = _measured(pixels, x) if noise_std is None else Noise(std=noise_std)
    # a little more than pixels differ from their windows is within the error of its measurement
    missed = _residual(whole, _blind(whole))
    variance = max(min((noise.std or 0.0) ** 2, missed), 0.0)
    likelihood = float(np.mean([_likelihood(own, test, best) for own, test in pairs]))
    gain = None
    if variance > 0:
        errors = [_error(test, wiener(own, variance), variance) for own, test in pairs]
        gain = told_gain(float(np.mean(errors)) / variance)
    model = _model(name, best, wiener(whole, variance))
    verdict, reason = _judge(noise, missed, gain, likelihood)
    return Fit(model, verdict, reason, noise, gain, likelihood)


def told_gain(error: float) -> float:
    """The gain [dB] that may be told of a squared error in units of the noise's variance."""
    return -10 * math.log10(max(error, 0.0) + _NOISE_ERROR)


def _measured(pixels: Shaped[np.ndarray, "h w"], x: Float[np.ndarray, "h w"]) -> Noise:
    """The noise of an image, no larger than white noise can be in its spectrum.

    Structure as fine as a pixel is noise to `emd.noise.estimate`, but seldom at all frequencies.
    """
    noise = estimate(pixels)
    if noise.std is None:
        return noise
    return noise._replace(std=min(noise.std, math.sqrt(spectral_floor(x))))


def spectral_floor(x: Float[np.ndarray, "h w"]) -> float:
    """The least mean power of a ring of spatial frequencies, corners included: white noise's most.

    In units of the variance of white noise. The image is tapered, or its border would leak into all
    frequencies.
    """
    taper = np.outer(*(np.hanning(side + 2)[1:-1] for side in x.shape))
    spectrum = fft.rfft2((x - np.average(x, weights=taper)) * taper, workers=cores())
    power = spectrum.real**2 + spectrum.imag**2
    frequency = np.hypot(np.fft.fftfreq(x.shape[0])[:, None], np.fft.rfftfreq(x.shape[1])[None])
    ring = (frequency / _RING).astype(int).ravel()
    count = np.bincount(ring)
    mean = np.bincount(ring, power.ravel()) / np.maximum(count, 1)
    enough = count >= min(_RING_CELLS, int(count.max()))
    return float(mean[enough].min() / (taper**2).sum())


def _widths(shape: tuple[int, ...], width: int | None) -> tuple[int, ...]:
    """The width asked for, or those of which many windows fit into each half of an image."""
    if width is not None:
        least = 4 * check_width(width)
        if min(shape) < least:
            raise ValueError(f"image of {shape[0]}x{shape[1]} px: width {width} needs {least}")
        return (width,)
    fitting = tuple(w for w in WIDTHS if min(shape) >= 4 * w)
    if not fitting:
        least = 4 * WIDTHS[0]
        raise ValueError(f"image of {shape[0]}x{shape[1]} px is too small: {least} are needed")
    return fitting


def _judge(noise: Noise, missed: float, gain: float | None, likelihood: float) -> tuple[str, str]:
    """The verdict and its reason; `missed` is by how much pixels differ from their windows."""
    wrong = [warning for warning in noise.warnings if "correlated" in warning]
    if wrong:
        return "do not use", wrong[0]
    if noise.std == 0:
        return "no gain", "it is free of noise"
    if noise.std is None:
        return "do not use", f"{noise.warnings[0]}: give the noise's standard deviation"
    if likelihood < _LEAST_LIKELIHOOD:
        return "do not use", "what it learnt from one half does not hold for the other"
    if gain is None or noise.std**2 > (1 + _NOISE_ERROR) * missed:
        return "do not use", "its noise seems larger than pixels differ from their windows"
    if gain < LEAST_GAIN_DB:
        return (
            "no gain",
            f"the squared error falls by {gain:.1f} dB only: the image is clean enough",
        )
    return "use it", f"the squared error falls by {gain:.1f} dB or more on the half not fitted to"


def _model(name: str, width: int, weights: Float[np.ndarray, " k"]) -> Model:
    config = ModelConfig("kernel", "own", width, label=name)
    tied = {"params": {"weights": jnp.asarray(weights, jnp.float32)}}
    card = {"family": "kernel", "size": str(width), "made_by": "emd fit"}
    return Model(config, Kernel(width), tied, card)


# --- second moments --------------------------------------------------------------------------


def autocovariance(x: Float[np.ndarray, "h w"], reach: int) -> Float[np.ndarray, "lags lags"]:
    """The mean product of pixels at each distance up to `reach`, of an image with a faded border.

    Row and column `reach` are distance 0. Fading, and taken for 0 beyond, the image is whole:
    matrices of these products are positive, so that no kernel seems to predict better than it can.
    By Fourier transforms, padded so that nothing wraps.
    """
    fade = np.outer(*(_fade(side, 2 * reach) for side in x.shape))
    size = [fft.next_fast_len(side + reach, real=True) for side in x.shape]
    spectrum = fft.rfft2(x * fade, size, workers=cores())
    power = spectrum.real**2 + spectrum.imag**2
    sums = fft.irfft2(power, size, workers=cores())
    lags = np.arange(-reach, reach + 1)
    return np.asarray(sums[np.ix_(lags, lags)] / (fade**2).sum())


def _fade(side: int, width: int) -> Float[np.ndarray, " side"]:
    """1, but for a smooth rise and fall of a width [px] at the ends."""
    place = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    return np.sin(np.pi / 2 * np.minimum(place / min(width, side / 2), 1)) ** 2


def moments(x: Float[np.ndarray, "h w"], width: int) -> Moments:
    """What decides the error of every symmetric kernel up to a width on an image of mean 0."""
    covariance = autocovariance(x, width - 1)
    place = np.arange(width)
    lag = width - 1 + place[:, None] - place[None, :]
    full = covariance[lag[:, None, :, None], lag[None, :, None, :]].reshape(width**2, width**2)
    free = orbits(width).reshape(-1)
    tie = np.eye(free_count(width))[free]
    middle = width**2 // 2
    return Moments(tie.T @ full @ tie, tie.T @ full[middle], float(full[middle, middle]))


def wiener(known: Moments, noise_variance: float) -> Float[np.ndarray, " k"]:
    """The free weights of the best kernel under white noise of a variance."""
    wanted = known.moment.copy()
    wanted[0] -= noise_variance  # the pixel's own noise is in it
    return np.linalg.solve(known.gram + _ridge(known), wanted)


def _ridge(known: Moments) -> Float[np.ndarray, "k k"]:
    return _RIDGE * known.variance * np.eye(len(known.moment))


def _blind(known: Moments) -> Float[np.ndarray, " k"]:
    """The best prediction of a pixel from the others of its window; 0 in the middle."""
    around = (known.gram + _ridge(known))[1:, 1:]
    return np.concatenate([[0.0], np.linalg.solve(around, known.moment[1:])])


def _residual(known: Moments, weights: Float[np.ndarray, " k"]) -> float:
    """The mean square of what a kernel changes."""
    square = weights @ known.gram @ weights
    return float(known.variance - 2 * weights @ known.moment + square)


def _error(known: Moments, weights: Float[np.ndarray, " k"], noise_variance: float) -> float:
    """The expected squared error of a kernel (Stein's estimate, exact for what is linear)."""
    return _residual(known, weights) + (2 * float(weights[0]) - 1) * noise_variance


def _missed(own: Moments, test: Moments, width: int) -> float:
    """The mean square by which windows fail to predict pixels of the other half."""
    return _residual(test.narrowed(width), _blind(own.narrowed(width)))


def _likelihood(own: Moments, test: Moments, width: int) -> float:
    """By how much pixels of the other half are likelier than by the mean of their neighbours."""
    neighbours = np.zeros(len(test.moment))
    neighbours[1:3] = 1 / 8
    missed = max(_missed(own, test, width), 1e-30)
    return 0.5 * math.log(max(_residual(test, neighbours), 1e-30) / missed)

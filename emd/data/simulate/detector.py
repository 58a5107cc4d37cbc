"""What the detector makes of a scene: expected counts, Poisson counts, readout noise.

`expose` is the ideal detector, whose counts are electrons; `detect` has gain, spread and limits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PRNGKeyArray

from emd.data.simulate.optics import Scalar, frequency

# Below this mean the Poisson law is inverted exactly; above it three moments are matched.
_EXACT_BELOW = 24.0


class Simulated(NamedTuple):
    """Micrographs and their truth.

    Attributes:
        counts: what the detector reads; readout noise can carry it below zero.
        clean: expected counts a pixel, never negative.
    """

    counts: Float[Array, "n h w"]
    clean: Float[Array, "n h w"]


# Next count, its probability, what is left of the uniform, the count so far.
_Search = tuple[Array, Array, Array, Array]


def _invert(uniform: Float[Array, "*s"], mean: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Smallest integer at which the cumulative Poisson law reaches `uniform`."""
    last = _EXACT_BELOW + 10 * _EXACT_BELOW**0.5  # beyond this the tail is lost to float32

    def is_unfinished(state: _Search) -> Array:
        k, _, left, _ = state
        return (k < last) & jnp.any(left > 0)

    def advance(state: _Search) -> _Search:
        k, probability, left, count = state
        probability = probability * mean / (k + 1)
        count = count + (left > 0)
        return k + 1, probability, left - probability, count

    first = jnp.exp(-mean)
    state = (jnp.float32(0), first, uniform - first, jnp.zeros_like(mean))
    return jax.lax.while_loop(is_unfinished, advance, state)[3]


def poisson(key: PRNGKeyArray, mean: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Poisson counts (whole numbers as float32) of the given means.

    Deviation: from mean 24 up a rounded quadratic of a normal variate with the right mean, variance
    and skewness stands in for the Poisson law. `jax.random.poisson` takes 50 to 70 ms for 256x256
    means on a CPU, this about a tenth of that.
    """
    normal = jax.random.normal(key, mean.shape)
    # One draw serves both branches: its distribution function is the uniform of the other.
    low = jnp.minimum(mean, _EXACT_BELOW)
    exact = _invert(jax.scipy.stats.norm.cdf(normal), low)
    # Rounding adds 1/12 to the variance and the quadratic term 1/18: take both off beforehand.
    width = jnp.sqrt(jnp.maximum(mean - 5 / 36, 0.0))
    matched = jnp.round(mean + width * normal + (normal**2 - 1) / 6)
    return jnp.where(mean < _EXACT_BELOW, exact, jnp.maximum(matched, 0.0))


def expose(
    key: PRNGKeyArray, scene: Float[Array, "h w"], *, dose: Scalar, readout: Scalar = 0.0
) -> Simulated:
    """One exposure (n = 1) of a scene of any non-negative intensity.

    `dose` is the mean of the expected counts a pixel, `readout` the standard deviation of the
    detector's Gaussian noise in counts.
    """
    noise_key, readout_key = jax.random.split(key)
    scene = jnp.maximum(scene, 0.0)
    clean = scene * (dose / jnp.maximum(scene.mean(), 1e-12))
    counts = poisson(noise_key, clean) + readout * jax.random.normal(readout_key, clean.shape)
    return Simulated(counts[None], clean[None])


_counted = jax.jit(poisson)  # compiled once for each size; `expose` is mostly called under jit


class Detector(NamedTuple):
    """How a camera turns electrons into counts; as it stands, every electron is one count.

    An electron lands beside the pixel that it was meant for, and what it leaves there spreads. Both
    blur the image; only the second correlates the noise. So the image is transferred by `mtf` and
    the noise by `ntf`, both Lorentzian: 1 / (1 + (1 / value - 1) (2 k)^2), k in cycles a pixel.

    Attributes:
        gain: counts that an electron makes.
        offset: black level, counts.
        readout: standard deviation of the noise without electrons, counts.
        mtf: transfer of the image at the Nyquist frequency, above 0 to 1.
        ntf: transfer of the noise there, `mtf` to 1: 1 for a detector that counts electrons, whose
            noise is white; `mtf` where every electron leaves the same cloud of light.
        excess: relative variance, 0 to 1, of what single electrons leave (Landau's law: thin
            sensors have the most); noise grows by 1 + excess.
        saturation: the highest count.

    Source: Meyer and Kirkland, Microscopy Research and Technique 49 (2000) 269, for image and noise
    transferred differently; Foi et al., IEEE Transactions on Image Processing 17 (2008) 1737, for
    gain, offset and readout.
    Deviation: one Lorentzian; measured transfers need several, and that of the pixel's square.
    """

    gain: Scalar = 1.0
    offset: Scalar = 0.0
    readout: Scalar = 0.0
    mtf: float = 1.0
    ntf: float = 1.0
    excess: Scalar = 0.0
    saturation: Scalar = math.inf


IDEAL = Detector()
"""Every electron is one count."""


def transfer(frequency: Float[Array, "*k"], at_nyquist: float) -> Float[Array, "*k"]:
    """The Lorentzian of `Detector` at frequencies in cycles a pixel."""
    return 1 / (1 + (1 / at_nyquist - 1) * (2 * frequency) ** 2)


def _transferred(image: Float[Array, "h h"], above: float, below: float) -> Float[Array, "h h"]:
    """The square, periodic image through the transfer `above` over the transfer `below`."""
    if above == below:
        return image
    k = frequency(image.shape[0], 1.0)
    ratio = transfer(k, above) / transfer(k, below)
    return jnp.fft.irfft2(jnp.fft.rfft2(image) * ratio, s=image.shape)


def _unevenly(
    key: PRNGKeyArray, electrons: Float[Array, "h h"], excess: Scalar
) -> Float[Array, "h h"]:
    """What so many electrons leave, each 1 in the mean with a relative variance of `excess`.

    Their sum follows a gamma law, whose cube root is nearly normal (Wilson and Hilferty).
    """
    shape = electrons / jnp.maximum(excess, 1e-9)
    ninth = 1 / (9 * jnp.maximum(shape, 1e-9))
    root = 1 - ninth + jnp.sqrt(ninth) * jax.random.normal(key, electrons.shape)
    left = electrons * jnp.maximum(root, 0.0) ** 3
    return jnp.where(excess > 0, left, electrons)


def detect(key: PRNGKeyArray, electrons: Float[Array, "h h"], detector: Detector) -> Simulated:
    """One exposure (n = 1): what a detector reads of so many expected electrons a pixel.

    `electrons` is square and taken as periodic. Counts are whole numbers from 0 to saturation, so
    that without an offset the noise of the dark is cut in half. `clean` is the mean of endless
    repetitions on a detector without limits: blurred by the mtf, in counts, offset included.

    Raises:
        ValueError: mtf and ntf are not 0 < mtf <= ntf <= 1.
    """
    if not 0 < detector.mtf <= detector.ntf <= 1:
        raise ValueError(
            f"mtf is {detector.mtf} and ntf {detector.ntf}: the transfer at the Nyquist frequency "
            "must be above 0, and the noise's lies between the image's and 1"
        )
    arrive_key, leave_key, readout_key = jax.random.split(key, 3)
    landing = jnp.maximum(_transferred(jnp.maximum(electrons, 0.0), detector.mtf, detector.ntf), 0)
    landed = _unevenly(leave_key, _counted(arrive_key, landing), detector.excess)
    readout = detector.readout * jax.random.normal(readout_key, electrons.shape)

    def counts(spread: Array) -> Array:
        return detector.offset + detector.gain * spread

    read = counts(_transferred(landed, detector.ntf, 1.0)) + readout
    clean = counts(_transferred(landing, detector.ntf, 1.0))
    return Simulated(jnp.clip(jnp.round(read), 0.0, detector.saturation)[None], clean[None])

"""What the detector makes of a scene: expected counts, Poisson counts, readout noise."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PRNGKeyArray

from emd.data.simulate.optics import Scalar

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

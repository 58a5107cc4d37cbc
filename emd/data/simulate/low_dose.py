"""Low dose made of high: Poisson counts of a clean crop, as Ede's denoiser was tested.

Source: J. M. Ede, "Improving electron micrograph signal-to-noise with an atrous convolutional
encoder-decoder", arXiv:1807.11234.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PRNGKeyArray

from emd.data.simulate.detector import Simulated, poisson
from emd.data.simulate.optics import Scalar

TEST_RANGE = (25.0, 100.0)
"""Counts at a crop's brightest pixel in the test."""


def scale_in_test(key: PRNGKeyArray) -> Float[Array, ""]:
    """Counts at a crop's brightest pixel in the test: evenly from 25 to 100."""
    low, high = TEST_RANGE
    return jax.random.uniform(key, minval=low, maxval=high)


def _unit(image: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """The image scaled so that it runs from 0 to 1; 0 where it is constant."""
    low = image.min()
    return (image - low) / jnp.maximum(image.max() - low, 1e-12)


def low_dose(key: PRNGKeyArray, crop: Float[Array, "h w"], *, scale: Scalar) -> Simulated:
    """One exposure (n = 1) of a crop of high dose, darkest pixel 0, brightest `scale` counts.

    What noise the crop has is part of the truth.
    """
    clean = scale * _unit(crop)
    return Simulated(poisson(key, clean)[None], clean[None])


def protocol_units(
    counts: Float[Array, "h w"], clean: Float[Array, "h w"]
) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """Input and truth in the protocol's units: the input scaled to [0, 1], the truth to its mean.

    Where the input's least count is above 0, the truth is not what the input is in the mean.
    """
    noisy = _unit(counts)
    return noisy, clean * (noisy.mean() / jnp.maximum(clean.mean(), 1e-12))

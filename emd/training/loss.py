"""The training losses: the paper's, and one for networks that meet noise of any level."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from emd.training.objective import Pair

_MOST_GAIN = 1e-5  # of the noise: a crop that is restored better than that weighs no more


def huberised(mse: Float[Array, "*m"]) -> Float[Array, "*m"]:
    """Return the training loss of a mean squared error: itself below 1, its root from 1 on.

    Source: paper section 2.2, equation 1.
    """
    # the inner where keeps the root's infinite slope at 0 out of the gradient
    return jnp.where(mse < 1, mse, jnp.sqrt(jnp.where(mse < 1, 1.0, mse)))


Loss = Callable[[Float[Array, "n s s"], Pair], Float[Array, ""]]
"""Of what a network made of a batch, and the batch."""


def batch_mse(restored: Float[Array, "n s s"], pair: Pair) -> Float[Array, ""]:
    """Return the batch's mean squared error, huberised: the paper's loss."""
    return huberised(jnp.mean((restored - pair.wanted) ** 2))


def remaining(restored: Float[Array, "n s s"], pair: Pair) -> Float[Array, ""]:
    """Return the mean logarithm of the share of each crop's noise that is left.

    A decibel counts the same at every dose, where a squared error would see the noisiest crops
    alone.

    Source: Chen et al., "Simple baselines for image restoration" (ECCV 2022), for the mean PSNR as
    a loss.
    """
    left, noise = (
        jnp.mean((image - pair.wanted) ** 2, axis=(1, 2)) for image in (restored, pair.seen)
    )
    return jnp.mean(jnp.log(left / jnp.maximum(noise, 1e-12) + _MOST_GAIN))

"""The training loss of every model."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def huberised(mse: Float[Array, "*m"]) -> Float[Array, "*m"]:
    """Return the training loss of a mean squared error: itself below 1, its root from 1 on.

    Source: paper section 2.2, equation 1.
    """
    # the inner where keeps the root's infinite slope at 0 out of the gradient
    return jnp.where(mse < 1, mse, jnp.sqrt(jnp.where(mse < 1, 1.0, mse)))

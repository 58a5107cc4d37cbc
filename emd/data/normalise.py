"""The paper's normalisation and its exact inverse.

An image's minimum is subtracted and the result divided by its mean, so that every image starts
at 0 and has mean 1 whatever its counts, gain and offset.

Source: paper section 2.2, "Loss metric".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Scale(NamedTuple):
    """What normalisation took out of an image, in counts; leading axes are those of the images."""

    minimum: Any
    mean: Any
    """Mean of the image above its minimum; 0 for a constant image."""


def _library(x: Any) -> Any:
    return jnp if isinstance(x, jax.Array) else np


def measure(x: Any) -> Scale:
    """Return the minimum, and the mean above it, of images over their last two axes.

    NumPy in, NumPy out (integers are summed in float64); JAX arrays likewise.
    """
    xp = _library(x)
    minimum = x.min((-2, -1))
    if xp is jnp or x.dtype == np.float64:
        mean = xp.maximum((x - minimum[..., None, None]).mean((-2, -1)), 0)
        return Scale(minimum, mean)
    # float64 holds the sums that float32 would round, without a float64 copy of the image
    above = x.mean((-2, -1), dtype=np.float64) - np.asarray(minimum, np.float64)
    constant = x.max((-2, -1)) == minimum
    return Scale(np.asarray(minimum, np.float64), np.where(constant, 0.0, np.maximum(above, 0)))


def normalise(x: Any, scale: Scale) -> Any:
    """Return images above their minimum in units of their mean; all ones where that is 0.

    Source: paper section 2.2; the ones of a constant image are its program's.
    """
    xp = _library(x)
    minimum, mean = (xp.asarray(s)[..., None, None] for s in scale)
    safe = xp.where(mean > 0, mean, 1)
    return xp.where(mean > 0, (x - minimum) / safe, xp.ones_like(safe))


def denormalise(y: Any, scale: Scale) -> Any:
    """Return images in counts again: the exact inverse of ``normalise``.

    Whatever a model made of a constant image comes back as that constant.
    """
    xp = _library(y)
    minimum, mean = (xp.asarray(s)[..., None, None] for s in scale)
    return y * mean + minimum

"""A perceptron that tells each pixel from those around it, and then looks at the pixel itself.

Owns its parameters and what it makes of them; `emd/blindspot_fit.py` finds them. Pixels are taken
in pairs that lie opposite each other about the middle of the window, as sums and as differences:
turned by half a turn, an image changes the sign of the differences alone, so that the result has
the point symmetry of every lattice.

Source: Laine, Karras, Lehtinen and Aila, "High-quality self-supervised deep image denoising"
(NeurIPS 2019): a network blind to the pixel gives its mean and variance, and Bayes' rule mixes the
pixel in.
Deviation: features of a fixed window and a perceptron in place of a deep network, so that it can be
fitted to one image in seconds.
"""

from __future__ import annotations

import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

WIDTH_PX = 21
"""Side of the window of those that `emd fit` makes."""

WAVES = 24
"""Features that are principal components, of the sums and of the differences each."""

INNER_PX = 5
"""Side of the square within which each pair is a feature of its own besides."""

_HIDDEN = 64


class Prediction(nn.Module):
    """The mean and the variance of a pixel, from what its window looks like."""

    @nn.compact
    def __call__(self, features: Float[Array, "... f"]) -> Float[Array, "... 2"]:
        """What to add to the linear prediction, and a number that the variance grows with."""
        y = nn.relu(nn.Dense(_HIDDEN)(features))
        y = nn.relu(nn.Dense(_HIDDEN)(y))
        return jnp.asarray(nn.Dense(2, kernel_init=nn.initializers.zeros)(y))


class BlindSpot(nn.Module):
    """Normalised images, mean 1, to restored ones, each pixel from a `width` x `width` window.

    Parameters, of p = (width^2 - 1) / 2 pairs: `linear` (p,), weights of their sums; `even` (p, f)
    and `odd` (p, f), features of sums and of differences; `level`, `slope` and `least` of the
    noise's variance, at the mean, for each unit above it, and at least; the layers of a perceptron.

    Raises:
      ValueError: on construction, for a width that is even or below 5.
    """

    width: int = WIDTH_PX

    cell_px: ClassVar[int] = 1
    pads_itself: ClassVar[bool] = False
    tiles_px: ClassVar[tuple[int, int]] = (128, 512)
    map_bytes: ClassVar[int] = 2**11

    def __post_init__(self) -> None:  # noqa: D105
        if self.width % 2 == 0 or self.width < INNER_PX:
            raise ValueError(f"width is {self.width}: give an odd number of at least {INNER_PX}")
        super().__post_init__()

    @property
    def halo_px(self) -> int:
        """How far the window reaches on either side."""
        return self.width // 2

    def setup(self) -> None:
        """Make the parameters."""
        pairs, features = self.width**2 // 2, WAVES + INNER_PX**2 // 2
        zeros = nn.initializers.zeros
        self.linear = self.param("linear", zeros, (pairs,))
        self.even = self.param("even", zeros, (pairs, features))
        self.odd = self.param("odd", zeros, (pairs, features))
        self.noise = self.param("noise", zeros, (3,))
        self.prediction = Prediction()

    def __call__(self, x: Float[Array, "n h w"], *, margin: int = 0) -> Float[Array, "n h2 w2"]:
        """The restored images, less `margin` pixels at each side; beyond an image lies its mean."""
        beyond = self.halo_px - margin
        x = jnp.pad(x - 1, ((0, 0), (beyond, beyond), (beyond, beyond)))
        height, width = (side - self.width + 1 for side in x.shape[1:])
        pixel = x[:, self.halo_px :][:, :height, self.halo_px :][:, :, :width]
        linear, even, odd = self.describe(x)
        mean, variance = self.predict(linear, even, odd)
        restored, _ = self.mix(pixel, mean, variance)
        return 1 + restored

    def describe(
        self, x: Float[Array, "n h w"]
    ) -> tuple[Float[Array, "n i j"], Float[Array, "n i j f"], Float[Array, "n i j f"]]:
        """Of each whole window: the linear prediction, and its features even and odd."""
        even = jnp.concatenate([self.linear[:, None], self.even], axis=1)
        middle = jnp.zeros((1, even.shape[1] + self.odd.shape[1]))
        first = jnp.concatenate([even, self.odd], axis=1)
        last = jnp.concatenate([even, -self.odd], axis=1)[::-1]
        places = jnp.concatenate([first, middle, last]).reshape(self.width, self.width, 1, -1)
        found = jax.lax.conv_general_dilated(
            *(x[..., None], places, (1, 1), "VALID"),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=jax.lax.Precision.HIGHEST,
        )
        return found[..., 0], found[..., 1 : even.shape[1]], found[..., even.shape[1] :]

    def predict(
        self, linear: Float[Array, "*s"], even: Float[Array, "*s f"], odd: Float[Array, "*s f"]
    ) -> tuple[Float[Array, "*s"], Float[Array, "*s"]]:
        """The mean of a pixel and its variance, noise included, from the rest of its window."""
        views = [self.prediction(jnp.concatenate([even, side], -1)) for side in (odd, -odd)]
        return self._scaled(linear, (views[0] + views[1]) / 2)

    def glimpse(
        self, linear: Float[Array, "*s"], even: Float[Array, "*s f"], odd: Float[Array, "*s f"]
    ) -> tuple[Float[Array, "*s"], Float[Array, "*s"]]:
        """The same from the window one way round only, for training.

        Seeing each window either way by chance keeps the perceptron from learning noise by heart,
        which training it on the mean of both does not.
        """
        return self._scaled(linear, self.prediction(jnp.concatenate([even, odd], -1)))

    def _scaled(
        self, linear: Float[Array, "*s"], found: Float[Array, "*s 2"]
    ) -> tuple[Float[Array, "*s"], Float[Array, "*s"]]:
        mean = linear + jnp.sqrt(self.noise[0]) * found[..., 0]
        missed = self.noise[0] * jax.nn.softplus(2 * found[..., 1] - 1)
        return mean, self.variance_of_noise(mean) + missed

    def mix(
        self, pixel: Float[Array, "*s"], mean: Float[Array, "*s"], variance: Float[Array, "*s"]
    ) -> tuple[Float[Array, "*s"], Float[Array, "*s"]]:
        """The restored pixel, and the share of its own value in it."""
        share = 1 - self.variance_of_noise(mean) / variance
        return mean + share * (pixel - mean), share

    def variance_of_noise(self, mean: Float[Array, "*s"]) -> Float[Array, "*s"]:
        """That of a pixel at a level above the image's mean."""
        level, slope, least = self.noise
        return jnp.maximum(level + slope * mean, least)


@functools.cache
def inner_pairs(width: int) -> Int[np.ndarray, " k"]:
    """The numbers of the pairs within the square in the middle; pairs are numbered row by row."""
    distance = np.abs(np.arange(width) - width // 2)
    near = np.maximum.outer(distance, distance).reshape(-1)[: width**2 // 2]
    return np.flatnonzero(near <= INNER_PX // 2)

"""A small U-Net that works at a quarter of the side and below: the family with skip connections.

The paper's autoencoders pass one number for four pixels at most; here the image itself goes round
the network, which predicts only what to take away. It has no biases and no normalisation, so it is
homogeneous: f(a x) = a f(x) for a > 0, at any noise level.

Source: Ronneberger, Fischer and Brox, "U-Net" (MICCAI 2015), for the shape; Mohan, Kadkhodaie,
Simoncelli and Fernandez-Granda, "Robust and interpretable blind image denoising via bias-free
convolutional neural networks" (ICLR 2020), for leaving out biases; Shi et al., "Real-time single
image and video super-resolution" (CVPR 2016), for pixels that become maps and back.
"""

from __future__ import annotations

from typing import ClassVar

from flax import linen as nn
from jax.nn.initializers import variance_scaling, zeros
from jaxtyping import Array, Float

REACH_PX = 135
"""How far the receptive field reaches on either side."""

_FOLD = 4  # pixels a side that become maps
_he = variance_scaling(2.0, "fan_in", "normal")


class Skip(nn.Module):
    """Normalised images, mean about 1, to restored ones.

    ``features``, 4/3 and twice as many maps at a quarter, an eighth and a sixteenth of the side; at
    48 it has 0.65 million weights. What is not inside a residual block is linear, so that all of
    the noise can pass to the end: sixteen pixels of it are more than ReLUs of so few maps let by.
    """

    features: int

    cell_px: ClassVar[int] = 16
    pads_itself: ClassVar[bool] = True  # it learnt on crops with zeros beyond
    halo_px: ClassVar[int] = 128  # a cell's pixels reach up to 124 px beyond it
    tiles_px: ClassVar[tuple[int, int]] = (256, 2048)  # narrow ones would be mostly halo
    map_bytes: ClassVar[int] = 2**7

    @nn.compact
    def __call__(self, x: Float[Array, "n h w"], *, train: bool = False) -> Float[Array, "n h w"]:
        """Return the restored images.

        ``train`` changes nothing: training and use are the same.

        Raises:
            ValueError: a side is not a multiple of 16.
        """
        if x.shape[1] % self.cell_px or x.shape[2] % self.cell_px:
            raise ValueError(
                f"image of {x.shape[1]}x{x.shape[2]} px: sides must be multiples of "
                f"{self.cell_px}; pad it, or use emd.restore"
            )
        quarter, eighth, sixteenth = (self.features * k // 3 for k in (3, 4, 6))
        y1 = _Residual()(_Conv(quarter)(to_maps((x - 1)[..., None], _FOLD)))
        y2 = _Residual()(_Mix(eighth)(to_maps(y1, 2)))
        y3 = _Mix(sixteenth)(to_maps(y2, 2))
        y3 = _Residual()(_Residual()(y3))
        y2 = _Residual()(y2 + to_pixels(_Mix(4 * eighth)(y3), 2))
        y1 = _Residual()(y1 + to_pixels(_Mix(4 * quarter)(y2), 2))
        return x - to_pixels(_Conv(_FOLD**2, zeros)(y1), _FOLD)[..., 0]


class _Conv(nn.Module):
    """3x3 convolution without bias, zeros beyond the border."""

    features: int
    start: nn.initializers.Initializer = _he

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w f"]:
        return nn.Conv(self.features, (3, 3), use_bias=False, kernel_init=self.start)(x)


class _Mix(nn.Module):
    """Each place by itself: a product with one matrix."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w f"]:
        return nn.Dense(self.features, use_bias=False, kernel_init=_he)(x)


class _Residual(nn.Module):
    """Two convolutions beside the identity, each after a ReLU."""

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        features = x.shape[-1]
        y = _Conv(features)(nn.relu(x))
        return x + _Conv(features, zeros)(nn.relu(y))


def to_maps(x: Float[Array, "n h w c"], side: int) -> Float[Array, "n hs ws c2"]:
    """Return images whose blocks of ``side`` x ``side`` pixels have become maps."""
    n, h, w, c = x.shape
    blocks = x.reshape(n, h // side, side, w // side, side, c).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(n, h // side, w // side, side * side * c)


def to_pixels(x: Float[Array, "n h w c"], side: int) -> Float[Array, "n hs ws c2"]:
    """Return images whose maps have become blocks of ``side`` x ``side`` pixels."""
    n, h, w, c = x.shape
    blocks = x.reshape(n, h, w, side, side, c // side**2).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(n, h * side, w * side, c // side**2)

"""The denoising, compressing autoencoder of the paper."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from emd.models.layers import DECAY, BatchNorm, SeparableConv, ToImage, Upsample

STRIDE = 8
"""Pixels a side that one latent pixel stands for: three layers of stride 2."""

REACH_PX = 23
"""How far, in pixels, an output pixel's receptive field reaches on either side."""


class Encoder(nn.Module):
    """Images to latents: separable convolutions of 64, 128 and 256 maps, then ``latent``.

    Each is followed by batch normalisation and ReLU, so that a latent is never negative.

    Source: paper section 2.1 and Fig. 1.
    Deviation: the program normalises twice in a row; here once.
    """

    latent: int
    decay: float = DECAY
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n h w"], *, train: bool) -> Float[Array, "n hl wl d"]:
        """Return latents, 8 times smaller a side, >= 0."""
        y = x[..., None].astype(self.dtype)
        for features, stride in ((64, 2), (128, 2), (256, 2), (self.latent, 1)):
            y = nn.relu(BatchNorm(self.decay)(SeparableConv(features, stride)(y), train=train))
        return y.astype(jnp.float32)


class Decoder(nn.Module):
    """Latents to images: transposed convolutions to 256, 128 and 64 maps, then one image.

    The 64 maps have a bias in place of batch normalisation; the image has neither, nor an
    activation.

    Source: paper section 2.1 and Fig. 1.
    """

    decay: float = DECAY
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, latent: Float[Array, "n hl wl d"], *, train: bool, margin: int = 0
    ) -> Float[Array, "n h w"]:
        """Return images, 8 times larger a side, less what ``margin`` cells around stand for."""
        y = latent.astype(self.dtype)
        for features in (256, 128):
            y = nn.relu(BatchNorm(self.decay)(Upsample(features)(y), train=train))
            # the next layers see no further than 1 pixel of these maps
            reach = min(margin, 1)
            y = _trimmed(y, 2 * margin - reach)
            margin = reach
        y = nn.relu(Upsample(64, use_bias=True)(y))
        return _trimmed(ToImage()(y), 2 * margin)


def _trimmed(maps: Float[Array, "n h w ..."], margin: int) -> Float[Array, "n h2 w2 ..."]:
    """Return maps without ``margin`` pixels at each side."""
    return maps[:, margin : maps.shape[1] - margin, margin : maps.shape[2] - margin]


class Autoencoder(nn.Module):
    """Normalised images to restored normalised images, through ``latent`` maps at 1/8 the side.

    Sides must be multiples of 8. Variables: ``params`` and ``batch_stats``; with ``train=True``
    apply with ``mutable=["batch_stats"]``.

    Maps are of ``dtype``, float32 or bfloat16; images, latents, weights and statistics are float32
    with either.

    Source: paper section 2.1. Compression is 64:``latent`` in numbers stored.
    """

    latent: int
    decay: float = DECAY
    dtype: DTypeLike = jnp.float32

    cell_px: ClassVar[int] = STRIDE
    pads_itself: ClassVar[bool] = False
    halo_px: ClassVar[int] = -(-REACH_PX // STRIDE) * STRIDE
    tiles_px: ClassVar[tuple[int, int]] = (128, 512)  # wider ones take no less time on a CPU
    map_bytes: ClassVar[int] = 2**11  # for each pixel of a tile, with a margin

    def setup(self) -> None:
        """Build the two halves."""
        self.encoder = Encoder(self.latent, self.decay, self.dtype)
        self.decoder = Decoder(self.decay, self.dtype)

    def __call__(
        self, x: Float[Array, "n h w"], *, train: bool = False, margin: int = 0
    ) -> Float[Array, "n h2 w2"]:
        """Return the restored images, less ``margin`` cells of 8 pixels at each side.

        What is not wanted is not computed: with a margin of the receptive field, 3 cells, the
        result is that of a larger image.
        """
        return self.decode(self.encode(x, train=train), train=train, margin=margin)

    def encode(
        self, x: Float[Array, "n h w"], *, train: bool = False, margin: int = 0
    ) -> Float[Array, "n hl wl d"]:
        """Return the latents of images, less ``margin`` of them at each side.

        Raises:
            ValueError: a side is not a multiple of 8.
        """
        if x.shape[1] % STRIDE or x.shape[2] % STRIDE:
            raise ValueError(
                f"image of {x.shape[1]}x{x.shape[2]} px: sides must be multiples of {STRIDE}; "
                "pad it, or use emd.restore"
            )
        return _trimmed(self.encoder(x, train=train), margin)

    def decode(
        self, latent: Float[Array, "n hl wl d"], *, train: bool = False, margin: int = 0
    ) -> Float[Array, "n h w"]:
        """Return the images of latents, less what ``margin`` of them at each side stand for."""
        return self.decoder(latent, train=train, margin=margin)

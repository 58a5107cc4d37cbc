"""Convolutions and batch normalisation in the forms that are fast, equal to the plain ones.

This file is the one place that picks a form: `emd.models.cpu` has those for the CPU; on other
backends XLA's own convolutions serve.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from emd.models import cpu

DECAY = 0.999
EPSILON = 0.001
_NHWC = ("NHWC", "HWIO", "NHWC")


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


# --- plain forms: the definition, and what runs on accelerators ------------------------------


def depthwise_plain(
    x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 1 c"], *, stride: int
) -> Float[Array, "n h2 w2 c"]:
    """Return the depthwise 3x3 SAME convolution as one grouped convolution."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=_NHWC,
        feature_group_count=x.shape[-1],
    )


def upsample_plain(
    x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 c f"]
) -> Float[Array, "n h2 w2 f"]:
    """Return the 3x3 transposed convolution of stride 2, SAME.

    Output pixel 2i + k gains ``kernel[k]`` times input pixel i, as in TensorFlow's
    ``conv2d_transpose``.
    """
    return lax.conv_transpose(x, jnp.flip(kernel, (0, 1)), (2, 2), "SAME", dimension_numbers=_NHWC)


def to_image_plain(
    x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 c 1"]
) -> Float[Array, "n h w"]:
    """Return the 3x3 SAME convolution to a single channel, without the channel axis."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=_NHWC)[..., 0]


# --- the choice ------------------------------------------------------------------------------


def depthwise(
    x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 1 c"], *, stride: int
) -> Float[Array, "n h2 w2 c"]:
    """Return the depthwise 3x3 SAME convolution in the backend's fast form."""
    form = cpu.depthwise if _on_cpu() else depthwise_plain
    return form(x, kernel, stride=stride)


def pointwise(x: Float[Array, "n h w c"], matrix: Float[Array, "c f"]) -> Float[Array, "n h w f"]:
    """Return the 1x1 convolution in the backend's fast form."""
    return cpu.product(x, matrix) if _on_cpu() else x @ matrix


def upsample(
    x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 c f"]
) -> Float[Array, "n h2 w2 f"]:
    """Return the 3x3 transposed convolution of stride 2 in the backend's fast form."""
    return (cpu.upsample if _on_cpu() else upsample_plain)(x, kernel)


def to_image(x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 c 1"]) -> Float[Array, "n h w"]:
    """Return the 3x3 convolution to one channel in the backend's fast form."""
    return (cpu.to_image if _on_cpu() else to_image_plain)(x, kernel)


def channel_sums(x: Float[Array, "n h w c"]) -> Float[Array, " c"]:
    """Return the sum of each channel in the backend's fast form."""
    return cpu.channel_sums(x) if _on_cpu() else x.sum((0, 1, 2))


# --- modules ---------------------------------------------------------------------------------

_glorot = nn.initializers.glorot_uniform()


class SeparableConv(nn.Module):
    """A 3x3 depthwise convolution (multiplier 1), then a 1x1 one; SAME, no bias.

    Source: the paper's encoder as its program builds it; Glorot uniform weights (section 2.2).
    """

    features: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 f"]:
        """Return the feature maps, ``stride`` times smaller a side."""
        channels = x.shape[-1]
        spatial = self.param("depthwise", _glorot, (3, 3, 1, channels))
        mixing = self.param("pointwise", _glorot, (channels, self.features))
        spread = depthwise(x, spatial.astype(x.dtype), stride=self.stride)
        return pointwise(spread, mixing.astype(x.dtype))


class Upsample(nn.Module):
    """A 3x3 transposed convolution of stride 2, with or without a bias; Glorot weights."""

    features: int
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 f"]:
        """Return the feature maps, twice as large a side."""
        kernel = self.param("kernel", _glorot, (3, 3, x.shape[-1], self.features))
        y = upsample(x, kernel.astype(x.dtype))
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return y + bias.astype(x.dtype)[None, None, None]


class ToImage(nn.Module):
    """The last 3x3 convolution to one channel: no bias, no activation, its kernel trained.

    Deviation: the paper says "no weights"; a convolution from 64 maps to one cannot be without.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w"]:
        """Return images without a channel axis, in float32."""
        kernel = self.param("kernel", _glorot, (3, 3, x.shape[-1], 1))
        return to_image(x, kernel.astype(x.dtype)).astype(jnp.float32)


class BatchNorm(nn.Module):
    """Batch normalisation over all but the channel axis, statistics threaded explicitly.

    Statistics are float32 whatever the maps are, and so are the numbers in between.

    In training it uses the batch's mean and (biased) variance and moves the running ones towards
    them by ``1 - decay``; otherwise it uses the running ones alone.

    Source: paper section 2.2 (decay 0.999); epsilon 0.001 from its program.
    """

    decay: float = DECAY

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h w c"]:
        """Return the normalised, scaled and centred maps."""
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", partial(jnp.zeros, shape))
        running_var = self.variable("batch_stats", "var", partial(jnp.ones, shape))
        if train:
            count = x.size // x.shape[-1]
            precise = x.astype(jnp.float32)
            mean = channel_sums(precise) / count
            # cancellation can leave a tiny negative variance for a constant channel
            var = jnp.maximum(channel_sums(precise * precise) / count - mean * mean, 0)
            if not self.is_initializing():
                running_mean.value += (1 - self.decay) * (mean - running_mean.value)
                running_var.value += (1 - self.decay) * (var - running_var.value)
        else:
            mean, var = running_mean.value, running_var.value
        factor = scale * lax.rsqrt(var + EPSILON)
        y = x * factor[None, None, None] + (bias - mean * factor)[None, None, None]
        return y.astype(x.dtype)

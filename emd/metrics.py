"""How close restored images are to the truth: one number an image, the data range always explicit.

The range is never guessed from the data: guessed from a noisy image it grows with the noise, and
two methods would be scored on different scales.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Source: Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
# structural similarity", IEEE Transactions on Image Processing 13 (2004), section III.B and C.
_WINDOW_PX = 11
_SIGMA_PX = 1.5
_K1 = 0.01
_K2 = 0.03


def mse(pred: Float[Array, "n h w"], truth: Float[Array, "n h w"]) -> Float[Array, " n"]:
    """Mean squared error of each image, in the square of the intensity's unit.

    Args:
        pred: restored images.
        truth: what they should be.

    Raises:
        ValueError: if the images hold no pixel.
    """
    if pred.shape[1] * pred.shape[2] == 0:
        raise ValueError(f"images of shape {pred.shape[1:]} hold no pixel: need at least 1x1")
    return jnp.mean(jnp.square(pred - truth), axis=(1, 2))


def psnr(
    pred: Float[Array, "n h w"], truth: Float[Array, "n h w"], *, data_range: float
) -> Float[Array, " n"]:
    """Peak signal-to-noise ratio of each image, in dB; infinite where an image equals its truth.

    Args:
        pred: restored images.
        truth: what they should be.
        data_range: span of the truth's intensities, one for all images, in their unit; above 0.

    Raises:
        ValueError: if `data_range` is not finite and above 0, or the images hold no pixel.
    """
    _check_range(data_range)
    # The range divides before the square: for counts near 1e20 float32 would overflow.
    return -10.0 * jnp.log10(mse(pred / data_range, truth / data_range))


def ssim(
    pred: Float[Array, "n h w"], truth: Float[Array, "n h w"], *, data_range: float
) -> Float[Array, " n"]:
    """Structural similarity of each image, at most 1, which it is for an image equal to its truth.

    The mean over every place where the Gaussian window (11x11, sigma 1.5) lies inside the image,
    so no padding enters.

    Args:
        pred: restored images, at least 11x11.
        truth: what they should be.
        data_range: span of the truth's intensities, one for all images, in their unit; above 0.

    Raises:
        ValueError: if `data_range` is not finite and above 0, or a side is below 11 pixels.

    Source:
        Wang et al. 2004, section III.B and C: window, K1 = 0.01, K2 = 0.03, weighted moments.
    """
    _check_range(data_range)
    if min(pred.shape[1:]) < _WINDOW_PX:
        raise ValueError(
            f"images of {pred.shape[1]}x{pred.shape[2]} pixels are smaller than the "
            f"{_WINDOW_PX}x{_WINDOW_PX} window: score larger images, or use psnr"
        )
    scores: Float[Array, " n"] = _ssim(pred, truth, jnp.float32(data_range))
    return scores


@jax.jit
def _ssim(
    pred: Float[Array, "n h w"], truth: Float[Array, "n h w"], data_range: Float[Array, ""]
) -> Float[Array, " n"]:
    """`ssim` of checked images."""
    # Variances below are differences of near-equal moments where the mean is far above the
    # contrast. They do not depend on the level, so take it off first, and put it back in the means.
    level = jnp.mean(truth, axis=(1, 2), keepdims=True)
    x = (pred - level) / data_range
    y = (truth - level) / data_range
    moments = jnp.concatenate([x, y, x * x, y * y, x * y])
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = jnp.split(_window_mean(moments), 5)
    variances = mean_xx - mean_x * mean_x + mean_yy - mean_y * mean_y
    cov = mean_xy - mean_x * mean_y
    mean_x, mean_y = mean_x + level / data_range, mean_y + level / data_range
    c1, c2 = _K1**2, _K2**2
    luminance = (2.0 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2.0 * cov + c2) / (variances + c2)
    return jnp.mean(luminance * structure, axis=(1, 2))


def _window_mean(x: Float[Array, "n h w"]) -> Float[Array, "n h_out w_out"]:
    """Gaussian-weighted mean around each pixel whose window lies inside the image.

    Shifted adds along the rows, then along the columns: faster on CPU than a convolution with one
    channel, and exact in float32 where a GPU's convolution may round to TF32.
    """
    weights = [math.exp(-0.5 * ((i - _WINDOW_PX // 2) / _SIGMA_PX) ** 2) for i in range(_WINDOW_PX)]
    total = sum(weights)
    for axis in (1, 2):
        size = x.shape[axis] - _WINDOW_PX + 1
        shifts = [jax.lax.slice_in_dim(x, i, i + size, axis=axis) for i in range(_WINDOW_PX)]
        x = sum(
            (w / total * shift for w, shift in zip(weights[1:], shifts[1:], strict=True)),
            start=weights[0] / total * shifts[0],
        )
    return x


def _check_range(data_range: float) -> None:
    """Refuses a data range that cannot scale an error."""
    if not (math.isfinite(data_range) and data_range > 0):
        raise ValueError(
            f"data_range={data_range} must be finite and above 0: pass the span of the truth's "
            "intensities, such as 1.0 for images in [0, 1]"
        )

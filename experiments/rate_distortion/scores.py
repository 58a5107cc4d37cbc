"""What is measured of a decoded image: its rate and its distances from what was given and true."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from emd import metrics


class Point(NamedTuple):
    """One point of a curve.

    Attributes:
      control: of the codec, in its own terms.
      bpp: bits a pixel of the whole file.
      psnr: to the image that was given [dB], over its range.
      ssim: to it.
      psnr_clean: to the expected counts, where they are known [dB], over their range.
      ssim_clean: to them.
    """

    control: float
    bpp: float
    psnr: float
    ssim: float
    psnr_clean: float | None = None
    ssim_clean: float | None = None


def score(
    decoded: Shaped[np.ndarray, "h w"],
    given: Shaped[np.ndarray, "h w"],
    clean: Shaped[np.ndarray, "h w"] | None,
    *,
    control: float,
    size: int,
) -> Point:
    """Return the point of an image that was decoded from so many bytes."""
    found = Point(control, 8 * size / given.size, psnr(decoded, given), ssim(decoded, given))
    if clean is None:
        return found
    return found._replace(psnr_clean=psnr(decoded, clean), ssim_clean=ssim(decoded, clean))


def psnr(image: Shaped[np.ndarray, "h w"], truth: Shaped[np.ndarray, "h w"]) -> float:
    """Return the peak signal-to-noise ratio over the truth's range [dB]; infinite where equal.

    In float64: of 16 bits, float32 would round what near-lossless codecs leave.
    """
    error = np.mean((image.astype(np.float64) - truth) ** 2)
    span = float(truth.max()) - float(truth.min())
    return float("inf") if error == 0 else float(10 * np.log10(span**2 / error))


def ssim(image: Shaped[np.ndarray, "h w"], truth: Shaped[np.ndarray, "h w"]) -> float:
    """Return the structural similarity over the truth's range."""
    low, high = float(truth.min()), float(truth.max())
    one, other = (_normal(pixels, low, high) for pixels in (image, truth))
    return float(metrics.ssim(one, other, data_range=1.0)[0])


def _normal(
    pixels: Shaped[np.ndarray, "h w"], low: float, high: float
) -> Float[jnp.ndarray, "1 h w"]:
    return jnp.asarray(((pixels.astype(np.float64) - low) / (high - low)).astype(np.float32))[None]

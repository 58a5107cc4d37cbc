"""How close restored images are to a truth that nobody knows: uMSE and uPSNR, of repeated frames.

Frames of the same place differ by their noise alone. A denoiser is given one; the others, whose
noise it never saw, stand in for the truth.

Source: Marcos Morales et al., "Evaluating unsupervised denoising requires unsupervised metrics",
ICML 2023, arXiv:2210.05553, definitions 3.1 and 3.2.
Deviation: they take the mean of (a - f)^2 - (b - c)^2 / 2 over the pixels of f, the restored image,
and of three references. Averaged over the roles of the references, that is the mean product of
(a - f) and (b - f) over pairs of them: as free of bias, closer, and possible with two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Image = Float[np.ndarray, "h w"]

_BLOCK_PX = 8
_LEAST_BLOCKS = 16


class Uncertain(NamedTuple):
    """A squared error estimated without the truth.

    Attributes:
      mse: its estimate, in the square of the intensity's unit; by chance it can be below 0.
      mse_error: its standard error, from the scatter of blocks of 8x8 pixels: of noise and of
        places, so that it is rather too large for the error on these places.
      psnr: over the range that was given [dB]; infinite where `mse` is not above 0.
      psnr_error: its standard error [dB]; infinite where `mse` is not above 0.
    """

    mse: float
    mse_error: float
    psnr: float
    psnr_error: float


def uncertain(
    restored: Sequence[Image], references: Sequence[Sequence[Image]], *, data_range: float
) -> Uncertain:
    """Return the mean error of restored images, each by noisy frames that it was not made from.

    Their noise must be of mean 0, and independent of one another's and of the noise of the frame
    that was restored; drift, hum and fixed patterns count as signal or as error.

    Args:
      restored: images of one place.
      references: of each two or more frames of that place, in the same unit.
      data_range: for the peak signal-to-noise ratio, in that unit; above 0.

    Raises:
        ValueError: fewer than two references, of another shape, an image of fewer than 16 blocks,
            or a data range that is not above 0.
    """
    if not data_range > 0:
        raise ValueError(f"data_range is {data_range}: give the span of intensities, above 0")
    turns = [_products(f, frames) for f, frames in zip(restored, references, strict=True)]
    # the logarithm comes last: of a single frame's error it would be infinite now and then
    products = np.mean(turns, axis=0)
    rows, columns = (side // _BLOCK_PX for side in products.shape)
    if rows * columns < _LEAST_BLOCKS:
        raise ValueError(
            f"image of {products.shape[0]}x{products.shape[1]} px: {_LEAST_BLOCKS} blocks of "
            f"{_BLOCK_PX}x{_BLOCK_PX} are needed for an error bar"
        )
    whole = products[: rows * _BLOCK_PX, : columns * _BLOCK_PX]
    blocks = whole.reshape(rows, _BLOCK_PX, columns, _BLOCK_PX).mean(axis=(1, 3))
    mse = float(products.mean())
    error = float(blocks.std(ddof=1) / math.sqrt(blocks.size))
    if mse <= 0:
        return Uncertain(mse, error, math.inf, math.inf)
    level = 10 * math.log10(data_range**2 / mse)
    return Uncertain(mse, error, level, 10 / math.log(10) * error / mse)


def _products(restored: Image, references: Sequence[Image]) -> Image:
    """The mean over pairs of references of the product of their distances from the image."""
    count = len(references)
    if count < 2:
        raise ValueError(f"{count} references: at least 2 noisy frames are needed")
    shapes = {frame.shape for frame in (restored, *references)}
    if len(shapes) > 1:
        raise ValueError(f"frames of shapes {sorted(shapes)}: crop them to one place")
    apart = np.stack(references).astype(np.float64) - restored
    # all products less the squares are those of pairs, each twice
    pairs: Image = apart.sum(axis=0) ** 2 - (apart**2).sum(axis=0)
    return pairs / (count * (count - 1))

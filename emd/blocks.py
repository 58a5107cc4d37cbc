"""Blocks of an image, and the flattest of each brightness: what shows its noise with no structure.

Source: the flattest blocks by their low frequencies, their variance from the high ones: Ponomarenko
et al., "An automatic approach to lossy compression of AVIRIS images" (IGARSS 2007), and Colom and
Buades, "Analysis and extension of the Ponomarenko et al. method" (Image Processing On Line 3,
2013).
Deviation: a mean over the flattest 30 % of the blocks of a brightness in place of a median over the
flattest 0.5 %, since few electrons make few discrete values.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

SIDE_PX = 8
_MAX_BLOCKS = 2**16
_OVERLAP_BELOW_PX = 2**18  # smaller images give too few blocks, so theirs overlap by half
_FLATTEST = 0.3  # share of the blocks of a brightness that are taken for flat
_MIN_FLAT_BLOCKS = 8
_BIN_BLOCKS = 32
_MAX_BINS = 32


class Blocks(NamedTuple):
    """Blocks of 8x8 pixels.

    Attributes:
      mean: in counts.
      spectrum: cosine coefficients, orthonormal.
      empty: share of blocks left out since all their pixels have the image's lowest value.
      lowest: share of such pixels in the blocks that are there.
    """

    mean: Float[np.ndarray, " n"]
    spectrum: Float[np.ndarray, "n 8 8"]
    empty: float
    lowest: float


class Points(NamedTuple):
    """The flat blocks, brightness by brightness.

    Attributes:
      mean: of their pixels.
      variance: of their noise.
      correlation: of horizontal and of vertical neighbours in the highest frequencies, less that
        of white noise.
      error: standard error of the correlation of white noise.
      misfit: standard error of a variance, relative to it, of normal noise.
    """

    mean: Float[np.ndarray, " k"]
    variance: Float[np.ndarray, " k"]
    correlation: tuple[float, float]
    error: float
    misfit: float


def _cosines() -> Float[np.ndarray, "8 8"]:
    """The orthonormal cosine transform, a frequency a row."""
    place = (2 * np.arange(SIDE_PX) + 1) * np.pi / (2 * SIDE_PX)
    rows = np.cos(np.arange(SIDE_PX)[:, None] * place[None, :]) * math.sqrt(2 / SIDE_PX)
    rows[0] /= math.sqrt(2)
    return np.asarray(rows)


def _white_correlation() -> float:
    """Of neighbours in white noise of which only `_HIGH` is left."""
    vectors = np.einsum("ui,vj->uvij", _COSINES, _COSINES)[_HIGH]
    power = float((vectors**2).mean())
    return float((vectors[:, :, 1:] * vectors[:, :, :-1]).mean()) / power


_COSINES = _cosines()
_SUM = np.add.outer(np.arange(SIDE_PX), np.arange(SIDE_PX))
_LOW = (_SUM > 0) & (_SUM < SIDE_PX)
# Rows and columns of uneven brightness, which scans leave, lie along the edges of the spectrum.
_HIGH = (_SUM >= SIDE_PX) & (np.minimum.outer(*(2 * [np.arange(SIDE_PX)])) > 0)
_WHITE = _white_correlation()


def sample(pixels: Shaped[np.ndarray, "h w"], floor: float, ceiling: float | None) -> Blocks:
    """Blocks spread evenly over the image, at most 2^16.

    Without those of one value all over, which were cut off, and those that hold a NaN or infinity.

    Args:
      pixels: of any real type.
      floor: the lowest of them.
      ceiling: blocks with a pixel that reaches it are left out, too.
    """
    height, width = pixels.shape
    if min(height, width) < SIDE_PX:
        return Blocks(np.zeros(0), np.zeros((0, SIDE_PX, SIDE_PX), np.float32), 0.0, 0.0)
    step = SIDE_PX // 2 if pixels.size < _OVERLAP_BELOW_PX else SIDE_PX
    count = (height // step) * (width // step)
    step *= math.ceil(math.sqrt(count / _MAX_BLOCKS))
    means, spectra, empty, lowest = [], [], [], []
    for row in range(0, height - SIDE_PX + 1, step):
        part = pixels[row : row + SIDE_PX].astype(np.float64)
        views = np.lib.stride_tricks.sliding_window_view(part, SIDE_PX, axis=1)[:, ::step]
        blocks = views.transpose(1, 0, 2)
        least, most = blocks.min(axis=(1, 2)), blocks.max(axis=(1, 2))
        # one value: black was cut off, or the border of an image that was turned
        is_good = np.isfinite(most - least) & (most > least)
        if ceiling is not None:
            is_good &= most < ceiling
        good = blocks[is_good]
        mean = good.mean(axis=(1, 2))
        level = good - mean[:, None, None]
        means.append(mean)
        empty.append(most == floor)
        lowest.append((good == floor).mean(axis=(1, 2)))
        spectra.append((_COSINES @ level @ _COSINES.T).astype(np.float32))
    lowest_share = np.concatenate(lowest)
    return Blocks(
        np.concatenate(means),
        np.concatenate(spectra),
        float(np.concatenate(empty).mean()),
        float(lowest_share.mean()) if len(lowest_share) else 0.0,
    )


def flattest(blocks: Blocks) -> Points:
    """Brightness by brightness, the mean and the variance of the flattest blocks."""
    power = blocks.spectrum**2
    low = power[:, _LOW].sum(axis=1)
    high = power[:, _HIGH].mean(axis=1, dtype=np.float64)
    count = len(blocks.mean)
    bins = np.clip(count // _BIN_BLOCKS, 1, _MAX_BINS)
    order = np.argsort(blocks.mean, kind="stable")
    flat = []
    for members in np.array_split(order, bins):
        kept = max(_MIN_FLAT_BLOCKS, round(_FLATTEST * len(members)))
        flat.append(members[np.argsort(low[members], kind="stable")[:kept]])
    every = np.concatenate(flat)
    return Points(
        np.array([blocks.mean[members].mean() for members in flat]),
        np.array([high[members].mean() for members in flat]),
        _correlation(blocks.spectrum[every]),
        1 / math.sqrt(len(every) * np.count_nonzero(_HIGH)),
        math.sqrt(2 / (len(flat[0]) * np.count_nonzero(_HIGH))),
    )


def _correlation(spectrum: Float[np.ndarray, "n 8 8"]) -> tuple[float, float]:
    """Of horizontal and of vertical neighbours in the highest frequencies, less white noise's."""
    residual = _COSINES.T @ (spectrum * _HIGH) @ _COSINES
    power = float((residual**2).mean())
    if power == 0:
        return 0.0, 0.0
    across = float((residual[:, :, 1:] * residual[:, :, :-1]).mean()) / power
    down = float((residual[:, 1:] * residual[:, :-1]).mean()) / power
    return across - _WHITE, down - _WHITE

"""Owns what is done to raw pixels before a model sees them: borders, non-finite values, spikes.

Everything here works band by band, so that it needs little memory beyond the image itself, and
commutes with a change of gain and offset.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

_BAND_PX = 2**18  # a float32 copy of a band (1 MiB) stays in a core's cache
_SAMPLE_PX = 2**18  # enough to measure noise
_QUANTILE_PX = 2**16  # enough for quantiles; up to four times as many are taken
_MIN_OUTLIER_PX = 64  # below it "nearly all pixels" means nothing


def reflected(index: Int[np.ndarray, " k"], length: int) -> Int[np.ndarray, " k"]:
    """The places in an axis of `length` that `numpy.pad`'s mode `reflect` reads for `index`.

    Any index is allowed, however far outside; an axis of length 1 repeats its only pixel.
    """
    if length == 1:
        return np.zeros_like(index)
    folded = index % (2 * (length - 1))
    return np.asarray(np.minimum(folded, 2 * (length - 1) - folded))


def mirrored(index: Int[np.ndarray, " k"], length: int) -> Int[np.ndarray, " k"]:
    """The places in an axis of `length` that `numpy.pad`'s mode `symmetric` reads for `index`."""
    folded = index % (2 * length)
    return np.asarray(np.minimum(folded, 2 * length - 1 - folded))


def bands(height: int, width: int) -> Iterator[slice]:
    """Slices of whole rows, each of at most 2^18 pixels or one row, that cover an image."""
    rows = max(1, _BAND_PX // width)
    for start in range(0, height, rows):
        yield slice(start, min(start + rows, height))


def fill_nonfinite(
    pixels: Shaped[np.ndarray, "h w"],
) -> tuple[Shaped[np.ndarray, "h w"], Bool[np.ndarray, "h w"] | None]:
    """The image with NaN and infinities at the median of its finite pixels, and where they were.

    The image itself and None where all are finite, as integers always are. Where none is finite
    they become 0.
    """
    if pixels.dtype.kind != "f" or all(
        np.isfinite(pixels[band]).all() for band in bands(*pixels.shape)
    ):
        return pixels, None
    wrong = ~np.isfinite(pixels)
    finite = pixels[~wrong]
    filled = pixels.copy()
    # A middle pixel rather than the mean of the two: that mean could overflow float16.
    middle = finite.size // 2
    filled[wrong] = np.partition(finite, middle)[middle] if finite.size else 0
    return filled, wrong


def despike(
    pixels: Shaped[np.ndarray, "h w"],
) -> tuple[Shaped[np.ndarray, "h w"], int]:
    """The image with its isolated spikes at the median of their eight neighbours, and the count.

    A spike lies beyond all eight neighbours, by more than four times the neighbours' own range,
    by more than ten robust deviations of the image's noise (1.4826 times the median difference of
    horizontal neighbours, over the square root of 2), and by more than three times what all but
    0.1 % of pixels do: so sharp atoms, which come in numbers, are no spikes. Spikes that touch
    are not found, nor is any in an image one pixel high or wide. Not meant for counting
    detectors at a small fraction of an electron a pixel, where a single count is a spike.

    Args:
      pixels: finite intensities, of any supported type. The image itself is returned where there
        is no spike; it is never changed.
    """
    height, width = pixels.shape
    if min(height, width) < 2:
        return pixels, 0
    bound = _spike_bound(pixels)
    clean, count = pixels, 0
    for band in bands(height, width):
        excess, spread = _excess(pixels, np.arange(band.start, band.stop))
        rows, columns = np.nonzero((excess > 4 * spread) & (excess > bound))
        if not rows.size:
            continue
        if clean is pixels:
            clean = pixels.copy()
        rows += band.start
        around = [
            pixels[reflected(rows + down, height), reflected(columns + right, width)]
            for down, right in _NEIGHBOURS
        ]
        # The lower of the two middle ones is a pixel's own value, exact in any type.
        clean[rows, columns] = np.sort(np.stack(around), axis=0)[3]
        count += rows.size
    return clean, count


_NEIGHBOURS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]


def _excess(
    pixels: Shaped[np.ndarray, "h w"], rows: Int[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, "k w"], Float[np.ndarray, "k w"]]:
    """How far pixels of `rows` lie beyond their eight neighbours (> 0), and those's range."""
    height, width = pixels.shape
    columns = np.arange(width)
    window = np.stack([pixels[reflected(rows + i, height)] for i in (-1, 0, 1)]).astype(np.float64)
    shifted = {j: window[:, :, reflected(columns + j, width)] for j in (-1, 1)} | {0: window}
    highest = np.full(window.shape[1:], -np.inf)
    lowest = np.full(window.shape[1:], np.inf)
    for i, j in _NEIGHBOURS:
        np.maximum(highest, shifted[j][i + 1], out=highest)
        np.minimum(lowest, shifted[j][i + 1], out=lowest)
    return np.maximum(window[1] - highest, lowest - window[1]), highest - lowest


def _spike_bound(pixels: Shaped[np.ndarray, "h w"]) -> float:
    """The least excess of a spike, from rows spread evenly over the image."""
    height, width = pixels.shape
    step = -(-height * width // _SAMPLE_PX)
    rows = np.arange(0, height, step)
    noise = np.median(np.abs(np.diff(pixels[rows].astype(np.float64), axis=1))) * 1.4826 / 2**0.5
    excess = np.maximum(_excess(pixels, rows)[0], 0).reshape(-1)
    place = int(0.999 * (excess.size - 1))
    return max(10 * float(noise), 3 * float(np.partition(excess, place)[place]))


def outlier_warning(pixels: Shaped[np.ndarray, "h w"], low: float, high: float) -> str | None:
    """One line where the minimum or maximum lies far outside the rest, which rescales an image.

    Far is more than three times the range between the 0.01 % and 99.99 % quantiles beyond it.
    The quantiles are those of at most about 300 000 pixels, evenly spaced; images of fewer
    than 64 pixels are never warned of.

    Args:
      pixels: finite intensities.
      low: their minimum.
      high: their maximum.
    """
    if pixels.size < _MIN_OUTLIER_PX:
        return None
    step = max(1, int((pixels.size / _QUANTILE_PX) ** 0.5))
    sample = pixels[::step, ::step].reshape(-1)
    # Taken inwards: a quantile between two pixels would be moved by the very outlier sought.
    first, last = int(np.ceil(1e-4 * (sample.size - 1))), int(0.9999 * (sample.size - 1))
    ordered = np.partition(sample, (first, last))
    bottom, top = float(ordered[first]), float(ordered[last])
    far = 3 * (top - bottom)
    ends = [f"minimum {low:g}"] if low < bottom - far else []
    ends += [f"maximum {high:g}"] if high > top + far else []
    if not ends:
        return None
    return (
        f"{' and '.join(ends)} far outside the rest, {bottom:g} to {top:g}: "
        "it scales the whole image; despike if it is a hot or dead pixel"
    )

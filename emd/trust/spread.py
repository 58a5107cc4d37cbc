"""The error of a restoration, pixel by pixel, as far as one image and its model tell of it.

Most networks restore a turned or flipped image a little differently: the spread over the square's
eight symmetries measures their error. Kernels, whose weights are tied over them, have none; of them
it is only known what they let through of the noise: for a kernel w a standard deviation of
sigma sqrt(sum w^2). Neither sees what all restorations have in common, as blur. One factor a family
brings the measure to the true error of simulated scenes. (Spread and noise added as variances
followed the true error less well than the spread alone.)

Source: Wang et al., "Aleatoric uncertainty estimation with test-time augmentation for medical image
segmentation with convolutional neural networks" (Neurocomputing 338, 2019), for the spread over
transformed copies.
Deviation: a regression's standard deviation, calibrated, in place of a segmentation's entropy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from scipy import ndimage

from emd.apply import over_image
from emd.checkpoint import Model
from emd.data.intensity import prepare
from emd.data.normalise import normalise
from emd.noise import Noise
from emd.trust.reference import Calibration, calibration

LARGEST_PX = 1024
"""Side of the part of an image, its middle, that a map is made of."""

WINDOW_PX = 9
"""Side of the squares over which a map is averaged."""

_DRAWS = 4
_SEED = 0  # the same image gives the same map
_NONE = 1e-3  # of what was taken out: the spread of rounding alone is a thousandth of that


class ErrorMap(NamedTuple):
    """The standard error of a restoration, as estimated.

    Attributes:
      std: in counts, of the middle of the image.
      by: "symmetries", or "noise" where all eight give the same.
      calibration: what it was multiplied with, and how well that holds; None where the family was
        not calibrated by this measure, and the map is as measured.
    """

    std: Float[np.ndarray, "i j"]
    by: str
    calibration: Calibration | None


def middle(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The part of an image that a map is made of."""
    sides = [(length, min(length, LARGEST_PX)) for length in shape[-2:]]
    rows, columns = (slice((n - k) // 2, (n - k) // 2 + k) for n, k in sides)
    return rows, columns


def error_map(
    pixels: Shaped[np.ndarray, "h w"], model: Model, noise: Noise, *, tile_px: int | None = None
) -> ErrorMap | None:
    """The map of an image's restoration; None where its noise would have to be known, and is not.

    Args:
      pixels: as given to `emd.restore.restore`, in counts; the scale is that of the whole image.
      model: as `emd.checkpoint.load` gives it; no ensemble, which has no spread.
      noise: of the image, as `emd.noise.estimate` finds it.
      tile_px: as of `emd.restore.restore`; here and below.
    """
    by, std = measure(pixels, model, noise, tile_px=tile_px)
    if std is None:
        return None
    known = calibration(model.config)
    if known is None or known.by != by:
        return ErrorMap(std, by, None)
    return ErrorMap(known.factor * std, by, known)


def measure(
    pixels: Shaped[np.ndarray, "h w"], model: Model, noise: Noise, *, tile_px: int | None = None
) -> tuple[str, Float[np.ndarray, "i j"] | None]:
    """By what the error of a restoration shows, and the map as measured, in counts."""
    frame = prepare(pixels, spikes=False)
    part = frame.pixels[middle(frame.pixels.shape)]
    x = normalise(part.astype(np.float64), frame.scale).astype(np.float32)
    mean = float(frame.scale.mean)
    std, taken = spread(model, x, tile_px=tile_px)
    if np.sqrt(np.mean(std**2)) > _NONE * taken:
        return "symmetries", mean * smoothed(std)
    if noise.std is None:
        return "noise", None
    through = passed(model, x, noise_map(part, noise) / (mean or 1.0), tile_px=tile_px)
    return "noise", mean * smoothed(through)


def spread(
    model: Model, x: Float[np.ndarray, "h w"], *, tile_px: int | None = None
) -> tuple[Float[np.ndarray, "h w"], float]:
    """The standard deviation of eight restorations, and of what was taken out, over all pixels.

    Each is of the normalised image turned or flipped, and turned back.
    """
    first = total = square = np.zeros(0)
    for number in range(8):
        given = np.ascontiguousarray(turned(x, number))
        made = over_image(model, given, tile_px=tile_px)
        restored = turned_back(made, number).astype(np.float64)
        if not number:
            first, total, square = restored, np.zeros(x.shape), np.zeros(x.shape)
        total += restored - first
        square += (restored - first) ** 2
    std = np.sqrt(np.maximum(square / 8 - (total / 8) ** 2, 0.0))
    return std, float(np.std(first + total / 8 - x))


def turned(x: Shaped[np.ndarray, "h w"], number: int) -> Shaped[np.ndarray, "i j"]:
    """An image under one of the square's eight symmetries."""
    return np.rot90(x.T if number >= 4 else x, number % 4)


def turned_back(x: Shaped[np.ndarray, "i j"], number: int) -> Shaped[np.ndarray, "h w"]:
    """What `turned` turned."""
    back = np.rot90(x, -(number % 4))
    return back.T if number >= 4 else back


def passed(
    model: Model,
    x: Float[np.ndarray, "h w"],
    noise_std: Float[np.ndarray, "h w"],
    *,
    tile_px: int | None = None,
) -> Float[np.ndarray, "h w"]:
    """What a model lets through of white noise of a standard deviation, in the units of the image.

    Noise is added to the image and taken from it, and half the difference of the restorations is
    what came through; over four draws, so that its average over a window is near the truth.
    """
    random = np.random.default_rng(_SEED)
    total = np.zeros(x.shape)
    for _ in range(_DRAWS):
        added = (noise_std * random.standard_normal(x.shape)).astype(np.float32)
        above, below = (over_image(model, y, tile_px=tile_px) for y in (x + added, x - added))
        total += (above.astype(np.float64) - below) ** 2
    return np.sqrt(total / (4 * _DRAWS))


def noise_map(pixels: Shaped[np.ndarray, "h w"], noise: Noise) -> Float[np.ndarray, "h w"]:
    """The standard deviation of the noise at each pixel, in counts: larger where it is brighter.

    Raises:
      ValueError: the noise is not known.
    """
    if noise.std is None:
        raise ValueError("the image does not tell of its noise: give its standard deviation")
    if noise.gain is None or noise.offset is None:
        return np.full(pixels.shape, noise.std)
    bright = ndimage.uniform_filter(pixels.astype(np.float64), WINDOW_PX, mode="reflect")
    return np.sqrt(noise.gain * np.maximum(bright - noise.offset, 0.0))


def smoothed(std: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Root mean squares over windows, whose border is reflected."""
    mean = ndimage.uniform_filter(np.square(std), WINDOW_PX, mode="reflect")
    return np.sqrt(np.maximum(mean, 0.0))

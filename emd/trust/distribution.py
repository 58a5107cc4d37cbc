"""Whether an image is of the kind that a model, and all that is known of it, was tested on.

Statistics of the image, and of its latents where the model is an autoencoder, against those of the
simulated scenes of its domain, or of those alone that it learnt, at all doses, diffraction patterns
apart. All are the same for a x + b, a > 0. A flag says that the image is unlike these scenes, not
what is wrong: real micrographs of blurred or filtered noise are flagged too, and rightly so, since
neither error maps nor scores were calibrated on such.

Source: Lee et al., "A simple unified framework for detecting out-of-distribution samples and
adversarial attacks" (NeurIPS 2018), for Mahalanobis's distance.
Deviation: means and deviations over an image in place of class scores; one Gaussian a domain.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from emd.checkpoint import Model
from emd.data.pixels import fill_nonfinite
from emd.restore import encode
from emd.trust.reference import Known, known_images, known_latents
from emd.trust.spread import middle

LEAST_PX = 64
"""Smallest side of an image that is judged."""

_TILE_PX, _TILES = 128, 6  # a tile's side; how many a side at most
_RINGS = (0.0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 3 / 8, 0.71)  # cycles a pixel
_BLOCK_PX = 8
_STATISTICS = (
    *("contrast above the darkest pixels", "skewness", "kurtosis", "middle of the histogram"),
    *("its dark tail", "its bright tail", "its brightest pixels", "equal neighbours"),
    *(f"power from {low:.3g} to {high:.3g} cycles a pixel" for low, high in pairwise(_RINGS)),
    *("coarse lines along the axes", "coarse periods"),
    *("fine lines along the axes", "fine periods"),
    *("the flattest parts", "the median part", "the roughest parts"),
)


class Judgement(NamedTuple):
    """How far an image lies from the known ones.

    Attributes:
      what: whose statistics: "image" or "latents".
      distance: about 1 for known images.
      bound: what one in a hundred known images exceeds.
      most: the statistic that is farthest off, and by how many standard deviations.
    """

    what: str
    distance: float
    bound: float
    most: tuple[str, float]

    @property
    def is_beyond(self) -> bool:
        """Whether the image is unlike the known ones."""
        return self.distance > self.bound


def judge(
    pixels: Shaped[np.ndarray, "h w"], model: Model, *, tile_px: int | None = None
) -> list[Judgement]:
    """The judgements that there are on an image; none where it is too small, or nothing is known.

    Of a large image its middle is judged by latents, and the whole by tiles evenly spread over it.
    `tile_px` is as of `emd.restore.encode`.
    """
    if min(pixels.shape) < LEAST_PX:
        return []
    found = []
    if (known := known_images(model.config)) is not None:
        found.append(_judged("image", statistics(pixels), known, _STATISTICS))
    if (known := known_latents(model)) is not None:
        depth = model.config.size
        names = [f"{of} of channel {k}" for of in ("mean", "deviation") for k in range(depth)]
        of_latents = latent_statistics(pixels, model, tile_px=tile_px)
        found.append(_judged("latents", of_latents, known, names))
    return found


def _judged(
    what: str, found: Float[np.ndarray, " d"], known: Known, names: tuple[str, ...] | list[str]
) -> Judgement:
    off = (found - known.mean) / known.deviation
    worst = int(np.argmax(np.abs(off)))
    return Judgement(what, known.distance(found), known.bound, (names[worst], float(off[worst])))


def latent_statistics(
    pixels: Shaped[np.ndarray, "h w"], model: Model, *, tile_px: int | None = None
) -> Float[np.ndarray, " d"]:
    """The mean and the deviation of each channel of an autoencoder's latents."""
    part = pixels[middle(pixels.shape)]
    latent = encode(part, model, tile_px=tile_px).latent[1:-1, 1:-1].astype(np.float64)
    return np.concatenate([latent.mean((0, 1)), latent.std((0, 1))])


def statistics(pixels: Shaped[np.ndarray, "h w"]) -> Float[np.ndarray, " d"]:
    """Shape of the histogram, power at each spatial frequency, and how rough its parts are.

    From at most 36 tiles of 128 pixels a side, evenly spread; non-finite pixels as the median.
    """
    filled, _ = fill_nonfinite(pixels)
    tiles = np.stack([filled[part] for part in _parts(filled.shape)]).astype(np.float64)
    tiles -= tiles.mean()
    tiles /= float(tiles.std()) or 1.0
    found = [*_histogram(tiles), *_power(tiles), *_roughness(tiles)]
    return np.array(found)


def _parts(shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    sides = []
    for length in shape:
        tile = min(length, _TILE_PX)
        count = min(_TILES, max(1, 2 * length // tile - 1))
        starts = np.linspace(0, length - tile, count).round().astype(int)
        sides.append([slice(start, start + tile) for start in starts])
    return [(rows, columns) for rows in sides[0] for columns in sides[1]]


def _histogram(tiles: Float[np.ndarray, "n h w"]) -> list[float]:
    """Of intensities of mean 0 and deviation 1."""
    least, dark, low, half, high, bright, most = np.quantile(
        tiles, [0.001, 0.01, 0.05, 0.5, 0.95, 0.99, 0.999]
    )
    span = max(high - low, 1e-9)
    equal = np.mean(tiles[..., 1:] == tiles[..., :-1])
    return [
        -np.log(max(-least, 1e-6)),
        np.arcsinh(np.mean(tiles**3)),
        np.log(np.mean(tiles**4) + 1e-3),
        (half - low) / span,
        np.log(0.01 + (low - dark) / span),
        np.log(0.01 + (bright - high) / span),
        np.log(0.01 + (most - bright) / span),
        np.log(0.003 + equal),
    ]


def _power(tiles: Float[np.ndarray, "n h w"]) -> list[float]:
    """Shares of rings of frequencies, and of axes and peaks in two of them."""
    height, width = tiles.shape[1:]
    soft = np.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in (height, width)))
    centred = (tiles - tiles.mean((1, 2), keepdims=True)) * soft
    power = np.mean(np.abs(np.fft.fft2(centred)) ** 2, axis=0)
    power = np.maximum(power, 1e-10 * power.mean() + 1e-300)
    down, across = np.abs(np.fft.fftfreq(height))[:, None], np.abs(np.fft.fftfreq(width))[None]
    ring = np.digitize(np.hypot(down, across), _RINGS) - 1
    on_axis = (down < 1.5 / height) | (across < 1.5 / width)
    found = [np.log(power[ring == k].mean() / power.mean()) for k in range(len(_RINGS) - 1)]
    for k in (2, 4):
        mean = power[ring == k].mean()
        found.append(np.log(power[(ring == k) & on_axis].mean() / mean))
        found.append(np.log(power[ring == k].max() / mean))
    return found


def _roughness(tiles: Float[np.ndarray, "n h w"]) -> list[float]:
    """Of the deviations within small blocks: the smallest, the median, the largest."""
    height, width = (length // _BLOCK_PX for length in tiles.shape[1:])
    cut = tiles[:, : height * _BLOCK_PX, : width * _BLOCK_PX]
    blocks = cut.reshape(len(tiles), height, _BLOCK_PX, width, _BLOCK_PX).std((2, 4))
    return [float(np.log(0.01 + value)) for value in np.quantile(blocks, [0.05, 0.5, 0.95])]

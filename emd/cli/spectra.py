"""Owns power spectra of an image, or of what was taken from it, and the panel that shows both."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

_TILE_PX = 256
_MAX_TILES = 8  # a side
_BEFORE, _RESIDUAL, _NOISE = "#000000", "#D55E00", "#0072B2"  # the colours differ for all eyes


def spectrum(
    before: Shaped[np.ndarray, "h w"], after: Shaped[np.ndarray, "h w"] | None
) -> Float[np.ndarray, "k l"]:
    """Power a frequency of the first image, less the second: a mean over tiles with soft edges.

    Scaled so that white noise has its variance everywhere.
    """
    height, width = before.shape
    rows, columns = min(height, _TILE_PX), min(width, _TILE_PX)
    soft = np.outer(_window(rows), _window(columns))
    total = np.zeros((rows, columns))
    places = [(top, left) for top in _places(height, rows) for left in _places(width, columns)]
    for top, left in places:
        part = slice(top, top + rows), slice(left, left + columns)
        tile = before[part].astype(np.float64)
        if after is not None:
            with np.errstate(invalid="ignore"):  # infinity less infinity
                tile = tile - after[part]
        is_finite = np.isfinite(tile)
        mean = tile[is_finite].mean() if is_finite.any() else 0.0
        tile = np.where(is_finite, tile - mean, 0.0)
        total += np.abs(np.fft.fft2(tile * soft)) ** 2
    return np.fft.fftshift(total) / (len(places) * (soft**2).sum())


def _window(length: int) -> Float[np.ndarray, " n"]:
    """Hann's, without the zeros at its ends."""
    return np.asarray(np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2)


def _places(length: int, tile: int) -> list[int]:
    """Where tiles begin that overlap by about half, evenly spread."""
    count = min(_MAX_TILES, 2 * -(-length // tile) - 1)
    return [round(place) for place in np.linspace(0, length - tile, count)]


def profile(
    power: Float[np.ndarray, "h w"],
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Frequencies below 0.5 [cycles a pixel], and the mean power over all directions at each."""
    height, width = power.shape
    down, across = (np.fft.fftshift(np.fft.fftfreq(size)) for size in (height, width))
    frequency = np.hypot(down[:, None], across[None, :])
    count = max(2, max(height, width) // 4)
    place = np.minimum((frequency * 2 * count).astype(np.int64), count)
    sums = np.bincount(place.ravel(), power.ravel(), count + 1)[:count]
    members = np.bincount(place.ravel(), minlength=count + 1)[:count]
    is_there = members > 0
    middle = (np.arange(count) + 0.5) / (2 * count)
    mean = sums[is_there] / members[is_there]
    return middle[is_there], np.maximum(mean, 1e-12 * max(float(power.max()), 1e-300))


def logarithm(power: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The logarithm of a power, of which nothing is 0."""
    least = 1e-12 * float(power.max())
    return np.log10(np.maximum(power, least if least > 0 else 1.0))


def draw_profiles(
    panel: Any,
    before: Float[np.ndarray, "h w"],
    residual: Float[np.ndarray, "h w"],
    noise: float | None = None,
) -> None:
    """Both powers as functions of the frequency alone; `noise` is a standard deviation, a line."""
    for power, name, colour, dashes in (
        (before, "before", _BEFORE, "-"),
        (residual, "residual", _RESIDUAL, (0, (4, 1))),
    ):
        panel.semilogy(*profile(power), color=colour, linestyle=dashes, lw=1.5, label=name)
    if noise:
        panel.axhline(noise**2, color=_NOISE, lw=1, ls=":", label="noise by the image")
    panel.set(
        title="power, all directions (white noise is flat)",
        xlabel="cycles a pixel",
        ylabel="power [counts²]",
        xlim=(0, 0.5),
    )
    panel.legend(frameon=False)
    panel.grid(alpha=0.3)

"""Owns what may be asked of a stream: how good, how small, by which model."""

from __future__ import annotations

import math
from typing import NamedTuple

LAPPED = "lapped"
"""The transform that lossy streams are made by unless another is named."""


class Settings(NamedTuple):
    """How to compress; of lossless, max_error, quality, bpp and psnr at most one.

    With none of them the stream is visually lossless: errors are half the image's own noise, in at
    most 1.5 bits a pixel.

    Attributes:
      lossless: every pixel comes back as it was.
      max_error: no pixel is off by more, in counts.
      quality: from 0 to 100: ten more, and errors are about half as large.
      bpp: bits a pixel of the whole file, at most.
      psnr: dB to the first frame given, at least, its range from its darkest to its brightest.
      model: what turns pixels into numbers, in lossy streams: "lapped", the default, or an
        autoencoder by name, as "temstem_latent16".
      denoise: a model's name, or "fit", that restores each frame first.
    """

    lossless: bool = False
    max_error: float | None = None
    quality: float | None = None
    bpp: float | None = None
    psnr: float | None = None
    model: str | None = None
    denoise: str | None = None

    @property
    def is_exact(self) -> bool:
        """Whether each pixel's error is bounded."""
        return self.lossless or self.max_error is not None


def check(settings: Settings) -> None:
    """Nothing.

    Raises:
      ValueError: settings that make no sense.
    """
    asked = [
        name
        for name in ("lossless", "max_error", "quality", "bpp", "psnr")
        if getattr(settings, name) is not None and getattr(settings, name) is not False
    ]
    if len(asked) > 1:
        raise ValueError(f"{' and '.join(asked)} exclude one another: ask for one of them")
    for name in asked[: not settings.lossless]:
        value = float(getattr(settings, name))
        low, high = (0, 100) if name == "quality" else (0, math.inf)
        is_open = name in ("bpp", "psnr") and value == 0
        if not low <= value <= high or value == math.inf or is_open:
            least = "of at least 0" if name == "max_error" else "above 0"
            bounds = "from 0 to 100" if name == "quality" else f"a finite number {least}"
            raise ValueError(f"{name} {value:g}: give {bounds}")
    if settings.is_exact and settings.model is not None:
        raise ValueError(f"{asked[0]} takes no model, and {settings.model} was given: leave it out")

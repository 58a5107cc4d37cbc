"""Our codec as one more curve: rates are asked for, and whole streams counted and decoded."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from emd import codec
from emd.data.micrograph import Micrograph
from experiments.rate_distortion.images import Image
from experiments.rate_distortion.scaling import onto
from experiments.rate_distortion.scores import Point, score

Pixels = Shaped[np.ndarray, "h w"]

RATES = (0.015, 0.03, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5)
"""Bits a pixel that are asked for."""


class Variant(NamedTuple):
    """A way to use our codec.

    Attributes:
      name: in tables and files.
      how: its settings, in a line.
      settings: of `emd.codec.Settings`, but for the rate.
      needs_truth: whether it aims at the truth, which only simulated images have.
    """

    name: str
    how: str
    settings: dict[str, Any]
    needs_truth: bool = False


VARIANTS = (
    Variant("lapped", "`emd compress --bpp`", {}),
    Variant(
        "lapped denoised",
        "the same with `--denoise fit`: a kernel fitted to the image restores it first",
        {"denoise": "fit"},
        needs_truth=True,
    ),
    Variant(
        "temstem_latent16",
        "`emd compress --model temstem_latent16 --bpp`",
        {"model": "temstem_latent16"},
    ),
)
LOSSLESS = "emd lossless"


def curve(variant: Variant, image: Image) -> list[Point]:
    """Return the points of a variant's curve on an image.

    It is given the same 16 bits over the image's range as the other codecs, since few counts hold
    no restored image: rounded to them it would be up to 8 dB further from the truth. Rates that
    it refuses as out of its reach are left out.

    Raises:
        ValueError: it refuses all of them.
    """
    scaling = onto(image.pixels, 65535, "uint16")
    scaled = scaling.forth(image.pixels)
    points, refusal = [], ""
    for bpp in RATES:
        try:
            stream = _compress(scaled, {**variant.settings, "bpp": bpp})
        except ValueError as error:
            refusal = str(error)
            continue
        decoded = scaling.back(_decompress(stream))
        points.append(score(decoded, image.pixels, image.clean, control=bpp, size=len(stream)))
    if not points:
        raise ValueError(f"{image.name}: {variant.name} refuses all rates: {refusal}")
    return points


def encode(variant: Variant, pixels: Pixels, bpp: float) -> bytes:
    """Return the stream of an image at a rate."""
    return _compress(pixels, {**variant.settings, "bpp": bpp})


def encode_lossless(pixels: Pixels) -> bytes:
    """Return the stream of an image that gives it back exactly."""
    return _compress(pixels, {"lossless": True})


def decode(stream: bytes) -> Pixels:
    """Return the image of a stream."""
    return _decompress(stream)


def _compress(pixels: Pixels, settings: dict[str, Any]) -> bytes:
    return codec.compress(Micrograph(pixels), codec.Settings(**settings))


def _decompress(stream: bytes) -> Pixels:
    return codec.decompress(stream).pixels

"""Our codec as one more curve: whole streams at qualities from 0 to 100, counted and decoded."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from emd import codec
from emd.data.micrograph import Micrograph
from experiments.rate_distortion.images import Image
from experiments.rate_distortion.restored import may_denoise
from experiments.rate_distortion.scaling import onto
from experiments.rate_distortion.scores import Point, score
from experiments.rate_distortion.sweep import Span, sweep

Pixels = Shaped[np.ndarray, "h w"]


class Variant(NamedTuple):
    """A way to use our codec.

    Attributes:
      name: in tables and files.
      how: its settings, in a line.
      settings: of `emd.codec.Settings`, but for the quality.
      needs_truth: whether it aims at the truth, which only simulated images have.
    """

    name: str
    how: str
    settings: dict[str, Any]
    needs_truth: bool = False


VARIANTS = (
    Variant("lapped", "`emd compress`", {}),
    Variant(
        "lapped denoised",
        "the same with `--denoise fit`: a kernel fitted to the image restores it first",
        {"denoise": "fit"},
        needs_truth=True,
    ),
    Variant(
        "temstem_latent16",
        "`emd compress --model temstem_latent16`",
        {"model": "temstem_latent16"},
    ),
)
LOSSLESS = "emd lossless"

_QUALITIES = Span(0, 100)


def curve(variant: Variant, image: Image, *, points: int) -> list[Point]:
    """Return about so many points of a variant on an image.

    It is given the same 16 bits over the image's range as the other codecs, since few counts hold
    no restored image: rounded to them it would be up to 8 dB further from the truth.
    """
    scaling = onto(image.pixels, 65535, "uint16")
    scaled = scaling.forth(image.pixels)
    fitting = suited(variant, scaled)

    def measure(quality: float) -> Point:
        stream = encode(fitting, scaled, quality)
        decoded = scaling.back(decode(stream))
        return score(decoded, image.pixels, image.clean, control=quality, size=len(stream))

    return sweep(measure, _QUALITIES, count=points)


def suited(variant: Variant, pixels: Pixels) -> Variant:
    """Return the variant, without its denoiser for an image that this would harm.

    As others' images are then left as they are, too.
    """
    if "denoise" not in variant.settings or may_denoise(pixels):
        return variant
    return variant._replace(settings={k: v for k, v in variant.settings.items() if k != "denoise"})


def encode(variant: Variant, pixels: Pixels, quality: float) -> bytes:
    """Return the stream of an image at a quality from 0 to 100."""
    return _compress(pixels, {**variant.settings, "quality": quality})


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

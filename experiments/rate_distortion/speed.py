"""How fast codecs encode and decode: one simulated image, the median of several runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.evaluate.rows import Row
from experiments.rate_distortion import lossless, ours, rivals
from experiments.rate_distortion.images import Image
from experiments.rate_distortion.scaling import onto
from experiments.rate_distortion.scores import Point

AIM_BPP = 0.5
"""The rate at which codecs with loss are timed, or the nearest that they reach."""

_TRIES = 12  # to come near it


def lossy(rival: rivals.Rival, image: Image, *, repeats: int) -> Row:
    """Return how fast another codec is near `AIM_BPP`."""
    scaled = onto(image.pixels, rival.top, rival.dtype).forth(image.pixels)
    control = _near(rivals.curve(rival, image, image.pixels, points=_TRIES))
    return _row(
        rival.name, "no", image, lambda: rival.encode(scaled, control),
        lambda file: rival.decode(file, scaled.shape), repeats,
    )  # fmt: skip


def of_ours(variant: ours.Variant, image: Image, *, repeats: int) -> Row:
    """Return how fast ours is near `AIM_BPP`."""
    scaled = onto(image.pixels, 65535, "uint16").forth(image.pixels)
    quality = _near(ours.curve(variant, image, points=_TRIES))
    fitting = ours.suited(variant, scaled)
    return _row(
        variant.name, "no", image, lambda: ours.encode(fitting, scaled, quality), ours.decode,
        repeats,
    )  # fmt: skip


def _near(points: Sequence[Point]) -> float:
    """The control whose rate is nearest."""
    return min(points, key=lambda point: abs(np.log(point.bpp / AIM_BPP))).control


def without_loss(codec: lossless.Codec, image: Image, *, repeats: int) -> Row:
    """Return how fast a codec without loss is."""
    pixels = lossless.narrowest(image.pixels)
    return _row(
        codec.name, "yes", image, lambda: codec.encode(pixels),
        lambda file: codec.decode(file, pixels), repeats,
    )  # fmt: skip


def _row(
    name: str,
    is_lossless: str,
    image: Image,
    encode: Callable[[], bytes],
    decode: Callable[[bytes], Any],
    repeats: int,
) -> Row:
    file = encode()
    decode(file)  # what is compiled or loaded at first use is no part of it
    size = image.pixels.nbytes / 1e6
    return {
        "codec": name,
        "lossless": is_lossless,
        "bpp": 8 * len(file) / image.pixels.size,
        "encode_mb_s": size / _median(encode, repeats),
        "decode_mb_s": size / _median(lambda: decode(file), repeats),
    }


def _median(run: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)

"""What each codec makes of each image: points of curves, sizes without loss, and speeds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from tqdm import tqdm

from experiments.evaluate.rows import Row
from experiments.rate_distortion import cache, lossless, ours, records, restored, rivals, speed
from experiments.rate_distortion.images import Image
from experiments.rate_distortion.scaling import as_integers
from experiments.rate_distortion.scores import Point
from experiments.rate_distortion.sweep import LEAST_BPP, MOST_BPP

Measure = Callable[[Image], Sequence[Point]]
Pixels = Shaped[np.ndarray, "h w"]


def lossy(folder: Path, *, points: int) -> dict[str, Measure]:
    """Return what measures the points of each codec with loss on an image, by the codec's name.

    It gives none on images that a codec is not compared on. What others make is kept in a folder.

    Raises:
        ValueError: `imagecodecs` is not installed.
    """
    known = {rival.name: rival for rival in rivals.rivals()}
    measures: dict[str, Measure] = {}
    for name, rival in known.items():
        measures[name] = functools.partial(_plain, rival, folder, points)
    for name in restored.CODECS:
        measures[name + restored.SUFFIX] = functools.partial(
            _after_denoising, known[name], folder, points
        )
    for variant in ours.VARIANTS:
        # slower, and without the other's jumps: fewer points tell as much
        measures[variant.name] = functools.partial(_own, variant, 2 * points // 3)
    return measures


def _plain(rival: rivals.Rival, folder: Path, points: int, image: Image) -> Sequence[Point]:
    return _kept(rival, folder, points, image, image.pixels)


def _after_denoising(
    rival: rivals.Rival, folder: Path, points: int, image: Image
) -> Sequence[Point]:
    if image.clean is None:
        return []
    return _kept(rival, folder, points, image, restored.restored(image))


def _own(variant: ours.Variant, points: int, image: Image) -> Sequence[Point]:
    if variant.needs_truth and image.clean is None:
        return []
    return ours.curve(variant, image, points=points)


def _kept(
    rival: rivals.Rival, folder: Path, points: int, image: Image, given: Pixels
) -> Sequence[Point]:
    name = cache.key(
        image, given, rival.name, rival.how, rival.version, rival.spans, points,
        LEAST_BPP, MOST_BPP,
    )  # fmt: skip
    made = cache.through(
        folder, name, lambda: [list(p) for p in rivals.curve(rival, image, given, points=points)]
    )
    return [Point(*row) for row in made]  # type: ignore[arg-type]  # as `Point` was written


def points(seen: Sequence[Image], measures: dict[str, Measure]) -> list[Row]:
    """Return a row for each point of each codec on each image.

    Images of floats become 16 bits over their range, for all codecs alike.
    """
    made: list[Row] = []
    for image in tqdm(seen, unit="image", desc="with loss"):
        whole = image._replace(pixels=as_integers(image.pixels))
        for name, measure in measures.items():
            made += records.rows(whole, name, measure(whole))
    return made


def sizes(seen: Sequence[Image], codecs: Sequence[lossless.Codec], folder: Path) -> list[Row]:
    """Return a row for each codec without loss and each image that it can hold.

    Raises:
        ArithmeticError: one does not give an image back exactly.
    """
    made: list[Row] = []
    for image in tqdm(seen, unit="image", desc="without loss"):
        for codec in codecs:
            bpp = _size(codec, image, folder)
            if bpp is not None:
                row = records.facts(image)
                row |= {"dtype": str(image.pixels.dtype), "codec": codec.name, "bpp": bpp}
                made.append(row)
    return made


def _size(codec: lossless.Codec, image: Image, folder: Path) -> float | None:
    if codec.is_ours:
        return lossless.size(codec, image)
    name = cache.key(image, image.pixels, "lossless", codec.name, codec.how, codec.version)
    return cache.through(folder, name, lambda: [[lossless.size(codec, image)]])[0][0]


def speeds(
    image: Image, wanted: Collection[str], exact: Sequence[lossless.Codec], *, repeats: int
) -> list[Row]:
    """Return a row for each codec of these names."""
    made = [
        speed.lossy(rival, image, repeats=repeats)
        for rival in rivals.rivals()
        if rival.name in wanted
    ]
    made += [
        speed.of_ours(variant, image, repeats=repeats)
        for variant in ours.VARIANTS
        if variant.name in wanted
    ]
    return made + [speed.without_loss(codec, image, repeats=repeats) for codec in exact]

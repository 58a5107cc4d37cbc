"""Points of other people's codecs, kept: they change with neither our code nor our weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from experiments.rate_distortion.images import Image

Rows = list[list[float | None]]


def key(image: Image, given: Shaped[np.ndarray, "h w"], *facts: object) -> str:
    """Return a name for what follows from an image, what a codec is given of it, and facts."""
    seen = hashlib.sha256(repr(facts).encode())
    for pixels in (image.pixels, image.clean, given):
        if pixels is not None:
            seen.update(f"{pixels.shape}{pixels.dtype}".encode())
            seen.update(np.ascontiguousarray(pixels).tobytes())
    return seen.hexdigest()[:24]


def through(folder: Path, name: str, make: Callable[[], Rows]) -> Rows:
    """Return rows of numbers from the file of that name, made and written if it is not there."""
    path = folder / f"{name}.json"
    if path.is_file():
        kept: Rows = json.loads(path.read_text())
        return kept
    made = make()
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(made))
    partial.replace(path)
    return made

"""The images that codecs are compared on: held-out micrographs, and simulated ones with a truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Shaped

from emd.data import micrograph, simulate

DOMAINS = ("tem", "stem")
DOSES = (2.0, 10.0, 50.0, 200.0)
"""Mean counts a pixel of the simulated images."""

_SEED = 620_001  # of no training run
# The names of near-identical files begin alike: of each such set so many are taken.
_ALIKE = {"warwickmicroscopy__GaAs_": 2}


class Image(NamedTuple):
    """An image to be coded.

    Attributes:
      name: of its file below the data's folder, or of its scene.
      domain: "tem" or "stem".
      is_real: whether it was taken rather than simulated.
      pixels: as its file holds them.
      clean: the expected counts of a simulated one.
      dose: mean counts a pixel of a simulated one.
    """

    name: str
    domain: str
    is_real: bool
    pixels: Shaped[np.ndarray, "h w"]
    clean: Float[np.ndarray, "h w"] | None = None
    dose: float | None = None


def real(folder: Path, *, side_px: int) -> list[Image]:
    """Return the micrographs below ``eval/tem`` and ``eval/stem``, of stacks the first frame.

    Of larger ones the middle, with sides of ``side_px``.

    Raises:
        FileNotFoundError: there are none.
        FormatError: one of them cannot be read.
    """
    found = []
    for domain in DOMAINS:
        for path in thinned(micrograph.find(folder / "eval" / domain)):
            given = micrograph.read(path).pixels
            frame = given if given.ndim == 2 else given[0]
            name = path.relative_to(folder).as_posix()
            found.append(Image(name, domain, True, middle(frame, side_px)))
    return found


def thinned(paths: Sequence[Path]) -> list[Path]:
    """Return the paths without all but a few of those that show nearly the same."""
    left = dict(_ALIKE)
    kept = []
    for path in paths:
        alike = next((start for start in left if path.name.startswith(start)), None)
        if alike is None:
            kept.append(path)
        elif left[alike] > 0:
            left[alike] -= 1
            kept.append(path)
    return kept


def middle(pixels: Shaped[np.ndarray, "h w"], side_px: int) -> Shaped[np.ndarray, "a b"]:
    """Return the middle of an image, at most ``side_px`` high and wide."""
    cuts = []
    for side in pixels.shape:
        start = max(0, side - side_px) // 2
        cuts.append(slice(start, start + min(side, side_px)))
    return np.ascontiguousarray(pixels[tuple(cuts)])


def simulated(*, side_px: int, scenes: int, doses: Sequence[float] = DOSES) -> list[Image]:
    """Return so many scenes of each domain at each dose, as whole counts in uint16.

    Kinds of scene take turns; diffraction, whose spots are the sharpest there are, is left out.
    """
    drawn: list[Image] = []
    for domain in DOMAINS:
        kinds = {kind.__name__: kind for kind, _, _ in simulate.KINDS[domain]}
        names = [name for name in kinds if name != "diffraction"]
        for turn in range(scenes * len(doses)):
            name, dose = names[turn % len(names)], doses[turn // scenes]
            key = jax.random.fold_in(jax.random.key(_SEED), len(drawn))
            made = simulate.compiled(kinds[name])(key, side_px=side_px, dose=dose)
            counts = np.clip(np.rint(np.asarray(made.counts[0])), 0, 65535).astype(np.uint16)
            label = f"simulated {name}, dose {dose:g}"
            clean = np.asarray(made.clean[0])
            drawn.append(Image(label, domain, False, counts, clean, dose))
    return drawn

"""Repeated frames of one place as a case: nobody knows the truth, but noise differs between frames.

Each frame but the first is restored, and held against all others, whose noise it never saw: its
PSNR is the uPSNR of `experiments.dose.uncertain`. Rivals are tuned on the first, against the mean
of the others, whose noise adds the same to the error of every parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from emd.data import micrograph
from emd.noise import estimate
from experiments.dose import contestants, scores
from experiments.dose.cases import Case
from experiments.dose.contestants import Contestant, Image
from experiments.dose.samples import Sample
from experiments.dose.scores import Score
from experiments.dose.uncertain import uncertain

REPEATED = "repeated"
"""The protocol's name in the table."""

LEAST_FRAMES = 4
"""One to tune on; of the others one is restored at a time, and two or more are its references."""

_PERCEPTRON_PX = 256  # 32 blocks of 32x32 px, which it holds out some of, are then there
_DOMAINS = {"TEM": "tem", "STEM": "stem"}


def case(path: Path) -> Case:
    """Return the case of a file's frames, whose domain is that which the file tells.

    Where it tells none all models take part.

    Raises:
        FileNotFoundError: there is no such file.
        FormatError: it cannot be read.
        ValueError: there are too few frames, or they do not tell what an electron counts.
    """
    given = micrograph.read(path)
    if given.pixels.ndim == 2 or len(given.pixels) < LEAST_FRAMES:
        count = 1 if given.pixels.ndim == 2 else len(given.pixels)
        raise ValueError(
            f"{path}: {count} frames: give {LEAST_FRAMES} or more of the same place, in one file"
        )
    domain = _DOMAINS.get(str(given.metadata.get("mode")), "")

    def takes_part(contestant: Contestant) -> bool:
        if contestant.name == contestants.PERCEPTRON and side_px < _PERCEPTRON_PX:
            return False
        suits = domain == "" or contestants.suits(contestant, domain)
        return suits and contestant.kind != contestants.DEFAULT

    side_px = min(given.pixels.shape[1:])
    samples = _samples(list(_electrons(given.pixels, path)))
    return Case(
        REPEATED, path.stem, None, domain, lambda: (samples[:1], samples[1:]),
        len(samples) - 1, side_px, takes_part, score,
    )  # fmt: skip


def score(restored: Image, sample: Sample) -> Score:
    """Return the uPSNR over the span of the sample's truth, and the residual's whiteness.

    What else there is to score needs a truth without noise.
    """
    image = restored.astype(np.float64)
    span = float(np.ptp(sample.truth))
    spread = np.sqrt(np.maximum(sample.truth, 1e-12))
    return Score(
        psnr=uncertain(image, sample.references, data_range=span).psnr,
        ssim=None,
        f1=None,
        faint_f1=None,
        position_px=None,
        slope=None,
        offset=None,
        whiteness=scores.whiteness((sample.noisy - image) / spread),
        checkerboard=None,
    )


def _electrons(frames: np.ndarray, path: Path) -> Float[np.ndarray, "n h w"]:
    """Frames in electrons, by the noise that each of them shows; the median of what they tell."""
    noises = [estimate(frame) for frame in frames]
    told = [(n.gain, n.offset) for n in noises if n.gain is not None and n.offset is not None]
    if len(told) < len(frames):
        why = next((line for n in noises for line in n.warnings), "too little is flat in them")
        raise ValueError(f"{path}: frames do not tell what an electron counts: {why}")
    gain, offset = np.median(told, axis=0)
    return (frames.astype(np.float64) - offset) / gain


def _samples(frames: Sequence[Image]) -> list[Sample]:
    found = []
    for i, frame in enumerate(frames):
        others = tuple(other for j, other in enumerate(frames) if j != i)
        found.append(Sample(frame, np.mean(others, axis=0), references=others))
    return found

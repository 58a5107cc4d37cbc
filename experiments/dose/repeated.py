"""Repeated frames of one place as a case: nobody knows the truth, but noise differs between frames.

Each frame but the first is restored, and held against all others, whose noise it never saw: the
PSNR is the uPSNR of `experiments.dose.uncertain`. Rivals are tuned on the first, against the mean
of the others, whose noise adds the same to the error of every parameter; that it is the same place
is in their favour.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped
from scipy import ndimage

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

_MOST_CHANGE = 1.5  # between frames, as a variance over that of the noise within them
_DOMAINS = {"TEM": "tem", "STEM": "stem"}


def case(path: Path) -> Case:
    """Return the case of a file's frames, whose domain is that which the file tells.

    Where it tells none all models take part.

    Raises:
        FileNotFoundError: there is no such file.
        FormatError: it cannot be read.
        ValueError: there are too few frames, they do not tell what an electron counts, or more than
            noise changes between them.
    """
    given = micrograph.read(path)
    frames = given.pixels if given.pixels.ndim == 3 else given.pixels[None]
    if len(frames) < LEAST_FRAMES:
        raise ValueError(
            f"{path}: {len(frames)} frames: give {LEAST_FRAMES} or more of one place, in one file"
        )
    domain = _DOMAINS.get(str(given.metadata.get("mode")), "")
    height, width = frames.shape[1:]
    # what emd.blindspot_fit takes: 32 blocks of 32x32 px
    is_large = (height // 32) * (width // 32) >= 32

    def takes_part(contestant: Contestant) -> bool:
        if contestant.kind == contestants.DEFAULT:
            return False
        if contestant.name == contestants.PERCEPTRON and not is_large:
            return False
        return contestants.suits(contestant, domain)

    samples = _samples(list(_electrons(frames, path)))
    return Case(
        REPEATED, path.stem, None, domain, lambda: (samples[:1], samples[1:]), len(samples) - 1,
        min(height, width), takes_part, score, hashlib.sha256(frames.tobytes()).hexdigest()[:8],
    )  # fmt: skip


def score(restored: Sequence[Image], samples: Sequence[Sample]) -> Score:
    """Return the uPSNR of restored frames, and the mean whiteness of their residuals.

    Over the span of the mean of all frames but for its extreme percents, as noise widens it.
    What else there is to score needs a truth.
    """
    mean = ndimage.gaussian_filter(np.mean([s.noisy for s in samples], axis=0), 1.0)
    low, high = np.percentile(mean, (1, 99))
    found = uncertain(
        [image.astype(np.float64) for image in restored],
        [sample.references for sample in samples],
        data_range=float(high - low),
    )
    # where a few frames have hardly a count their mean is no measure of the noise
    spread = np.sqrt(np.maximum(mean, 1.0))
    residuals = (
        (sample.noisy - image) / spread for image, sample in zip(restored, samples, strict=True)
    )
    return scores.mean([
        Score(found.psnr, whiteness=scores.whiteness(residual), psnr_error=found.psnr_error)
        for residual in residuals
    ])  # fmt: skip


def _electrons(frames: Shaped[np.ndarray, "n h w"], path: Path) -> Float[np.ndarray, "n h w"]:
    """Frames in electrons, by the noise that each of them shows; the median of what they tell.

    Readout noise counts as electrons without contrast: `estimate` sets zero where the variance
    vanishes, so that mean and variance are equal with it and without.
    """
    noises = [estimate(frame) for frame in frames]
    told = [(n.gain, n.offset, n.std) for n in noises if n.gain and n.offset is not None and n.std]
    if len(told) < len(frames):
        why = next((n.warnings[-1] for n in noises if n.gain is None and n.warnings), "too uniform")
        raise ValueError(
            f"{path}: frames do not tell what an electron counts ({why}): give them as recorded"
        )
    gain, offset, std = np.median(told, axis=0)
    counts = frames.astype(np.float64)
    change = np.diff(counts, axis=0).var() / 2 / std**2
    if change > _MOST_CHANGE:
        raise ValueError(
            f"{path}: frames differ by {change:.1f} times their noise, above {_MOST_CHANGE}: give "
            "frames of one place, aligned"
        )
    return (counts - offset) / gain


def _samples(frames: Sequence[Image]) -> list[Sample]:
    found = []
    for i, frame in enumerate(frames):
        others = tuple(other for j, other in enumerate(frames) if j != i)
        found.append(Sample(frame, np.mean(others, axis=0), references=others))
    return found

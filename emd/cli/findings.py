"""Owns what a report finds of a restoration, and what each finding means, in words.

Imports jax: to be imported where a command runs, not where its arguments are read.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from emd.checkpoint import Model
from emd.cli import differences, words
from emd.data.intensity import prepare
from emd.ensemble import one_pass
from emd.noise import Noise, estimate
from emd.putback import Electrons
from emd.trust.distribution import Judgement, judge
from emd.trust.reference import Calibration
from emd.trust.spread import ErrorMap, error_map

_WHITE = 0.05  # a correlation below it is of no consequence
_ERRORS = 4.0
_TOO_MUCH, _TOO_LITTLE = 1.1, 0.5  # of the noise's variance
_OFF = 0.1  # of the share of pixels within a map: more is poorly calibrated
_DUE = 0.683
_FOLLOWS = 0.5  # a correlation below it is weak


class Caution(NamedTuple):
    """What is wrong, or may be, and what follows from it."""

    warning: str
    consequence: str


class Findings(NamedTuple):
    """What is known of a restoration.

    Attributes:
      residual: before - after: see `emd.cli.differences.of_pixels`.
      pixels: how many there are.
      noise: of the image before.
      error: the map of the standard error; None where there is none.
      judgements: of whether the image is of a known kind.
      told: warnings of the restoration itself.
      noise_by: what tells it: "image", by its own pixels, or "gain".
      is_ensemble: whether the restoration is the mean of eight passes, and the error map that of
        one.
    """

    residual: differences.Residual
    pixels: int
    noise: Noise
    error: ErrorMap | None
    judgements: list[Judgement]
    told: list[str]
    noise_by: str = "image"
    is_ensemble: bool = False

    @property
    def share(self) -> float | None:
        """The residual's variance in units of the noise's; None where that is not known."""
        if not self.noise.std:
            return None
        return (self.residual.std / self.noise.std) ** 2

    @property
    def lost(self) -> float:
        """Standard deviation of what was removed beyond noise, in counts, where too much was."""
        if self.noise.std is None or self.share is None or self.share <= _TOO_MUCH:
            return 0.0
        return math.sqrt(self.residual.std**2 - self.noise.std**2)


def find(
    before: Shaped[np.ndarray, "h w"],
    after: Shaped[np.ndarray, "h w"],
    model: Model,
    *,
    electrons: Electrons | None = None,
    tile_px: int | None = None,
) -> Findings:
    """All that a report tells of an image and its restoration by a model, in tiles of that side.

    Electrons, where they are known, are what the noise is of. An ensemble is judged by one of its
    passes: it restores all flips and turns alike, so that its own spread is none.
    """
    single = one_pass(model)
    frame = prepare(before, spikes=False)
    if electrons is None:
        noise = estimate(before)
    else:
        noise = electrons.noise(float(frame.pixels.mean(dtype=np.float64)))
    outlier = [] if frame.warning is None else [frame.warning]
    return Findings(
        residual=differences.of_pixels(before, after),
        pixels=before.size,
        noise=noise,
        error=error_map(before, single, noise, tile_px=tile_px),
        judgements=judge(before, single, tile_px=tile_px),
        told=[*outlier, *(suspicion.text for suspicion in frame.suspicions)],
        noise_by="image" if electrons is None else "gain",
        is_ensemble=single is not model,
    )


def rows(found: Findings) -> list[tuple[str, str]]:
    """The numbers, name by name."""
    mean, std = words.number(found.residual.mean), words.number(found.residual.std)
    told = [("residual", f"mean {mean}, standard deviation {std} counts")]
    if found.residual.whiteness is not None:
        across, down = found.residual.whiteness
        told.append(("neighbours in it", f"correlation {across:+.3f} across, {down:+.3f} down"))
    noise = "not known" if found.noise.std is None else f"{words.number(found.noise.std)} counts"
    told.append((f"noise by the {found.noise_by}", f"{noise} (standard deviation)"))
    if found.noise.dose is not None:
        dose = words.number(float(f"{found.noise.dose:.2g}"))
        told.append((f"dose by the {found.noise_by}", f"about {dose} electrons a pixel"))
    if found.share is not None:
        text = f"{found.share:.2f} of the noise's (1: as much as there is noise)"
        told.append(("residual's variance", text))
    if found.error is not None:
        told += _error_rows(found.error, found.noise)
        if found.is_ensemble:
            text = "that of one of the eight passes; the result, their mean, is nearer the truth"
            told.append(("the map is", text))
    for judgement in found.judgements:
        verdict = "unlike" if judgement.is_beyond else "like"
        text = f"{verdict} the simulated scenes: distance {judgement.distance:.2f}"
        told.append((f"{judgement.what}", f"{text}, of which 1 % exceed {judgement.bound:.2f}"))
    return told


def _error_rows(error: ErrorMap, noise: Noise) -> list[tuple[str, str]]:
    how = "the spread over the eight flips and turns"
    if error.by == "noise":
        how = "the noise that passes the model alone, as it restores all flips and turns alike"
    middle = words.number(float(np.median(error.std)))
    told = [("error map", f"median {middle} counts, from {how}")]
    if (held := error.calibration) is not None:
        at = _nearest(held, noise)
        text = (
            f"on simulated scenes of {held.doses[at]:g} electrons a pixel, other than those it was "
            f"fitted to, {100 * held.within_68[at]:.0f} % of the pixels were within the map (68 % "
            f"are due) and {100 * held.within_95[at]:.0f} % within 1.96 times it (95 %); "
            f"correlation with the error {held.pearson:.2f}"
        )
        told.append(("its calibration", text))
    return told


def _nearest(held: Calibration, noise: Noise) -> int:
    """Which of the tested doses is next to that of the image; of one not known the worst held."""
    if noise.dose is None or noise.dose <= 0:
        return int(np.argmax(np.abs(np.array(held.within_68) - _DUE)))
    return int(np.argmin(np.abs(np.log(np.array(held.doses) / noise.dose))))


def cautions(found: Findings) -> list[Caution]:
    """What there is to warn of; nothing says that all is well."""
    told = [Caution(*_split(text)) for text in found.told]
    told += _of_residual(found)
    told += _of_kind(found.judgements)
    return told + _of_map(found)


def _split(text: str) -> tuple[str, str]:
    warning, _, consequence = text.partition(": ")
    return warning, consequence


def _of_residual(found: Findings) -> list[Caution]:
    told = []
    if any("correlated" in warning for warning in found.noise.warnings):
        told.append(
            Caution(
                "The noise is correlated, as in interpolated or filtered images",
                "what is left of it may look like structure; the error is larger than told",
            )
        )
    if found.share is None:
        reason = "; ".join(found.noise.warnings) or "it seems to have none"
        told.append(
            Caution(
                f"The image does not tell of its noise ({reason})",
                "whether too much was removed cannot be said from one image",
            )
        )
    elif found.share > _TOO_MUCH:
        told.append(
            Caution(
                f"More was removed than noise: {found.share:.2f} times its variance",
                f"contrast and fine detail of about {words.number(found.lost)} counts are lost: do "
                "not measure peak heights, widths or faint columns on the result",
            )
        )
    elif found.share < _TOO_LITTLE:
        told.append(
            Caution(
                f"Only {100 * found.share:.0f} % of the noise's variance was removed",
                "the rest is still in the result: single bright or dark spots may be noise",
            )
        )
    if found.residual.whiteness is not None:
        extreme = max(found.residual.whiteness, key=abs)
        if abs(extreme) > max(_WHITE, _ERRORS / math.sqrt(found.pixels)):
            told.append(_of_neighbours(extreme))
    return told


def _of_neighbours(correlation: float) -> Caution:
    warning = f"Neighbours in the residual are correlated ({correlation:+.2f}; white noise: 0)"
    if correlation > 0:
        return Caution(warning, "structure, or blurred noise, was taken out: look for it there")
    return Caution(warning, "only the finest noise was taken out: coarser blotches may be noise")


def _of_kind(judgements: list[Judgement]) -> list[Caution]:
    told = []
    for judgement in judgements:
        if not judgement.is_beyond:
            continue
        name, off = judgement.most
        what = "The image is" if judgement.what == "image" else "Its latents are"
        told.append(
            Caution(
                f"{what} unlike the simulated micrographs (distance {judgement.distance:.1f}, "
                f"bound {judgement.bound:.1f}; farthest off: {name}, {off:+.1f} deviations)",
                "neither the model's scores nor the error map were tested on such images, and "
                "structure may be invented or lost: compare with the image before",
            )
        )
    return told


def _of_map(found: Findings) -> list[Caution]:
    if found.error is None:
        return [Caution("There is no error map", "it would follow from noise that is not known")]
    held = found.error.calibration
    if held is None:
        return [
            Caution(
                "The error map is not calibrated for models of this kind",
                "read where it is large, not how large it is",
            )
        ]
    size = math.sqrt(float(np.mean(found.error.std**2)))
    if found.lost > size:
        return [
            Caution(
                f"The error map, {words.number(size)} counts on the whole, is smaller than the "
                f"{words.number(found.lost)} counts of structure that were removed",
                "it shows where noise passed, not the error, most of which is blur",
            )
        ]
    told = []
    at = _nearest(held, found.noise)
    within = held.within_68[at]
    if abs(within - _DUE) > _OFF:
        sense = "too small" if within < _DUE else "too large"
        told.append(
            Caution(
                f"The error map is poorly calibrated near {held.doses[at]:g} electrons a pixel: "
                f"{100 * within:.0f} % of simulated pixels were within it, where 68 % are due",
                f"its values are {sense}: no error bars",
            )
        )
    if held.pearson < _FOLLOWS:
        told.append(
            Caution(
                f"The error map follows the true error weakly (correlation {held.pearson:.2f} on "
                "simulated scenes)",
                "use its level, not its details; blur, which is alike in all flips, is not in it",
            )
        )
    return told

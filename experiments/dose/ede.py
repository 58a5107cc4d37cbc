"""Ede's low-dose protocol as cases: crops of micrographs of many counts, and simulated ones.

Twice: as he has it, and fairly. His way: images in [0, 1], rivals as their libraries give them,
PSNR over that range, and SSIM over the range of the image restored. Fairly: counts, rivals tuned
inside the transform, ranges of the truth. Rivals are tuned on other exposures, at other places, of
some of the same micrographs, which is in their favour; the scenes they are tuned on are others.

Source: arXiv:1807.11234.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments.dose import contestants, crops, scores
from experiments.dose.cases import Case
from experiments.dose.contestants import Contestant, Image
from experiments.dose.crops import Crop
from experiments.dose.samples import Sample
from experiments.dose.scores import Score
from experiments.rate_distortion.images import DOMAINS

HIS, FAIR = "ede", "ede-fair"
"""The protocols' names in the table."""

REAL, SIMULATED = "real", "simulated"
EVALUATION_SEED, TUNING_SEED = 720_001, 720_002
_TUNED_ON = 3  # crops: BM3D takes ten seconds for one
_SPAN = 1.0  # of his images


def cases(data_dir: str | None, *, scenes: int, side_px: int) -> list[Case]:
    """Return the cases of both protocols: so many scenes a domain, and real crops of a folder.

    Args:
        data_dir: holds ``eval/tem`` and ``eval/stem``; no real crops without it.
        scenes: simulated ones of a domain.
        side_px: of these; real crops have 512 px, or what there is.

    Raises:
        FileNotFoundError: there are no micrographs.
        FormatError: one of them cannot be read.
    """
    scene = functools.partial(crops.simulated, count=scenes, side_px=side_px)
    sources = {SIMULATED: functools.cache(scene)}
    counts = {(domain, SIMULATED): scenes for domain in DOMAINS}
    digests: dict[str, str] = {}
    if data_dir is not None:
        sources[REAL] = functools.cache(functools.partial(crops.crops, Path(data_dir)))
        for domain in DOMAINS:
            found = [crop for crop in sources[REAL](seed=EVALUATION_SEED) if crop.domain == domain]
            if found:
                counts[domain, REAL] = len(found)
                pixels = b"".join(crop.noisy.tobytes() for crop in found)
                digests[domain] = hashlib.sha256(pixels).hexdigest()[:8]
    return [
        Case(
            protocol, f"{domain}, {kind}", None, domain,
            functools.partial(_draw, sources[kind], domain, protocol), count,
            crops.SIDE_PX if kind == REAL else side_px,
            functools.partial(_takes_part, protocol, domain),
            functools.partial(scores.of_all, of_one=score_his_way)
            if protocol == HIS else scores.of_all,
            digests[domain] if kind == REAL else "",
        )
        for protocol in (HIS, FAIR)
        for (domain, kind), count in counts.items()
    ]  # fmt: skip


def _draw(
    source: Callable[..., list[Crop]], domain: str, protocol: str
) -> tuple[list[Sample], list[Sample]]:
    evaluation = [crop for crop in source(seed=EVALUATION_SEED) if crop.domain == domain]
    tuning = [crop for crop in source(seed=TUNING_SEED) if crop.domain == domain]
    # of all micrographs, if there are more crops than are needed
    chosen = tuning[:: max(1, len(tuning) // _TUNED_ON)][:_TUNED_ON]
    make = _in_his_units if protocol == HIS else _in_counts
    return [make(crop) for crop in chosen], [make(crop) for crop in evaluation]


def _in_counts(crop: Crop) -> Sample:
    return Sample(crop.noisy, crop.truth)


def _in_his_units(crop: Crop) -> Sample:
    return Sample(*crop.in_protocol_units())


def _takes_part(protocol: str, domain: str, contestant: Contestant) -> bool:
    other = contestants.TUNED if protocol == HIS else contestants.DEFAULT
    return contestant.kind != other and contestants.suits(contestant, domain)


def score_his_way(restored: Image, sample: Sample) -> Score:
    """Return the scores of images in [0, 1]; SSIM over the range of the image restored.

    Of an image without contrast SSIM is 0.
    """
    image, truth = restored.astype(np.float64), sample.truth.astype(np.float64)
    span = float(np.ptp(image))
    return scores.score(restored, sample)._replace(
        psnr=scores.psnr(image, truth, span=_SPAN),
        ssim=scores.ssim(image, truth, span=span) if span > 0 else 0.0,
        whiteness=None,  # of his units the noise is not known
    )

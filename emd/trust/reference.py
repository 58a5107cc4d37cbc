"""Owns what is known beforehand: calibrations of error maps, and statistics of simulated scenes."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from emd.checkpoint import Model, fingerprint
from emd.zoo import BENCHMARK, COLUMNS, LATTICES, OBJECTIVES, ModelConfig

PLACE = Path(__file__).with_name("reference.json")

_RIDGE = 0.01  # of the variance of a statistic: none is known any better


class Calibration(NamedTuple):
    """How an error map became one in counts, and how well that held for images not used for it.

    Attributes:
      by: what the map is made of: "symmetries" or "noise".
      factor: true error where the map says 1.
      doses: electrons a pixel of the simulated images that it was tested on.
      within_68: share of their pixels whose error lies within the map, at each dose; 0.683 is due.
      within_95: within 1.96 times the map; 0.95 is due.
      pearson: correlation of the map with the local root mean squared error, mean over images.
      spearman: the same of their ranks.
    """

    by: str
    factor: float
    doses: list[float]
    within_68: list[float]
    within_95: list[float]
    pearson: float
    spearman: float


class Known(NamedTuple):
    """Statistics of known images: a Gaussian, of many statistics along its longest axes alone.

    Attributes:
      mean: of each statistic.
      deviation: of each statistic.
      axes: orthonormal rows, in units of the deviations.
      variance: along each axis.
      rest: mean variance a statistic along all other axes.
      bound: distance that one in a hundred known images exceeds.
    """

    mean: Float[np.ndarray, " d"]
    deviation: Float[np.ndarray, " d"]
    axes: Float[np.ndarray, "k d"]
    variance: Float[np.ndarray, " k"]
    rest: float
    bound: float

    def distance(self, statistics: Float[np.ndarray, " d"]) -> float:
        """Mahalanobis's, a statistic: about 1 for known images."""
        away = (statistics - self.mean) / self.deviation
        along = self.axes @ away
        square = float(np.sum(along**2 / (self.variance + _RIDGE)))
        if len(self.axes) < len(away):
            square += float(away @ away - along @ along) / (self.rest + _RIDGE)
        return float(np.sqrt(max(square, 0.0) / len(away)))


def learn(statistics: Float[np.ndarray, "n d"], *, axes: int) -> Known:
    """The statistics of known images, a row each; no bound yet: it takes other images."""
    mean, deviation = statistics.mean(0), statistics.std(0)
    deviation = np.maximum(deviation, 1e-3 * max(float(deviation.max()), 1e-6))
    away = (statistics - mean) / deviation
    variance, columns = np.linalg.eigh(away.T @ away / len(away))
    kept = np.argsort(variance)[::-1][:axes]
    others = max(len(variance) - len(kept), 1)
    rest = float(variance.sum() - variance[kept].sum()) / others
    return Known(mean, deviation, columns[:, kept].T, variance[kept], max(rest, 0.0), np.inf)


def family_of(config: ModelConfig) -> str:
    """What models share a calibration: a family that learnt the same, or kernels of one's own."""
    if config.domain == "own":
        return "fit" if config.family == "kernel" else f"{config.family} fit"
    is_papers = config.objective == OBJECTIVES[0]
    return config.family if is_papers else f"{config.family} {config.objective}"


@functools.cache
def _stored() -> dict[str, Any]:
    return dict(json.loads(PLACE.read_text(encoding="utf-8")))


def calibration(config: ModelConfig) -> Calibration | None:
    """How the error maps of a model's family were calibrated; None where they were not."""
    found = _stored()["calibrations"].get(family_of(config))
    return None if found is None else Calibration(**found)


def scenes_of(config: ModelConfig) -> str:
    """What a model knows: the micrographs of its domain, or simulated atom columns alone."""
    return COLUMNS if config.objective in LATTICES else config.domain


def known_images(config: ModelConfig) -> Known | None:
    """The statistics of what a model knows; None for kernels of one's own, which know nothing.

    Nor are there any of the benchmark's two lattices.
    """
    if config.objective == BENCHMARK:
        return None
    return _known(_stored()["images"].get(scenes_of(config)))


def known_latents(model: Model) -> Known | None:
    """The statistics of a model's latents; None where it has none, or other weights than then."""
    found = _stored()["latents"].get(model.config.name)
    if found is None or found["weights"] != fingerprint(model.variables):
        return None
    return _known(found)


def _known(found: dict[str, Any] | None) -> Known | None:
    if found is None:
        return None
    names = "mean", "deviation", "axes", "variance"
    mean, deviation, axes, variance = (np.array(found[name]) for name in names)
    return Known(mean, deviation, axes, variance, found["rest"], found["bound"])

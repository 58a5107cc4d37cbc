"""Owns the choice of a file's predictors: least squares over the pixels of some of its blocks.

Only encoders need this, so it may compute in floating point: what it chooses is in the stream.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import nnls

from emd.codec import lattice
from emd.codec.lattice import ACTIVITY_BITS, LEVELS, SUBCOUNTS, WEIGHT_BITS, Bounds, Predictor

_ROUNDS = 3  # of weighting by the activity that the round before expects
_ENOUGH_PX = 100_000  # of a pass: more would hardly move the weights
_LARGEST = 1 << 18  # of a weight: what keeps sums below 2^53


def fit(blocks: list[Float[np.ndarray, "_ _"]], bounds: Bounds) -> dict[tuple[int, int], Predictor]:
    """The predictors of each level and kind for blocks like these."""
    found: dict[tuple[int, int], list[lattice.Surroundings]] = {}
    for block in blocks:
        for _, level, kind, grid in lattice.lattices(block):
            around = lattice.Surroundings(grid, level, kind)
            if len(around.taps) > 1:
                found.setdefault((level, kind), []).append(around)
    return {
        (level, kind): _fit_one(found.get((level, kind), []), level, kind, bounds)
        for level in range(LEVELS)
        for kind in range(len(lattice.KINDS))
    }


def _fit_one(
    places: list[lattice.Surroundings], level: int, kind: int, bounds: Bounds
) -> Predictor:
    pairs = lattice.taps(level, kind)
    nearest = np.array([y * y + x * x for y, x in pairs])
    prior = (nearest == nearest[0]) / (2 * (nearest == nearest[0]).sum())
    activity = np.zeros(lattice.near(level, kind) + 2)
    activity[0], activity[-1] = 0.25, 1 / SUBCOUNTS
    weights = prior
    if places:
        pixels, known = _gathered(places, pairs)
        pixels -= bounds.low
        known -= bounds.low
        sums = known.sum(0).T
        trust = np.ones(len(pixels))
        for _ in range(_ROUNDS):
            weights = _least_squares(sums, pixels, trust, prior)
            predicted = (sums @ weights).clip(0, bounds.high - bounds.low)
            near = np.abs(known[:, : lattice.near(level, kind)] - predicted).sum(0)
            residuals = np.abs(pixels - predicted)
            activity, expected = _fit_activity(near, predicted, residuals)
            # magnitudes count, not squares: bits do not grow faster with what stands out
            trust = 1 / (expected * np.maximum(residuals, expected / 2))
    return Predictor(_whole(weights, WEIGHT_BITS), _whole(activity, ACTIVITY_BITS))


def _gathered(
    places: list[lattice.Surroundings], pairs: tuple[lattice.Tap, ...]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "2 t n"]]:
    """Pixels spread evenly over the passes, and the two of each pair around them."""
    step = -(-sum(place.target.size for place in places) // _ENOUGH_PX)
    pixels = np.concatenate([place.target.reshape(-1)[::step] for place in places])
    known = np.empty((2, len(pairs), len(pixels)))
    for k, (y, x) in enumerate(pairs):
        for side, tap in enumerate(((y, x), (-y, -x))):
            parts = [place.at(tap).reshape(-1)[::step] for place in places]
            known[side, k] = np.concatenate(parts)
    return pixels, known


def _whole(values: Float[np.ndarray, " k"], bits: int) -> Int[np.ndarray, " k"]:
    return np.rint(values * (1 << bits)).clip(-_LARGEST, _LARGEST).astype(np.int64)


def _least_squares(
    known: Float[np.ndarray, "n t"],
    pixels: Float[np.ndarray, " n"],
    trust: Float[np.ndarray, " n"],
    prior: Float[np.ndarray, " t"],
) -> Float[np.ndarray, " t"]:
    """Weights of least squared error, drawn towards the prior where pixels are few."""
    scaled = known * trust[:, None]
    normal, right = scaled.T @ known, scaled.T @ pixels
    # what keeps the sums solvable; and, once errors are in units of what is expected, a prior
    # variance of a tenth
    pull = 1e-10 * np.trace(normal) + (10 if np.ptp(trust) else 1e-9)
    normal += pull * np.eye(len(prior))
    return np.linalg.solve(normal, right + pull * prior)


def _fit_activity(
    near: Float[np.ndarray, "k n"],
    predicted: Float[np.ndarray, " n"],
    magnitude: Float[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, " a"], Float[np.ndarray, " n"]]:
    """Weights that tell the residuals' magnitude, none below 0, and that magnitude [counts]."""
    features = np.concatenate([near, predicted[None], np.ones((1, len(predicted)))]).T
    least = 0.02 * float(magnitude.mean()) + 1e-3
    expected = np.maximum(near.mean(0) / 2, least)
    for _ in range(_ROUNDS):
        scaled = features / expected[:, None]
        weights = _not_negative(scaled.T @ scaled, scaled.T @ (magnitude / expected))
        expected = np.maximum(features @ weights, least)
    return weights, expected


def _not_negative(
    normal: Float[np.ndarray, "a a"], right: Float[np.ndarray, " a"]
) -> Float[np.ndarray, " a"]:
    """The least squares of normal equations among weights >= 0."""
    scale = 1 / np.sqrt(np.diag(normal) + 1e-12)
    scaled = normal * scale[:, None] * scale + 1e-9 * np.eye(len(right))
    triangle = np.linalg.cholesky(scaled)
    return scale * nnls(triangle.T, np.linalg.solve(triangle, right * scale))[0]

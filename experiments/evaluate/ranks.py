"""Rank correlations, and how likely chance alone gives one as strong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

SHUFFLES = 10_000


def ranks(values: Sequence[float] | Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return the rank of each value, equal ones sharing the mean of theirs."""
    array = np.asarray(values, np.float64)
    below = (array[None] < array[:, None]).sum(1)
    return below + ((array[None] == array[:, None]).sum(1) - 1) / 2


def correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Spearman's rank correlation; 0 where all values of one side are equal."""
    return _correlation(ranks(one), ranks(other))


def _correlation(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else 0.0


def shuffled_chance(groups: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """Return how likely shuffling within groups correlates as strongly, either way.

    The statistic is the mean of the groups' rank correlations.
    """
    ranked = [(ranks(one), ranks(other)) for one, other in groups]
    found = abs(np.mean([_correlation(*group) for group in ranked]))
    generator = np.random.default_rng(0)
    drawn = [
        abs(np.mean([_correlation(one, generator.permutation(other)) for one, other in ranked]))
        for _ in range(SHUFFLES)
    ]
    return float(np.mean(np.array(drawn) >= found - 1e-12))


def sign_chance(count: int, of: int) -> float:
    """Return how likely a fair coin falls on one side as unevenly as ``count`` times of ``of``."""
    least = max(count, of - count)
    tail = sum(math.comb(of, k) for k in range(least, of + 1)) / 2**of
    return min(1.0, 2 * tail)

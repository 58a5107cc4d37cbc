"""Two ways to do one job: their answers compared first, then timed in turn."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

TOLERANCE = 1e-4
"""Largest difference of two answers, relative to the scale of the peer's, in float32."""

COARSE_TOLERANCE = 0.05
"""The same once both round the factors of a product to 10 or 8 bits."""

SHORTEST_S = 0.05
"""A job that takes less is done several times a repeat, so that the clock is no part of it."""


class Side(NamedTuple):
    """One way to do a job.

    Attributes:
      run: does it once, and returns when the device is done.
      answer: what it gives on the data that both sides share, to compare.
      scale: the whole job takes this many times as long as a run.
    """

    run: Callable[[], object]
    answer: Callable[[], Sequence[np.ndarray]]
    scale: float = 1.0


class Spread(NamedTuple):
    """Seconds that repeats of the whole job took."""

    median: float
    low: float
    high: float


class Timed(NamedTuple):
    """How long both sides took, in turn."""

    ours: Spread
    peer: Spread | None
    repeats: int


def difference(ours: Sequence[np.ndarray], peer: Sequence[np.ndarray]) -> float:
    """The largest difference of two answers, each array's relative to the peer's largest value.

    Infinite where shapes differ or a value is not finite.
    """
    return _largest(ours, peer, lambda array: float(np.abs(array).max()))


def distance(ours: Sequence[np.ndarray], peer: Sequence[np.ndarray]) -> float:
    """The same with root mean squares in place of largest values.

    For gradients: a map whose value is all but 0 falls on either side of its ReLU by rounding, and
    moves single entries of a gradient by far more than 1e-4, within either library as well.
    """
    return _largest(ours, peer, lambda array: float(np.linalg.norm(array)))


def alternate(
    ours: Side,
    peer: Side | None,
    *,
    repeats: int,
    seconds: float,
    warm: bool = True,
    shortest: float = SHORTEST_S,
) -> Timed:
    """Seconds of both sides, run in turn: ours, peer, ours, peer.

    Args:
      ours: the one side.
      peer: the other; without it ours is timed alone.
      repeats: how often each is timed, at least once.
      seconds: after so long no further repeat begins.
      warm: run each untimed first. Without it what the first run costs (compilation) counts.
      shortest: a repeat lasts at least so long [s], where a warm-up can tell.
    """
    sides = [ours] if peer is None else [ours, peer]
    counts = [_runs(side, shortest) if warm else 1 for side in sides]
    taken: list[list[float]] = [[] for _ in sides]
    began = time.perf_counter()
    for _ in range(repeats):
        for side, count, times in zip(sides, counts, taken, strict=True):
            times.append(_clock(side, count) / count * side.scale)
        if time.perf_counter() - began > seconds:
            break
    spreads = [Spread(statistics.median(times), min(times), max(times)) for times in taken]
    return Timed(spreads[0], spreads[1] if peer is not None else None, len(taken[0]))


def _largest(
    ours: Sequence[np.ndarray], peer: Sequence[np.ndarray], size: Callable[[np.ndarray], float]
) -> float:
    """The largest over arrays of the size of a difference, over that of the peer's array."""
    if [np.shape(array) for array in ours] != [np.shape(array) for array in peer]:
        return math.inf
    worst = 0.0
    for left, right in zip(ours, peer, strict=True):
        one, other = (np.asarray(array, np.float64) for array in (left, right))
        if not (np.isfinite(one).all() and np.isfinite(other).all()):
            return math.inf
        gap, scale = size(one - other), size(other)
        worst = max(worst, gap / scale if scale > 0 else (math.inf if gap > 0 else 0.0))
    return worst


def _runs(side: Side, shortest: float) -> int:
    """How many runs make a repeat, from the second run: the first may compile."""
    _clock(side, 1)
    return max(1, math.ceil(shortest / max(_clock(side, 1), 1e-9)))


def _clock(side: Side, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        side.run()
    return time.perf_counter() - began

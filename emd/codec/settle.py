"""Owns the search for the step at which a stream is as small, or as near, as was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

_TRIES = 10
_NEAR = 0.03  # octaves below the goal that are near enough: 2 % of a size
_WIDEST_MOVE = 3.0  # octaves of the step at a time


class Try(NamedTuple):
    """A step, and by how many octaves it exceeds what is allowed; below 0 it is allowed."""

    step: float
    excess: float


def settle(
    excess: Callable[[float], float],
    start: float,
    *,
    slope: float,
    bounds: tuple[float, float] = (0.0, math.inf),
    near: float = _NEAR,
) -> Try:
    """The step whose excess is nearest below 0; if none is, that of the least.

    Args:
      excess: of a step, in octaves; monotonic, or nearly.
      start: the first to try.
      slope: of the excess against the step's octaves, roughly: its sign is what matters.
      bounds: of steps.
      near: how far below 0 will do.
    """
    tries: list[Try] = []
    step = min(max(start, bounds[0]), bounds[1])
    for _ in range(_TRIES):
        tries.append(Try(step, excess(step)))
        if -near <= tries[-1].excess <= 0:
            break
        step = min(max(_next(tries, slope, near), bounds[0]), bounds[1])
        if any(step == each.step for each in tries):
            break
    allowed = [each for each in tries if each.excess <= 0]
    if allowed:
        return max(allowed, key=lambda each: each.excess)
    return min(tries, key=lambda each: each.excess)


def _next(tries: list[Try], slope: float, near: float) -> float:
    """The step at which a line through the tries nearest the goal reaches it."""
    aim = -near / 2
    last = tries[-1]
    over = [each for each in tries if each.excess > 0]
    under = [each for each in tries if each.excess <= 0]
    if over and under:
        first = min(over, key=lambda each: each.excess)
        second = max(under, key=lambda each: each.excess)
        share = (first.excess - aim) / (first.excess - second.excess)
        # away from the ends, so that a curve that is no line is closed in on from both sides
        share = min(max(share, 0.1), 0.9)
        return first.step * (second.step / first.step) ** share
    if len(tries) > 1 and tries[-2].step != last.step:
        before = tries[-2]
        found = (last.excess - before.excess) / math.log2(last.step / before.step)
        if found * slope > 0:
            slope = math.copysign(max(abs(found), 0.05), slope)
    move = (aim - last.excess) / slope
    return last.step * 2 ** min(max(move, -_WIDEST_MOVE), _WIDEST_MOVE)

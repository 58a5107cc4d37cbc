"""Owns the grid of an archive: which frames, blocks and pieces of frames are worked on at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from emd.lazy import sides_of
from emd.putback import Electrons

Region = tuple[slice, ...]


class Job(NamedTuple):
    """What a unit has to know: little, for it travels with each.

    Attributes:
      token: of everything that the result depends on.
      source: the archive to read; absolute, as all machines see it.
      signal: which of its arrays, by number.
      folder: of the job.
      model: its name.
      weights: the fingerprint of its weights.
      grid: sides of what is stored as one file of the archive.
      despike: replace isolated spikes first.
      put_back: add what the residual still shows beyond the noise: that of electrons, or any.
      tile_px: side of the tiles; None for what suits.
      unit_px: pixels that a unit has at least, where there are as many.
      whole_px: frames are restored at once up to this many pixels.
    """

    token: str
    source: Path
    signal: int
    folder: Path
    model: str
    weights: str
    grid: tuple[int, ...]
    despike: bool
    put_back: bool | Electrons
    tile_px: int | None
    unit_px: int
    whole_px: int


def groups(shape: tuple[int, ...], job: Job) -> Iterator[Region]:
    """The frames, cut where chunks end, several chunks together where frames are small."""
    counts = [-(-n // step) for n, step in zip(shape, _steps(shape, job), strict=False)]
    for number in range(math.prod(counts)):
        yield group_of(number, shape, job)


def group_of(number: int, shape: tuple[int, ...], job: Job) -> Region:
    """The group of that number."""
    steps = _steps(shape, job)
    counts = tuple(-(-n // step) for n, step in zip(shape, steps, strict=False))
    first = [int(k) for k in np.unravel_index(number, counts)] if counts else []
    return tuple(
        slice(k * step, min((k + 1) * step, n))
        for k, step, n in zip(first, steps, shape, strict=False)
    )


def _steps(shape: tuple[int, ...], job: Job) -> list[int]:
    """How many frames a group has along each axis that counts them."""
    steps = list(job.grid[:-2])
    if steps:
        beside = math.prod(steps[:-1]) * math.prod(shape[-2:])
        steps[-1] = _step(steps[-1], -(-job.unit_px // beside))
    return steps


def _step(side: int, least: int) -> int:
    """The length of so many chunks that it is at least some length."""
    return side * max(1, -(-least // side))


def _cut(length: int, side: int, least: int) -> list[slice]:
    step = _step(side, least)
    return [slice(k, min(k + step, length)) for k in range(0, length, step)]


def is_whole(group: Region, shape: tuple[int, ...], job: Job) -> bool:
    """Whether the frames of a group are restored at once."""
    whole_in_chunk = all(n <= side for n, side in zip(shape[-2:], job.grid[-2:], strict=True))
    return whole_in_chunk or frames_of(group) * math.prod(shape[-2:]) <= job.whole_px


def blocks(group: Region, shape: tuple[int, ...], job: Job) -> list[Region]:
    """The rows and columns of large frames, cut where chunks end."""
    least = math.isqrt(max(1, job.unit_px // frames_of(group)))
    sides = zip(shape[-2:], job.grid[-2:], strict=True)
    return [tuple(part) for part in itertools.product(*(_cut(*s, least) for s in sides))]


def pieces(group: Region, shape: tuple[int, ...], job: Job, halo: int) -> list[Region]:
    """The same, cut where a model may cut."""
    least = math.isqrt(max(1, job.unit_px // frames_of(group)))
    cuts = []
    for length, side in zip(shape[-2:], job.grid[-2:], strict=True):
        sides = sides_of(tuple(s.stop - s.start for s in _cut(length, side, least)), halo)
        ends = [0, *itertools.accumulate(sides)]
        cuts.append([slice(a, b) for a, b in itertools.pairwise(ends)])
    return [tuple(part) for part in itertools.product(*cuts)]


def frames_of(group: Region) -> int:
    """How many frames there are in a group."""
    return math.prod(part.stop - part.start for part in group)


def numbers(group: Region, shape: tuple[int, ...]) -> list[int]:
    """Which frames of the archive those of a group are."""
    if not group:
        return [0]
    places = np.meshgrid(*(np.arange(p.start, p.stop) for p in group), indexing="ij")
    return np.ravel_multi_index(tuple(places), shape[:-2]).ravel().tolist()

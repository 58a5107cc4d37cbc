"""Owns the order in which places of a block's grid are coded: coarse to fine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from emd.codec import lattice

_COARSEST = 4  # places a side, of the coarsest grid of a block
# opposite ones first and last, second and third
_CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))
_SIDES = ((0, -1), (-1, 0), (1, 0), (0, 1))


class Group(NamedTuple):
    """Places that are coded at once.

    Attributes:
      rows, columns: theirs.
      spacing: to the known ones around; 0 for the coarsest places.
      kind: of `emd.codec.lattice.KINDS`.
      around: rows and columns of the four known places; empty for the coarsest.
    """

    rows: Int[np.ndarray, " n"]
    columns: Int[np.ndarray, " n"]
    spacing: int
    kind: int
    around: tuple[Int[np.ndarray, "k n"], Int[np.ndarray, "k n"]]


def groups(high: int, wide: int) -> Iterator[Group]:
    """The places of a block, in the order of coding."""
    spacing = 1
    while max(high, wide) > _COARSEST * spacing:
        spacing *= 2
    rows, columns = _every(high, wide, 0, 0, spacing)
    nowhere = np.zeros((0, len(rows)), np.int64)
    yield Group(rows, columns, 0, 0, (nowhere, nowhere))
    while spacing > 1:
        half = spacing // 2
        for kind, (down, right) in enumerate(lattice.KINDS):
            rows, columns = _every(high, wide, down * half, right * half, spacing)
            if not len(rows):
                continue
            taps = _SIDES if kind else _CORNERS
            down_, right_ = (np.array(part)[:, None] * half for part in zip(*taps, strict=True))
            around = (_within(rows + down_, high, half), _within(columns + right_, wide, half))
            yield Group(rows, columns, half, kind, around)
        spacing = half


def _every(high: int, wide: int, down: int, right: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[down:high:step, right:wide:step]
    return rows.reshape(-1), columns.reshape(-1)


def _within(places: Int[np.ndarray, "k n"], side: int, half: int) -> Int[np.ndarray, "k n"]:
    """Places beyond the block are those opposite; where none is, those at its border."""
    places = np.where(places >= side, places - 2 * half, np.abs(places))
    return places.clip(0, side - 1)

"""Owns how the frequencies of a lapped transform hang together as bands: see `Layout`."""

from __future__ import annotations

import functools
import itertools

import numpy as np

from emd.codec.bands import Layout

_EDGES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Shells are the frequencies whose larger index lies between two of these."""


@functools.cache
def layout(side: int) -> Layout:
    """The layout of `side` times `side` frequencies, numbered row by row."""
    u, v = np.mgrid[:side, :side].reshape(2, -1)
    larger = np.maximum(u, v)
    edges = [edge for edge in _EDGES if edge < side] + [side]
    shells = tuple(
        np.flatnonzero((low <= larger) & (larger < high)) for low, high in itertools.pairwise(edges)
    )
    parent = np.where(larger > 0, (u // 2) * side + v // 2, side * side)
    ring = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    above = np.stack([_place(u // 2 + y, v // 2 + x, side, larger > 0) for y, x in ring], 1)
    beside = np.stack([_place(u + y, v + x, side, larger > 0) for y, x in ring], 1)
    return Layout(shells, parent, above, beside)


def _place(u: np.ndarray, v: np.ndarray, side: int, wanted: np.ndarray) -> np.ndarray:
    """Numbers of frequencies; those that are not there, and where none is wanted, are none."""
    is_there = wanted & (np.minimum(u, v) >= 0) & (np.maximum(u, v) < side)
    return np.where(is_there, u * side + v, side * side)

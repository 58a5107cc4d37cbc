"""Owns the lapped transform: an image as frequencies of overlapping squares, and back.

Blocks of `side` pixels overlap by half on either side, so that coarse quantisation leaves no edges
between them. It is a filter over the borders of blocks, then each block's cosine transform; the
inverse is exact. Wide blocks serve lattices and smooth images, narrow ones edges.

Source: T. D. Tran, J. Liang and C. Tu, Lapped transform via time-domain pre- and post-filtering,
IEEE Trans. Signal Process. 51 (2003) 1557: the biorthogonal transform of type II.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import scipy.fft
from jaxtyping import Float

SIDES = (8, 16, 32)
"""Sides of a block, in pixels."""

_STRETCH = 1.6  # of the first odd function: what makes the transform biorthogonal


class _Filters(NamedTuple):
    cosine: Float[np.ndarray, "m m"]
    before: Float[np.ndarray, "m m"]
    after: Float[np.ndarray, "m m"]


@functools.cache
def _filters(side: int) -> _Filters:
    half = side // 2
    flip, one, none = np.eye(half)[::-1], np.eye(half), np.zeros((half, half))
    second, fourth = (scipy.fft.dct(one, type=kind, axis=0, norm="ortho") for kind in (2, 4))
    stretch = np.diag([_STRETCH] + [1.0] * (half - 1))
    odd = flip @ second.T @ stretch @ fourth @ flip
    butterfly = np.block([[one, flip], [flip, -one]])
    before = butterfly @ np.block([[one, none], [none, odd]]) @ butterfly / 2
    cosine = scipy.fft.dct(np.eye(side), type=2, axis=0, norm="ortho")
    return _Filters(cosine, before, np.linalg.inv(before))


@functools.cache
def gains(side: int) -> Float[np.ndarray, "{side} {side}"]:
    """The norm of the image that each frequency stands for: errors there count so much."""
    unit = np.zeros((3 * side, side))
    unit[side : 2 * side] = np.eye(side)
    norms = np.linalg.norm(_backward(unit, side), axis=0)
    return norms[:, None] * norms


def forward(image: Float[np.ndarray, "h w"], side: int) -> Float[np.ndarray, "i j u v"]:
    """The frequencies u, v of each block i, j; the image's sides are multiples of `side`."""
    rows = _forward(_forward(image, side).T, side).T
    height, width = image.shape
    return rows.reshape(height // side, side, width // side, side).transpose(0, 2, 1, 3)


def backward(frequencies: Float[np.ndarray, "i j u v"]) -> Float[np.ndarray, "h w"]:
    """The image whose frequencies these are."""
    high, wide, side, _ = frequencies.shape
    flat = frequencies.transpose(0, 2, 1, 3).reshape(high * side, wide * side)
    return _backward(_backward(flat, side).T, side).T


def _forward(lines: Float[np.ndarray, "n k"], side: int) -> Float[np.ndarray, "n k"]:
    """Along the first axis: the borders' filter, then the blocks' transform."""
    filters, half = _filters(side), side // 2
    filtered = lines.copy()
    if len(lines) > side:
        filtered[half:-half] = _in_blocks(filters.before, lines[half:-half])
    return _in_blocks(filters.cosine, filtered)


def _backward(lines: Float[np.ndarray, "n k"], side: int) -> Float[np.ndarray, "n k"]:
    filters, half = _filters(side), side // 2
    blocks = _in_blocks(filters.cosine.T, lines)
    if len(lines) > side:
        blocks[half:-half] = _in_blocks(filters.after, blocks[half:-half])
    return blocks


def _in_blocks(
    matrix: Float[np.ndarray, "m m"], lines: Float[np.ndarray, "n k"]
) -> Float[np.ndarray, "n k"]:
    blocks = lines.reshape(-1, len(matrix), lines.shape[1])
    return np.matmul(matrix, blocks).reshape(lines.shape)

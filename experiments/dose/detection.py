"""Atom columns found in an image, and how many of the true ones they are.

Source: the benchmark of low-dose HAADF lattices whose figures `published` cites. Deviation: it does
not say how wide its centre of mass is taken; the probe's standard deviation to either side,
above the least pixel, gives its position errors within 0.02 px.

Its rules are coarse, and the table has what they give to the truth itself. The square window of a
maximum reaches a bright neighbour's flank at its corners, so that some faint columns are not found
even there; and the centre of mass, over few pixels, leans to the pixel grid.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage, optimize
from scipy.spatial import distance

from experiments.dose.samples import Columns

SMOOTHING = 0.7  # of the probe
_RISE = 0.15  # of a threshold between the first and the last of these percentiles
_PERCENTILES = (1.0, 99.9)
MATCHED_PX = 3.0
"""A column farther from all that were found is missed."""


class Found(NamedTuple):
    """How the columns found compare with those that are there.

    Attributes:
      f1: harmonic mean of recall and precision, over all columns.
      faint_f1: the same of the columns fainter than the brightest alone: their recall, and for
        false ones all that match no column; None where there are none.
      position_px: root mean square distance of those matched; None where none is.
    """

    f1: float
    faint_f1: float | None
    position_px: float | None


def detect(
    image: Float[np.ndarray, "h w"], *, spacing_px: float, probe_px: float
) -> Float[np.ndarray, "k 2"]:
    """Return where columns are, (row, column), in fractions of a pixel."""
    smooth = ndimage.gaussian_filter(image.astype(np.float64), SMOOTHING * probe_px)
    low, high = np.percentile(smooth, _PERCENTILES)
    window = 2 * int(spacing_px // 4) + 1
    is_peak = smooth == ndimage.maximum_filter(smooth, window)
    peaks = np.argwhere(is_peak & (smooth > low + _RISE * (high - low)))
    reach = max(1, round(probe_px))
    places = [_centre(smooth, row, column, reach) for row, column in peaks]
    return np.array(places, np.float64).reshape(-1, 2)


def _centre(
    smooth: Float[np.ndarray, "h w"], row: int, column: int, reach: int
) -> tuple[float, float]:
    """The centre of mass around a pixel, of what is above the least pixel there."""
    top, left = max(row - reach, 0), max(column - reach, 0)
    part = smooth[top : row + reach + 1, left : column + reach + 1]
    mass = part - part.min()
    total = mass.sum()
    if total <= 0:
        return float(row), float(column)
    down, across = mass.sum(axis=1), mass.sum(axis=0)
    return (
        float(top + down @ np.arange(len(down)) / total),
        float(left + across @ np.arange(len(across)) / total),
    )


def score(image: Float[np.ndarray, "h w"], columns: Columns) -> Found:
    """Return how the columns found in an image compare with the true ones.

    Those nearer to the border than half the spacing are left out on both sides.
    """
    found = detect(image, spacing_px=columns.spacing_px, probe_px=columns.probe_px)
    found = found[_is_inside(found, image.shape, columns.spacing_px / 2)]
    is_true = (columns.weights > 0) & _is_inside(
        columns.positions_px, image.shape, columns.spacing_px / 2
    )
    true, weights = columns.positions_px[is_true], columns.weights[is_true]
    which, apart = match(true, found)
    faint = weights < weights.max(initial=0)
    faint_hits, false = int(faint[which].sum()), len(found) - len(which)
    return Found(
        _f1(len(which), len(true) - len(which), false),
        _f1(faint_hits, int(faint.sum()) - faint_hits, false) if faint.any() else None,
        float(np.sqrt(np.mean(apart**2))) if len(apart) else None,
    )


def match(
    true: Float[np.ndarray, "k 2"], found: Float[np.ndarray, "m 2"]
) -> tuple[np.ndarray, Float[np.ndarray, " n"]]:
    """Return which true columns have a partner within 3 px, and how far that is [px].

    Each is given one partner at most, so that as many as possible have one, and these near.
    """
    if not len(true) or not len(found):
        return np.zeros(0, int), np.zeros(0)
    apart = distance.cdist(true, found)
    # a pair too far apart costs more than all the others together
    far = MATCHED_PX * (min(apart.shape) + 1)
    rows, partners = optimize.linear_sum_assignment(np.where(apart <= MATCHED_PX, apart, far))
    near = apart[rows, partners] <= MATCHED_PX
    return rows[near], apart[rows[near], partners[near]]


def _is_inside(
    places: Float[np.ndarray, "k 2"], shape: tuple[int, ...], margin_px: float
) -> np.ndarray:
    last = np.array(shape) - 1 - margin_px
    return np.asarray(np.all((places >= margin_px) & (places <= last), axis=1))


def _f1(hits: int, missed: int, false: int) -> float:
    return 2 * hits / max(2 * hits + missed + false, 1)

"""Which weights of a square window are one and the same under the square's eight symmetries."""

import functools

import numpy as np
from jaxtyping import Int

WIDTHS = (3, 5, 7, 9, 11, 13, 15)
"""Widths that a kernel or an MLP may have [px]."""


def check_width(width: int) -> int:
    """`width`, if it is one that a kernel or an MLP may have.

    Raises:
        ValueError: for any other width.
    """
    if width not in WIDTHS:
        raise ValueError(f"width is {width}: give an odd number from {WIDTHS[0]} to {WIDTHS[-1]}")
    return width


@functools.cache
def orbits(width: int) -> Int[np.ndarray, "w w"]:
    """The index of the free weight at each place of a window: equal number, same weight.

    Numbered from the centre outwards, so that the places of a narrower window have the same
    numbers in the middle of a wider one.

    Raises:
        ValueError: for a width that is even or not from 3 to 15.
    """
    distance = np.abs(np.arange(check_width(width)) - width // 2)
    near, far = np.minimum.outer(distance, distance), np.maximum.outer(distance, distance)
    return np.asarray(far * (far + 1) // 2 + near)


@functools.cache
def pair_orbits(width: int) -> Int[np.ndarray, "p p"]:
    """The index of the free weight of each connection that is tied over the eight symmetries.

    The connection from place i to place j shares its weight with the one from g(i) to g(j), for
    each symmetry g of the square; places are numbered row by row.
    """
    places = np.arange(check_width(width) ** 2).reshape(width, width)
    turned = [np.rot90(flipped, turns) for flipped in (places, places.T) for turns in range(4)]
    pairs = [g.reshape(-1, 1) * width**2 + g.reshape(1, -1) for g in turned]
    first = np.min(np.stack(pairs), axis=0)
    return np.unique(first, return_inverse=True)[1].reshape(width**2, width**2)


def free_count(width: int) -> int:
    """The number of free weights of a window."""
    half = width // 2
    return (half + 1) * (half + 2) // 2


def width_of(free: int) -> int:
    """The width of the window that has this number of free weights.

    Raises:
        ValueError: if there is none.
    """
    for width in WIDTHS:
        if free_count(width) == free:
            return width
    raise ValueError(
        f"parameters have {free} tied weights: widths {WIDTHS} have "
        f"{[free_count(width) for width in WIDTHS]}"
    )

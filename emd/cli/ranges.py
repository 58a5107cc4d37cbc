"""Owns how numbers of the command line are read, each within its bounds."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable

Region = tuple[int, int, int, int]


def pixels(text: str) -> int:
    """A number of pixels; what argparse tells where it is none."""
    value = _whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1: give a number of pixels")
    return value


def count(text: str) -> int:
    """The number of a frame, likewise."""
    value = _whole(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is below 0: frames count from 0")
    return value


def number(low: float, high: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """A function that reads a number from `low` to `high`.

    Args:
      low: the lowest.
      high: the highest.
      above: `low` itself is too low.
    """
    bounds = (
        f"{'above' if above else 'from'} {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"
    )

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number: give one {bounds}") from None
        if not low <= value <= high or not math.isfinite(value) or (above and value == low):
            raise argparse.ArgumentTypeError(f"{text} is out of bounds: give a number {bounds}")
        return value

    return read


def region(text: str) -> Region:
    """First and last row, first and last column of a part of an image, each last one excluded."""
    found = re.fullmatch(r"(\d{1,9}):(\d{1,9}),(\d{1,9}):(\d{1,9})", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: write it as 0:256,128:384, rows first")
    top, bottom, left, right = map(int, found.groups())
    if top >= bottom or left >= right:
        raise argparse.ArgumentTypeError(f"{text!r} holds no pixel: each end is above its start")
    return top, bottom, left, right


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number: give a whole one") from None

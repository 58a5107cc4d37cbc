"""What makes the intensities of an image suspect, each with its consequence, from a sample of it.

Nothing here stops a restoration, which undoes any gain and offset: these are the faults that it
cannot undo.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

_SAMPLE_PX = 2**16  # up to four times as many pixels are looked at, evenly spaced
_LEAST_PX = 1024  # fewer say nothing of shares
MANY = 0.001
"""Share of the pixels; fewer change no mean."""
_FEW, _CROWD = 8, 3  # pixels at the highest value, and how many times those at the next
_LEVELS = 256
_LEAST_LEVELS = 24  # fewer, and a histogram has no shape
_FULL = 0.9  # share of the levels that a stretched image uses
_GAPS = 0.05  # share of the levels that are empty between others
_COMB = 0.3  # by how much of their mean levels differ from their neighbours
_WORD_PER_BYTE = 257  # 65535 / 255


class Suspicion(NamedTuple):
    """Why intensities may not be what they seem.

    Attributes:
      name: of its kind: "negative", "display" or "saturated"; of one, frames are told together.
      text: what was found and what follows from it, in a line.
    """

    name: str
    text: str


def suspicions(pixels: Shaped[np.ndarray, "h w"], low: float, high: float) -> tuple[Suspicion, ...]:
    """What there is to suspect of an image, of fewer than 1024 pixels or constant nothing.

    * negative: counts below 0, where the type or the values say counts: whole numbers.
    * display: 8-bit levels over their full range, or with gaps or combs in their histogram, as
      stretching, gamma and the way through a screen leave them; also 8 bits scaled to 16.
    * saturated: pixels that crowd at the highest value: more than three times those at the next.

    Shares are those of about 65 000 to 260 000 pixels, evenly spaced; the image is not copied.

    Args:
      pixels: finite intensities.
      low: their minimum.
      high: their maximum.
    """
    if pixels.size < _LEAST_PX or low == high:
        return ()
    step = max(1, int((pixels.size / _SAMPLE_PX) ** 0.5))
    sample = pixels[::step, ::step].reshape(-1)
    found = (_negative(sample, low), _display(sample, low, high), _saturated(sample, high))
    return tuple(each for each in found if each is not None)


def told(each_frame: list[tuple[Suspicion, ...]]) -> list[str]:
    """One line a kind of suspicion for a stack: that of the first frame with it, and how many."""
    lines = []
    for name in dict.fromkeys(s.name for found in each_frame for s in found):
        those = [(k, s) for k, found in enumerate(each_frame) for s in found if s.name == name]
        first, suspicion = those[0]
        where = f"frame {first}: " if len(each_frame) > 1 else ""
        others = f" (and {len(those) - 1} more frames)" if len(those) > 1 else ""
        lines.append(where + suspicion.text + others)
    return lines


def _negative(sample: Shaped[np.ndarray, " n"], low: float) -> Suspicion | None:
    if low >= 0:
        return None
    share = float(np.mean(sample < 0))
    if share <= MANY or (sample.dtype.kind == "f" and not _is_whole(sample)):
        return None
    text = (
        f"{percent(share)} of the counts are negative: 0 is not the black level, so doses and "
        "ratios of intensities are wrong by that offset; the restoration keeps it"
    )
    return Suspicion("negative", text)


def _is_whole(sample: Shaped[np.ndarray, " n"]) -> bool:
    return bool(np.all(sample == np.rint(sample)))


def _display(sample: Shaped[np.ndarray, " n"], low: float, high: float) -> Suspicion | None:
    """Levels that were made to be looked at."""
    seen = ""
    if sample.dtype == np.uint8:
        seen = _shape(np.bincount(sample, minlength=_LEVELS), low, high)
    elif sample.dtype == np.uint16 and high >= _LEVELS * _WORD_PER_BYTE / 2:
        few, all_of_it = sample[:_LEVELS], sample  # nearly every image ends with the few
        if not any((part % _WORD_PER_BYTE).any() for part in (few, all_of_it)):
            seen = "scaled to 16 bits"
    if not seen:
        return None
    text = (
        f"8-bit, {seen}: intensities may be display values, not counts: doses and noise are not "
        "to be trusted, nor ratios of intensities after restoration"
    )
    return Suspicion("display", text)


def _shape(histogram: Int[np.ndarray, " n"], low: float, high: float) -> str:
    """What is suspect of a histogram of 8-bit levels; empty for nothing."""
    filled = np.cumsum(histogram) / histogram.sum()
    first, last = (int(np.searchsorted(filled, share)) for share in (0.01, 0.99))
    middle: Float[np.ndarray, " k"] = histogram[first : last + 1].astype(np.float64)
    if len(middle) >= _LEAST_LEVELS:
        empty = float(np.mean(middle == 0))
        if empty > _GAPS:
            return f"with {percent(empty)} of the levels between others empty"
        around = (middle[:-2] + middle[2:]) / 2
        # what chance alone makes of so many pixels a level does not count
        rough = np.abs(middle[1:-1] - around).mean() - np.sqrt(middle).mean()
        if rough > _COMB * middle.mean():
            return "with a comb in its histogram"
    if low == 0 and high == _LEVELS - 1 and np.mean(histogram > 0) >= _FULL:
        return "over the full range from 0 to 255"
    return ""


def _saturated(sample: Shaped[np.ndarray, " n"], high: float) -> Suspicion | None:
    is_top = sample == high
    crowd, below = int(np.count_nonzero(is_top)), sample[~is_top]
    if crowd <= MANY * sample.size or not below.size:
        return None
    if not is_cut_off(crowd, int(np.count_nonzero(below == below.max()))):
        return None
    text = (
        f"{percent(crowd / sample.size)} saturated, at {high:g}: the mean and bright columns are "
        "too low after restoration"
    )
    return Suspicion("saturated", text)


def is_cut_off(crowd: int, beside: int) -> bool:
    """Whether pixels crowd at the highest value, by their number and that of those at the next.

    A tail thins out; where it was cut off, its pixels crowd at the end.
    """
    return crowd > _FEW and crowd > _CROWD * beside


def percent(share: float) -> str:
    """A share of the pixels in words."""
    return f"{float(f'{100 * share:.2g}'):g} %"  # of 0.996 too: 100, not 1e+02

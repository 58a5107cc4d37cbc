"""The intensity contract, either side of a model: counts to finite numbers, and back to counts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from emd.data.normalise import Scale, denormalise, measure, normalise
from emd.data.pixels import bands, despike, fill_nonfinite, outlier_warning

_FLOAT32_MEANS = (1e-28, 1e28)  # within these no step in float32 overflows or vanishes


class Frame(NamedTuple):
    """A frame ready for a model.

    Attributes:
      pixels: finite, in the type of the file; its own array where nothing was replaced.
      wrong: where they were not finite; None where all were.
      spikes: how many were replaced.
      scale: minimum and mean above it, in counts.
      warning: where the minimum or maximum lies far outside the rest.
    """

    pixels: Shaped[np.ndarray, "h w"]
    wrong: Bool[np.ndarray, "h w"] | None
    spikes: int
    scale: Scale
    warning: str | None


class Outcome(NamedTuple):
    """What a frame's way in and out did to it: intensities in counts, pixels as numbers of them."""

    minimum: float
    mean: float
    mean_correction: float
    clipped: int
    nonfinite: int
    spikes: int
    warning: str | None


def prepare(pixels: Shaped[np.ndarray, "h w"], *, spikes: bool) -> Frame:
    """A frame made finite, with `spikes` despiked, and measured; the given pixels stay as they are.

    Raises:
      ValueError: intensities so far apart that their sum overflows.
    """
    pixels, wrong = fill_nonfinite(pixels)
    pixels, count = despike(pixels) if spikes else (pixels, 0)
    low = float(min(pixels[band].min() for band in bands(*pixels.shape)))
    high = float(max(pixels[band].max() for band in bands(*pixels.shape)))
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for band in bands(*pixels.shape):
            part = measure(pixels[band].astype(np.float64))
            # differences first: a sum of large counts would lose the small ones
            total += pixels[band].size * float(part.mean + (part.minimum - low))
    if not np.isfinite(total):
        raise ValueError(f"pixels from {low:g} to {high:g} are too far apart: divide them by 1e9")
    scale = Scale(low, total / pixels.size)
    return Frame(pixels, wrong, count, scale, outlier_warning(pixels, low, high))


def for_device(
    part: Shaped[np.ndarray, "i j"], scale: Scale
) -> tuple[Shaped[np.ndarray, "i j"], np.float32, np.float32]:
    """Part of a frame, and the minimum and mean that are still to be taken out, in float32.

    Small types travel as they are. Others, whose differences float32 would round, are normalised
    here, and 0 and 1 are left to take out.
    """
    low, high = _FLOAT32_MEANS
    if part.itemsize <= 2 or (part.dtype == np.float32 and low < scale.mean < high):
        return part, np.float32(scale.minimum), np.float32(scale.mean)
    ready = normalise(part.astype(np.float64), scale).astype(np.float32)
    return ready, np.float32(0), np.float32(1)


def finish(
    frame: Frame,
    raw: Float[np.ndarray, "h w"],
    original: Shaped[np.ndarray, "h w"],
    out: Shaped[np.ndarray, "h w"],
    *,
    keep_mean: bool,
) -> Outcome:
    """Writes a model's normalised result to `out` as counts, and gives what was done.

    Args:
      frame: what the model saw.
      raw: its result; may share its memory with `out`.
      original: the pixels as given; non-finite ones are copied.
      out: of the original's type. Results are rounded for integers and brought into its range.
      keep_mean: shift the result to the mean of what the model saw, over finite pixels.

    Raises:
      ValueError: the result is not finite.
    """
    shift = _normalised_shift(frame, raw)
    if not np.isfinite(shift):
        raise ValueError("the model's result is not finite: its weights are damaged")
    correction = shift * frame.scale.mean if keep_mean else 0.0
    low, high = _range(out.dtype)
    clipped = 0
    for band in bands(*raw.shape):
        counts = denormalise(raw[band].astype(np.float64), frame.scale)
        counts += correction
        if out.dtype.kind in "iu":
            np.rint(counts, out=counts)
        clipped += int(np.count_nonzero((counts < low) | (counts > high)))
        out[band] = np.clip(counts, low, high, out=counts)
    if frame.wrong is not None:
        out[frame.wrong] = original[frame.wrong]
    nonfinite = 0 if frame.wrong is None else int(np.count_nonzero(frame.wrong))
    minimum, mean = (float(value) for value in frame.scale)
    return Outcome(minimum, mean, correction, clipped, nonfinite, frame.spikes, frame.warning)


def _normalised_shift(frame: Frame, raw: Float[np.ndarray, "h w"]) -> float:
    """What the mean of finite pixels lost on the way through the model, in normalised units."""
    count, lost = raw.size, raw.size - float(raw.sum(dtype=np.float64))  # the input's mean is 1
    if frame.wrong is not None and frame.scale.mean > 0:
        filled = frame.pixels[frame.wrong].astype(np.float64) - frame.scale.minimum
        count -= filled.size
        lost -= float((filled / frame.scale.mean - raw[frame.wrong]).sum())
    return lost / max(count, 1)


def _range(dtype: np.dtype) -> tuple[float, float]:
    bounds = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return float(bounds.min), float(bounds.max)

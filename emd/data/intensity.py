"""The intensity contract, either side of a model: counts to finite numbers, and back to counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from emd.data.normalise import Scale
from emd.data.pixels import bands, despike, fill_nonfinite, outlier_warning
from emd.data.suspicions import Suspicion, suspicions
from emd.threads import share

_FLOAT32_MEANS = (1e-28, 1e28)  # within these no step in float32 overflows or vanishes


class Frame(NamedTuple):
    """A frame ready for a model.

    Attributes:
      pixels: finite, in the type of the file; its own array where nothing was replaced.
      wrong: where they were not finite; None where all were.
      spikes: how many were replaced.
      scale: minimum and mean above it, in counts.
      warning: where the minimum or maximum lies far outside the rest.
      suspicions: what makes its intensities suspect.
    """

    pixels: Shaped[np.ndarray, "h w"]
    wrong: Bool[np.ndarray, "h w"] | None
    spikes: int
    scale: Scale
    warning: str | None
    suspicions: tuple[Suspicion, ...] = ()


class Outcome(NamedTuple):
    """What a frame's way in and out did to it: intensities in counts, pixels as numbers of them."""

    minimum: float
    mean: float
    mean_correction: float
    clipped: int
    nonfinite: int
    spikes: int
    warning: str | None
    suspicions: tuple[Suspicion, ...] = ()


def prepare(pixels: Shaped[np.ndarray, "h w"], *, spikes: bool) -> Frame:
    """A frame made finite, with `spikes` despiked, and measured; the given pixels stay as they are.

    Raises:
      ValueError: intensities so far apart that their sum overflows.
    """
    wrong, count = None, 0
    sums = _measure(pixels)
    if not (np.isfinite(sums.low) and np.isfinite(sums.high)):
        pixels, wrong = fill_nonfinite(pixels)
        sums = _measure(pixels)
    if spikes:
        pixels, count = despike(pixels)
        sums = _measure(pixels) if count else sums
    low, high, mean = sums
    if not np.isfinite(mean):
        raise ValueError(f"pixels from {low:g} to {high:g} are too far apart: divide them by 1e9")
    warning = outlier_warning(pixels, low, high)
    return Frame(pixels, wrong, count, Scale(low, mean), warning, suspicions(pixels, low, high))


class _Sums(NamedTuple):
    """Of a frame, in counts: not finite where a pixel is not, or where the sum overflows."""

    low: float
    high: float
    mean: float
    """Above the minimum; 0 for a constant frame."""


def _measure(pixels: Shaped[np.ndarray, "h w"]) -> _Sums:
    """One pass over the frame; the sums of integers are exact."""
    wide = np.float64 if pixels.dtype.kind == "f" else np.int64

    def one(band: slice) -> tuple[Any, Any, Any, int]:
        part = pixels[band]
        with np.errstate(over="ignore", invalid="ignore"):
            least = wide(part.min())
            # differences first: a sum of large counts in float64 would lose the small ones
            exact = part.dtype != np.float64
            above = part.sum(dtype=wide) - part.size * least if exact else (part - least).sum()
            return least, part.max(), above, part.size

    lows, highs, aboves, sizes = zip(*share(one, bands(*pixels.shape)), strict=True)
    low, high = np.min(lows), np.max(highs)
    with np.errstate(over="ignore", invalid="ignore"):
        steps = [float(least - low) for least in lows]
        total = sum(float(a) + n * step for a, n, step in zip(aboves, sizes, steps, strict=True))
    return _Sums(float(low), float(high), total / pixels.size)


def device_type(dtype: np.dtype, *, host: bool) -> np.dtype:
    """The type in which pixels travel to the device: small ones as they are, to be quick.

    With `host` the device is the CPU, where they are normalised on the way.
    """
    return dtype if dtype.itemsize <= 2 and not host else np.dtype(np.float32)


class Transfer(NamedTuple):
    """How a frame travels to the device.

    Attributes:
      put: writes its first argument, part of the frame, to its second.
      minimum: what is still to be subtracted there.
      mean: what is to be divided by after that.
    """

    put: Callable[[np.ndarray, np.ndarray], None]
    minimum: np.float32
    mean: np.float32


def for_device(dtype: np.dtype, scale: Scale, *, host: bool) -> Transfer:
    """How pixels of a type travel: small ones as they are, to be normalised on the device.

    Others, whose differences float32 would round, are normalised on the way, and 0 and 1 are left
    to take out; with `host` so is everything.
    """
    low, high = _FLOAT32_MEANS
    single = dtype.itemsize <= 2 or (dtype == np.float32 and low < scale.mean < high)
    minimum, mean = (np.float32(value) for value in scale) if single else scale

    def copy(part: np.ndarray, out: np.ndarray) -> None:
        out[...] = part

    def put(part: np.ndarray, out: np.ndarray) -> None:
        if scale.mean == 0:
            out[...] = 1
        elif single:
            np.subtract(part, minimum, out=out)
            if mean != 1:
                out /= mean
        else:
            out[...] = (part.astype(np.float64) - minimum) / mean

    if single and not host:
        return Transfer(copy, minimum, mean)
    return Transfer(put, np.float32(0), np.float32(1))


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
      raw: its result, which is worked on in place; may share its memory with `out`.
      original: the pixels as given; non-finite ones are copied.
      out: of the original's type. Results are rounded for integers and brought into its range.
      keep_mean: shift the result to the mean of what the model saw, over finite pixels.

    Raises:
      ValueError: the result is not finite.
    """
    results = _measure(raw)
    shift = _normalised_shift(frame, raw, results)
    if not np.isfinite(shift):
        raise ValueError("the model's result is not finite: its weights are damaged")
    minimum, mean = (float(value) for value in frame.scale)
    correction = shift * mean if keep_mean else 0.0
    kind = _arithmetic(out.dtype, mean)
    factor, offset = kind(mean), kind(minimum + correction)
    low, high = _range(out.dtype)
    within = low < results.low * mean + offset - 1 and results.high * mean + offset + 1 < high

    def put(band: slice) -> int:
        with np.errstate(over="ignore"):
            counts = raw[band]
            counts = np.multiply(counts, factor, out=counts if kind is np.float32 else None)
            counts += offset
        if out.dtype.kind in "iu":
            np.rint(counts, out=counts)
        clipped = 0
        if not within:
            clipped = int(np.count_nonzero((counts < low) | (counts > high)))
            np.clip(counts, low, high, out=counts)
        if not np.may_share_memory(counts, out):
            out[band] = counts
        return clipped

    clipped = sum(share(put, bands(*raw.shape)))
    if frame.wrong is not None:
        out[frame.wrong] = original[frame.wrong]
    nonfinite = 0 if frame.wrong is None else int(np.count_nonzero(frame.wrong))
    told = frame.spikes, frame.warning, frame.suspicions
    return Outcome(minimum, mean, correction, clipped, nonfinite, *told)


def _normalised_shift(frame: Frame, raw: Float[np.ndarray, "h w"], results: _Sums) -> float:
    """What the mean of finite pixels lost on the way through the model, in normalised units."""
    # the input's mean is 1
    count, lost = raw.size, raw.size * (1 - results.low - results.mean)
    if frame.wrong is not None and frame.scale.mean > 0:
        filled = frame.pixels[frame.wrong].astype(np.float64) - frame.scale.minimum
        count -= filled.size
        lost -= float((filled / frame.scale.mean - raw[frame.wrong]).sum())
    return lost / max(count, 1)


def _arithmetic(dtype: np.dtype, mean: float) -> type[np.float32] | type[np.float64]:
    """What counts of a type are worked out in: float32 where it changes no result.

    It rounds 8-bit counts by less than 1e-4, and floats of 32 bits and fewer by little more than
    their own type does. Near 65535 its steps are 1/256 count, so wider integers take float64.
    """
    low, high = _FLOAT32_MEANS
    narrow = dtype.itemsize == 1 or dtype in (np.float16, np.float32)
    return np.float32 if narrow and low < mean < high else np.float64


def _range(dtype: np.dtype) -> tuple[float, float]:
    bounds = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return float(bounds.min), float(bounds.max)

"""The noise of one image, found in the image itself: its size, and the dose that it betrays.

Counting electrons gives a variance that grows with the mean: variance = gain (mean - offset). The
line is fitted to the flattest blocks of each brightness, so that structure is not taken for noise.
Plain NumPy, from blocks spread evenly over the image, at most 2^16 of them.

Source: Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting for single-image
raw-data" (IEEE Transactions on Image Processing 17, 2008), for the line; for the blocks see
`emd/blocks.py`.
Deviation: a robust line through variances, in place of a likelihood.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from emd.blocks import Blocks, Points, flattest, sample
from emd.data.pixels import bands
from emd.data.suspicions import MANY, is_cut_off, percent

_MIN_BLOCKS = 16
_SMALL_PX = 32 * 32
_MIN_BINS = 4  # brightnesses, for a line
_ROUNDS = 30
_SLOPE_ERRORS = 6.0  # a slope of fewer standard errors says nothing
_CORRELATION_ERRORS = 4.0
_CORRELATED = 0.05  # white noise on simulated scenes stays within it, up to 100 electrons a pixel
_EMPTY, _DARK = 0.01, 0.5  # shares of blocks without any electron, of such pixels in the others
_TOO_DARK = 0.1  # share of the blocks that may lie below the offset
_NO_NOISE = 1e-12  # of the squared range: less than float32 resolves
_BESIDE = 5.0  # standard errors
_TOO_CROOKED = 0.4  # share of the points that may lie beside the line


class Noise(NamedTuple):
    """What an image tells of its noise; None where it does not tell.

    Attributes:
      std: standard deviation of the noise at the image's mean, in counts.
      gain: counts that an electron makes.
      gain_error: its standard error, which does not know of structure as fine as a pixel.
      offset: counts at which the variance vanishes: the black level where electrons alone make
        noise, and readout^2 / gain below it where the detector adds some.
      readout: standard deviation of what the detector adds, in counts; only with a black level.
      dose: electrons a pixel: (mean - offset) / gain, or with a black level (mean - black) / gain.
      dose_error: its standard error.
      correlation: of horizontal and of vertical neighbours at the highest frequencies, beyond that
        of white noise, of which both are 0.
      saturated: share of pixels at the highest value, where they crowd there.
      warnings: one line each: what makes the numbers wrong, or why one is None.
    """

    std: float | None = None
    gain: float | None = None
    gain_error: float | None = None
    offset: float | None = None
    readout: float | None = None
    dose: float | None = None
    dose_error: float | None = None
    correlation: tuple[float, float] | None = None
    saturated: float = 0.0
    warnings: tuple[str, ...] = ()


class Sums(NamedTuple):
    """Of the finite pixels of an image; all 0 where there is none.

    Attributes:
      finite: how many.
      low: the lowest.
      high: the highest.
      mean: in counts.
      saturated: share of pixels at the highest value, where they crowd there; else 0.
    """

    finite: int
    low: float
    high: float
    mean: float
    saturated: float


class _Line(NamedTuple):
    """Variance as a function of the mean.

    Attributes:
      slope: in counts.
      level: its value at the image's mean.
      covariance: of the two.
      beside: share of the points that lie clearly beside it.
    """

    slope: float
    level: float
    covariance: Float[np.ndarray, "2 2"]
    beside: float


def measure(pixels: Shaped[np.ndarray, "h w"]) -> Sums:
    """The range and mean of an image, band by band."""
    tops: dict[float, int] = {}
    low, finite, above, level = math.inf, 0, 0.0, None
    for band in bands(*pixels.shape):
        part = pixels[band].ravel()
        if part.dtype.kind == "f":
            part = part[np.isfinite(part)]
        if not part.size:
            continue
        low, finite = min(low, float(part.min())), finite + part.size
        level = float(part[0]) if level is None else level
        above += float((part.astype(np.float64) - level).sum())
        for _ in range(2):  # its two highest values
            top = part.max()
            is_top = part == top
            tops[float(top)] = tops.get(float(top), 0) + int(np.count_nonzero(is_top))
            part = part[~is_top]
            if not part.size:
                break
    if level is None:
        return Sums(0, 0.0, 0.0, 0.0, 0.0)
    (high, crowd), *others = sorted(tops.items(), reverse=True)
    is_cut = bool(others) and is_cut_off(crowd, others[0][1])
    return Sums(finite, low, high, level + above / finite, crowd / finite if is_cut else 0.0)


def estimate(pixels: Shaped[np.ndarray, "h w"], *, black: float | None = None) -> Noise:
    """The noise of an image, from the image alone; of a x + b, with a > 0, it gives the same dose.

    On 512x512 pixels of the scenes of `emd.data.simulate`, Poisson counts of 1 to 100 electrons a
    pixel, the noise is within 5 % of the truth, and the dose within 10 % where brightness varies by
    more than 40 % of its mean, within 30 % where by more than 12 %; with less it may err by three
    times the `dose_error`. Structure as fine as a pixel is noise to it, most of all the phase
    contrast of amorphous matter: there the dose is half of the truth at 10 electrons a pixel, and
    less at more; sharp edges have the same effect from 1000 electrons a pixel up.

    Args:
      pixels: intensities in any linear unit, of any real type; NaN and infinities are passed over.
      black: the counts that no electron makes, where known.
    """
    sums = measure(pixels)
    if sums.finite == 0:
        return Noise(warnings=("no pixel is finite",))
    if sums.low == sums.high:
        return Noise(std=0.0, warnings=("all pixels are equal: no noise to measure",))
    warnings = []
    if sums.saturated > MANY:
        warnings.append(
            f"{percent(sums.saturated)} of the pixels are saturated: mean and dose are too low"
        )
    blocks = sample(pixels, sums.low, sums.high if sums.saturated else None)
    if blocks.empty > _EMPTY and blocks.lowest > _DARK:  # what blocks with electrons say is biased
        reason = (
            f"too few electrons to measure its noise: {percent(blocks.empty)} of its blocks of 8x8 "
            "pixels hold none; add frames up, or bin them"
        )
        return Noise(saturated=sums.saturated, warnings=(*warnings, reason))
    if len(blocks.mean) < _MIN_BLOCKS:
        reason = "too small" if pixels.size < _SMALL_PX else "too much of it is cut off"
        reason = f"{reason} to measure its noise: {_MIN_BLOCKS} blocks of 8x8 pixels are needed"
        return Noise(saturated=sums.saturated, warnings=(*warnings, reason))
    points = flattest(blocks)
    if np.median(points.variance) <= _NO_NOISE * (sums.high - sums.low) ** 2:
        return Noise(std=0.0, saturated=sums.saturated, warnings=(*warnings, "it has no noise"))
    if max(map(abs, points.correlation)) > max(_CORRELATED, _CORRELATION_ERRORS * points.error):
        warnings.append(
            "noise is correlated: interpolated or filtered image; the noise is larger than this, "
            "and the dose lower"
        )
    line = _fit(points, sums.mean)
    noise = Noise(
        std=math.sqrt(
            np.median(points.variance) if line is None or line.level <= 0 else line.level
        ),
        correlation=points.correlation,
        saturated=sums.saturated,
    )
    reason = _fault(line, blocks, sums.mean)
    if line is None or reason:
        return noise._replace(warnings=(*warnings, reason))
    return _electrons(noise, line, sums.mean, black)._replace(warnings=tuple(warnings))


def _electrons(noise: Noise, line: _Line, mean: float, black: float | None) -> Noise:
    """What the line says of gain and dose."""
    gain, level = line.slope, line.level
    dose = level / gain**2
    # of level / gain^2, to first order
    gradient = np.array([-2 * dose / gain, 1 / gain**2])
    noise = noise._replace(
        gain=gain,
        gain_error=math.sqrt(line.covariance[0, 0]),
        offset=mean - level / gain,
        dose=dose,
        dose_error=math.sqrt(gradient @ line.covariance @ gradient),
    )
    if black is None:
        return noise
    dose = (mean - black) / gain
    return noise._replace(
        readout=math.sqrt(max(level - gain * (mean - black), 0.0)),
        dose=dose,
        dose_error=abs(dose) * math.sqrt(line.covariance[0, 0]) / gain,
    )


def _fault(line: _Line | None, blocks: Blocks, mean: float) -> str:
    """Why the line says nothing of electrons; empty where it does."""
    unknown = "gain and dose are unknown"
    if line is None:
        return f"{unknown}: the image is too small to compare bright parts with dark ones"
    error = _SLOPE_ERRORS * math.sqrt(line.covariance[0, 0])
    if line.slope < -error:
        return (
            f"{unknown}: noise is larger where the image is darker, so contrast was inverted "
            "or is not linear"
        )
    if line.slope <= error:
        return (
            f"{unknown}: noise does not grow with brightness, which varies too little, "
            "or noise is not that of electrons"
        )
    share = float(np.mean(blocks.mean < mean - line.level / line.slope))
    if line.level <= 0 or share > _TOO_DARK or line.beside > _TOO_CROOKED:
        return (
            f"{unknown}: noise does not grow in proportion to brightness, so the image is not "
            "linear in electrons, or its noise was filtered"
        )
    return ""


def _fit(points: Points, centre: float) -> _Line | None:
    """The line through the points that most agree on; None for too few of them."""
    if len(points.mean) < _MIN_BINS:
        return None
    spread = float(np.ptp(points.mean)) or 1.0
    design = np.stack([(points.mean - centre) / spread, np.ones_like(points.mean)], axis=1)
    middle = float(np.median(points.variance)) or 1.0
    seen = points.variance / middle
    fitted, weight = np.ones_like(seen), np.ones_like(seen)
    for _ in range(_ROUNDS):
        # The error of a variance is in proportion to it.
        scale = weight / fitted**2
        inverse = np.linalg.pinv((design * scale[:, None]).T @ design)
        found = inverse @ ((design * scale[:, None]).T @ seen)
        fitted = np.maximum(design @ found, 1e-2)
        misfit = seen / fitted - 1
        scatter = max(1.4826 * float(np.median(np.abs(misfit))), points.misfit)
        # Tukey's biweight, at its usual width
        weight = np.maximum(1 - (misfit / (4.685 * scatter)) ** 2, 0.0) ** 2
        if np.count_nonzero(weight) < _MIN_BINS:
            return None
    unit = np.array([middle / spread, middle])
    slope, level = found * unit
    covariance = scatter**2 * inverse * np.outer(unit, unit)
    beside = np.mean(np.abs(misfit) > _BESIDE * points.misfit)
    return _Line(float(slope), float(level), covariance, float(beside))

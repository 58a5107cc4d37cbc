"""Owns the numbers of `emd compare`: two images or stacks, frame by frame and band by band."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from emd import metrics
from emd.data.pixels import bands
from emd.data.source import Source

_WHITE = 0.02  # a correlation below it is of no consequence, however sure
_ERRORS = 4.0
_SSIM_PX = 11  # no smaller image has one
_SSIM_BAND_PX = 2**22


class Differences(NamedTuple):
    """How far B is from A; None where it is not defined.

    Attributes:
      identical: whether every pixel is the same, in every frame.
      range: the lowest and the highest count of A.
      psnr: in dB, from the range of A; of a stack the mean over its frames that differ.
      ssim: of counts from the lowest of A up, and its range, so that a change of offset in both
        changes nothing; of a stack the mean.
      mse: mean squared error, in squared counts.
      residual_mean: of A - B, in counts.
      residual_std: its standard deviation, in counts.
      whiteness: correlation of the residual's horizontal and vertical neighbours; 0 where white.
      white_within: what it may be by chance, or for no consequence.
      correlation: of A and B, after Pearson.
      nonfinite: pixels left out.
      worst_frame: of a stack, that of the least PSNR.
      worst_psnr: its PSNR.
      worst_ssim: its SSIM.
    """

    identical: bool
    range: tuple[float, float]
    psnr: float | None
    ssim: float | None
    mse: float
    residual_mean: float
    residual_std: float
    whiteness: tuple[float, float] | None
    white_within: float
    correlation: float | None
    nonfinite: int
    worst_frame: int | None
    worst_psnr: float | None
    worst_ssim: float | None


# Of the finite pixels, less a level: how many, sums of A, B, their squares and product, of the
# residual and its square; then of pairs of neighbours, across and down: how many, the sum of both
# residuals, and of their product.
_Sums = Float[np.ndarray, "14"]


class Residual(NamedTuple):
    """Of A - B: its mean and standard deviation in counts, and its whiteness as above."""

    mean: float
    std: float
    whiteness: tuple[float, float] | None


class _Frame(NamedTuple):
    """A frame's part: sums that add up over frames, and its SSIM."""

    sums: _Sums
    ssim: float | None


def measure(a: Source, b: Source) -> Differences:
    """How far B is from A, which are of one shape and open.

    Raises:
      FormatError: a file is damaged.
      ValueError: no pixel is finite in both.
    """
    count = math.prod(a.shape[:-2])
    low, high, level = _range_of(a, count)
    frames = []
    identical = True
    for k in range(count):
        one, other = a[k : k + 1][0], b[k : k + 1][0]
        sums = _sums(one, other, level)
        identical = identical and np.array_equal(one, other, equal_nan=True)
        score = _ssim(one, other, low, high - low) if high > low else None
        frames.append(_Frame(sums, score))
    total = np.sum([frame.sums for frame in frames], axis=0)
    if total[0] == 0:
        raise ValueError(f"no pixel is finite in both {a.path} and {b.path}")
    found = _of_sums(total)
    found |= {"identical": bool(identical), "range": (low, high)}
    found["nonfinite"] = math.prod(a.shape) - int(total[0])
    return Differences(**(found | _over_frames(frames, high - low)))


def of_pixels(a: Shaped[np.ndarray, "h w"], b: Shaped[np.ndarray, "h w"]) -> Residual:
    """The residual of two images; all 0 where no pixel is finite in both."""
    finite = a[np.isfinite(a)]
    sums = _sums(a, b, float(finite[0]) if finite.size else 0.0)
    if sums[0] == 0:
        return Residual(0.0, 0.0, None)
    found = _of_sums(sums)
    return Residual(found["residual_mean"], found["residual_std"], found["whiteness"])


def _over_frames(frames: list[_Frame], span: float) -> dict[str, Any]:
    """PSNR and SSIM: the mean of the frames, and the worst."""
    kept = [frame for frame in frames if frame.sums[0]]
    losses = [frame.sums[7] / frame.sums[0] for frame in kept]
    # frames that are identical have none
    psnr = [-10 * math.log10(loss / span**2) for loss in losses if loss > 0 and span > 0]
    ssim = [frame.ssim for frame in kept if frame.ssim is not None]
    found = {
        "psnr": float(np.mean(psnr)) if psnr else None,
        "ssim": float(np.mean(ssim)) if ssim else None,
        **dict.fromkeys(("worst_frame", "worst_psnr", "worst_ssim")),
    }
    if len(frames) > 1 and psnr:
        worst = max(range(len(frames)), key=lambda k: frames[k].sums[7] / max(frames[k].sums[0], 1))
        found |= {"worst_frame": worst, "worst_psnr": min(psnr), "worst_ssim": frames[worst].ssim}
    return found


def _of_sums(sums: _Sums) -> dict[str, Any]:
    """What follows from the sums over all frames."""
    count, in_a, in_b, aa, bb, ab, in_r, rr = sums[:8].tolist()
    mean = in_r / count
    power = max(rr / count - mean**2, 0.0)
    whiteness = [
        (product / pairs - mean * both / pairs + mean**2) / power if pairs and power else None
        for pairs, both, product in sums[8:].reshape(2, 3).tolist()
    ]
    spread = (aa - in_a**2 / count) * (bb - in_b**2 / count)
    return {
        "mse": rr / count,
        "residual_mean": mean,
        "residual_std": math.sqrt(power),
        "whiteness": None if None in whiteness else tuple(whiteness),
        "white_within": max(_WHITE, _ERRORS / math.sqrt(count)),
        "correlation": (ab - in_a * in_b / count) / math.sqrt(spread) if spread > 0 else None,
    }


def _range_of(source: Source, count: int) -> tuple[float, float, float]:
    """The lowest and highest finite count of all frames, and one between; 0 for none."""
    low, high = math.inf, -math.inf
    for k in range(count):
        frame = source[k : k + 1][0]
        for band in bands(*frame.shape):
            part = frame[band][np.isfinite(frame[band])]
            if part.size:
                low, high = min(low, float(part.min())), max(high, float(part.max()))
    return (0.0, 0.0, 0.0) if low > high else (low, high, low / 2 + high / 2)


def _sums(a: Shaped[np.ndarray, "h w"], b: Shaped[np.ndarray, "h w"], level: float) -> _Sums:
    """The sums of a frame."""
    total = np.zeros(14)
    for band in bands(*a.shape):
        # with the row below, whose pixels are neighbours
        rows = slice(band.start, band.stop + 1)
        one, other = (x[rows].astype(np.float64) - level for x in (a, b))
        is_finite = np.isfinite(one) & np.isfinite(other)
        one, other = (np.where(is_finite, x, 0.0) for x in (one, other))
        residual, known = one - other, is_finite.astype(np.float64)
        size = band.stop - band.start
        inner = [x[:size].ravel() for x in (known, one, other, residual)]
        count, x, y, r = inner
        linear = count.sum(), x.sum(), y.sum()
        total[:8] += np.array([*linear, x @ x, y @ y, x @ y, r.sum(), r @ r])
        total[8:11] += _pairs(
            residual[:size, 1:], residual[:size, :-1], known[:size, 1:], known[:size, :-1]
        )
        total[11:] += _pairs(residual[1:], residual[:-1], known[1:], known[:-1])
    return total


def _pairs(
    first: Float[np.ndarray, "h w"],
    second: Float[np.ndarray, "h w"],
    first_known: Float[np.ndarray, "h w"],
    second_known: Float[np.ndarray, "h w"],
) -> Float[np.ndarray, " 3"]:
    """How many pairs are known, the sum of both residuals in them, and of their product."""
    both = first_known * second_known
    return np.array([both.sum(), ((first + second) * both).sum(), (first * second).sum()])


def _ssim(
    a: Shaped[np.ndarray, "h w"], b: Shaped[np.ndarray, "h w"], low: float, span: float
) -> float | None:
    """SSIM of a frame from `low` up, a band at a time; None where it is smaller than the window.

    Pixels that are not finite in one of them are equal in both here.
    """
    height, width = a.shape
    places = height - _SSIM_PX + 1  # of the window, from above
    if min(places, width - _SSIM_PX + 1) < 1:
        return None
    rows, total = max(1, _SSIM_BAND_PX // width), 0.0
    for start in range(0, places, rows):
        count = min(rows, places - start)
        band = slice(start, start + count + _SSIM_PX - 1)
        one, other = (x[band].astype(np.float64) - low for x in (a, b))
        is_finite = np.isfinite(one) & np.isfinite(other)
        pair = (np.where(is_finite, x, 0.0).astype(np.float32)[None] for x in (other, one))
        total += count * float(metrics.ssim(*map(jnp.asarray, pair), data_range=span)[0])
    return total / places

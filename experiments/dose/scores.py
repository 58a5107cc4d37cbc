"""What is measured of restored images where the truth is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import fft

from emd import metrics
from experiments.dose import detection
from experiments.dose.samples import Sample
from experiments.evaluate import checkerboard

_LAGS = 4  # pixels, of the residual's autocorrelation


class Score(NamedTuple):
    """How close a restored image is to the truth; None where it is not defined.

    Attributes:
      psnr: over the truth's range [dB].
      ssim: over it.
      f1: of the columns found, as are the next two: see `experiments.dose.detection`.
      faint_f1: of the faint sublattice alone.
      position_px: root mean square error.
      slope: of the line of restored on true counts, by least squares; 1 keeps contrast.
      offset: where that line meets 0 counts, as a fraction of the truth's range; 0 keeps zero.
      whiteness: root mean square of the residual's autocorrelation up to 4 px, the residual over
        the standard deviation of its noise; 0 for white noise, which is what should be taken out.
      checkerboard: root mean square of what a grid of period 8 px adds, by the error's spectrum at
        multiples of 1/8 cycle a pixel, as a fraction of the truth's mean.
      psnr_error: standard error of the PSNR [dB] where it is estimated without the truth.
    """

    psnr: float
    ssim: float | None = None
    f1: float | None = None
    faint_f1: float | None = None
    position_px: float | None = None
    slope: float | None = None
    offset: float | None = None
    whiteness: float | None = None
    checkerboard: float | None = None
    psnr_error: float | None = None


def score(restored: Float[np.ndarray, "h w"], sample: Sample) -> Score:
    """Return all measures of a restored image, given in counts."""
    image, truth = restored.astype(np.float64), sample.truth.astype(np.float64)
    span = float(np.ptp(truth))
    found = detection.score(image, sample.columns) if sample.columns else None
    slope, intercept = line(image, truth)
    spread = np.sqrt(np.maximum(truth + sample.readout**2, 1e-12))
    return Score(
        psnr=psnr(image, truth, span=span),
        ssim=ssim(image, truth, span=span),
        f1=found.f1 if found else None,
        faint_f1=found.faint_f1 if found else None,
        position_px=found.position_px if found else None,
        slope=slope,
        offset=intercept / span,
        whiteness=whiteness((sample.noisy - image) / spread),
        checkerboard=grid(image, truth) if min(image.shape) >= checkerboard.SIDE_PX else None,
    )


def of_all(
    restored: Sequence[Float[np.ndarray, "h w"]],
    samples: Sequence[Sample],
    of_one: Callable[[Float[np.ndarray, "h w"], Sample], Score] = score,
) -> Score:
    """Return the mean scores of restored images, each given with its sample."""
    return mean([of_one(image, sample) for image, sample in zip(restored, samples, strict=True)])


def mean(scores: Sequence[Score]) -> Score:
    """Return the mean of each measure over those images that have it."""
    means = []
    for values in zip(*scores, strict=True):
        known = [value for value in values if value is not None]
        means.append(float(np.mean(known)) if known else None)
    return Score(*means)  # type: ignore[arg-type]  # the PSNR, which every image has, is never None


def psnr(image: Float[np.ndarray, "h w"], truth: Float[np.ndarray, "h w"], *, span: float) -> float:
    """Return the peak signal-to-noise ratio over a span [dB]; infinite where equal."""
    error = float(np.mean((image - truth) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(span**2 / error))


def ssim(image: Float[np.ndarray, "h w"], truth: Float[np.ndarray, "h w"], *, span: float) -> float:
    """Return the structural similarity over a span, of intensities from the truth's least on."""
    one, other = (jnp.asarray((x - truth.min()) / span, jnp.float32)[None] for x in (image, truth))
    return float(metrics.ssim(one, other, data_range=1.0)[0])


def line(image: Float[np.ndarray, "h w"], truth: Float[np.ndarray, "h w"]) -> tuple[float, float]:
    """Return slope and intercept of the line through restored against true intensities."""
    centred = truth - truth.mean()
    slope = float(np.sum(centred * image) / np.sum(centred**2))
    return slope, float(image.mean() - slope * truth.mean())


def grid(image: Float[np.ndarray, "h w"], truth: Float[np.ndarray, "h w"]) -> float:
    """Return the root mean square of a grid of period 8 px in the error, over the truth's mean."""
    error = image - truth
    return checkerboard.measure(error - error.mean() + truth.mean()).share


def whiteness(residual: Float[np.ndarray, "h w"]) -> float | None:
    """Return the root mean square of the autocorrelation at the lags up to 4 px, but for 0.

    None where nothing was taken out.
    """
    centred = residual - residual.mean()
    variance = float(np.mean(centred**2))
    if variance <= 1e-12:
        return None
    height, width = (fft.next_fast_len(side + _LAGS, real=True) for side in centred.shape)
    spectrum = fft.rfft2(centred, (height, width))
    sums = fft.irfft2(np.abs(spectrum) ** 2, (height, width))
    # one half: each lag has an equal one on the other side of 0
    lags = [(dy, dx) for dy in range(_LAGS + 1) for dx in range(-_LAGS, _LAGS + 1)
            if dy > 0 or dx > 0]  # fmt: skip
    counts = [(centred.shape[0] - dy) * (centred.shape[1] - abs(dx)) for dy, dx in lags]
    values = [sums[lag] / (count * variance) for lag, count in zip(lags, counts, strict=True)]
    return float(np.sqrt(np.mean(np.square(values))))

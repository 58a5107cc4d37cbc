"""What a model took away beyond the noise, put back: structure that only the residual still has.

Owns the law of it. What a model takes away should be noise alone: white, of the variance that the
image tells. Where the residual's spectrum has clearly more power, the model took structure with it,
and Wiener's filter of the residual gives back the share that is structure. So no model blurs what
the image itself shows above its noise, whatever it learnt; a residual of noise alone stays out.
Where noise is correlated, more of a residual may be noise. Large images are done in blocks.

Source: Tukey, "Exploratory data analysis" (Addison-Wesley, 1977), for adding the smoothed residual;
Brunet, Vrscay and Wang, "The use of residuals in image denoising" (ICIAR 2009), for testing it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from emd.data.intensity import Frame
from emd.data.normalise import normalise
from emd.data.pixels import bands
from emd.data.suspicions import Suspicion
from emd.fit import spectral_floor
from emd.noise import Noise, estimate
from emd.structure import structure

LEAST_PX = 32
"""Shortest side of an image that tells a spectrum."""

_MOST = 10.0  # of the noise's variance: what correlated noise has at a frequency; more is structure
_BLOCK_PX, _OVERLAP_PX = 1152, 128  # steps of 1024
_LESS, _MORE = 0.7, 1.5  # of the noise that a known gain makes: beyond these the gain is in doubt
_LEAST = 1e-6  # of the estimated variance: an image without any at some frequency is all structure
_DARKEST = 0.02  # of the mean variance: where an estimate falls below the black level
_FEWEST = 1e-9  # of the counts above black: a gain further from them than that is a slip

_CORRELATED = Suspicion(
    "correlated",
    "noise is correlated, or structure as fine as a pixel looks so: only what stands out of it is "
    "put back",
)


class Electrons(NamedTuple):
    """A detector that counts, without noise of its own: white, of variance gain (counts - black).

    Attributes:
      gain: counts that an electron makes; 1 of a counting camera.
      black: counts of no electron.
    """

    gain: float
    black: float = 0.0

    def check(self) -> None:
        """Nothing.

        Raises:
          ValueError: there is no such gain or black level.
        """
        if not 0 < self.gain < math.inf:
            raise ValueError(f"a gain of {self.gain}: give counts an electron above 0")
        if not math.isfinite(self.black):
            raise ValueError(f"a black level of {self.black}: give the counts of no electron")

    def noise(self, mean: float) -> Noise:
        """The noise of an image of that mean; no standard deviation where it has no electrons."""
        above = mean - self.black
        std = math.sqrt(self.gain * above) if above > 0 else None
        return Noise(std, self.gain, offset=self.black, dose=above / self.gain)


class PutBack(NamedTuple):
    """An image with structure put back.

    Attributes:
      pixels: in counts.
      share: of the power that the model had taken away, from 0 to 1.
      suspicion: why nothing, too little or too much may have been put back.
    """

    pixels: Float[np.ndarray, "h w"]
    share: float
    suspicion: Suspicion | None = None


def put_back(
    seen: Shaped[np.ndarray, "h w"],
    restored: Float[np.ndarray, "h w"],
    electrons: Electrons | None = None,
) -> PutBack:
    """What a model made of an image, and the structure that it should have left there.

    As with the model, f(a x + b) = a f(x) + b for a > 0. Of an image without noise all comes back.
    Structure that the image hides in its noise cannot, nor contrast that is white, as fine as a
    pixel and everywhere: it is noise to `emd.noise.estimate`. What differs from row to row, as the
    noise and the jitter of scans, stays out. Where noise is not white, as of interpolated images,
    what its ring of spatial frequencies has in common stays out, too, unless it is many times the
    noise; what stands out of that comes back, as a lattice's reflections.

    Args:
      seen: finite counts, as the model was given them.
      restored: the model's result, in counts.
      electrons: what counted them, where that is known, and nothing else made noise: all the rest
        is then structure, as fine as a pixel or from row to row as it may be.
    """
    if min(seen.shape) < LEAST_PX:
        return _nothing(restored, f"a side is below {LEAST_PX} px")
    mean = float(seen.mean(dtype=np.float64))
    if electrons is not None:
        return _counted(seen, restored, electrons, mean)
    noise = estimate(seen)
    if noise.std is None:
        return _nothing(restored, noise.warnings[-1])
    if noise.std == 0:
        return PutBack(seen.astype(np.float32), 1.0)
    is_white = not any("correlated" in warning for warning in noise.warnings)

    def noise_of(seen: np.ndarray, restored: np.ndarray) -> tuple[np.ndarray, float]:
        std, floor = _white_noise(seen, restored, noise, mean)
        return std, 1.0 if is_white else _MOST / floor

    return PutBack(*_by_blocks(seen, restored, noise_of), None if is_white else _CORRELATED)


def into_frame(frame: Frame, raw: Float[np.ndarray, "h w"], electrons: Electrons | None) -> PutBack:
    """What was put back into a model's normalised result, which then has it.

    Args:
      frame: counts, and their scale.
      raw: the model's result, in units of the scale.
      electrons: as of `put_back`, in counts.
    """
    seen = np.empty(raw.shape, np.float32)
    for band in bands(*raw.shape):
        seen[band] = normalise(frame.pixels[band], frame.scale)
    minimum, mean = frame.scale
    if electrons is not None and mean > 0:
        electrons = Electrons(electrons.gain / mean, (electrons.black - minimum) / mean)
    found = put_back(seen, raw, electrons if mean > 0 else None)  # a constant frame is no counts
    raw[...] = found.pixels
    return found


def _nothing(restored: Float[np.ndarray, "h w"], reason: str) -> PutBack:
    text = f"nothing is put back: {reason}"
    return PutBack(restored, 0.0, Suspicion(text, text))


def _counted(
    seen: Shaped[np.ndarray, "h w"],
    restored: Float[np.ndarray, "h w"],
    electrons: Electrons,
    mean: float,
) -> PutBack:
    """The same where the noise is known: what is beyond it is structure."""
    gain, black = electrons
    if mean <= black:
        return _nothing(restored, "its mean is no more than the counts of no electron")
    if not 1 / _FEWEST > gain / (mean - black) > _FEWEST:
        return _nothing(restored, "its gain is out of all proportion to its counts")
    doubts = []

    def noise_of(seen: np.ndarray, restored: np.ndarray) -> tuple[np.ndarray, None]:
        above = (restored - black) / (mean - black)
        std = np.sqrt(gain * (mean - black) * np.maximum(above, _DARKEST), dtype=np.float32)
        level = np.float32(seen.mean(dtype=np.float64))
        # without electrons there is no noise that could be missed
        counted = max(float(np.mean(above > _DARKEST)), _DARKEST)
        less = spectral_floor((seen - level) / std) / counted
        doubts.append(_doubt(less, min(less, spectral_floor((seen - restored) / std))))
        return std, None

    pixels, share = _by_blocks(seen, restored, noise_of)
    return PutBack(pixels, share, next((doubt for doubt in doubts if doubt is not None), None))


def _doubt(image: float, residual: float) -> Suspicion | None:
    """What speaks against a gain, of whose noise an image and a residual have so much at least."""
    if image < _LESS:
        return Suspicion(
            "gain too large",
            f"noise is {image:.2g} times that of electrons of this gain, so that too little is put "
            "back: gain or black level are wrong, or the image was filtered or interpolated",
        )
    if residual > _MORE:
        return Suspicion(
            "gain too small",
            f"noise seems {residual:.2g} times that of electrons of this gain, and what is beyond "
            "is put back: structure is as fine as a pixel, or gain or black level are wrong",
        )
    return None


def _by_blocks(
    seen: Shaped[np.ndarray, "h w"],
    restored: Float[np.ndarray, "h w"],
    noise_of: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, float | None]],
) -> tuple[Float[np.ndarray, "h w"], float]:
    """The image with structure put back, and its share of what had been taken away.

    `noise_of` says of a block's pixels which standard deviation their white noise has, and `most`
    of `structure`.
    """
    pixels = restored.astype(np.float32)
    found = taken = 0.0
    for block, weight in _blocks(seen.shape):
        std, most = noise_of(seen[block], restored[block])
        residual = ((seen[block] - restored[block]) / std).astype(np.float32)
        back = structure(residual, most=most)
        pixels[block] += weight * std * back
        found += float(np.vdot(weight * back, back))
        taken += float(np.vdot(weight * residual, residual))
    return pixels, min(found / max(taken, 1e-30), 1.0)


def _blocks(
    shape: tuple[int, ...],
) -> Iterator[tuple[tuple[slice, slice], Float[np.ndarray, "a b"]]]:
    """The blocks of an image, and what each of their pixels counts for: of all blocks, 1 in sum."""
    rows, columns = (_spans(side) for side in shape)
    for row, down in rows:
        for column, along in columns:
            yield (row, column), np.outer(down, along)


def _spans(length: int) -> list[tuple[slice, Float[np.ndarray, " a"]]]:
    """Parts of an axis, evenly spread; where they overlap, one fades into the next."""
    side = min(length, _BLOCK_PX)
    count = 1 + -(-(length - side) // (_BLOCK_PX - _OVERLAP_PX))
    parts = [slice(k, k + side) for k in np.rint(np.linspace(0, length - side, count)).astype(int)]
    from_end = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    weight, total = np.minimum(from_end, _OVERLAP_PX), np.zeros(length)
    for part in parts:
        total[part] += weight
    return [(part, (weight / total[part]).astype(np.float32)) for part in parts]


def _white_noise(
    seen: Shaped[np.ndarray, "h w"],
    restored: Float[np.ndarray, "h w"],
    noise: Noise,
    mean: float,
) -> tuple[Float[np.ndarray, "h w"], float]:
    """The standard deviation of a block's white noise, in counts, and its share of the variance.

    How noise grows with the counts is the estimate's, for an image of a mean. How much there is
    tell the frequencies that have the least, since fine structure, which the estimate takes for
    noise, is seldom at all of them.
    """
    level = float(noise.std or 0) ** 2
    variance = np.full_like(restored, level)
    if noise.gain is not None and noise.offset is not None:  # it grows with the counts
        variance *= (restored - noise.offset) / (mean - noise.offset)
    std = np.sqrt(np.maximum(variance, _DARKEST * level))
    scaled = (seen - np.float32(seen.mean(dtype=np.float64))) / std
    floor = max(spectral_floor(scaled), _LEAST)
    return std * np.float32(math.sqrt(floor)), floor

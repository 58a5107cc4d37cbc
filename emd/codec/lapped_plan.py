"""Owns the plan of the coder `lapped`: which blocks, and which step, for what was asked."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Shaped

from emd.codec import lapped, lapped_coder, lapped_weights, plans
from emd.codec.frames import Frames
from emd.codec.lapped_coder import Settled
from emd.codec.settings import Settings
from emd.codec.settle import settle

VISUAL_BPP = 1.5
"""What a stream takes at most when nothing is asked for."""

_NOISE_SHARE = math.sqrt(12) / 2  # steps of this times the noise add half of it, root mean square
_CLEAN_RANGE = 1 / 300  # of the range: the step where there is no noise
_ENDS = (0.001, 0.999)  # quantiles between which the range lies
_FARTHEST = 1e30  # float32, which holds the step, ends not far above
_TRIED = 3  # blocks that steps are tried on first
_SLOPE = 1.0  # octaves of size an octave of the step, of noisy images; quieter ones have less
_EXCHANGE = 0.12  # squared error, in steps, that a bit is worth: as a fine step's trade


class Lapped:
    """Frames by the lapped transform."""

    name, version = lapped_coder.NAME, lapped_coder.VERSION
    block_px = lapped_coder.BLOCK_PX

    def __init__(self, how: Settled, known: lapped_weights.LappedWeights) -> None:
        """Takes the settings and the weights."""
        self.how = how
        self._known = known
        self.weights = known.name, known.fingerprint

    @property
    def parameters(self) -> bytes:
        """The coder's own, for the header."""
        return self.how.to_bytes()

    def chunks(self, pixels: Shaped[np.ndarray, "h w"]) -> plans.Chunks:
        """No side information, and the blocks."""
        return b"", lapped_coder.encode(pixels, self.how, self._known.known[self.how.side])

    def decoded(self, pixels: Shaped[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        """What would come back of a frame."""
        chunks = list(self.chunks(pixels)[1])
        shape = pixels.shape[0], pixels.shape[1]
        return lapped_coder.decode(
            chunks.__getitem__,
            shape,
            self.how,
            self._known.known[self.how.side],
            (0, shape[0], 0, shape[1]),
        )


class _Trials:
    """What steps and blocks would make of some crops of the frames."""

    def __init__(self, frames: Frames) -> None:
        self._weights = lapped_weights.find()
        self._made: dict[tuple[int, float], lapped_coder.Trial] = {}
        self.crops = [
            crop
            for frame in frames.some(_TRIED)
            for crop in lapped_coder.crops(frame.pixels, -(-_TRIED // min(len(frames), _TRIED)))
        ]
        if all(np.ptp(crop) == 0 for crop in self.crops):
            # as where the beam was off at first: what there is to code lies elsewhere
            spreads = [float(np.ptp(frame.pixels)) for frame in frames]
            busiest = frames[int(np.argmax(spreads))].pixels
            self.crops = sorted(
                lapped_coder.crops(busiest, busiest.size), key=lambda c: -np.ptp(c)
            )[:_TRIED]
        self.is_constant = all(np.ptp(crop) == 0 for crop in self.crops)
        self.size = sum(crop.size for crop in self.crops)
        farthest = max(float(np.abs(crop).max()) for crop in self.crops)
        if farthest > _FARTHEST:
            raise ValueError(f"pixels of {farthest:g} are beyond {_FARTHEST:g}: divide them")
        # float32, as the header holds it
        self.offset = float(np.float32(np.mean([crop.mean() for crop in self.crops])))
        self.spread = float(np.sqrt(np.mean([crop.var() for crop in self.crops])))
        # a hot pixel is no part of the range
        ends = np.quantile(np.concatenate([c.reshape(-1) for c in self.crops]), _ENDS)
        self.range = float(ends[1] - ends[0])

    def at(self, side: int, step: float) -> lapped_coder.Trial:
        if (side, step) not in self._made:
            how = lapped_coder.settled(side, step, self.offset)
            trial = lapped_coder.attempt(self.crops, how, self._weights.known[side])
            self._made[side, step] = trial
        return self._made[side, step]

    def best_side(self, step: float) -> int:
        """The side whose trade of error for bits is best at a step."""

        def loss(side: int) -> float:
            trial = self.at(side, step)
            return trial.error + _EXCHANGE * step**2 * trial.bits

        return min(lapped.SIDES, key=loss)

    def plan(self, side: int, step: float) -> Lapped:
        return Lapped(self.at(side, step).settled, self._weights)


def make(frames: Frames, settings: Settings, overhead: int) -> Lapped:
    """The plan whose stream is what was asked for.

    Raises:
      ValueError: no stream is so small.
    """
    trials = _Trials(frames)
    if trials.is_constant:
        return trials.plan(lapped.SIDES[0], max(abs(trials.offset), 1) * 1e-3)
    if settings.psnr is not None:
        return _for_psnr(trials, frames, settings.psnr)
    if settings.bpp is not None:
        return _for_size(trials, frames, settings.bpp, overhead, trials.spread)
    if settings.quality is not None:
        step = trials.spread * 2 ** ((50 - settings.quality) / 10)
        return trials.plan(trials.best_side(step), step)
    step = _visual_step(frames[0].pixels, trials)
    side = trials.best_side(step)
    plan = trials.plan(side, step)
    pixels = len(frames) * frames.shape[0] * frames.shape[1]
    allowed = VISUAL_BPP * pixels / 8 - overhead - lapped_coder.PARAMETERS
    is_small = trials.at(side, step).bits / 8 < 0.97 * allowed * trials.size / pixels
    # what was not tried may be busier
    if not is_small or (trials.size < pixels and plans.size(plan, frames) > allowed):
        # the header alone takes more of tiny images
        with contextlib.suppress(ValueError):
            return _for_size(trials, frames, VISUAL_BPP, overhead, step)
    return plan


def _visual_step(pixels: Shaped[np.ndarray, "h w"], trials: _Trials) -> float:
    """The step whose errors drown in the image's own noise."""
    from emd import noise

    found = noise.estimate(pixels).std
    return max(_NOISE_SHARE * (found or 0.0), _CLEAN_RANGE * trials.range)


def _for_size(trials: _Trials, frames: Frames, bpp: float, overhead: int, start: float) -> Lapped:
    pixels = len(frames) * frames.shape[0] * frames.shape[1]
    allowed = bpp * pixels / 8 - overhead - lapped_coder.PARAMETERS
    if allowed < len(frames):
        least = 8 * (overhead + lapped_coder.PARAMETERS + len(frames)) / pixels
        raise ValueError(f"bpp {bpp:g} does not hold the header: ask for {1.1 * least:.2g} or more")

    def guess(side: int) -> Callable[[float], float]:
        share = trials.size / pixels
        return lambda step: math.log2((trials.at(side, step).bits / 8 + 1) / (allowed * share))

    def real(side: int) -> Callable[[float], float]:
        return lambda step: math.log2(plans.size(trials.plan(side, step), frames) / allowed)

    side = lapped.SIDES[1]
    step = settle(guess(side), start, slope=-_SLOPE, near=0.1).step
    side = trials.best_side(step)
    step = settle(guess(side), step, slope=-_SLOPE).step
    found = settle(real(side), step, slope=-_SLOPE)
    if found.excess > 0:
        least = bpp * 2**found.excess
        raise ValueError(f"bpp {bpp:g} is not reached: ask for {1.1 * least:.2g} or more")
    return trials.plan(side, found.step)


def _for_psnr(trials: _Trials, frames: Frames, psnr: float) -> Lapped:
    """The plan by which the first frame comes back at least so well."""
    first = frames[0].pixels
    peak = float(first.max()) - float(first.min())
    bounds = None if frames.dtype.kind == "f" else np.iinfo(frames.dtype)

    def short(error: float) -> float:
        """By how many octaves an error is too large."""
        return (psnr - 20 * math.log10(peak / math.sqrt(max(error, 1e-300)))) / 6.02

    def guess(side: int) -> Callable[[float], float]:
        return lambda step: short(trials.at(side, step).error / trials.size)

    def real(side: int) -> Callable[[float], float]:
        def excess(step: float) -> float:
            decoded = trials.plan(side, step).decoded(first)
            if bounds is not None:
                decoded = np.rint(decoded).clip(bounds.min, bounds.max)
            return short(float(np.mean((decoded - first) ** 2)))

        return excess

    if not peak:
        return trials.plan(lapped.SIDES[0], trials.spread)
    side = lapped.SIDES[1]
    start = peak * 10 ** (-psnr / 20) * math.sqrt(12)
    step = settle(guess(side), start, slope=_SLOPE, near=0.1).step
    side = trials.best_side(step)
    step = settle(guess(side), step, slope=_SLOPE).step
    found = settle(real(side), step, slope=_SLOPE)
    if found.excess > 0.02:
        reached = psnr - 6.02 * found.excess
        raise ValueError(f"psnr {psnr:g} dB is not reached, {reached:.1f} is: use max_error")
    return trials.plan(side, found.step)

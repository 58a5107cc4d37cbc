"""Owns the plan of the coder `latents`: which global step of an autoencoder for what was asked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from emd.codec import latents, plans, weights
from emd.codec.container import Header
from emd.codec.frames import Frames
from emd.codec.latent_numbers import STEP_UNITS
from emd.codec.settings import Settings
from emd.codec.settle import settle
from emd.codec.varints import Fields, pack
from emd.codec.weights import Weights
from emd.data.contents import FormatError

NAME = "latents"
VERSION = 1
_SLOPE = 0.6
_BEST = 1.5  # bits a pixel when nothing is asked for
_BOUNDS = float(latents.STEPS[0]), float(latents.STEPS[1])


class Latents:
    """Frames by an autoencoder, at a global step."""

    name, version, block_px = NAME, VERSION, latents.BLOCK_PX

    def __init__(self, step: int, found: Weights) -> None:
        """Takes what the header holds."""
        self.step = step
        self._found = found
        self.weights = found.name, found.fingerprint
        self._analysed: tuple[np.ndarray, latents.Analysed] | None = None

    @property
    def parameters(self) -> bytes:
        """The coder's own, for the header."""
        return pack(self.step)

    def at(self, step: float) -> Latents:
        """The same at another step."""
        other = Latents(round(step), self._found)
        other._analysed = self._analysed
        return other

    def chunks(self, pixels: Shaped[np.ndarray, "h w"]) -> plans.Chunks:
        """A frame's normalisation, and its blocks."""
        return latents.encode(self.analyse(pixels), self._found, self.step)

    def analyse(self, pixels: Shaped[np.ndarray, "h w"]) -> latents.Analysed:
        """A frame's latents; those of the last one are at hand."""
        if self._analysed is None or self._analysed[0] is not pixels:
            self._analysed = pixels, latents.analyse(pixels, self._found)
        return self._analysed[1]

    def decoded(self, pixels: Shaped[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        """What would come back of a frame."""
        analysed = self.analyse(pixels)
        numbers = latents.quantise(analysed, self.step)
        shape = pixels.shape[0], pixels.shape[1]
        return latents.synthesise(numbers, self._found, self.step, analysed.scale, shape)

    def decode(
        self,
        chunk: Any,
        side: bytes,
        shape: tuple[int, int],
        region: tuple[int, int, int, int],
    ) -> Float[np.ndarray, "h w"]:
        """A region of a frame: see `emd.codec.latents.decode`."""
        return latents.decode(chunk, side, shape, self._found, self.step, region)


def from_header(header: Header) -> Latents:
    """The plan that a stream was made by.

    Raises:
      FormatError: the header is damaged, or names weights that are not here.
    """
    if header.weights is None:
        raise FormatError("names no weights: get the file anew")
    return Latents(_step(header.parameters), weights.find(*header.weights))


def settings(parameters: bytes) -> dict[str, Any]:
    """How a stream was coded, as JSON holds it."""
    return {"global_step": _step(parameters) / STEP_UNITS}


def _step(parameters: bytes) -> int:
    fields = Fields(parameters)
    step = fields.number()
    fields.end()
    if not latents.STEPS[0] <= step <= latents.STEPS[1]:
        raise FormatError(f"is damaged: a step of {step}: get the file anew")
    return step


def make(frames: Frames, asked: Settings, overhead: int) -> Latents:
    """The plan whose stream is what was asked for.

    Raises:
      ValueError: there is no such model, or it does not get there.
    """
    name = str(asked.model)
    if name not in weights.NEWEST:
        known = ", ".join(["lapped", *weights.NEWEST])
        raise ValueError(f"model {name} has no weights for streams: those that have are {known}")
    plan = Latents(latents.STEPS[1], weights.find(name))
    plan.analyse(frames[0].pixels)
    if asked.quality is not None:
        return plan.at(
            min(max(0.2 * 2 ** ((50 - asked.quality) / 10) * STEP_UNITS, _BOUNDS[0]), _BOUNDS[1])
        )
    if asked.psnr is not None:
        return _for_psnr(plan, frames, asked.psnr)
    return _for_size(plan, frames, asked.bpp, overhead)


def _for_size(plan: Latents, frames: Frames, bpp: float | None, overhead: int) -> Latents:
    pixels = len(frames) * frames.shape[0] * frames.shape[1]
    allowed = (bpp or _BEST) * pixels / 8 - overhead - len(plan.parameters)
    if allowed < len(frames):
        raise ValueError(f"bpp {bpp or _BEST:g} does not hold the header: ask for more")
    found = settle(
        lambda step: math.log2(plans.size(plan.at(step), frames) / allowed),
        0.3 * STEP_UNITS,
        slope=-_SLOPE,
        bounds=_BOUNDS,
    )
    if found.excess > 0:
        least = (bpp or _BEST) * 2**found.excess
        raise ValueError(f"bpp {bpp or _BEST:g} is not reached: ask for {1.1 * least:.2g} or more")
    return plan.at(found.step)


def _for_psnr(plan: Latents, frames: Frames, psnr: float) -> Latents:
    first = frames[0].pixels
    peak = float(first.max()) - float(first.min())

    def excess(step: float) -> float:
        error = float(np.mean((plan.at(step).decoded(first) - first) ** 2))
        return (psnr - 20 * math.log10(peak / math.sqrt(max(error, 1e-300)))) / 6.02

    if not peak:
        return plan
    found = settle(excess, 0.3 * STEP_UNITS, slope=_SLOPE, bounds=_BOUNDS)
    if found.excess > 0.02:
        reached = psnr - 6.02 * found.excess
        raise ValueError(
            f"psnr {psnr:g} dB is beyond {plan.weights[0]}, which reaches {reached:.1f}: "
            "leave --model out"
        )
    return plan.at(found.step)

"""A blind-spot perceptron fitted to one noisy micrograph: what goes further than a kernel.

Owns what it starts from, and the judgement of whether it is better than the kernel, on blocks of
the image that neither its weights nor the time to stop were chosen by.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from emd.blindspot_train import Examples, ask, surprise, trained
from emd.checkpoint import Model
from emd.data.normalise import Scale, measure
from emd.data.pixels import fill_nonfinite
from emd.fit import LEAST_GAIN_DB, Fit, autocovariance, told_gain
from emd.models.blindspot import WAVES, BlindSpot, inner_pairs
from emd.models.symmetry import orbits
from emd.zoo import ModelConfig

_BLOCK_PX = 32
_LEAST_BLOCKS = 32  # fewer leave too little to learn from, and to judge by
_MOST_BLOCKS = 320
_HELD_OUT = 0.25  # of the blocks; half of them say when to stop, half are the judge
_TAPER = 0.8  # of half the window: a distant pixel counts for less
_LEAST_NOISE = 0.1  # of its variance at the mean
_STANDARD_ERRORS = 2.0
_CHANCE = 1.25  # the least power of a small spectrum's rings lies as far below their mean
_RIDGE = 1e-6
_LEAST_BLIND = 1e-3  # share of the others in a kernel


def improved(image: Shaped[np.ndarray, "h w"], kernel: Fit) -> Fit:
    """A perceptron for the image that a kernel was fitted to, or that kernel where it is as good.

    Both restore pixels of blocks that the perceptron has not seen; their errors are compared by
    Stein's estimate with the noise that the kernel's fit found. A kernel that must not be used is
    given back: what misleads it misleads any predictor.

    Args:
      image: one noisy exposure, in counts: the one that the kernel was fitted to.
      kernel: what `emd.fit.fit` made of it.

    Raises:
      ValueError: an image too small to hold blocks out.

    Source: as of `emd.models.blindspot`; C. Stein, "Estimation of the mean of a multivariate normal
    distribution" (Annals of Statistics 9, 1981).
    """
    rows, columns = (side // _BLOCK_PX for side in image.shape)
    if rows * columns < _LEAST_BLOCKS:
        raise ValueError(
            f"image of {image.shape[0]}x{image.shape[1]} px is too small for a perceptron, "
            f"which takes {_LEAST_BLOCKS} blocks of {_BLOCK_PX}x{_BLOCK_PX} px: fit a kernel"
        )
    std = kernel.noise.std
    if kernel.verdict == "do not use" or not std:
        return kernel
    pixels, _ = fill_nonfinite(image)
    scale = Scale(*(float(value) for value in measure(pixels)))
    x = (pixels.astype(np.float64) - scale.minimum) / scale.mean - 1
    module = BlindSpot()
    start, jitter = _untrained(module, x, kernel, scale, std)
    blocks = _blocks(x.astype(np.float32), module.halo_px)
    held = math.ceil(_HELD_OUT / 2 * len(blocks))
    groups = blocks[2 * held :], blocks[:held], blocks[held : 2 * held]
    train, stop, test = (_examples(module, start, group) for group in groups)
    params = trained(module, start, jitter, train, stop)
    return _judged(kernel, module, params, test, groups[2], (std / scale.mean) ** 2)


# --- what needs no training ------------------------------------------------------------------


def _untrained(
    module: BlindSpot, x: Float[np.ndarray, "h w"], kernel: Fit, scale: Scale, std: float
) -> tuple[dict[str, Any], Float[np.ndarray, "2 f"]]:
    """Parameters that predict what the kernel predicts, and the noise in their features."""
    level, slope = std**2, 0.0
    if kernel.noise.gain is not None and kernel.noise.offset is not None:
        above = scale.minimum + scale.mean - kernel.noise.offset
        line = kernel.noise.gain * above
        level = line if line < _CHANCE * level else level
        slope = level / above / scale.mean
    level /= scale.mean**2
    covariance = autocovariance(x, module.width - 1)
    sides = [_features(module.width, covariance, level, sign) for sign in (1, -1)]
    noise = np.array([level, slope, _LEAST_NOISE * level])
    found = {"linear": _linear(module.width, kernel), "noise": noise}
    found |= {name: side[0] for name, side in zip(("even", "odd"), sides, strict=True)}
    single = {name: jnp.asarray(value, jnp.float32) for name, value in found.items()}
    return {**_initial(module), **single}, np.stack([side[1] for side in sides])


@functools.cache
def _initial(module: BlindSpot) -> dict[str, Any]:
    probe = jnp.zeros((1, module.width, module.width))
    return dict(module.init(jax.random.key(0), probe)["params"])


def _linear(width: int, kernel: Fit) -> Float[np.ndarray, " p"]:
    """The kernel's weights of pairs, as they were before it mixed the pixel itself in."""
    inner = kernel.model.config.size
    tied = np.asarray(kernel.model.variables["params"]["weights"], np.float64)
    blind = tied / max(1 - tied[0], _LEAST_BLIND)
    weights = np.zeros((width, width))
    edge = (width - inner) // 2
    weights[edge : edge + inner, edge : edge + inner] = blind[orbits(inner)]
    return weights.reshape(-1)[: width**2 // 2]


def _features(
    width: int, covariance: Float[np.ndarray, "lags lags"], noise: float, sign: int
) -> tuple[Float[np.ndarray, "p f"], Float[np.ndarray, " f"]]:
    """Weights of sums (sign 1) or differences (-1) of pairs, and the noise in what they make.

    Features have variance 1. First the principal components of the pairs without their noise, the
    far ones faded; then the pairs in the middle one by one.
    """
    half = width // 2
    places = np.stack(np.divmod(np.arange(width**2 // 2), width)) - half
    apart = places[:, :, None] - places[:, None, :] + width - 1
    across = places[:, :, None] + places[:, None, :] + width - 1
    pairs = 2 * (covariance[*apart] + sign * covariance[*across])
    fade = np.exp(-(places**2).sum(0) / (2 * (_TAPER * half) ** 2))
    clean = pairs - 2 * noise * np.eye(len(pairs))
    vectors = np.linalg.eigh(clean * fade * fade[:, None])[1][:, ::-1][:, :WAVES]
    inner = np.eye(len(pairs))[:, inner_pairs(width)]
    weights = np.concatenate([fade[:, None] * vectors, inner], axis=1)
    variance = np.einsum("pf,pq,qf->f", weights, pairs, weights)
    weights = weights / np.sqrt(np.maximum(variance, _RIDGE * variance.max()))
    return weights, np.sqrt(2 * noise * (weights**2).sum(0))


def _blocks(x: Float[np.ndarray, "h w"], halo: int) -> Float[np.ndarray, "n b b"]:
    """Blocks of the image in an order of chance, with the pixels that their windows reach."""
    padded = np.pad(x, halo, mode="reflect")
    side = _BLOCK_PX + 2 * halo
    rows, columns = (length // _BLOCK_PX for length in x.shape)
    chosen = np.random.default_rng(0).permutation(rows * columns)[:_MOST_BLOCKS]
    corners = [(_BLOCK_PX * (k // columns), _BLOCK_PX * (k % columns)) for k in chosen]
    return np.stack([padded[i : i + side, j : j + side] for i, j in corners])


def _examples(module: BlindSpot, params: Any, blocks: Float[np.ndarray, "n b b"]) -> Examples:
    """The pixels of blocks in a row."""
    parts = [ask(module, params, "describe", block[None]) for block in blocks]
    linear, even, odd = (jnp.concatenate(part) for part in zip(*parts, strict=True))
    halo = module.halo_px
    pixel = jnp.asarray(blocks[:, halo:-halo, halo:-halo])
    flat = (part.reshape(-1, *part.shape[3:]) for part in (linear, even, odd, pixel))
    return Examples(*flat)


# --- judgement -------------------------------------------------------------------------------


def _judged(
    kernel: Fit,
    module: BlindSpot,
    params: dict[str, Any],
    test: Examples,
    blocks: Float[np.ndarray, "n b b"],
    level: float,
) -> Fit:
    """The better of the two, by errors on blocks not tuned to, under a noise of no more than is."""
    mean, variance = ask(module, params, "predict", *test[:3])
    restored, share = ask(module, params, "mix", test.pixel, mean, variance)
    noise = ask(module, params, "variance_of_noise", mean) * (level / params["noise"][0])
    inner = module.halo_px - kernel.model.config.size // 2
    cut = blocks[:, inner : blocks.shape[1] - inner, inner : blocks.shape[2] - inner]
    found: Any = kernel.model.module.apply(kernel.model.variables, jnp.asarray(cut))
    middle = float(kernel.model.variables["params"]["weights"][0])
    errors = [
        np.asarray((y - test.pixel) ** 2 + (2 * own - 1) * noise, np.float64)
        for y, own in ((restored, share), (found.reshape(-1), middle))
    ]
    less = (errors[1] - errors[0]).reshape(len(blocks), -1).mean(1)
    doubt = _STANDARD_ERRORS * less.std(ddof=1) / math.sqrt(len(blocks))
    gain = told_gain(float(errors[0].mean()) / level)
    if gain < LEAST_GAIN_DB or not less.mean() > doubt:
        return kernel
    plain = surprise(test.pixel, *_neighbours(blocks, module.halo_px))
    likelihood = float(np.mean(plain - surprise(test.pixel, mean, variance)))
    ahead = gain - told_gain(float(errors[1].mean()) / level)
    reason = (
        f"the squared error falls by {gain:.1f} dB or more on blocks not fitted to, "
        f"{ahead:.1f} dB below a kernel's"
    )
    model = _model(kernel.model.config.label, module, params)
    return Fit(model, "use it", reason, kernel.noise, gain, likelihood)


def _neighbours(
    blocks: Float[np.ndarray, "n b b"], halo: int
) -> tuple[Float[Array, " k"], Float[Array, ""]]:
    """The mean of each pixel's eight neighbours, and by how much pixels differ from it."""
    side = blocks.shape[1] - 2 * halo
    shifted = [
        blocks[:, halo + i : halo + i + side, halo + j : halo + j + side]
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
    ]
    pixel = shifted.pop(4)
    mean = jnp.mean(jnp.asarray(shifted), axis=0)
    return mean.reshape(-1), jnp.mean((pixel - mean) ** 2)


def _model(name: str, module: BlindSpot, params: dict[str, Any]) -> Model:
    config = ModelConfig("blindspot", "own", module.width, label=name)
    card = {"family": "blindspot", "size": str(module.width), "made_by": "emd fit"}
    return Model(config, module, {"params": params}, card)

"""How models do on held-out crops: nearness to the truth, where it is known, or to the input."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from emd.data import truths
from emd.training import autoencoder, objective
from emd.training.objective import Pair

CROPS = 256
BATCH = 16


def draw(held_out: truths.Truths, *, side_px: int) -> Pair:
    """Return 256 crops, noise added as `emd.training.objective.clean` does; always the same."""
    one = jax.jit(functools.partial(objective.clean, batch=BATCH, side=side_px))
    drawn = [one(autoencoder.batch_key(1, jnp.int32(k)), held_out) for k in range(CROPS // BATCH)]
    return Pair(*(jnp.concatenate(images) for images in zip(*drawn, strict=True)))


def gains(restore: Callable[[Any], Any], crops: Pair) -> dict[str, float]:
    """Return by how many decibels a model brings crops closer to their truth: mean and least.

    Args:
        restore: of a batch of crops what the model makes of them, or of their middle.
        crops: from ``draw``.
    """
    found = []
    for start in range(0, len(crops.seen), BATCH):
        seen, wanted = (np.asarray(images[start : start + BATCH]) for images in crops)
        restored = np.asarray(restore(seen))
        edge = (wanted.shape[1] - restored.shape[1]) // 2
        inner = (slice(None), *2 * (slice(edge, wanted.shape[1] - edge),))
        before, after = (
            np.mean((image - wanted[inner]) ** 2, axis=(1, 2)) for image in (seen[inner], restored)
        )
        found.append(10 * np.log10(before / after))
    return {
        "validation_gain_db": float(np.mean(found)),
        "validation_worst_db": float(np.min(found)),
    }


def restoration_mse(
    module: nn.Module, variables: Any, images: Float[np.ndarray, "n h w"]
) -> Float[np.ndarray, " n"]:
    """Return the mean squared error of each image that a model gives back, in its own units."""
    parts = [
        _image_mse(module, variables, jnp.asarray(images[start : start + BATCH]))
        for start in range(0, len(images), BATCH)
    ]
    return np.concatenate([np.asarray(part) for part in parts])


@functools.partial(jax.jit, static_argnames="module")
def _image_mse(module: nn.Module, variables: Any, x: Float[Array, "n h w"]) -> Float[Array, " n"]:
    restored: Array = module.apply(variables, x)  # type: ignore[assignment]
    return jnp.mean((restored - x) ** 2, axis=(1, 2))


def gain_text(metrics: dict[str, float]) -> str:
    """Return what a card says of ``gains``."""
    mean, worst = metrics["validation_gain_db"], metrics["validation_worst_db"]
    text = (
        f"On held-out crops with the noise of {truths.DOSES[0]:g} to {truths.DOSES[1]:g} electrons "
        f"a pixel the squared error falls by {mean:.1f} dB in the mean"
    )
    if worst < 0:
        return f"{text}; at worst it GROWS by {-worst:.1f} dB."
    return f"{text}, and by {worst:.1f} dB at least."

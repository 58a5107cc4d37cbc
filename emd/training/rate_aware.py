"""Rate-aware training of an autoencoder whose latents are rounded to integers and coded.

Owns the model of the rate, the loss and the jitted step; the loop is `emd.training.autoencoder`'s.

A latent is coded in units of ``global step * its channel's step``. One model serves all global
steps: each crop draws its own, nothing else is told of it, and the weight of the rate in the loss
goes with its square, as the slope of distortion over rate does where rates are high.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from emd.data import crops
from emd.models.autoencoder import STRIDE, Autoencoder
from emd.training.autoencoder import Step, TrainState, batch_key

CAUSAL = ((-1, -1), (-1, 0), (-1, 1), (0, -1))
"""Rows and columns from a cell to its neighbours that are decoded before it."""

MARGIN = 1
"""Cells along a crop's border that count for nothing: what lies beyond it shapes them most."""

_LEAST_SCALE = 0.04
_LEAST_CHANCE = 2.0**-18
_LEAST_COST = 1e-5


class RateModel(NamedTuple):
    """Parameters of the distribution of a latent given those decoded before it.

    A logistic distribution, all of what is below 0 counted to 0, in units of the latent's own step.
    Its location is linear in four neighbours of all channels and in the channels before at the same
    cell; its scale in how far these were from their locations.
    """

    mean: Float[Array, " d"]
    """Location where nothing is known, in units of the channel's step alone."""
    near: Float[Array, "4 d d"]
    before: Float[Array, "d d"]
    floor: Float[Array, " d"]
    """Roots of non-negative numbers, as are the three below."""
    spread: Float[Array, " d"]
    near_spread: Float[Array, "4 d d"]
    before_spread: Float[Array, "d d"]


def init_rate_model(latent: int) -> RateModel:
    """Return a model that expects the mean of the neighbours above and to the left."""
    same = np.zeros((len(CAUSAL), latent, latent), np.float32)
    same[(1, 3), :] = np.eye(latent)
    none = jnp.zeros((latent, latent))
    return RateModel(
        mean=jnp.zeros(latent),
        near=jnp.asarray(0.45 * same),
        before=none,
        # of no weak type, or the step would be compiled again for what it gives back
        floor=jnp.full(latent, 0.3, jnp.float32),
        spread=jnp.full(latent, 0.3, jnp.float32),
        near_spread=jnp.asarray(0.4 * same + 0.03),
        before_spread=none + 0.03,
    )


def locations_and_scales(
    model: RateModel, values: Float[Array, "n h w d"], step: Float[Array, " n"]
) -> tuple[Float[Array, "n h w d"], Float[Array, "n h w d"]]:
    """Return location and scale of each value, in its own units, from those decoded before it."""
    size = step[:, None, None, None]
    mean = model.mean[None, None, None] / size
    centred = values - mean
    earlier = jnp.triu(jnp.ones_like(model.before), 1)  # [of, for]: channels before, alone
    location = mean + _near(centred, model.near) + centred @ (model.before * earlier)
    miss = jnp.abs(values - location)
    scale = model.floor[None, None, None] ** 2 + model.spread[None, None, None] ** 2 / size
    scale += _near(miss, model.near_spread**2) + miss @ (model.before_spread**2 * earlier)
    return location, scale + _LEAST_SCALE


def _near(
    values: Float[Array, "n h w d"], weights: Float[Array, "4 d d"]
) -> Float[Array, "n h w d"]:
    """Return the weighted sum of the causal neighbours; beyond the border they are 0."""
    _, height, width, _ = values.shape
    padded = jnp.pad(values, ((0, 0), (1, 0), (1, 1), (0, 0)))
    around = [
        padded[:, 1 + row : 1 + row + height, 1 + column : 1 + column + width]
        for row, column in CAUSAL
    ]
    return jnp.concatenate(around, -1) @ weights.reshape(-1, weights.shape[-1])


def bits(
    model: RateModel, values: Float[Array, "n h w d"], step: Float[Array, " n"]
) -> Float[Array, "n h w d"]:
    """Return the cost of each value in bits: exact for integers >= 0, smooth between them."""
    location, scale = locations_and_scales(model, values, step)
    above = jax.nn.sigmoid((values + 0.5 - location) / scale)
    below = jax.nn.sigmoid((values - 0.5 - location) / scale)
    # what is below 0 counts to 0, so that 0 has no lower end
    chance = above - jnp.clip(values, 0, 1) * below
    return -jnp.log2(jnp.maximum(chance, 0) + _LEAST_CHANCE)


def rounded(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Return the nearest integers, their gradient that of the identity (straight through)."""
    return x + jax.lax.stop_gradient(jnp.round(x) - x)


class Coded(NamedTuple):
    """What coding did to crops."""

    mse: Float[Array, " n"]
    bpp: Float[Array, " n"]
    """Bits a pixel by the rate model."""


def coded(
    key: Key[Array, ""] | None,
    module: Autoencoder,
    variables: Any,
    model: RateModel,
    channel_steps: Float[Array, " d"],
    images: Float[Array, "n h w"],
    truth: Float[Array, "n h w"],
    step: Float[Array, " n"],
) -> Coded:
    """Return error and rate of images coded at global steps, borders left out.

    With a key the rate is that of latents with uniform noise, which has a gradient; without one
    that of the integers. The error is that of the integers, its gradient straight through.
    """
    latent = module.apply(variables, images, method="encode")
    units = channel_steps[None, None, None] * step[:, None, None, None]
    values = jnp.asarray(latent) / units
    integers = rounded(values)
    if key is None:
        priced = integers
    else:
        priced = values + jax.random.uniform(key, values.shape, minval=-0.5, maxval=0.5)
    cost = bits(model, priced, step)[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    restored = module.apply(variables, integers * units, method="decode", margin=MARGIN)
    edge = MARGIN * STRIDE
    error = (jnp.asarray(restored) - truth[:, edge:-edge, edge:-edge]) ** 2
    return Coded(error.mean((1, 2)), cost.mean((1, 2)).sum(-1) / STRIDE**2)


def log_cost(found: Coded, step: Float[Array, " n"], slope: float) -> Float[Array, ""]:
    """Return the mean logarithm of MSE + slope * step^2 * rate over crops.

    A gain of a per cent then counts the same in every crop, at every step; else crops of much
    contrast, and large steps, would drown the others.
    """
    return jnp.mean(jnp.log(found.mse + slope * step**2 * found.bpp + _LEAST_COST))


def make_optimiser(steps: int, *, rate: float = 1e-3) -> optax.GradientTransformation:
    """Return Adam for weights, three times as fast for the rate model, both falling to 0."""

    def adam(initial: float) -> optax.GradientTransformation:
        schedule = optax.warmup_cosine_decay_schedule(0.0, initial, min(50, steps // 10), steps)
        return optax.adam(schedule, b1=0.9, b2=0.99)

    parts = {"weights": adam(rate), "rate": adam(3 * rate)}
    chosen = optax.multi_transform(parts, {"weights": "weights", "rate": "rate"})
    return optax.chain(optax.clip_by_global_norm(1.0), chosen)


def init_state(variables: Any, latent: int, optimiser: optax.GradientTransformation) -> TrainState:
    """Return the state before the first batch: a trained model's variables, statistics for good."""
    params = {
        "weights": jax.tree.map(jnp.array, variables["params"]),
        "rate": init_rate_model(latent),
    }
    stats = jax.tree.map(jnp.array, variables["batch_stats"])
    step, reloads = (jnp.zeros((), jnp.int32) for _ in range(2))
    return TrainState(params, stats, optimiser.init(params), step, reloads)


def with_truth(store: crops.Store, truth: Array) -> crops.Store:
    """Return a store that holds, behind its pixels, what each of them should have been."""
    return store._replace(pixels=jnp.concatenate([store.pixels, truth]))


def pairs(
    key: Key[Array, ""], store: crops.Store, *, batch: int, side: int
) -> tuple[Float[Array, "n s s"], Float[Array, "n s s"]]:
    """Return random crops of a store `with_truth`, and the truth under the same normalisation."""
    behind = store._replace(start=store.start + store.pixels.size // 2)
    # the same key draws the same windows; normalised by whole images, as both are by the first's
    images, truth = (crops.sample(key, each, batch=batch, side=side) for each in (store, behind))
    return images, truth


def make_step(
    module: Autoencoder,
    optimiser: optax.GradientTransformation,
    channel_steps: Float[np.ndarray, " d"],
    *,
    batch_size: int,
    seed: int,
    step_range: tuple[float, float],
    slope: float,
    side_px: int = crops.SIDE_PX,
) -> Step:
    """Return the jitted step: state and a store `with_truth` in, next state and mean log cost out.

    Batch statistics stay as they are: what is trained is what is used.
    """
    low, high = np.log(step_range)

    def step(state: TrainState, store: crops.Store) -> tuple[TrainState, Float[Array, ""]]:
        draw, size, noise = jax.random.split(batch_key(seed, state.step, state.reloads), 3)
        images, truth = pairs(draw, store, batch=batch_size, side=side_px)
        steps = jnp.exp(jax.random.uniform(size, (batch_size,), minval=low, maxval=high))

        def loss_fn(params: Any) -> Float[Array, ""]:
            variables = {"params": params["weights"], "batch_stats": state.batch_stats}
            units = jnp.asarray(channel_steps)
            found = coded(noise, module, variables, params["rate"], units, images, truth, steps)
            return log_cost(found, steps, slope)

        loss, grads = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, opt_state=opt_state, step=state.step + 1), loss

    return jax.jit(step, donate_argnums=0)


def balanced_steps(
    key: Key[Array, ""], decode: Callable[[Array], Array], latent: Float[Array, "n h w d"]
) -> Float[np.ndarray, " d"]:
    """Return the step of each channel at which its rounding costs as much as any other's.

    In units in which a global step costs what it would in an orthonormal transform: its square
    over 12 for each coefficient. The gain of a channel is measured by a small noise added to it.
    """
    depth = latent.shape[-1]
    plain = decode(latent)
    gains = []
    for channel, own in enumerate(jax.random.split(key, depth)):
        size = 0.05 * float(jnp.std(latent[..., channel])) + 1e-6
        noise = size * jax.random.normal(own, latent.shape[:-1])
        change = decode(latent.at[..., channel].add(noise)) - plain
        gains.append(float(jnp.mean(change**2)) / size**2)
    return (1 / np.sqrt(STRIDE**2 * np.maximum(gains, 1e-12))).astype(np.float32)

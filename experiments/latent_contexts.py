"""The context model of a stream's latents, fitted to latents of training micrographs.

What comes back is whole numbers, which go into the stream's weights: fitting may round, coding may
not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from emd import checkpoint, restore
from emd.codec import contexts, tables
from emd.codec import latent_numbers as coding
from emd.codec.latent_numbers import MISS_BITS, PHASES, RANGES, STEP_UNITS, SUBCOUNTS, WEIGHT_BITS
from emd.codec.latents import BLOCK_CELLS
from emd.data import crops

STEPS = ((0.08, 0.11, 0.15, 0.19), (0.22, 0.28, 0.35, 0.43), (0.5, 0.65, 0.85, 1.1))
"""Global steps that each range's weights are fitted at."""
PER_SOURCE = 8
"""Images of each source that the weights are fitted to, at most."""
ROUNDS = 2
ITERATIONS = 400
BATCH = 4096
LEAST = 0.5
"""What is added to each expected miss while the weights are fitted, in sixteenths."""
_LARGEST_WEIGHT = 1 << 18

Latents = Float[np.ndarray, "i j c"]


def training_latents(
    images: Sequence[crops.Image], model: checkpoint.Model, units: Float[np.ndarray, " c"]
) -> list[Latents]:
    """Return latents of a block of some images of each source, in units of the steps."""
    found = []
    for source in sorted({image.source for image in images}):
        own = [image for image in images if image.source == source]
        for image in own[:: -(-len(own) // PER_SOURCE)]:
            latent = restore.encode(image.pixels, model).latent[1:-1, 1:-1]
            top, left = ((side - min(side, BLOCK_CELLS)) // 2 for side in latent.shape[:2])
            found.append(latent[top : top + BLOCK_CELLS, left : left + BLOCK_CELLS] / units)
    return found


def quantised(latent: Latents, step: int) -> Int[np.ndarray, "i j c"]:
    """Return the numbers of latents in units of their channels' steps, at a global step."""
    return np.rint(latent.astype(np.float64) * (STEP_UNITS / step)).astype(np.int64)


def fit(latents: Sequence[Latents], steps: Sequence[Sequence[float]] = STEPS) -> coding.Knowledge:
    """Return the context model for latents like those of these blocks."""
    flat = np.concatenate([latent.reshape(-1, latent.shape[-1]) for latent in latents])
    mean = np.rint(flat.mean(0, dtype=np.float64) * STEP_UNITS).astype(np.int64)
    parts = [_fit_range(latents, mean, [round(s * STEP_UNITS) for s in own]) for own in steps]
    if len(parts) != len(RANGES) + 1:
        raise ValueError(f"{len(parts)} ranges of steps: give {len(RANGES) + 1}")
    stacked: list[Any] = [np.stack(part) for part in zip(*parts, strict=True)]
    knowledge = coding.Knowledge(*[mean, *stacked, (_plain_model(),) * len(parts)])
    models = []
    for own in steps:
        found = [
            part
            for step in (round(s * STEP_UNITS) for s in own)
            for latent in latents
            for part in coding.residuals(quantised(latent, step), knowledge, step)
        ]
        models.append(contexts.fit(*map(np.concatenate, zip(*found, strict=True))))
    return knowledge._replace(models=tuple(models))


def _plain_model() -> contexts.Model:
    """Return a model that stands where none is needed yet."""
    return contexts.Model([contexts.Entry(tables.Kind(0, 0), 0)] * contexts.CONTEXTS)


class _Gathered(NamedTuple):
    """Cells of one phase, of all blocks; numbers above their mean, in sixteenths."""

    around: Float[np.ndarray, "n 4*c"]
    own: Float[np.ndarray, "n c"]
    unrest: Float[np.ndarray, "n c"]
    places: list[tuple[int, coding.Places]]
    """Number of a block, and its cells."""


class _Phase(NamedTuple):
    """The weights of a phase as they are fitted; those of misses are roots."""

    around: Float[Array, "4*c c"]
    before: Float[Array, "c c"]
    miss_around: Float[Array, "c c"]
    miss_before: Float[Array, "c c"]
    unrest: Float[Array, " c"]
    least: Float[Array, " c"]


def _fit_range(
    latents: Sequence[Latents], mean: Int[np.ndarray, " c"], steps: Sequence[int]
) -> tuple[np.ndarray, ...]:
    """Return the weights of a range, phase by phase, as `Knowledge` holds them."""
    blocks = [
        (SUBCOUNTS * quantised(latent, step) - (2 * SUBCOUNTS * mean + step) // (2 * step)).astype(
            np.float64
        )
        for step in steps
        for latent in latents
    ]
    gathered = [_gather(blocks, phase) for phase in range(PHASES)]
    phases = [_start(cells) for cells in gathered]
    missed = [np.abs(block) for block in blocks]
    for _ in range(ROUNDS):
        for own, cells in zip(phases, gathered, strict=True):
            _set_missed(missed, cells, own)
        for number, cells in enumerate(gathered):
            # small blocks have no wide spacings, whose weights then stay as they are
            if len(cells.own):
                misses = _missed_around(missed, cells)
                data = tuple(x.astype(np.float32) for x in (*cells[:3], misses))
                phases[number] = _improved(phases[number], *map(jnp.asarray, data))
    earlier = np.triu(np.ones((len(mean), len(mean))), 1)
    parts = [np.stack([np.asarray(own[k], np.float64) for own in phases]) for k in range(6)]
    around, before, *roots = parts
    squares = [root**2 for root in roots]
    squares[1] *= earlier
    linear = [_whole(part, WEIGHT_BITS) for part in (around, before * earlier)]
    # the constant is in sixteenths
    return *linear, *(_whole(part, MISS_BITS) for part in squares)


def _start(cells: _Gathered) -> _Phase:
    """Return weights to begin with: those of least squared error, and misses as those around."""
    depth = cells.own.shape[1]
    known = np.concatenate([cells.around, cells.own], 1)
    normal = known.T @ known
    pull = 1e-3 * (np.trace(normal) / len(normal)) + SUBCOUNTS**2
    around, before = np.zeros((4 * depth, depth)), np.zeros((depth, depth))
    for channel in range(depth):
        count = 4 * depth + channel
        prior = np.zeros(count)
        prior[channel : 4 * depth : depth] = 0.25 if cells.around.any() else 0.0
        right = normal[:count, 4 * depth + channel] + pull * prior
        found = np.linalg.solve(normal[:count, :count] + pull * np.eye(count), right)
        around[:, channel], before[:channel, channel] = found[: 4 * depth], found[4 * depth :]
    floats = (around, before, 0.4 * np.eye(depth) + 0.03, np.full((depth, depth), 0.05))
    constants = (np.full(depth, 0.2), np.full(depth, SUBCOUNTS**0.5 / 4))
    return _Phase(*(jnp.asarray(x, jnp.float32) for x in (*floats, *constants)))


def _told(
    own: _Phase, around: Array, values: Array, unrest: Array, misses: Array
) -> tuple[Array, Array]:
    """Return predictions of values, and how far these are expected from them."""
    earlier = jnp.triu(jnp.ones_like(own.before), 1)
    predicted = around @ own.around + values @ (own.before * earlier)
    miss = jnp.abs(values - predicted)
    expected = misses @ own.miss_around**2 + miss @ (own.miss_before**2 * earlier)
    expected += unrest * own.unrest[None] ** 2 + own.least[None] ** 2
    return predicted, expected


def _cost(own: _Phase, around: Array, values: Array, unrest: Array, misses: Array) -> Array:
    """Return what values cost in bits, each, by a logistic distribution."""
    predicted, expected = _told(own, around, values, unrest, misses)
    scale = (expected + LEAST) / (2 * np.log(2))  # whose mean magnitude is what is expected
    half = SUBCOUNTS / 2
    above = jax.nn.sigmoid((values - predicted + half) / scale)
    below = jax.nn.sigmoid((values - predicted - half) / scale)
    return -jnp.log2(above - below + 2.0**-16).sum(-1).mean()


@jax.jit
def _improved(own: _Phase, around: Array, values: Array, unrest: Array, misses: Array) -> _Phase:
    """Return weights by which values cost fewer bits."""
    optimiser = optax.adam(optax.cosine_decay_schedule(4e-3, ITERATIONS))

    def body(number: Array, carry: tuple[_Phase, Any]) -> tuple[_Phase, Any]:
        own, state = carry
        key = jax.random.fold_in(jax.random.key(0), number)
        drawn = jax.random.randint(key, (BATCH,), 0, len(values))
        grads = jax.grad(_cost)(own, around[drawn], values[drawn], unrest[drawn], misses[drawn])
        updates, state = optimiser.update(grads, state)
        return optax.apply_updates(own, updates), state

    found: _Phase = jax.lax.fori_loop(0, ITERATIONS, body, (own, optimiser.init(own)))[0]
    return found


def _whole(values: np.ndarray, bits: int) -> np.ndarray:
    largest = _LARGEST_WEIGHT
    return np.rint(values * (1 << bits)).clip(-largest, largest).astype(np.int64)


def _gather(blocks: Sequence[np.ndarray], phase: int) -> _Gathered:
    """Return the cells of a phase of all blocks."""
    around, own, unrest, found = [], [], [], []
    depth = blocks[0].shape[-1]
    for number, block in enumerate(blocks):
        for cells in coding.places(*block.shape[:2]):
            if cells.phase != phase:
                continue
            count = len(cells.rows)
            values = block[cells.around] if phase else np.zeros((4, count, depth))
            around.append(values.transpose(1, 0, 2).reshape(count, -1))
            own.append(block[cells.rows, cells.columns])
            unrest.append(coding.unrest(values))
            found.append((number, cells))
    empty = [np.zeros((0, depth))]
    return _Gathered(
        np.concatenate(around or [np.zeros((0, 4 * depth))]),
        np.concatenate(own or empty),
        np.concatenate(unrest or empty),
        found,
    )


def _set_missed(missed: list[np.ndarray], cells: _Gathered, own: _Phase) -> None:
    """Set how far the cells of a phase are from their predictions."""
    around, before = (np.asarray(x, np.float64) for x in own[:2])
    predicted = cells.around @ around + cells.own @ np.triu(before, 1)
    values = np.minimum(np.abs(cells.own - predicted), SUBCOUNTS << 12)
    start = 0
    for number, places in cells.places:
        end = start + len(places.rows)
        missed[number][places.rows, places.columns] = values[start:end]
        start = end


def _missed_around(missed: Sequence[np.ndarray], cells: _Gathered) -> Float[np.ndarray, "n c"]:
    """Return the misses of the four cells around each, added up."""
    parts = [
        missed[number][places.around].sum(0)
        if len(places.around[0])
        else np.zeros((len(places.rows), cells.own.shape[1]))
        for number, places in cells.places
    ]
    return np.concatenate(parts)

"""The pairs that a domain's sets learn from: crops, and what they should make of them.

That is what the domain's teacher makes of them, or what an objective wants. The teacher's are made
once for all sets of a domain, and kept in memory for sets that are trained later.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from tqdm import tqdm

from emd import checkpoint, threads, zoo
from emd.data import crops
from emd.training import autoencoder, objective, yardsticks
from experiments import held_out, training_data

BLOCK = 16
"""Crops that the teacher restores in one program."""


class Pairs(NamedTuple):
    """Crops and what should be made of them, both in units of the crop's mean."""

    noisy: Float[np.ndarray, "n s s"]
    restored: Float[np.ndarray, "n s s"]
    moments: yardsticks.Moments
    """What decides the error of every symmetric kernel on them."""


class Source(NamedTuple):
    """What the pairs of a domain are made of where a teacher makes them."""

    teacher: checkpoint.Model
    weights: str
    """Fingerprint of the teacher's."""
    data: training_data.TrainingData


class TruthSource(NamedTuple):
    """What the pairs of a domain are made of where an objective makes them."""

    objective: str
    data: training_data.TruthData


_made: dict[tuple[object, ...], tuple[Pairs, Pairs]] = {}


def make(
    sources: Sequence[Source], *, count: int, seed: int, simulated_share: float
) -> list[tuple[Pairs, Pairs]]:
    """Return of each source ``count`` pairs of random training crops, and all held-out pairs.

    Equal data, weights and settings give the pairs that were made before.
    """

    def key(source: Source) -> tuple[object, ...]:
        held = hashlib.sha256(source.data.held_out.tobytes()).hexdigest()
        facts = source.weights, source.data.facts["data_hash"], held
        return *facts, count, seed, simulated_share

    def draw(source: Source) -> Float[np.ndarray, "n s s"]:
        store = crops.pack(source.data.images, simulated_share=simulated_share)
        sample = jax.jit(crops.sample, static_argnames="batch")
        return np.asarray(sample(autoencoder.batch_key(seed + 3, jnp.int32(0)), store, batch=count))

    keys = [key(source) for source in sources]
    for known in [known for known in _made if known not in keys]:
        del _made[known]  # one call's pairs fill 0.3 GB
    new = [i for i, known in enumerate(keys) if known not in _made]
    # side by side, since each draw is a program of its own to compile
    for i, drawn in zip(new, threads.share(lambda i: draw(sources[i]), new), strict=True):
        teacher = sources[i].teacher
        _made[keys[i]] = _restore(teacher, drawn), _restore(teacher, sources[i].data.held_out)
    return [_made[known] for known in keys]


def draw(source: TruthSource, *, count: int, seed: int) -> tuple[Pairs, Pairs]:
    """Return ``count`` pairs of an objective's training data, and held-out pairs with the truth."""
    one = jax.jit(objective.DRAWS[source.objective], static_argnames=("batch", "side"))
    key = autoencoder.batch_key(seed + 3, jnp.int32(0))
    own = one(key, source.data.training, batch=count, side=crops.SIDE_PX)
    held = held_out.draw(source.data.held_out, side_px=crops.SIDE_PX)
    return _measured(*map(np.asarray, own)), _measured(*map(np.asarray, held))


def _measured(noisy: Float[np.ndarray, "n s s"], restored: Float[np.ndarray, "n s s"]) -> Pairs:
    return Pairs(noisy, restored, yardsticks.measure_moments(noisy, restored, _widest()))


def _widest() -> int:
    return max(member.size for members in zoo.SETS.values() for member in members)


def _restore(teacher: checkpoint.Model, noisy: Float[np.ndarray, "n s s"]) -> Pairs:
    """Return the pairs of these crops, made with a bar."""
    restored = np.empty_like(noisy)
    starts = range(0, len(noisy), BLOCK)
    for first in tqdm(starts, desc=f"restoring crops by {teacher.config.name}", unit="block"):
        block = noisy[first : first + BLOCK]
        # the last one is filled up with its own crops: another size would be another program
        whole = np.resize(block, (BLOCK, *block.shape[1:]))
        made = _apply(teacher.module, teacher.variables, whole)
        restored[first : first + BLOCK] = made[: len(block)]
    return _measured(noisy, restored)


@functools.partial(jax.jit, static_argnames="module")
def _apply(module: Any, variables: Any, noisy: Float[Array, "n s s"]) -> Float[Array, "n s s"]:
    """Return what the teacher makes of a block."""
    if jax.default_backend() != "cpu":
        return module.apply(variables, noisy)
    # one at a time, so that what its layers hand on stays in the cache
    return jax.lax.map(lambda crop: module.apply(variables, crop[None])[0], noisy)

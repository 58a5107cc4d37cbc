"""Electron diffraction patterns: spots, rings, a bright centre and its diffuse decay."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PRNGKeyArray

from emd.data.simulate import detector, texture
from emd.data.simulate.optics import Scalar
from emd.data.simulate.texture import log_uniform, uniform

# Distances of the reflections of a face-centred cubic crystal: sqrt(h^2 + k^2 + l^2).
_FCC = (3, 4, 8, 11, 12, 16, 19, 20, 24, 27, 32, 35, 40)


def _spots(
    key: PRNGKeyArray, rows: Float[Array, "h w"], columns: Float[Array, "h w"], *, width: Scalar
) -> Float[Array, "h w"]:
    """Gaussian spots on a lattice of random shape, each with a strength of its own, up to 1."""
    keys = jax.random.split(key, 6)
    length = log_uniform(keys[0], 9.0, 45.0)
    lengths = length * jnp.stack([1.0, uniform(keys[1], 1.0, 1.6)])
    turn = uniform(keys[2], 0.0, 2 * jnp.pi)
    angles = jnp.stack([turn, turn + uniform(keys[3], jnp.pi / 3, jnp.pi / 2)])
    basis = jnp.stack([lengths * jnp.sin(angles), lengths * jnp.cos(angles)])
    inverse = jnp.linalg.inv(basis)
    first = jnp.round(inverse[0, 0] * rows + inverse[0, 1] * columns)
    second = jnp.round(inverse[1, 0] * rows + inverse[1, 1] * columns)
    dy = rows - basis[0, 0] * first - basis[0, 1] * second
    dx = columns - basis[1, 0] * first - basis[1, 1] * second
    # One strength for each pair of indices and its opposite (Friedel), from a table of 61 x 61.
    table = jnp.exp(jax.random.normal(keys[4], (61, 61)) - 2)
    table = jnp.minimum(table + table[::-1, ::-1], 1.0)
    index = [jnp.clip(i.astype(jnp.int32) + 30, 0, 60) for i in (first, second)]
    # The Ewald sphere cuts a tilted crystal along a circle through the centre.
    tilt = 60.0 * jax.random.normal(keys[5], (2,))
    excess = (rows**2 + columns**2 - rows * tilt[0] - columns * tilt[1]) / 6000.0
    strength = table[index[0], index[1]] * jnp.exp(-(excess**2) / 2)
    return strength * jnp.exp(-0.5 * (dy**2 + dx**2) / width**2)


def _rings(key: PRNGKeyArray, side_px: int, radius: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """Rings of a polycrystal, up to about 1, from smooth to broken into the spots of few grains."""
    keys = jax.random.split(key, 5)
    unit = side_px * uniform(keys[0], 0.07, 0.13)
    width = jnp.maximum(1.0, unit * log_uniform(keys[1], 0.02, 0.12))
    radii = unit * jnp.sqrt(jnp.array(_FCC, jnp.float32) / 3)
    strengths = jnp.exp(0.6 * jax.random.normal(keys[2], (len(_FCC),)) - radii / unit)
    rings = jnp.zeros_like(radius)
    for i in range(len(_FCC)):
        rings = rings + strengths[i] * jnp.exp(-0.5 * ((radius - radii[i]) / width) ** 2)
    grain = texture.smooth_field(keys[3], side_px, 1.5)
    return rings * jnp.exp(uniform(keys[4], 0.0, 1.2) * grain)


def diffraction(
    key: PRNGKeyArray, *, side_px: int, dose: Scalar, readout: Scalar = 0.0
) -> detector.Simulated:
    """A diffraction pattern: spots or rings around a bright centre, some behind a beam stop.

    `dose` is the mean counts a pixel, `readout` the detector noise in counts. Intensities span
    four decades, so most of a pattern has far fewer counts than the mean.
    """
    noise_key, key = jax.random.split(key)
    keys = jax.random.split(key, 10)
    rows, columns = texture.coordinates(side_px)
    centre = 0.1 * side_px * jax.random.normal(keys[0], (2,))
    rows, columns = rows - centre[0], columns - centre[1]
    radius = jnp.hypot(rows, columns)
    width = log_uniform(keys[1], 1.0, 3.5)
    is_ring = jax.random.bernoulli(keys[2], 0.35)
    rings = 0.5 * _rings(keys[3], side_px, radius)
    pattern = jnp.where(is_ring, rings, _spots(keys[4], rows, columns, width=width))
    pattern = pattern * jnp.exp(-((radius / (side_px * uniform(keys[5], 0.25, 0.6))) ** 2))
    decay = side_px * log_uniform(keys[6], 0.04, 0.2)
    diffuse = log_uniform(keys[7], 0.02, 0.4) / (1 + (radius / decay) ** 2) ** 1.25
    beam = log_uniform(keys[8], 1.0, 8.0) * jnp.exp(-0.5 * (radius / (1.3 * width)) ** 2)
    stop_keys = jax.random.split(keys[9], 3)
    turn = uniform(stop_keys[0], 0.0, 2 * jnp.pi)
    along = rows * jnp.sin(turn) + columns * jnp.cos(turn)
    across = jnp.abs(columns * jnp.sin(turn) - rows * jnp.cos(turn))
    thickness = side_px * uniform(stop_keys[1], 0.015, 0.03)
    bar = jnp.where(along > 0, across, radius) - thickness
    is_stopped = jax.random.bernoulli(stop_keys[2], 0.35)
    seen = jnp.where(is_stopped, 0.03 + 0.97 * jax.nn.sigmoid(bar), 1.0)
    scene = (pattern + diffuse + beam) * seen + 0.002
    return detector.expose(noise_key, scene, dose=dose, readout=readout)

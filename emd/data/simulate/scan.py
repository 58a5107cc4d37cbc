"""Faults of the scan: rows that jitter, drift, flyback, mains hum and uneven dwell.

Owns where the probe really was. The fast scan runs along the rows of the array, from column 0.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PRNGKeyArray

from emd.data.simulate.optics import Scalar

_MAINS_HZ = 50.0


class ScanFaults(NamedTuple):
    """What is wrong with a scan; as it stands, nothing.

    Attributes:
        jitter_px: standard deviation of a row's displacement along it, each row on its own.
        drift_px: by how much the specimen moves down and right during the frame: the first
            stretches the image, the second shears it.
        flyback_px: by how much content lies too far right where a row begins.
        flyback_decay_px: over which that falls to 1/e.
        mains_px: amplitude of the hum's displacement along the row.
        row_ms: time from one row to the next: a row is displaced as its neighbour where that is a
            multiple of 20 ms, the mains' period.
        dwell: relative standard deviation of the time spent on a row's pixels.

    Source: Jones and Nellist, "Identifying and correcting scan noise and drift in the scanning
    transmission electron microscope", Microscopy and Microanalysis 19 (2013) 1050.
    Deviation: hum and jitter act along the rows alone.
    """

    jitter_px: Scalar = 0.0
    drift_px: tuple[Scalar, Scalar] = (0.0, 0.0)
    flyback_px: Scalar = 0.0
    flyback_decay_px: Scalar = 16.0
    mains_px: Scalar = 0.0
    row_ms: Scalar = 9.0
    dwell: Scalar = 0.0


def scan_shifts(key: PRNGKeyArray, side_px: int, *, jitter_px: Scalar) -> Float[Array, " h"]:
    """Displacement of each row in pixels: fast jitter and slow drift of about `jitter_px` each."""
    fast_key, slow_key = jax.random.split(key)
    fast = jax.random.normal(fast_key, (side_px,))
    slow = jnp.cumsum(jax.random.normal(slow_key, (side_px,))) / 8
    return jitter_px * (fast + slow - slow.mean()) / 2**0.5


def _catmull_rom(t: Float[Array, "*s"]) -> tuple[Array, Array, Array, Array]:
    """Weights of the four neighbours of a place that lies by t in [0, 1) beyond the second."""
    return (
        -0.5 * t + t**2 - 0.5 * t**3,
        1 - 2.5 * t**2 + 1.5 * t**3,
        0.5 * t + 2 * t**2 - 1.5 * t**3,
        -0.5 * t**2 + 0.5 * t**3,
    )


def shift_rows(image: Float[Array, "h w"], shifts_px: Float[Array, " h"]) -> Float[Array, "h w"]:
    """Every row moved right by its own shift; cubic between pixels, edges repeated."""
    width = image.shape[1]
    source = jnp.arange(width, dtype=jnp.float32)[None, :] - shifts_px[:, None]
    left = jnp.floor(source)
    index = left.astype(jnp.int32)
    moved = jnp.zeros_like(image)
    for step, weight in enumerate(_catmull_rom(source - left), start=-1):
        taken = jnp.take_along_axis(image, jnp.clip(index + step, 0, width - 1), axis=1)
        moved = moved + weight * taken
    return moved


def move(
    image: Float[Array, "h w"], down_px: Float[Array, "h w"], right_px: Float[Array, "h w"]
) -> Float[Array, "h w"]:
    """The image with each pixel's content brought from above and left of it by its own shift.

    Cubic between pixels, edges repeated.
    """
    height, width = image.shape
    rows = jnp.arange(height, dtype=jnp.float32)[:, None] - down_px
    columns = jnp.arange(width, dtype=jnp.float32)[None, :] - right_px
    top, left = jnp.floor(rows), jnp.floor(columns)
    moved = jnp.zeros_like(image)
    for i, above in enumerate(_catmull_rom(rows - top), start=-1):
        row = jnp.clip(top.astype(jnp.int32) + i, 0, height - 1)
        for j, beside in enumerate(_catmull_rom(columns - left), start=-1):
            column = jnp.clip(left.astype(jnp.int32) + j, 0, width - 1)
            moved = moved + above * beside * image[row, column]
    return moved


def displacement(
    key: PRNGKeyArray, shape: tuple[int, ...], faults: ScanFaults
) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """By how many pixels the content of each pixel lies too far down and too far right.

    The hum's phase and the jitter are random; drift is 0 at the first pixel, and the time that the
    flyback itself takes is left out.
    """
    jitter_key, phase_key = jax.random.split(key)
    height, width = shape
    row = jnp.arange(height, dtype=jnp.float32)[:, None]
    column = jnp.arange(width, dtype=jnp.float32)[None, :]
    rows_done = row + column / width
    frames_done = rows_done / height
    phase = jax.random.uniform(phase_key, (), maxval=2 * jnp.pi)
    hum = jnp.sin(2 * jnp.pi * _MAINS_HZ * 1e-3 * faults.row_ms * rows_done + phase)
    right = (
        faults.drift_px[1] * frames_done
        + faults.flyback_px * jnp.exp(-column / faults.flyback_decay_px)
        + faults.mains_px * hum
        + faults.jitter_px * jax.random.normal(jitter_key, (height, 1))
    )
    return faults.drift_px[0] * frames_done, right


def scanned(
    key: PRNGKeyArray, scene: Float[Array, "h w"], faults: ScanFaults
) -> Float[Array, "h w"]:
    """The scene as a faulty scan would show it with endless dose; never negative.

    Edges are repeated, so take a scene with a margin wider than the displacements.
    """
    move_key, dwell_key = jax.random.split(key)
    down, right = displacement(move_key, scene.shape, faults)
    shown = jnp.maximum(move(scene, down, right), 0.0)
    dwell = 1 + faults.dwell * jax.random.normal(dwell_key, (scene.shape[0], 1))
    return shown * jnp.maximum(dwell, 0.0)

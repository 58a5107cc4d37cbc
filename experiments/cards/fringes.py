"""TEM lattice fringes of a given spacing: what models for TEM are held against the Gaussian on.

The frames are those of `emd.data.simulate.lattice` but for what would hide the spacing: one crystal
fills each, at the defocus that carries its planes best. A frame of one number is the same specimen
and microscope at every spacing and dose, magnified.
"""

from __future__ import annotations

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PRNGKeyArray

from emd.data.simulate import detector, optics, texture
from experiments.dose import fields
from experiments.dose.samples import Sample

_KV = 200.0
_STRENGTH = 0.11  # radians: the geometric middle of what the training frames have


def draw(spacing_px: float, dose: float, purpose: str, *, count: int, side_px: int) -> list[Sample]:
    """Return exposures of the first so many frames of a purpose, ``dose`` in mean counts a pixel.

    Those for tuning are none of those for evaluation, and neither are of any training.
    """
    drawn = []
    for number in range(count):
        name = f"fringes, {purpose} {number}"
        key = jax.random.fold_in(jax.random.key(fields.SEED), zlib.crc32(name.encode()))
        noise_key = jax.random.fold_in(key, zlib.crc32(f"{spacing_px:g}, {dose:g}".encode()))
        made = _expose(noise_key, _scene(key, spacing_px, side_px=side_px), dose=dose)
        drawn.append(Sample(np.asarray(made.counts[0]), np.asarray(made.clean[0])))
    return drawn


_expose = jax.jit(detector.expose)


@functools.partial(jax.jit, static_argnames="side_px")
def _scene(key: PRNGKeyArray, spacing_px: float, *, side_px: int) -> Float[Array, "h w"]:
    keys = jax.random.split(key, 4)
    canvas_px = side_px + 2 * max(16, side_px // 8)  # periodic filters wrap round on its margin
    planes_nm = texture.uniform(keys[0], 0.2, 0.35)
    pixel_nm = planes_nm / spacing_px
    microscope = optics.Microscope(
        kv=_KV,
        cs_mm=0.003,
        # turns the phase of the planes' beam by a quarter of a turn
        defocus_nm=planes_nm**2 / (2e-3 * optics.electron_wavelength_pm(_KV)),
        focal_spread_nm=2.5,
        convergence_mrad=0.1,
        pixel_nm=pixel_nm,
        amplitude_contrast=0.07,
    )
    crystal = texture.lattice_waves(keys[1], canvas_px, spacing_px)
    noise = jnp.fft.rfft2(jax.random.normal(keys[2], crystal.shape))
    falling = jnp.exp(-((optics.frequency(canvas_px, pixel_nm) / 4) ** 2))
    amorphous = jnp.fft.irfft2(noise * falling, s=crystal.shape)
    amorphous = amorphous / jnp.maximum(amorphous.std(), 1e-6)
    thickness = jnp.exp(0.2 * texture.smooth_field(keys[3], canvas_px, canvas_px / 6))
    phase = thickness * (_STRENGTH * (crystal + 0.3 * amorphous) + 0.3)
    image = optics.weak_phase_image(phase, microscope) * jnp.exp(-0.2 * thickness)
    return texture.crop(image, side_px)

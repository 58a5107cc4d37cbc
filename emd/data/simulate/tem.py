"""Transmission micrographs: lattice fringes, particles on carbon, membranes, diffraction.

Each public kind draws its own specimen and microscope from `key` and returns one exposure.
Source: the kinds follow what the paper's TEM data show (the paper has no simulator).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PRNGKeyArray

from emd.data.simulate import detector, optics, texture
from emd.data.simulate.optics import Microscope, Scalar
from emd.data.simulate.texture import log_uniform, uniform


def _canvas_px(side_px: int) -> int:
    """Side of the larger square on which periodic filters may wrap round."""
    return side_px + 2 * max(16, side_px // 8)


def _microscope(key: PRNGKeyArray, *, pixel_nm: Scalar, defocus_nm: Scalar) -> Microscope:
    """A plausible instrument, uncorrected or Cs-corrected, at the given magnification."""
    keys = jax.random.split(key, 4)
    voltages = jnp.array([80.0, 120.0, 200.0, 300.0])
    is_corrected = jax.random.bernoulli(keys[1], 0.4)
    return Microscope(
        kv=voltages[jax.random.randint(keys[0], (), 0, 4)],
        cs_mm=jnp.where(is_corrected, 0.003, uniform(keys[2], 0.5, 2.0)),
        defocus_nm=defocus_nm,
        focal_spread_nm=jnp.where(is_corrected, 2.5, 5.0),
        convergence_mrad=log_uniform(keys[3], 0.03, 0.3),
        pixel_nm=pixel_nm,
        amplitude_contrast=0.07,
    )


def film(
    key: PRNGKeyArray, microscope: Microscope, *, side_px: int, strength: Scalar = 0.05
) -> Float[Array, "h w"]:
    """Clean image, mean about 1, of an amorphous film: white phase noise seen by the microscope.

    `strength` is the standard deviation of the phase in radians a pixel; far below 1 the power
    spectrum is the squared transfer function (Thon rings).
    """
    phase = strength * jax.random.normal(key, (side_px, side_px))
    return optics.weak_phase_image(phase, microscope)


def _grains(key: PRNGKeyArray, side_px: int, *, spacing_px: Scalar) -> Float[Array, "h w"]:
    """One to four crystals, side by side or on top of each other (Moire), peak about 1."""
    count = 4
    keys = jax.random.split(key, 6 + count)
    rows, columns = texture.coordinates(side_px)
    warp = side_px * 0.04 * texture.smooth_field(keys[0], side_px, side_px / 12)
    centres = uniform(keys[1], -0.5 * side_px, 0.5 * side_px, (count, 2))
    present = jnp.arange(count) < jax.random.randint(keys[2], (), 1, count + 1)
    apart = jnp.stack([jnp.hypot(rows - y + warp, columns - x) for y, x in centres])
    apart = jnp.where(present[:, None, None], apart, 1e6)
    share = jax.nn.softmax(-apart / uniform(keys[3], 0.5, 3.0), axis=0)
    is_stacked = jax.random.bernoulli(keys[4], 0.25)
    share = jnp.where(is_stacked, jnp.where(present, 0.7, 0.0)[:, None, None], share)
    spacings = spacing_px * uniform(keys[5], 1.0, 1.25, (count,))
    crystals = jnp.stack(
        [texture.lattice_waves(keys[6 + i], side_px, spacings[i]) for i in range(count)]
    )
    return (share * crystals).sum(axis=0)


def lattice(
    key: PRNGKeyArray, *, side_px: int, dose: Scalar, readout: Scalar = 0.0
) -> detector.Simulated:
    """High resolution: lattice fringes of grains in an amorphous layer, through the transfer.

    `dose` is the mean counts a pixel, `readout` the detector noise in counts. Planes are 0.2 to
    0.35 nm apart and 3.2 to 16 pixels; some specimens end at an edge.
    """
    noise_key, key = jax.random.split(key)
    keys = jax.random.split(key, 10)
    canvas_px = _canvas_px(side_px)
    spacing_px = log_uniform(keys[0], 3.2, 16.0)
    pixel_nm = uniform(keys[1], 0.2, 0.35) / spacing_px
    microscope = _microscope(keys[2], pixel_nm=pixel_nm, defocus_nm=uniform(keys[3], -20.0, 120.0))
    crystal = _grains(keys[4], canvas_px, spacing_px=spacing_px)
    k = optics.frequency(canvas_px, pixel_nm)
    # Atoms of an amorphous layer scatter with a form factor that falls off near 3 / nm.
    noise = jnp.fft.rfft2(jax.random.normal(keys[5], crystal.shape)) * jnp.exp(-((k / 4) ** 2))
    amorphous = jnp.fft.irfft2(noise, s=crystal.shape)
    amorphous = amorphous / jnp.maximum(amorphous.std(), 1e-6)
    thickness = jnp.exp(0.2 * texture.smooth_field(keys[6], canvas_px, canvas_px / 6))
    cut = texture.smooth_field(keys[7], canvas_px, canvas_px / 5)
    has_edge = jax.random.bernoulli(keys[8], 0.25)
    solid = jnp.where(has_edge, jax.nn.sigmoid((cut + 0.7) * canvas_px / 12), 1.0)
    strengths = log_uniform(keys[9], 0.04, 0.3, (2,))
    phase = strengths[0] * crystal + 0.3 * strengths[1] * amorphous + 0.3
    image = optics.weak_phase_image(solid * thickness * phase, microscope)
    image = image * jnp.exp(-0.2 * thickness * solid)
    return detector.expose(noise_key, texture.crop(image, side_px), dose=dose, readout=readout)


def nanoparticles(
    key: PRNGKeyArray, *, side_px: int, dose: Scalar, readout: Scalar = 0.0
) -> detector.Simulated:
    """Dark particles, some with fringes, on the granular noise of a carbon film.

    `dose` is the mean counts a pixel, `readout` the detector noise in counts. Pixels are 0.04 to
    0.5 nm; particles absorb and refract, so their edges carry Fresnel fringes.
    """
    noise_key, key = jax.random.split(key)
    keys = jax.random.split(key, 9)
    canvas_px = _canvas_px(side_px)
    pixel_nm = log_uniform(keys[0], 0.04, 0.5)
    microscope = _microscope(
        keys[1], pixel_nm=pixel_nm, defocus_nm=uniform(keys[2], 50.0, 150.0 + 1500.0 * pixel_nm)
    )
    radius_px = side_px * log_uniform(keys[3], 0.02, 0.15)
    thickness, fringes = texture.particles(
        keys[4], canvas_px, radius_px=radius_px, spacing_px=0.22 / pixel_nm
    )
    strengths = log_uniform(keys[5], 0.5, 2.0, (3,))
    carbon = 0.12 * strengths[0] * jax.random.normal(keys[6], thickness.shape)
    phase = carbon + 0.25 * strengths[1] * thickness + 0.12 * fringes
    image = optics.weak_phase_image(phase, microscope)
    unevenness = 0.06 * texture.smooth_field(keys[7], canvas_px, canvas_px / 5)
    image = image * jnp.exp(unevenness - 0.5 * strengths[2] * thickness)
    return detector.expose(noise_key, texture.crop(image, side_px), dose=dose, readout=readout)


def _vesicle(key: PRNGKeyArray, side_px: int, *, pixel_nm: Scalar) -> Float[Array, "h w"]:
    """Projected potential, peak about 1, of a closed double layer of lipids, 15 nm or larger."""
    keys = jax.random.split(key, 6)
    rows, columns = texture.coordinates(side_px)
    centre = uniform(keys[0], -0.5 * side_px, 0.5 * side_px, (2,))
    dy, dx = rows - centre[0], columns - centre[1]
    radius = jnp.maximum(jnp.hypot(dy, dx), 1e-3)
    sine, cosine = dy / radius, dx / radius
    wobble = jnp.array([0.08, 0.08, 0.04, 0.04]) * jax.random.normal(keys[1], (4,))
    harmonics = (
        wobble[0] * (cosine**2 - sine**2)
        + wobble[1] * 2 * sine * cosine
        + wobble[2] * (4 * cosine**3 - 3 * cosine)
        + wobble[3] * (3 * sine - 4 * sine**3)
    )
    field_nm = side_px * pixel_nm
    size_nm = log_uniform(keys[2], 15.0, jnp.maximum(0.45 * field_nm, 16.0))
    from_wall = radius * pixel_nm - size_nm * (1 + harmonics)
    # Head groups 2 nm either side of the middle; a second shell inside some of the vesicles.
    gap_nm = jnp.where(jax.random.bernoulli(keys[3], 0.25), uniform(keys[4], 8.0, 14.0), 0.0)
    width_nm = jnp.maximum(0.9, 0.6 * pixel_nm)

    def leaflets(distance: Array) -> Array:
        return jnp.exp(-0.5 * ((jnp.abs(distance) - 2.0) / width_nm) ** 2)

    inner = jnp.where(gap_nm > 0, 0.8, 0.0) * leaflets(from_wall + gap_nm)
    shell = 0.2 * jax.nn.sigmoid(-from_wall / 1.5)
    return uniform(keys[5], 0.6, 1.2) * (leaflets(from_wall) + inner + shell)


def membranes(
    key: PRNGKeyArray, *, side_px: int, dose: Scalar, readout: Scalar = 0.0
) -> detector.Simulated:
    """Vesicles, sheets and small globular molecules in ice, far underfocus and of low contrast.

    `dose` is the mean counts a pixel, `readout` the detector noise in counts. Pixels are 0.2 to
    1.2 nm and defocus 0.5 to 4 micrometres.
    """
    noise_key, key = jax.random.split(key)
    keys = jax.random.split(key, 11)
    canvas_px = _canvas_px(side_px)
    pixel_nm = log_uniform(keys[0], 0.2, 1.2)
    microscope = _microscope(
        keys[1], pixel_nm=pixel_nm, defocus_nm=log_uniform(keys[2], 500.0, 4000.0)
    )._replace(amplitude_contrast=uniform(keys[3], 0.05, 0.2))
    count = 6
    wanted = jax.random.randint(keys[4], (), 1, count + 1)

    def add(index: Array, total: Array) -> Array:
        vesicle = _vesicle(jax.random.fold_in(keys[5], index), canvas_px, pixel_nm=pixel_nm)
        return total + vesicle

    blank = jnp.zeros((canvas_px, canvas_px))
    lipid = jax.lax.fori_loop(0, wanted, add, blank)
    places = uniform(keys[6], 0.0, float(canvas_px), (80, 2))
    weights = jnp.where(jnp.arange(80) < jax.random.randint(keys[7], (), 0, 81), 1.0, 0.0)
    size_px = log_uniform(keys[8], 1.5, 4.0) / pixel_nm
    protein = texture.gaussian(texture.splat(places, weights, canvas_px), size_px)
    protein = protein * 2 * jnp.pi * (size_px**2 + 0.3)
    strength = log_uniform(keys[9], 0.08, 0.5)
    ice_key, gradient_key = jax.random.split(keys[10])
    ice = 0.04 * jax.random.normal(ice_key, blank.shape)
    image = optics.weak_phase_image(strength * (lipid + 0.8 * protein) + ice, microscope)
    unevenness = 0.05 * texture.smooth_field(gradient_key, canvas_px, canvas_px / 3)
    image = image * jnp.exp(unevenness)
    return detector.expose(noise_key, texture.crop(image, side_px), dose=dose, readout=readout)

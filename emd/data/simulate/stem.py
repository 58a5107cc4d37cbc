"""Scanning micrographs: atomic columns, particles on a support, dislocations, large smooth objects.

Owns the incoherent imaging model (Z contrast, probe). The fast scan runs along the rows of the
array. Source: the kinds follow what the paper's STEM data show.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PRNGKeyArray

from emd.data.simulate import detector, texture
from emd.data.simulate.optics import Scalar, frequency
from emd.data.simulate.scan import scan_shifts, shift_rows
from emd.data.simulate.texture import log_uniform, uniform

# High-angle scattering goes as Z^1.7: Z^2 of Rutherford, screened by the inner electrons.
# Source: Krivanek et al., Nature 464 (2010) 571, who measure 1.64 to 1.7.
Z_EXPONENT = 1.7
_ELEMENTS = (6, 8, 13, 14, 22, 26, 31, 33, 38, 42, 56, 74, 79)
_MARGIN_PX = 16


def blur(
    image: Float[Array, "h w"], probe_px: Scalar, *, tail: Scalar = 0.0, drawn_px: Scalar = 0.0
) -> Float[Array, "h w"]:
    """The square, periodic image as a probe of standard deviation `probe_px` sees it.

    `tail` is the share of the current in a skirt three times as wide; `drawn_px` is the blur that
    the image has already (1/sqrt(3) from `texture.splat`), taken off the probe's.
    """
    k = frequency(image.shape[0], 1.0)

    def damping(sigma: Scalar) -> Array:
        square = jnp.maximum(sigma**2 - drawn_px**2, 0.0)
        return jnp.exp(-2 * jnp.pi**2 * square * k**2)

    probe = (1 - tail) * damping(probe_px) + tail * damping(3 * probe_px)
    return jnp.fft.irfft2(jnp.fft.rfft2(image) * probe, s=image.shape)


def column_image(
    positions_px: Float[Array, "k 2"],
    atomic_numbers: Float[Array, " k"],
    *,
    side_px: int,
    probe_px: Scalar,
    atoms: Scalar | Float[Array, " k"] = 1.0,
    tail: Scalar = 0.0,
) -> Float[Array, "h w"]:
    """Annular dark field of columns at (row, column): each adds up to atoms x Z^1.7.

    `probe_px` is the standard deviation of a column's image, at least 0.6.
    """
    weights = atoms * atomic_numbers**Z_EXPONENT
    points = texture.splat(positions_px, weights, side_px)
    return blur(points, probe_px, tail=tail, drawn_px=3**-0.5)


def _scan(
    key: PRNGKeyArray, scene: Float[Array, "H W"], side_px: int, *, dose: Scalar, readout: Scalar
) -> detector.Simulated:
    """One exposure of the scene with rows shifted and rows of uneven brightness.

    Both belong to the truth: `clean` is what an endless repetition of the same scan would give.
    """
    noise_key, key = jax.random.split(key)
    keys = jax.random.split(key, 5)
    jitter_px = jnp.where(jax.random.bernoulli(keys[0], 0.6), log_uniform(keys[1], 0.05, 0.8), 0.0)
    shifts = scan_shifts(keys[2], scene.shape[0], jitter_px=jitter_px)
    scene = texture.crop(shift_rows(jnp.maximum(scene, 0.0), shifts), side_px)
    lines = jnp.abs(0.012 * jax.random.normal(keys[3])) * jax.random.normal(keys[4], (side_px, 1))
    scene = jnp.maximum(scene, 0.0) * jnp.exp(lines)
    return detector.expose(noise_key, scene, dose=dose, readout=readout)


def _crystal(
    key: PRNGKeyArray, canvas_px: int
) -> tuple[Float[Array, "k 2"], Float[Array, " k"], Float[Array, ""]]:
    """Positions (row, column), atomic numbers (0: vacancy) and spacing in pixels of a lattice."""
    keys = jax.random.split(key, 11)
    spacing = log_uniform(keys[0], 7.0, 32.0)
    angle = jnp.array([math.pi / 2, math.pi / 3])[jax.random.randint(keys[1], (), 0, 2)]
    turn = uniform(keys[2], 0.0, 2 * jnp.pi)
    ratio = jnp.where(jax.random.bernoulli(keys[3], 0.5), 1.0, uniform(keys[9], 1.0, 1.5))
    first = spacing * jnp.stack([jnp.sin(turn), jnp.cos(turn)])
    second = spacing * ratio * jnp.stack([jnp.sin(turn + angle), jnp.cos(turn + angle)])
    # Enough cells to cover the canvas at the finest spacing and the sharpest angle.
    cells = math.ceil(canvas_px * 2**0.5 / (7.0 * math.sin(math.pi / 3)))
    axis = jnp.arange(cells) - cells // 2
    u, v = (i.reshape(-1, 1).astype(jnp.float32) for i in jnp.meshgrid(axis, axis))
    cell = u * first[None, :] + v * second[None, :]
    # Up to three atoms a cell, at the origin, the middle and a place between.
    inside = jnp.stack([jnp.zeros(2), jnp.full(2, 0.5), uniform(keys[4], 0.25, 0.45, (2,))])
    offsets = inside[:, :1] * first[None, :] + inside[:, 1:] * second[None, :]
    positions = (cell[:, None, :] + offsets[None, :, :]).reshape(-1, 2) + canvas_px / 2
    elements = jnp.array(_ELEMENTS, jnp.float32)[
        jax.random.randint(keys[5], (3,), 0, len(_ELEMENTS))
    ]
    used = jnp.arange(3) < jax.random.randint(keys[6], (), 1, 4)
    numbers = jnp.tile(jnp.where(used, elements, 0.0), cells * cells)
    vacancy = jnp.where(jax.random.bernoulli(keys[7], 0.5), 0.02, 0.0)
    is_there = jax.random.bernoulli(keys[8], 1 - vacancy, numbers.shape)
    shake = 0.015 * spacing * jax.random.normal(keys[10], positions.shape)
    return positions + shake, jnp.where(is_there, numbers, 0.0), spacing


def columns(
    key: PRNGKeyArray, *, side_px: int, dose: Scalar, readout: Scalar = 0.0
) -> detector.Simulated:
    """High-angle dark field of a crystal: bright columns, Z contrast, vacancies, a wedge, an edge.

    `dose` is the mean counts a pixel, `readout` the detector noise in counts.
    """
    scan_key, key = jax.random.split(key)
    keys = jax.random.split(key, 11)
    canvas_px = side_px + 2 * _MARGIN_PX
    positions, numbers, spacing = _crystal(keys[0], canvas_px)
    # Thickness in atoms: a wedge, an alloy's fluctuation, and for some a boundary or free edge.
    tilt = 0.5 * jax.random.normal(keys[1], (2,)) / canvas_px
    wedge = jnp.exp(((positions - canvas_px / 2) * tilt[None, :]).sum(axis=1))
    height = 1 + 0.08 * jax.random.normal(keys[2], numbers.shape)
    turn = uniform(keys[3], 0.0, 2 * jnp.pi)
    normal = jnp.stack([jnp.sin(turn), jnp.cos(turn)])
    beyond = ((positions - canvas_px / 2) * normal[None, :]).sum(axis=1) > canvas_px * uniform(
        keys[4], -0.2, 0.3
    )
    other = jnp.where(jax.random.bernoulli(keys[5], 0.6), 1.0, uniform(keys[9], 0.0, 0.8))
    atoms = wedge * jnp.maximum(height, 0.0) * jnp.where(beyond, other, 1.0)
    probe_px = jnp.maximum(spacing * uniform(keys[6], 0.11, 0.24), 0.8)
    image = column_image(
        positions,
        numbers,
        side_px=canvas_px,
        probe_px=probe_px,
        atoms=atoms,
        tail=uniform(keys[7], 0.0, 0.3),
    )
    support = jnp.exp(0.2 * texture.fractal_field(keys[8], canvas_px, 1.5))
    image = image + image.mean() * log_uniform(keys[10], 0.03, 1.0) * support
    return _scan(scan_key, image, side_px, dose=dose, readout=readout)


def particles(
    key: PRNGKeyArray, *, side_px: int, dose: Scalar, readout: Scalar = 0.0
) -> detector.Simulated:
    """Dark field of bright particles of two elements on a thin, uneven support.

    `dose` is the mean counts a pixel, `readout` the detector noise in counts.
    """
    scan_key, key = jax.random.split(key)
    keys = jax.random.split(key, 9)
    canvas_px = side_px + 2 * _MARGIN_PX
    spacing_px = log_uniform(keys[0], 1.0, 7.0)
    total = jnp.zeros((canvas_px, canvas_px))
    numbers = jnp.array(_ELEMENTS, jnp.float32)[jax.random.randint(keys[1], (2,), 4, 13)]
    radii = side_px * log_uniform(keys[2], 0.012, 0.15, (2,))
    for i in range(2):
        thickness, fringes = texture.particles(
            keys[3 + i], canvas_px, radius_px=radii[i], spacing_px=spacing_px
        )
        total = total + (numbers[i] / 79) ** Z_EXPONENT * (thickness + 0.25 * fringes)
    rough = texture.fractal_field(keys[5], canvas_px, uniform(keys[6], 0.8, 2.0))
    support = log_uniform(keys[8], 0.02, 0.4) * jnp.exp(0.3 * rough)
    image = blur(total + support, log_uniform(keys[7], 0.6, 2.5))
    return _scan(scan_key, image, side_px, dose=dose, readout=readout)


def _dislocations(
    key: PRNGKeyArray, side_px: int, *, width_px: Scalar
) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """Darkness, about 0 to 1, of lines and of loops; up to 8 and 24 of them."""
    rows, columns = texture.coordinates(side_px)

    def frame(key: PRNGKeyArray) -> tuple[Array, Array]:
        place_key, turn_key = jax.random.split(key)
        centre = uniform(place_key, -0.5 * side_px, 0.5 * side_px, (2,))
        turn = uniform(turn_key, 0.0, 2 * jnp.pi)
        dy, dx = rows - centre[0], columns - centre[1]
        return dx * jnp.cos(turn) + dy * jnp.sin(turn), dy * jnp.cos(turn) - dx * jnp.sin(turn)

    def profile(distance: Array) -> Array:
        return jnp.exp(-0.5 * (distance / width_px) ** 2)

    def add_line(index: Array, total: Array) -> Array:
        keys = jax.random.split(jax.random.fold_in(key, index), 5)
        along, across = frame(keys[0])
        reach = side_px * log_uniform(keys[1], 0.08, 0.6)
        period = uniform(keys[2], 0.2, 1.0) * side_px
        bend = 0.03 * side_px * jax.random.normal(keys[3]) * jnp.sin(2 * jnp.pi * along / period)
        # Contrast beats along a line that runs obliquely through the foil.
        beat = 1 + uniform(keys[4], 0.0, 0.6) * jnp.cos(along / (1.5 * width_px))
        end = jax.nn.sigmoid((reach - jnp.abs(along)) / width_px)
        return total + 0.6 * end * beat * profile(across - bend)

    def add_loop(index: Array, total: Array) -> Array:
        keys = jax.random.split(jax.random.fold_in(key, 100 + index), 3)
        along, across = frame(keys[0])
        radius = side_px * log_uniform(keys[1], 0.012, 0.07)
        flat = uniform(keys[2], 0.35, 1.0)
        reach = jnp.hypot(along, across / flat)
        # No contrast where the displacement lies along the line: two lobes, the coffee bean.
        lobes = 0.25 + 0.75 * jnp.abs(along) / jnp.maximum(reach, 1e-3)
        return total + lobes * profile((reach - radius) * flat) + 0.15 * (reach < radius)

    wanted = jax.random.randint(jax.random.fold_in(key, 1000), (2,), 0, jnp.array([9, 25]))
    blank = jnp.zeros((side_px, side_px))
    lines = jax.lax.fori_loop(0, wanted[0], add_line, blank)
    return lines, jax.lax.fori_loop(0, wanted[1], add_loop, blank)


def dislocations(
    key: PRNGKeyArray, *, side_px: int, dose: Scalar, readout: Scalar = 0.0
) -> detector.Simulated:
    """Bright field of a bent metal foil: dark lines, loops and bend contours.

    `dose` is the mean counts a pixel, `readout` the detector noise in counts.
    """
    scan_key, key = jax.random.split(key)
    keys = jax.random.split(key, 9)
    canvas_px = side_px + 2 * _MARGIN_PX
    width_px = log_uniform(keys[0], 1.0, 4.0)
    lines, loops = _dislocations(keys[1], canvas_px, width_px=width_px)
    strengths = log_uniform(keys[2], 0.25, 1.2, (2,))
    bend = texture.smooth_field(keys[3], canvas_px, canvas_px * uniform(keys[4], 0.08, 0.25))
    contour = jnp.exp(-0.5 * (bend / uniform(keys[5], 0.15, 0.6)) ** 2)
    dark = strengths[0] * lines + strengths[1] * loops
    dark = dark + uniform(keys[6], 0.0, 0.5) * contour
    foil = 0.15 * texture.fractal_field(keys[7], canvas_px, 1.8)
    image = blur(jnp.exp(foil - dark), log_uniform(keys[8], 0.6, 1.5))
    return _scan(scan_key, image, side_px, dose=dose, readout=readout)


def terrain(
    key: PRNGKeyArray, *, side_px: int, dose: Scalar, readout: Scalar = 0.0
) -> detector.Simulated:
    """Objects larger than the field: a film with holes, fibres, layers, slow variations.

    `dose` is the mean counts a pixel, `readout` the detector noise in counts.
    """
    scan_key, key = jax.random.split(key)
    keys = jax.random.split(key, 10)
    canvas_px = side_px + 2 * _MARGIN_PX
    scale = canvas_px * log_uniform(keys[0], 0.02, 0.2)
    shape = texture.smooth_field(keys[1], canvas_px, scale)
    steep = log_uniform(keys[2], 1.0, 20.0)
    holes = jax.nn.sigmoid(steep * (shape + uniform(keys[3], -0.5, 1.0)))
    fibre = jnp.exp(-0.5 * (shape / uniform(keys[4], 0.08, 0.4)) ** 2)
    steps = jnp.floor(2 * shape + 3 + 0.3 * texture.smooth_field(keys[5], canvas_px, 6.0)) / 3
    kinds = jnp.stack([holes, fibre, jnp.maximum(steps, 0.0), 0.4 + 0.1 * shape])
    body = kinds[jax.random.randint(keys[6], (), 0, 4)]
    rough = texture.fractal_field(keys[7], canvas_px, uniform(keys[8], 0.8, 2.2))
    image = body * jnp.exp(0.25 * rough) + log_uniform(keys[9], 0.02, 0.5)
    return _scan(scan_key, blur(image, 0.8), side_px, dose=dose, readout=readout)

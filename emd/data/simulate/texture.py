"""Shapes and random fields that scenes are built of; pixels as the unit of length, no physics."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PRNGKeyArray

from emd.data.simulate.optics import Scalar, frequency


def uniform(
    key: PRNGKeyArray, low: Scalar, high: Scalar, shape: tuple[int, ...] = ()
) -> Float[Array, "*s"]:
    """Draws from [low, high)."""
    return jax.random.uniform(key, shape, minval=low, maxval=high)


def log_uniform(
    key: PRNGKeyArray, low: Scalar, high: Scalar, shape: tuple[int, ...] = ()
) -> Float[Array, "*s"]:
    """Draws from [low, high), evenly in the logarithm; both bounds positive."""
    return jnp.exp(uniform(key, jnp.log(low), jnp.log(high), shape))


def coordinates(side_px: int) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """Row and column of every pixel, zero in the middle of the square."""
    axis = jnp.arange(side_px, dtype=jnp.float32) - (side_px - 1) / 2
    rows, columns = jnp.meshgrid(axis, axis, indexing="ij")
    return rows, columns


def gaussian(image: Float[Array, "h w"], sigma_px: Scalar) -> Float[Array, "h w"]:
    """The square, periodic image blurred by a normalised Gaussian."""
    damping = jnp.exp(-2 * (jnp.pi * sigma_px * frequency(image.shape[0], 1.0)) ** 2)
    return jnp.fft.irfft2(jnp.fft.rfft2(image) * damping, s=image.shape)


def _standardised(field: Float[Array, "h w"]) -> Float[Array, "h w"]:
    field = field - field.mean()
    return field / jnp.maximum(field.std(), 1e-12)


def smooth_field(key: PRNGKeyArray, side_px: int, scale_px: Scalar) -> Float[Array, "h w"]:
    """Gaussian random field of mean 0 and variance 1, smooth over `scale_px`."""
    return _standardised(gaussian(jax.random.normal(key, (side_px, side_px)), scale_px))


def fractal_field(key: PRNGKeyArray, side_px: int, power: Scalar) -> Float[Array, "h w"]:
    """Gaussian random field of mean 0 and variance 1 whose amplitudes fall as frequency^-power."""
    spectrum = jnp.fft.rfft2(jax.random.normal(key, (side_px, side_px)))
    k = jnp.maximum(frequency(side_px, 1.0), 1 / side_px)
    return _standardised(jnp.fft.irfft2(spectrum * k**-power, s=(side_px, side_px)))


def _spline(distance: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Cubic B-spline at distances in [0, 2)."""
    near = 2 / 3 - distance**2 * (1 - distance / 2)
    return jnp.where(distance < 1, near, jnp.maximum(2 - distance, 0.0) ** 3 / 6)


def splat(
    positions: Float[Array, "k 2"], weights: Float[Array, " k"], side_px: int
) -> Float[Array, "h w"]:
    """Image of points (row, column; pixel centres at whole numbers), each a cubic B-spline.

    A point's pixels add up to its weight, their mean is its position and their variance 1/3 along
    both axes, wherever between the pixels it lies. What falls outside the square is left out.
    """
    corner = jnp.floor(positions).astype(jnp.int32) - 1
    index = corner[:, None, :] + jnp.arange(4)[None, :, None]  # point, step, axis
    share = _spline(jnp.abs(index - positions[:, None, :]))
    is_inside = (index >= 0) & (index < side_px)
    share = jnp.where(is_inside, share, 0.0)
    index = jnp.clip(index, 0, side_px - 1)
    amount = weights[:, None, None] * share[:, :, None, 0] * share[:, None, :, 1]
    image = jnp.zeros((side_px, side_px))
    return image.at[index[:, :, None, 0], index[:, None, :, 1]].add(amount)


def crop(image: Float[Array, "H W"], side_px: int) -> Float[Array, "h w"]:
    """The middle square: drops the margin on which periodic filters wrapped round."""
    margin = (image.shape[0] - side_px) // 2
    return image[margin : margin + side_px, margin : margin + side_px]


def lattice_waves(key: PRNGKeyArray, side_px: int, spacing_px: Scalar) -> Float[Array, "h w"]:
    """A projected crystal, mean about 0 and peak 1: atoms on a plane lattice of random symmetry.

    `spacing_px` is the distance of the first family of planes; square, hexagonal and oblique
    lattices and one-dimensional fringes all come up.
    """
    keys = jax.random.split(key, 6)
    rows, columns = coordinates(side_px)
    turn = uniform(keys[0], 0.0, 2 * jnp.pi)
    symmetric = jnp.array([jnp.pi / 2, jnp.pi / 3, jnp.pi / 2.4])
    angle = symmetric[jax.random.randint(keys[1], (), 0, 3)]
    ratio = jnp.where(jax.random.bernoulli(keys[2], 0.5), 1.0, uniform(keys[3], 0.6, 1.0))
    second = jnp.where(jax.random.bernoulli(keys[4], 0.25), 0.15, 1.0)
    phases = uniform(keys[5], 0.0, 2 * jnp.pi, (3,))

    def wave(direction: Array, scale: Scalar, shift: Array) -> Array:
        along = rows * jnp.sin(direction) + columns * jnp.cos(direction)
        return jnp.cos(2 * jnp.pi * along * scale / spacing_px + shift)

    waves = wave(turn, 1.0, phases[0]) + second * wave(turn + angle, ratio, phases[1])
    # The exponential sharpens the planes' cosines into atoms, which brings in higher orders.
    atoms = jnp.exp(0.9 * (waves - 1 - second))
    return atoms - atoms.mean()


def particles(
    key: PRNGKeyArray,
    side_px: int,
    *,
    radius_px: Scalar,
    spacing_px: Scalar,
    maximum: int = 24,
) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """Thickness of one to `maximum` particles (peak about 1 each) and the fringes inside some.

    Particles are ellipses of about `radius_px`, from round to faceted. Fringes are planes about
    `spacing_px` apart with the particle's thickness as amplitude; finer than 2.5 pixels they are
    left out, as they would alias.
    """
    rows, columns = coordinates(side_px)

    def add(index: Array, total: tuple[Array, Array]) -> tuple[Array, Array]:
        keys = jax.random.split(jax.random.fold_in(key, index), 7)
        centre = uniform(keys[0], -0.52 * side_px, 0.52 * side_px, (2,))
        turns = uniform(keys[1], 0.0, jnp.pi, (2,))
        radii = radius_px * jnp.exp(0.25 * jax.random.normal(keys[2], (2,)) + jnp.array([0, 0.1]))
        dy, dx = rows - centre[0], columns - centre[1]
        along = ((dx * jnp.cos(turns[0]) + dy * jnp.sin(turns[0])) / radii[0]) ** 2
        across = ((dy * jnp.cos(turns[0]) - dx * jnp.sin(turns[0])) / radii[1]) ** 2
        # (a^2 + b^2)^2 is an ellipse; less of its mixed term, and the corners fill.
        round_share = jnp.sqrt(uniform(keys[3], 0.0, 1.0))
        reach = along**2 + across**2 + 2 * round_share * along * across
        # A cap blunt at the rim: round particles thin out slowly, faceted ones drop steeply.
        steepness = 1.5 - 0.5 * round_share
        cap = jnp.sqrt(jnp.maximum(1 - jnp.sqrt(reach), 0.0))
        thickness = jnp.minimum(cap * steepness, 1.0) * uniform(keys[4], 0.5, 1.0)
        planes = dx * jnp.cos(turns[1]) + dy * jnp.sin(turns[1])
        spacing = spacing_px * uniform(keys[6], 0.8, 1.3)
        is_seen = jax.random.bernoulli(keys[5], 0.4) & (spacing > 2.5)
        fringes = jnp.where(is_seen, jnp.cos(2 * jnp.pi * planes / spacing), 0.0)
        return total[0] + thickness, total[1] + thickness * fringes

    blank = jnp.zeros((side_px, side_px))
    wanted = jax.random.randint(jax.random.fold_in(key, maximum), (), 1, maximum + 1)
    return jax.lax.fori_loop(0, wanted, add, (blank, blank))

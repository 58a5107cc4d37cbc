"""Low-dose HAADF lattices of exactly known columns: fields to count atoms in, and to train on.

A field is a sum of Gaussian columns on a lattice of any cell, with vacancies, static displacements
and a slowly varying background. `HEXAGONAL` and `BINARY` are the two conditions that denoisers are
compared on (`experiments.dose`), `benchmark` one of the two; `drawn` makes lattices of all kinds to
learn from, `sampled_alike` those of columns of about one width.

Source: incoherent imaging, by which a column adds the probe's profile times its weight (Pennycook
and Jesson, Ultramicroscopy 37 (1991) 14).
Deviation: a Gaussian without tails stands for probe and column together.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PRNGKeyArray

from emd.data.simulate import detector
from emd.data.simulate.detector import Simulated, poisson
from emd.data.simulate.optics import Scalar
from emd.data.simulate.texture import log_uniform, uniform

_CUT = 4.0  # of a column's Gaussian, in standard deviations
_BLOCK = 2**15  # columns
_WAVES = 3  # of the background


class Lattice(NamedTuple):
    """How a field of columns is drawn; all lengths in pixels, (row, column).

    Attributes:
      cell_px: the two vectors of the cell.
      basis: places of the cell's columns, as fractions of its vectors.
      weights: peak of each of them; the brightest is 1.
      probe_px: standard deviation of a column's Gaussian.
      vacancies: share of columns that are missing.
      displacement_px: root mean square by which columns are moved, a coordinate.
      background: its highest value.
    """

    cell_px: Float[Array, "2 2"]
    basis: Float[Array, "m 2"]
    weights: Float[Array, " m"]
    probe_px: Scalar = 2.2
    vacancies: Scalar = 0.03
    displacement_px: Scalar = 0.35
    background: Scalar = 0.08


class Field(NamedTuple):
    """A clean field and its columns.

    Attributes:
      clean: a lone column of weight 1 peaks at 1.
      positions_px: of all columns drawn, (row, column), some beyond the border.
      weights: of the same; 0 for a vacancy.
    """

    clean: Float[Array, "h w"]
    positions_px: Float[Array, "k 2"]
    weights: Float[Array, " k"]


def hexagonal(spacing_px: Scalar = 12.0) -> Lattice:
    """The honeycomb of equal columns, nearest neighbours `spacing_px` apart."""
    s = spacing_px
    cell = jnp.array([[1.5, 3**0.5 / 2], [1.5, -(3**0.5) / 2]]) * s
    return Lattice(cell, jnp.array([[0.0, 0.0], [1 / 3, 1 / 3]]), jnp.ones(2))


def binary(spacing_px: Scalar = 14.0, *, faint: Scalar = 0.3) -> Lattice:
    """The square lattice of bright columns, a faint one in the middle of each cell."""
    cell = jnp.eye(2) * spacing_px
    return Lattice(cell, jnp.array([[0.0, 0.0], [0.5, 0.5]]), jnp.stack([jnp.ones(()), faint]))


def cells_needed(cell_px: Float[Array, "2 2"], side_px: int) -> int:
    """How many cells, to either side of the middle, cover a square field however it is turned."""
    (a, b), (c, d) = (tuple(map(float, row)) for row in cell_px)
    return _cells(abs(a * d - b * c) / max(math.hypot(a, b), math.hypot(c, d)), side_px)


def _cells(apart_px: float, side_px: int) -> int:
    """The same for rows of cells `apart_px` from each other."""
    return math.ceil((side_px / 2**0.5 + 16) / apart_px) + 1


def draw(key: PRNGKeyArray, lattice: Lattice, *, side_px: int, cells: int) -> Field:
    """A field of a lattice, turned and shifted at random.

    Args:
      key: of this field.
      lattice: may be traced, as in a batch of different ones.
      side_px: of the field.
      cells: on either side of the middle, as `cells_needed` gives them.
    """
    keys = jax.random.split(key, 5)
    turn = uniform(keys[0], 0.0, 2 * jnp.pi)
    sine, cosine = jnp.sin(turn), jnp.cos(turn)
    cell = lattice.cell_px @ jnp.array([[cosine, -sine], [sine, cosine]])
    axis = jnp.arange(-cells, cells + 1.0)
    corners = jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    shift = uniform(keys[1], 0.0, 1.0, (2,))
    places = ((corners + lattice.basis[None] + shift[None, None]) @ cell).reshape(-1, 2)
    shake = lattice.displacement_px * jax.random.normal(keys[2], places.shape)
    places = places + shake + (side_px - 1) / 2
    is_there = jax.random.bernoulli(keys[3], 1 - jnp.asarray(lattice.vacancies), places.shape[:1])
    weights = jnp.tile(lattice.weights, len(corners)) * is_there
    clean = render(places, weights, side_px=side_px, probe_px=lattice.probe_px)
    clean = clean + lattice.background * background(keys[4], side_px)
    return Field(clean, places, weights)


def render(
    positions_px: Float[Array, "k 2"],
    weights: Float[Array, " k"],
    *,
    side_px: int,
    probe_px: Scalar,
) -> Float[Array, "h w"]:
    """The sum of columns; each a Gaussian of peak `weights`, cut at 4 standard deviations.

    Gaussians separate, so the sum over columns is a product of two matrices.
    """
    pixel = jnp.arange(side_px, dtype=jnp.float32)

    def profile(centre: Float[Array, " k"]) -> Float[Array, "k side"]:
        apart = (pixel[None, :] - centre[:, None]) / probe_px
        return jnp.where(jnp.abs(apart) <= _CUT, jnp.exp(-0.5 * apart**2), 0.0)

    def part(places: Float[Array, "b 2"], peaks: Float[Array, " b"]) -> Float[Array, "side side"]:
        rows = profile(places[:, 0]) * peaks[:, None]
        return rows.T @ profile(places[:, 1])

    count = len(positions_px)
    if count <= _BLOCK:
        return part(positions_px, weights)
    # the profiles of all columns of a large field would fill the memory
    places = jnp.pad(positions_px, ((0, -count % _BLOCK), (0, 0))).reshape(-1, _BLOCK, 2)
    peaks = jnp.pad(weights, (0, -count % _BLOCK)).reshape(-1, _BLOCK)
    dark = jnp.zeros((side_px, side_px))
    return jax.lax.fori_loop(
        0, len(places), lambda i, image: image + part(places[i], peaks[i]), dark
    )


def background(key: PRNGKeyArray, side_px: int) -> Float[Array, "h w"]:
    """Slow changes from 0 to 1: products of cosines of half a period to two over the field."""
    period_key, phase_key = jax.random.split(key)
    periods = uniform(period_key, 0.5, 2.0, (2, _WAVES, 1))
    phases = uniform(phase_key, 0.0, 2 * jnp.pi, (2, _WAVES, 1))
    place = jnp.arange(side_px)[None, None] / side_px
    rows, columns = jnp.cos(2 * jnp.pi * periods * place + phases)
    waves = rows.T @ columns
    low, high = waves.min(), waves.max()
    return (waves - low) / (high - low)


def expose(
    key: PRNGKeyArray, clean: Float[Array, "h w"], *, dose: Scalar, readout: Scalar = 0.5
) -> Simulated:
    """One exposure (n = 1): `dose` is the counts at the peak of a lone bright column.

    `readout` is the standard deviation of the detector's normal noise in counts, which may carry
    what is read below zero.
    """
    noise_key, readout_key = jax.random.split(key)
    mean = dose * clean
    counts = poisson(noise_key, mean) + readout * jax.random.normal(readout_key, mean.shape)
    return Simulated(counts[None], mean[None])


# --- to learn from --------------------------------------------------------------------------------

_SPACINGS = (5.0, 26.0)


def most_cells(side_px: int) -> int:
    """How many cells, to either side of the middle, cover a square field of any `drawn` lattice."""
    return _cells(_SPACINGS[0] * math.sin(math.pi / 3), side_px)


def drawn(key: PRNGKeyArray, *, spacings_px: tuple[float, float] = _SPACINGS) -> Lattice:
    """A lattice of any kind: honeycomb, binary, or an oblique cell of one to three columns.

    Nearest lattice points are 5 to 26 px apart, or as far as `spacings_px` says; probes 0.12 to
    0.28 of that and at least 1 px wide.
    """
    keys = jax.random.split(key, 10)
    spacing = log_uniform(keys[0], *spacings_px)
    honeycomb, square = hexagonal(spacing), binary(spacing)
    angle, ratio = uniform(keys[1], jnp.pi / 3, jnp.pi / 2), uniform(keys[2], 1.0, 1.6)
    second = ratio * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    oblique = spacing * jnp.stack([jnp.array([1.0, 0.0]), second])
    kind = jax.random.randint(keys[3], (), 0, 3)
    cell = jnp.stack([honeycomb.cell_px, square.cell_px, oblique])[kind]
    third = jnp.zeros((1, 2))
    free = jnp.concatenate([third, jnp.array([[0.5, 0.5]]), uniform(keys[4], 0.2, 0.5, (1, 2))])
    basis = jnp.stack(
        [
            jnp.concatenate([honeycomb.basis, third]),
            jnp.concatenate([square.basis, third]),
            free,
        ]
    )[kind]
    faint = uniform(keys[5], 0.1, 1.0, (2,)) * jax.random.bernoulli(keys[6], 0.6, (2,))
    equal = jax.random.bernoulli(keys[7], 0.7)
    weights = jnp.stack(
        [
            jnp.array([1.0, 1.0, 0.0]).at[1].set(jnp.where(equal, 1.0, faint[0])),
            jnp.array([1.0, 0.0, 0.0]).at[1].set(uniform(keys[8], 0.1, 0.6)),
            jnp.concatenate([jnp.ones(1), faint]),
        ]
    )[kind]
    others = jax.random.split(keys[9], 5)
    probe = jnp.maximum(spacing * uniform(others[0], 0.12, 0.28), 1.0)
    return Lattice(
        cell,
        basis,
        weights,
        probe,
        vacancies=jnp.where(
            jax.random.bernoulli(others[1], 0.8), uniform(others[2], 0.0, 0.15), 0.0
        ),
        displacement_px=uniform(others[3], 0.0, 0.04) * spacing,
        background=log_uniform(others[4], 0.02, 0.5),
    )


def sampled_alike(key: PRNGKeyArray) -> Lattice:
    """A lattice whose columns are about 5 px wide at half their height, however far apart.

    Who knows the width knows most of what there is to know of a lattice at low doses. Three in five
    are near the benchmark's, on which a network that learns of these is at home. The others are of
    any kind, 5.5 to 22 px apart, a column's standard deviation 1.4 to 3.4 px.
    """
    keys = jax.random.split(key, 6)
    lattice = drawn(keys[0], spacings_px=(5.5, 22.0))
    other = lattice._replace(
        probe_px=uniform(keys[1], 1.4, 3.4),
        displacement_px=uniform(keys[2], 0.1, 0.5),
        background=log_uniform(keys[3], 0.02, 0.25),
    )
    is_near = jax.random.bernoulli(keys[4], 0.6)
    return jax.tree.map(lambda a, b: jnp.where(is_near, a, b), _near_the_benchmark(keys[5]), other)


def benchmark(key: PRNGKeyArray) -> Lattice:
    """`hexagonal` or `binary`, as denoisers are compared on them."""
    return _either(key, hexagonal(), binary())


def _near_the_benchmark(key: PRNGKeyArray) -> Lattice:
    """The same, all of their numbers within some tens of percent of the usual."""
    keys = jax.random.split(key, 8)
    honeycomb = hexagonal(uniform(keys[0], 11.0, 13.0))
    square = binary(uniform(keys[1], 13.0, 15.0), faint=uniform(keys[2], 0.2, 0.4))
    return _either(keys[3], honeycomb, square)._replace(
        probe_px=uniform(keys[4], 2.0, 2.4),
        vacancies=uniform(keys[5], 0.0, 0.1),
        displacement_px=uniform(keys[6], 0.2, 0.5),
        background=uniform(keys[7], 0.04, 0.16),
    )


def _either(key: PRNGKeyArray, one: Lattice, other: Lattice) -> Lattice:
    """One of two lattices of two columns each, at the same chance; the rest as usual."""
    is_other = jax.random.bernoulli(key)
    cell, basis, weights = (
        jnp.where(is_other, a, b) for a, b in zip(other[:3], one[:3], strict=True)
    )
    # as many columns as other lattices have
    return Lattice(
        cell, jnp.concatenate([basis, jnp.zeros((1, 2))]), jnp.concatenate([weights, jnp.zeros(1)])
    )


@partial(jax.jit, static_argnames="side_px")
def haadf_lattice(
    key: PRNGKeyArray, *, side_px: int, dose: Scalar, readout: Scalar = 0.0
) -> Simulated:
    """One exposure (n = 1) of a lattice `sampled_alike`; `dose` is the mean counts a pixel."""
    lattice_key, field_key, noise_key = jax.random.split(key, 3)
    lattice, cells = sampled_alike(lattice_key), most_cells(side_px)
    clean = draw(field_key, lattice, side_px=side_px, cells=cells).clean
    return detector.expose(noise_key, clean, dose=dose, readout=readout)

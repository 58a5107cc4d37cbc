"""Crystals seen along an axis, and how strongly their atoms scatter electrons.

Owns the structures' dimensions and the scattering factors; lengths are nm, angles radians.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# f(s) = sum of a exp(-b s^2) in Angstrom, s = k / 2 in 1/Angstrom, up to s = 2: a, then b.
# Source: International Tables for Crystallography C, table 4.3.2.2, after Peng et al., Acta
# Crystallographica A52 (1996) 257.
_FACTORS = {
    6: ((0.0893, 0.2563, 0.7570, 1.0487, 0.3575), (0.2465, 1.7100, 6.4094, 18.6113, 50.2523)),
    8: ((0.0974, 0.2921, 0.6910, 0.6990, 0.2039), (0.2067, 1.3815, 4.6943, 12.7105, 32.4726)),
    14: ((0.2519, 0.6372, 1.3795, 2.5082, 1.0500), (0.3075, 2.0174, 9.6746, 29.3744, 80.4732)),
    22: ((0.3825, 1.2598, 2.0008, 3.0617, 2.0694), (0.3040, 2.4863, 9.2783, 39.0751, 109.4583)),
    38: ((0.6703, 1.4926, 3.3368, 4.4600, 3.1501), (0.3190, 2.2287, 10.3504, 52.3291, 151.2216)),
    79: ((0.9674, 1.8916, 3.3993, 3.0524, 1.2607), (0.2358, 1.4712, 5.6758, 18.7119, 61.5286)),
}
# Debye-Waller factor at room temperature, square Angstrom: between those of silicon and of gold.
_THERMAL = 0.5


class Column(NamedTuple):
    """A column of atoms of one element along the beam.

    Attributes:
        atomic_number: of the element.
        across: place in the cell, share of its width.
        along: place in the cell, share of its height.
    """

    atomic_number: int
    across: float
    along: float


class Crystal(NamedTuple):
    """A crystal seen along an axis: a rectangular cell of columns, each one atom a period.

    Attributes:
        width_nm: of the projected cell.
        height_nm: of the projected cell.
        period_nm: distance of two atoms of a column; of a single layer its thickness.
        columns: of the cell.
    """

    width_nm: float
    height_nm: float
    period_nm: float
    columns: tuple[Column, ...]


def _centred(atomic_number: int, along: float = 0.0) -> tuple[Column, Column]:
    """The columns of a centred cell, moved by a share of its height."""
    return Column(atomic_number, 0.0, along), Column(atomic_number, 0.5, 0.5 + along)


def _face_centred_110(a_nm: float, columns: tuple[Column, ...]) -> Crystal:
    """A cubic face-centred lattice along [110]: [1-10] across, [001] along."""
    return Crystal(a_nm / math.sqrt(2), a_nm, a_nm / math.sqrt(2), columns)


_GOLD, _SILICON, _TITANATE, _GRAPHENE = 0.40782, 0.54310, 0.39050, 0.24612

CRYSTALS: dict[str, Crystal] = {
    # Half of the columns of a face-centred lattice along [001] lie half a period deeper.
    "Au [001]": Crystal(
        _GOLD / math.sqrt(2), _GOLD / math.sqrt(2), _GOLD, (Column(79, 0, 0), Column(79, 0.5, 0.5))
    ),
    "Au [110]": _face_centred_110(_GOLD, _centred(79)),
    "Si [110]": _face_centred_110(_SILICON, (*_centred(14), *_centred(14, 0.25))),
    "SrTiO3 [001]": Crystal(
        _TITANATE,
        _TITANATE,
        _TITANATE,
        (
            Column(38, 0, 0),
            Column(22, 0.5, 0.5),
            Column(8, 0.5, 0.5),
            Column(8, 0.5, 0),
            Column(8, 0, 0.5),
        ),
    ),
    "graphene": Crystal(
        _GRAPHENE, _GRAPHENE * math.sqrt(3), 0.335, (*_centred(6), *_centred(6, 1 / 3))
    ),
}
"""By name, with lattice constants at room temperature (Au 0.40782, Si 0.54310, SrTiO3 0.39050 and
graphene 0.24612 nm; Wyckoff, Crystal Structures)."""


def scattering_factor_nm(atomic_number: int, frequency: Float[Array, "*k"]) -> Float[Array, "*k"]:
    """Scattering factor in nm of a neutral atom in thermal motion, at frequencies in 1/nm.

    For electrons of no speed; the relativistic mass multiplies it.

    Raises:
        ValueError: an element of none of the crystals.
    """
    if atomic_number not in _FACTORS:
        known = ", ".join(map(str, _FACTORS))
        raise ValueError(f"no scattering factor of element {atomic_number}: use one of {known}")
    square = (frequency / 20) ** 2  # s in 1/Angstrom
    amplitudes, widths = _FACTORS[atomic_number]
    factor = sum(
        (a * jnp.exp(-(b + _THERMAL) * square) for a, b in zip(amplitudes, widths, strict=True)),
        start=jnp.zeros_like(square),
    )
    return factor / 10


def places(
    crystal: Crystal, *, reach_nm: float, turn: float, offset: tuple[float, float]
) -> dict[int, Float[np.ndarray, "k 2"]]:
    """Row and column in nm of every column within reach of the origin along each axis, by element.

    Args:
        crystal: which.
        reach_nm: half of the side of the square to be filled.
        turn: rotation of the cell's height away from the rows' direction.
        offset: of the cell's corner from the origin, shares of its height and width.
    """
    far = reach_nm * math.sqrt(2)
    high, wide = crystal.height_nm, crystal.width_nm
    rows = np.arange(-math.ceil(far / high) - 2, math.ceil(far / high) + 2)
    across = np.arange(-math.ceil(far / wide) - 2, math.ceil(far / wide) + 2)
    cells = np.stack(np.meshgrid(rows, across, indexing="ij"), axis=-1).reshape(-1, 2)
    sine, cosine = math.sin(turn), math.cos(turn)
    found: dict[int, list[np.ndarray]] = {}
    for column in crystal.columns:
        share = cells + np.array([column.along + offset[0], column.across + offset[1]])
        y, x = (share * np.array([high, wide])).T
        turned = np.stack([cosine * y - sine * x, sine * y + cosine * x], axis=1)
        inside = np.abs(turned).max(axis=1) <= reach_nm
        found.setdefault(column.atomic_number, []).append(turned[inside])
    return {element: np.concatenate(parts) for element, parts in found.items()}

"""Low-dose HAADF lattices: the conditions that denoisers are compared on, and their fields.

Every field has a key of its own, which follows from its condition, dose, purpose and number: a
field is the same whichever others are drawn, and those for tuning are none of those for evaluation.
Trainings draw theirs from `jax.random.key` of small seeds.

Source: the published benchmark of low-dose HAADF lattices that `published` cites.
"""

from __future__ import annotations

import dataclasses
import functools
import zlib

import jax
import numpy as np
from jax import Array
from jaxtyping import PRNGKeyArray

from emd.data.simulate import haadf
from experiments.dose.samples import Columns, Sample

SEED = 710_001
"""Of no training run."""

DOSES = (2.0, 5.0, 10.0, 20.0, 50.0, 150.0, 500.0)
"""Counts at the peak of a lone bright column."""

OFF_DOSES = (5.0, 50.0)
SPACING_DOSES = (5.0, 10.0, 50.0)
READOUT = 0.5
"""Standard deviation of the detector's normal noise in counts."""

TUNING, EVALUATION = "tuning", "evaluation"
"""What a field is for."""


@dataclasses.dataclass(frozen=True)
class Condition:
    """A kind of field.

    Attributes:
      name: in tables.
      spacing_px: between neighbours of the honeycomb, or the side of the binary square's cell.
      is_binary: the square lattice with a faint column in the middle of each cell.
      faint: peak of that column.
      probe_px: standard deviation of a column's Gaussian.
      vacancies: share of columns that are missing.
    """

    name: str
    spacing_px: float
    is_binary: bool = False
    faint: float = 0.3
    probe_px: float = 2.2
    vacancies: float = 0.03

    def lattice(self) -> haadf.Lattice:
        """Return the lattice that its fields are drawn from."""
        if self.is_binary:
            cells = haadf.binary(self.spacing_px, faint=self.faint)
        else:
            cells = haadf.hexagonal(self.spacing_px)
        return cells._replace(probe_px=self.probe_px, vacancies=self.vacancies)


HEXAGONAL = Condition("hexagonal", 12.0)
BINARY = Condition("binary", 14.0, is_binary=True)
USUAL = (HEXAGONAL, BINARY)
OFF = (
    dataclasses.replace(HEXAGONAL, name="spacing 9", spacing_px=9.0),
    dataclasses.replace(HEXAGONAL, name="spacing 16", spacing_px=16.0),
    dataclasses.replace(HEXAGONAL, name="vacancies 12 %", vacancies=0.12),
    dataclasses.replace(HEXAGONAL, name="probe 3.0", probe_px=3.0),
    dataclasses.replace(BINARY, name="faint 0.2", faint=0.2),
)
"""Fields that differ from the usual ones in one respect."""

SPACINGS_PX = (6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0)
SWEEP = tuple(
    dataclasses.replace(HEXAGONAL, name=f"spacing {spacing:g}", spacing_px=spacing)
    for spacing in SPACINGS_PX
)
"""The honeycomb from narrow to wide."""


def draw(
    condition: Condition, dose: float, purpose: str, *, count: int, side_px: int
) -> list[Sample]:
    """Return exposures of the first so many fields of a condition, dose and purpose."""
    lattice = condition.lattice()
    cells = haadf.cells_needed(lattice.cell_px, side_px)
    drawn = []
    for number in range(count):
        name = f"{condition.name}, dose {dose:g}, {purpose} {number}"
        key = jax.random.fold_in(jax.random.key(SEED), zlib.crc32(name.encode()))
        field, counts = _draw(key, lattice, dose, side_px=side_px, cells=cells)
        columns = Columns(
            np.asarray(field.positions_px),
            np.asarray(field.weights),
            condition.spacing_px,
            condition.probe_px,
        )
        truth = dose * np.asarray(field.clean)
        drawn.append(Sample(np.asarray(counts), truth, READOUT, columns))
    return drawn


@functools.partial(jax.jit, static_argnames=("side_px", "cells"))
def _draw(
    key: PRNGKeyArray, lattice: haadf.Lattice, dose: float, *, side_px: int, cells: int
) -> tuple[haadf.Field, Array]:
    field_key, noise_key = jax.random.split(key)
    field = haadf.draw(field_key, lattice, side_px=side_px, cells=cells)
    counts = haadf.expose(noise_key, field.clean, dose=dose, readout=READOUT).counts[0]
    return field, counts

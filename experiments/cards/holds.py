"""Where each model holds: its gain over a Gaussian that is tuned for the dose and the spacing.

Models for STEM are held against it on HAADF honeycombs, those for TEM on lattice fringes, those for
both on both; so are the kernel fitted to each field and leaving the field as it is. The width of
the Gaussian is the best one on fields that nothing else is measured on.

A row is measured again only where the weights have changed. Nobody sees a change of the simulator
or of this file: remove the table then.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from emd import checkpoint, zoo
from experiments.benchmark import table
from experiments.cards import fringes
from experiments.dose import contestants, fields, rivals
from experiments.dose.samples import Sample

DOSES = (2.0, 5.0, 20.0, 100.0, 500.0)
"""Counts: at the peak of a lone column for STEM, the mean for TEM."""

SPACINGS_PX = (6.0, 8.0, 10.0, 12.0, 16.0, 20.0)
"""Between neighbouring columns for STEM, between planes for TEM."""

SIDE_PX, FIELDS = 128, 2
"""Of a field, and how many a cell is measured on and as many more its Gaussian tuned on."""

LEVEL_DB = 0.05
"""Up to so much above or below, a model is level with the Gaussian."""

REFERENCES = (contestants.RAW, contestants.FIT)
"""What is measured beside the models."""

COLUMNS = (
    "model", "weights", "domain", "dose", "spacing_px", "gain_db", "least_db", "gaussian_sigma_px",
)  # fmt: skip

Image = Float[np.ndarray, "h w"]
Row = table.Row


class Cell(NamedTuple):
    """A domain, "stem" or "tem", a dose in counts and a spacing in pixels."""

    domain: str
    dose: float
    spacing_px: float


class Measured(NamedTuple):
    """The fields of a cell, its Gaussian's sigma and that Gaussian's squared errors on them."""

    samples: list[Sample]
    sigma_px: float
    errors: list[float]


def domains_of(domain: str) -> tuple[str, ...]:
    """Return what a model of a domain is measured on; of no domain, everything."""
    return (domain,) if domain in ("stem", "tem") else ("stem", "tem")


def cells(domain: str) -> list[Cell]:
    """Return the cells that a model of a domain is measured on."""
    return [Cell(*one) for one in itertools.product(domains_of(domain), DOSES, SPACINGS_PX)]


def draw(cell: Cell, purpose: str) -> list[Sample]:
    """Return the fields of a cell for tuning or for evaluation, as `experiments.dose.fields`."""
    if cell.domain == "tem":
        return fringes.draw(cell.spacing_px, cell.dose, purpose, count=FIELDS, side_px=SIDE_PX)
    condition = dataclasses.replace(
        fields.HEXAGONAL, name=f"holds at {cell.spacing_px:g}", spacing_px=cell.spacing_px
    )
    return fields.draw(condition, cell.dose, purpose, count=FIELDS, side_px=SIDE_PX)


@functools.cache
def measured(cell: Cell) -> Measured:
    """Return a cell's fields with the Gaussian tuned to others of its kind."""
    gaussian = _gaussian()
    sigma = rivals.tune(gaussian, draw(cell, fields.TUNING))
    samples = draw(cell, fields.EVALUATION)
    found = [rivals.restore(gaussian, s.noisy, sigma, readout=s.readout) for s in samples]
    errors = [squared_error(*both) for both in zip(found, samples, strict=True)]
    return Measured(samples, sigma[0], errors)


def _gaussian() -> rivals.Rival:
    """The rival of the table of doses, with widths beyond those that lattices of atoms need."""
    found = next(rival for rival in rivals.RIVALS if rival.name == "Gaussian")
    widths = np.geomspace(0.3, 24.0, 48)
    return found._replace(grid=tuple((float(f"{width:.3g}"),) for width in widths))


def squared_error(image: Image, sample: Sample) -> float:
    """Return the mean squared error of an image against a sample's truth."""
    return float(np.mean((image.astype(np.float64) - sample.truth) ** 2))


def gains_db(restored: Sequence[Image], cell: Measured) -> list[float]:
    """Return by how much each of a cell's fields is closer to its truth than by the Gaussian."""
    pairs = zip(restored, cell.samples, cell.errors, strict=True)
    return [
        10 * float(np.log10(error / squared_error(image, sample))) for image, sample, error in pairs
    ]


def fill(path: Path, root: Path, *, comment: str) -> list[Row]:
    """Return the whole table, having measured what a file lacks and written it there.

    It is written after each model, so that a run that was stopped goes on. Rows of models that are
    no longer there go.
    """
    old = table.read(path, COLUMNS)
    kept = {_place(row): row for row in old}
    names = (*REFERENCES, *checkpoint.available(root=root))
    rows: list[Row] = []
    for name in tqdm(names, unit="model"):
        entrant = contestants.named(name, str(root))
        ready = entrant.prepare([])  # none of them is tuned
        places = {_at(name, entrant.stamp, cell): cell for cell in cells(entrant.domain)}
        if lacking := {place: cell for place, cell in places.items() if place not in kept}:
            for place, cell in lacking.items():
                kept[place] = _row(place, [ready.restore(s) for s in measured(cell).samples], cell)
            table.write(path, COLUMNS, kept.values(), comment=comment)
        rows += [kept[place] for place in places]
    if rows != old:
        table.write(path, COLUMNS, rows, comment=comment)
    return rows


def fingerprints(root: Path) -> dict[str, str]:
    """Return the weights of all models that are there, the published kernels' included."""
    return {
        name: checkpoint.fingerprint(checkpoint.load(name, root=root).variables)
        for name in checkpoint.available(root=root)
    }


def stale(rows: Sequence[Row], prints: Mapping[str, str]) -> list[str]:
    """Return the models that the table lacks, in part or of these weights; gone ones count too."""
    due = {
        _at(name, weights, cell)
        for name, weights in prints.items()
        for cell in cells(zoo.find(name).domain)
    }
    listed = {_place(row) for row in rows if row["model"] not in REFERENCES}
    return sorted({place[0] for place in due ^ listed})


def _at(name: str, weights: str, cell: Cell) -> tuple[str, ...]:
    return name, weights, cell.domain, f"{cell.dose:g}", f"{cell.spacing_px:g}"


def _place(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in COLUMNS[:5])


def _row(place: tuple[str, ...], restored: Sequence[Image], cell: Cell) -> Row:
    there = measured(cell)
    found = gains_db(restored, there)
    numbers = (f"{np.mean(found):.3f}", f"{min(found):.3f}", f"{there.sigma_px:g}")
    return dict(zip(COLUMNS, (*place, *numbers), strict=True))

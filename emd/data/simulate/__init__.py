"""Simulated TEM, STEM and diffraction micrographs with known truth and dose in counts.

`micrographs` draws a mixture for training; each kind is a function of its own. The physics lies in
`optics` (wavelength, transfer function), `stem` (Z contrast, probe), `scan` (its faults) and
`detector` (counts). `hrtem` exposes crystals of known structure to a dose of the specimen, and
`low_dose` makes few counts of micrographs that have many.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from emd.data.simulate.crystals import CRYSTALS
from emd.data.simulate.detector import Detector, Simulated, detect, expose, poisson
from emd.data.simulate.diffraction import diffraction
from emd.data.simulate.haadf import haadf_lattice
from emd.data.simulate.hrtem import hrtem
from emd.data.simulate.low_dose import low_dose
from emd.data.simulate.optics import (
    Microscope,
    Scalar,
    contrast_transfer,
    electron_wavelength_pm,
    envelope,
    weak_phase_image,
)
from emd.data.simulate.scan import ScanFaults, scanned
from emd.data.simulate.stem import column_image, columns, dislocations, particles, terrain
from emd.data.simulate.tem import film, lattice, membranes, nanoparticles
from emd.data.simulate.texture import log_uniform

__all__ = [
    "CRYSTALS",
    "KINDS",
    "Detector",
    "Microscope",
    "ScanFaults",
    "Simulated",
    "column_image",
    "columns",
    "compiled",
    "contrast_transfer",
    "detect",
    "diffraction",
    "dislocations",
    "electron_wavelength_pm",
    "envelope",
    "expose",
    "film",
    "haadf_lattice",
    "hrtem",
    "lattice",
    "low_dose",
    "membranes",
    "micrographs",
    "nanoparticles",
    "particles",
    "poisson",
    "scanned",
    "terrain",
    "weak_phase_image",
]


# A function (key, *, side_px, dose, readout=0) that draws one micrograph.
Kind = Callable[..., Simulated]

# Kinds of a domain in the order in which a mixture takes them, with their doses in counts a pixel;
# atom columns alone are a domain within STEM, for who learnt nothing else.
KINDS: dict[str, tuple[tuple[Kind, float, float], ...]] = {
    # One diffraction pattern in ten: in units of its mean one outweighs a hundred micrographs.
    "tem": (
        *(3 * ((lattice, 5.0, 1000.0), (nanoparticles, 5.0, 1000.0), (membranes, 2.0, 100.0))),
        (diffraction, 2.0, 1000.0),
    ),
    "stem": (
        (columns, 2.0, 1000.0),
        (particles, 2.0, 1000.0),
        (dislocations, 5.0, 1000.0),
        (terrain, 2.0, 1000.0),
    ),
    "columns": ((haadf_lattice, 0.5, 1000.0),),
}


@cache
def compiled(kind: Kind) -> Kind:
    """A kind that is compiled once for each size: by itself it runs operation by operation."""
    return jax.jit(kind, static_argnames="side_px")


@partial(jax.jit, static_argnames=("kind", "side_px"))
def _draw(key: PRNGKeyArray, kind: Kind, low: Scalar, high: Scalar, side_px: int) -> Simulated:
    """One micrograph of a kind, its dose log-uniform in [low, high], a third with readout noise."""
    scene_key, dose_key, readout_key, size_key = jax.random.split(key, 4)
    is_noisy = jax.random.bernoulli(readout_key, 1 / 3)
    readout = jnp.where(is_noisy, log_uniform(size_key, 0.1, 2.0), 0.0)
    dose = log_uniform(dose_key, low, high)
    return kind(scene_key, side_px=side_px, dose=dose, readout=readout)


def micrographs(key: PRNGKeyArray, domain: str, *, count: int, side_px: int) -> Simulated:
    """`count` square micrographs of a domain, its kinds taken in turn.

    Image i depends on `fold_in(key, i)` alone, so a longer draw begins with the shorter one. Each
    kind is compiled once for each `side_px`; `count` never causes a compilation.

    Raises:
        ValueError: unknown domain, count below 1 or side below 32 pixels.
    """
    if domain not in KINDS:
        raise ValueError(f"unknown domain {domain!r}: use one of {', '.join(map(repr, KINDS))}")
    if count < 1:
        raise ValueError(f"count is {count}: ask for at least 1 micrograph")
    if side_px < 32:
        raise ValueError(f"side_px is {side_px}: the smallest simulated micrograph has 32 pixels")
    kinds = KINDS[domain]
    drawn = []
    for i in range(count):
        kind, low, high = kinds[i % len(kinds)]
        drawn.append(_draw(jax.random.fold_in(key, i), kind, low, high, side_px))
    # Joined by NumPy: a program that joins on the device would be compiled for every count.
    return Simulated(*(jnp.asarray(np.concatenate(a)) for a in zip(*drawn, strict=True)))

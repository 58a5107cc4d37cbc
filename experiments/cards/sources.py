"""Who made the micrographs that the shipped models learned from, and under which licence.

Cards name a source as `domain/owner/repository`; nothing of the micrographs themselves is here.
"""

from __future__ import annotations

from typing import NamedTuple


class Source(NamedTuple):
    """What a source's micrographs show, and their licence."""

    shows: str
    licence: str


SOURCES: dict[str, Source] = {
    "ArdaGen/STEM-Automated-Nanoparticle-Analysis-YOLOv8-SAM": Source(
        "HAADF-STEM and BF-TEM, supported catalyst nanoparticles", "MIT"
    ),
    "Sjeon1/HAADF_Atom_Detection": Source(
        "HAADF-STEM, single atoms of Pt and Re complexes", "Apache-2.0"
    ),
    "ai-atoms/creme": Source("BF-TEM, defects of steel irradiated in situ", "MIT"),
    "jianlin-cheng/AutoCryoPicker": Source(
        "cryo-TEM, apoferritin in ice", "CC0 (EMPIAR-10146; the repository itself has none)"
    ),
    "pnnl/pychip_gui": Source("HAADF-STEM, some at atomic resolution", "BSD-2-Clause (Battelle)"),
    "uw-cmg/Multitype-Defect-Detection": Source(
        "BF-STEM, dislocation loops of irradiated FeCrAl", "MIT (as of July to December 2018)"
    ),
    "xinhuolin/AtomSegNet": Source("ADF-STEM at atomic resolution", "MIT"),
}
"""By owner and repository on GitHub."""

UNKNOWN = Source("not known here", "not known here: ask whoever trained the model")


def split(named: str) -> tuple[str, str]:
    """Return the domain of a source as a card names it, and what `SOURCES` lists it by."""
    domain, _, repository = named.partition("/")
    return domain, repository or named


def of_card(card: dict[str, str]) -> list[str]:
    """Return the sources of real micrographs that a card names; none for simulated ones alone."""
    names = card.get("real_sources", "")
    return [] if names in ("", "none") else names.split(", ")

"""All cards at once, from tables that are of the weights that are there."""

from __future__ import annotations

from pathlib import Path

from experiments.cards import autoencoders, holds, kernels, measure, mlps, skips, standing

_WRITERS = {
    "AUTOENCODERS.md": (autoencoders.card, ("autoencoder",)),
    "KERNELS.md": (kernels.card, ("kernel",)),
    "MLPS.md": (mlps.card, ("mlp1", "mlp2")),
    "SKIPS.md": (skips.card, ("skip",)),
}


def write_all(root: Path, tables: measure.Tables, pictures: str) -> dict[str, str]:
    """Return each card's text by file name; ``pictures`` is their folder as the cards see it.

    Raises:
        ValueError: the tables are of other weights than those that are there.
    """
    prints = holds.fingerprints(root)
    if wrong := sorted({*measure.stale(tables, prints), *holds.stale(tables["holds"], prints)}):
        raise ValueError(
            f"measured on other weights than those in {root}: {', '.join(wrong)}; "
            "run python -m experiments.cards"
        )
    return {
        name: write(standing.entries(root, *families), tables, pictures)
        for name, (write, families) in _WRITERS.items()
    }

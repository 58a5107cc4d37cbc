"""Write a simulated micrograph to try things on: `python -m experiments.simulate`.

`--truth=clean.tif` writes the expected counts beside it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np

from emd.data import micrograph, simulate
from experiments import config as configs

KINDS = {kind.__name__: kind for kinds in simulate.KINDS.values() for kind, _, _ in kinds}
"""What a micrograph may show, by name."""


@dataclasses.dataclass(frozen=True)
class Config:
    """One micrograph, in counts."""

    kind: str = configs.option("nanoparticles", "what it shows", choices=tuple(KINDS))
    output: str = configs.option("noisy.tif", "TIFF file to write, uint16")
    truth: str | None = configs.option(None, "TIFF file for the expected counts, float32")
    side_px: int = configs.option(512, "side in pixels")
    dose: float = configs.option(20.0, "mean counts a pixel")
    seed: int = configs.option(0, "seed of the scene and its noise")
    overwrite: bool = configs.option(False, "replace files that exist")


def draw(kind: str, *, side_px: int, dose: float, seed: int) -> simulate.Simulated:
    """Return one simulated micrograph of a kind, with its truth.

    Raises:
        ValueError: unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}: use one of {', '.join(KINDS)}")
    return simulate.compiled(KINDS[kind])(jax.random.key(seed), side_px=side_px, dose=dose)


def run(config: Config) -> dict[str, float]:
    """Return the micrograph's mean count and how many pixels were clipped, having written it.

    Raises:
        ValueError: a setting will not do.
        FileExistsError: an output exists and ``overwrite`` is not set.
    """
    if config.side_px < 32 or not 0 < config.dose < 1e6:
        raise ValueError(
            f"side_px {config.side_px}, dose {config.dose}: give a side of at least 32 px and a "
            "dose above 0, below a million counts"
        )
    outputs = [Path(path) for path in (config.output, config.truth) if path]
    if len(set(outputs)) < len(outputs):
        raise ValueError(f"{config.output}: is both --output and --truth: name two files")
    for path in outputs:
        micrograph.check_output(path, overwrite=config.overwrite)
    made = draw(config.kind, side_px=config.side_px, dose=config.dose, seed=config.seed)
    drawn = np.rint(np.asarray(made.counts[0]))
    counts = np.clip(drawn, 0, 65535).astype(np.uint16)
    record = {"simulated": dataclasses.asdict(config)}
    noisy = micrograph.Micrograph(counts, metadata=record)
    micrograph.write(config.output, noisy, overwrite=config.overwrite)
    if config.truth:
        clean = micrograph.Micrograph(np.asarray(made.clean[0]), metadata=record)
        micrograph.write(config.truth, clean, overwrite=config.overwrite)
    clipped = np.count_nonzero(drawn != counts)
    return {"mean_counts": float(counts.mean()), "clipped_pixels": float(clipped)}


if __name__ == "__main__":
    configs.main(run, Config)

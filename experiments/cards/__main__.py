"""Write the families' model cards: `python -m experiments.cards`.

Makes AUTOENCODERS.md, KERNELS.md, MLPS.md and SKIPS.md from the models' own cards and from what it
measures on simulated micrographs, whose tables and pictures it writes too (two minutes on two CPU
cores). Into each model's folder goes a chart of its gain over a tuned Gaussian, into its card what
that shows; models that the table of these gains has are not measured anew (all take a minute).
`--nomeasure` takes the other tables that are there. Run it again whenever a model is replaced: a
test fails until then.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

from emd import checkpoint
from experiments import config as configs
from experiments import provenance
from experiments.benchmark import table
from experiments.cards import charts, holds, measure, pages, pictures
from experiments.curves import figure_type


@dataclasses.dataclass(frozen=True)
class Config:
    """What to read, what to measure on, and where to write."""

    checkpoints: str | None = configs.option(None, "folder of models; those shipped without it")
    cards: str = configs.option("checkpoints", "folder for the cards")
    output: str = configs.option("results/cards", "folder for tables and pictures")
    measure: bool = configs.option(True, "measure anew rather than read the tables there")
    holds: str = configs.option(
        "results/holds.csv", "table of gains over a tuned Gaussian; what it lacks is measured"
    )
    side_px: int = configs.option(256, "side of a simulated micrograph")
    seeds: int = configs.option(3, "simulated micrographs of each kind and dose")


def run(config: Config) -> dict[str, float]:
    """Return the lines of each card, having written cards, tables and pictures.

    Raises:
        ValueError: a setting will not do; without measuring, the tables are of other weights; or
            matplotlib is not installed.
        FileNotFoundError: the folder of models is missing.
    """
    configs.check_counts(config, "seeds")
    if config.side_px < pictures.SIDE_PX:
        raise ValueError(f"side_px is {config.side_px}: give at least {pictures.SIDE_PX}")
    figure_type()
    root = Path(config.checkpoints or checkpoint.shipped())
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder: --checkpoints names one of models")
    folder, cards = Path(config.output), Path(config.cards)
    if config.measure:
        tables = measure.measure_all(root, side_px=config.side_px, seeds=config.seeds)
        for name, rows in tables.items():
            path = folder / f"{name}.csv"
            table.write(path, measure.COLUMNS[name], rows, comment=_comment())
    else:
        tables = read_tables(folder)
    tables["holds"] = holds.fill(Path(config.holds), root, comment=_comment())
    link = Path(os.path.relpath(folder.resolve(), cards.resolve())).as_posix()
    texts = pages.write_all(root, tables, link)
    charts.write_all(root, tables["holds"])
    pictures.draw_all(tables["gains"], root, folder, side_px=config.side_px)
    cards.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        partial = cards / f".{name}.part"
        partial.write_text(text)
        partial.replace(cards / name)
    return {name: len(text.splitlines()) for name, text in texts.items()}


def read_tables(folder: Path) -> measure.Tables:
    """Return the tables of a folder; empty ones where they are missing.

    Raises:
        ValueError: a table has other columns.
    """
    return {name: table.read(folder / f"{name}.csv", c) for name, c in measure.COLUMNS.items()}


def _comment() -> str:
    command = provenance.command(["experiments/cards.py", *sys.argv[1:]])
    return f"{command}  (commit {provenance.commit()})"


if __name__ == "__main__":
    configs.main(run, Config)

"""Rebuild the paper's tables from our models: `python -m experiments.evaluate --table=3`.

`--table=3` is the paper's Table 3 beside ours, from the models' cards and learning curves, in
seconds. `--table=claims` tests what else the paper claims, by applying every model: minutes on 2
CPU cores. `--table=dose` holds every model against classical rivals where the truth is known: an
hour on one core, BM3D half of it; started again, it measures what is missing. Each writes
`<output>/<table>.csv`, its first line the command, and a Markdown page.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

from experiments import config as configs
from experiments import provenance
from experiments.dose import table as dose
from experiments.evaluate import claims, measured, table3


@dataclasses.dataclass(frozen=True)
class Config:
    """Which table, of which models and data, and where to."""

    table: str = configs.option("3", "table to make: 3, claims or dose")
    checkpoints: str | None = configs.option(None, "folder of models; those shipped without it")
    data_dir: str | None = configs.option(
        None,
        "claims: folder with tem/ and stem/ inside; simulated micrographs without it; "
        "dose: folder with eval/tem and eval/stem inside; simulated crops alone without it",
    )
    frames: str | None = configs.option(
        None, "dose: file of 4 or more frames of one place, by which the truth need not be known"
    )
    eval_dir: str | None = configs.option(
        None, "claims: the same, of micrographs to look for checkerboards in; simulated without it"
    )
    models: str | None = configs.option(
        None, "dose: models and rivals by name or its beginning, by commas; all without"
    )
    only: str | None = configs.option(
        None, "dose: protocols by name or its beginning, by commas; all without"
    )
    doses: str | None = configs.option(None, "dose: doses of lattices, by commas; all without")
    fields: int = configs.option(6, "dose: lattices, and simulated scenes, of a condition and dose")
    field_px: int = configs.option(256, "dose: side of a lattice; scenes are twice as wide")
    repeats: int = configs.option(5, "claims, dose: times that each model is timed")
    side_px: int = configs.option(1024, "claims: side of the image that models are timed on")
    output: str = configs.option("results", "folder of the tables")


def _table3(config: Config, command: str) -> dict[str, float]:
    return table3.make(config.checkpoints, Path(config.output), command=command)


def _claims(config: Config, command: str) -> dict[str, float]:
    settings = measured.Settings(
        config.checkpoints, config.data_dir, config.eval_dir, config.repeats, config.side_px
    )
    return claims.make(settings, Path(config.output), command=command)


def _dose(config: Config, command: str) -> dict[str, float]:
    configs.check_counts(config, "fields", "field_px")
    settings = dose.Settings(
        config.checkpoints, config.data_dir, config.frames, config.models, config.only,
        config.doses, config.fields, config.field_px, config.repeats,
    )  # fmt: skip
    return dose.make(settings, Path(config.output), command=command)


TABLES: dict[str, Callable[[Config, str], dict[str, float]]] = {
    "3": _table3,
    "claims": _claims,
    "dose": _dose,
}
"""What makes each table."""


def run(config: Config) -> dict[str, float]:
    """Return a table's summary, having written it.

    Raises:
        ValueError: no table has that name, or a setting will not do.
        FileNotFoundError: the folder of models or of data is missing.
    """
    if config.table not in TABLES:
        raise ValueError(f"no table {config.table!r}: use one of {', '.join(TABLES)}")
    configs.check_counts(config, "repeats", "side_px")
    command = provenance.command(["experiments/evaluate.py", *sys.argv[1:]])
    return TABLES[config.table](config, command)


if __name__ == "__main__":
    configs.main(run, Config)

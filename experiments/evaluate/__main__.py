"""Rebuild the paper's tables from our models: `python -m experiments.evaluate --table=3`.

`--table=3` is the paper's Table 3 beside ours, from the models' cards and learning curves, in
seconds. `--table=claims` tests what else the paper claims, by applying every model: minutes on 2
CPU cores. Each writes `<output>/<table>.csv`, its first line the command, and a Markdown page.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

from experiments import config as configs
from experiments import provenance
from experiments.evaluate import claims, measured, table3


@dataclasses.dataclass(frozen=True)
class Config:
    """Which table, of which models and data, and where to."""

    table: str = configs.option("3", "table to make: 3 or claims")
    checkpoints: str | None = configs.option(None, "folder of models; those shipped without it")
    data_dir: str | None = configs.option(
        None, "claims: folder with tem/ and stem/ inside; simulated micrographs without it"
    )
    eval_dir: str | None = configs.option(
        None, "claims: the same, of micrographs to look for checkerboards in; simulated without it"
    )
    repeats: int = configs.option(5, "claims: times that each model is timed")
    side_px: int = configs.option(1024, "claims: side of the image that models are timed on")
    output: str = configs.option("results", "folder of the tables")


def _table3(config: Config, command: str) -> dict[str, float]:
    return table3.make(config.checkpoints, Path(config.output), command=command)


def _claims(config: Config, command: str) -> dict[str, float]:
    settings = measured.Settings(
        config.checkpoints, config.data_dir, config.eval_dir, config.repeats, config.side_px
    )
    return claims.make(settings, Path(config.output), command=command)


TABLES: dict[str, Callable[[Config, str], dict[str, float]]] = {"3": _table3, "claims": _claims}
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

"""Measure every figure of merit beside its peer: `python -m experiments.benchmark`.

One row a figure: ours and its peer do the same job on the same data, first compared, then timed in
turn, beside the least time that counted operations and bytes allow on this machine. Writes
`benchmark_<machine>.csv`; with `--only`, the other rows that are there stay. Peers come with
`pip install 'emd-micrograph[bench]'`.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from importlib import metadata
from pathlib import Path

from experiments import config as configs
from experiments import provenance
from experiments.benchmark import machine, rows, table
from experiments.benchmark.jobs import Sizes, all_jobs

_VERSIONS = ("jax", "torch", "opencv-python-headless", "scipy", "scikit-image")


@dataclasses.dataclass(frozen=True)
class Config:
    """Which rows, how often, how large and where to."""

    only: str | None = configs.option(
        None, "jobs by name or beginning of a name, by commas; all without"
    )
    repeats: int = configs.option(9, "times that each side is timed")
    row_seconds: float = configs.option(60, "seconds after which a row begins no further repeat")
    output: str = configs.option("results", "folder of the table")
    side_px: int = configs.option(2048, "side of the image that models are applied to")
    memory_px: int = configs.option(8192, "side of the image of the rows of memory")
    steps: int = configs.option(10_000, "iterations of the distillation")
    measured: int = configs.option(200, "iterations that its peer is projected from")


def run(config: Config) -> dict[str, float]:
    """Return each row's ratio, having written the table.

    Raises:
        ValueError: ``only`` names no job; or, the table written, a row's answers differed.
    """
    configs.check_counts(config, "repeats", "side_px", "memory_px", "steps", "measured")
    # or this process would take most of a GPU from its peers and children
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    sizes = Sizes(
        side=config.side_px, steps=config.steps, measured=config.measured,
        memory_side=config.memory_px,
    )  # fmt: skip
    jobs = {job.name: job for job in all_jobs(sizes)}
    wanted = table.pick(list(jobs), config.only)
    path = Path(config.output) / f"benchmark_{machine.slug()}.csv"
    old = table.read(path, table.COLUMNS) if config.only is not None else []
    session = rows.Session(machine.measure_rates(), config.repeats, config.row_seconds)
    made: list[table.Row] = []
    for name in wanted:
        print(f"{name} ...", file=sys.stderr, flush=True)
        made.append(rows.make_row(jobs[name], session))
        merged = table.merge(old, made, ("job",), list(jobs))
        # after every row: a run that is stopped keeps what it has measured
        table.write(path, table.COLUMNS, merged, comment=_comment(partial=config.only is not None))
    print(table.aligned(made))
    print(f"\nwritten to {path}")
    failed = [row["job"] for row in made if row["status"] == "failed"]
    if failed:
        raise ValueError(f"{len(failed)} rows failed, their answers differ: {', '.join(failed)}")
    return {row["job"]: float(row["ratio"]) for row in made if row["ratio"]}


def _comment(*, partial: bool) -> str:
    """The command that made the table, and the versions of both sides."""
    command = provenance.command(["experiments/benchmark.py", *sys.argv[1:]])
    versions = []
    for name in _VERSIONS:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    others = "; other rows by earlier runs" if partial else ""
    return f"{command}  ({', '.join([machine.cpu_model(), *versions])}{others})"


if __name__ == "__main__":
    configs.main(run, Config)

"""Compare our codec with others: `python -m experiments.rate_distortion --data_dir=DIR`.

Bits a pixel of whole files against PSNR and SSIM, on held-out micrographs of DIR (``eval/tem`` and
``eval/stem`` inside it) and simulated ones, which have a truth to be compared with as well. Writes
`rate_distortion.csv`, `.md` and `.png`, `rate_distortion_bd.csv`, `rate_distortion_speed.csv` and
`lossless.csv`. Other codecs take a quarter of an hour of a CPU core once: their points are kept in
`<output>/cache`. They come with `pip install 'emd-micrograph[bench]'`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from emd.data import micrograph
from experiments import config as configs
from experiments import provenance
from experiments.benchmark import table
from experiments.evaluate import markdown
from experiments.evaluate.rows import Row, write
from experiments.rate_distortion import (
    compared,
    images,
    lossless,
    measuring,
    page,
    pictures,
    records,
)

NAME = "rate_distortion"


@dataclasses.dataclass(frozen=True)
class Config:
    """Which images, which codecs and where to."""

    data_dir: str | None = configs.option(
        None, "folder with eval/tem and eval/stem inside; simulated images alone without it"
    )
    output: str = configs.option("results", "folder of the tables")
    only: str | None = configs.option(
        None, "codecs by name or its beginning, by commas, the others as they are; all without"
    )
    side_px: int = configs.option(768, "real images are cut to their middle, at most so wide")
    scene_px: int = configs.option(512, "side of simulated images")
    scenes: int = configs.option(3, "simulated images of a domain and dose")
    points: int = configs.option(20, "points of a codec on an image; ours two thirds of them")
    repeats: int = configs.option(5, "times that each codec is timed")
    overwrite: bool = configs.option(False, "replace the tables that are there")


def run(config: Config) -> dict[str, float]:
    """Return how ours compares with each codec, having written the tables and the picture.

    Raises:
        ValueError: a setting will not do, `imagecodecs` is not installed, or a file is damaged.
        FileExistsError: the tables exist, and neither ``overwrite`` nor ``only`` is set.
        FileNotFoundError: there is no such folder, or no micrograph in it.
        ArithmeticError: a codec without loss does not give an image back.
    """
    _check(config)
    output = Path(config.output)
    measures = measuring.lossy(output / "cache" / NAME, points=config.points)
    exact = {codec.name: codec for codec in lossless.everyone()}
    wanted = table.pick(list(dict.fromkeys([*measures, *exact])), config.only)
    seen = images.simulated(side_px=config.scene_px, scenes=config.scenes)
    if config.data_dir is not None:
        seen = images.real(Path(config.data_dir), side_px=config.side_px) + seen
    (timed,) = images.simulated(side_px=2 * config.scene_px, scenes=1, doses=(50.0,))[-1:]
    lossy = {name: measure for name, measure in measures.items() if name in wanted}
    asked = [codec for name, codec in exact.items() if name in wanted]
    made = {
        NAME: measuring.points(seen, lossy),
        "lossless": measuring.sizes(seen, asked, output / "cache" / NAME),
        f"{NAME}_speed": measuring.speeds(timed, wanted, asked, repeats=config.repeats),
    }
    order = [*measures, *(name for name in exact if name not in measures)]
    return _write(output, made, order, partial=config.only is not None)


def _check(config: Config) -> None:
    configs.check_counts(config, "scenes", "points", "repeats")
    if min(config.side_px, config.scene_px) < 64 or config.points < 4:
        raise ValueError(
            f"side_px {config.side_px}, scene_px {config.scene_px}, points {config.points}: give "
            "sides of at least 64 px and at least 4 points"
        )
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    replace = config.overwrite or config.only is not None
    micrograph.check_output(output / f"{NAME}.csv", overwrite=replace)


TABLES = {
    NAME: (records.POINTS, ("codec", "image")),
    "lossless": (records.SIZES, ("codec", "image")),
    f"{NAME}_speed": (records.SPEEDS, ("codec", "lossless")),
}
"""Columns of each table of measurements, and those that a row is known by."""


def _write(
    output: Path, made: Mapping[str, Sequence[Row]], order: Sequence[str], *, partial: bool
) -> dict[str, float]:
    """Write tables, page and picture; what the page sums up comes back."""
    command = provenance.command(["experiments/rate_distortion.py", *sys.argv[1:]])
    comment = command + ("; codecs not named by earlier runs" if partial else "")
    tables: dict[str, list[Row]] = {}
    for name, (columns, same) in TABLES.items():
        path = output / f"{name}.csv"
        old = records.read(path, columns) if partial else []
        tables[name] = records.merged(old, made[name], same, order)
        write(path, columns, tables[name], command=comment)
    pairs = compared.compare(tables[NAME])
    write(output / f"{NAME}_bd.csv", compared.COLUMNS, pairs, command=comment)
    pictures.draw(tables[NAME], output, NAME)
    parts = page.parts(comment, tables[NAME], pairs, tables["lossless"], tables[f"{NAME}_speed"])
    markdown.write(output / f"{NAME}.md", parts)
    return compared.gains(pairs)


if __name__ == "__main__":
    configs.main(run, Config)

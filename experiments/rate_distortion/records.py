"""Measured points, sizes and speeds as rows of CSV, and the curves that are made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.benchmark import table
from experiments.evaluate.rows import Row
from experiments.rate_distortion.curves import Curve, best
from experiments.rate_distortion.images import Image
from experiments.rate_distortion.scores import Point

POINTS = (
    "image", "domain", "kind", "dose", "codec", "control", "bpp", "psnr", "ssim", "psnr_clean",
    "ssim_clean",
)  # fmt: skip
SIZES = ("image", "domain", "kind", "dose", "dtype", "codec", "bpp")
SPEEDS = ("codec", "lossless", "bpp", "encode_mb_s", "decode_mb_s")
REAL, SIMULATED = "real", "simulated"


class Group(NamedTuple):
    """Images and the quality that codecs are compared by on them.

    Attributes:
      title: in tables and pictures.
      domain: "tem" or "stem".
      kind: "real" or "simulated".
      quality: the column that counts.
      likeness: the column of the structural similarity to the same image.
    """

    title: str
    domain: str
    kind: str
    quality: str = "psnr"
    likeness: str = "ssim"


GROUPS = (
    Group("Real TEM", "tem", REAL),
    Group("Real STEM", "stem", REAL),
    Group("Simulated TEM, to the noisy image", "tem", SIMULATED),
    Group("Simulated STEM, to the noisy image", "stem", SIMULATED),
    Group("Simulated TEM, to the clean image", "tem", SIMULATED, "psnr_clean", "ssim_clean"),
    Group("Simulated STEM, to the clean image", "stem", SIMULATED, "psnr_clean", "ssim_clean"),
)


def facts(image: Image) -> Row:
    """Return the cells that say which image it is."""
    return {
        "image": image.name,
        "domain": image.domain,
        "kind": REAL if image.is_real else SIMULATED,
        "dose": image.dose,
    }


def rows(image: Image, codec: str, points: Iterable[Point]) -> list[Row]:
    """Return a row a point."""
    return [{**facts(image), "codec": codec, **point._asdict()} for point in points]


def read(path: Path, columns: Sequence[str]) -> list[Row]:
    """Return the rows of a file with its numbers as such; none where it is missing.

    Raises:
        ValueError: its columns are others.
    """
    return [{name: _value(cell) for name, cell in row.items()} for row in table.read(path, columns)]


def _value(cell: str) -> str | float | None:
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell


def merged(
    old: Iterable[Row], new: Sequence[Row], same: Sequence[str], order: Sequence[str]
) -> list[Row]:
    """Return old and new rows, a new one in place of those that agree in all of ``same``.

    By codec, in the order of their names; those that are no longer there go.
    """
    fresh = {tuple(row[name] for name in same) for row in new}
    kept = [row for row in old if tuple(row[name] for name in same) not in fresh]
    known = [row for row in [*kept, *new] if row["codec"] in order]
    return sorted(known, key=lambda row: order.index(str(row["codec"])))


def curves(measured: Iterable[Row], group: Group, quality: str) -> dict[str, dict[str, Curve]]:
    """Return the curves of a group by codec and image."""
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in measured:
        if (row["domain"], row["kind"]) != (group.domain, group.kind) or row[quality] is None:
            continue
        of_image = points.setdefault(str(row["codec"]), {}).setdefault(str(row["image"]), [])
        of_image.append((number(row["bpp"]), number(row[quality])))
    return {
        codec: {image: best(of_image) for image, of_image in by_image.items()}
        for codec, by_image in points.items()
    }


def number(cell: str | float | None) -> float:
    """Return a cell that holds a number.

    Raises:
        ValueError: it holds none.
    """
    if isinstance(cell, str) or cell is None:
        raise ValueError(f"{cell!r} stands where a number should: remove the table, make it anew")
    return cell

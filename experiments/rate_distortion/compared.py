"""Ours beside others': Bjøntegaard's measures of each image, and their means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.evaluate.rows import Row
from experiments.rate_distortion import bd_rate, ours, records, restored
from experiments.rate_distortion.curves import Curve
from experiments.rate_distortion.records import Group
from experiments.rate_distortion.sweep import LEAST_BPP, MOST_BPP

COLUMNS = (
    "group", "image", "ours", "other", "bd_rate", "where", "gain_db", "bd_rate_whole",
    "where_whole", "gain_db_whole",
)  # fmt: skip

WHOLE = (LEAST_BPP, MOST_BPP)
"""All rates that were tried, for the distance to the truth: it is best at the least of them."""


class Summary(NamedTuple):
    """What a set of comparisons says.

    Attributes:
      images: how many.
      mean: of the change of rate, over the images where there is one.
      median: of it.
      counted: how many those are.
      above: images where ours is better at every rate than the other at any.
      below: where it is worse.
      neither: where one is level and the other crosses it, or does not reach the rates.
      gain_db: mean difference of quality at equal rate.
      median_db: median of it.
      better: on how many images it is above 0.
    """

    images: int
    mean: float | None
    median: float | None
    counted: int
    above: int
    below: int
    neither: int
    gain_db: float | None
    median_db: float | None
    better: int


def compare(measured: Sequence[Row]) -> list[Row]:
    """Return a row for each group, image, variant of ours and other codec that were measured."""
    made = []
    for group in records.GROUPS:
        curves = records.curves(measured, group, group.quality)
        for own, other in _pairs(curves, group):
            shared = [image for image in curves[own] if image in curves[other]]
            for image in shared:
                one, two = curves[own][image], curves[other][image]
                inside = bd_rate.compare(one, two)
                whole = bd_rate.compare(one, two, within=WHOLE)
                made.append(
                    {
                        "group": group.title,
                        "image": image,
                        "ours": own,
                        "other": other,
                        "bd_rate": inside.rate,
                        "where": inside.where,
                        "gain_db": inside.gain_db,
                        "bd_rate_whole": whole.rate,
                        "where_whole": whole.where,
                        "gain_db_whole": whole.gain_db,
                    }
                )
    return made


def _pairs(codecs: Iterable[str], group: Group) -> list[tuple[str, str]]:
    """Which are compared: what denoises only by its distance to the truth."""
    known = list(codecs)
    to_truth = group.quality == "psnr_clean"
    others = [name + end for end in ("", restored.SUFFIX) for name in restored.CODECS]
    return [
        (variant.name, other)
        for variant in ours.VARIANTS
        for other in others
        if variant.name in known and other in known
        and (to_truth or not (variant.needs_truth or other.endswith(restored.SUFFIX)))
    ]  # fmt: skip


def summary(rows: Sequence[Row], *, whole: bool = False) -> Summary:
    """Return what comparisons of one pair say, between the rates of interest or over all."""
    end = "_whole" if whole else ""
    rates, gains = (
        [records.number(row[name]) for row in rows if row[name] is not None]
        for name in (f"bd_rate{end}", f"gain_db{end}")
    )
    where = [row[f"where{end}"] for row in rows]
    return Summary(
        images=len(rows),
        mean=float(np.mean(rates)) if rates else None,
        median=float(np.median(rates)) if rates else None,
        counted=len(rates),
        above=where.count(bd_rate.ABOVE),
        below=where.count(bd_rate.BELOW),
        neither=where.count(bd_rate.CROSSING) + where.count(bd_rate.SHORT),
        gain_db=float(np.mean(gains)) if gains else None,
        median_db=float(np.median(gains)) if gains else None,
        better=sum(gain > 0 for gain in gains),
    )


def gains(rows: Sequence[Row]) -> dict[str, float]:
    """Return the mean gain of each pair on each group [dB], by a name in a line."""
    named: dict[str, list[Row]] = {}
    for row in rows:
        name = f"{row['ours']} against {row['other']}, {row['group']} [dB]:"
        named.setdefault(name, []).append(row)
    found = {name: summary(of).gain_db for name, of in named.items()}
    return {name: gain for name, gain in found.items() if gain is not None}


def gains_at(
    curves: dict[str, dict[str, Curve]], codec: str, reference: str, bpp: float
) -> dict[str, float]:
    """Return by how much a codec is better than another at a rate, for each image that both reach.

    So many images as there are entries.
    """
    found = {}
    for image, curve in curves.get(codec, {}).items():
        other = curves.get(reference, {}).get(image)
        own, its = curve.at(bpp), other.at(bpp) if other is not None else None
        if own is not None and its is not None:
            found[image] = own - its
    return found

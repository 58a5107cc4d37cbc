"""Who stands where in the table of doses: look-ups, the best of each family, and leads."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from experiments.dose import cases, contestants, fields
from experiments.dose.records import number
from experiments.evaluate.rows import Row

LEAD_DOSES = tuple(dose for dose in fields.DOSES if dose <= 150)
"""Where our best model is asked to be above every rival."""


class Lead(NamedTuple):
    """How our best model compares with the best rival; names and dB.

    Attributes:
      condition: of lattices.
      dose: in counts.
      ours: our best model.
      rival: the best tuned rival.
      gain_db: of its PSNR over that of the rival.
      faint_gain: of its F1 on the faint sublattice over that without denoising, where there is one.
    """

    condition: str
    dose: float
    ours: str
    rival: str
    gain_db: float
    faint_gain: float | None


def value(
    rows: Sequence[Row], column: str, protocol: str, condition: str, model: str, dose: float | None
) -> float | None:
    """Return a cell; None where there is no such row, or nothing in it."""
    wanted = (protocol, condition, model, dose)
    for row in rows:
        if (row["protocol"], row["condition"], row["model"], row["dose"]) == wanted:
            return number(row, column)
    return None


def names(rows: Sequence[Row], protocol: str, kinds: Collection[str]) -> list[str]:
    """Return the contestants of some kinds that a protocol has rows of, in the table's order."""
    found = [
        str(row["model"]) for row in rows
        if row["protocol"] == protocol and row["kind"] in kinds
    ]  # fmt: skip
    return list(dict.fromkeys(found))


def family(name: str) -> str:
    """Return what a model's name is without its domain and its sizes."""
    plain = re.sub(r"^(temstem|stem|tem)_", "", name)
    return re.sub(r"\d+(?=_|$)", "", plain)


def of_families(rows: Sequence[Row], protocol: str, condition: str | None = None) -> list[str]:
    """Return our best model of each family by mean PSNR, the best first.

    Over all conditions of a protocol, or one. Those that lack a row that others have are left out.
    """
    ours = [
        row for row in rows
        if row["protocol"] == protocol and row["kind"] == contestants.OURS
        and condition in (None, row["condition"])
    ]  # fmt: skip
    scores: dict[str, list[float]] = {}
    for row in ours:
        scores.setdefault(str(row["model"]), []).append(number(row, "psnr") or 0.0)
    most = max(map(len, scores.values()), default=0)
    means = {name: sum(psnr) / most for name, psnr in scores.items() if len(psnr) == most}
    best: dict[str, str] = {}
    for name in sorted(means, key=lambda name: -means[name]):
        best.setdefault(family(name), name)
    return list(best.values())


def leads(rows: Sequence[Row]) -> list[Lead]:
    """Return how our best model compares with the best tuned rival, at each condition and dose."""
    found = []
    for condition in fields.USUAL:
        for dose in fields.DOSES:
            own = _best(rows, condition.name, dose, contestants.OURS)
            rival = _best(rows, condition.name, dose, contestants.TUNED)
            if own is None or rival is None:
                continue
            faint, raw = (
                value(rows, "faint_f1", cases.HAADF, condition.name, name, dose)
                for name in (own[1], contestants.RAW)
            )
            gain = None if faint is None or raw is None else faint - raw
            found.append(Lead(condition.name, dose, own[1], rival[1], own[0] - rival[0], gain))
    return found


def _best(rows: Sequence[Row], condition: str, dose: float, kind: str) -> tuple[float, str] | None:
    """The highest PSNR of a kind of contestants, and whose it is."""
    known = [
        (number(row, "psnr") or 0.0, str(row["model"]))
        for row in rows
        if (row["protocol"], row["condition"], row["dose"], row["kind"])
        == (cases.HAADF, condition, dose, kind)
    ]
    return max(known, default=None)


def spacing_gains(rows: Sequence[Row], model: str, dose: float) -> dict[float, float]:
    """Return a model's gain over the tuned Gaussian [dB] by spacing [px], as far as it is known."""
    found = {}
    for condition in fields.SWEEP:
        own, rival = (
            value(rows, "psnr", cases.SPACING, condition.name, name, dose)
            for name in (model, "Gaussian")
        )
        if own is not None and rival is not None:
            found[condition.spacing_px] = own - rival
    return found


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """Return the figures that the requirements name, as far as they are known."""
    found: dict[str, float] = {}
    for condition in fields.USUAL:
        gains = [
            lead.gain_db for lead in leads(rows)
            if lead.condition == condition.name and lead.dose in LEAD_DOSES
        ]  # fmt: skip
        if gains:
            found[f"least_lead_{condition.name}_db"] = min(gains)
    best = of_families(rows, cases.HAADF)[:1]
    for model in best:
        losses = [
            gain for dose in fields.SPACING_DOSES
            for gain in spacing_gains(rows, model, dose).values()
        ]  # fmt: skip
        if losses:
            found["least_gain_over_gaussian_by_spacing_db"] = min(losses)
    return found

"""The table of doses: `dose.csv`, a page and a picture of it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from emd.data import micrograph
from experiments.benchmark import table
from experiments.dose import (
    cases,
    contestants,
    ede,
    fields,
    measuring,
    page,
    pareto,
    repeated,
    standing,
)
from experiments.dose.cases import Case
from experiments.dose.records import Table
from experiments.evaluate import markdown

NAME = "dose"
PROTOCOLS = (cases.HAADF, cases.OFF, cases.SPACING, ede.HIS, ede.FAIR, repeated.REPEATED)
"""In the order of the table."""


class Settings(NamedTuple):
    """What is compared, and how.

    Attributes:
      checkpoints: folder of models; those shipped without it.
      data_dir: folder with eval/tem and eval/stem inside; no real crops without it.
      frames: file of repeated frames of one place; not measured on such without it.
      models: contestants by name or its beginning, by commas; all without.
      only: protocols by name or its beginning, by commas; all without.
      doses: of lattices, by commas; all without.
      fields: lattices, and simulated scenes, of a case.
      side_px: of a lattice; scenes are twice as wide.
      repeats: times that each contestant is timed.
    """

    checkpoints: str | None
    data_dir: str | None
    frames: str | None
    models: str | None
    only: str | None
    doses: str | None
    fields: int
    side_px: int
    repeats: int


def make(settings: Settings, output: Path, *, command: str) -> dict[str, float]:
    """Return how our best model compares with the best rival, having written what it follows from.

    Rows that are there and still hold stay: see `experiments.dose.records`.

    Raises:
        ValueError: a setting will not do, or a library is missing.
        FileNotFoundError: so is the data.
    """
    chosen = _cases(settings)
    entrants = contestants.everyone(settings.checkpoints, settings.models)
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{NAME}.csv"
    micrograph.check_output(path, overwrite=True)
    if (settings.models, settings.only, settings.doses) != (None, None, None):
        command += "; other rows by earlier runs"
    kept = Table(path, comment=command)
    measuring.fill(kept, chosen, entrants)
    measuring.clock(kept, entrants, root=settings.checkpoints, repeats=settings.repeats)
    rows = kept.finish(PROTOCOLS, contestants.names(settings.checkpoints))
    markdown.write(output / f"{NAME}.md", page.parts(command, rows))
    pareto.draw(rows, output, NAME)
    return standing.summary(rows)


def _cases(settings: Settings) -> list[Case]:
    """Those asked for, in the order of the table."""
    asked = table.pick(PROTOCOLS, settings.only)
    found = cases.lattices(count=settings.fields, side_px=settings.side_px)
    if {ede.HIS, ede.FAIR}.intersection(asked):
        found += ede.cases(settings.data_dir, scenes=settings.fields, side_px=2 * settings.side_px)
    if settings.frames is not None and repeated.REPEATED in asked:
        found.append(repeated.case(Path(settings.frames)))
    elif settings.only is not None and repeated.REPEATED in asked:
        raise ValueError(f"only={settings.only}: name a file of repeated frames with --frames")
    doses = _doses(settings.doses)
    return [
        case for case in found
        if case.protocol in asked and (doses is None or case.dose is None or case.dose in doses)
    ]  # fmt: skip


def _doses(given: str | None) -> set[float] | None:
    if given is None:
        return None
    try:
        doses = {float(word) for word in given.split(",")}
    except ValueError:
        doses = set()
    if not doses or not doses <= set(fields.DOSES):
        known = ", ".join(f"{dose:g}" for dose in fields.DOSES)
        raise ValueError(f"doses {given!r}: give some of {known}, by commas")
    return doses

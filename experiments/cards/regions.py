"""Where models are above a tuned Gaussian and where they lose to it, in words and in a table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from emd import zoo
from experiments.cards import holds, standing
from experiments.cards.holds import Cell, Row

Gains = dict[Cell, float]
"""dB over the tuned Gaussian by cell."""

FIELDS = {"stem": "HAADF honeycombs", "tem": "TEM lattice fringes"}
"""What models of a domain are measured on."""

_KIND = {"stem": "peak", "tem": "mean"}  # of its doses, in short

DOSE = {"stem": "counts at the peak of a column", "tem": "mean counts a pixel"}
"""What the dose of a domain's cells is."""

_FAMILY = f"""\
The gain, in dB of squared error, over a Gaussian whose width is tuned for each dose and spacing:
its least and its most over {len(holds.SPACINGS_PX)} spacings from {holds.SPACINGS_PX[0]:g} to \
{holds.SPACINGS_PX[-1]:g} px ([all numbers](../results/holds.csv)).
STEM: simulated {FIELDS["stem"]}, {DOSE["stem"]}. TEM: simulated {FIELDS["tem"]},
{DOSE["tem"]}. **Bold: at some spacing it loses** by more than {holds.LEVEL_DB:g} dB. `fit` is the
kernel that `emd fit` makes of each field from that alone. The other models' own cards have charts
of them."""


def of_model(rows: Iterable[Row], name: str) -> Gains:
    """Return a model's gains; none where it was not measured."""
    return {
        Cell(row["domain"], float(row["dose"]), float(row["spacing_px"])): float(row["gain_db"])
        for row in rows
        if row["model"] == name
    }


def loses(gain_db: float) -> bool:
    """Return whether a gain is below the Gaussian's by more than counts as level with it."""
    return gain_db < -holds.LEVEL_DB


def sentence(gains: Gains) -> str:
    """Return where a model is above the Gaussian and where it loses, by domain and clause."""
    found = [domain for domain in FIELDS if any(cell.domain == domain for cell in gains)]
    return " ".join(
        _clause(domain, {cell: gain for cell, gain in gains.items() if cell.domain == domain})
        for domain in found
    )


def _clause(domain: str, gains: Gains) -> str:
    above = [cell for cell, gain in gains.items() if gain > holds.LEVEL_DB]
    below = [cell for cell, gain in gains.items() if loses(gain)]
    best, worst = max(gains.values(), default=0.0), min(gains.values(), default=0.0)
    unit = f"{_KIND[domain]} counts"
    rival = "closer to the truth than a Gaussian tuned for each dose and spacing"
    text = f"On simulated {FIELDS[domain]} it is {'' if above else 'nowhere '}{rival}"
    if above:
        text += f" {where(above, unit)}, by up to {best:.1f} dB of squared error"
    if not below:
        return f"{text}; it loses nowhere."
    return f"{text}; **it loses {where(below, unit)}, by up to {-worst:.1f} dB.**"


def where(cells: Sequence[Cell], unit: str) -> str:
    """Return cells of one domain in words: at which doses, and at which spacings there."""
    by_dose = {
        dose: tuple(s for s in holds.SPACINGS_PX if any(c[1:] == (dose, s) for c in cells))
        for dose in holds.DOSES
    }
    if all(spacings == holds.SPACINGS_PX for spacings in by_dose.values()):
        return "at every dose and spacing"
    groups = [
        (spacings, [dose for dose, _ in same])
        for spacings, same in itertools.groupby(by_dose.items(), key=lambda item: item[1])
    ]
    return _listed([
        f"at {_listed([f'{dose:g}' for dose in doses])} {unit} ({_spacings(spacings)})"
        for spacings, doses in groups
        if spacings
    ])  # fmt: skip


def _spacings(found: tuple[float, ...]) -> str:
    """Some of the spacings in words: neighbours as a run."""
    if found == holds.SPACINGS_PX:
        return "every spacing"
    places = [holds.SPACINGS_PX.index(spacing) for spacing in found]
    # the places of a run rise as fast as their numbers
    runs = [
        [found[number] for number, _ in run]
        for _, run in itertools.groupby(enumerate(places), key=lambda item: item[1] - item[0])
    ]
    words = [f"{run[0]:g} to {run[-1]:g}" if len(run) > 1 else f"{run[0]:g}" for run in runs]
    return f"{_listed(words)} px"


def _listed(words: Sequence[str]) -> str:
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0]


def family_table(rows: Sequence[Row], *families: str) -> str:
    """Return notes and a table of the gains of all models of these families, and of references."""
    names = [
        name
        for name in dict.fromkeys(row["model"] for row in rows)
        if name in holds.REFERENCES or zoo.find(name).family in families
    ]
    if set(names) <= set(holds.REFERENCES):
        return "None was measured yet."
    names.sort(key=lambda name: name in holds.REFERENCES)
    lines = [
        line
        for domain in FIELDS
        for name in names
        if (line := _line(name, domain, of_model(rows, name))) is not None
    ]
    header = ("model", "on", *(f"{dose:g} counts" for dose in holds.DOSES), "loses in")
    return f"{_FAMILY}\n\n{standing.table(header, lines)}"


def _line(name: str, domain: str, gains: Gains) -> tuple[str, ...] | None:
    there = {cell: gain for cell, gain in gains.items() if cell.domain == domain}
    if not there:
        return None
    spans = []
    for dose in holds.DOSES:
        found = [gain for cell, gain in there.items() if cell.dose == dose]
        text = f"{min(found):+.1f} to {max(found):+.1f}" if found else standing.NONE
        spans.append(f"**{text}**" if found and loses(min(found)) else text)
    shown = name if name == holds.REFERENCES[0] else f"`{name}`"
    return shown, domain.upper(), *spans, f"{sum(map(loses, there.values()))} of {len(there)}"

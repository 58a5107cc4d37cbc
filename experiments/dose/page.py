"""The page of the table of doses: `results/dose.md`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from experiments.dose import (
    cases,
    contestants,
    ede,
    explanations,
    fields,
    published,
    repeated,
    rivals,
    standing,
)
from experiments.dose.contestants import RAW
from experiments.evaluate import markdown
from experiments.evaluate.rows import Row
from experiments.rate_distortion.images import DOMAINS

_NOTHING = "Not measured yet."


def parts(command: str, rows: Sequence[Row]) -> list[str]:
    """Return the paragraphs and tables of the page."""
    return [
        "# Denoisers, measured",
        f"Made by `{command}`, as `dose.csv`, which has a row for every model.",
        explanations.INTRODUCTION,
        "## Low-dose lattices",
        _leads(rows),
        "### PSNR [dB] at each dose, hexagonal lattice",
        _by_dose(rows, fields.HEXAGONAL.name, "psnr", _db, unet=True),
        explanations.PUBLISHED,
        "### PSNR [dB], binary lattice",
        _by_dose(rows, fields.BINARY.name, "psnr", _db),
        "### F1 of the faint sublattice, binary lattice",
        _by_dose(rows, fields.BINARY.name, "faint_f1", _share, limit=True),
        explanations.FAINT,
        "### Root mean square error of positions [px], hexagonal lattice",
        _by_dose(rows, fields.HEXAGONAL.name, "position_px", _share, lowest=True, limit=True),
        "### The rivals are the published ones",
        _reproduced(rows),
        explanations.GRIDS,
        "## Other lattices than the usual",
        _off(rows),
        "## By spacing of the lattice",
        explanations.SPACING,
        _by_spacing(rows),
        "## What it does to intensities, and what it leaves",
        _trust(rows),
        explanations.TRUST,
        "## Rivals as their libraries give them",
        explanations.DEFAULTS,
        _defaults(rows),
        "## Ede's protocol",
        explanations.EDE,
        *_ede(rows),
        "## Repeated frames, without a truth",
        explanations.REPEATED,
        *_repeated(rows),
        "## Settings of the rivals",
        "\n".join(
            f"- {rival.name}: {rival.how}, {len(rival.grid)} tried" for rival in rivals.RIVALS
        ),
    ]


def _shown(rows: Sequence[Row], protocol: str, condition: str | None = None) -> list[str]:
    """Contestants of a table: no denoising, tuned rivals, our best of each family, tailored."""
    others = standing.names(rows, protocol, (contestants.NONE, contestants.TUNED))
    tailored = standing.names(rows, protocol, (contestants.TAILORED,))
    return [*others, *standing.of_families(rows, protocol, condition), *tailored]


def _db(cell: float) -> str:
    return f"{cell:.2f}"


def _share(cell: float) -> str:
    return f"{cell:.3f}"


def _table(
    head: Sequence[str],
    names: Sequence[str],
    cell: Callable[[str, int], float | None],
    show: Callable[[float], str],
    *,
    lowest: bool = False,
    more: Sequence[Sequence[str]] = (),
) -> str:
    """A row a contestant, the best of each column bold; without rows a line that says so."""
    if not names:
        return _NOTHING
    columns = [[cell(name, k) for name in names] for k in range(len(head) - 1)]
    best = [
        (min if lowest else max)((value for value in column if value is not None), default=None)
        for column in columns
    ]
    lines = [
        [name, *(_marked(column[i], top, show) for column, top in zip(columns, best, strict=True))]
        for i, name in enumerate(names)
    ]
    return markdown.table(head, [*lines, *more])


def _marked(value: float | None, best: float | None, show: Callable[[float], str]) -> str:
    if value is None:
        return markdown.NONE
    return f"**{show(value)}**" if value == best else show(value)


def _by_dose(
    rows: Sequence[Row],
    condition: str,
    column: str,
    show: Callable[[float], str],
    *,
    lowest: bool = False,
    unet: bool = False,
    limit: bool = False,
) -> str:
    def cell(name: str, k: int) -> float | None:
        return standing.value(rows, column, cases.HAADF, condition, name, fields.DOSES[k])

    more = []
    if unet:
        cited = [f"*{published.psnr(published.U_NET, dose):.2f}*" for dose in fields.DOSES]
        more.append([f"*{published.U_NET}, published*", *cited])
    if limit:
        found = [cell(contestants.TRUTH, k) for k in range(len(fields.DOSES))]
        shown = [markdown.NONE if value is None else f"*{show(value)}*" for value in found]
        more.append([f"*{contestants.TRUTH}*", *shown])
    return _table(
        ("dose", *(f"{dose:g}" for dose in fields.DOSES)), _shown(rows, cases.HAADF), cell, show,
        lowest=lowest, more=more,
    )  # fmt: skip


def _leads(rows: Sequence[Row]) -> str:
    found = standing.leads(rows)
    if not found:
        return _NOTHING
    lines = [
        [
            lead.condition, f"{lead.dose:g}", lead.ours, lead.rival, f"{lead.gain_db:+.2f}",
            markdown.NONE if lead.faint_gain is None else f"{lead.faint_gain:+.3f}",
        ]
        for lead in found
    ]  # fmt: skip
    head = ("lattice", "dose", "our best", "best rival", "gain [dB]", "faint F1 over no denoising")
    return markdown.table(head, lines, text=(0, 2, 3))


def _reproduced(rows: Sequence[Row]) -> str:
    lines = []
    for name in published.PSNR:
        cells = []
        for dose in fields.DOSES:
            here = standing.value(rows, "psnr", cases.HAADF, fields.HEXAGONAL.name, name, dose)
            there = published.psnr(name, dose)
            cells.append(markdown.NONE if here is None else f"{here:.2f} ({here - there:+.2f})")
        if any(cell != markdown.NONE for cell in cells):
            lines.append([name, *cells])
    head = ("PSNR [dB], less the published", *(f"{dose:g}" for dose in fields.DOSES))
    return markdown.table(head, lines) if lines else _NOTHING


def _off(rows: Sequence[Row]) -> str:
    columns = [(condition, dose) for condition in fields.OFF for dose in fields.OFF_DOSES]

    def cell(name: str, k: int) -> float | None:
        condition, dose = columns[k]
        return standing.value(rows, "psnr", cases.OFF, condition.name, name, dose)

    head = ("PSNR [dB]", *(f"{condition.name}, dose {dose:g}" for condition, dose in columns))
    return _table(head, _shown(rows, cases.OFF), cell, _db)


def _by_spacing(rows: Sequence[Row]) -> str:
    lines = []
    for model in standing.of_families(rows, cases.SPACING):
        for dose in fields.SPACING_DOSES:
            gains = standing.spacing_gains(rows, model, dose)
            cells = [
                markdown.NONE if spacing not in gains else f"{gains[spacing]:+.2f}"
                for spacing in fields.SPACINGS_PX
            ]
            lines.append([model, f"{dose:g}", *cells])
    head = ("gain over the Gaussian [dB]", "dose", *(f"{s:g} px" for s in fields.SPACINGS_PX))
    return markdown.table(head, lines) if lines else _NOTHING


def _trust(rows: Sequence[Row]) -> str:
    columns = ("slope", "offset", "whiteness", "checkerboard", "s_per_mpx")
    lines = []
    for name in _shown(rows, cases.HAADF):
        found = [
            standing.value(rows, column, cases.HAADF, fields.HEXAGONAL.name, name, 10.0)
            for column in columns
        ]
        lines.append([name, *(markdown.NONE if v is None else f"{v:.3g}" for v in found)])
    timed = [row for row in rows if row["protocol"] == "time" and row["model"] == published.U_NET]
    for row in timed:
        cells = [markdown.NONE] * (len(columns) - 1)
        lines.append([f"{published.U_NET}, random ones", *cells, f"{row['s_per_mpx']:.3g}"])
    head = ("hexagonal, dose 10", "slope", "offset", "whiteness", "checkerboard", "s / Mpx")
    return markdown.table(head, lines) if lines else _NOTHING


def _defaults(rows: Sequence[Row]) -> str:
    names = standing.names(rows, cases.HAADF, (contestants.DEFAULT,))

    def cell(name: str, k: int) -> float | None:
        place = (cases.HAADF, fields.HEXAGONAL.name, name, fields.DOSES[k])
        return standing.value(rows, "psnr", *place)

    head = ("PSNR [dB], hexagonal", *(f"{dose:g}" for dose in fields.DOSES))
    return _table(head, [RAW, *names] if names else [], cell, _db)


def _ede(rows: Sequence[Row]) -> list[str]:
    columns = [(p, c) for p in (ede.HIS, ede.FAIR) for c in ("psnr", "ssim")]
    made = []
    for kind in (ede.REAL, ede.SIMULATED):
        for domain in DOMAINS:
            condition = f"{domain}, {kind}"
            names = _in_ede(rows, condition)
            lines = []
            for name in names:
                cells = [standing.value(rows, c, p, condition, name, None) for p, c in columns]
                lines.append([name, *(markdown.NONE if v is None else f"{v:.3f}" for v in cells)])
            if lines:
                count = _fields_of(rows, condition)
                crops = "crop" if count == 1 else "crops"
                made.append(f"### {markdown.DOMAINS[domain]}, {kind}: {count:.0f} {crops}")
                head = ("", "PSNR, his way", "SSIM, his way", "PSNR, fair", "SSIM, fair")
                made.append(markdown.table(head, lines))
    return made or [_NOTHING]


def _repeated(rows: Sequence[Row]) -> list[str]:
    frames = [row for row in rows if row["protocol"] == repeated.REPEATED]
    made = []
    for condition in dict.fromkeys(str(row["condition"]) for row in frames):
        here = [row for row in frames if row["condition"] == condition]
        lines = []
        for name in _shown(here, repeated.REPEATED):
            level, error, white = (
                standing.value(here, column, repeated.REPEATED, condition, name, None)
                for column in ("psnr", "psnr_error", "whiteness")
            )
            ends = "" if error is None else f" ± {error:.1f}"
            shown = markdown.NONE if white is None else f"{white:.2f}"
            lines.append([name, f"{level:.2f}{ends}", shown])
        made.append(f"### {condition}: {_fields_of(here, condition):.0f} frames")
        made.append(markdown.table(("", "uPSNR [dB]", "whiteness"), lines))
    return made or [_NOTHING]


def _in_ede(rows: Sequence[Row], condition: str) -> list[str]:
    here = [row for row in rows if row["condition"] == condition]
    kinds = (contestants.NONE, contestants.DEFAULT, contestants.TUNED)
    others = [name for p in (ede.HIS, ede.FAIR) for name in standing.names(here, p, kinds)]
    return list(dict.fromkeys([*others, *standing.of_families(here, ede.FAIR, condition)]))


def _fields_of(rows: Sequence[Row], condition: str) -> float:
    found = [row["fields"] for row in rows if row["condition"] == condition]
    return max((value for value in found if isinstance(value, float)), default=0.0)

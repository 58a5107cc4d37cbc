"""How our columns and the paper's keep the orderings of Table 3, and why one that does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.evaluate import markdown, orderings, paper, reasons
from experiments.evaluate.entries import Entry
from experiments.evaluate.orderings import ORDERINGS, Checked, Violation
from experiments.evaluate.rows import Row

Columns = dict[str, dict[str, Checked]]
"""Column, ordering, and how the one keeps the other."""

_TITLES = {"raw": "ours, raw", "held_out": "ours, held out", "paper": "the paper's"}


def columns(rows: Sequence[Row]) -> Columns:
    """Return how each column of a table's rows keeps each ordering."""

    def of(name: str) -> dict[str, float | None]:
        values = {str(row["model"]): row[name] for row in rows}
        return {model: None if v is None else float(v) for model, v in values.items()}

    likely: dict[str, float | None] = {name: cell.likely for name, cell in paper.TABLE.items()}
    values = {"raw": of("raw_mean"), "held_out": of("held_out_mse"), "paper": likely}
    return {
        column: {name: orderings.check(pairs, known) for name, pairs in ORDERINGS.items()}
        for column, known in values.items()
    }


def counts(found: Columns) -> dict[str, float]:
    """Return how many pairs break an ordering in each column."""
    return {
        f"violations_{column}": float(sum(len(c.violations) for c in checked.values()))
        for column, checked in found.items()
    }


def parts(found: Columns, known: Mapping[str, Entry]) -> list[str]:
    """Return the section on orderings: how many pairs keep each, and each that does not."""
    body = [
        [name, *(f"{found[c][name].kept} of {found[c][name].total}" for c in _TITLES)]
        for name in ORDERINGS
    ]
    made = [
        "## Orderings",
        "How many pairs of models keep what the paper says of its table, of those that have both\n"
        "values. Depth and width are checked step by step, domains from one to the next.",
        markdown.table(("ordering", *_TITLES.values()), body),
        reasons.LEGEND,
    ]
    for column, words in _TITLES.items():
        made += [f"### Broken: {words}", _broken(found[column], column, known)]
    return made


def _broken(checked: Mapping[str, Checked], column: str, known: Mapping[str, Entry]) -> str:
    """Each pair that breaks an ordering, with its two numbers and what may be the reason."""
    body = [
        [name, *_cells(violation, column, known)]
        for name, one in checked.items()
        for violation in one.violations
    ]
    if not body:
        return "None."
    header = ("ordering", "model", "MSE", "is not below", "MSE", "what the numbers say of it")
    return markdown.table(header, body, text=(0, 1, 3, 5))


def _cells(violation: Violation, column: str, known: Mapping[str, Entry]) -> list[str]:
    pair, lower, higher = violation
    is_paper = column == "paper"
    found = reasons.of_paper(pair) if is_paper else reasons.of_ours(pair, column, known)
    names = [f"`{config.name}`" for config in pair]
    return [names[0], f"{lower:.6f}", names[1], f"{higher:.6f}", "; ".join(found)]

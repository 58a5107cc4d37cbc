"""Rows of a table as they are computed, and the CSV that they become."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from experiments import provenance
from experiments.benchmark import table

Row = dict[str, str | float | None]
"""Cells by column; None where nothing is known."""


def write(path: Path, columns: Sequence[str], rows: Iterable[Row], *, command: str) -> None:
    """Write rows below the command that made them, numbers to six digits, None as nothing."""
    comment = f"{command}  (commit {provenance.commit()})"
    table.write(path, columns, map(_cells, rows), comment=comment)


def _cells(row: Mapping[str, str | float | None]) -> dict[str, str]:
    return {
        name: "" if value is None else value if isinstance(value, str) else f"{value:.6g}"
        for name, value in row.items()
    }

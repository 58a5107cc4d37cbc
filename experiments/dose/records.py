"""The table as it is kept: a row for each case and contestant, written as soon as it is measured.

A row is measured again only where its stamp differs: where weights, a rival's grid or the number or
size of fields have changed. Nobody sees a change of the simulator: remove the table then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.benchmark import table
from experiments.dose.cases import Case
from experiments.dose.contestants import Contestant
from experiments.dose.scores import Score
from experiments.evaluate.rows import Row, write

COLUMNS = (
    "protocol", "condition", "dose", "model", "kind", *Score._fields, "s_per_mpx", "parameter",
    "fields", "side_px", "stamp",
)  # fmt: skip
TIME = "time"
"""The protocol of the rows that hold seconds alone."""

Place = tuple[str, str, str, str]


class Table:
    """The rows of a file; those added are written at once."""

    def __init__(self, path: Path, *, comment: str) -> None:
        """Read what the file holds, if it is there.

        Raises:
            ValueError: its columns are others.
        """
        self._path, self._comment = path, comment
        read = [
            {name: _value(name, cell) for name, cell in row.items()}
            for row in table.read(path, COLUMNS)
        ]
        self._rows = {_place(row): row for row in read}

    def __iter__(self) -> Iterator[Row]:
        """Go through the rows."""
        return iter(self._rows.values())

    def holds(self, case: Case, contestant: Contestant) -> bool:
        """Return whether a row is there and still holds."""
        row = self._rows.get(_place(_facts(case, contestant)))
        return row is not None and row["stamp"] == stamp(case, contestant)

    def add(self, case: Case, contestant: Contestant, score: Score, parameter: str) -> None:
        """Keep what was measured in place of what was there."""
        facts = {**_facts(case, contestant), **score._asdict()}
        self._put({
            **facts,
            "s_per_mpx": None,
            "parameter": parameter,
            "fields": float(case.fields),
            "side_px": float(case.side_px),
            "stamp": stamp(case, contestant),
        })  # fmt: skip

    def seconds(self, name: str, given: str) -> float | None:
        """Return the seconds a megapixel of a contestant of this stamp; None if not known."""
        row = self._rows.get((TIME, "", "", name))
        if row is None or row["stamp"] != given:
            return None
        found = row["s_per_mpx"]
        return found if isinstance(found, float) else None

    def add_seconds(self, name: str, kind: str, given: str, seconds: float) -> None:
        """Keep the seconds a megapixel of a contestant."""
        row: Row = dict.fromkeys(COLUMNS)
        self._put({
            **row, "protocol": TIME, "condition": "", "model": name, "kind": kind,
            "s_per_mpx": seconds, "parameter": "", "stamp": given,
        })  # fmt: skip

    def finish(self, protocols: Sequence[str], contestants: Sequence[str]) -> list[Row]:
        """Return all rows, ordered and with the seconds of their contestants, written so.

        By protocol, condition (numbers in its name count as such), dose and contestant.
        """

        def rank(row: Row) -> tuple[int, str, float, float, int]:
            dose = number(row, "dose")
            return (
                _index(protocols, row["protocol"]),
                *_named(str(row["condition"])),
                -1.0 if dose is None else dose,
                _index(contestants, row["model"]),
            )

        times = {row["model"]: row["s_per_mpx"] for row in self if row["protocol"] == TIME}
        rows = [{**row, "s_per_mpx": times.get(row["model"])} for row in sorted(self, key=rank)]
        self._rows = {_place(row): row for row in rows}
        write(self._path, COLUMNS, rows, command=self._comment)
        return rows

    def _put(self, row: Row) -> None:
        self._rows[_place(row)] = row
        write(self._path, COLUMNS, self, command=self._comment)


def stamp(case: Case, contestant: Contestant) -> str:
    """Return what a row follows from, beside its case's name and its contestant's."""
    return f"{contestant.stamp}/{case.fields}x{case.side_px}{case.digest and '/' + case.digest}"


def number(row: Row, column: str) -> float | None:
    """Return a cell that holds a number or nothing.

    Raises:
        ValueError: it holds something else.
    """
    cell = row[column]
    if isinstance(cell, str):
        raise ValueError(f"{cell!r} stands where {column} should: remove the table, make it anew")
    return cell


def _facts(case: Case, contestant: Contestant) -> Row:
    return {
        "protocol": case.protocol,
        "condition": case.condition,
        "dose": case.dose,
        "model": contestant.name,
        "kind": contestant.kind,
    }


def _place(row: Row) -> Place:
    dose = row["dose"]
    return (
        str(row["protocol"]),
        str(row["condition"]),
        f"{dose:g}" if isinstance(dose, float) else "",
        str(row["model"]),
    )


_TEXT = {"protocol", "condition", "model", "kind", "parameter", "stamp"}


def _value(name: str, cell: str) -> str | float | None:
    if name in _TEXT:
        return cell
    return float(cell) if cell else None


def _named(condition: str) -> tuple[str, float]:
    """A condition's words, and the number that they end with."""
    words, _, last = condition.rpartition(" ")
    try:
        return words, float(last)
    except ValueError:
        return condition, 0.0


def _index(names: Sequence[str], name: object) -> int:
    return names.index(name) if isinstance(name, str) and name in names else len(names)

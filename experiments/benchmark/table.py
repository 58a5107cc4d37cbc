"""The benchmark's rows: which are asked for, and how they are written, merged and shown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

COLUMNS = (
    "job", "size", "device", "ours", "peer_name", "peer", "ratio", "limit", "unit", "limit_kind",
    "share", "ours_min", "ours_max", "peer_min", "peer_max", "repeats", "precision", "difference",
    "gemm_gflops", "copy_gbs", "status", "commit", "date", "note",
)  # fmt: skip

_SHOWN = ("job", "size", "ours", "peer_name", "peer", "ratio", "limit", "unit", "share", "status")

Row = dict[str, str]


def number(value: float | None) -> str:
    """A cell's number to four digits; empty for None."""
    return "" if value is None else f"{value:.4g}"


def pick(names: Sequence[str], only: str | None) -> list[str]:
    """The names asked for, in their own order: by name or, where none is equal, by prefix.

    Raises:
        ValueError: something asked for is neither.
    """
    if only is None:
        return list(names)
    wanted: set[str] = set()
    for word in only.split(","):
        found = [name for name in names if name == word]
        found = found or [name for name in names if word and name.startswith(word)]
        if not found:
            raise ValueError(
                f"--only has {word!r}: use names or their beginnings: {' '.join(names)}"
            )
        wanted.update(found)
    return [name for name in names if name in wanted]


def write(
    path: Path,
    columns: Sequence[str],
    rows: Iterable[Mapping[str, str]],
    *,
    comment: str,
) -> None:
    """Writes rows as CSV below a comment, whole or not at all."""
    text = io.StringIO()
    text.write(f"# {comment}\n")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text.getvalue())
    partial.replace(path)


def read(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a file; none where it is missing.

    Raises:
        ValueError: its columns are others.
    """
    if not path.is_file():
        return []
    _, _, text = path.read_text().partition("\n")  # what follows the comment
    reader = csv.DictReader(io.StringIO(text))
    if tuple(reader.fieldnames or ()) != tuple(columns):
        raise ValueError(f"{path} has other columns than this version writes: remove it")
    return list(reader)


def merge(
    old: Sequence[Row], new: Sequence[Row], same: Sequence[str], order: Sequence[str]
) -> list[Row]:
    """Old and new rows, a new one in place of an old one that agrees in all of `same`.

    Sorted by where the first of `same` stands in `order`; rows of names that are no longer there
    go.
    """

    def identity(row: Row) -> tuple[str, ...]:
        return tuple(row[name] for name in same)

    fresh = {identity(row) for row in new}
    rows = [row for row in old if identity(row) not in fresh] + list(new)
    return sorted(
        (row for row in rows if row[same[0]] in order), key=lambda row: order.index(row[same[0]])
    )


def aligned(rows: Sequence[Row], columns: Sequence[str] = _SHOWN) -> str:
    """Rows as text in columns, and the notes of those that have one below."""
    cells = [list(columns), *([row[name] for name in columns] for row in rows)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(columns))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    notes = [f"{row[columns[0]]}: {row['note']}" for row in rows if row.get("note")]
    return "\n".join([*lines, *([""] if notes else []), *notes])

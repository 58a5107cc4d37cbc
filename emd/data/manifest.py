"""Which field of view and which source a micrograph is from, as a MANIFEST.csv says."""

from __future__ import annotations

import collections
import csv
from pathlib import Path


def read(folder: Path) -> dict[str, tuple[str, str]]:
    """Return path to (field, source) from a MANIFEST.csv in a folder or up to two above it.

    Its columns ``file`` and ``field`` are needed, ``source`` is not; a manifest without them is
    another program's. Names stand beside the paths, for a manifest that gives no folders, unless
    two files share one.

    Raises:
        ValueError: the manifest is not text in UTF-8, or a row of it is short.
    """
    for place in (folder, *folder.resolve().parents[:2]):
        path = place / "MANIFEST.csv"
        rows = _rows(path) if path.is_file() else []
        if not rows:
            continue
        names = collections.Counter(Path(file).name for file, _, _ in rows)
        facts = {str((place / file).resolve()): (field, source) for file, field, source in rows}
        unique = [row for row in rows if names[Path(row[0]).name] == 1]
        return {Path(file).name: (field, source) for file, field, source in unique} | facts
    return {}


def _rows(path: Path) -> list[tuple[str, str, str]]:
    """Return (file, field, source) of each row; none where it has not those columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a table in UTF-8 ({error}); save it as CSV anew") from None
    if not {"file", "field"} <= set(reader.fieldnames or ()):
        return []
    for number, row in enumerate(rows, start=1):
        if not row["file"] or not row["field"]:
            raise ValueError(f"{path}: row {number} lacks its file or field; fill it in")
    return [(row["file"], row["field"], row.get("source") or "files") for row in rows]

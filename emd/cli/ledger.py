"""Owns the record of a job: a line of JSON for each file, by which a rerun knows what is done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

NAME = "emd-denoise.jsonl"


class Stamp(NamedTuple):
    """By what a file is known again: its size, and the time when it was changed last."""

    size: int
    mtime_ns: int


def stamp(path: Path) -> Stamp:
    """The stamp of a file, or of all files in a folder that stands for one (zspy, Zarr).

    Raises:
      OSError: it is not there, or may not be looked at.
    """
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    found = [file.stat() for file in files]
    return Stamp(sum(f.st_size for f in found), max((f.st_mtime_ns for f in found), default=0))


class Ledger:
    """The record in an output folder; the folder and its file are made with the first line.

    A line has "status": "begun" before an output is written, then "done" or "failed". So an output
    that is there after "begun" was made by a job that was killed before it could say "done".
    """

    def __init__(self, folder: Path) -> None:
        """Reads what is there; lines cut short by a kill are passed over."""
        self.path = folder / NAME
        self._last: dict[str, dict[str, Any]] = {}
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            lines = [b""]
        self._is_whole = not lines[-1]
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:  # undecodable bytes, too
                continue
            # a failure leaves an output as it was
            if isinstance(entry, dict) and entry.get("status") in ("begun", "done"):
                self._last[str(entry.get("output"))] = entry

    def last(self, output: str) -> Mapping[str, Any]:
        """The last line about an output that says "begun" or "done"; empty where there is none."""
        return self._last.get(output, {})

    def add(self, status: str, **facts: Any) -> None:
        """Nothing; the file then has one more line.

        Raises:
          OSError: it cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"status": status, **facts}) + "\n"
        if not self._is_whole:
            line = "\n" + line
        try:
            with self.path.open("ab", buffering=0) as file:  # one write: jobs may share a folder
                file.write(line.encode())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self._is_whole = True

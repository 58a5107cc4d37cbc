"""Owns the marks in the folder of a job: which units are done, and what came of them."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from emd.archive.grid import Job

_MARKS_A_FOLDER = 1000


def mark_of(job: Job, number: int, stage: str = "done") -> Path:
    """The file that says that a unit of a stage is done, and what came of it."""
    return job.folder / stage / str(number // _MARKS_A_FOLDER) / f"{number}.json"


def marked(job: Job, count: int, stage: str = "done") -> set[int]:
    """Which units of a stage are done."""
    found = set()
    for folder in range(0, count, _MARKS_A_FOLDER):
        place = mark_of(job, folder, stage).parent
        if place.is_dir():
            with os.scandir(place) as files:
                found |= {int(f.name[:-5]) for f in files if f.name.endswith(".json")}
    return found


def read_mark(job: Job, number: int, stage: str = "done") -> Any:
    """What came of a unit that is done."""
    return json.loads(mark_of(job, number, stage).read_text())


def mark(job: Job, number: int, result: Any, stage: str = "done") -> None:
    """Nothing; the unit then counts as done, by whoever asks and whatever happens next."""
    path = mark_of(job, number, stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    put(path, json.dumps(result).encode())


def put(path: Path, data: bytes | np.ndarray) -> None:
    """Nothing; a file then holds the bytes, or the array, whole or not at all."""
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    with part.open("wb") as file:
        if isinstance(data, bytes):
            file.write(data)
        else:
            np.save(file, data, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)

"""Owns frames too large to be restored at once: measured, restored and finished piece by piece.

Pieces wait as float32 in files until the mean of their frame is known.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emd.apply import restoring
from emd.archive import marks
from emd.archive.crew import Crew
from emd.archive.grid import Job, Region, blocks, group_of, pieces
from emd.archive.units import alone_at_first, store, tools
from emd.data.formats import signal
from emd.data.normalise import Scale
from emd.pieces import (
    DIGIT_BITS,
    Measured,
    Sums,
    begin_median,
    correction,
    finished,
    histogram,
    join_sums,
    measured_by,
    narrow_median,
    raw_sum,
    restored,
    sums_of,
)


def steps(group: Region, shape: tuple[int, ...], job: Job, halo: int) -> int:
    """How many units the frames of a group take."""
    return 2 * len(blocks(group, shape, job)) + len(pieces(group, shape, job, halo))


def restore_group(job: Job, number: int, crew: Crew) -> None:
    """Nothing; the frames of a group are then restored, but for what had been done before."""
    source, _, model, _ = tools(job)
    shape = tuple(source.array.shape)
    group, stage = group_of(number, shape, job), f"large/{number}"
    cut = blocks(group, shape, job)
    halo = restoring(model).halo
    parts = pieces(group, shape, job, halo)
    folder = job.folder / stage
    found = _each(crew, job, f"{stage}/sums", cut, functools.partial(measure, job, group))
    if not (folder / "scales.json").exists():
        sums = [join_sums([Sums(*own) for own in frame]) for frame in zip(*found, strict=True)]
        medians = _medians(crew, job, group, cut, sums)
        dtype = signal.narrowed(source.dtype)
        scales = [measured_by(s, m, dtype) for s, m in zip(sums, medians, strict=True)]
        marks.put(folder / "scales.json", json.dumps(scales).encode())
    scales = list(_scales(job, stage))
    raw = _each(crew, job, f"{stage}/raw", parts, functools.partial(restore_piece, job, group))
    shifts = [0.0] * len(scales)
    if not model.config.published:
        frames = zip(*raw, strict=True)
        shifts = [correction(list(f), m) for f, m in zip(frames, scales, strict=True)]
    last = functools.partial(finish_block, job, group, shifts, halo)
    counts = np.sum(_each(crew, job, f"{stage}/blocks", cut, last), axis=0).tolist()
    result = {
        "minimum": [own.scale.minimum for own in scales],
        "mean": [own.scale.mean for own in scales],
        "mean_correction": shifts,
        "clipped_pixels": counts[0],
        "nonfinite_pixels": counts[1],
        "despiked_pixels": 0,
        "put_back": [],
        "warnings": [],
    }
    marks.mark(job, number, result)
    shutil.rmtree(folder)


def _each(
    crew: Crew, job: Job, stage: str, parts: list[Region], work: Callable[[str, int, Region], None]
) -> list[Any]:
    """What came of each part, of which those without a mark are worked on now."""
    done = marks.marked(job, len(parts), stage)
    crew.found(len(done))
    todo = [
        functools.partial(work, stage, k, part) for k, part in enumerate(parts) if k not in done
    ]
    crew.do(todo)
    return [marks.read_mark(job, k, stage) for k in range(len(parts))]


def _medians(
    crew: Crew, job: Job, group: Region, cut: list[Region], sums: list[Sums]
) -> list[tuple[int, int] | None]:
    """The exact median of each frame that needs it, digit by digit from the highest."""
    source = tools(job).source
    if source.dtype.kind != "f":
        return [None] * len(sums)
    states = [begin_median(own) for own in sums]
    if not any(states):
        return states
    for place in reversed(range(0, 8 * source.dtype.itemsize, DIGIT_BITS)):
        todo = [functools.partial(count_digits, job, group, states, place, part) for part in cut]
        found = zip(*crew.do(todo, count=False), strict=True)
        states = [narrow_median(list(f), s) for f, s in zip(found, states, strict=True)]
    return states


# --- what a unit does ------------------------------------------------------------------------


def measure(job: Job, group: Region, stage: str, number: int, block: Region) -> None:
    """Nothing; the mark then holds the sums of a block of each frame."""
    stack = _read(job, group, block)
    marks.mark(job, number, [sums_of(piece) for piece in stack], stage)


def count_digits(job: Job, group: Region, states: list[Any], place: int, block: Region) -> Any:
    """How often each next digit of the median occurs in a block of each frame."""
    stack = _read(job, group, block)
    pairs = zip(stack, states, strict=True)
    return [histogram(place, piece, None if s is None else (s[0], s[1])) for piece, s in pairs]


def restore_piece(job: Job, group: Region, stage: str, number: int, piece: Region) -> None:
    """Nothing; a file then holds a piece of each frame, normalised, and the mark its sums."""
    with alone_at_first(job):
        raw, sums = _restored(job, group, stage, piece)
    place = _piece_file(job, stage, piece)
    place.parent.mkdir(parents=True, exist_ok=True)
    marks.put(place, raw)
    marks.mark(job, number, sums, stage)


def _restored(job: Job, group: Region, stage: str, piece: Region) -> tuple[np.ndarray, list[float]]:
    source, _, model, _ = tools(job)
    engine = restoring(model)
    sides = zip(piece, source.array.shape[-2:], strict=True)
    ways, inner = zip(*(engine.around(part, side) for part, side in sides), strict=True)
    around = tuple(slice(int(way.min()), int(way.max()) + 1) for way in ways)
    rows, columns = (way - part.start for way, part in zip(ways, around, strict=True))
    stack = _read(job, group, around)
    raw = np.empty((len(stack), *(p.stop - p.start for p in piece)), np.float32)
    sums = []
    for pixels, out, own in zip(stack, raw, _scales(job, stage), strict=True):
        padded = pixels[np.ix_(rows, columns)]
        out[...] = restored(padded, inner, own, engine, job.tile_px)
        sums.append(raw_sum(padded[inner], out, own))
    return raw, sums


def finish_block(
    job: Job,
    group: Region,
    shifts: list[float],
    halo: int,
    stage: str,
    number: int,
    block: Region,
) -> None:
    """Nothing; a block of each frame is then in the archive."""
    source, out, _, _ = tools(job)
    stack = _read(job, group, block)
    raw = np.empty(stack.shape, np.float32)
    for piece in pieces(group, tuple(source.array.shape), job, halo):
        pairs = list(zip(block, piece, strict=True))
        inside = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in pairs]
        if all(part.start < part.stop for part in inside):
            stored = np.load(_piece_file(job, stage, piece), mmap_mode="r")
            to, of = (_within(inside, base) for base in (block, piece))
            raw[(slice(None), *to)] = stored[(slice(None), *of)]
    result = np.empty_like(stack)
    frames = zip(stack, raw, _scales(job, stage), shifts, result, strict=True)
    outcomes = [finished(*frame) for frame in frames]
    region = (*group, *block)
    sides = tuple(part.stop - part.start for part in region)
    store(job, out, region, result.reshape(sides))
    counts = [sum(o.clipped for o in outcomes), sum(o.nonfinite for o in outcomes)]
    marks.mark(job, number, counts, stage)


def _within(part: list[slice], base: Region) -> Region:
    """A part as seen from where a region begins."""
    pairs = zip(part, base, strict=True)
    return tuple(slice(p.start - b.start, p.stop - b.start) for p, b in pairs)


def _read(job: Job, group: Region, part: Region) -> np.ndarray:
    pixels = tools(job).source.region((*group, *part))
    return signal.narrow(pixels.reshape(-1, *pixels.shape[-2:]))


def _scales(job: Job, stage: str) -> Iterator[Measured]:
    # a stage of a group is large/<group>/<step>
    place = job.folder.joinpath(*Path(stage).parts[:2]) / "scales.json"
    for scale, *rest in json.loads(place.read_text()):
        yield Measured(Scale(*scale), *rest)


def _piece_file(job: Job, stage: str, piece: Region) -> Path:
    return (
        job.folder.joinpath(*Path(stage).parts[:2])
        / "pieces"
        / f"{piece[0].start}.{piece[1].start}.npy"
    )

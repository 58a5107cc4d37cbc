"""Owns the folder of a job: whose it is, what is made of it at the end, and what was done.

The archive is made in it, beside the marks, and takes its place when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np

import emd
from emd.apply import restoring
from emd.archive import marks
from emd.archive.grid import Job, groups, is_whole, numbers
from emd.archive.units import IMAGE
from emd.checkpoint import Model, fingerprint, replacing
from emd.data.contents import Contents
from emd.data.formats import ngff, ome_zarr
from emd.data.formats import signal as signal_
from emd.data.replacing import replace_folder
from emd.history import Report, now, with_history
from emd.putback import Electrons

UNIT_PX = 2**22
WHOLE_PX = 2**26
LISTED_FRAMES = 10_000
"""Archives of more frames keep no list of each frame's minimum, mean and correction."""

_LISTED_WARNINGS = 100
_JOB = "job.json"


def sweep(part: Path) -> None:
    """Nothing; what a job left that was killed when its archive was in place already is gone."""
    if (part / _JOB).is_file() and not (part / IMAGE).is_dir():
        shutil.rmtree(part)


def begun(
    part: Path,
    source: Path,
    number: int,
    stored: ome_zarr.Stored,
    model: Model,
    tile_px: int | None,
    *,
    despike: bool,
    put_back: bool | Electrons | None,
) -> Job:
    """A job that goes on in its folder, or begins there; it knows what `put_back` None means.

    Raises:
      ValueError: the folder is of another job, or of none; electrons of a gain that there is not.
    """
    if isinstance(put_back, Electrons):
        put_back.check()
    array = stored.array
    known = _known(part) if part.exists() else None
    if known is None:
        if tile_px is None and hasattr(model.module, "tiles_px"):
            # by free memory: a run that goes on is to give the same bytes
            tile_px = restoring(model).tile[0]
        known = {"settings": {"tile_px": tile_px, "unit_px": UNIT_PX, "whole_px": WHOLE_PX}}
    job = Job(
        "",
        source.resolve(),
        number,
        part,
        model.config.name,
        fingerprint(model.variables),
        tuple(array.shards or array.chunks),
        despike,
        put_back is None or put_back,
        **known["settings"],
    )
    if put_back is None:
        shape = tuple(array.shape)
        job = job._replace(put_back=all(is_whole(g, shape, job) for g in groups(shape, job)))
    identity = _identity(job, source, stored)
    if "job" in known:
        _check(part, dict(known["job"]), identity)
    else:
        _make(part, stored, {"job": identity, **known})
    return job._replace(token=hashlib.sha256(json.dumps(identity).encode()).hexdigest())


def _identity(job: Job, source: Path, stored: ome_zarr.Stored) -> dict[str, Any]:
    """Everything that the result depends on."""
    array, put_back = stored.array, job.put_back
    return {
        "source": _digest(source, array.path),
        "array": array.path,
        "shape": list(array.shape),
        "dtype": stored.dtype.name,
        "grid": list(job.grid),
        "model": job.model,
        "weights": job.weights,
        "version": emd.__version__,
        "despike": job.despike,
        "put_back": put_back if isinstance(put_back, bool) else list(put_back),
    }


def _make(part: Path, stored: ome_zarr.Stored, record: dict[str, Any]) -> None:
    """Nothing; the folder of a new job is then there."""
    array = stored.array
    with replacing(part) as work:
        (work / IMAGE).mkdir()
        dtype = signal_.narrowed(stored.dtype).newbyteorder("=")
        shape, place = tuple(array.shape), _place(stored)
        ome_zarr.create(work / IMAGE, shape, dtype, array.chunks, array.shards, place)
        marks.put(work / _JOB, json.dumps(record).encode())


def _known(part: Path) -> dict[str, Any]:
    """What an unfinished job kept of itself: "job", what it is, and "settings"."""
    try:
        known = json.loads((part / _JOB).read_text())
        return {name: dict(known[name]) for name in ("job", "settings")}
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{part}: is no unfinished archive of emd: move it away") from None


def _check(part: Path, then: dict[str, Any], identity: dict[str, Any]) -> None:
    for name, value in identity.items():
        if then.get(name, False) != value:  # an older job lacks options that were not yet there
            shown = "" if name == "source" else f" ({then.get(name)}, not {value})"
            raise ValueError(
                f"{part}: was begun with another {name}{shown}: go on with that, or remove the "
                "folder to start anew"
            )


def _digest(source: Path, array: str) -> str:
    """Of what says what the source is, and when that was written; its pixels may be too many."""
    digest = hashlib.sha256()
    files = [source]
    if source.is_dir():
        names = (*ome_zarr.METADATA_FILES, ".zattrs")
        files = [folder / n for folder in {source: 0, source / array: 0} for n in names]
    for file in files:
        if file.is_file():
            digest.update(f"{file.name} {file.stat().st_mtime_ns}".encode())
            digest.update(b"" if file is source else file.read_bytes())
    return digest.hexdigest()


def _place(stored: ome_zarr.Stored) -> dict[str, Any]:
    shape = tuple(stored.array.shape)
    return stored.image or ngff.placing(shape, _contents(stored, stored.metadata))


def _contents(stored: ome_zarr.Stored, metadata: dict[str, Any]) -> Contents:
    dtype = signal_.narrowed(stored.dtype).newbyteorder("=")
    pixels = np.broadcast_to(np.zeros((), dtype), tuple(stored.array.shape))  # takes no memory
    return Contents(pixels, *stored.calibration, metadata)


def finish(job: Job, stored: ome_zarr.Stored, report: Report, output: Path) -> None:
    """Nothing; the archive then has its metadata and its place, and the job's folder is gone."""
    kept = stored.metadata.get("original")
    kept = kept if isinstance(kept, dict) else {}
    channels = {k: v for k, v in (kept.get("ome") or kept).items() if k == "omero"}
    metadata = with_history(stored.metadata, report)
    ngff.describe(job.folder / IMAGE, _contents(stored, metadata), _place(stored), channels)
    with (job.folder / IMAGE / "zarr.json").open("rb+") as file:
        os.fsync(file.fileno())
    for unfinished in (job.folder / IMAGE).rglob("*.partial"):  # by zarr, where it was killed
        unfinished.unlink(missing_ok=True)
    replace_folder(job.folder / IMAGE, output.resolve())
    shutil.rmtree(job.folder)


def report_of(job: Job, stored: ome_zarr.Stored, model: Model) -> Report:
    """What was done to all frames; lists of each only where they are not too long."""
    shape = tuple(stored.array.shape)
    is_listed = stored.frames <= LISTED_FRAMES
    length = stored.frames if is_listed else 0
    minimum, mean, correction, put = ([0.0] * length for _ in range(4))
    clipped = nonfinite = spikes = 0
    warnings: list[str] = []
    for k, group in enumerate(groups(shape, job)):
        found = marks.read_mark(job, k)
        clipped += found["clipped_pixels"]
        nonfinite += found["nonfinite_pixels"]
        spikes += found["despiked_pixels"]
        frames = numbers(group, shape) if is_listed or found["warnings"] else []
        warnings += [_of_archive(text, frames, stored.frames) for text in found["warnings"]]
        for at, frame in enumerate(frames if is_listed else []):
            minimum[frame], mean[frame] = found["minimum"][at], found["mean"][at]
            correction[frame] = found["mean_correction"][at]
            put[frame] = found["put_back"][at] if job.put_back else 0.0
    if len(warnings) > _LISTED_WARNINGS:
        more = len(warnings) - _LISTED_WARNINGS
        warnings = [*warnings[:_LISTED_WARNINGS], f"and {more} more like these"]
    return Report(
        model=model.config.name,
        weights=job.weights,
        version=emd.__version__,
        time=now(),
        minimum=minimum,
        mean=mean,
        mean_correction=correction,
        clipped_pixels=clipped,
        nonfinite_pixels=nonfinite,
        despiked_pixels=spikes,
        put_back=put if job.put_back else [],
        gain=job.put_back.gain if isinstance(job.put_back, Electrons) else None,
        black=job.put_back.black if isinstance(job.put_back, Electrons) else None,
        warnings=warnings,
    )


def _of_archive(warning: str, frames: list[int], count: int) -> str:
    """A warning about a frame of a unit, with the number that the frame has in the archive."""
    match = re.fullmatch(r"frame (\d+): (.*)", warning, re.DOTALL)
    number, text = (int(match[1]), match[2]) if match else (0, warning)
    return f"frame {frames[number]}: {text}" if count > 1 else text

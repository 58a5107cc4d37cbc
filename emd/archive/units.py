"""Owns what a unit does: frames that are small enough are read, restored and written at once.

Frames count with those that share their chunks. What is done leaves a mark, which is set only when
the chunks that it stands for are on disk.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emd import checkpoint
from emd.archive import marks
from emd.archive.grid import Job, Region, group_of
from emd.checkpoint import Model
from emd.data.formats import ome_zarr, signal
from emd.restore import restore_frames

IMAGE = "image"
"""Where in the folder of the job the archive is made."""

_MODEL = "model"


class Tools(NamedTuple):
    """What a unit works with: opened once in a process.

    Attributes:
      source: what is read.
      out: the array to write to.
      model: what restores.
      files: closes what is read.
    """

    source: ome_zarr.Stored
    out: Any
    model: Model
    files: ExitStack


_LOCK = threading.RLock()
_MODELS: dict[tuple[Path, str], Model] = {}
_OPEN: dict[Job, Tools] = {}
_MOST_OPEN = 4
_FIRST = threading.Lock()
_READY: set[Job] = set()


def share_model(job: Job, model: Model, *, processes: bool) -> None:
    """Nothing; units of this process, or with `processes` of any, then find the model."""
    _MODELS[job.folder, job.weights] = model
    if processes and not model.config.published:
        checkpoint.save(model, job.folder / _MODEL, text="For the workers of a running job.")


def tools(job: Job) -> Tools:
    """What the units of a job work with.

    Raises:
      FormatError: the archive is damaged.
    """
    with _LOCK:  # one opens it, not each thread
        if job not in _OPEN:
            while len(_OPEN) >= _MOST_OPEN:  # jobs that ended on another machine
                forget(next(iter(_OPEN)))
            files = ExitStack()
            found = files.enter_context(ome_zarr.opened(job.source))
            out = ome_zarr.array_of(job.folder / IMAGE)
            _OPEN[job] = Tools(found[job.signal], out, _model(job), files)
        return _OPEN[job]


def _model(job: Job) -> Model:
    key = job.folder, job.weights
    if key not in _MODELS:
        saved = job.folder / _MODEL / job.model
        name = str(saved) if checkpoint.is_there(saved) else job.model
        _MODELS[key] = checkpoint.load(name)
    return _MODELS[key]


@contextmanager
def alone_at_first(job: Job) -> Iterator[None]:
    """Lets units of a job restore at the same time only once one has: it compiles and imports."""
    if job in _READY:
        yield
        return
    with _FIRST:
        yield
        _READY.add(job)


def forget(job: Job) -> None:
    """Nothing; this process then keeps nothing of a job."""
    with _LOCK:
        if job in _OPEN:
            _OPEN.pop(job).files.close()
        _READY.discard(job)
        _MODELS.pop((job.folder, job.weights), None)


def store(job: Job, out: Any, region: Region, pixels: np.ndarray) -> None:
    """Writes whole chunks, and waits until they are on disk."""
    out[region] = pixels
    spans = (range(s.start // g, -(-s.stop // g)) for s, g in zip(region, job.grid, strict=True))
    for index in itertools.product(*spans):
        with ome_zarr.chunk_file(job.folder / IMAGE, out, index).open("rb+") as file:
            os.fsync(file.fileno())


def restore_whole(job: Job, number: int) -> None:
    """Nothing; the frames of a group are then restored."""
    source, out, model, _ = tools(job)
    shape = tuple(source.array.shape)
    group = group_of(number, shape, job)
    region = (*group, *(slice(0, side) for side in shape[-2:]))
    pixels = signal.narrow(source.region(region))
    stack = pixels.reshape(-1, *shape[-2:])
    result = np.empty_like(stack)
    with alone_at_first(job):
        report = restore_frames(
            *(stack, result, model),
            tile_px=job.tile_px,
            despike=job.despike,
            put_back=job.put_back,
        )
    store(job, out, region, result.reshape(pixels.shape))
    marks.mark(job, number, report._asdict())

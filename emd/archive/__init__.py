"""An archive in, an archive out: Zarr restored chunk by chunk, on one machine or many.

Killed at any moment and started again, a run does only what is missing.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from emd.apply import restoring
from emd.archive import folder, giant, marks
from emd.archive.crew import Crew, hired
from emd.archive.grid import Job, groups, is_whole
from emd.archive.units import forget, restore_whole, share_model
from emd.checkpoint import Model
from emd.data import source as source_
from emd.data.contents import FormatError
from emd.data.formats import ome_zarr, registry
from emd.data.formats import signal as signal_
from emd.data.micrograph import check_output
from emd.history import Report
from emd.putback import Electrons

_IN_PIECES = "nothing is put back: frames are restored in pieces"


class Done(NamedTuple):
    """What was restored: shape and type of the pixels, and what was done to them.

    Attributes:
      shape: as the archive holds it.
      dtype: the pixels' data type.
      report: see `emd.history.Report`.
      units: how many pieces of work there were.
      found: how many of them an earlier run had done.
    """

    shape: tuple[int, ...]
    dtype: str
    report: Report
    units: int
    found: int


def restore_archive(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    model: Model,
    *,
    signal: str | int | None = None,
    scheduler: str | None = None,
    tile_px: int | None = None,
    despike: bool = False,
    put_back: bool | Electrons | None = False,
    overwrite: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Done:
    """What was done; the output is then an OME-Zarr folder, in the same chunks as the source.

    The pixels are those of `emd.restore.restore` to rounding: of floats a few units in the last
    place, of integers one count where the exact result lies that near a half. Memory is bounded by
    the chunks. Work goes on in OUTPUT.part; a run that finds that of the same job does the rest.

    Args:
      source: a Zarr or OME-Zarr folder, or a ZIP archive of one.
      output: the .zarr folder to make.
      model: as `emd.checkpoint.load` gives it.
      signal: which array, by name or number; may be left out for an only image.
      scheduler: address of a `dask.distributed` scheduler ("tcp://...") whose workers see both
        archives by the same names; by default this process does it all.
      tile_px: see `emd.restore.restore`.
      despike: replace isolated spikes first; only frames that are restored at once.
      put_back: add what the residual shows beyond the noise, see `emd.restore.restore`; None: if
        all frames are restored at once.
      overwrite: replace an archive that is there.
      progress: called with the share of units done, from 0 to 1.

    Raises:
      FormatError: the source is no Zarr, is damaged, or lacks a chunk.
      FileExistsError: the output is there and `overwrite` is false.
      ValueError: the output is not named .zarr, or is the source; OUTPUT.part is of another job;
        what `emd.restore.restore` raises.
      ImportError: the scheduler needs a package that is not installed.
      OSError: the disk is full, or no scheduler answers.
    """
    given, output = Path(source), Path(output)
    part = _part_of(given, output, overwrite=overwrite)
    with _one_line(given, output), _chosen(given, signal) as (number, stored):
        job = folder.begun(
            *(part, given, number, stored, model, tile_px), despike=despike, put_back=put_back
        )
        try:
            with hired(scheduler) as (get, workers):
                share_model(job, model, processes=scheduler is not None)
                units, found = _restore(job, stored, model, get, workers, progress)
        finally:
            forget(job)
        report = folder.report_of(job, stored, model)
        if put_back is None and not job.put_back:
            report.warnings.append(_IN_PIECES)
        folder.finish(job, stored, report, output)
    dtype = signal_.narrowed(stored.dtype).name
    return Done(tuple(stored.array.shape), dtype, report, units, found)


def _part_of(given: Path, output: Path, *, overwrite: bool) -> Path:
    """Where an output is made, if nothing stands against it."""
    if output.suffix.lower() != ".zarr":
        raise ValueError(f"{output}: an archive's restoration is one, too: name it .zarr")
    if output.resolve() == given.resolve():
        raise ValueError(f"{output}: is the input: give the output another name")
    part = output.resolve().with_name(output.name + ".part")
    folder.sweep(part)
    check_output(output, overwrite=overwrite)
    return part


@contextmanager
def _one_line(source: Path, output: Path) -> Iterator[None]:
    """Names the file in what goes wrong."""
    try:
        yield
    except FormatError as error:
        raise FormatError(_named(source, error)) from None
    except ValueError as error:
        raise ValueError(_named(source, error)) from None
    except OSError as error:
        if error.errno is None or isinstance(error, FileNotFoundError):
            raise
        reason = error.strerror or " ".join(str(error).split())
        raise OSError(error.errno, f"not written ({reason})", str(output)) from None


def _named(path: Path, error: Exception) -> str:
    text = str(error)
    return text if text.startswith(f"{path}") else f"{path}: {text}"


@contextmanager
def _chosen(path: Path, wanted: str | int | None) -> Iterator[tuple[int, ome_zarr.Stored]]:
    """The signal that is asked for, and its number."""
    with source_.one_line(path):
        kind = registry.kind_of(path)
    if kind != "zarr":
        raise FormatError("is no Zarr: only such archives are restored chunk by chunk")
    with ome_zarr.opened(path) as found:
        stored = signal_.choose(found, wanted)
        if stored.fault:
            raise FormatError(f"holds no micrograph: signal {stored.name!r} {stored.fault}")
        number = next(k for k, each in enumerate(found) if each is stored)
        yield number, found[number]


# --- the work --------------------------------------------------------------------------------


def _restore(
    job: Job,
    stored: ome_zarr.Stored,
    model: Model,
    get: Any,
    workers: int,
    progress: Callable[[float], None] | None,
) -> tuple[int, int]:
    """How many units there are, and how many of them had been done."""
    shape = tuple(stored.array.shape)
    parts = list(groups(shape, job))
    done = marks.marked(job, len(parts))
    halo = restoring(model).halo
    whole = [is_whole(group, shape, job) for group in parts]
    for asked, option in ((job.despike, "--despike"), (job.put_back, "--put-back")):
        if asked and not all(whole):
            raise ValueError(
                f"frames of {shape[-2]}x{shape[-1]} are restored in pieces, and {option} is for "
                "whole ones: leave it out"
            )
    steps = [
        1 if w else giant.steps(g, shape, job, halo) for g, w in zip(parts, whole, strict=True)
    ]
    crew = Crew(get, workers, sum(steps), progress)
    crew.found(sum(steps[k] for k in done))
    missing = [k for k in range(len(parts)) if k not in done]
    crew.do([functools.partial(restore_whole, job, k) for k in missing if whole[k]])
    for k in missing:
        if not whole[k]:
            giant.restore_group(job, k, crew)
    return crew.total, crew.before

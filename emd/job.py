"""One micrograph's file in, its restoration's file out, frame by frame."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from emd.checkpoint import Model
from emd.data import micrograph, tiff
from emd.data.micrograph import Micrograph
from emd.history import Report, with_history
from emd.memory import free_bytes
from emd.putback import Electrons
from emd.restore import restore_frames

_INVERTED = (
    "viewers show its low values bright (MinIsWhite), but they are taken for low counts: invert "
    "the values first if bright means more electrons"
)


class Done(NamedTuple):
    """What was restored: shape and type of the pixels, and what was done to them."""

    shape: tuple[int, ...]
    dtype: str
    report: Report


def restore_file(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    model: Model,
    *,
    signal: str | int | None = None,
    frame: int | None = None,
    tile_px: int | None = None,
    despike: bool = False,
    put_back: bool | Electrons = False,
    overwrite: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Done:
    """What was done; the output then holds the restored micrograph, or what it held before.

    Frames are read and restored a few at a time. A result that would take much of the memory that
    is free waits in a file beside the output, so that a stack may be larger than memory.

    Args:
      source: a file of any format that `emd.data.micrograph.read` knows.
      output: the file to make: see `emd.data.micrograph.write`.
      model: as `emd.checkpoint.load` gives it.
      signal: which image of the file, by name or number; may be left out for an only one.
      frame: which frame of a stack; all without.
      tile_px: see `emd.restore.restore`.
      despike: replace isolated spikes first.
      put_back: add what the residual still shows beyond the noise: see `emd.restore.restore`.
      overwrite: replace a file that is there.
      progress: called with the share of frames done, from 0 to 1.

    Raises:
      OSError, ValueError: what `read`, `restore` and `write` raise; the message names the file.
    """
    output = Path(output)
    with micrograph.opened(source, signal=signal, frame=frame) as given:
        micrograph.check_output(output, overwrite=overwrite, dtype=given.dtype)
        frames = (math.prod(given.shape[:-2]), *given.shape[-2:])
        with _room(output, frames, given.dtype) as out:
            try:
                report = restore_frames(
                    *(given, out, model),
                    tile_px=tile_px,
                    despike=despike,
                    put_back=put_back,
                    progress=progress,
                )
            except micrograph.FormatError:
                raise
            except ValueError as error:
                raise ValueError(f"{source}: {error}") from None
            if tiff.MIN_IS_WHITE in given.metadata.items():
                report = report._replace(warnings=[_INVERTED, *report.warnings])
            metadata = with_history(given.metadata, report)
            restored = Micrograph(out.reshape(given.shape), *given.calibration, metadata)
            micrograph.write(output, restored, overwrite=overwrite)
        return Done(given.shape, given.dtype.name, report)


@contextlib.contextmanager
def _room(
    output: Path, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Iterator[Shaped[np.ndarray, "n h w"]]:
    """An array for the result: in memory, or in a file where it would take much of what is free."""
    size = math.prod(shape) * dtype.itemsize
    if size <= free_bytes() // 4:
        yield np.empty(shape, dtype)
        return
    try:
        with tempfile.TemporaryFile(dir=output.resolve().parent) as file:
            if hasattr(os, "posix_fallocate"):  # else a full disk would end the process
                os.posix_fallocate(file.fileno(), 0, size)
            yield np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        if error.filename is not None:
            raise
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"no room beside it ({reason})", str(output)) from None

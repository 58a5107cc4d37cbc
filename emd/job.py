"""One micrograph's file in, its restoration's file out."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from emd.checkpoint import Model
from emd.data import micrograph
from emd.restore import Report, restore


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
    overwrite: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Done:
    """What was done; the output then holds the restored micrograph, or what it held before.

    Args:
      source: a file of any format that `emd.data.micrograph.read` knows.
      output: the file to make: see `emd.data.micrograph.write`.
      model: as `emd.checkpoint.load` gives it.
      signal: which image of the file, by name or number; may be left out for an only one.
      frame: which frame of a stack; all without.
      tile_px: see `emd.restore.restore`.
      despike: replace isolated spikes first.
      overwrite: replace a file that is there.
      progress: called with the share of frames done, from 0 to 1.

    Raises:
      OSError, ValueError: what `read`, `restore` and `write` raise; the message names the file.
    """
    given = micrograph.read(source, signal=signal, frame=frame)
    try:
        restored = restore(given, model, tile_px=tile_px, despike=despike)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    micrograph.write(output, restored.micrograph, overwrite=overwrite)
    if progress is not None:
        progress(1.0)
    return Done(given.pixels.shape, given.dtype.name, restored.report)

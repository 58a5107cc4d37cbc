"""Owns the open file of a micrograph: what is known of it at once, its pixels frame by frame."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emd.data import tiff
from emd.data.calibration import Calibration
from emd.data.contents import FormatError, check_frame
from emd.data.formats import ome_zarr, registry
from emd.data.formats import signal as signal_
from emd.data.formats.signal import Signal, Summary


class Source:
    """A micrograph in an open file, whose pixels are read as they are asked for.

    Attributes:
      path: the file.
      shape: of the pixels as `emd.data.micrograph.read` would give them, (h, w) or (n, h, w).
      dtype: their type.
      calibration: size of a pixel, and its unit.
      metadata: what else is known.
    """

    def __init__(self, path: Path, kind: str, signal: Signal, frame: int | None):
        """Takes a signal of a file that stays open as long as this is used.

        Raises:
          FormatError: the signal is no micrograph, or has no such frame.
        """
        if signal.fault:
            raise FormatError(f"holds no micrograph: signal {signal.name!r} {signal.fault}")
        if frame is not None:
            check_frame(frame, signal.frames)
        is_stack = frame is None and len(signal.shape) > 2
        self.path = path
        self.shape = ((signal.frames,) if is_stack else ()) + signal.shape[-2:]
        self.dtype: np.dtype[Any] = signal_.narrowed(signal.dtype).newbyteorder("=")
        self.calibration: Calibration = signal.calibration
        self.metadata = signal.metadata
        if is_stack and len(signal.shape) > 3:
            self.metadata = {**self.metadata, "stack_shape": list(signal.shape[:-2])}
        self._kind, self._signal, self._frame = kind, signal, frame

    def pixels(self) -> np.ndarray:
        """All pixels, in `shape`.

        Raises:
          FormatError: the file is truncated or damaged.
        """
        with self._reading():
            return self._load(self._frame).reshape(self.shape)

    def __getitem__(self, part: slice) -> np.ndarray:
        """The pixels of some frames, (n, h, w) of any `shape`; raises what `pixels` raises."""
        if len(self.shape) == 2:
            return self.pixels()[None][part]
        with self._reading():
            return np.stack([self._load(k) for k in range(*part.indices(self.shape[0]))])

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        with one_line(self.path):
            try:
                yield
            except registry.damage(self._kind) as error:
                raise registry.explain(error, self._kind) from None

    def _load(self, frame: int | None) -> np.ndarray:
        whole = frame is None or len(self._signal.shape) == 2
        return signal_.narrow(self._signal.load(None if whole else frame))


@contextlib.contextmanager
def opened(
    path: str | os.PathLike[str], *, signal: str | int | None = None, frame: int | None = None
) -> Iterator[Source]:
    """A file's micrograph while it is open; for what it takes and raises see `micrograph.read`."""
    path = Path(path)
    with contextlib.ExitStack() as files:
        with one_line(path):
            kind, found = files.enter_context(_signals(path))
            source = Source(path, kind, signal_.choose(found, signal), frame)
        try:
            yield source
        except BaseException:
            # closed as if all went well: no reader is to take this for damage to its file
            files.close()
            raise


def signals(path: str | os.PathLike[str]) -> list[Summary]:
    """What a file holds: (name, shape, dtype, fault) each; no pixel is read.

    Those without a fault can be given to `micrograph.read`, by name or by number.

    Args:
      path: the file.

    Raises:
      FileNotFoundError, IsADirectoryError, FormatError: as of `micrograph.read`.
    """
    path = Path(path)
    with one_line(path), _signals(path) as (_, found):
        return [each.summary for each in found]


@contextlib.contextmanager
def _signals(path: Path) -> Iterator[tuple[str, list[Signal]]]:
    is_named = path.suffix.lower() in registry.FOLDER_SUFFIXES
    if path.is_dir() and not (is_named or ome_zarr.is_zarr(path)):
        raise IsADirectoryError(f"{path}: is a folder, not a micrograph: name a file in it")
    kind = registry.kind_of(path)
    if kind != "tiff":
        with registry.opened(path, kind) as found:
            yield kind, found
        return
    with path.open("rb") as file, tiff.opened(file) as held:
        yield kind, [Signal("0", *held)]


@contextlib.contextmanager
def one_line(path: Path) -> Iterator[None]:
    """Turns what goes wrong while a file is read into one line that names it."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file: check the name") from None
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    except tiff.DAMAGE as error:
        raise FormatError(f"{path}: {tiff.explain(error)}") from None

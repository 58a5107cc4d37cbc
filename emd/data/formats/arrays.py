"""Owns NumPy's files: .npy, which holds pixels and nothing else, and .npz, read array by array."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from emd.data.contents import Contents
from emd.data.formats import signal


@contextlib.contextmanager
def opened(path: Path, kind: str) -> Iterator[list[signal.Signal]]:
    """The arrays of a file while it is open; those of a .npz by their names.

    Objects are not unpickled: that would run what the file says.

    Raises:
      ValueError, OSError, EOFError: the file is damaged, or holds objects.
    """
    if kind == "npy":
        # A memory map reads no more than what is asked for.
        yield [_signal("0", np.load(path, mmap_mode="r", allow_pickle=False))]
        return
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        yield [_signal(name, archive[name]) for name in archive.files]


def _signal(name: str, array: np.ndarray) -> signal.Signal:
    def load(frame: int | None) -> np.ndarray:
        wanted = array
        if frame is not None:
            wanted = array[np.unravel_index(frame, array.shape[:-2])]
        return np.array(wanted, wanted.dtype.newbyteorder("="))

    return signal.Signal(name, array.shape, array.dtype, load)


def write(path: Path, contents: Contents) -> None:
    """Nothing; the file then holds the pixels, but neither pixel size nor metadata."""
    with path.open("wb") as file:
        np.save(file, contents.pixels, allow_pickle=False)

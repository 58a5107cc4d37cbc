"""Owns NumPy's files: .npy, which holds pixels and nothing else, and .npz, read array by array."""

import contextlib
import functools
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from emd.data.contents import Contents
from emd.data.formats import signal


@contextlib.contextmanager
def opened(path: Path, kind: str) -> Iterator[list[signal.Signal]]:
    """The arrays of a file while it is open; those of a .npz by their names.

    Of a .npz each array's header is read, and the array, whole, when its pixels first are. Objects
    are not unpickled: that would run what the file says.

    Raises:
      ValueError, OSError, EOFError, zipfile.BadZipFile: the file is damaged, or a .npy of objects.
    """
    if kind == "npy":
        # A memory map reads no more than what is asked for.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        yield [_signal("0", array.shape, array.dtype, lambda: array)]
        return
    with zipfile.ZipFile(path) as archive:
        yield [_member(archive, name) for name in archive.namelist()]


def _member(archive: zipfile.ZipFile, name: str) -> signal.Signal:
    @functools.cache  # else a stack would be decompressed once for every frame
    def whole() -> np.ndarray:
        with archive.open(name) as file:
            return npy.read_array(file, allow_pickle=False)

    with archive.open(name) as file:
        is_first = npy.read_magic(file) == (1, 0)
        # the third version differs from the second in the names of fields, which no image has
        read = npy.read_array_header_1_0 if is_first else npy.read_array_header_2_0
        shape, _, dtype = read(file)
    return _signal(name.removesuffix(".npy"), shape, dtype, whole)


def _signal(
    name: str, shape: tuple[int, ...], dtype: np.dtype, whole: Callable[[], np.ndarray]
) -> signal.Signal:
    def load(frame: int | None) -> np.ndarray:
        wanted = whole()
        if frame is not None:
            wanted = wanted[np.unravel_index(frame, shape[:-2])]
        return np.array(wanted, wanted.dtype.newbyteorder("="))

    return signal.Signal(name, shape, dtype, load)


def write(path: Path, contents: Contents) -> None:
    """Nothing; the file then holds the pixels, but neither pixel size nor metadata."""
    with path.open("wb") as file:
        np.save(file, contents.pixels, allow_pickle=False)

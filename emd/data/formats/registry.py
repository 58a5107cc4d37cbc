"""Owns which module reads and writes which kind of file: by its first bytes, then by its suffix."""

import contextlib
import gzip
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from emd.data import tiff
from emd.data.contents import FormatError
from emd.data.formats import arrays, hspy, mrc, ome_zarr, signal, vendor, zspy

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
_MRC_SUFFIXES = (".mrc", ".mrcs", ".map", ".rec", ".st", ".ali", ".ccp4")
# What a suffix promises, where the kind can be known by its first bytes.
_PROMISES = {
    ".dm3": "dm", ".dm4": "dm", ".emd": "emd", ".ser": "tia", ".emi": "tia", ".blo": "blo",
    ".hspy": "hspy", ".zspy": "zspy", ".npy": "npy", ".npz": "npz", ".zarr": "zarr",
}  # fmt: skip
FOLDER_SUFFIXES = (".zarr", ".zspy")
"""Of folders that count as files."""

READ_ONLY = (".dm3", ".dm4", ".emd", ".ser", ".emi", ".blo", ".npz")
WRITERS = {
    **dict.fromkeys(_MRC_SUFFIXES, mrc.write),
    ".hspy": hspy.write,
    ".zspy": zspy.write,
    ".zarr": ome_zarr.write,
    ".npy": arrays.write,
}
WRITABLE = (*TIFF_SUFFIXES, *WRITERS)
SUFFIXES = (
    *(*TIFF_SUFFIXES, *_MRC_SUFFIXES, *_PROMISES),
    *(*(f"{s}.gz" for s in _MRC_SUFFIXES), ".zarr.zip"),
)
_START_BYTES = 212  # as far as MRC's own mark
_MAGIC = {
    b"II*\0": "tiff", b"MM\0*": "tiff", b"II+\0": "tiff", b"MM\0+": "tiff",
    b"\0\0\0\x03": "dm", b"\0\0\0\x04": "dm", b"II\x97\x01": "tia", b"JK\0\x02": "tia",
    b"IMGBLO": "blo", b"\x89HDF\r\n\x1a\n": "hdf5", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip",
    b"\x93NUMPY": "npy", b"\x1f\x8b": "gzip",
}  # fmt: skip
_ARCHIVES = {
    b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7-Zip", b"Rar!": "RAR",
    b"\x28\xb5\x2f\xfd": "Zstandard",
}  # fmt: skip
_UNPACK = "unpack it, and name a file that was in it"


def kind_of(path: Path) -> str:
    """The kind of a file, "tiff" where none is known: tifffile then says what is wrong.

    A folder is "zspy" or "zarr".

    Raises:
      FormatError: it is empty, an archive, or of another kind than its suffix says.
      OSError: it cannot be read.
    """
    if path.is_dir():
        return _of_folder(path)
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    if not start:
        raise FormatError("is empty (0 bytes): copy it again from its source")
    archive = next((name for magic, name in _ARCHIVES.items() if start.startswith(magic)), None)
    if archive is not None:
        raise FormatError(f"is a {archive} archive: {_UNPACK}")
    if start[208:211] == b"MAP":
        return "mrc"
    kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), "")
    inside = {"hdf5": _of_hdf5, "zip": _of_zip, "gzip": _of_gzip}.get(kind)
    if inside is not None:
        return inside(path)
    return kind or _of_suffix(path.suffix.lower())


def _of_folder(path: Path) -> str:
    if ome_zarr.is_zarr(path):
        return "zspy" if (path / "Experiments").is_dir() else "zarr"
    if path.suffix.lower() in FOLDER_SUFFIXES:
        names = ", ".join(ome_zarr.METADATA_FILES)
        raise FormatError(f"lacks Zarr's own files ({names}): copy it again from its source")
    raise FormatError("is a folder, not a micrograph: name a file in it")


def _of_suffix(suffix: str) -> str:
    if suffix in _PROMISES:
        raise FormatError(
            f"is not what its suffix {suffix} says, by its first bytes: copy it again, or rename it"
        )
    return "mrc" if suffix in _MRC_SUFFIXES else "tiff"


def _of_hdf5(path: Path) -> str:
    # HyperSpy writes the one name, Velox and Berkeley's many programs others.
    return "hspy" if path.suffix.lower() in (".hspy", ".hdf5") else "emd"


def _of_zip(path: Path) -> str:
    if path.suffix.lower() == ".npz":
        return "npz"
    if path.suffix.lower() == ".zspy" or zspy.is_zspy(path):
        return "zspy"
    if ome_zarr.is_zarr(path):
        return "zarr"
    raise FormatError(f"is a ZIP archive: {_UNPACK}")


def _of_gzip(path: Path) -> str:
    try:
        with gzip.open(path) as file:
            start = file.read(_START_BYTES)
    except (*tiff.DAMAGE, OSError):
        raise FormatError("is a damaged gzip archive: copy it again from its source") from None
    if start[208:211] == b"MAP":
        return "mrc"
    raise FormatError(f"is a gzip archive: {_UNPACK}")


@contextlib.contextmanager
def opened(path: Path, kind: str) -> Iterator[list[signal.Signal]]:
    """The signals of a file of a kind other than "tiff", while it is open.

    Raises:
      FormatError: it is damaged, holds nothing that can be read, or needs a package that is not
        installed.
    """
    source: AbstractContextManager[Sequence[signal.Signal]]
    if kind == "mrc":
        source = mrc.opened(path)
    elif kind == "zspy":
        source = zspy.opened(path)
    elif kind == "zarr":
        source = ome_zarr.opened(path)
    elif kind in ("npy", "npz"):
        source = arrays.opened(path, kind)
    else:
        source = vendor.opened(path, kind)
    try:
        with source as signals:
            yield list(signals)
    except damage(kind) as error:
        raise explain(error, kind) from None


def damage(kind: str) -> tuple[type[BaseException], ...]:
    """What the reader of a kind lets through when a file is damaged."""
    return tiff.DAMAGE if kind == "tiff" else vendor.damage()


def explain(error: BaseException, kind: str) -> FormatError:
    """One line on what an error of `damage` means for the user, and what to do."""
    if isinstance(error, FormatError):
        return error
    return FormatError(tiff.explain(error)) if kind == "tiff" else vendor.explain(error, kind)


def check_writable(suffix: str, dtype: np.dtype[Any]) -> None:
    """Nothing.

    Raises:
      ValueError: no such file can be written, or not with such pixels.
    """
    if suffix in READ_ONLY:
        raise ValueError(f"{suffix} can be read but not written: name the output .tif")
    if suffix and suffix not in WRITABLE:
        known = " ".join(WRITABLE)
        raise ValueError(f"{suffix} is no format to write: name the output .tif, or one of {known}")
    if WRITERS.get(suffix) is mrc.write:
        mrc.check(dtype)

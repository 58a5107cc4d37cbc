"""Owns the micrograph: its pixels, calibration and metadata, and reading and writing it whole."""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from emd.data import source, tiff
from emd.data.contents import DTYPES as DTYPES
from emd.data.contents import Contents, check_pixels
from emd.data.contents import FormatError as FormatError
from emd.data.formats import registry
from emd.data.formats.registry import FOLDER_SUFFIXES as FOLDER_SUFFIXES
from emd.data.formats.registry import SUFFIXES as SUFFIXES
from emd.data.formats.registry import TIFF_SUFFIXES as TIFF_SUFFIXES
from emd.data.replacing import replacing
from emd.data.source import opened as opened
from emd.data.source import signals as signals


@dataclasses.dataclass(frozen=True, eq=False)
class Micrograph:
    """A whole micrograph, or a stack of them, as its file holds it.

    Attributes:
      pixels: intensities in one of `DTYPES`, native byte order, in the file's own counts.
      pixel_size: height and width of a pixel in `unit`; None where the scale is not known.
      unit: "nm", "µm", "Å", "1/nm"; empty where not known.
      metadata: what else is known, as JSON holds it (string keys; lists, not tuples).

    Raises:
      ValueError: pixels are not 2-D or 3-D, hold no pixel, or are not of one of `DTYPES`; the pixel
        size is not two positive numbers; the unit is not printable.
    """

    pixels: np.ndarray  # (h, w) or (n, h, w): checked below, with a line that says what to do
    pixel_size: tuple[float, float] | None = None
    unit: str = ""
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the fields; brings pixels to native byte order and sizes to float."""
        pixels = np.asarray(self.pixels)
        check_pixels(pixels)
        object.__setattr__(
            self, "pixels", pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        )
        if not self.unit.isprintable():
            raise ValueError(f"unit {self.unit!r} is not printable text: write it as 'nm' or 'µm'")
        if self.pixel_size is None:
            return
        size = tuple(float(s) for s in self.pixel_size)
        if len(size) != 2 or not all(math.isfinite(s) and s > 0 for s in size):
            raise ValueError(
                f"pixel_size {self.pixel_size} is not two positive numbers (height, width): "
                "give None where it is not known"
            )
        object.__setattr__(self, "pixel_size", size)

    def __eq__(self, other: object) -> bool:
        """True when dtype, every pixel (NaN equals NaN), calibration and metadata agree."""
        if not isinstance(other, Micrograph):
            return NotImplemented
        return (
            self.dtype == other.dtype
            and np.array_equal(self.pixels, other.pixels, equal_nan=self.dtype.kind == "f")
            and (self.pixel_size, self.unit) == (other.pixel_size, other.unit)
            and self.metadata == other.metadata
        )

    __hash__ = None  # type: ignore[assignment]  # holds an array and a dict

    @property
    def dtype(self) -> np.dtype[Any]:
        """The pixels' data type."""
        return self.pixels.dtype


def read(
    path: str | os.PathLike[str], *, signal: str | int | None = None, frame: int | None = None
) -> Micrograph:
    """A micrograph from a file: TIFF, MRC, DM, EMD, SER/EMI, hspy, zspy, Zarr, BLO or NumPy's.

    What the file is its first bytes say, then its suffix. Of 4-D data each pattern is a frame
    ("stack_shape" in the metadata says how they lie). One byte order: the machine's. Metadata is
    what `write` was given, or, in others' files, theirs, thinned to what JSON holds, with "mode"
    ("STEM", "TEM", "diffraction") where the file says it, and "dropped", the names of what was not
    kept. In TIFF pages, slices, times, channels are frames; reduced copies are skipped, and a
    colour image beside a grey one. Its calibration is taken from OME, ImageJ and DigitalMicrograph,
    and from resolution per inch or cm (given in nm or µm) unless it is a common density for print.
    Where its low values are shown bright (MinIsWhite), "photometric" is "miniswhite": the pixels
    are as they are stored, and `write` says the same of them.

    Args:
      path: the file; of Zarr and .zspy it may be a folder.
      signal: which of its images, by name or by number from 0; may be left out for an only one.
      frame: which frame of a stack, from 0; the others are not read where the format allows it.

    Raises:
      FileNotFoundError: there is no such file.
      IsADirectoryError: it is a folder.
      FormatError: it is of no format known, is truncated or damaged, holds several images and
        `signal` is not given, has no such signal or frame, holds a spectrum, colour, complex or
        other pixels that `Micrograph` refuses, or needs a package that is not installed.
    """
    path = Path(path)
    with source.opened(path, signal=signal, frame=frame) as given:
        pixels = given.pixels()
        with source.one_line(path):
            return Micrograph(pixels, *given.calibration, given.metadata)


def check_output(path: Path, *, overwrite: bool, dtype: np.dtype[Any] | None = None) -> None:
    """Refuse an output that could not be written: to be told before any work.

    Args:
      path: the file to make.
      overwrite: whether one that is there may be replaced.
      dtype: of pixels to be written, where `write` is to write them.

    Raises:
      ValueError: the format does not hold the dtype, or is only read.
      FileExistsError: the file is there and `overwrite` is false.
      FileNotFoundError: its folder is not there.
      IsADirectoryError: it is a folder.
    """
    if path.is_dir() and path.suffix.lower() not in FOLDER_SUFFIXES:
        raise IsADirectoryError(f"{path}: is a folder: name a file in it")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path}: exists already: give --overwrite to replace it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: its folder does not exist: make it first")
    if dtype is not None:
        try:
            registry.check_writable(path.suffix.lower(), dtype)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def write(path: str | os.PathLike[str], micrograph: Micrograph, *, overwrite: bool = False) -> None:
    """Nothing; the file then holds all of the micrograph, or, after an error, what it held before.

    MRC, hspy, zspy, Zarr and .npy by suffix, TIFF also without one: ImageJ's, OME's or plain by
    dtype, see `emd/data/tiff.py`. TIFF, hspy, zspy and Zarr hold everything; MRC has no int32,
    uint32 and float64, and makes uint8 uint16; .npy holds pixels only.

    Args:
      path: the file to make; its folder must exist.
      micrograph: what to keep. Its metadata must be JSON (tuples come back as lists).
      overwrite: replace a file that is there.

    Raises:
      FileExistsError: the file is there and `overwrite` is false.
      FileNotFoundError: its folder is not there.
      FormatError: a package that the format needs is not installed.
      IsADirectoryError: it is a folder.
      ValueError: the metadata is not JSON, or the format does not hold the dtype or is only read.
      OSError: the disk is full or may not be written.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite, dtype=micrograph.dtype)
    writer = registry.WRITERS.get(path.suffix.lower(), tiff.write)
    contents = Contents(
        micrograph.pixels, micrograph.pixel_size, micrograph.unit, micrograph.metadata
    )
    try:
        with replacing(path) as temporary:
            writer(temporary, contents)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def find(folder: str | os.PathLike[str], suffixes: tuple[str, ...] = TIFF_SUFFIXES) -> list[Path]:
    """The TIFF files in a folder and those below it, sorted; hidden ones are passed over.

    Args:
      folder: where to look. Files are known by suffix (any case), not opened.
      suffixes: which to find; `SUFFIXES` are those of all formats that `read` knows.

    Raises:
      FileNotFoundError: there is no such folder, or no such file in it.
      NotADirectoryError: it is a file.
      PermissionError: it, or a folder below it, may not be read.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder: check the name")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: is a file: name the folder it is in")

    def fail(error: OSError) -> None:
        raise error

    found = []
    for root, folders, names in os.walk(folder, onerror=fail):
        as_files = [f for f in folders if f.lower().endswith(FOLDER_SUFFIXES)]
        folders[:] = [f for f in folders if not f.startswith(".") and f not in as_files]
        wanted = (n for n in [*names, *as_files] if n.lower().endswith(suffixes))
        found += [Path(root, name) for name in wanted if not name.startswith(".")]
    if not found:
        known = ", ".join(suffixes)
        raise FileNotFoundError(f"{folder}: holds no micrograph: put files in it ({known})")
    return sorted(found)

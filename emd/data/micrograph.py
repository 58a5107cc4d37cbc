"""Owns the micrograph: its pixels, calibration and metadata, and reading and writing it whole."""

import dataclasses
import math
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from emd.data import tiff
from emd.data.tiff import DTYPES as DTYPES
from emd.data.tiff import FormatError as FormatError

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")


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
        tiff.check_pixels(pixels)
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


def read(path: str | os.PathLike[str]) -> Micrograph:
    """A micrograph from a TIFF file of any suffix; pages, slices, times, channels are frames.

    Reduced copies are skipped, and a colour image beside a grey one. Metadata is what `write` was
    given, or, in others' files, the text of theirs under "imagej", "ome_xml" or "tiff". One byte
    order: the machine's. Calibration is taken from OME, ImageJ and DigitalMicrograph, and from
    resolution per inch or cm (given in nm or µm) unless it is a common density for print.

    Args:
      path: the file.

    Raises:
      FileNotFoundError: there is no such file.
      IsADirectoryError: it is a folder.
      FormatError: it is not TIFF, is truncated or damaged, holds colour, complex or other pixels
        that `Micrograph` refuses or images of unlike size, or needs a codec that is not installed.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, not a micrograph: name a file in it")
    try:
        with path.open("rb") as file:
            contents = tiff.parse(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file: check the name") from None
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    except tiff.DAMAGE as error:
        raise FormatError(f"{path}: {tiff.explain(error)}") from None
    try:
        return Micrograph(*contents)
    except ValueError as error:
        raise FormatError(f"{path}: {error}") from None


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output that could not be written: to be told before any work.

    Raises:
      FileExistsError: the file is there and `overwrite` is false.
      FileNotFoundError: its folder is not there.
      IsADirectoryError: it is a folder.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder: name a file in it")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path}: exists already: give --overwrite to replace it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: its folder does not exist: make it first")


def write(path: str | os.PathLike[str], micrograph: Micrograph, *, overwrite: bool = False) -> None:
    """Nothing; the file then holds all of the micrograph, or, after an error, what it held before.

    ImageJ TIFF, OME-TIFF or plain TIFF by dtype, whatever the suffix: see `emd/data/tiff.py`.

    Args:
      path: the file to make; its folder must exist.
      micrograph: what to keep. Its metadata must be JSON (tuples come back as lists).
      overwrite: replace a file that is there.

    Raises:
      FileExistsError: the file is there and `overwrite` is false.
      FileNotFoundError: its folder is not there.
      IsADirectoryError: it is a folder.
      ValueError: the metadata is not JSON.
      OSError: the disk is full or may not be written.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    target = path.resolve()  # a link stays a link
    contents = tiff.Contents(
        micrograph.pixels, micrograph.pixel_size, micrograph.unit, micrograph.metadata
    )
    try:
        options = tiff.keywords(contents)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    temporary = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as file:
            tifffile.imwrite(file, micrograph.pixels, photometric="minisblack", **options)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise OSError(error.errno, f"not written ({error.strerror})", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def find(folder: str | os.PathLike[str]) -> list[Path]:
    """The TIFF files in a folder and those below it, sorted; hidden ones are passed over.

    Args:
      folder: where to look. Files are known by suffix (`TIFF_SUFFIXES`, any case), not opened.

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
        folders[:] = [f for f in folders if not f.startswith(".")]
        tiffs = (n for n in names if n.lower().endswith(TIFF_SUFFIXES) and not n.startswith("."))
        found += [Path(root, name) for name in tiffs]
    if not found:
        suffixes = ", ".join(TIFF_SUFFIXES)
        raise FileNotFoundError(f"{folder}: holds no micrograph: put files in it ({suffixes})")
    return sorted(found)

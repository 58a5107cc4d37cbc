"""Owns what is read through rosettasciio: DM3/DM4, EMD, SER/EMI, BLO and hspy.

rosettasciio is under the GPL-3.0, so it comes with the extra `io` and is imported when such a file
is opened. Everything is opened lazily: pixels are read when a signal, or one frame of it, is.
"""

import contextlib
import glob
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emd.data import tiff
from emd.data.calibration import NONE, Calibration
from emd.data.contents import FormatError
from emd.data.formats import extras, original, record, signal, units

_PLUGINS = {
    "dm": "digitalmicrograph",
    "emd": "emd",
    "tia": "tia",
    "blo": "blockfile",
    "hspy": "hspy",
}
# SER holds metres for images and 1/m for patterns, and no word which; rosettasciio takes all for
# metres and gives nm. No pixel is a metre wide.
_METRE_IN_NM = 1e9
_SER_HEADER_BYTES = 34  # mark, series, version, types, elements, valid ones, offset, dimensions
_MAX_DIMENSIONS = 8


@contextlib.contextmanager
def opened(path: Path, kind: str) -> Iterator[list[signal.Signal]]:
    """The signals of a file while it is open.

    Args:
      path: the file.
      kind: "dm", "emd", "tia", "blo" or "hspy".

    Raises:
      FormatError: a package of the extra `io` is not installed, or the file holds only colour.
    """
    reader = extras.load(f"rsciio.{_PLUGINS[kind]}")
    # Velox keeps spectra as streams of events: large, and no micrographs.
    options = {"select_type": "images"} if kind == "emd" else {}
    if kind == "tia":
        _check_ser(path)
    found: list[dict[str, Any]] = []
    try:
        found = _read(reader, path, options, kind)
        titles = [str(f["metadata"].get("General", {}).get("title") or "") for f in found]
        names = signal.unique(titles)
        yield [_signal(f, name, kind) for f, name in zip(found, names, strict=True)]
    finally:
        for each in found:
            _close(each["data"])


def _check_ser(path: Path) -> None:
    """Refuses counts that the file has no room for: rosettasciio would count on for hours."""
    files = [path]
    if path.suffix.lower() == ".emi":
        files = sorted(path.parent.glob(f"{glob.escape(path.stem)}_*.ser"))
        if not files:
            raise FormatError("its pixels are in .ser files beside it, and none is: copy them, too")
    for each in files:
        with each.open("rb") as file:
            header = file.read(_SER_HEADER_BYTES)
        if len(header) == _SER_HEADER_BYTES:
            _, _, version, _, _, elements, valid = struct.unpack("<HHHIIII", header[:22])
            # Offsets are as wide as the addresses of the Windows that wrote them.
            offset, dimensions = struct.unpack_from("<II" if version <= 528 else "<QI", header, 22)
            room = (each.stat().st_size - offset) // (4 if version <= 528 else 8)
            if valid <= elements <= room and dimensions <= _MAX_DIMENSIONS:
                continue
        raise FormatError(f"truncated or damaged SER file ({each.name}): copy it again")


def _read(reader: Any, path: Path, options: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    with extras.quiet():
        try:
            return list(reader.file_reader(str(path), lazy=True, **options))
        except damage() as error:
            # Kept as a line only: its traceback holds open files, which close where it is quiet.
            fault, is_colour = explain(error, kind), "RGBA" in str(error)
        if is_colour:  # DigitalMicrograph's colour images are only read whole
            return list(reader.file_reader(str(path), **options))
        raise fault


def _close(data: Any) -> None:
    """Closes the HDF5 file behind lazy pixels: rosettasciio leaves it open."""
    if isinstance(data, np.ndarray):
        return
    handle = extras.load("rsciio.utils.file").get_file_handle(data, warn=False)
    if handle is not None:
        handle.close()


def _signal(found: dict[str, Any], name: str, kind: str) -> signal.Signal:
    data, axes = found["data"], found["axes"]
    images = [axis for axis in axes if not axis.get("navigate", False)]
    reason = ""
    if data.ndim >= 2 and len(images) < 2:
        reason = "is a spectrum image, a spectrum a pixel: sum it over energy first"
    if data.ndim == 2 and [_axis_name(a) for a in axes] == ["x", "y"]:
        # rosettasciio turns the axes of Berkeley's files round; these were in order.
        data, axes = data.T, axes[::-1]
    if kind == "tia":
        axes = [_placed(axis) for axis in axes]
    calibration = NONE if reason or len(axes) < 2 else _calibration(axes[-2], axes[-1], kind)
    metadata = _metadata(found, axes, name, calibration, kind)
    ours = record.parse(found["original_metadata"].get(record.NAME))
    if ours is not None:
        stated, calibration = calibration, record.settle(calibration, ours)
        metadata = original.settle_origin(ours["metadata"], axes, stated, calibration)
    return signal.Signal(
        name, tuple(data.shape), data.dtype, _loader(data), calibration, metadata, reason
    )


def _placed(axis: dict[str, Any]) -> dict[str, Any]:
    """An axis of SER: rosettasciio turns its scale into nm or 1/nm, and leaves the offset in SI.

    Known by its size in pixels, a thousand million times off, should it once turn both.
    """
    if axis.get("units") not in ("nm", "1 / nm") or not axis.get("scale"):
        return axis
    offset = float(axis.get("offset") or 0.0)
    pixels = abs(offset / axis["scale"])
    if pixels < 1e-3:
        offset *= _METRE_IN_NM
    elif pixels > 1e6:
        offset /= _METRE_IN_NM
    return axis | {"offset": offset}


def _axis_name(axis: Mapping[str, Any]) -> str:
    return str(axis.get("name") or "").strip().lower()


def _calibration(rows: Mapping[str, Any], columns: Mapping[str, Any], kind: str) -> Calibration:
    sizes = rows.get("scale"), columns.get("scale")
    if rows.get("_type") == "DataAxis" or None in sizes:
        return NONE  # pixels of unlike size
    # A negative scale says which way the axis runs; the pixels are as large as they are.
    high, wide = (abs(float(s)) for s in sizes if s is not None)
    unit = columns.get("units")
    if kind == "tia" and min(high, wide) >= _METRE_IN_NM:
        high, wide = high / _METRE_IN_NM / 1e9, wide / _METRE_IN_NM / 1e9
        return units.pixel_size(high, wide, "1/nm", "1/nm")
    return units.pixel_size(high, wide, rows.get("units"), unit)


def _metadata(
    found: dict[str, Any], axes: list[dict[str, Any]], name: str, known: Calibration, kind: str
) -> dict[str, Any]:
    kept, dropped = original.thin(found["original_metadata"])
    acquired = original.acquisition(found)
    metadata = {
        "title": name,
        "mode": original.mode(found, acquired, known[1]),
        "acquisition": acquired,
        "frames": original.frames(axes),
        "origin": original.origin(axes, known),
        "original": kept,
        "dropped": dropped,
    }
    if kind == "hspy":
        metadata["hyperspy"], gone = original.thin(found["metadata"])
        metadata["dropped"] = [*dropped, *(f"hyperspy.{path}" for path in gone)]
    return {key: value for key, value in metadata.items() if value}


def _loader(data: Any) -> Callable[[int | None], np.ndarray]:
    """Reads all of lazy pixels, or one frame: chunk by chunk into one array, native byte order."""

    def load(frame: int | None) -> np.ndarray:
        wanted = data
        if frame is not None:
            wanted = data[np.unravel_index(frame, data.shape[:-2])]
        if isinstance(wanted, np.ndarray):
            return wanted
        pixels = np.empty(wanted.shape, wanted.dtype.newbyteorder("="))
        store = extras.load("dask.array").store
        with extras.quiet():
            store([wanted], [pixels], lock=False, scheduler="synchronous")
        return pixels

    return load


def damage() -> tuple[type[BaseException], ...]:
    """What the readers let through when a file is damaged."""
    own: tuple[type[BaseException], ...] = ()
    if "rsciio" in sys.modules:
        named = vars(extras.load("rsciio.exceptions")).values()
        own = tuple(v for v in named if isinstance(v, type) and issubclass(v, Exception))
    return (*tiff.DAMAGE, OSError, NameError, zipfile.BadZipFile, *own)


def explain(error: BaseException, kind: str) -> FormatError:
    """One line on what an error of a reader means for the user, and what to do."""
    if isinstance(error, MemoryError):
        return FormatError(tiff.explain(error))
    text = " ".join(str(error).split())[:200] or type(error).__name__
    name = {"dm": "DM3/DM4", "tia": "SER/EMI"}.get(kind, kind.upper())
    return FormatError(f"truncated or damaged {name} file ({text}): copy it again from its source")

"""Owns how TIFF holds a micrograph: which images count, what is damaged, where metadata goes.

uint8, uint16 and float32 become ImageJ TIFF; int8, int16, int32, uint32, float64, and anything near
4 GB, become OME-TIFF; float16, which neither knows, becomes plain TIFF with resolution tags. Each
also carries a JSON record (in ImageJ's Info, OME's Description, or ImageDescription) with the exact
pixel size, the unit and the metadata. Where another program has changed the calibration since, or
which end is white, its change wins.
"""

import contextlib
import json
import logging
import lzma
import math
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from xml.etree import ElementTree

import numpy as np
import tifffile

from emd.data import calibration
from emd.data.calibration import Calibration
from emd.data.contents import Contents, FormatError, check_frame, check_pixels

MIN_IS_WHITE = ("photometric", "miniswhite")
"""In the metadata where viewers show low values bright; the values are as they are stored."""
_IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
_RECORD = "emd_micrograph"
_CLASSIC_TIFF_BYTES = 2**32 - 2**26  # 32-bit offsets, with room left for tags
# What tifffile and its decoders let through when a file is damaged, or more than memory holds.
DAMAGE = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, EOFError,
    AssertionError, ImportError, MemoryError, struct.error, zlib.error, lzma.LZMAError,
    ElementTree.ParseError,
)  # fmt: skip


def explain(error: BaseException) -> str:
    """One line on what an error of `DAMAGE` means for the user, and what to do."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError):
        remedy = "free some, choose one frame with --frame, or copy it again from its source"
        return f"needs more memory than is there, or its header is damaged ({text}): {remedy}"
    if isinstance(error, ImportError) or "imagecodecs" in text:
        remedy = "`pip install imagecodecs`, or save it uncompressed or as deflate"
        return f"compressed in a way that needs a codec ({text}): {remedy}"
    if "not a TIFF" in text:
        return "not a TIFF file: convert it to TIFF"
    return f"truncated or damaged TIFF ({text}): copy it again from its source"


@contextlib.contextmanager
def _logged_errors() -> Iterator[list[str]]:
    """What tifffile logs as errors in this thread: it reports lost pages in no other way."""
    errors: list[str] = []
    thread, logger = threading.get_ident(), logging.getLogger("tifffile")

    def keep(record: logging.LogRecord) -> bool:
        if threading.get_ident() != thread:
            return True
        message = record.getMessage()
        # A vendor's private tag that cannot be parsed harms no pixel; one past the end is lost.
        is_harmless = "TiffTag" in message and "invalid value offset" not in message
        if record.levelno >= logging.ERROR and not is_harmless:
            # it begins with tifffile's name for its own object
            errors.append(" ".join(message.rpartition("> ")[2].split()))
        return False

    logger.addFilter(keep)
    try:
        yield errors
    finally:
        logger.removeFilter(keep)


class Opened(NamedTuple):
    """An open TIFF file; `load` gives the pixels of one frame, or all of them for None."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[int | None], np.ndarray]
    calibration: Calibration
    metadata: dict[str, Any]


@contextlib.contextmanager
def opened(file: BinaryIO) -> Iterator[Opened]:
    """What a TIFF file holds, while it is open in one thread.

    Raises:
      FormatError: it holds no micrograph, here or on `load` no such frame; one of `DAMAGE` where
        tifffile fails on the file.
    """
    if os.fstat(file.fileno()).st_size == 0:
        raise FormatError("is empty (0 bytes): copy it again from its source")
    with _logged_errors() as errors, tifffile.TiffFile(file) as tiff:
        series, record = _grey_series(tiff), _record(tiff)
        shape, is_stack = _shape(tiff, series, record)
        stated = calibration.of_file(tiff, tiff.series.index(series[0]))
        metadata = _foreign_metadata(tiff) if record is None else record["metadata"]
        metadata = _with_look(metadata, series[0].keyframe.photometric)

        def load(frame: int | None) -> np.ndarray:
            pixels = _all(series, shape) if frame is None else _frame(series, shape, frame)
            _check_logged(errors)
            return pixels if is_stack or frame is not None else pixels[0]

        _check_logged(errors)
        dtype = series[0].dtype.newbyteorder("=")
        held = shape if is_stack else shape[1:]
        yield Opened(held, dtype, load, _calibration(stated, record), metadata)


def _check_logged(errors: list[str]) -> None:
    if errors:
        raise FormatError(f"truncated or damaged TIFF ({errors[0]}): copy it again")


def _shape(
    tiff: tifffile.TiffFile, series: list[tifffile.TiffPageSeries], record: dict[str, Any] | None
) -> tuple[tuple[int, ...], bool]:
    """Frames, height and width, and whether it is a stack even where there is one frame."""
    height, width = series[0].keyframe.shape[-2:]  # of one page that may be a volume
    if record is not None and tiff.is_shaped and record["shape"][-1] == 1:
        height, width = record["shape"][-2:]  # tifffile stores a stack 1 pixel wide as one page
    count = sum(math.prod(s.shape) for s in series) // (height * width)
    return (count, height, width), count > 1 or (record is not None and len(record["shape"]) == 3)


def _all(series: list[tifffile.TiffPageSeries], shape: tuple[int, ...]) -> np.ndarray:
    for page in (p for s in series for p in s.pages):
        _check_segments(page)
    frames = [s.asarray().reshape(-1, *shape[-2:]) for s in series]
    return frames[0] if len(frames) == 1 else np.concatenate(frames)


def _frame(series: list[tifffile.TiffPageSeries], shape: tuple[int, ...], frame: int) -> np.ndarray:
    """One frame: from its own page where it has one, else where the frames lie in a row."""
    check_frame(frame, shape[0])
    size = shape[1] * shape[2]
    each, k = [(s, k) for s in series for k in range(math.prod(s.shape) // size)][frame]
    is_paged = len(each.pages) * size == math.prod(each.shape)
    pages: list[Any] = [each.pages[k]] if is_paged else list(each.pages)
    for page in pages:
        _check_segments(page)
    if is_paged:
        pixels = pages[0].asarray()
    elif each.dataoffset is None:
        pixels = each.asarray().reshape(-1, *shape[1:])[k]
    else:  # ImageJ's stacks of 4 GB and more have one page, with all frames from there on
        file = each.keyframe.parent
        dtype = each.dtype.newbyteorder(file.byteorder)
        place = each.dataoffset + k * size * dtype.itemsize
        pixels = file.filehandle.read_array(dtype, size, place)
    return np.asarray(pixels).reshape(shape[1:])


def _grey_series(tiff: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """The series that make up the micrograph: alike in size and type, grey, not reduced."""
    whole = [s for s in tiff.series if not s.keyframe.is_reduced]
    if not whole:
        raise FormatError("truncated or damaged TIFF (it holds no image): copy it again")
    palette = tifffile.PHOTOMETRIC.PALETTE
    grey = [
        s
        for s in whole
        if s.keyframe.samplesperpixel == 1
        # ImageJ's palettes only colour the display; elsewhere the values are colour numbers.
        and (tiff.is_imagej or s.keyframe.photometric != palette)
    ]
    if not grey:
        samples = whole[0].keyframe.samplesperpixel
        kind = f"RGB colour ({samples} samples)" if samples > 1 else "palette colour"
        raise FormatError(f"pixels are {kind}, not intensities: convert to one grey channel")
    kinds = sorted({(*s.keyframe.shape[-2:], str(s.dtype)) for s in grey})
    if len(kinds) > 1:
        raise FormatError(f"holds images of unlike size or type {kinds}: save each in its own file")
    # Before decoding, so that a complex or boolean file is refused for what it is.
    try:
        check_pixels(np.empty((1, 1), grey[0].dtype))
    except ValueError as error:
        raise FormatError(str(error)) from None
    return grey


def _check_segments(page: Any) -> None:
    """Refuses strips or tiles that are missing or end after the file: tifffile gives zeros."""
    if page is None:
        raise FormatError("an OME file it belongs with is missing: put all of them in one folder")
    offsets, counts = page.dataoffsets, page.databytecounts
    keyframe = page.keyframe
    if len(offsets) < math.prod(keyframe.chunked) or 0 in offsets or 0 in counts:
        raise FormatError("truncated or damaged TIFF (pixels are missing): copy it again")
    if max(o + c for o, c in zip(offsets, counts, strict=True)) > page.parent.filehandle.size:
        raise FormatError("truncated TIFF (pixels end after the file does): copy it again")


def _record(tiff: tifffile.TiffFile) -> dict[str, Any] | None:
    """The JSON record that `write` left, or None in others' files."""
    texts = []
    if tiff.is_ome:
        texts = [
            e.text
            for e in ElementTree.fromstring(tiff.ome_metadata or "").findall(".//{*}Description")
        ]
    elif tiff.is_imagej:
        texts = [(tiff.imagej_metadata or {}).get("Info")]
    elif tiff.is_shaped:
        texts = [(tiff.shaped_metadata or ({},))[0].get(_RECORD)]
    for text in texts:
        with contextlib.suppress(ValueError, TypeError):
            record = json.loads(text or "")
            if isinstance(record, dict) and record.get("format") == _RECORD:
                return record
    return None


def _foreign_metadata(tiff: tifffile.TiffFile) -> dict[str, Any]:
    if tiff.is_ome:
        return {"ome_xml": tiff.ome_metadata}
    if tiff.is_imagej:
        return {"imagej": _jsonable(tiff.imagej_metadata or {})}
    tags = tiff.pages.first.tags
    names = ("ImageDescription", "Make", "Model", "Software", "DateTime", "Artist")
    found = _jsonable({n: tags.valueof(n) for n in names if tags.valueof(n)})
    return {"tiff": found} if found else {}


def _with_look(metadata: dict[str, Any], photometric: int) -> dict[str, Any]:
    """The metadata, with `MIN_IS_WHITE` where the file says now that its low values are bright."""
    kept = {name: value for name, value in metadata.items() if (name, value) != MIN_IS_WHITE}
    if photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        kept.update([MIN_IS_WHITE])
    return kept


def _jsonable(values: dict[str, Any]) -> dict[str, Any]:
    """The values as JSON gives them back; overlays, colour tables and the like are left out."""
    kept = {}
    for name, value in values.items():
        with contextlib.suppress(TypeError, ValueError):
            kept[str(name)] = json.loads(json.dumps(value))
    return kept


def _calibration(stated: Calibration, record: dict[str, Any] | None) -> Calibration:
    """What the file states; the record's exact numbers where it states the same or nothing."""
    if record is None:
        return stated
    size = record["pixel_size"]
    exact = (None if size is None else (float(size[0]), float(size[1])), str(record["unit"]))
    return exact if stated[0] is None or calibration.is_same(stated, exact) else stated


def write(path: Path, contents: Contents) -> None:
    """Nothing; the file then holds everything.

    Raises:
      ValueError: the metadata is not JSON.
    """
    options = _keywords(contents)
    photometric = "miniswhite" if MIN_IS_WHITE in contents.metadata.items() else "minisblack"
    with path.open("xb") as file:
        tifffile.imwrite(file, contents.pixels, photometric=photometric, **options)


def _keywords(contents: Contents) -> dict[str, Any]:
    """The keywords with which `tifffile.imwrite` keeps calibration and metadata."""
    pixels, size, unit, metadata = contents
    record = {"format": _RECORD, "pixel_size": size, "unit": unit, "shape": pixels.shape}
    try:
        text = json.dumps({**record, "metadata": metadata})
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata is not JSON ({error}): keep text and numbers") from None
    if pixels.dtype == np.float16:
        return {"metadata": {_RECORD: text}, **calibration.plain_keywords((size, unit))}
    axes = "TYX" if pixels.ndim == 3 else "YX"
    is_small = pixels.nbytes + 2 * len(text) < _CLASSIC_TIFF_BYTES
    # tifffile drops the axis of an ImageJ stack 1 pixel wide, and cannot read it back.
    if pixels.dtype.name in _IMAGEJ_DTYPES and is_small and pixels.shape[-1] > 1:
        options, scale = calibration.imagej_keywords((size, unit))
        return {"imagej": True, "metadata": {"axes": axes, "Info": text, **scale}, **options}
    scale = calibration.ome_keywords((size, unit))
    return {"ome": True, "metadata": {"axes": axes, "Description": text, **scale}}

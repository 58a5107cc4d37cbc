"""Owns MRC: modes 0, 1, 2, 6 and 12, in either byte order, plain or gzipped.

Mode 0 is int8, as the standard of 2014 has it, and uint8 where IMOD's stamp says so. A volume is
a stack of its slices. The pixel size goes into the header in Å; a JSON record in the extended
header holds the rest exactly, and the first label what was done, for other programs to show.
"""

import contextlib
import functools
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emd.data.calibration import Calibration
from emd.data.contents import Contents, FormatError
from emd.data.formats import extras, original, record, signal, units

_HEADER_BYTES = 1024
_BYTES = {0: 1, 1: 2, 2: 4, 6: 2, 12: 2}  # of a pixel in each mode
_REFUSED = {3: "complex", 4: "complex", 101: "4-bit"}
_IMOD_STAMP, _IMOD_SIGNED = 1146047817, 1  # at bytes 152 and 156: "IMOD", and its flags
_EXTENDED = b"EMDR"  # our type of extended header
_LABEL_CHARACTERS = 80
_MODES = {"int8": 0, "int16": 1, "float32": 2, "uint16": 6, "float16": 12}
DTYPES = tuple(_MODES)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[list[signal.Signal]]:
    """The one signal of a file while it is open.

    Raises:
      FormatError: it is truncated, or holds complex or 4-bit pixels, or mrcfile is not installed.
    """
    mrcfile = extras.load("mrcfile")
    with path.open("rb") as start:
        is_zipped = start.read(2) == b"\x1f\x8b"
    if not is_zipped:
        _check_header(path)
    with extras.quiet():
        # A memory map reads no more than what is asked for.
        file = (mrcfile.open if is_zipped else mrcfile.mmap)(str(path), permissive=True)
    try:
        with extras.quiet():
            found = _signal(file)
        yield [found]
    finally:
        with extras.quiet():
            file.close()


def _check_header(path: Path) -> None:
    """Refuses what mrcfile would only warn of, or give zeros for."""
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES:
        raise FormatError(f"truncated MRC ({len(header)} bytes, no header): copy it again")
    stamp = {b"DD": "<", b"DA": "<", b"\x11\x11": ">"}.get(header[212:214])
    # Without a stamp the order in which the image has the fewer columns.
    order = stamp or min("<>", key=lambda o: abs(struct.unpack(f"{o}i", header[:4])[0]))
    columns, rows, sections, mode = struct.unpack(f"{order}4i", header[:16])
    extended = struct.unpack(f"{order}i", header[92:96])[0]
    if mode in _REFUSED:
        raise FormatError(f"pixels are {_REFUSED[mode]} (MRC mode {mode}): save them as mode 2")
    if mode not in _BYTES or min(columns, rows, sections) < 1 or extended < 0:
        raise FormatError("not an MRC file, or its header is damaged: copy it again")
    expected = _HEADER_BYTES + extended + columns * rows * sections * _BYTES[mode]
    if path.stat().st_size < expected:
        raise FormatError(
            f"truncated MRC ({path.stat().st_size} of {expected} bytes): copy it again"
        )


def _signal(file: Any) -> signal.Signal:
    data, header = file.data, file.header
    if data is None:
        raise FormatError("truncated or damaged MRC (its pixels cannot be read): copy it again")
    stamp, flags = np.frombuffer(header.extra2.tobytes()[40:48], header.nx.dtype)
    if int(header.mode) == 0 and stamp == _IMOD_STAMP and not flags & _IMOD_SIGNED:
        data = data.view(np.uint8)
    calibration, metadata = _calibration(header), _metadata(file)
    ours = None
    if bytes(header.exttyp) == _EXTENDED:
        ours = record.parse(file.extended_header.tobytes().rstrip(b"\0"))
    if ours is not None:
        calibration, metadata = record.settle(calibration, ours), ours["metadata"]
    shape = data.shape[1:] if data.ndim == 3 and len(data) == 1 else data.shape
    if ours is not None and math.prod(ours["shape"]) == data.size:
        shape = tuple(ours["shape"])
    pixels = data.reshape(shape)

    def load(frame: int | None) -> np.ndarray:
        wanted = pixels
        if frame is not None:
            wanted = pixels[np.unravel_index(frame, shape[:-2])]
        return np.array(wanted, wanted.dtype.newbyteorder("="))  # a copy: the file will close

    return signal.Signal("0", shape, pixels.dtype, load, calibration, metadata)


def _calibration(header: Any) -> Calibration:
    cell = [float(header.cella[axis]) for axis in "xyz"]
    samples = [int(header[name]) for name in ("mx", "my", "mz")]
    sizes = [c / s if s > 0 else 0.0 for c, s in zip(cell, samples, strict=True)]
    columns, rows = int(header.mapc) - 1, int(header.mapr) - 1
    if not {columns, rows} <= {0, 1, 2}:
        columns, rows = 0, 1  # old programs leave the axes out
    # The header's numbers are 32-bit: more digits would be noise.
    high, wide = (float(f"{sizes[axis]:.7g}") for axis in (rows, columns))
    return units.pixel_size(high, wide, "Å", "Å")


def _metadata(file: Any) -> dict[str, Any]:
    header = file.header
    found: dict[str, Any] = {}
    labels = [label.strip() for label in file.get_labels() if label.strip()]
    if labels:
        found["labels"] = labels
    if int(header.ispg) == 1 and int(header.mz) > 0 and header.cella.z > 0:
        found["volume"] = {"slice": float(f"{float(header.cella.z) / int(header.mz):.7g}")}  # Å
    blocks = getattr(file, "indexed_extended_header", None)
    if blocks is not None and blocks.dtype.names and len(blocks):  # Thermo Fisher's, first frame
        first = blocks[0]
        tags, _ = original.thin({name: first[name] for name in blocks.dtype.names})
        found["original"] = {k: v for k, v in tags.items() if v not in (0, 0.0, "", None, False)}
    metadata = {"mrc": found, "mode": _mode(found.get("original", {}))}
    return {key: value for key, value in metadata.items() if value}


def _mode(tags: dict[str, Any]) -> str:
    """Thermo Fisher counts instruments (TEM 1, STEM 2) and projections (diffraction 1, image 2)."""
    if tags.get("Instrument mode") == 2:
        return "STEM"
    if tags.get("Instrument mode") != 1:
        return ""
    return "diffraction" if tags.get("Projection mode") == 1 else "TEM"


def check(dtype: np.dtype[Any]) -> None:
    """Nothing.

    Raises:
      ValueError: MRC has no mode for the pixels.
    """
    if dtype.name not in (*DTYPES, "uint8"):
        raise ValueError(
            f"MRC holds no {dtype.name}, only {', '.join(DTYPES)}: name the output .tif or .hspy"
        )


def write(path: Path, contents: Contents) -> None:
    """Nothing; the file then holds the micrograph. uint8 becomes uint16: MRC has no such mode.

    Raises:
      FormatError: mrcfile is not installed.
      ValueError: MRC has no mode for the pixels, or the metadata is not JSON.
    """
    check(contents.pixels.dtype)
    mrcfile = extras.load("mrcfile")
    pixels, size, unit, metadata = contents
    known = _mapping(metadata.get("mrc"))
    extended = record.text(contents).encode("ascii")
    dtype = np.dtype(np.uint16) if pixels.dtype == np.uint8 else pixels.dtype
    options = {
        "mrc_mode": _MODES[dtype.name],
        "extended_header": np.frombuffer(extended, "V1"),
        "exttyp": _EXTENDED,
    }
    made = functools.partial(mrcfile.new_mmap, str(path), pixels.shape, **options)
    with extras.quiet(), np.errstate(all="ignore"), made() as file:
        _fill(file, pixels)
        volume = _mapping(known.get("volume"))
        if pixels.ndim == 3 and volume:
            file.set_volume()
        elif pixels.ndim == 3:
            file.set_image_stack()
        high, wide = np.array(units.angstroms((size, unit)) or (0.0, 0.0), np.float32).tolist()
        is_held = math.isfinite(high) and math.isfinite(wide) and high > 0 and wide > 0
        slice_size = float(volume.get("slice") or wide)
        file.voxel_size = (wide, high, slice_size) if is_held else (0.0, 0.0, 0.0)
        _label(file, metadata, known.get("labels"))


def _fill(file: Any, pixels: np.ndarray) -> None:
    """Writes the pixels and their statistics frame by frame: they may be larger than memory."""
    sums = []
    stack = pixels.reshape(-1, *pixels.shape[-2:])
    for frame, place in zip(stack, file.data.reshape(stack.shape), strict=True):
        place[...] = frame
        wide = frame.astype(np.float64)
        sums.append((wide.min(), wide.max(), wide.mean(), np.square(wide).mean()))
    low, high, mean, square = np.transpose(sums)
    header = file.header
    header.dmin, header.dmax, header.dmean = low.min(), high.max(), mean.mean()
    header.rms = math.sqrt(max(square.mean() - mean.mean() ** 2, 0.0))


def _label(file: Any, metadata: dict[str, Any], labels: Any) -> None:
    """What was done, then the labels of the original, ASCII, as many as the header takes."""
    done = metadata.get("emd") or []
    lines = [f"emd: {step.get('model', '')}" for step in done if isinstance(step, dict)]
    lines += [str(label) for label in labels or []]
    file.header.nlabl = 0
    file.header.label[:] = b""
    for line in lines[:10]:
        text = line.encode("ascii", "replace").decode("ascii")[:_LABEL_CHARACTERS]
        file.add_label("".join(c if c.isprintable() else "?" for c in text))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}

"""Owns .zspy, HyperSpy's Zarr: version 2, in a folder or a ZIP archive, read chunk by chunk.

Read and written here, not by rosettasciio, which needs a zarr that newer Zarr files do not open
with. Written as one ZIP archive, compressed by zlib: a single file can be replaced at once.
"""

import contextlib
import itertools
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emd.data.calibration import Calibration
from emd.data.contents import Contents, FormatError
from emd.data.formats import extras, hspy, original, record, signal, units

_CHUNK_BYTES = 2**24
_ROOT = "Experiments"
_Get = Callable[[str], bytes | None]  # the bytes under a name, None where there are none


def is_zspy(path: Path) -> bool:
    """Whether a folder or ZIP archive holds HyperSpy's Zarr."""
    try:
        with _store(path) as (names, _):
            return any(name.startswith(f"{_ROOT}/") for name in names)
    except zipfile.BadZipFile:
        return False


@contextlib.contextmanager
def _store(path: Path) -> Iterator[tuple[list[str], _Get]]:
    """The names in a folder or archive, and a function that gives what is under one."""
    if path.is_dir():
        found = [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()]

        def get(name: str) -> bytes | None:
            file = path / name
            return file.read_bytes() if file.is_file() else None

        yield found, get
        return
    with zipfile.ZipFile(path) as archive:
        members = set(archive.namelist())
        yield sorted(members), lambda name: archive.read(name) if name in members else None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[list[signal.Signal]]:
    """The signals of a file while it is open.

    Raises:
      FormatError: it is not in version 2, is damaged, or needs a codec that is not installed.
    """
    with _store(path) as (names, get):
        found = [n.split("/") for n in names if n.startswith(f"{_ROOT}/")]
        groups = sorted({parts[1] for parts in found if parts[2:] == ["data", ".zarray"]})
        if not groups:
            raise FormatError("holds no array of Zarr version 2: save it with HyperSpy again")
        yield [
            _signal(names, get, f"{_ROOT}/{group}", name)
            for group, name in zip(groups, signal.unique(groups), strict=True)
        ]


def _signal(names: list[str], get: _Get, group: str, name: str) -> signal.Signal:
    array = json.loads(get(f"{group}/data/.zarray") or b"")
    shape, dtype = tuple(array["shape"]), np.dtype(array["dtype"])
    axes = [_attributes(get, f"{group}/axis-{k}") for k in range(len(shape))]
    images = [axis for axis in axes if not axis.get("navigate", False)]
    reason = ""
    if len(shape) >= 2 and len(images) < 2:
        reason = "is a spectrum image, a spectrum a pixel: sum it over energy first"
    known = units.pixel_size(None, None, "", "")
    if len(shape) >= 2:
        rows, columns = axes[-2], axes[-1]
        high, wide = (axis.get("scale") for axis in (rows, columns))
        known = units.pixel_size(
            None if high is None else abs(high),
            None if wide is None else abs(wide),
            rows.get("units"),
            columns.get("units"),
        )
    trees = {
        kind: _tree(names, get, f"{group}/{kind}") for kind in ("metadata", "original_metadata")
    }
    metadata = _metadata(trees, axes, name, known)
    ours = record.parse(trees["original_metadata"].get(record.NAME))
    if ours is not None:
        stated, known = known, record.settle(known, ours)
        metadata = original.settle_origin(ours["metadata"], axes, stated, known)
    return signal.Signal(
        name, shape, dtype, _loader(get, f"{group}/data", array), known, metadata, reason
    )


def _attributes(get: _Get, name: str) -> dict[str, Any]:
    return dict(json.loads(get(f"{name}/.zattrs") or b"{}"))


def _tree(names: list[str], get: _Get, group: str) -> dict[str, Any]:
    """The attributes of a group and those below it; arrays among them are passed over."""
    tree: dict[str, Any] = {}
    for name in names:
        if not name.startswith(f"{group}/") or not name.endswith("/.zattrs"):
            continue
        place = tree
        for part in name.removeprefix(f"{group}/").split("/")[:-1]:
            place = place.setdefault(part, {})
        place.update(json.loads(get(name) or b"{}"))
    return tree


def _metadata(
    trees: dict[str, dict[str, Any]], axes: list[dict[str, Any]], name: str, known: Calibration
) -> dict[str, Any]:
    acquired = original.acquisition(trees)
    kept, dropped = original.thin(trees["original_metadata"])
    tree, gone = original.thin(trees["metadata"])
    metadata = {
        "title": name,
        "mode": original.mode(trees, acquired, known[1]),
        "acquisition": acquired,
        "frames": original.frames(axes),
        "origin": original.origin(axes, known),
        "original": kept,
        "hyperspy": tree,
        "dropped": [*dropped, *(f"hyperspy.{path}" for path in gone)],
    }
    return {key: value for key, value in metadata.items() if value}


def _loader(get: _Get, name: str, array: dict[str, Any]) -> Callable[[int | None], np.ndarray]:
    shape, chunks = tuple(array["shape"]), tuple(array["chunks"])
    dtype, separator = np.dtype(array["dtype"]), array.get("dimension_separator", ".")
    filters = array.get("filters") or []

    def decode(data: bytes) -> np.ndarray:
        for codec in (array["compressor"], *reversed(filters)):
            if codec is not None:
                data = _decompress(data, codec)
        return np.frombuffer(data, dtype).reshape(chunks, order=array.get("order", "C"))

    def load(frame: int | None) -> np.ndarray:
        """Each chunk that the frame meets, into its place; a chunk not stored holds the fill."""
        first = () if frame is None else tuple(np.unravel_index(frame, shape[:-2]))
        wanted = [range(int(i), int(i) + 1) for i in first]
        wanted += [range(size) for size in shape[len(first) :]]
        fill = array.get("fill_value")
        pixels = np.full([len(r) for r in wanted], 0 if fill is None else fill, dtype)
        spans = [
            range(r.start // c, math.ceil(r.stop / c)) for r, c in zip(wanted, chunks, strict=True)
        ]
        for index in itertools.product(*spans):
            data = get(f"{name}/{separator.join(map(str, index))}")
            if data is None:
                continue
            source, target = [], []
            for k, c, r in zip(index, chunks, wanted, strict=True):
                low, high = max(k * c, r.start), min(k * c + c, r.stop)
                source.append(slice(low - k * c, high - k * c))
                target.append(slice(low - r.start, high - r.start))
            pixels[tuple(target)] = decode(data)[tuple(source)]
        return pixels.reshape(shape[len(first) :])

    return load


def _decompress(data: bytes, codec: dict[str, Any]) -> bytes:
    if codec["id"] == "zlib":
        return zlib.decompress(data)
    with extras.quiet():
        return bytes(extras.load("numcodecs").get_codec(codec).decode(data))


def write(path: Path, contents: Contents) -> None:
    """Nothing; the file then holds the micrograph, compressed without loss.

    Raises:
      ValueError: the metadata is not JSON.
    """
    described = hspy.metadata(contents)
    group = f"{_ROOT}/{described['General']['title'] or '__unnamed__'}"
    attributes: dict[str, Any] = {
        "": {"file_format": "ZSpy", "file_format_version": "3.3"},
        _ROOT: {},
        group: hspy.PACKAGE,
        f"{group}/original_metadata": {record.NAME: record.text(contents)},
        f"{group}/learning_results": {},
        f"{group}/attributes": {"_lazy": False, "ragged": False},
    }
    pixels, axes = hspy.layout(contents)
    attributes |= {f"{group}/axis-{k}": axis for k, axis in enumerate(axes)}
    attributes |= dict(_groups(f"{group}/metadata", described))
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in attributes.items():
            prefix = f"{name}/" if name else ""
            archive.writestr(f"{prefix}.zgroup", json.dumps({"zarr_format": 2}))
            archive.writestr(f"{prefix}.zattrs", json.dumps(values))
        _write_pixels(archive, f"{group}/data", pixels)


def _groups(name: str, tree: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A group a branch of the tree, with the leaves as its attributes."""
    yield name, {key: value for key, value in tree.items() if not isinstance(value, dict)}
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _groups(f"{name}/{key.replace('/', '-')}", value)


def _write_pixels(archive: zipfile.ZipFile, name: str, pixels: np.ndarray) -> None:
    """Strips of rows, of some 16 MB each, the last filled up as Zarr wants it."""
    height, width = pixels.shape[-2:]
    rows = max(1, min(height, _CHUNK_BYTES // (width * pixels.itemsize)))
    chunks = (*(1,) * (pixels.ndim - 2), rows, width)
    array = {
        "zarr_format": 2,
        "shape": pixels.shape,
        "chunks": chunks,
        "dtype": pixels.dtype.str,
        "compressor": {"id": "zlib", "level": 1},
        "fill_value": 0,
        "order": "C",
        "filters": None,
        "dimension_separator": ".",
    }
    archive.writestr(f"{name}/.zarray", json.dumps(array))
    for frame, start in itertools.product(np.ndindex(pixels.shape[:-2]), range(0, height, rows)):
        strip = np.zeros((rows, width), pixels.dtype)
        part = pixels[frame][start : start + rows]
        strip[: len(part)] = part
        index = (*frame, start // rows, 0)
        data = zlib.compress(strip.tobytes(), 1)
        archive.writestr(f"{name}/{'.'.join(map(str, index))}", data)

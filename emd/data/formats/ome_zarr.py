"""Owns Zarr: arrays in a folder, chunk by chunk, and OME-Zarr (NGFF), which says what they are.

Versions 2 and 3 are read, through the package zarr, from a folder or a ZIP archive of one. Of an
OME-Zarr image of several resolutions the full one counts. Written as OME-Zarr 0.5 (Zarr version 3):
a chunk a frame, large frames in squares, compressed by zstd; our record is among the attributes.
"""

import contextlib
import dataclasses
import itertools
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emd.data import tiff
from emd.data.calibration import NONE, Calibration
from emd.data.formats import extras, hspy, original, record, signal, units
from emd.data.tiff import Contents, FormatError

METADATA_FILES = ("zarr.json", ".zarray", ".zgroup")
LEVEL = "0"
"""Where the pixels of what we write lie."""

_CHUNK_PX = 1024
_WORDS = {
    "nm": "nanometer", "Å": "angstrom", "µm": "micrometer", "pm": "picometer", "mm": "millimeter",
    "cm": "centimeter", "m": "meter",
}  # fmt: skip
_MOST_AXES = 5  # of an OME-Zarr image
_DAMAGE = (*tiff.DAMAGE, OSError, zipfile.BadZipFile)


@dataclasses.dataclass(frozen=True, eq=False)
class Stored(signal.Signal):
    """A signal and the Zarr array that holds it.

    Attributes:
      array: `zarr.Array`; of all axes, where `shape` leaves out leading ones of length 1.
      has: whether a chunk is stored, by its key.
      image: what NGFF says of it: "axes", "coordinateTransformations"; empty for a bare array.
    """

    array: Any = None
    has: Callable[[str], bool] = lambda key: True
    image: dict[str, Any] = dataclasses.field(default_factory=dict)

    def region(self, place: tuple[slice, ...]) -> np.ndarray:
        """Part of the array, in native byte order.

        Raises:
          FormatError: a chunk of it is missing or damaged.
        """
        with _one_line():
            # Zarr takes a chunk that is not stored for one of the fill value: lost pixels would
            # come as zeros.
            grid = self.array.shards or self.array.chunks
            spans = [
                range(s.start // side, -(-s.stop // side))
                for s, side in zip(place, grid, strict=True)
            ]
            for index in itertools.product(*spans):
                key = self.array.metadata.encode_chunk_key(index)
                if not self.has(key):
                    raise FormatError(
                        f"chunk {key} of array {self.array.path or '/'} is missing: copy it again, "
                        "or, if it was left out as empty, save it with write_empty_chunks"
                    )
            pixels = np.asarray(self.array[place])
            return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except FormatError:
        raise
    except _DAMAGE as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise FormatError(f"truncated or damaged Zarr ({text}): copy it again") from None


def is_zarr(path: Path) -> bool:
    """Whether a folder or ZIP archive is Zarr, by what lies at its root."""
    if path.is_dir():
        return any((path / name).is_file() for name in METADATA_FILES)
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        return not set(METADATA_FILES).isdisjoint(archive.namelist())
    return False


@contextlib.contextmanager
def opened(path: Path) -> Iterator[list[Stored]]:
    """The signals of a Zarr while it is open, each named by where it lies; no pixel is read.

    Raises:
      FormatError: it is damaged, or zarr is not installed.
    """
    zarr = extras.load("zarr")
    with contextlib.ExitStack() as stack:
        with _one_line(), extras.quiet():
            if path.is_dir():
                store: Any = zarr.storage.LocalStore(path, read_only=True)
                names = None
            else:
                store = zarr.storage.ZipStore(path, mode="r")
                stack.callback(store.close)
                with zipfile.ZipFile(path) as archive:
                    names = frozenset(archive.namelist())
            node = zarr.open(store, mode="r")
            found = list(_signals(node, path, names))
        given = signal.unique([each.name for each in found])
        yield [dataclasses.replace(s, name=n) for s, n in zip(found, given, strict=True)]


def _signals(node: Any, path: Path, names: frozenset[str] | None) -> Iterator[Stored]:
    """Those of a node and what lies below it; labels and smaller copies of an image are not."""
    if not hasattr(node, "members"):
        yield _stored(node, path, names, node.path, dict(node.attrs), {}, "")
        return
    attributes = dict(node.attrs)
    ome = attributes.get("ome") or attributes  # NGFF 0.5, and before
    images = ome.get("multiscales") or []
    for image in images:
        array = node[image["datasets"][0]["path"]]
        title = str(image.get("name") or "").strip("/")
        yield _stored(array, path, names, title or node.path, attributes, image, title)
    if not images:
        for _, child in sorted(node.members()):
            yield from _signals(child, path, names)


def _stored(
    array: Any,
    path: Path,
    names: frozenset[str] | None,
    name: str,
    attributes: dict[str, Any],
    image: dict[str, Any],
    title: str,
) -> Stored:
    def has(key: str) -> bool:
        full = f"{array.path}/{key}" if array.path else key
        return (path / full).is_file() if names is None else full in names

    shape = tuple(array.shape)
    placed = _placed(image, len(shape))
    ours = record.parse(attributes.get(record.NAME))
    known, reason = _calibration(placed)
    if ours is not None:
        known, metadata = record.settle(known, ours), ours["metadata"]
    else:
        metadata = _metadata(title, attributes, placed, known[1])
        if len(shape) > 2 and set(shape[:-2]) == {1}:
            shape = shape[-2:]  # other programs always write five axes
    stored = Stored(
        name, shape, np.dtype(array.dtype), _none, known, metadata, reason, array, has, placed
    )
    return dataclasses.replace(stored, load=_loader(stored))


def _none(frame: int | None) -> np.ndarray:
    raise NotImplementedError


def _loader(stored: Stored) -> Callable[[int | None], np.ndarray]:
    full = tuple(stored.array.shape)

    def load(frame: int | None) -> np.ndarray:
        """The chunks that the frame meets, and no others."""
        if frame is None:
            return stored.region(tuple(slice(0, s) for s in full)).reshape(stored.shape)
        first = np.unravel_index(frame, full[:-2])
        place = (*(slice(int(i), int(i) + 1) for i in first), *(slice(0, s) for s in full[-2:]))
        return stored.region(place).reshape(full[-2:])

    return load


# --- what NGFF says --------------------------------------------------------------------------


def _placed(image: Mapping[str, Any], dimensions: int) -> dict[str, Any]:
    """The axes, scale and offset of the full resolution; empty where NGFF says none.

    Before 0.4 it had no scale, and axes, if at all, as letters.
    """
    axes = image.get("axes") or []
    if len(axes) != dimensions or not all(isinstance(axis, dict) for axis in axes):
        return {}
    scale, offset = [1.0] * dimensions, [0.0] * dimensions
    for change in (
        *image["datasets"][0].get("coordinateTransformations", []),
        *image.get("coordinateTransformations", []),
    ):
        if change.get("type") == "scale":
            scale = [a * float(b) for a, b in zip(scale, change["scale"], strict=True)]
            offset = [a * float(b) for a, b in zip(offset, change["scale"], strict=True)]
        elif change.get("type") == "translation":
            offset = [a + float(b) for a, b in zip(offset, change["translation"], strict=True)]
    return {"axes": axes, "scale": scale, "offset": offset}


def _calibration(placed: Mapping[str, Any]) -> tuple[Calibration, str]:
    """Size of a pixel and its unit, and why the array holds no images, if it does not."""
    if not placed:
        return NONE, ""
    rows, columns = placed["axes"][-2:]
    if "channel" in (rows.get("type"), columns.get("type")):
        return NONE, f"ends in the axes {rows.get('name')}, {columns.get('name')}: want y, x"
    high, wide = placed["scale"][-2:]
    return units.pixel_size(high, wide, rows.get("unit"), columns.get("unit")), ""


def _metadata(
    title: str, attributes: dict[str, Any], placed: Mapping[str, Any], unit: str
) -> dict[str, Any]:
    kept, dropped = original.thin(attributes)
    axes = [
        {"name": a.get("name"), "scale": s, "offset": o, "units": a.get("unit")}
        for a, s, o in zip(*(placed.get(k, []) for k in ("axes", "scale", "offset")), strict=True)
    ]
    trees: dict[str, dict[str, Any]] = {"metadata": {}, "original_metadata": kept}
    metadata = {
        "title": title,
        "mode": original.mode(trees, {}, unit),
        "frames": original.frames(axes),
        "original": kept,
        "dropped": dropped,
    }
    return {key: value for key, value in metadata.items() if value}


# --- writing ---------------------------------------------------------------------------------


def write(path: Path, contents: Contents) -> None:
    """Nothing; the path is then a folder that holds the micrograph, compressed without loss.

    Raises:
      FormatError: zarr is not installed.
      ValueError: the metadata is not JSON.
    """
    pixels, _ = hspy.layout(contents)
    if pixels.ndim > _MOST_AXES:
        pixels = contents.pixels
    place = placing(pixels.shape, contents)
    chunks = (*(1,) * (pixels.ndim - 2), *(min(side, _CHUNK_PX) for side in pixels.shape[-2:]))
    path.mkdir()
    array = create(path, pixels.shape, pixels.dtype, chunks, None, place)
    with extras.quiet():
        for index in np.ndindex(pixels.shape[:-2]):
            array[index] = pixels[index]
    describe(path, contents, place)


def placing(shape: tuple[int, ...], contents: Contents) -> dict[str, Any]:
    """Axes, scale and offset of pixels of a shape of up to five axes, as NGFF has them.

    A stack runs along z where its step is known as a length, else along t: NGFF knows no other.
    """
    high, wide = contents.pixel_size or (1.0, 1.0)
    names = {3: ["t"], 4: ["t", "c"], 5: ["t", "c", "z"]}.get(len(shape), [])
    kinds = {"t": "time", "c": "channel", "z": "space"}
    axes: list[dict[str, Any]] = [{"name": n, "type": kinds[n]} for n in names]
    scale = [1.0] * len(names)
    known = contents.metadata.get("frames")
    if len(names) == 1 and isinstance(known, list) and len(known) == 1:
        step, unit = known[0].get("scale"), units.spell(known[0].get("units"))
        if unit in _WORDS and isinstance(step, int | float) and step > 0:
            axes = [{"name": "z", "type": "space", "unit": _WORDS[unit]}]
            scale = [float(step)]
    for name in "yx":
        axes.append({"name": name, "type": "space"})
        if contents.pixel_size and contents.unit:
            unit = units.spell(contents.unit)
            axes[-1]["unit"] = _WORDS.get(unit, contents.unit)
    return {"axes": axes, "scale": [*scale, high, wide], "offset": [0.0] * len(axes)}


def create(
    folder: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None,
    place: Mapping[str, Any],
) -> Any:
    """The array of an image in a folder that is there, each chunk to be stored, even an empty one.

    Raises:
      FormatError: zarr is not installed.
    """
    zarr = extras.load("zarr")
    with extras.quiet():
        return zarr.create_array(
            folder,
            name=LEVEL,
            shape=shape,
            dtype=dtype,
            chunks=chunks,
            shards=shards,
            fill_value=0,
            dimension_names=[axis["name"] for axis in place["axes"]],
            config={"write_empty_chunks": True},
        )


def describe(
    folder: Path, contents: Contents, place: Mapping[str, Any], more: Mapping[str, Any] | None = None
) -> None:
    """Nothing; the folder is then an OME-Zarr image of the array in it, with our record.

    Raises:
      ValueError: the metadata is not JSON.
    """
    text = record.text(contents)
    title = contents.metadata.get("title")
    changes: list[dict[str, Any]] = [{"type": "scale", "scale": place["scale"]}]
    if any(place["offset"]):
        changes.append({"type": "translation", "translation": place["offset"]})
    image = {
        "name": title if isinstance(title, str) and title else "image",
        "axes": place["axes"],
        "datasets": [{"path": LEVEL, "coordinateTransformations": changes}],
    }
    group = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {
            "ome": {"version": "0.5", "multiscales": [image], **(more or {})},
            record.NAME: text,
        },
    }
    (folder / "zarr.json").write_text(json.dumps(group, indent=2), encoding="ascii")


def chunk_file(folder: Path, array: Any, index: tuple[int, ...]) -> Path:
    """The file of a chunk, or shard, of what `create` made."""
    return folder / LEVEL / array.metadata.encode_chunk_key(index)


def frames(shape: tuple[int, ...]) -> int:
    """How many images an array of a shape holds."""
    return math.prod(shape[:-2])

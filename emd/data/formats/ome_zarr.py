"""Owns Zarr: arrays in a folder, chunk by chunk, and OME-Zarr (NGFF), which says what they are.

Versions 2 and 3 are read, through the package zarr, from a folder or a ZIP archive of one. Of an
OME-Zarr image of several resolutions the full one counts. Written as OME-Zarr 0.5 (Zarr version 3):
a chunk a frame, large frames in squares, compressed by zstd; our record is among the attributes.
"""

import contextlib
import dataclasses
import itertools
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emd.data import tiff
from emd.data.contents import Contents, FormatError
from emd.data.formats import extras, hspy, ngff, original, record, signal

METADATA_FILES = ("zarr.json", ".zarray", ".zgroup")
_CHUNK_PX = 1024
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
    except MemoryError as error:
        raise FormatError(tiff.explain(error)) from None
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
    placed = ngff.placed(image, len(shape))
    ours = record.parse(attributes.get(record.NAME))
    known, reason = ngff.calibration_of(placed)
    if ours is not None:
        stated, known = known, record.settle(known, ours)
        metadata = original.settle_origin(ours["metadata"], ngff.axes_of(placed), stated, known)
    else:
        metadata = ngff.metadata_of(title, attributes, placed, known)
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
    place = ngff.placing(pixels.shape, contents)
    chunks = (*(1,) * (pixels.ndim - 2), *(min(side, _CHUNK_PX) for side in pixels.shape[-2:]))
    path.mkdir()
    array = create(path, pixels.shape, pixels.dtype, chunks, None, place)
    with extras.quiet():
        for index in np.ndindex(pixels.shape[:-2]):
            array[index] = pixels[index]
    ngff.describe(path, contents, place)


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
            name=ngff.LEVEL,
            shape=shape,
            dtype=dtype,
            chunks=chunks,
            shards=shards,
            fill_value=0,
            dimension_names=[axis["name"] for axis in place["axes"]],
            config={"write_empty_chunks": True},
        )


def array_of(folder: Path) -> Any:
    """The array of an image that `create` made, to write to."""
    zarr = extras.load("zarr")
    with extras.quiet(), zarr.config.set({"array.write_empty_chunks": True}):
        return zarr.open_array(folder / ngff.LEVEL, mode="r+")


def chunk_file(folder: Path, array: Any, index: tuple[int, ...]) -> Path:
    """The file of a chunk, or shard, of what `create` made."""
    return folder / ngff.LEVEL / array.metadata.encode_chunk_key(index)

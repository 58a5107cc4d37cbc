"""Owns streams as a whole: micrographs in, .emdz out, and back."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import emd
from emd.codec import container, decoders, plans
from emd.codec.container import Header, Readable, Reader, Writable
from emd.codec.frames import Frames, Given
from emd.codec.settings import LAPPED, Settings, check
from emd.data.contents import FormatError, check_frame, check_pixels
from emd.data.micrograph import Micrograph
from emd.memory import free_bytes

Region = tuple[int, int, int, int]


def compress(micrograph: Micrograph, settings: Settings = Settings()) -> bytes:  # noqa: B008
    """The stream of a micrograph or stack.

    Raises:
      ValueError: settings that make no sense, or that no stream meets.
    """
    file = io.BytesIO()
    compress_to(file, _InMemory(micrograph), settings)
    return file.getvalue()


class _InMemory:
    """A micrograph, as files give theirs."""

    def __init__(self, micrograph: Micrograph) -> None:
        self.shape, self.dtype = micrograph.pixels.shape, micrograph.dtype
        self.calibration = micrograph.pixel_size, micrograph.unit
        self.metadata = micrograph.metadata
        self._stack = micrograph.pixels.reshape(-1, *self.shape[-2:])

    def __getitem__(self, part: slice) -> np.ndarray:
        return self._stack[part]


def compress_to(file: Writable, given: Given, settings: Settings) -> None:
    """Nothing; the file then holds the stream of what is given, read and written frame by frame.

    Args:
      file: where to write.
      given: pixels and what is known of them, as `emd.data.micrograph.opened` gives them.
      settings: how.

    Raises:
      ValueError: settings that make no sense, or that no stream meets.
      OSError: what the file raises.
    """
    check(settings)
    frames = Frames(given, _denoiser(settings.denoise))
    # what the header takes but for the coder's parameters
    weights = f"{settings.model or LAPPED}-v1", "0" * 16
    bare = Header(
        "lattice", 1, given.shape, given.dtype.name, 512, weights, b"",
        *given.calibration, given.metadata, f"emd {emd.__version__}",
    )  # fmt: skip
    if settings.is_exact:
        plan = plans.exact(frames, settings)
    else:
        plan = plans.lossy(frames, settings, container.overhead(bare))
    header = bare._replace(
        coder=plan.name,
        coder_version=plan.version,
        block_px=plan.block_px,
        weights=plan.weights,
        parameters=plan.parameters,
    )

    def chunks() -> Iterator[bytes]:
        for frame in frames:
            yield from plans.all_chunks(plan, frame.pixels, frame.to_bytes())

    container.write(file, header, chunks())


def _denoiser(name: str | None) -> Callable[[np.ndarray], np.ndarray] | None:
    """What restores a frame."""
    if name is None:
        return None
    from emd import checkpoint
    from emd.fit import fit
    from emd.restore import denoise

    if name != "fit":
        model = checkpoint.load(name)
        return lambda pixels: denoise(pixels, model)

    def fitted(pixels: np.ndarray) -> np.ndarray:
        found = fit(pixels, name="fit")
        if found.verdict == "do not use":
            raise ValueError(f"a fitted kernel would do harm ({found.reason}): do not denoise")
        return denoise(pixels, found.model)

    return fitted


def decompress(
    data: bytes | Readable, *, region: Region | None = None, frame: int | None = None
) -> Micrograph:
    """The micrograph of a stream, or part of it: no more is read than that needs.

    Args:
      data: the stream, or a file of it.
      region: y0, y1, x0, x1 of the pixels wanted; all without.
      frame: which of a stack; all without.

    Raises:
      FormatError: the stream is damaged, or needs weights that are not here.
      ValueError: there is no such region, or it is so narrow that no micrograph can be.
      MemoryError: the pixels do not fit into the memory that is free.
    """
    reader = Reader(io.BytesIO(data) if isinstance(data, bytes) else data)
    header = reader.header
    if frame is not None:
        check_frame(frame, header.frames)
    y0, y1, x0, x1 = region = _checked(region, (header.shape[-2], header.shape[-1]))
    chosen = range(header.frames) if frame is None else range(frame, frame + 1)
    dtype = np.dtype(header.dtype)
    due = len(chosen) * (y1 - y0) * (x1 - x0) * dtype.itemsize
    if due > free_bytes():
        raise FormatError(
            f"holds {due} bytes of pixels, more than the {free_bytes()} of memory that are free: "
            "ask for a region or a frame"
        )
    decoder = decoders.find(header)
    pixels = np.empty((len(chosen), y1 - y0, x1 - x0), dtype)
    for place, number in enumerate(chosen):
        pixels[place] = decoder.frame(functools.partial(reader.chunk, number), region)
    is_stack = len(header.shape) == 3 and frame is None
    laid = pixels if is_stack else pixels[0]
    check_pixels(laid)  # a stack so thin may be taken for colour: it is none
    try:
        return Micrograph(laid, header.pixel_size, header.unit, _metadata(reader, region))
    except ValueError as error:
        raise FormatError(f"is damaged: {error}") from None


def _checked(region: Region | None, shape: tuple[int, int]) -> Region:
    height, width = shape
    if region is None:
        return 0, height, 0, width
    y0, y1, x0, x1 = region
    if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
        raise ValueError(
            f"region {y0}:{y1},{x0}:{x1} is not in the image: rows are 0:{height}, "
            f"columns 0:{width}"
        )
    return region


def _metadata(reader: Reader, region: Region) -> dict[str, Any]:
    """What is known of the micrograph, with what the stream did to it."""
    header = reader.header
    step: dict[str, Any] = {"model": f"emdz {header.coder}", "version": emd.__version__}
    if header.weights is not None:
        step["weights"] = header.weights[1]
    step["compressed_bytes"] = reader.size
    if region != (0, header.shape[-2], 0, header.shape[-1]):
        step["region"] = list(region)
    before = header.metadata.get("emd", [])
    return {**header.metadata, "emd": [*(before if isinstance(before, list) else [before]), step]}


def describe(data: bytes | Readable) -> dict[str, Any]:
    """What a stream says of itself, as JSON holds it; no pixel is decoded.

    Raises:
      FormatError: it is damaged.
    """
    reader = Reader(io.BytesIO(data) if isinstance(data, bytes) else data)
    header = reader.header
    count = math.prod(header.shape)
    raw = count * np.dtype(header.dtype).itemsize
    facts: dict[str, Any] = {
        "format": "emdz",
        "coder": header.coder,
        "shape": list(header.shape),
        "dtype": header.dtype,
        "bytes": reader.size,
        "bits_per_pixel": 8 * reader.size / count,
        "ratio": raw / reader.size,
        "software": header.software,
        "settings": decoders.settings(header),
        "metadata": header.metadata,
    }
    if header.weights is not None:
        facts["weights"] = {"name": header.weights[0], "fingerprint": header.weights[1]}
    if header.pixel_size is not None:
        facts |= {"pixel_size": list(header.pixel_size), "unit": header.unit}
    return facts

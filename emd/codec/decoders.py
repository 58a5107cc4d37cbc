"""Owns the way from a header to what decodes its chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Shaped

from emd.codec import floats, lapped_coder, lapped_weights, lattice_coder
from emd.codec.container import Header
from emd.codec.frames import put_back
from emd.codec.varints import Fields
from emd.data.contents import FormatError
from emd.threads import share

Region = tuple[int, int, int, int]
Chunk = Callable[[int], bytes]


@runtime_checkable
class Decoder(Protocol):
    """What decodes the frames of a stream."""

    def frame(self, chunk: Chunk, region: Region) -> Shaped[np.ndarray, "h w"]:
        """A region of a frame, whose chunks are asked for by number: 0 is its own."""


def find(header: Header) -> Decoder:
    """The decoder of a stream.

    Raises:
      FormatError: this version knows none, its parameters are damaged, or weights are missing.
    """
    if (header.coder, header.coder_version) not in _KNOWN:
        raise FormatError(
            f"is coded by {header.coder} of version {header.coder_version}, which this emd does "
            "not know: update it (pip install -U emd-micrograph)"
        )
    if header.block_px != lapped_coder.BLOCK_PX:
        raise FormatError(f"is damaged: blocks of {header.block_px} pixels: get the file anew")
    return _KNOWN[header.coder, header.coder_version](header)


def settings(header: Header) -> dict[str, Any]:
    """How a stream was coded, as JSON holds it; empty where that is not known."""
    if (header.coder, header.coder_version) == (lapped_coder.NAME, lapped_coder.VERSION):
        how = lapped_coder.from_bytes(header.parameters)
        return {"transform_px": how.side, "step_counts": how.step}
    if (header.coder, header.coder_version) == (lattice_coder.NAME, lattice_coder.VERSION):
        found = lattice_coder.from_bytes(header.parameters, np.dtype(header.dtype)).levels
        is_lossless = found.step == 1
        bound = found.step / 2 if found.is_float else (found.step - 1) // 2
        return {"lossless": True} if is_lossless else {"max_error_counts": bound}
    if header.coder == "latents":
        from emd.codec import latent_plan

        return latent_plan.settings(header.parameters)
    return {"lossless": True} if header.coder == floats.NAME else {}


class _Framed:
    """What all decoders have in common: the frame's own chunk, and what is not finite."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._shape = header.shape[-2], header.shape[-1]
        self._dtype = np.dtype(header.dtype)

    def frame(self, chunk: Chunk, region: Region) -> Shaped[np.ndarray, "h w"]:
        unfinite, side = b"", b""
        if own := chunk(0):
            fields = Fields(own)
            unfinite, side = fields.counted(), fields.rest()
        pixels = self._pixels(lambda index: chunk(1 + index), side, region)
        put_back(unfinite, pixels, region, self._shape[1])
        return pixels

    def _pixels(self, chunk: Chunk, side: bytes, region: Region) -> Shaped[np.ndarray, "h w"]:
        raise NotImplementedError

    def _in_counts(self, pixels: Float[np.ndarray, "h w"]) -> Shaped[np.ndarray, "h w"]:
        """Pixels in their type: rounded, and brought to its ends."""
        if self._dtype.kind == "f":
            limits = np.finfo(self._dtype)
            return pixels.clip(float(limits.min), float(limits.max)).astype(self._dtype)
        bounds = np.iinfo(self._dtype)
        return np.rint(pixels).clip(bounds.min, bounds.max).astype(self._dtype)


class _Blocks(_Framed):
    """Decoders whose blocks hold pixels."""

    def _block(self, data: bytes, shape: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
        raise NotImplementedError

    def _pixels(self, chunk: Chunk, side: bytes, region: Region) -> Shaped[np.ndarray, "h w"]:
        if side:
            raise FormatError("a frame is damaged: get the file anew")
        y0, y1, x0, x1 = region
        size = self._header.block_px
        (height, width), across = self._shape, -(-self._shape[1] // size)
        pixels = np.empty((y1 - y0, x1 - x0), self._dtype)

        def one(place: tuple[int, int]) -> None:
            top, left = size * place[0], size * place[1]
            shape = min(size, height - top), min(size, width - left)
            block = self._block(data[place], shape)
            rows = max(top, y0), min(top + shape[0], y1)
            columns = max(left, x0), min(left + shape[1], x1)
            pixels[rows[0] - y0 : rows[1] - y0, columns[0] - x0 : columns[1] - x0] = block[
                rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left
            ]

        places = [
            (i, j)
            for i in range(y0 // size, -(-y1 // size))
            for j in range(x0 // size, -(-x1 // size))
        ]
        # the file has one place: it is read by one thread
        data = {place: chunk(place[0] * across + place[1]) for place in places}
        share(one, places)
        return pixels


class _Lattice(_Blocks):
    def __init__(self, header: Header) -> None:
        super().__init__(header)
        self._coder = lattice_coder.from_bytes(header.parameters, self._dtype)

    def _block(self, data: bytes, shape: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
        return self._coder.decode(data, shape, self._dtype)


class _Bytes(_Blocks):
    def __init__(self, header: Header) -> None:
        super().__init__(header)
        if header.parameters:
            raise FormatError("parameters are damaged: get the file anew")

    def _block(self, data: bytes, shape: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
        return floats.decode(data, shape, self._dtype)


class _Lapped(_Framed):
    def __init__(self, header: Header) -> None:
        super().__init__(header)
        self._how = lapped_coder.from_bytes(header.parameters)
        if header.weights is None:
            raise FormatError("names no weights: get the file anew")
        self._known = lapped_weights.find(*header.weights).known[self._how.side]

    def _pixels(self, chunk: Chunk, side: bytes, region: Region) -> Shaped[np.ndarray, "h w"]:
        if side:
            raise FormatError("a frame is damaged: get the file anew")
        return self._in_counts(
            lapped_coder.decode(chunk, self._shape, self._how, self._known, region)
        )


class _Latents(_Framed):
    def __init__(self, header: Header) -> None:
        from emd.codec import latent_plan

        super().__init__(header)
        self._plan = latent_plan.from_header(header)

    def _pixels(self, chunk: Chunk, side: bytes, region: Region) -> Shaped[np.ndarray, "h w"]:
        return self._in_counts(self._plan.decode(chunk, side, self._shape, region))


_KNOWN: dict[tuple[str, int], Callable[[Header], Decoder]] = {
    (lattice_coder.NAME, lattice_coder.VERSION): _Lattice,
    (floats.NAME, floats.VERSION): _Bytes,
    (lapped_coder.NAME, lapped_coder.VERSION): _Lapped,
    ("latents", 1): _Latents,
}

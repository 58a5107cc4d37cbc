"""Owns how frames are coded: for what was asked, which coder, with which parameters.

A plan turns each frame into its side information and the chunks of its blocks. Lossy ones look for
the step at which the stream is what was asked for: on some of the pixels first, then on all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from emd.codec import floats, lattice_coder, levels
from emd.codec.frames import Frames
from emd.codec.settings import LAPPED, Settings
from emd.codec.varints import pack_bytes
from emd.threads import share

_SAMPLED = 4  # frames that parameters are fitted to

Chunks = tuple[bytes, Iterable[bytes]]


@runtime_checkable
class Plan(Protocol):
    """How frames are coded: what the header says of it, and the coding."""

    @property
    def name(self) -> str:
        """Of the coder."""

    @property
    def version(self) -> int:
        """Of the coder."""

    @property
    def block_px(self) -> int:
        """Side of the blocks."""

    @property
    def weights(self) -> tuple[str, str] | None:
        """Name and fingerprint of what the decoder needs beside the stream."""

    @property
    def parameters(self) -> bytes:
        """The coder's own, for the header."""

    def chunks(self, pixels: Shaped[np.ndarray, "h w"]) -> Chunks:
        """A frame's side information, and its blocks."""


def blocks(pixels: Shaped[np.ndarray, "h w"], side: int) -> list[Shaped[np.ndarray, "_ _"]]:
    """A frame in blocks, row by row."""
    height, width = pixels.shape
    return [
        pixels[top : top + side, left : left + side]
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


class Exact:
    """Pixels as they are, or within a bound: predicted where they can be counted."""

    name, version, block_px, weights = lattice_coder.NAME, lattice_coder.VERSION, 512, None

    def __init__(self, found: levels.Levels, frames: Frames) -> None:
        """Fits the coder to some of the frames."""
        sample = [b for frame in frames.some(_SAMPLED) for b in blocks(frame.pixels, self.block_px)]
        self._coder = lattice_coder.fit(found, sample)

    @property
    def parameters(self) -> bytes:
        """The coder's own, for the header."""
        return self._coder.to_bytes()

    def chunks(self, pixels: Shaped[np.ndarray, "h w"]) -> Chunks:
        """No side information, and the blocks."""
        return b"", share(self._coder.encode, blocks(pixels, self.block_px))


class Plain:
    """Pixels as they are, byte for byte."""

    name, version, block_px, weights = floats.NAME, floats.VERSION, 512, None
    parameters = b""

    def chunks(self, pixels: Shaped[np.ndarray, "h w"]) -> Chunks:
        """No side information, and the blocks."""
        return b"", share(floats.encode, blocks(pixels, self.block_px))


def exact(frames: Frames, settings: Settings) -> Plan:
    """The plan for pixels that come back as they were, or within a bound.

    Raises:
      ValueError: no coder keeps within it.
    """
    bound = 0.0 if settings.lossless else float(settings.max_error or 0)
    if frames.dtype.kind != "f":
        bound = float(np.floor(min(bound, 2.0**31)))
    given = frames if settings.max_error else _whole(frames)
    found = levels.survey((each.pixels for each in given), bound) if given is not None else None
    if found is not None:
        return Exact(found, frames)
    return Plain()


def _whole(frames: Frames) -> Frames | None:
    """The frames; None where a pixel is not finite, since all bits of it are to stay."""
    if frames.dtype.kind != "f":
        return frames
    return frames if all(frame.wrong is None for frame in frames) else None


def lossy(frames: Frames, settings: Settings, overhead: int) -> Plan:
    """The plan for streams whose errors are not bounded pixel by pixel.

    Args:
      frames: what is to be coded.
      settings: what is asked for.
      overhead: bytes of the stream beside parameters and chunks.

    Raises:
      ValueError: there is no such model, or it does not get there.
    """
    if settings.model in (None, LAPPED):
        from emd.codec import lapped_plan

        return lapped_plan.make(frames, settings, overhead)
    from emd.codec import latent_plan  # brings jax

    return latent_plan.make(frames, settings, overhead)


def size(plan: Plan, frames: Frames) -> int:
    """How many bytes the frames take, checksums and index included."""
    return sum(
        _stored(chunk)
        for frame in frames
        for chunk in all_chunks(plan, frame.pixels, frame.to_bytes())
    )


def _stored(chunk: bytes) -> int:
    # a checksum, and the length in the index
    return len(chunk) + 4 + len(f"{len(chunk):b}") // 7 + 1 if chunk else 1


def all_chunks(plan: Plan, pixels: Shaped[np.ndarray, "h w"], unfinite: bytes) -> Iterator[bytes]:
    """The chunks of a frame in the order of the container: its own, then those of its blocks."""
    side, chunks = plan.chunks(pixels)
    yield pack_bytes(unfinite) + side if unfinite or side else b""
    yield from chunks

"""Owns the coder `bytes`: pixels as they are, their bytes sorted by place, then Zstandard.

For floats that are no whole numbers, and integers that range too far for the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import zstandard
from jaxtyping import Shaped

from emd.data.contents import FormatError

NAME = "bytes"
VERSION = 1
_LEVEL = 9


def encode(block: Shaped[np.ndarray, "h w"]) -> bytes:
    """A block as a chunk: of each pixel the lowest byte, then of each the next."""
    little = np.ascontiguousarray(block, block.dtype.newbyteorder("<"))
    planes = little.view(np.uint8).reshape(-1, little.itemsize).T
    return zstandard.ZstdCompressor(level=_LEVEL).compress(planes.tobytes())


def decode(chunk: bytes, shape: tuple[int, int], dtype: np.dtype[Any]) -> Shaped[np.ndarray, "h w"]:
    """The block of a shape that a chunk holds.

    Raises:
      FormatError: it holds none.
    """
    size = shape[0] * shape[1] * dtype.itemsize
    try:
        # the size that a frame of Zstandard claims is checked before memory is taken for it
        if zstandard.frame_content_size(chunk) != size:
            raise FormatError("a block is damaged: get the file anew")
        data = zstandard.ZstdDecompressor().decompress(chunk, max_output_size=size)
    except zstandard.ZstdError:
        raise FormatError("a block is damaged: get the file anew") from None
    planes = np.frombuffer(data, np.uint8).reshape(dtype.itemsize, -1)
    pixels = np.ascontiguousarray(planes.T).view(dtype.newbyteorder("<"))
    return pixels.reshape(shape).astype(dtype)

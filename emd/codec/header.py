"""Owns what the header of a stream says, and its bytes: see FORMAT.md."""

import json
import math
import struct
import zlib
from typing import Any, NamedTuple

from emd.codec.varints import LIMIT, Fields, pack, pack_bytes, pack_text
from emd.data.contents import DTYPES, FormatError

MAX_BYTES = 2**26
"""Of a header, however much memory there is."""

MAX_BLOCK_PX = 65536
_MAX_JSON_BYTES = 2**24  # lists of nothing take twenty times as much memory as their text
_IS_STACK, _HAS_WEIGHTS, _HAS_SIZE, _IS_SQUARE, _HAS_UNIT, _HAS_METADATA = (
    1 << k for k in range(6)
)
_ALL_FLAGS = 2 * _HAS_METADATA - 1


class Header(NamedTuple):
    """What is known of a stream before a pixel is decoded.

    Attributes:
      coder: what the chunks are coded with; its name.
      coder_version: of the coder, from 1.
      shape: of the pixels, (h, w) or (n, h, w).
      dtype: of the pixels, one of `emd.data.contents.DTYPES`.
      block_px: side of the blocks that decode independently of each other.
      weights: name and fingerprint (16 hexadecimal digits) of the model that decodes, if any.
      parameters: the coder's own, in its own format.
      pixel_size: height and width of a pixel in `unit`; None where not known.
      unit: of `pixel_size`.
      metadata: what else is known of the micrograph, as JSON holds it.
      software: what wrote the stream.
    """

    coder: str
    coder_version: int
    shape: tuple[int, ...]
    dtype: str
    block_px: int
    weights: tuple[str, str] | None
    parameters: bytes
    pixel_size: tuple[float, float] | None
    unit: str
    metadata: dict[str, Any]
    software: str

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return self.shape[0] if len(self.shape) == 3 else 1

    @property
    def blocks(self) -> int:
        """How many blocks a frame has."""
        height, width = self.shape[-2:]
        return -(-height // self.block_px) * -(-width // self.block_px)

    @property
    def chunks(self) -> int:
        """How many chunks the stream has: of each frame its own, and those of its blocks."""
        return self.frames * (1 + self.blocks)


def check(header: Header) -> None:
    """Nothing.

    Raises:
      ValueError: no stream can have this header.
    """
    if not header.coder or not 0 < header.coder_version < LIMIT:
        raise ValueError(f"coder {header.coder!r} of version {header.coder_version} is none")
    if header.dtype not in DTYPES:
        raise ValueError(f"pixels of type {header.dtype} are none of " + ", ".join(DTYPES))
    if len(header.shape) not in (2, 3) or not all(side > 0 for side in header.shape):
        raise ValueError(f"pixels of shape {header.shape} are neither (h, w) nor (n, h, w)")
    if math.prod(header.shape) * 8 >= LIMIT:
        raise ValueError(f"pixels of shape {header.shape} are more than any memory holds")
    if not 1 <= header.block_px <= MAX_BLOCK_PX:
        raise ValueError(
            f"blocks of {header.block_px} pixels: from 1 to {MAX_BLOCK_PX} are allowed"
        )
    if header.weights is not None and not header.weights[0]:
        raise ValueError("weights without a name")
    size = header.pixel_size
    if size is not None and not all(math.isfinite(side) and side > 0 for side in size):
        raise ValueError(f"pixel size {size} is not two positive numbers")


def write(header: Header) -> bytes:
    """The header's bytes, without what frames them.

    Raises:
      ValueError: no stream can have this header, or it is too large.
    """
    check(header)
    flags = _IS_STACK * (len(header.shape) == 3)
    optional = b""
    if header.weights is not None:
        name, fingerprint = header.weights
        flags |= _HAS_WEIGHTS
        optional += pack_text(name) + _digest(fingerprint)
    if header.pixel_size is not None:
        high, wide = header.pixel_size
        flags |= _HAS_SIZE | _IS_SQUARE * (high == wide)
        optional += struct.pack("<d", high) + (b"" if high == wide else struct.pack("<d", wide))
    if header.unit:
        flags |= _HAS_UNIT
        optional += pack_text(header.unit)
    metadata = b""
    if header.metadata:
        flags |= _HAS_METADATA
        metadata = _deflate(header.metadata)
    fields = [
        bytes([flags, DTYPES.index(header.dtype)]),
        *map(pack, (*header.shape, header.block_px)),
        pack_text(header.coder),
        pack(header.coder_version),
        pack_bytes(header.parameters),
        pack_text(header.software),
        optional,
        metadata,
    ]
    data = b"".join(fields)
    if len(data) > MAX_BYTES:
        raise ValueError(f"the header has {len(data)} bytes, at most {MAX_BYTES} are allowed")
    return data


def _digest(fingerprint: str) -> bytes:
    try:
        data = bytes.fromhex(fingerprint)
    except ValueError:
        data = b""
    if len(data) != 8 or data.hex() != fingerprint:
        raise ValueError(f"weights' fingerprint {fingerprint!r} is not 16 hexadecimal digits")
    return data


def _deflate(metadata: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(metadata, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"metadata is not JSON ({error}): keep text and numbers") from None
    if len(text) > _MAX_JSON_BYTES:
        raise ValueError(
            f"metadata of {len(text)} bytes: at most {_MAX_JSON_BYTES} go into a stream, drop some"
        )
    compressor = zlib.compressobj(9, wbits=-15)
    return compressor.compress(text) + compressor.flush()


def parse(data: bytes) -> Header:
    """The header that these bytes hold.

    Raises:
      FormatError: they hold none.
    """
    fields = Fields(data)
    flags, code = fields.take(2)
    if flags > _ALL_FLAGS or code >= len(DTYPES):
        raise FormatError(f"is damaged: header's flags {flags} with pixels of type {code}")
    shape = tuple(fields.number() for _ in range(3 if flags & _IS_STACK else 2))
    block_px, coder, version = fields.number(), fields.text(), fields.number()
    parameters, software = fields.counted(), fields.text()
    weights = size = None
    unit, metadata = "", {}
    if flags & _HAS_WEIGHTS:
        weights = fields.text(), fields.take(8).hex()
    if flags & _IS_SQUARE and not flags & _HAS_SIZE:
        raise FormatError("is damaged: square pixels without a size")
    if flags & _HAS_SIZE:
        (high,) = struct.unpack("<d", fields.take(8))
        (wide,) = (high,) if flags & _IS_SQUARE else struct.unpack("<d", fields.take(8))
        size = high, wide
    if flags & _HAS_UNIT:
        unit = fields.text()
    if flags & _HAS_METADATA:
        metadata = _inflate(fields.rest())
    fields.end()
    header = Header(
        coder, version, shape, DTYPES[code], block_px,
        weights, parameters, size, unit, metadata, software,
    )  # fmt: skip
    try:
        check(header)
    except ValueError as error:
        raise FormatError(f"is damaged: {error}") from None
    return header


def _inflate(data: bytes) -> dict[str, Any]:
    decompressor = zlib.decompressobj(-15)
    try:
        text = decompressor.decompress(data, _MAX_JSON_BYTES + 1)
        metadata = json.loads(text[:_MAX_JSON_BYTES].decode())
    except (zlib.error, RecursionError):
        raise FormatError("is damaged: metadata cannot be unpacked") from None
    except ValueError as error:
        raise FormatError(f"is damaged: metadata is not JSON ({error})") from None
    if len(text) > _MAX_JSON_BYTES or not decompressor.eof or decompressor.unused_data:
        raise FormatError(f"is damaged: metadata goes on after its end, or {_MAX_JSON_BYTES} bytes")
    if not isinstance(metadata, dict):
        raise FormatError("is damaged: metadata has no names")
    return metadata

"""Owns the file that a stream is: magic, version, header, chunks with checksums, index.

Knows nothing of what the chunks hold. FORMAT.md says which byte is where.
"""

import struct
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import google_crc32c
import numpy as np

from emd.codec import header as header_
from emd.codec import varints
from emd.codec.header import Header as Header
from emd.data.contents import FormatError, check_frame

MAGIC = b"\x89EMZ\r\n\x1a\n"
"""In PNG's spirit: no text; transfer as text would change the ends of lines or the top bit."""

VERSION = 1
_CRC = struct.Struct("<I")
_TAIL = struct.Struct("<II")  # bytes of the index; its checksum
_START_BYTES = len(MAGIC) + 1 + 9
_AGAIN = "copy it again from its source"


@runtime_checkable
class Readable(Protocol):
    """A file of bytes, on disk or in memory (`BinaryIO` would not be, at run time, a BytesIO)."""

    def seek(self, place: int, whence: int = 0, /) -> int:
        """The place in the file from which is read next."""

    def read(self, count: int = -1, /) -> bytes:
        """The next bytes, fewer than asked for at its end."""


@runtime_checkable
class Writable(Protocol):
    """A file of bytes that is written from front to end."""

    def write(self, data: bytes, /) -> int:
        """How many bytes were written."""


def write(file: Writable, header: Header, chunks: Iterable[bytes]) -> None:
    """Nothing; the file then holds a stream. It is written from front to end, chunk by chunk.

    Args:
      file: where to write.
      header: what to say.
      chunks: of each frame its own, then those of its blocks, row by row.

    Raises:
      ValueError: no stream can have this header, or not so many chunks.
      OSError: what the file raises.
    """
    body = header_.write(header)
    start = MAGIC + bytes([VERSION]) + varints.pack_bytes(body)
    file.write(start + _crc(start))
    index = bytearray()
    count = 0
    for chunk in chunks:
        index += varints.pack(len(chunk))
        count += 1
        if chunk:
            file.write(chunk)
            file.write(_crc(chunk))
    if count != header.chunks:
        raise ValueError(f"{count} chunks were given, {header.chunks} are due")
    if len(index) >= 2**32:
        raise ValueError(f"an index of {len(index)} bytes is too long: make the blocks larger")
    end = bytes(index) + _CRC.pack(len(index))
    file.write(end + _crc(end))


def overhead(header: Header) -> int:
    """How many bytes a stream takes beside the coder's parameters and the chunks."""
    body = header_.write(header._replace(parameters=b""))
    return len(MAGIC) + 1 + len(varints.pack_bytes(body)) + 1 + _CRC.size + _TAIL.size


def _crc(data: bytes) -> bytes:
    return _CRC.pack(google_crc32c.value(data))


class Reader:
    """An open stream: its header, and its chunks as they are asked for.

    Not for several threads at once: all use the file's one place.

    Attributes:
      header: what the stream says of itself.
      size: bytes of the whole file.
    """

    def __init__(self, file: Readable) -> None:
        """Reads header and index, and checks them against the file's size.

        Args:
          file: can be sought in, and holds a stream and nothing else.

        Raises:
          FormatError: it is no stream, is damaged, truncated, or of a later version.
          OSError: it cannot be read.
        """
        self._file = file
        self.size = file.seek(0, 2)
        start = self._read(0, min(_START_BYTES, self.size))
        _check_start(start)
        fields = varints.Fields(start)
        fields.take(len(MAGIC) + 1)
        length = fields.number()
        data_start = fields.place + length + _CRC.size
        if length > header_.MAX_BYTES or data_start + _TAIL.size > self.size:
            raise FormatError(
                f"is truncated or damaged: a header of {length} bytes in a file of {self.size}"
            )
        self.header = header_.parse(self._checked(0, data_start)[fields.place :])
        self._find_chunks(data_start)

    def chunk(self, frame: int, index: int) -> bytes:
        """A chunk: number 0 is the frame's own, then come its blocks, row by row.

        Raises:
          FormatError: there is no such frame, or the chunk is damaged.
          ValueError: there is no such chunk.
          OSError: the file cannot be read.
        """
        check_frame(frame, self.header.frames)
        if not 0 <= index <= self.header.blocks:
            raise ValueError(f"no chunk {index}: a frame has chunks 0 to {self.header.blocks}")
        place = frame * (1 + self.header.blocks) + index
        length = int(self._lengths[place])
        if not length:
            return b""
        return self._checked(int(self._ends[place]) - length - _CRC.size, length + _CRC.size)

    def _find_chunks(self, data_start: int) -> None:
        """Reads where each chunk lies."""
        tail = self._read(self.size - _TAIL.size, _TAIL.size)
        length, _ = _TAIL.unpack(tail)
        count, left = self.header.chunks, self.size - _TAIL.size - data_start
        # a chunk costs a byte of the index at least: a count that no file holds ends here
        if not count <= length <= left:
            raise FormatError(
                f"is truncated or damaged: {count} chunks by its header, with an index of {length} "
                f"bytes, of which there are {left}: {_AGAIN}"
            )
        index_start = self.size - _TAIL.size - length
        index = self._checked(index_start, length + _TAIL.size)[: -_CRC.size]
        self._lengths = varints.unpack_all(index, count)
        room = index_start - data_start
        if self._lengths.max() > room or self._lengths.sum(dtype=np.float64) > room:
            raise FormatError(f"is damaged: its chunks are longer than the file: {_AGAIN}")
        taken = self._lengths + _CRC.size * (self._lengths > 0)
        self._ends = data_start + np.cumsum(taken)
        if self._ends[-1] != index_start:
            raise FormatError(f"is damaged: its chunks do not fill the file: {_AGAIN}")

    def _checked(self, start: int, count: int) -> bytes:
        """Bytes of the file, without the checksum that ends them."""
        data = self._read(start, count)
        data, crc = data[: -_CRC.size], data[-_CRC.size :]
        if _crc(data) != crc:
            raise FormatError(f"is damaged: a checksum at byte {start} is wrong: {_AGAIN}")
        return data

    def _read(self, start: int, count: int) -> bytes:
        self._file.seek(start)
        data = self._file.read(count)
        while data and len(data) < count:  # a raw file may give less than was asked for
            more = self._file.read(count - len(data))
            if not more:
                break
            data += more
        if len(data) < count:
            raise FormatError(f"is truncated: {count} bytes are due at byte {start}: {_AGAIN}")
        return data


def _check_start(start: bytes) -> None:
    """Nothing; raises FormatError where this is not the start of a stream."""
    if MAGIC.startswith(start):
        raise FormatError(f"is truncated: it has {len(start)} bytes: {_AGAIN}")
    if not start.startswith(MAGIC):
        if start[1:4] == MAGIC[1:4]:
            raise FormatError(f"was changed on its way, as if it were text: {_AGAIN}, as binary")
        raise FormatError(f"is no .emdz stream: it begins with {start[: len(MAGIC)]!r}")
    version = start[len(MAGIC)]
    if version > VERSION:
        raise FormatError(
            f"is of version {version} of the format, {VERSION} is the last that this emd knows: "
            "update it (pip install -U emd-micrograph)"
        )
    if version < 1:
        raise FormatError(f"is damaged: version {version} of the format is none: {_AGAIN}")

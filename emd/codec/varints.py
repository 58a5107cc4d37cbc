"""Owns whole numbers in few bytes, and the reading of bytes that may be damaged.

A number is written seven bits a byte, the lowest first; every byte but the last has its top bit
set (LEB128). Only the shortest form counts, and at most nine bytes: numbers are below 2**63.
"""

import numpy as np
from jaxtyping import Int64

from emd.data.contents import FormatError

LIMIT = 2**63
"""Numbers are below this."""

_MAX_BYTES = 9
_MAX_TEXT_BYTES = 255


def pack(number: int) -> bytes:
    """A number's bytes.

    Raises:
      ValueError: it is below 0, or not below `LIMIT`.
    """
    if not 0 <= number < LIMIT:
        raise ValueError(f"{number} does not fit: numbers are from 0 to 2**63 - 1")
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def pack_bytes(data: bytes) -> bytes:
    """How many bytes there are, then these."""
    return pack(len(data)) + data


def pack_text(text: str) -> bytes:
    """The same of a text, in UTF-8.

    Raises:
      ValueError: it cannot be printed, or is longer than 255 bytes.
    """
    data = text.encode()
    if not text.isprintable() or len(data) > _MAX_TEXT_BYTES:
        raise ValueError(f"{text[:40]!r} is not printable text of at most 255 bytes: shorten it")
    return pack_bytes(data)


def unsigned(number: int) -> int:
    """The number >= 0 that stands for one of any sign: 0, -1, 1, -2, 2 for 0, 1, 2, 3, 4."""
    return number << 1 if number >= 0 else ~(number << 1)


def signed(number: int) -> int:
    """The number that `unsigned` turned into this."""
    return number >> 1 ^ -(number & 1)


def unpack_all(data: bytes, count: int) -> Int64[np.ndarray, "{count}"]:
    """The numbers of which `data` consists.

    Raises:
      FormatError: there are not just `count`, or one is not in its shortest form.
    """
    found = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(found < 128)
    if len(ends) != count or not count or ends[-1] != len(found) - 1:
        raise FormatError(f"is damaged: it holds {len(ends)} numbers where {count} are due")
    starts = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - starts + 1
    if sizes.max() > _MAX_BYTES or np.any((found[ends] == 0) & (sizes > 1)):
        raise FormatError("is damaged: a number is longer than it has to be")
    numbers = np.zeros(count, np.int64)
    for place in range(int(sizes.max())):
        has = sizes > place
        numbers[has] |= (found[starts[has] + place] & np.int64(127)) << np.int64(7 * place)
    return numbers


class Fields:
    """Bytes that are taken from the front, field by field."""

    def __init__(self, data: bytes) -> None:
        """Nothing is taken yet."""
        self._data = data
        self._place = 0

    @property
    def place(self) -> int:
        """How many bytes have been taken."""
        return self._place

    def take(self, count: int) -> bytes:
        """The next bytes.

        Raises:
          FormatError: there are not so many.
        """
        left = len(self._data) - self._place
        if count > left:
            raise FormatError(f"is damaged: a field of {count} bytes where {left} are left")
        self._place += count
        return self._data[self._place - count : self._place]

    def number(self) -> int:
        """The next number.

        Raises:
          FormatError: it ends nowhere, or is not in its shortest form.
        """
        number = 0
        for place in range(_MAX_BYTES):
            (byte,) = self.take(1)
            number |= (byte & 127) << 7 * place
            if byte < 128:
                if place and not byte:
                    break
                return number
        raise FormatError("is damaged: a number is longer than it has to be")

    def counted(self) -> bytes:
        """The next bytes, before which their number stands; raises what `number`, `take` raise."""
        return self.take(self.number())

    def text(self) -> str:
        """The next text.

        Raises:
          FormatError: it is no UTF-8, cannot be printed, or is longer than 255 bytes.
        """
        data = self.counted()
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise FormatError("is damaged: a text is no UTF-8") from None
        if not text.isprintable() or len(data) > _MAX_TEXT_BYTES:
            raise FormatError("is damaged: a text is not printable, or longer than 255 bytes")
        return text

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data) - self._place)

    def end(self) -> None:
        """Nothing.

        Raises:
          FormatError: something is left.
        """
        if self._place < len(self._data):
            raise FormatError(f"is damaged: {len(self._data) - self._place} bytes too many")

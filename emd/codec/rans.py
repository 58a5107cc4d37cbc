"""Owns the entropy coder: interleaved range asymmetric numeral systems, in integers alone.

Many states run side by side, so that NumPy codes as many symbols in one step. A symbol is what it
occupies of `TOTAL` slots: `frequency` of them from `start`. Whoever decodes has to know, before
each symbol, which table of `Tables` it was coded by.

Source: J. Duda, arXiv:1311.2540; interleaved as F. Giesen, arXiv:1402.3392.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Int, Integer, UInt16

from emd.data.contents import FormatError

PRECISION = 14
TOTAL = 1 << PRECISION
_WORD = 16
_LOW = np.uint64(1 << _WORD)  # a state lies from here to below its square
_MASK = np.uint64(TOTAL - 1)
_BYTES_A_LANE = 400  # a state costs about 3 bytes: three quarters of a per cent
_MAX_LANES = 12  # as a power of two
_DAMAGED = "symbols are damaged: get the file anew"


class Tables:
    """Cumulative frequencies of several tables, each from 0 up to `TOTAL`, in strict order.

    Attributes:
      sizes: how many symbols each table has, 256 at most.
    """

    def __init__(self, cumulative: list[Int[np.ndarray, " _"]]) -> None:
        """Takes the tables' cumulative frequencies: of n symbols n + 1 numbers."""
        self.sizes = np.array([len(table) - 1 for table in cumulative])
        self._bases = np.concatenate([[0], np.cumsum(self.sizes + 1)[:-1]]).astype(np.int64)
        self._flat = np.concatenate(cumulative).astype(np.uint64)
        symbols = [
            np.repeat(np.arange(n, dtype=np.uint8), np.diff(table))
            for n, table in zip(self.sizes, cumulative, strict=True)
        ]
        self._symbols = np.concatenate(symbols)

    def slots(
        self, tables: Integer[np.ndarray, " n"], symbols: Integer[np.ndarray, " n"]
    ) -> tuple[Integer[np.ndarray, " n"], Integer[np.ndarray, " n"]]:
        """Starts and frequencies of symbols, each by a table."""
        places = self._bases[tables] + symbols
        starts = self._flat[places]
        return starts, self._flat[places + 1] - starts

    def find(
        self, tables: Integer[np.ndarray, " n"], slots: Integer[np.ndarray, " n"]
    ) -> Integer[np.ndarray, " n"]:
        """The symbols that hold slots, each by a table."""
        return self._symbols[(tables << PRECISION) + slots.astype(np.int64)]

    def bits(self) -> list[np.ndarray]:
        """What each symbol of each table costs [bits]."""
        ends = self._bases + self.sizes + 1
        return [
            PRECISION - np.log2(np.diff(self._flat[a:b].astype(np.float64)))
            for a, b in zip(self._bases, ends, strict=True)
        ]


class Encoder:
    """Symbols to bytes: what was put first is taken first."""

    def __init__(self) -> None:
        """Nothing is put yet."""
        self._passes: list[tuple[np.ndarray, np.ndarray]] = []

    def put(
        self,
        tables: Tables,
        chosen: Integer[np.ndarray, " n"],
        symbols: Integer[np.ndarray, " n"],
    ) -> None:
        """Nothing; `symbols` are then queued, each by the table `chosen` for it."""
        self._passes.append(tables.slots(chosen, symbols))

    def put_bits(
        self, values: Integer[np.ndarray, " n"], widths: Integer[np.ndarray, " n"]
    ) -> None:
        """Nothing; plain numbers of as many bits as `widths` says (1 to 14) are then queued."""
        frequencies = np.uint64(1) << (PRECISION - widths).astype(np.uint64)
        self._passes.append((values.astype(np.uint64) * frequencies, frequencies))

    def to_bytes(self) -> bytes:
        """All that was put: the lanes' binary logarithm, their states, and words of 16 bits."""
        lanes_log2 = self._lanes_log2()
        lanes = 1 << lanes_log2
        states = np.full(lanes, _LOW)
        words: list[np.ndarray] = []
        for starts, frequencies in reversed(self._passes):
            for begin in reversed(range(0, len(starts), lanes)):
                start = starts[begin : begin + lanes]
                frequency = frequencies[begin : begin + lanes]
                state = states[: len(start)]
                is_full = state >= frequency << np.uint64(2 * _WORD - PRECISION)
                words.append(state[is_full].astype("<u2"))
                state = np.where(is_full, state >> np.uint64(_WORD), state)
                whole, rest = np.divmod(state, frequency)
                states[: len(start)] = (whole << np.uint64(PRECISION)) + rest + start
        body = b"".join(part.tobytes() for part in reversed(words))
        return bytes([lanes_log2]) + states.astype("<u4").tobytes() + body

    def _lanes_log2(self) -> int:
        bits = sum(
            len(f) * PRECISION - float(np.log2(f.astype(np.float64)).sum()) for _, f in self._passes
        )
        lanes = max(bits / 8 / _BYTES_A_LANE, 1)
        return min(int(math.log2(lanes)), _MAX_LANES)


class Decoder:
    """Bytes to symbols, in the order in which they were put."""

    def __init__(self, data: bytes) -> None:
        """Takes what `Encoder.to_bytes` made.

        Raises:
          FormatError: it is too short, or no states lie in it.
        """
        lanes = 1 << data[0] if data and data[0] <= _MAX_LANES else 0
        if not lanes or len(data) < 1 + 4 * lanes or (len(data) - 1) % 2:
            raise FormatError(_DAMAGED)
        self._states = np.frombuffer(data, "<u4", lanes, 1).astype(np.uint64)
        if self._states.min() < _LOW:
            raise FormatError(_DAMAGED)
        self._words: UInt16[np.ndarray, " k"] = np.frombuffer(data, "<u2", offset=1 + 4 * lanes)
        self._position = 0

    def take(self, tables: Tables, chosen: Integer[np.ndarray, " n"]) -> Integer[np.ndarray, " n"]:
        """The next symbols, one for each table of `chosen`.

        Raises:
          FormatError: there are no more.
        """
        symbols = np.empty(len(chosen), np.int64)
        lanes = len(self._states)
        for begin in range(0, len(chosen), lanes):
            table = chosen[begin : begin + lanes]
            state = self._states[: len(table)]
            slots = state & _MASK
            found = tables.find(table, slots)
            symbols[begin : begin + lanes] = found
            starts, frequencies = tables.slots(table, found)
            self._step(state, slots - starts, frequencies)
        return symbols

    def take_bits(self, widths: Integer[np.ndarray, " n"]) -> Integer[np.ndarray, " n"]:
        """The next plain numbers, of as many bits each as `widths` says.

        Raises:
          FormatError: there are no more.
        """
        values = np.empty(len(widths), np.int64)
        shifts = (PRECISION - widths).astype(np.uint64)
        lanes = len(self._states)
        for begin in range(0, len(widths), lanes):
            shift = shifts[begin : begin + lanes]
            state = self._states[: len(shift)]
            slots = state & _MASK
            found = slots >> shift
            values[begin : begin + lanes] = found
            self._step(state, slots - (found << shift), np.uint64(1) << shift)
        return values

    def finish(self) -> None:
        """Nothing.

        Raises:
          FormatError: there is more than was taken, or what was taken is not what was put.
        """
        if self._position != len(self._words) or (self._states != _LOW).any():
            raise FormatError(_DAMAGED)

    def _step(
        self,
        state: Integer[np.ndarray, " n"],
        rest: Integer[np.ndarray, " n"],
        frequencies: Integer[np.ndarray, " n"],
    ) -> None:
        """Takes a symbol off each state, and fills up those that ran low."""
        np.multiply(frequencies, state >> np.uint64(PRECISION), out=state)
        state += rest
        low = np.flatnonzero(state < _LOW)
        end = self._position + len(low)
        if end > len(self._words):
            raise FormatError(_DAMAGED)
        state[low] = (state[low] << np.uint64(_WORD)) | self._words[self._position : end]
        self._position = end

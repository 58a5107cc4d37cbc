"""Owns the coding of residuals by context: what their neighbourhood says of their magnitude.

A context is a class of activity, a whole number; the model has a table of `emd.codec.tables` for
each, and how many low bits of the residual go plain because it is wide there.
"""

from __future__ import annotations

import functools
import itertools
import zlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer, Real

from emd.codec import tables
from emd.codec.rans import Decoder, Encoder
from emd.data.contents import FormatError

CONTEXTS = 160
"""Contexts are below this: `classes` gives no others."""

_WIDEST = tables.reach(tables.SCALES - 1)
_DAMAGED = "contexts are damaged: get the file anew"
_FEW = 24  # residuals that say nothing reliable of a context


class Entry(NamedTuple):
    """How residuals of a context are coded."""

    kind: tables.Kind
    shift: int
    """Low bits that go plain."""


def classes(activity: Real[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The contexts of activities, whole numbers >= 0: exact below 4, then four an octave."""
    # a double holds the integer exactly, and frexp takes it apart without rounding
    mantissa, exponent = np.frexp(activity.astype(np.float64))
    quarter = (mantissa * 8).astype(np.int64) - 4
    wide = 4 * (exponent - 2).astype(np.int64) + quarter
    return np.minimum(np.where(activity < 4, activity, wide).astype(np.int64), CONTEXTS - 1)


class Model:
    """Contexts with their tables, ready to code."""

    def __init__(self, entries: list[Entry]) -> None:
        """Takes an entry for each of the `CONTEXTS`."""
        self.entries = entries
        kinds = sorted({entry.kind for entry in entries})
        self._tables, places = tables.build(kinds)
        number = dict(zip(kinds, places, strict=True))
        self._first = np.array([number[entry.kind] for entry in entries])
        self._is_fine = np.array([entry.kind.scale < tables.FINE_SCALES for entry in entries])
        self._shifts = np.array([entry.shift for entry in entries])
        self._reaches = np.array([tables.reach(entry.kind.scale) for entry in entries])

    def encode(
        self,
        encoder: Encoder,
        escapes: list[int],
        contexts: Integer[np.ndarray, " n"],
        fractions: Integer[np.ndarray, " n"],
        residuals: Integer[np.ndarray, " n"],
    ) -> None:
        """Nothing; the residuals are then put, and what has no symbol is among the escapes.

        There stands how far it lies beyond the table's reach, with its sign.
        """
        shifts, chosen, reaches = self._choose(contexts, fractions)
        half = (1 << shifts) >> 1
        high = (residuals + half) >> shifts
        is_out = np.abs(high) > reaches
        escapes += (high - np.sign(high) * reaches)[is_out].tolist()
        symbols = np.where(is_out, 2 * reaches + 1, high + reaches)
        encoder.put(self._tables, chosen, symbols)
        wide = np.flatnonzero(shifts)
        low = residuals[wide] + half[wide] - (high[wide] << shifts[wide])
        encoder.put_bits(low, shifts[wide])

    def decode(
        self,
        decoder: Decoder,
        escapes: list[int],
        contexts: Integer[np.ndarray, " n"],
        fractions: Integer[np.ndarray, " n"],
    ) -> Int[np.ndarray, " n"]:
        """The residuals that `encode` put; escapes are used up from the end.

        Raises:
          FormatError: they do not fit together.
        """
        shifts, chosen, reaches = self._choose(contexts, fractions)
        symbols = decoder.take(self._tables, chosen)
        high = symbols - reaches
        out = np.flatnonzero(symbols == 2 * reaches + 1)
        if len(out) > len(escapes):
            raise FormatError(_DAMAGED)
        for place in out:
            beyond = escapes.pop()
            high[place] = beyond + (reaches[place] if beyond > 0 else -reaches[place])
        residuals = (high << shifts) - ((1 << shifts) >> 1)
        wide = np.flatnonzero(shifts)
        residuals[wide] += decoder.take_bits(shifts[wide])
        return residuals

    def cost(
        self, contexts: Integer[np.ndarray, "*s"], residuals: Integer[np.ndarray, "*s"]
    ) -> Float[np.ndarray, "*s"]:
        """What residuals whose fraction is `CENTRED` cost [bits]."""
        shifts, reaches = self._shifts[contexts], self._reaches[contexts]
        high = np.minimum(np.abs(residuals + ((1 << shifts) >> 1) >> shifts), reaches + 1)
        return shifts + self._costs[contexts, high]

    @functools.cached_property
    def _costs(self) -> Float[np.ndarray, "c k"]:
        """What magnitudes cost in each context; one more than the widest stands for escapes."""
        kinds = [entry.kind for entry in self.entries]
        middle = np.stack([tables.costs(kind)[tables.CENTRED] for kind in kinds])
        return middle[:, _WIDEST:]

    def _choose(
        self, contexts: Integer[np.ndarray, " n"], fractions: Integer[np.ndarray, " n"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        chosen = self._first[contexts] + np.where(self._is_fine[contexts], fractions, 0)
        return self._shifts[contexts], chosen, self._reaches[contexts]

    def to_bytes(self) -> bytes:
        """The entries, deflated: table and shift of each run of equal contexts."""
        rows = [(e.kind.shape * tables.SCALES + e.kind.scale, e.shift) for e in self.entries]
        return zlib.compress(np.array(rows, np.uint8).T.tobytes(), 9)


def from_bytes(data: bytes) -> tuple[Model, int]:
    """The model that `Model.to_bytes` wrote at the start of `data`, and where it ends.

    Raises:
      FormatError: it is none.
    """
    inflater = zlib.decompressobj()
    try:
        rows = np.frombuffer(inflater.decompress(data, 2 * CONTEXTS), np.uint8)
    except zlib.error:
        raise FormatError(_DAMAGED) from None
    if len(rows) != 2 * CONTEXTS or not inflater.eof:
        raise FormatError(_DAMAGED)
    kinds, shifts = rows.reshape(2, CONTEXTS).astype(int).tolist()
    if max(kinds) >= tables.SHAPES * tables.SCALES or max(shifts) > 14:
        raise FormatError(_DAMAGED)
    entries = [
        Entry(tables.Kind(*divmod(kind, tables.SCALES)), shift)
        for kind, shift in zip(kinds, shifts, strict=True)
    ]
    return Model(entries), len(data) - len(inflater.unused_data)


def fit(
    contexts: Integer[np.ndarray, " n"],
    fractions: Integer[np.ndarray, " n"],
    residuals: Integer[np.ndarray, " n"],
) -> Model:
    """The model by which these residuals take the fewest bits.

    Contexts that hold few of them get the entry of the nearest below that holds enough.
    """
    counts = np.bincount(contexts, minlength=CONTEXTS)
    sums = np.bincount(contexts, np.abs(residuals), CONTEXTS)
    order = np.argsort(contexts, kind="stable")
    ends = np.cumsum(counts)
    entries: list[Entry | None] = [None] * CONTEXTS
    for context in np.flatnonzero(counts >= _FEW):
        mine = order[ends[context] - counts[context] : ends[context]]
        shift = max(0, int(sums[context] // counts[context]).bit_length() - 3)
        high = (residuals[mine] + ((1 << shift) >> 1)) >> shift
        entries[context] = Entry(_best_kind(fractions[mine], high), min(shift, 14))
    return Model(_filled(entries, residuals))


def _best_kind(
    fractions: Integer[np.ndarray, " n"], residuals: Integer[np.ndarray, " n"]
) -> tables.Kind:
    symbols = np.where(np.abs(residuals) > _WIDEST, 2 * _WIDEST + 1, residuals + _WIDEST)
    size = 2 * _WIDEST + 2
    histogram = np.bincount(fractions * size + symbols, minlength=tables.FRACTIONS * size)
    kinds, prices = _prices()
    return kinds[int(np.argmin(prices @ histogram))]


@functools.cache
def _prices() -> tuple[list[tables.Kind], np.ndarray]:
    """All kinds, and what each asks for each fraction and symbol [bits]."""
    pairs = itertools.product(range(tables.SHAPES), range(tables.SCALES))
    kinds = [tables.Kind(*pair) for pair in pairs]
    return kinds, np.stack([tables.costs(kind).reshape(-1) for kind in kinds])


def _filled(entries: list[Entry | None], residuals: Integer[np.ndarray, " n"]) -> list[Entry]:
    """Entries without a gap."""
    known = [entry for entry in entries if entry is not None]
    if not known:
        shift = max(0, int(np.abs(residuals).mean() if residuals.size else 0).bit_length() - 3)
        high = (residuals + ((1 << shift) >> 1)) >> shift
        kind = _best_kind(np.full(residuals.shape, tables.CENTRED), high)
        known = [Entry(kind, min(shift, 14))]
    last, filled = known[0], []
    for entry in entries:
        last = entry or last
        filled.append(last)
    return filled

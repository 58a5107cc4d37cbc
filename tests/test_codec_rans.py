"""The entropy coder against one of plain Python, symbol by symbol, and what damage does to it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emd.codec.rans import PRECISION, TOTAL, Decoder, Encoder, Tables
from emd.data.contents import FormatError

# of 2, 3, 1, 5 and 256 symbols
CUMULATIVE = [
    [0, 1, TOTAL],
    [0, 5000, 5001, TOTAL],
    [0, TOTAL],
    [0, 16000, 16100, 16200, 16300, TOTAL],
    [64 * k for k in range(257)],
]


@pytest.fixture(scope="module")
def tables():
    return Tables([np.array(each) for each in CUMULATIVE])


def drawn(tables, count, seed=0):
    """Tables, and of each a symbol that is as frequent as the table says."""
    random = np.random.default_rng(seed)
    chosen = random.integers(0, len(CUMULATIVE), count)
    return chosen, tables.find(chosen, random.integers(0, TOTAL, count))


def numbers(count, seed=0):
    """Plain numbers and their widths."""
    random = np.random.default_rng(seed)
    widths = random.integers(1, 15, count)
    return random.integers(0, 1 << widths), widths


def slots(passes):
    """Start and frequency of each symbol: (tables, symbols), or (None, values, widths)."""
    for first, second, *widths in passes:
        if widths:
            fine = [PRECISION - int(w) for w in widths[0]]
            yield [(int(v) << f, 1 << f) for v, f in zip(second, fine, strict=True)]
        else:
            rows = [(CUMULATIVE[t], int(s)) for t, s in zip(first, second, strict=True)]
            yield [(row[s], row[s + 1] - row[s]) for row, s in rows]


def plain_encode(passes, lanes_log2):
    """What FORMAT.md's decoder has to be given, worked out backwards, one symbol at a time."""
    lanes = 1 << lanes_log2
    states, words = [1 << 16] * lanes, []
    for symbols in reversed(list(slots(passes))):
        steps = [range(k, min(k + lanes, len(symbols))) for k in range(0, len(symbols), lanes)]
        for step in reversed(steps):
            # the decoder reads the words of a step from the first state on
            for k in reversed(step):
                if states[k % lanes] >= symbols[k][1] << 18:
                    words.append(states[k % lanes] % 2**16)
                    states[k % lanes] >>= 16
            for k in step:
                start, frequency = symbols[k]
                whole, rest = divmod(states[k % lanes], frequency)
                states[k % lanes] = whole * 2**14 + rest + start
    data = b"".join(state.to_bytes(4, "little") for state in states)
    return bytes([lanes_log2]) + data + b"".join(w.to_bytes(2, "little") for w in reversed(words))


def plain_decode(data, passes):
    """Symbols as FORMAT.md reads them; `passes` tell tables or widths."""
    lanes = 1 << data[0]
    states = [int.from_bytes(data[1 + 4 * k : 5 + 4 * k], "little") for k in range(lanes)]
    words = data[1 + 4 * lanes :]
    found = []
    for first, _, *widths in passes:
        if widths:
            rows = [range(0, 2**14 + 1, 1 << 14 - int(w)) for w in widths[0]]
        else:
            rows = [CUMULATIVE[t] for t in first]
        part = []
        for k, row in enumerate(rows):
            x = states[k % lanes]
            slot = x % 2**14
            symbol = max(s for s in range(len(row) - 1) if row[s] <= slot)
            part.append(symbol)
            states[k % lanes] = (row[symbol + 1] - row[symbol]) * (x >> 14) + slot - row[symbol]
            if states[k % lanes] < 2**16:
                word, words = words[:2], words[2:]
                states[k % lanes] = 2**16 * states[k % lanes] + int.from_bytes(word, "little")
        found.append(part)
    assert not words
    assert states == [2**16] * lanes
    return found


def encoded(tables, passes):
    encoder = Encoder()
    for first, second, *widths in passes:
        if widths:
            encoder.put_bits(second, widths[0])
        else:
            encoder.put(tables, first, second)
    return encoder.to_bytes()


def decoded(tables, data, passes):
    decoder = Decoder(data)
    found = [
        decoder.take_bits(widths[0]) if widths else decoder.take(tables, first)
        for first, _, *widths in passes
    ]
    decoder.finish()
    return found


def mixed(tables, sizes, seed=0):
    """Passes of symbols and of plain numbers in turn."""
    return [
        drawn(tables, size, seed + k) if k % 2 == 0 else (None, *numbers(size, seed + k))
        for k, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("sizes", [[], [0], [1], [0, 3, 0, 1], [5, 700, 1300], [2500, 1, 1, 900]])
def test_bytes_are_those_of_the_plain_coder(tables, sizes):
    passes = mixed(tables, sizes)
    data = encoded(tables, passes)
    assert data == plain_encode(passes, data[0])
    for part, wanted in zip(decoded(tables, data, passes), passes, strict=True):
        np.testing.assert_array_equal(part, wanted[1])


@pytest.mark.parametrize("lanes_log2", [0, 1, 3, 6])
def test_any_number_of_lanes_is_decoded(tables, lanes_log2):
    passes = mixed(tables, [90, 70, 3], seed=4)
    data = plain_encode(passes, lanes_log2)
    assert [list(part) for part in decoded(tables, data, passes)] == plain_decode(data, passes)


def test_the_plain_decoder_reads_what_is_written(tables):
    passes = mixed(tables, [2000, 1500, 300], seed=2)
    data = encoded(tables, passes)
    assert data[0] > 0
    found = plain_decode(data, passes)
    for part, wanted in zip(found, passes, strict=True):
        np.testing.assert_array_equal(part, wanted[1])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_what_was_put_is_taken(tables, data):
    sizes = data.draw(st.lists(st.integers(0, 40), max_size=5))
    passes = mixed(tables, sizes, data.draw(st.integers(0, 99)))
    found = decoded(tables, encoded(tables, passes), passes)
    for part, wanted in zip(found, passes, strict=True):
        np.testing.assert_array_equal(part, wanted[1])


def test_many_symbols_in_many_lanes(tables):
    passes = mixed(tables, [200_000, 100_000], seed=7)
    data = encoded(tables, passes)
    assert data[0] >= 8
    for part, wanted in zip(decoded(tables, data, passes), passes, strict=True):
        np.testing.assert_array_equal(part, wanted[1])


@pytest.mark.parametrize("size", [1, 1000, 30_000])
def test_symbols_cost_what_their_slots_say(tables, size):
    passes = mixed(tables, [size, size], seed=3)
    bits = sum(PRECISION - np.log2(f) for part in slots(passes) for _, f in part)
    # a state of 4 bytes, of which about one is used
    assert bits / 8 <= len(encoded(tables, passes)) <= 1.02 * bits / 8 + 6


def test_rare_symbols_and_sure_ones():
    narrow = Tables([np.array([0, 1, TOTAL - 1, TOTAL]), np.array([0, TOTAL])])
    for symbol, cost in ((0, PRECISION), (1, 0.0002), (2, PRECISION)):
        chosen, symbols = np.zeros(800, int), np.full(800, symbol)
        data = encoded(narrow, [(chosen, symbols)])
        np.testing.assert_array_equal(decoded(narrow, data, [(chosen, symbols)]), [symbols])
        assert len(data) == pytest.approx(800 * cost / 8, rel=0.01, abs=6)
    chosen = np.ones(10_000, int)
    assert len(encoded(narrow, [(chosen, chosen * 0)])) == 5
    assert [list(bits) for bits in narrow.bits()][1] == [0]
    np.testing.assert_allclose(narrow.bits()[0], [14, 0, 14], atol=2e-4)


# --- damage ----------------------------------------------------------------------------------


def states(*values, words=b""):
    lanes_log2 = len(values).bit_length() - 1
    return bytes([lanes_log2]) + np.array(values, "<u4").tobytes() + words


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x00\x00\x00\x01",
        bytes([13]) + bytes(4 << 13),
        b"\xff" * 5,
        states(2**16 - 1),
        states(2**16, 0),
        states(2**16) + b"\x00",
        states(2**16, 2**16)[:-1],
    ],
)
def test_what_holds_no_states_is_refused(data):
    with pytest.raises(FormatError, match="symbols are damaged"):
        Decoder(data)


def test_more_than_was_put_is_not_there(tables):
    passes = mixed(tables, [200, 100])
    data = encoded(tables, passes)
    with pytest.raises(FormatError, match="symbols are damaged"):
        decoded(tables, data[:-2], passes)
    with pytest.raises(FormatError, match="symbols are damaged"):
        decoded(tables, data + b"\x00\x00", passes)
    with pytest.raises(FormatError, match="symbols are damaged"):
        decoded(tables, data, passes[:1])
    with pytest.raises(FormatError, match="symbols are damaged"):
        decoded(tables, data, [*passes, passes[0]])
    with pytest.raises(FormatError, match="symbols are damaged"):
        decoded(tables, states(2**16 + 1), [])


def test_every_bit_of_a_short_message_counts(tables):
    """A flipped bit changes a symbol, or is noticed."""
    passes = mixed(tables, [12, 6], seed=5)
    wanted = [list(each[1]) for each in passes]
    data = encoded(tables, passes)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            found = decoded(tables, bytes(changed), passes)
        except FormatError:
            continue
        assert [list(part) for part in found] != wanted


@given(st.binary(max_size=120))
@settings(max_examples=150, deadline=None)
def test_random_bytes_are_symbols_or_an_error(tables, data):
    passes = mixed(tables, [30, 20])
    try:
        found = decoded(tables, data, passes)
    except FormatError:
        return
    for part, table in zip(found, (passes[0][0], None), strict=True):
        assert part.min() >= 0
        if table is not None:
            assert (part < tables.sizes[table]).all()

"""Whole numbers out of bytes, as emd/codec/FORMAT.md says: loops over it, and none of the code.

With tests/plain_decoder.py and tests/plain_lapped.py a decoder written from that text alone. What
the three of them decode is what the text says.
"""

import bisect
import functools
import zlib

SHAPES = [
    [(341499300, 4252421119, 4252421119)],
    [(411579031, 4018181472, 4275200147)],
    [(505290270, 3789677026, 4294967296)],
    [(372633819, 4149440748, 4258793538), (6531957, 4077235748, 4294967296)],
    [(568235151, 3537320428, 4294967296), (63185186, 4042226597, 4294967296)],
    [(813824346, 3042929841, 4294967296), (83909015, 4055227353, 4294967296)],
]
QUARTERS = [65536, 55109, 46341, 38968]
SLOTS = 1 << 14
LOWEST = 1 << 16
CONTEXTS = 160
WHOLE = 8  # the fraction of a prediction that is a whole number


class DamageError(Exception):
    """Bytes that are no stream."""


def need(holds, what):
    if not holds:
        raise DamageError(what)


def crc(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def inflated(data):
    """What one zlib stream holds; nothing may follow it."""
    stream = zlib.decompressobj()
    plain = stream.decompress(data)
    need(stream.eof and not stream.unused_data, "zlib ends early, or something follows it")
    return plain


class Reading:
    """Bytes from the first to the last."""

    def __init__(self, data):
        self.data = bytes(data)
        self.at = 0

    def take(self, count):
        need(self.at + count <= len(self.data), "ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def rest(self):
        return self.take(len(self.data) - self.at)

    def u8(self):
        return self.take(1)[0]

    def u32(self):
        return int.from_bytes(self.take(4), "little")

    def varint(self):
        value = 0
        for k in range(9):
            byte = self.u8()
            value += (byte & 127) << 7 * k
            if byte < 128:
                need(byte or k == 0, "a varint that is longer than it need be")
                return value
        raise DamageError("a varint of more than 9 bytes")

    def signed(self):
        v = self.varint()
        return -(v + 1) // 2 if v % 2 else v // 2

    def bytes(self):
        return self.take(self.varint())

    def text(self):
        text = self.take(self.varint()).decode()
        need(text.isprintable(), "a text that does not print")
        return text

    def end(self):
        need(self.at == len(self.data), "goes on after its last field")


def bits(data, count):
    """The first `count` bits, from the top bit of the first byte."""
    return [data[k // 8] >> 7 - k % 8 & 1 for k in range(count)]


@functools.cache
def distribution(shape):
    density = [0] * 128
    for first, ratio, bend in SHAPES[shape]:
        v = first
        for k in range(128):
            density[k] += v
            v = v * ratio >> 32
            ratio = ratio * bend >> 32
    sums = [sum(density[:k]) for k in range(129)]
    return [(1 << 24) * value // sums[128] for value in sums]


def reach(scale):
    return 4 + ((10 << scale // 4) >> 6)


@functools.cache
def residuals(shape, scale, fraction):
    """The first slot of each symbol of a table of residuals, and at last 2^14."""
    if scale >= 32:
        fraction = WHOLE
    mass, a = distribution(shape), reach(scale)
    m = 0 if fraction == WHOLE else 4 * fraction - 15
    below = []
    for k in range(2 * a + 2):
        e = 32 * (k - a) - 16 - m
        t = min(abs(e) * (QUARTERS[scale % 4] << 4) >> scale // 4, (1 << 23) - 1)
        i, r = t >> 16, t % 65536
        w = mass[i] + ((mass[i + 1] - mass[i]) * r >> 16)
        sign = (e > 0) - (e < 0)
        below.append((1 << 24) + sign * w >> 1)
    n = 2 * a + 2
    first = [k + ((below[k] - below[0]) * (SLOTS - n) >> 24) for k in range(n)]
    return [*first, SLOTS]


@functools.cache
def plain(count):
    """The same of a plain number of so many bits."""
    return [k << 14 - count for k in range((1 << count) + 1)]


class Symbols:
    """The symbols at the end of a block, pass by pass."""

    def __init__(self, data):
        reading = Reading(data)
        lanes = reading.u8()
        need(lanes <= 12, "more states than 2^12")
        self.states = [reading.u32() for _ in range(1 << lanes)]
        need(min(self.states) >= LOWEST, "a state that is too low")
        self.words = reading

    def decode(self, tables):
        """The next pass: a symbol of each table."""
        found = []
        for start in range(0, len(tables), len(self.states)):
            step = tables[start : start + len(self.states)]
            for lane, table in enumerate(step):
                x = self.states[lane]
                slot = x % SLOTS
                k = bisect.bisect_right(table, slot) - 1
                self.states[lane] = (table[k + 1] - table[k]) * (x >> 14) + slot - table[k]
                found.append(k)
            for lane in range(len(step)):
                if self.states[lane] < LOWEST:
                    word = int.from_bytes(self.words.take(2), "little")
                    self.states[lane] = (self.states[lane] << 16) + word
        return found

    def end(self):
        self.words.end()
        need(all(x == LOWEST for x in self.states), "states that do not end where they began")


def context(v):
    """The context of an activity."""
    if v < 4:
        return v
    digits = v.bit_length()
    return min(4 * (digits - 2) + (v >> digits - 3) - 4, CONTEXTS - 1)


class ContextModel:
    """The table and the shift of each context."""

    def __init__(self, data):
        numbers = inflated(data)
        need(len(numbers) == 2 * CONTEXTS, "a context model of another length")
        self.tables = [divmod(number, 37) for number in numbers[:CONTEXTS]]
        self.shifts = list(numbers[CONTEXTS:])
        need(all(shape < len(SHAPES) for shape, _ in self.tables), "a shape that there is not")
        need(max(self.shifts) <= 14, "a shift above 14")


class Residuals:
    """The residuals of a block: its symbols and its escapes."""

    def __init__(self, symbols, escapes):
        self.symbols = Symbols(symbols)
        self.escapes = list(escapes)

    def decode(self, model, activities, fractions):
        """The next residuals, one for each activity."""
        known = [context(v) for v in activities]
        tables = [residuals(*model.tables[c], f) for c, f in zip(known, fractions, strict=True)]
        symbols = self.symbols.decode(tables)
        shifts = [model.shifts[c] for c in known]
        low = iter(self.symbols.decode([plain(b) for b in shifts if b]))
        values = []
        for c, k, b in zip(known, symbols, shifts, strict=True):
            a = reach(model.tables[c][1])
            h = k - a
            if k == 2 * a + 1:
                need(self.escapes, "too few escapes")
                g = self.escapes.pop()
                h = g + a if g > 0 else g - a
            values.append((h << b) + next(low) - (1 << b >> 1) if b else h)
        return values

    def end(self):
        self.symbols.end()
        need(not self.escapes, "escapes that nothing uses")

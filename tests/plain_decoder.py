"""A decoder of .emdz, written from emd/codec/FORMAT.md alone: slow, and an oracle of the text.

`lattice` and `bytes` are here, `lapped` is in tests/plain_lapped.py; `latents` is not decoded.
"""

import json
import math
import struct
import zlib

import numpy as np
import plain_lapped
import zstandard
from plain_numbers import ContextModel, Reading, Residuals, bits, crc, inflated, need

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]
MAGIC = b"\x89EMZ\r\n\x1a\n"
RADII = [(7, 5, 4), (5, 4, 3), (3, 3, 3), (3, 2, 2)]  # of each level, by kind


# The container


def read_header(data):
    reading = Reading(data)
    flags, dtype = reading.u8(), reading.u8()
    need(flags < 64 and (flags & 4 or not flags & 8), "flags that there are not")
    need(dtype < len(DTYPES), "a type that there is not")
    head = {"dtype": DTYPES[dtype], "frames": reading.varint() if flags & 1 else None}
    head |= {name: reading.varint() for name in ("height", "width", "block")}
    head |= {"coder": reading.text(), "version": reading.varint(), "parameters": reading.bytes()}
    head |= {"software": reading.text(), "weights": None, "pixel_size": None}
    if flags & 2:
        head["weights"] = (reading.text(), reading.take(8))
    if flags & 4:
        (high,) = struct.unpack("<d", reading.take(8))
        wide = high if flags & 8 else struct.unpack("<d", reading.take(8))[0]
        head["pixel_size"] = (high, wide)
    head["unit"] = reading.text() if flags & 16 else ""
    head["metadata"] = json.loads(zlib.decompress(reading.rest(), -15)) if flags & 32 else {}
    reading.end()
    return head


def read_container(data):
    """Its header, and of each frame the chunks."""
    reading = Reading(data)
    need(reading.take(8) == MAGIC and reading.u8() == 1, "no stream of version 1")
    head = read_header(reading.bytes())
    need(crc(data[: reading.at]) == reading.u32(), "header: checksum")

    tail = Reading(data[-8:])
    count, check = tail.u32(), tail.u32()
    end = len(data) - 8 - count
    need(crc(data[end:-4]) == check, "index: checksum")
    across = math.ceil(head["width"] / head["block"])
    blocks = math.ceil(head["height"] / head["block"]) * across
    index = Reading(data[end:-8])

    frames = []
    for _ in range(head["frames"] or 1):
        chunks = []
        for _ in range(1 + blocks):
            chunk = reading.take(index.varint())
            need(not chunk or crc(chunk) == reading.u32(), "chunk: checksum")
            chunks.append(chunk)
        frames.append(chunks)
    index.end()
    need(reading.at == end, "chunks do not end where the index begins")
    return head, frames


def block_areas(head):
    """The rows and columns of each block."""
    side = head["block"]
    for top in range(0, head["height"], side):
        for left in range(0, head["width"], side):
            yield (
                slice(top, min(top + side, head["height"])),
                slice(left, min(left + side, head["width"])),
            )


# `bytes`


def decode_bytes(chunk, shape, dtype):
    size = dtype.itemsize
    count = shape[0] * shape[1]
    need(zstandard.frame_content_size(chunk) == count * size, "another number of bytes")
    shuffled = zstandard.ZstdDecompressor().decompress(chunk)
    plain = bytes(shuffled[count * k + i] for i in range(count) for k in range(size))
    return np.frombuffer(plain, dtype.newbyteorder("<")).reshape(shape)


# `lattice`


def is_known(y, x, kind):
    """Whether the place (y, x) away from one of this kind is known before its pass."""
    row, column = [(1, 1), (0, 1), (1, 0)][kind]
    odd_row, odd_column = (row + y) % 2, (column + x) % 2
    if not odd_row and not odd_column:
        return True
    return [(1, 1), (0, 1), (1, 0)].index((odd_row, odd_column)) < kind


def taps_of(level, kind):
    radius = RADII[level][kind]
    found = []
    for y in range(radius + 1):
        for x in range(-radius, radius + 1):
            if (y, x) > (0, 0) and y * y + x * x <= radius * radius + 1 and is_known(y, x, kind):
                found.append((y, x))
    return sorted(found, key=lambda tap: (tap[0] ** 2 + tap[1] ** 2, tap[0], tap[1]))


class LatticePlan:
    """The parameters of `lattice`."""

    def __init__(self, data, dtype):
        reading = Reading(data)
        self.dtype = dtype
        self.kind, self.low, self.count = reading.u8(), reading.signed(), reading.varint()
        need(self.kind < 3 and (self.kind == 1) == (dtype.kind == "f"), "kind")
        need(1 <= self.count <= 1 << 24, "number of levels")
        self.step, self.ranks = None, [self.low]
        if self.kind == 0:
            self.step = reading.varint()
        elif self.kind == 1:
            (self.step,) = struct.unpack("<d", reading.take(8))
        else:
            gaps = Reading(inflated(reading.bytes()))
            for _ in range(self.count - 1):
                self.ranks.append(self.ranks[-1] + gaps.varint())
            gaps.end()
        self.predictors = {}
        for level in range(4):
            for kind in range(3):
                taps = taps_of(level, kind)
                weights = [reading.signed() for _ in taps]
                activity = [reading.signed() for _ in range(min(6, len(taps)) + 2)]
                self.predictors[level, kind] = (taps, weights, activity)
        self.model = ContextModel(reading.rest())

    def pixel(self, q):
        need(0 <= q < self.count, "a level that there is not")
        if self.kind == 1:
            return self.dtype.type((self.low + q) * self.step)
        value = self.ranks[q] if self.kind == 2 else self.low + self.step * q
        if self.kind == 2:
            return value
        limits = np.iinfo(self.dtype)
        return min(max(value, int(limits.min)), int(limits.max))


def reflected(k, count):
    while not 0 <= k < count:
        k = -k if k < 0 else 2 * (count - 1) - k
    return k


def predict(plan, lattice, place, predictor):
    """The prediction in sixteenths, and the activity."""
    taps, weights, activity = predictor
    rows, columns = len(lattice), len(lattice[0])
    pairs = []
    for y, x in taps:
        pairs.append(
            [
                lattice[reflected(place[0] + s * y, rows)][reflected(place[1] + s * x, columns)]
                for s in (1, -1)
            ]
        )
    total = sum(w * (p + p2) for w, (p, p2) in zip(weights, pairs, strict=True))
    middle = min(max(total + (1 << 11) >> 12, 0), 16 * (plan.count - 1))
    *spread, intensity, constant = activity
    near = pairs[: len(spread)]
    v = intensity * middle + 16 * constant
    v += sum(
        a * (abs(16 * p - middle) + abs(16 * p2 - middle))
        for a, (p, p2) in zip(spread, near, strict=True)
    )
    return middle, v >> 10


def decode_pass(plan, residuals, lattice, level, kind):
    """Fills in the places of one kind of a lattice."""
    first = [(1, 1), (0, 1), (1, 0)][kind]
    rows, columns = len(lattice), len(lattice[0])
    places = [(r, c) for r in range(first[0], rows, 2) for c in range(first[1], columns, 2)]
    if not places:
        return
    predictor = plan.predictors[level, kind]
    if rows == 1 or columns == 1:
        a = predictor[2]
        predictor = ([first], [1 << 15], [a[0], a[-2], a[-1]])
    predicted = [predict(plan, lattice, place, predictor) for place in places]
    centres = [p + 8 >> 4 for p, _ in predicted]
    fractions = [p - 16 * c + 8 >> 1 for (p, _), c in zip(predicted, centres, strict=True)]
    values = residuals.decode(plan.model, [v for _, v in predicted], fractions)
    for (r, c), centre, value in zip(places, centres, values, strict=True):
        lattice[r][c] = min(max(centre + value, 0), plan.count - 1)


def decode_lattice(chunk, shape, plan):
    reading = Reading(chunk)
    flags = reading.u8()
    need(flags < 4, "flags that there are not")
    height, width = shape
    rows = bits(reading.take(-(-height // 8)), height) if flags & 1 else [1] * height
    columns = bits(reading.take(-(-width // 8)), width) if flags & 2 else [1] * width
    need(rows[0] and columns[0], "the first row or column repeats none")
    high, wide = sum(rows), sum(columns)
    escapes = reading.varint()
    block = [[None] * wide for _ in range(high)]
    for r in range(0, high, 64):
        for c in range(0, wide, 64):
            block[r][c] = reading.varint()
    escapes = [reading.signed() for _ in range(escapes)]
    residuals = Residuals(reading.rest(), escapes)
    for d in (32, 16, 8, 4, 2, 1):
        lattice = [row[::d] for row in block[::d]]
        for kind in range(3):
            decode_pass(plan, residuals, lattice, {1: 0, 2: 1, 4: 2}.get(d, 3), kind)
        for k, row in enumerate(lattice):
            block[k * d][::d] = row
    residuals.end()

    pixels = np.empty(shape, plan.dtype)
    r = -1
    for y in range(height):
        r, c = r + rows[y], -1
        for x in range(width):
            c += columns[x]
            pixels[y, x] = plan.pixel(block[r][c])
    return pixels


# A whole stream


def put_unfinite(data, pixels):
    """Puts the pixels that are not finite where they belong; the side information follows."""
    reading = Reading(data)
    unfinite = Reading(reading.bytes())
    if unfinite.data:
        mask = bits(inflated(unfinite.bytes()), pixels.size)
        values = inflated(unfinite.rest())
        values = np.frombuffer(values, pixels.dtype.newbyteorder("<"))
        need(len(values) == sum(mask), "another number of pixels that are not finite")
        pixels.reshape(-1)[np.array(mask, bool)] = values
    return reading.rest()


def decode(data, weights=None):
    """The pixels of a stream; of `lapped`, by these weights (arrays by name)."""
    head, frames = read_container(data)
    need(head["version"] == 1, "another version of the coder")
    dtype = np.dtype(head["dtype"])
    shape = (head["height"], head["width"])
    pixels = np.empty((len(frames), *shape), dtype)
    for frame, (own, *chunks) in zip(pixels, frames, strict=True):
        if head["coder"] == "lapped":
            frame[:] = plain_lapped.decode(head, chunks, weights)
        else:
            plan = LatticePlan(head["parameters"], dtype) if head["coder"] == "lattice" else None
            for (rows, columns), chunk in zip(block_areas(head), chunks, strict=True):
                size = (rows.stop - rows.start, columns.stop - columns.start)
                if plan:
                    frame[rows, columns] = decode_lattice(chunk, size, plan)
                else:
                    frame[rows, columns] = decode_bytes(chunk, size, dtype)
        if own:
            need(not put_unfinite(own, frame), "side information that there is none of")
    return pixels if head["frames"] else pixels[0]

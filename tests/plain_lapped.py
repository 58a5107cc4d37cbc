"""`lapped`, written from emd/codec/FORMAT.md alone: numbers exactly, pixels to float rounding."""

import hashlib
import itertools
import math
import struct

import numpy as np
from plain_numbers import WHOLE, ContextModel, Reading, Residuals, context, need, plain

EDGES = [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32]


def read_parameters(data):
    reading = Reading(data)
    side = reading.u8()
    step, offset = struct.unpack("<ff", reading.take(8))
    centres = struct.unpack("bb", reading.take(2))
    reading.end()
    need(side in (8, 16, 32) and step > 0, "parameters")
    return side, step, offset, centres


def fingerprint(weights):
    """The first 8 bytes that stand for these arrays in a header."""
    found = hashlib.sha256()
    for name in sorted(weights):
        array = weights[name]
        shape = ",".join(str(length) for length in array.shape)
        found.update(f"{name}\n{array.dtype.name}\n{shape}\n".encode())
        found.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return found.digest()[:8]


def shells_of(side):
    """The bands (u, v) of each shell, in order."""
    edges = [e for e in EDGES if e < side] + [side]
    bands = [(u, v) for u in range(side) for v in range(side)]
    return [
        [(u, v) for u, v in bands if first <= max(u, v) < after]
        for first, after in itertools.pairwise(edges)
    ]


def groups_of(high, wide):
    """Phase, spacing and places of each group, in order."""
    d = 1
    while max(high, wide) > 4 * d:
        d *= 2
    groups = [(0, d, [(i, j) for i in range(0, high, d) for j in range(0, wide, d)])]
    while d > 1:
        d //= 2
        for phase, row, column in ((1, d, d), (2, 0, d), (2, d, 0)):
            places = [(i, j) for i in range(row, high, 2 * d) for j in range(column, wide, 2 * d)]
            groups.append((phase, d, places))
    return groups


def around(place, phase, d, high, wide):
    """The four places around one; none in phase 0."""

    def inside(t, n):
        if not 0 <= t < n:
            t = -t if t < 0 else t - 2 * d
        return min(max(t, 0), n - 1)

    i, j = place
    if phase == 1:
        found = [(i + y, j + x) for y in (-d, d) for x in (-d, d)]
    elif phase == 2:
        found = [(i - d, j), (i + d, j), (i, j - d), (i, j + d)]
    else:
        found = []
    return [(inside(y, high), inside(x, wide)) for y, x in found]


def within(q):
    return min(max(q, -(1 << 30)), 1 << 30)


class Block:
    """A block of the container: numbers q and magnitudes m, by place and band; 0 is not known."""

    def __init__(self, chunk, high, wide, side, weights):
        reading = Reading(chunk)
        self.size, self.side = (high, wide), side
        self.weights = weights[f"weights_{side}"].tolist()
        self.q = np.zeros((high, wide, side, side), object)
        self.m = np.zeros((high, wide, side, side), object)
        self.earlier = set()  # places of the groups before
        self.before = np.zeros((side, side), object)  # sum of m over them
        shells, self.groups = shells_of(side), groups_of(high, wide)
        kept, escapes = reading.u8(), reading.varint()
        need(kept <= len(shells), "more shells than there are")
        if kept:
            for place in self.groups[0][2]:
                self.set(place, (0, 0), reading.signed(), 0)
        escapes = [within(reading.signed()) for _ in range(escapes)]
        self.residuals = Residuals(reading.rest(), escapes)
        models = [ContextModel(weights[f"model_{name}"]) for name in ("smooth", "other")]
        for phase, d, places in self.groups:
            for k, bands in enumerate(shells[:kept]):
                if places and (k or phase):
                    self.shell(phase, d, places, k, bands, models[k > 0])
            self.earlier.update(places)
            for place in places:
                self.before += self.m[place]
        self.residuals.end()

    def set(self, place, band, q, p):
        self.q[place][band] = q = within(q)
        self.m[place][band] = min(abs(q - p), 255)

    def shell(self, phase, d, places, k, bands, model):
        weights = self.weights[phase][k]
        targets, predictions, activities = [], [], []
        for place in places:
            near = around(place, phase, d, *self.size)
            sums = np.zeros_like(self.before)
            for other in near:
                if other in self.earlier:
                    sums += self.m[other]
            for band in bands:
                p, f5 = 0, 0
                if band == (0, 0):
                    values = [self.q[other][band] for other in near]
                    total = sum(values)
                    p = total + 2 >> 2
                    f5 = min(sum(abs(4 * q - total) for q in values), 4080) << 8
                features = [*self.features(place, band, sums), f5]
                activity = sum(w * f for w, f in zip(weights, features, strict=True)) >> 10
                targets.append((place, band))
                predictions.append(p)
                activities.append(activity)
        are_blank = [context(v) == 0 for v in activities]
        if not any(are_blank) or self.residuals.symbols.decode([plain(1)])[0]:
            are_blank = [False] * len(activities)
        coded = [v for v, is_blank in zip(activities, are_blank, strict=True) if not is_blank]
        values = iter(self.residuals.decode(model, coded, [WHOLE] * len(coded)))
        for (place, band), p, is_blank in zip(targets, predictions, are_blank, strict=True):
            self.set(place, band, p if is_blank else p + next(values), p)

    def features(self, place, band, sums):
        """F0 to F4 of a number; `sums` are of m at the four around, of each band."""
        u, v = band
        f0 = sums[band] << 10
        f1 = (self.before[band] << 12) // max(1, len(self.earlier))
        if band == (0, 0):
            return f0, f1, 0, 0, 0
        m = self.m[place]
        f2 = m[u // 2, v // 2] << 12
        f3 = (self.square(m, u // 2, v // 2) << 12) // 9
        f4 = (self.square(sums, u, v) << 12) // 9 >> 2
        return f0, f1, f2, f3, f4

    def square(self, array, u, v):
        """The sum over a band and the eight around it that there are."""
        total = 0
        for y in range(max(u - 1, 0), min(u + 2, self.side)):
            for x in range(max(v - 1, 0), min(v + 2, self.side)):
                total += array[y, x]
        return total


def decode_numbers(head, chunks, weights):
    """All q of a frame: (I, J, M, M)."""
    need(head["weights"][1] == fingerprint(weights), "other weights")
    side = read_parameters(head["parameters"])[0]
    high, wide = math.ceil(head["height"] / side), math.ceil(head["width"] / side)
    q = np.zeros((high, wide, side, side), np.int64)
    step = head["block"] // side
    chunks = iter(chunks)
    for i in range(0, high, step):
        for j in range(0, wide, step):
            part = q[i : i + step, j : j + step]
            part[:] = Block(next(chunks), *part.shape[:2], side, weights).q
    return q


def cosines_2(n):
    rows = [[math.cos(math.pi * (2 * x + 1) * k / (2 * n)) for x in range(n)] for k in range(n)]
    return np.array([math.sqrt((2 if k else 1) / n) for k in range(n)])[:, None] * rows


def cosines_4(n):
    rows = [
        [math.cos(math.pi * (2 * x + 1) * (2 * k + 1) / (4 * n)) for x in range(n)]
        for k in range(n)
    ]
    return math.sqrt(2 / n) * np.array(rows)


def border_matrix(side):
    half = side // 2
    unit, none = np.eye(half), np.zeros((half, half))
    flip = unit[::-1]
    stretch = np.diag([1.6] + [1.0] * (half - 1))
    v = flip @ cosines_2(half).T @ stretch @ cosines_4(half) @ flip
    butterfly = np.block([[unit, flip], [flip, -unit]])
    return butterfly @ np.block([[unit, none], [none, v]]) @ butterfly / 2


def synthesis(count, side):
    """The matrix that turns the numbers of a row of `count` blocks into its pixels."""
    size = count * side
    cosines = np.zeros((size, size))
    borders = np.eye(size)
    inverse = np.linalg.inv(border_matrix(side))
    for k in range(count):
        inside = slice(k * side, (k + 1) * side)
        cosines[inside, inside] = cosines_2(side).T
        if k:
            across = slice(k * side - side // 2, k * side + side // 2)
            borders[across, across] = inverse
    return borders @ cosines


def decode(head, chunks, weights):
    """The pixels of a frame."""
    side, step, offset, centres = read_parameters(head["parameters"])
    q = decode_numbers(head, chunks, weights)
    high, wide = q.shape[:2]
    gain = np.linalg.norm(synthesis(3, side)[:, side : 2 * side], axis=0)
    size = np.abs(q)
    towards = np.select([size == 0, size == 1], [0, centres[0]], centres[1]) / 256
    values = np.sign(q) * (size - towards) * step / np.outer(gain, gain)
    values = values.transpose(0, 2, 1, 3).reshape(high * side, wide * side)
    pixels = synthesis(high, side) @ values @ synthesis(wide, side).T + offset
    pixels = pixels[: head["height"], : head["width"]]
    dtype = np.dtype(head["dtype"])
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        pixels = np.clip(np.rint(pixels), limits.min, limits.max)
    return pixels.astype(dtype)

"""Streams that stay readable: writes those of tests/data/codec that are not there yet.

    python tests/frozen_streams.py

Each is a stream <name>.emdz and, in <name>.npz, the pixels it decodes to and, of `lapped`, the
CRC-32 of its whole numbers. A file that is there is never written again: what a stream of version
1 decodes to never changes. A case that is added gets a new name. Nothing is written unless the
decoder written from emd/codec/FORMAT.md alone, tests/plain_decoder.py, agrees with the code.
"""

import io
import zlib
from pathlib import Path

import numpy as np
import plain_decoder
import plain_lapped

from emd.codec import Settings, bands, compress, container, decompress, lapped_coder, lapped_weights
from emd.codec.container import Header, Reader
from emd.codec.lapped_layout import layout
from emd.data.micrograph import Micrograph
from emd.shipped import shipped

FOLDER = Path(__file__).parent / "data" / "codec"
TOLERANCE = 1e-3  # of a count, where pixels come out of floating point


def scene(shape, seed=0, contrast=40, noise=4):
    """An image of waves with noise, in counts around 2.5 times the contrast."""
    y, x = np.indices(shape)[-2:]
    waves = np.sin(y / 7) + np.cos(x / 5 + y / 20)
    return contrast * (waves + 2.5) + np.random.default_rng(seed).normal(0, noise, shape)


def with_spikes(pixels):
    """With a few pixels far from all others."""
    found = pixels.copy()
    found[..., 3::17, 5::19] += 9000
    return found


def with_gaps(pixels):
    """With a few pixels that are no numbers."""
    found = pixels.copy()
    found[..., 2, 3:6], found[..., -1, 0], found[..., 0, -1] = np.nan, np.inf, -np.inf
    return found


def sparse(shape, seed=0):
    """Few of the values that uint16 has, in no even steps."""
    levels = np.unique(np.random.default_rng(seed).integers(0, 65536, 60)).astype(np.uint16)
    return levels[scene(shape, seed, 8, 1).clip(0, 50).astype(int)]


def enlarged(shape, seed=0):
    """Each row three times, each column twice."""
    small = np.rint(scene(shape, seed)).astype(np.uint8)
    return small.repeat(3, -2).repeat(2, -1)


def encoded(pixels, **settings):
    return compress(Micrograph(pixels), Settings(**settings))


def lapped_stream(pixels, side, step, centres=(20, -9)):
    """A frame coded by a transform of this side, which the code would choose by itself."""
    weights = lapped_weights.find()
    offset = float(np.float32(pixels.mean(dtype=np.float64)))
    how = lapped_coder.Settled(side, float(np.float32(step)), offset, centres)
    header = Header(
        "lapped", 1, pixels.shape, pixels.dtype.name, lapped_coder.BLOCK_PX,
        (weights.name, weights.fingerprint), how.to_bytes(), (0.2, 0.25), "nm", {"mode": "TEM"},
        "emd tests",
    )  # fmt: skip
    file = io.BytesIO()
    chunks = lapped_coder.encode(pixels, how, weights.known[side])
    container.write(file, header, [b"", *chunks])
    return file.getvalue()


CASES = {
    "lattice_integers": lambda: encoded(scene((66, 50)).astype(np.uint8), lossless=True),
    "lattice_bounded": lambda: encoded(
        with_spikes(scene((70, 40), 1, 300, 9)).astype(np.int16), max_error=3
    ),
    "lattice_floats": lambda: encoded(
        with_gaps(scene((2, 40, 31), 2)).astype(np.float32), max_error=1.25
    ),
    "lattice_ranks": lambda: encoded(sparse((40, 66)), lossless=True),
    "lattice_repeats": lambda: encoded(enlarged((30, 40)), lossless=True),
    "bytes": lambda: encoded(with_gaps(scene((13, 17))).astype(np.float32), lossless=True),
    "lapped_8": lambda: lapped_stream(scene((45, 40)).astype(np.float32), 8, 9),
    "lapped_16": lambda: lapped_stream(with_spikes(scene((40, 66))).astype(np.float32), 16, 99),
    "lapped_32": lambda: lapped_stream(scene((70, 33), 3).astype(np.uint16), 32, 9),
    "lapped_gaps": lambda: encoded(with_gaps(scene((2, 65, 9))).astype(np.float32), quality=70),
}


def weights_of(name):
    """The arrays of the weights of a name."""
    with np.load(shipped() / "streams" / name / "weights.npz") as file:
        return dict(file)


def numbers_of(data):
    """The whole numbers of a `lapped` stream by the code: (n, I, J, M, M)."""
    reader = Reader(io.BytesIO(data))
    side = lapped_coder.from_bytes(reader.header.parameters).side
    known = lapped_weights.find(*reader.header.weights).known[side]
    high, wide = (-(-length // side) for length in reader.header.shape[-2:])
    cells = reader.header.block_px // side
    corners = [(i, j) for i in range(0, high, cells) for j in range(0, wide, cells)]
    numbers = np.zeros((reader.header.frames, high, wide, side * side), np.int64)
    for n, frame in enumerate(numbers):
        for k, (i, j) in enumerate(corners):
            part = frame[i : i + cells, j : j + cells]
            part[:] = bands.decode(reader.chunk(n, 1 + k), part.shape[:2], layout(side), known)
    return numbers.reshape(*numbers.shape[:3], side, side)


def plain_numbers_of(data):
    """The same by the decoder written from the text."""
    head, frames = plain_decoder.read_container(data)
    weights = weights_of(head["weights"][0])
    return np.stack([plain_lapped.decode_numbers(head, own[1:], weights) for own in frames])


def plain_pixels_of(data):
    """The pixels by the decoder written from the text."""
    head, _ = plain_decoder.read_container(data)
    return plain_decoder.decode(data, weights_of(head["weights"][0]) if head["weights"] else None)


def is_lapped(data):
    return Reader(io.BytesIO(data)).header.coder == "lapped"


def checksum(numbers):
    return zlib.crc32(numbers.astype("<i8").tobytes())


def agree(data, found, due):
    """Nothing; fails where pixels of a stream are not those due, in bits or, of lapped, nearly."""
    assert (found.dtype, found.shape) == (due.dtype, due.shape)
    if is_lapped(data) and due.dtype.kind == "f":
        np.testing.assert_allclose(found, due, rtol=0, atol=TOLERANCE)
    else:
        assert found.tobytes() == due.tobytes()


def write(folder, names=tuple(CASES)):
    """The names of the streams that were not in the folder, and now are."""
    missing = [name for name in names if not (folder / f"{name}.emdz").exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for name in missing:
        data = CASES[name]()
        pixels = decompress(data).pixels
        agree(data, plain_pixels_of(data), pixels)
        facts = {"pixels": pixels}
        if is_lapped(data):
            numbers = numbers_of(data)
            np.testing.assert_array_equal(plain_numbers_of(data), numbers)
            facts["numbers_crc"] = np.uint32(checksum(numbers))
        with (folder / f"{name}.npz").open("xb") as file:  # x: never over another
            np.savez_compressed(file, **facts)
        with (folder / f"{name}.emdz").open("xb") as file:
            file.write(data)
    return missing


if __name__ == "__main__":
    write(FOLDER)

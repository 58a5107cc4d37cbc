"""emd/codec/FORMAT.md is enough to decode from, and streams written once stay readable."""

import io

import frozen_streams
import numpy as np
import plain_decoder
import pytest
from frozen_streams import (
    CASES,
    FOLDER,
    agree,
    checksum,
    encoded,
    enlarged,
    is_lapped,
    lapped_stream,
    numbers_of,
    plain_numbers_of,
    plain_pixels_of,
    scene,
    sparse,
    with_gaps,
    with_spikes,
)
from plain_numbers import DamageError, Reading

from emd.codec import decompress
from emd.codec.container import Reader

SHAPES = [(1, 1), (1, 7), (7, 1), (2, 2), (1, 140), (140, 1), (65, 3), (70, 90), (130, 140)]


def whole(pixels, dtype):
    return np.rint(pixels).astype(dtype)


def edges(shape):
    """From 0 to 255."""
    return scene(shape, 0, 80).clip(0, 255).astype(np.uint8)


def shot_noise(shape):
    y, x = np.indices(shape)
    return np.random.default_rng(0).poisson(30 * (1 + np.sin(x / 9 + y / 5)) ** 2)


EXACT = {
    "uint8": ("lattice", 0, whole(scene((30, 37)), np.uint8)),
    "int8": ("lattice", 0, whole(scene((25, 37), 1, 30) - 75, np.int8)),
    "int16": ("lattice", 0, whole(scene((30, 37), 2, 90, 90), np.int16)),
    "int16, spikes": ("lattice", 2, whole(with_spikes(scene((30, 37), 2)), np.int16)),
    "int32, all different": ("lattice", 2, whole(scene((30, 37), 3, 10**5, 10**5), np.int32)),
    "uint16, ranks": ("lattice", 2, sparse((70, 45))),
    "float32, whole": ("lattice", 1, whole(scene((30, 37)) - 90, np.float32) + 0),  # no -0
    "float32, whole, with -0": ("bytes", None, np.float32([[3, -0.0], [0, 2]])),
    "float16, whole": ("lattice", 1, whole(scene((16, 33)), np.float16)),
    "repeats": ("lattice", 0, enlarged((11, 18))),
    "rows repeat": ("lattice", 0, enlarged((11, 18))[:, ::2]),
    "columns repeat": ("lattice", 0, enlarged((11, 18))[::3]),
    "constant": ("lattice", 0, np.full((30, 37), 7, np.uint16)),
    "stack": ("lattice", 0, whole(scene((3, 12, 30)), np.uint16)),
    # the last block is one column, whose activity the intensity tells
    "several blocks": ("lattice", 0, shot_noise((20, 513)).astype(np.uint16)),
    "float32": ("bytes", None, scene((30, 37)).astype(np.float32)),
    "float64, gaps": ("bytes", None, with_gaps(scene((2, 20, 30)))),
    "several blocks of bytes": ("bytes", None, scene((515, 3)).astype(np.float32)),
}

BOUNDED = {
    "uint8": (0, 2, whole(scene((40, 45)), np.uint8)),
    "uint8, its highest level beyond 255": (0, 6, edges((30, 37))),
    "int32, steep": (0, 1, whole(scene((30, 37), 3, 3e6, 4e6), np.int32)),
    "uint16, spikes": (0, 1, whole(with_spikes(scene((40, 45), 1, 90)), np.uint16)),
    "float32": (1, 0.75, scene((40, 45)).astype(np.float32)),
    "float64, stack with gaps": (1, 1.5, with_gaps(scene((3, 12, 30)))),
}


def facts(data):
    """The coder, and the first byte of its parameters: the kind of lattice, the side of lapped."""
    header = Reader(io.BytesIO(data)).header
    return header.coder, header.parameters[0] if header.parameters else None


def check(data):
    """The plain decoder and the code agree on pixels and numbers."""
    agree(data, plain_pixels_of(data), decompress(data).pixels)
    if is_lapped(data):
        np.testing.assert_array_equal(plain_numbers_of(data), numbers_of(data))


@pytest.mark.parametrize("name", EXACT)
def test_exact_streams_decode_by_the_text(name):
    coder, kind, pixels = EXACT[name]
    data = encoded(pixels, lossless=True)
    assert facts(data) == (coder, kind)
    check(data)
    assert plain_pixels_of(data).tobytes() == pixels.tobytes()


@pytest.mark.parametrize("name", BOUNDED)
def test_bounded_streams_decode_by_the_text(name):
    kind, max_error, pixels = BOUNDED[name]
    data = encoded(pixels, max_error=max_error)
    assert facts(data) == ("lattice", kind)
    check(data)
    is_finite = np.isfinite(pixels)
    gaps = np.abs(plain_pixels_of(data)[is_finite].astype(float) - pixels[is_finite])
    assert 0 < gaps.max() <= max_error


@pytest.mark.parametrize("shape", SHAPES)
def test_all_shapes_decode_by_the_text(shape):
    pixels = whole(scene(shape), np.uint16)
    check(encoded(pixels, lossless=True))
    check(encoded(pixels.astype(np.float32), quality=40))


LAPPED = {
    "8": (8, 6, scene((40, 50)).astype(np.float32)),
    "16": (16, 9, scene((33, 40)).astype(np.float32)),
    "32": (32, 9, scene((33, 50)).astype(np.float32)),
    "spikes, 8": (8, 20, with_spikes(scene((33, 40))).astype(np.int16)),
    "spikes, 16": (16, 20, with_spikes(scene((33, 40))).astype(np.int16)),
    "wide, steep": (8, 6, scene((9, 140), 0, 2000).astype(np.float32)),
    "narrow": (8, 3, scene((140, 3)).astype(np.uint16)),
    "narrow, 16": (16, 9, scene((130, 17)).astype(np.float32)),
    "several blocks": (8, 25, scene((520, 5)).astype(np.float32)),
    "several blocks, 16": (16, 50, scene((2, 520)).astype(np.float32)),
    "all numbers are 0": (32, 1e4, scene((40, 40)).astype(np.uint8)),
}


@pytest.mark.parametrize("name", LAPPED)
def test_lapped_streams_decode_by_the_text(name):
    side, step, pixels = LAPPED[name]
    data = lapped_stream(pixels, side, step)
    assert facts(data) == ("lapped", side)
    check(data)


@pytest.mark.parametrize("quality", [0, 50, 100])
def test_stacks_with_gaps_decode_by_the_text(quality):
    data = encoded(with_gaps(scene((2, 20, 33))).astype(np.float32), quality=quality)
    assert is_lapped(data)
    check(data)


def test_the_streams_above_hold_escapes():
    lattice = encoded(BOUNDED["uint16, spikes"][2], max_error=1)
    lapped = lapped_stream(with_spikes(scene((33, 40))).astype(np.int16), 8, 20)
    for data in (lattice, lapped):
        block = Reading(plain_decoder.read_container(data)[1][0][1])
        assert block.u8() in (0, 6)  # nothing repeats; all shells
        assert block.varint() > 0


def test_the_plain_decoder_refuses_damage():
    """What it takes for right has been checked."""
    data = encoded(whole(scene((20, 30)), np.uint8), lossless=True)
    for place in (3, 20, len(data) // 2, len(data) - 12, len(data) - 1):
        bad = bytearray(data)
        bad[place] ^= 4
        with pytest.raises(DamageError):
            plain_pixels_of(bytes(bad))


def frozen(name):
    """A frozen stream, and the file of what it decodes to."""
    return (FOLDER / f"{name}.emdz").read_bytes(), np.load(FOLDER / f"{name}.npz")


@pytest.mark.parametrize("name", CASES)
def test_frozen_streams_decode(name):
    data, known = frozen(name)
    with known:
        agree(data, decompress(data).pixels, known["pixels"])
        if is_lapped(data):
            assert checksum(numbers_of(data)) == known["numbers_crc"]


@pytest.mark.parametrize("name", CASES)
def test_frozen_streams_decode_by_the_text(name):
    data, known = frozen(name)
    with known:
        agree(data, plain_pixels_of(data), known["pixels"])
        if is_lapped(data):
            assert checksum(plain_numbers_of(data)) == known["numbers_crc"]


def test_frozen_streams_are_of_all_kinds():
    found = {facts(frozen(name)[0]) for name in CASES}
    lattice, lapped = {("lattice", kind) for kind in range(3)}, {("lapped", m) for m in (8, 16, 32)}
    assert found == {*lattice, *lapped, ("bytes", None)}
    assert {path.stem for path in FOLDER.iterdir()} == set(CASES)


def test_frozen_streams_are_never_written_again(tmp_path):
    assert frozen_streams.write(tmp_path, ["bytes", "lapped_8"]) == ["bytes", "lapped_8"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(before) == 4
    assert frozen_streams.write(tmp_path, ["bytes", "lapped_8"]) == []
    (tmp_path / "bytes.emdz").unlink()
    with pytest.raises(FileExistsError):
        frozen_streams.write(tmp_path, ["bytes"])
    after = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert after.items() <= before.items()

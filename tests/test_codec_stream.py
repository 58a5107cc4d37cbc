"""Streams end to end: what comes back, what was asked for is kept, damage is one FormatError."""

import contextlib
import io
import json
import re
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
import zstandard

from emd import codec
from emd.codec import Settings, container, floats, frames, lapped_weights
from emd.codec.container import Header, Reader
from emd.codec.settings import check
from emd.codec.varints import pack_bytes
from emd.data.contents import DTYPES, FormatError
from emd.data.micrograph import Micrograph

SHAPES = [(1, 1), (1, 7), (7, 1), (2, 2), (65, 3), (3, 1000), (64, 64), (65, 65), (513, 130)]
FLOATS = ["float16", "float32", "float64"]


def scene(shape, dtype="uint16", seed=0, noise=10.0):
    """Waves, an edge and noise, around the middle of a type's range."""
    rows, columns = np.mgrid[: shape[-2], : shape[-1]]
    found = 30 * np.sin(rows / 9) * np.cos(columns / 13) + 20 * (rows > columns)
    found = found + np.random.default_rng(seed).normal(0, noise, shape)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return found.astype(dtype)
    info = np.iinfo(dtype)
    middle = (int(info.max) + int(info.min)) // 2
    return np.rint(middle + found).clip(info.min, info.max).astype(dtype)


def compressed(pixels, **settings):
    return codec.compress(Micrograph(pixels), Settings(**settings))


def tried(pixels, **settings):
    """The stream of pixels, or else the line that refuses them."""
    try:
        return compressed(pixels, **settings), ""
    except FormatError:
        raise  # nothing was read: no file is damaged
    except ValueError as error:
        return b"", str(error)


def through(pixels, **settings):
    """What comes back of pixels."""
    found = codec.decompress(compressed(pixels, **settings)).pixels
    assert (found.shape, found.dtype) == (pixels.shape, pixels.dtype)
    return found


def gap(found, pixels):
    """The largest error, as exact as can be."""
    return np.abs(found.astype(np.longdouble) - pixels.astype(np.longdouble)).max()


def psnr(found, pixels):
    exact = pixels.astype(np.float64)
    error = ((found.astype(np.float64) - exact) ** 2).mean()
    return 20 * np.log10(np.ptp(exact) / np.sqrt(max(error, 1e-30)))


# --- what comes back -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES[:4])
def test_small_images_of_any_type_come_back(shape, dtype):
    pixels = scene(shape, dtype)
    assert through(pixels, lossless=True).tobytes() == pixels.tobytes()
    if shape == (2, 2):
        assert gap(through(pixels, max_error=3.0), pixels) <= 3
        assert gap(through(pixels, quality=90.0), pixels) < 8


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("shape", [*SHAPES[4:6], *SHAPES[7:]])
def test_larger_images_come_back(shape, dtype):
    pixels = scene(shape, dtype)
    assert through(pixels, lossless=True).tobytes() == pixels.tobytes()
    if pixels.size < 10_000:
        assert gap(through(pixels, max_error=2.5), pixels) <= 2.5


@pytest.mark.parametrize("dtype", DTYPES)
def test_stacks_of_any_type_come_back(dtype):
    pixels = scene((2, 14, 12), dtype)
    assert through(pixels, lossless=True).tobytes() == pixels.tobytes()
    found = through(pixels, max_error=4.0)
    assert gap(found, pixels) <= 4


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d not in FLOATS])
def test_whole_ranges_of_integers_come_back(dtype):
    info = np.iinfo(dtype)
    random = np.random.default_rng(0)
    for shape in ((15, 20), (129, 130)):
        if shape[0] > 100 and info.bits < 32:
            break
        pixels = random.integers(info.min, info.max, shape, dtype, endpoint=True)
        pixels[0, :2] = info.min, info.max
        np.testing.assert_array_equal(through(pixels, lossless=True), pixels)
    for bound in (200.0, 1e300):
        assert gap(through(pixels, max_error=bound), pixels) <= bound
    # noise of the whole range, and no error beyond a few steps
    assert psnr(through(pixels, quality=90.0), pixels) > 30


def special(dtype):
    """Not numbers of two kinds, both infinities, both zeros, the ends of the type."""
    dtype = np.dtype(dtype)
    info = np.finfo(dtype)
    values = [np.nan, np.inf, -np.inf, -0.0, 0.0, info.max, info.min, info.smallest_subnormal]
    pixels = np.tile(np.array(values, dtype), (9, 3))
    bits = pixels.view(f"u{dtype.itemsize}")
    bits[3, :8:8] += 5  # another bit pattern that is no number
    assert np.isnan(pixels[3, 0])
    return pixels


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_bit_of_floats_comes_back(dtype):
    pixels = special(dtype)
    assert through(pixels, lossless=True).tobytes() == pixels.tobytes()
    whole = np.rint(scene((40, 50), dtype)) + np.dtype(dtype).type(0)
    assert codec.describe(compressed(whole, lossless=True))["coder"] == "lattice"
    assert through(whole, lossless=True).tobytes() == whole.tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [-0.0, np.nan, 0.25])
def test_one_pixel_that_is_no_whole_number_is_kept(dtype, value):
    pixels = np.abs(np.rint(scene((20, 30), dtype)))
    pixels[7, 9] = value
    assert through(pixels, lossless=True).tobytes() == pixels.tobytes()


@pytest.mark.parametrize("settings", [{"max_error": 0.5}, {"quality": 80.0}])
@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_not_finite_stays_where_it_is(dtype, settings):
    pixels = scene((2, 24, 30), dtype)
    pixels[0, 3, 4:9], pixels[1, 23, 29], pixels[1, 0, 0] = np.nan, np.inf, -np.inf
    found = through(pixels, **settings)
    wrong = ~np.isfinite(pixels)
    np.testing.assert_array_equal(found[wrong], pixels[wrong])
    assert np.isfinite(found[~wrong]).all()
    assert gap(found[~wrong], pixels[~wrong]) < 40
    nothing = np.full((20, 30), -np.inf, dtype)
    np.testing.assert_array_equal(through(nothing, **settings), nothing)


@pytest.mark.parametrize("value", [0, 0.1, 3.7, 1234.567, -1e9, 1e15 + 1])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("settings", [{}, {"psnr": 40.0}])
def test_constant_images_take_a_few_bytes(value, dtype, settings):
    if dtype == "int32":
        value = np.clip(value, -(2**31), 2**31 - 1)
    pixels = np.full((33, 70), value, dtype)
    data = compressed(pixels, **settings)
    found = codec.decompress(data).pixels
    np.testing.assert_allclose(found, pixels, rtol=1e-6)
    assert len(data) < 900


def test_calibration_and_metadata_come_back():
    given = Micrograph(scene((20, 30)), (0.2, 0.3), "nm", {"mode": "STEM", "emd": [{"model": "x"}]})
    found = codec.decompress(codec.compress(given, Settings(lossless=True)))
    assert (found.pixel_size, found.unit) == ((0.2, 0.3), "nm")
    assert found.metadata["mode"] == "STEM"
    before, step = found.metadata["emd"]
    assert before == {"model": "x"}
    assert step["model"] == "emdz lattice"


@pytest.mark.parametrize("value", [None, 5, "text", {"a": 1}, True])
def test_any_metadata_comes_back(value):
    """The name is ours, but a file may hold anything under it."""
    given = Micrograph(scene((5, 6)), metadata={"emd": value, "other": value})
    found = codec.decompress(codec.compress(given, Settings(lossless=True)))
    assert found.metadata["other"] == value
    assert found.metadata["emd"][-1]["model"] == "emdz lattice"


class Given:
    """Pixels as a file gives them: in another byte order, frame by frame."""

    calibration, metadata = (None, ""), {}

    def __init__(self, pixels):
        self.shape, self.dtype = pixels.shape, pixels.dtype
        self._pixels = pixels.reshape(-1, *pixels.shape[-2:])

    def __getitem__(self, part):
        assert part.stop - part.start == 1
        return self._pixels[part]


@pytest.mark.parametrize("dtype", [">u2", ">f4", "<f4"])
def test_either_byte_order_is_read(dtype):
    pixels = scene((2, 20, 30)).astype(dtype)
    file = io.BytesIO()
    codec.compress_to(file, Given(pixels), Settings(lossless=True))
    np.testing.assert_array_equal(codec.decompress(file.getvalue()).pixels, pixels)


# --- parts -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stacks():
    """Two frames of two blocks each, as streams of each coder."""
    whole = scene((2, 520, 4), "float32")
    holes = whole.copy()
    holes[0, 510:514, 1:3] = np.nan
    holes[1, 0, 0] = np.inf
    return {
        "lattice": compressed(np.rint(whole).astype(np.int16), lossless=True),
        "bytes": compressed(holes, lossless=True),
        "lapped": compressed(whole.astype(np.float64), quality=80.0),
        "lapped with holes": compressed(holes, quality=70.0),
    }


@pytest.mark.parametrize("name", ["lattice", "bytes", "lapped", "lapped with holes"])
def test_parts_are_those_of_the_whole(stacks, name):
    data = stacks[name]
    whole = codec.decompress(data).pixels
    bound = 1e-9 if name == "lapped" else 1e-4 if name == "lapped with holes" else 0
    np.testing.assert_array_equal(codec.decompress(data, frame=1).pixels, whole[1])
    both = codec.decompress(data, frame=0, region=(509, 514, 0, 4)).pixels
    np.testing.assert_allclose(both, whole[0, 509:514], rtol=0, atol=bound)
    for y0, y1, x0, x1 in ((508, 516, 1, 3), (519, 520, 3, 4)):
        part = whole[:, y0:y1, x0:x1]
        found = codec.decompress(data, region=(y0, y1, x0, x1))
        np.testing.assert_allclose(found.pixels, part, rtol=0, atol=bound)
        assert found.metadata["emd"][-1]["region"] == [y0, y1, x0, x1]


def test_a_part_of_a_stack_so_narrow_that_it_looks_like_colour_is_refused():
    data = compressed(scene((16, 20, 6), "uint8"), lossless=True)
    with pytest.raises(ValueError, match="look like RGB") as caught:
        codec.decompress(data, region=(0, 18, 2, 5))
    assert caught.type is ValueError  # the file is not damaged


@pytest.mark.parametrize(
    "region", [(0, 0, 0, 5), (-1, 5, 0, 5), (0, 21, 0, 5), (0, 5, 30, 31), (5, 4, 0, 5)]
)
def test_a_region_that_is_not_in_the_image_is_told(region):
    data = compressed(scene((20, 30)), lossless=True)
    with pytest.raises(ValueError, match=r"region .* rows are 0:20, columns 0:30"):
        codec.decompress(data, region=region)


@pytest.mark.parametrize("frame", [-1, 1])
def test_a_frame_that_is_not_there_is_told(frame):
    data = compressed(scene((20, 30)), lossless=True)
    with pytest.raises(FormatError, match=f"no frame {frame}: its frames are 0 to 0"):
        codec.decompress(data, frame=frame)


# --- what was asked for ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4, 1e30, 1e300])
def test_bounds_hold_for_floats_of_any_size(dtype, size):
    if size * 100 > float(np.finfo(dtype).max):
        pytest.skip("beyond the type")
    pixels = (scene((15, 20), "float64") * size).astype(dtype)
    for bound in (0.01 * size, 50 * size, 1.0):
        assert gap(through(pixels, max_error=bound), pixels) <= bound


@pytest.mark.parametrize(
    ("pixels", "bound"),
    [
        (np.array([[65504, 1]], np.float16), 100),
        (np.array([[3.4e38, -3.4e38]], np.float32), 1e38),
        (np.array([[1e308, 1.0]]), 1.7e308),
        (np.array([[1.0, 2.0]]), 5e-324),
        (np.array([[-0.0, 2.0]]), 1e-3),
    ],
)
def test_bounds_hold_at_the_ends_of_floats(pixels, bound):
    assert gap(through(pixels, max_error=bound), pixels) <= bound


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_more_quality_is_never_worse(dtype):
    pixels = scene((48, 48), dtype, noise=5.0)
    last, sizes = -np.inf, []
    for quality in map(float, range(0, 101, 20)):
        data = compressed(pixels, quality=quality)
        value = psnr(codec.decompress(data).pixels, pixels)
        assert value >= last
        last = value
        sizes.append(len(data))
    assert sizes == sorted(sizes)
    assert last > 45


def test_ten_of_quality_halve_the_error():
    pixels, quality = scene((64, 64), "float32"), 65.0
    coarse, fine = (psnr(through(pixels, quality=q), pixels) for q in (quality, quality + 10))
    assert fine - coarse == pytest.approx(6.02, abs=1.2)


@pytest.mark.parametrize(("bpp", "shape"), [(0.8, (3, 48, 40)), (3.0, (70, 60))])
def test_a_stream_has_no_more_bits_than_asked_for(bpp, shape):
    pixels = scene(shape)
    metadata = {"note": "x" * 100, "list": list(range(30))}
    given = Micrograph(pixels, (0.1, 0.2), "nm", metadata)
    data = codec.compress(given, Settings(bpp=bpp))
    assert 0.9 * bpp < 8 * len(data) / pixels.size <= bpp


def test_what_is_not_finite_counts_among_the_bits():
    pixels = scene((128, 128), "float32")
    pixels[np.random.default_rng(0).random(pixels.shape) < 0.01] = np.nan
    assert 8 * len(compressed(pixels, bpp=1.0)) <= pixels.size


def test_too_few_bits_are_told_with_how_many_do():
    """First what the header takes, then what the blocks take at least."""
    pixels, bpp, refusals = scene((6, 16, 16)), 0.01, []
    while len(refusals) < 4:
        data, refusal = tried(pixels, bpp=bpp)
        if data:
            break
        refusals.append(re.sub(r"[\d.]+", "N", refusal))
        bpp = float(refusal.split()[-3])
    assert 8 * len(data) <= bpp * pixels.size
    assert refusals == [
        "bpp N does not hold the header: ask for N or more",
        "bpp N is not reached: ask for N or more",
    ]


@pytest.mark.parametrize("wanted", [25.0, 43.3])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_psnr_is_reached(wanted, dtype):
    pixels = scene((32, 40), dtype)
    found = psnr(through(pixels, psnr=wanted), pixels)
    assert wanted - 0.01 <= found < wanted + 1


def test_without_a_wish_errors_drown_in_the_noise():
    clean, noisy = (scene((160, 160), "float32", noise=n) for n in (0.0, 10.0))
    data = compressed(noisy)
    found = codec.decompress(data).pixels
    assert 8 * len(data) <= 1.5 * noisy.size
    assert 2 < (found - noisy).std() < 8
    assert psnr(found, clean) > psnr(noisy, clean)


@pytest.mark.parametrize("settings", [{"quality": 60.0}, {"bpp": 2.5}])
def test_a_change_of_scale_and_offset_changes_no_bit_of_the_numbers(settings):
    pixels = np.rint(scene((32, 40), "float32"))
    data = compressed(pixels, **settings)
    found = codec.decompress(data).pixels
    for gain, offset in ((2.0**40, 0), (2.0**-3, 1024), (2, -77)):
        other = compressed((gain * pixels + offset).astype(np.float32), **settings)
        assert len(other) == len(data)
        mapped = gain * found.astype(np.float64) + offset
        # the offset that the header holds is a float32, as the pixels are
        rounding = 2 * np.spacing(np.float32(np.abs(mapped).max())) * (offset != 0)
        np.testing.assert_allclose(codec.decompress(other).pixels, mapped, rtol=0, atol=rounding)


def test_a_bound_of_zero_is_lossless():
    pixels = scene((30, 40))
    assert compressed(pixels, max_error=0.0) == compressed(pixels, lossless=True)
    assert codec.describe(compressed(pixels, max_error=0.9))["settings"] == {"lossless": True}


def uneven(quiet, loud):
    """Frames of which those that steps are tried on (0, 2) are quiet."""
    return np.stack([loud if k % 2 else quiet for k in range(4)])


LOUD = {
    "uint16": np.random.default_rng(0).integers(0, 60_000, (32, 32)).astype(np.uint16),
    "float32": np.random.default_rng(0).normal(0, 1e5, (32, 32)).astype(np.float32),
}


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_wishes_are_kept_where_the_frames_that_are_tried_are_dark(dtype, noise):
    """As the first frames of a movie before the beam is on."""
    dark = np.full((32, 32), 100, dtype)
    dark += np.random.default_rng(1).normal(20, noise, dark.shape).astype(dtype)
    pixels = uneven(dark, LOUD[dtype])
    assert 8 * len(compressed(pixels, bpp=1.0)) <= pixels.size
    assert 8 * len(compressed(pixels)) <= 1.5 * pixels.size


@pytest.mark.parametrize(
    ("dtype", "value"), [("int32", 2**31 - 1), ("float32", 1e15), ("float32", 1e30)]
)
@pytest.mark.parametrize("settings", [{"quality": 90.0}, {"bpp": 3.0}, {}])
def test_one_hot_pixel_destroys_no_stream(dtype, value, settings):
    """In a frame that steps are not tried on: numbers far beyond what they were chosen for."""
    pixels = np.random.default_rng(0).poisson(5, (4, 32, 32)).astype(dtype)
    pixels[1, 20, 20] = value
    data, refusal = tried(pixels, **settings)
    if refusal:  # which is no harm
        assert "\n" not in refusal
        return
    found = codec.decompress(data).pixels
    assert found[1, 20, 20] == pytest.approx(value, rel=0.3)
    assert gap(found[2:], pixels[2:]) < 20


@pytest.mark.parametrize("size", [1e300, 1e60, 3e38, 1e37, 1e29, 1e-30, 1e-42, 1e-60])
@pytest.mark.parametrize("settings", [{"quality": 0.0}, {"psnr": 30.0}, {}])
def test_floats_of_any_size_are_coded_or_refused_in_one_line(size, settings):
    dtype = np.float32 if 1e-44 < size <= 3e38 else np.float64
    pixels = (np.random.default_rng(0).random((16, 16)) * size).astype(dtype)
    data, refusal = tried(pixels, **settings)
    if refusal:
        assert "\n" not in refusal
        assert not 1e-40 < size < 1e30
        return
    found = codec.decompress(data).pixels
    assert np.isfinite(found).all()
    assert gap(found, pixels) < 1.1 * size


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"lossless": True, "bpp": 1.0},
            "lossless and bpp exclude one another: ask for one of them",
        ),
        ({"quality": 0.0, "bpp": 1.0}, "quality and bpp exclude one another"),
        ({"max_error": 0.0, "psnr": 30.0}, "max_error and psnr exclude one another"),
        ({"max_error": 1.0, "quality": 5.0, "psnr": 3.0}, "max_error and quality and psnr exclude"),
        ({"quality": -1}, "quality -1: give from 0 to 100"),
        ({"quality": 100.5}, "quality 100.5: give from 0 to 100"),
        ({"quality": np.nan}, "quality nan: give from 0 to 100"),
        ({"bpp": 0.0}, "bpp 0: give a finite number above 0"),
        ({"bpp": -2}, "bpp -2: give a finite number above 0"),
        ({"bpp": np.inf}, "bpp inf: give a finite number above 0"),
        ({"psnr": 0.0}, "psnr 0: give a finite number above 0"),
        ({"psnr": np.nan}, "psnr nan: give a finite number above 0"),
        ({"max_error": -1}, "max_error -1: give a finite number"),
        ({"max_error": np.inf}, "max_error inf: give a finite number"),
        ({"max_error": 0.0, "model": "lapped"}, "max_error takes no model, and lapped was given"),
        ({"lossless": True, "model": "temstem_latent16"}, "lossless takes no model"),
        ({"model": "nothing"}, "model nothing has no weights for streams: .* lapped"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        compressed(scene((20, 30)), **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        *[{}, {"lossless": True}, {"max_error": 0.0}, {"max_error": 1e9}, {"quality": 0.0}],
        *[
            {"quality": 100.0},
            {"bpp": 1e-9},
            {"psnr": 300.0},
            {"model": "lapped"},
            {"denoise": "fit"},
        ],
    ],
)
def test_settings_that_make_sense_pass(settings):
    check(Settings(**settings))


def test_a_psnr_beyond_the_coder_is_told():
    with pytest.raises(ValueError, match=r"use max_error|ask for less quality$"):
        compressed(scene((20, 30), "float32"), psnr=300.0)


# --- damage ----------------------------------------------------------------------------------


def parts(data):
    """Header and chunks of a stream."""
    reader = Reader(io.BytesIO(data))
    head = reader.header
    return head, [reader.chunk(f, k) for f in range(head.frames) for k in range(1 + head.blocks)]


def rebuilt(head, chunks):
    """A stream whose checksums are right, whatever is in it."""
    file = io.BytesIO()
    container.write(file, head, chunks)
    return file.getvalue()


def mutated(data, random):
    """Bytes with a bit flipped, a byte changed, an end cut off, bytes put in, or all others."""
    changed = bytearray(data)
    kind = random.integers(5) if data else 4
    place = int(random.integers(max(len(data), 1)))
    if kind == 0:
        changed[place] ^= 1 << random.integers(8)
    elif kind == 1:
        changed[place] = random.integers(256)
    elif kind == 2:
        del changed[place:]
    elif kind == 3:
        changed[place:place] = random.bytes(random.integers(1, 9))
    else:
        changed = random.bytes(random.integers(0, 60))
    return bytes(changed)


def sources():
    """Small streams of each coder, with side information and without."""
    holes = scene((12, 13), "float32")
    holes[3, 4], holes[7:12, 7] = np.nan, np.inf
    few = np.random.default_rng(0).choice([0, 9, 500, 501, 60_000], (12, 13)).astype(np.uint16)
    return {
        "lattice": compressed(scene((12, 13)), lossless=True),
        "whole floats": compressed(np.rint(scene((12, 13), "float32")), lossless=True),
        "ranks": compressed(few, lossless=True),
        "bounded": compressed(holes, max_error=0.5),
        "bytes": compressed(holes, lossless=True),
        "lapped": compressed(scene((12, 13)), quality=60.0),
        "lapped with holes": compressed(holes, quality=60.0),
    }


SOURCES = ["lattice", "whole floats", "ranks", "bounded", "bytes", "lapped", "lapped with holes"]


@pytest.fixture(scope="module")
def small():
    found = sources()
    assert list(found) == SOURCES
    return {name: parts(data) for name, data in found.items()}


def survives(data):
    """Whether a stream decodes to something of its shape; else it is a FormatError."""
    before = time.monotonic()
    try:
        found = codec.decompress(data)
        json.dumps(codec.describe(data))
    except FormatError:
        return False
    finally:
        assert time.monotonic() - before < 5
    assert found.pixels.shape == (12, 13)
    return True


@pytest.mark.parametrize("name", SOURCES)
def test_damage_that_no_checksum_tells_is_a_picture_or_an_error(small, name):
    head, chunks = small[name]
    random = np.random.default_rng(SOURCES.index(name))
    assert survives(rebuilt(head, chunks))
    outcomes = set()
    for k in range(36):
        changed, other = list(chunks), head
        if k % 3 == 2:
            other = head._replace(parameters=mutated(head.parameters, random))
        else:
            place = random.integers(len(chunks))
            changed[place] = mutated(chunks[place], random)
        outcomes.add(survives(rebuilt(other, changed)))
    assert False in outcomes


@pytest.mark.parametrize("name", SOURCES)
def test_random_parameters_are_an_error_or_a_picture(small, name):
    head, chunks = small[name]
    random = np.random.default_rng(9)
    for size in (0, 1, 2, 5, 11, 40, 500):
        survives(rebuilt(head._replace(parameters=random.bytes(size)), chunks))


@pytest.mark.parametrize("name", SOURCES)
def test_chunks_in_the_wrong_place_are_an_error(small, name):
    head, chunks = small[name]
    with pytest.raises(FormatError):
        codec.decompress(rebuilt(head, [*chunks[:-1], b""]))
    with pytest.raises(FormatError):
        codec.decompress(rebuilt(head, [chunks[1], chunks[1]]))
    with pytest.raises(FormatError):
        codec.decompress(rebuilt(head, [pack_bytes(b"") + b"more", chunks[1]]))


def other_weights(head, **changes):
    name, fingerprint = head.weights
    return head._replace(
        weights=(changes.get("name", name), changes.get("fingerprint", fingerprint))
    )


@pytest.mark.parametrize("name", ["lattice", "bytes", "lapped"])
def test_what_this_version_does_not_know_is_told(small, name):
    head, chunks = small[name]
    for other in (head._replace(coder="wavelets"), head._replace(coder_version=2)):
        data = rebuilt(other, chunks)
        with pytest.raises(FormatError, match=r"does not know: update it \(pip install -U"):
            codec.decompress(data)
        # what it is can still be told
        assert codec.describe(data)["coder"] == other.coder
    with pytest.raises(FormatError, match="blocks of 256 pixels"):
        codec.decompress(rebuilt(head._replace(block_px=256), chunks))


def test_weights_that_are_others_make_no_picture(small):
    head, chunks = small["lapped"]
    assert head.weights == (lapped_weights.NEWEST, lapped_weights.find().fingerprint)
    wrong = [
        (other_weights(head, fingerprint="0" * 16), f"fingerprint {'0' * 16}, and those here have"),
        (
            other_weights(head, name="lapped-v999"),
            "needs weights 'lapped-v999', which are not here",
        ),
        (other_weights(head, name="../../x"), "which are not here"),
        (head._replace(weights=None), "names no weights"),
    ]
    for other, message in wrong:
        with pytest.raises(FormatError, match=message):
            codec.decompress(rebuilt(other, chunks))


def test_a_header_of_colour_is_no_micrograph(small):
    """No micrograph is compressed to it, and none comes of it."""
    head, _ = small["bytes"]
    grey = head._replace(shape=(16, 20, 3), dtype="uint8")
    block = floats.encode(np.zeros((20, 3), np.uint8))
    with pytest.raises(ValueError, match="look like RGB"):
        codec.decompress(rebuilt(grey, [b"", block] * 16))


def test_parameters_where_there_are_none_are_damage(small):
    head, chunks = small["bytes"]
    with pytest.raises(FormatError, match="parameters are damaged"):
        codec.decompress(rebuilt(head._replace(parameters=b"x"), chunks))


@pytest.mark.parametrize("name", ["lattice", "bounded", "lapped"])
def test_another_type_of_pixels_is_no_crash(small, name):
    head, chunks = small[name]
    for dtype in DTYPES:
        with contextlib.suppress(FormatError):
            found = codec.decompress(rebuilt(head._replace(dtype=dtype), chunks))
            assert found.dtype == dtype


def test_pixels_that_fit_in_no_memory_are_refused_at_once():
    head = Header(
        "lattice", 1, (10**6, 10**6), "float64", 2**16, None, b"", None, "", {}, "emd 0.1.0"
    )
    data = rebuilt(head, [b""] * head.chunks)
    tracemalloc.start()
    with pytest.raises(FormatError, match="ask for a region or a frame"):
        codec.decompress(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("name", ["ranks", "bounded", "bytes", "lapped with holes"])
def test_damaged_lengths_take_no_memory(small, name):
    """The largest numbers where a length or a count may be."""
    head, chunks = small[name]
    most = b"\xff" * 8 + b"\x7f"
    tracemalloc.start()
    for place in (0, 1, 3):
        changed = [chunks[0], chunks[1][:place] + most + chunks[1][place + 1 :]]
        survives(rebuilt(head, changed))
        parameters = head.parameters[:place] + most + head.parameters[place + 1 :]
        survives(rebuilt(head._replace(parameters=parameters), chunks))
        side = most[:place] + pack_bytes(zlib.compress(bytes(10**7))) + zlib.compress(bytes(10**7))
        survives(rebuilt(head, [side, chunks[1]]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000


# --- what a stream says ----------------------------------------------------------------------


def test_a_stream_describes_itself():
    given = Micrograph(scene((2, 30, 40)), (0.5, 0.5), "nm", {"mode": "TEM"})
    data = codec.compress(given, Settings(max_error=2.0))
    facts = codec.describe(io.BytesIO(data))
    assert facts["bits_per_pixel"] == 8 * len(data) / 2400
    assert facts["ratio"] == 4800 / len(data)
    assert facts["settings"] == {"max_error_counts": 2}
    wanted = {
        "format": "emdz", "coder": "lattice", "shape": [2, 30, 40], "dtype": "uint16",
        "bytes": len(data), "metadata": {"mode": "TEM"}, "pixel_size": [0.5, 0.5], "unit": "nm",
    }  # fmt: skip
    assert wanted.items() <= facts.items()
    lossy = codec.describe(compressed(scene((30, 40)), quality=50.0))
    assert lossy["weights"] == {
        "name": "lapped-v1",
        "fingerprint": lapped_weights.find().fingerprint,
    }
    assert lossy["settings"]["step_counts"] > 0
    assert json.loads(json.dumps(lossy)) == lossy


# --- frames and plain bytes ------------------------------------------------------------------


def test_side_information_is_empty_where_all_is_finite():
    frame = frames.Frames(Given(scene((5, 6), "float32")))[0]
    assert frame.to_bytes() == b""
    assert frame.wrong is None


def test_frames_are_restored_and_spread():
    stack = scene((7, 5, 6), "float32")
    found = frames.Frames(Given(stack), lambda pixels: pixels + 1)
    assert len(found) == 7
    np.testing.assert_array_equal(np.stack([f.pixels for f in found]), stack + 1)
    for count, chosen in ((1, [0]), (3, [0, 3, 6]), (7, range(7)), (100, range(7))):
        some = [f.pixels for f in found.some(count)]
        np.testing.assert_array_equal(some, (stack + 1)[list(chosen)])


@pytest.mark.parametrize("dtype", FLOATS)
def test_pixels_are_put_back_bit_by_bit(dtype):
    pixels = special(dtype)
    height, width = pixels.shape
    data = frames.Frames(Given(pixels))[0].to_bytes()
    for y0, y1, x0, x1 in ((0, height, 0, width), (3, 4, 0, width), (2, 7, 5, 11), (8, 9, 23, 24)):
        found = np.ones((y1 - y0, x1 - x0), dtype)
        frames.put_back(data, found, (y0, y1, x0, x1), width)
        part = pixels[y0:y1, x0:x1]
        expected = np.where(np.isfinite(part), np.ones_like(part), part)
        assert found.tobytes() == expected.tobytes()


def test_side_information_that_is_damaged_is_an_error():
    pixels = special("float32")
    (height, width), region = pixels.shape, (0, *pixels.shape[:1], 0, pixels.shape[1])
    places = zlib.compress(np.packbits(~np.isfinite(pixels)).tobytes())
    values = pixels[~np.isfinite(pixels)].tobytes()
    good = pack_bytes(places) + zlib.compress(values)
    frames.put_back(good, pixels.copy(), region, width)
    for bad in (
        b"\x05",
        pack_bytes(b"none") + zlib.compress(values),
        pack_bytes(zlib.compress(b"\x00" * 3)) + zlib.compress(values),
        pack_bytes(places) + zlib.compress(values[:-4]),
        pack_bytes(places) + zlib.compress(values[:-1]),
        pack_bytes(places) + b"none",
        pack_bytes(places),
    ):
        with pytest.raises(FormatError):
            frames.put_back(bad, pixels.copy(), region, width)
    with pytest.raises(FormatError):
        frames.put_back(good, np.zeros((height, width), np.uint16), region, width)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (64, 33)])
def test_plain_bytes_come_back(dtype, shape):
    block = scene((64, 40), dtype)[: shape[0], : shape[1]]
    chunk = floats.encode(block)
    found = floats.decode(chunk, shape, block.dtype)
    assert (found.dtype, found.tobytes()) == (block.dtype, block.tobytes())
    # as FORMAT.md says: the lowest byte of all pixels, then the next
    planes = zstandard.ZstdDecompressor().decompress(chunk)
    size = block.dtype.itemsize
    together = np.frombuffer(planes, np.uint8).reshape(size, -1).T.tobytes()
    assert together == block.astype(block.dtype.newbyteorder("<")).tobytes()


def claiming(size):
    """The start of a frame of Zstandard that claims a content of so many bytes."""
    return b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", size) + b"\x01\x00\x00"


@pytest.mark.parametrize(
    "chunk",
    [
        *[b"", b"nothing", claiming(24), claiming(2**40), claiming(2**62)],
        *[floats.encode(np.zeros((2, 4), np.float32)), floats.encode(np.ones((2, 3)))],
        floats.encode(np.ones((2, 3), np.float32))[:-1],
    ],
)
def test_damaged_bytes_are_an_error(chunk):
    tracemalloc.start()
    with pytest.raises(FormatError, match="a block is damaged"):
        floats.decode(chunk, (2, 3), np.dtype("float32"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000

"""Exact coding: levels, the order of pixels, predictions in integers, and blocks as chunks."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from emd.codec import contexts, lattice, lattice_coder, lattice_fit, levels
from emd.codec.lattice import Bounds
from emd.codec.levels import Levels
from emd.codec.varints import Fields, pack, pack_bytes, unsigned
from emd.data.contents import DTYPES, FormatError

SHAPES = [(1, 1), (1, 7), (7, 1), (2, 2), (1, 70), (65, 3), (33, 34), (65, 65), (130, 67)]
RADII = ((7, 5, 4), (5, 4, 3), (3, 3, 3), (3, 2, 2))
SETS = [(level, kind) for level in range(4) for kind in range(3)]


def smooth(shape, seed=0, size=20.0, level=1000):
    """Whole numbers that their neighbours tell a lot of."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    waves = np.sin(rows / 9) + np.cos(columns / 7 + rows / 20)
    noise = np.random.default_rng(seed).normal(0, 0.1, shape)
    return np.rint(level + size * (waves + noise)).clip(0)


def predictors(seed=0):
    """Weights as a file might have them, but for no reason."""
    random = np.random.default_rng(seed)
    found = {}
    for level, kind in SETS:
        count, near = len(lattice.taps(level, kind)), lattice.near(level, kind)
        weights = random.integers(-(2**14), 2**14, count)
        weights[0] += 2**15 - weights.sum()
        found[level, kind] = lattice.Predictor(weights, random.integers(0, 2**11, near + 2))
    return found


# --- levels ----------------------------------------------------------------------------------


def extremes(dtype, shape=(40, 30), seed=0):
    """Pixels of the whole range of a type, its ends included; few of them repeat."""
    random = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        wide = 60_000 if dtype.itemsize == 2 else 3e6
        return random.uniform(-wide, wide, shape).astype(dtype)
    info = np.iinfo(dtype)
    found = random.integers(info.min, info.max, shape, dtype, endpoint=True)
    found[0, 0], found[-1, -1] = info.min, info.max
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bound", [0.4, 1, 2.5, 100, 70_000])
def test_no_pixel_is_further_off_than_the_bound(dtype, bound):
    pixels = extremes(dtype)
    bound = float(bound if np.dtype(dtype).kind == "f" else int(bound))
    found = levels.survey([pixels[:20], pixels[20:]], bound)
    if found is None:  # more values than levels, or floats too coarse to be rounded to
        spacing = np.spacing(np.abs(pixels).max()) if np.dtype(dtype).kind == "f" else 0
        assert np.ptp(pixels.astype(float)) / (2 * bound + 1) > 2**23 or spacing > bound / 1e5
        return
    back = found.values(found.of(pixels), pixels.dtype)
    assert back.dtype == pixels.dtype
    gaps = np.abs(back.astype(np.float64) - pixels.astype(np.float64))
    assert gaps.max() <= bound
    assert found.of(pixels).min() == 0
    assert found.of(pixels).max() < found.total <= levels.MOST


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_integers_of_the_whole_range_have_levels(dtype):
    pixels = extremes(dtype)
    found = levels.survey([pixels], 0.0)
    np.testing.assert_array_equal(found.values(found.of(pixels), pixels.dtype), pixels)


def test_few_values_of_a_wide_range_are_ranked():
    values = np.array([-(2**31), -5, 0, 7, 2**31 - 1], np.int32)
    pixels = np.random.default_rng(0).choice(values, (30, 20))
    found = levels.survey([pixels], 0.0)
    assert (found.total, found.ranks.tolist()) == (5, values.tolist())
    np.testing.assert_array_equal(found.values(found.of(pixels), pixels.dtype), pixels)
    # of a range that is full they are not
    assert levels.survey([np.arange(9).reshape(3, 3)], 0.0).ranks is None
    assert levels.survey([2 * np.arange(9).reshape(3, 3)], 0.0).ranks is None
    assert levels.survey([3 * np.arange(9).reshape(3, 3)], 0.0).ranks is not None


@pytest.mark.parametrize("dtype", ["uint32", "int32"])
def test_too_many_values_have_no_levels(dtype):
    random = np.random.default_rng(0)
    info = np.iinfo(dtype)
    pixels = random.integers(info.min, info.max, (150, 150), dtype, endpoint=True)
    assert levels.survey([pixels], 0.0) is None


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_have_exact_levels_where_they_are_whole_numbers(dtype):
    whole = np.array([[-3, 0, 2000]], dtype)
    found = levels.survey([whole], 0.0)
    assert (found.low, found.step, found.total) == (-3, 1, 2004)
    assert found.values(found.of(whole), whole.dtype).tobytes() == whole.tobytes()
    assert levels.survey([whole + whole.dtype.type(0.5)], 0.0) is None


def test_minus_zero_is_no_level():
    """It would come back as 0: another bit pattern."""
    assert levels.survey([np.array([[-0.0, 1.0]], np.float32)], 0.0) is None


@pytest.mark.parametrize(
    ("pixels", "bound"),
    [
        (np.array([[65504, 1]], np.float16), 100),
        (np.array([[-65504, 65504]], np.float16), 0.3),
        (np.array([[3.4e38, -3.4e38]], np.float32), 1e38),
        (np.array([[1e308, 1.0]]), 1e-5),
        (np.array([[1e308, -1e308]]), 1e307),
        (np.array([[1e308, 1.0]]), 1.7e308),
        (np.array([[1.0, 2.0]]), 5e-324),
        (np.array([[1e-310, 2e-310]]), 1e-311),
    ],
)
def test_bounds_at_the_ends_of_floats_hold_or_have_no_levels(pixels, bound):
    found = levels.survey([pixels], float(bound))
    if found is not None:
        back = found.values(found.of(pixels), pixels.dtype).astype(np.longdouble)
        assert np.abs(back - pixels.astype(np.longdouble)).max() <= bound


def test_pixels_that_are_not_finite_do_not_count():
    pixels = np.array([[np.nan, 3.0, np.inf]], np.float32)
    assert levels.survey([pixels], 0.5) == levels.survey([pixels[:, 1:2]], 0.5)
    nothing = levels.survey([pixels[:, :1]], 0.5)
    assert nothing.total == 1


LEVELS = [
    (Levels(0, 1, 1), "uint8"),
    (Levels(-128, 1, 256), "int8"),
    (Levels(-(2**31), 2**32 + 1, 1), "int32"),
    (Levels(-(2**31), 511, 2**23), "int32"),
    (Levels(-7, 0.1, 300, is_float=True), "float16"),
    (Levels(2**52, 1e-300, 2**24, is_float=True), "float64"),
    (Levels(3, 1, 4, ranks=np.array([3, 10, 500, 4_000_000_000])), "uint32"),
]


def written(found, dtype):
    fields = Fields(found.to_bytes() + b"rest")
    back = levels.from_bytes(fields, np.dtype(dtype))
    assert fields.rest() == b"rest"
    return back


@pytest.mark.parametrize(("found", "dtype"), LEVELS)
def test_levels_come_back_from_bytes(found, dtype):
    back = written(found, dtype)
    assert back[:4] == found[:4]
    assert (back.ranks is None) == (found.ranks is None)
    if found.ranks is not None:
        np.testing.assert_array_equal(back.ranks, found.ranks)


@pytest.mark.parametrize(("found", "dtype"), LEVELS)
def test_a_level_that_there_is_not_is_damage(found, dtype):
    for wrong in (-1, found.total):
        with pytest.raises(FormatError, match="pixels are damaged"):
            found.values(np.array([0, wrong]), np.dtype(dtype))


def start(kind, low, total):
    return bytes([kind]) + pack(unsigned(low)) + pack(total)


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (b"", "uint8"),
        (start(0, 0, 0) + pack(1), "uint8"),
        (start(0, 0, levels.MOST + 1) + pack(1), "int32"),
        (start(0, 0, 5) + pack(0), "uint8"),
        (start(0, -1, 5) + pack(1), "uint8"),
        (start(0, 0, 258) + pack(1), "uint8"),
        (start(0, 0, 5) + pack(1), "float32"),
        (start(1, 0, 5) + struct.pack("<d", 1.0), "uint8"),
        (start(1, 0, 5) + struct.pack("<d", 0.0), "float32"),
        (start(1, 0, 5) + struct.pack("<d", -1.0), "float32"),
        (start(1, 0, 5) + struct.pack("<d", np.inf), "float32"),
        (start(1, 0, 5) + struct.pack("<d", np.nan), "float32"),
        (start(1, 2**60, 5) + struct.pack("<d", 1.0), "float32"),
        (start(2, 0, 3) + pack_bytes(zlib.compress(b"\x01")), "uint8"),
        (start(2, 0, 3) + pack_bytes(zlib.compress(pack(255) + pack(255))), "uint8"),
        (start(2, 0, 3) + pack_bytes(b"no zlib"), "uint8"),
        (start(2, 0, levels.MOST) + pack_bytes(zlib.compress(bytes(levels.MOST))), "uint8"),
        (start(3, 0, 5) + pack(1), "uint8"),
    ],
)
def test_what_are_no_levels_is_refused(data, dtype):
    with pytest.raises(FormatError):
        levels.from_bytes(Fields(data), np.dtype(dtype))


def test_levels_that_a_lying_file_makes_huge_raise_no_warning():
    """Whatever comes back: these pass every check, and are no picture that anyone took."""
    for step, dtype in ((1e308, "float64"), (1e300, "float32"), (1e5, "float16")):
        found = written(Levels(2**53, step, 5, is_float=True), dtype)
        assert found.values(np.arange(5), np.dtype(dtype)).shape == (5,)
    found = written(Levels(5, 2**63 - 1, 2), "int32")
    assert found.values(np.arange(2), np.dtype("int32")).shape == (2,)
    gaps = pack_bytes(zlib.compress(pack(2**63 - 1) * 2))
    ranks = levels.from_bytes(Fields(start(2, 0, 3) + gaps), np.dtype("int16"))
    assert ranks.values(np.arange(3), np.dtype("int16")).shape == (3,)


# --- the order of pixels ---------------------------------------------------------------------


@pytest.mark.parametrize("shape", [*SHAPES, (3, 1000), (64, 64), (513, 130)])
def test_each_pixel_is_taken_once(shape):
    block = np.zeros(shape)
    lattice.start(block)[...] += 1
    for _, level, kind, grid in lattice.lattices(block):
        lattice.Surroundings(grid, level, kind).target[...] += 1
    np.testing.assert_array_equal(block, 1)


@pytest.mark.parametrize("shape", [*SHAPES, (3, 200), (64, 64)])
def test_only_what_is_known_predicts(shape):
    """Any change of a pixel that is still to come changes nothing."""
    block = smooth(shape)
    bounds, some = Bounds(0, 2000), predictors()
    unknown = np.random.default_rng(1).integers(0, 2000, shape).astype(np.float64)
    lattice.start(unknown)[...] = lattice.start(block)
    truth = lattice.passes(block, some, bounds)
    for wanted, found in zip(truth, lattice.passes(unknown, some, bounds), strict=True):
        for name in ("centre", "fractions", "contexts"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
        found.target[...] = wanted.target
    np.testing.assert_array_equal(unknown, block)


def plain_taps(level, kind):
    """FORMAT.md's list, by its words."""
    radius, (down, right) = RADII[level][kind], lattice.KINDS[kind]
    found = []
    for y in range(radius + 1):
        for x in range(-radius, radius + 1):
            row, column = (down + y) % 2, (right + x) % 2
            earlier = (row, column) == (0, 0) or (row, column) in lattice.KINDS[:kind]
            if (y, x) > (0, 0) and y * y + x * x <= radius * radius + 1 and earlier:
                found.append((y * y + x * x, y, x))
    return [(y, x) for _, y, x in sorted(found)]


def plain_reflect(index, length):
    """Reflected about the outermost places, again and again."""
    while not 0 <= index < length:
        index = -index if index < 0 else 2 * (length - 1) - index
    return index


def plain_pass(grid, level, kind, predictor, highest):
    """Centre, fraction and context of each pixel of a pass, one at a time, in whole numbers."""
    height, width = len(grid), len(grid[0])
    taps = plain_taps(level, kind)
    weights, activity = predictor.weights.tolist(), predictor.activity.tolist()
    if min(height, width) == 1:
        taps, weights = [lattice.KINDS[kind]], [2**15]
    for i in range(lattice.KINDS[kind][0], height, 2):
        for j in range(lattice.KINDS[kind][1], width, 2):
            pairs = [
                [
                    grid[plain_reflect(i + s * y, height)][plain_reflect(j + s * x, width)]
                    for s in (1, -1)
                ]
                for y, x in taps
            ]
            total = sum(w * sum(pair) for w, pair in zip(weights, pairs, strict=True))
            predicted = min(max((total + 2**11) // 2**12, 0), 16 * highest)
            centre = (predicted + 8) // 16
            active = activity[-2] * predicted + 16 * activity[-1]
            for a, pair in zip(activity[:-2], pairs, strict=False):
                active += a * sum(abs(16 * p - predicted) for p in pair)
            yield centre, (predicted - 16 * centre + 8) // 2, active // 2**10


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("kind", range(3))
def test_taps_are_those_of_the_format(level, kind):
    assert list(lattice.taps(level, kind)) == plain_taps(level, kind)
    assert lattice.near(level, kind) == min(6, len(plain_taps(level, kind)))


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (2, 2), (5, 3), (17, 20), (66, 40)])
@pytest.mark.parametrize("highest", [3, 1100, 2**24 - 1])
def test_predictions_are_those_of_the_format(shape, highest):
    block = smooth(shape).clip(0, highest)
    if highest > 2000:  # values at which any rounding would show
        block = np.random.default_rng(0).integers(0, highest, shape).astype(np.float64)
    some = predictors(2)
    found = lattice.passes(block, some, Bounds(0, highest))
    for each, (_, level, kind, grid) in zip(found, lattice.lattices(block), strict=True):
        rows = grid.astype(np.int64).tolist()
        plain = [*zip(*plain_pass(rows, level, kind, some[level, kind], highest), strict=True)]
        assert tuple(each.centre.tolist()) == plain[0]
        assert tuple(each.fractions.tolist()) == plain[1]
        classes = contexts.classes(np.array(plain[2]))
        np.testing.assert_array_equal(each.contexts, classes)


def test_sums_stay_exact_with_the_largest_weights():
    """At the limits that a decoder lets pass, doubles still hold whole numbers."""
    limit, highest = 1 << 19, levels.MOST - 1
    block = np.random.default_rng(0).integers(highest - 9, highest, (9, 9)).astype(np.float64)
    some = {}
    for level, kind in SETS:
        signs = np.where(np.arange(len(lattice.taps(level, kind))) % 2, -limit, limit)
        near = np.full(lattice.near(level, kind) + 2, limit)
        some[level, kind] = lattice.Predictor(signs, near)
    for each, (_, level, kind, grid) in zip(
        lattice.passes(block, some, Bounds(0, highest)), lattice.lattices(block), strict=True
    ):
        rows = grid.astype(np.int64).tolist()
        plain = [*zip(*plain_pass(rows, level, kind, some[level, kind], highest), strict=True)]
        assert tuple(each.centre.tolist()) == plain[0]
        np.testing.assert_array_equal(each.contexts, contexts.classes(np.array(plain[2])))


# --- the fit ---------------------------------------------------------------------------------


def residuals(block, some, bounds):
    """What is left of all predicted pixels."""
    return np.concatenate(
        [each.target.reshape(-1) - each.centre for each in lattice.passes(block, some, bounds)]
    )


def test_fitted_weights_predict_better_than_the_mean_of_neighbours():
    random = np.random.default_rng(0)
    blurred = [gaussian_filter(random.normal(0, 800, (256, 256)), 1.5) for _ in range(2)]
    block, other = (np.rint(each - each.min()) for each in blurred)
    bounds = Bounds(0, int(max(block.max(), other.max())))
    found = lattice_fit.fit([block], bounds)
    plain = lattice_fit.fit([], bounds)
    for each in plain.values():
        nearest = np.flatnonzero(each.weights)
        assert each.weights.sum() == 2**15
        # halves of the two pairs that are equally near
        assert each.weights[nearest].tolist() == [2**14, 2**14]
        assert nearest.tolist() == [0, 1]
    mine, theirs = (np.abs(residuals(other, some, bounds)).mean() for some in (found, plain))
    assert mine < 0.6 * theirs


def test_what_is_loud_does_not_spoil_the_weights_of_what_is_calm():
    """A smooth half beside one of white noise: errors count in units of what is expected."""
    random = np.random.default_rng(0)
    block = gaussian_filter(random.normal(0, 800, (128, 192)), 1.5)
    block[:, 96:] = random.normal(0, 2000, (128, 96))
    block = np.rint(block - block.min())
    calm, bounds = block[:, :90].copy(), Bounds(0, int(block.max()))
    both, alone = (
        np.abs(residuals(calm, lattice_fit.fit([each], bounds), bounds)).mean()
        for each in (block, calm)
    )
    # least squares of the whole would leave five times as much as of the calm half
    assert both < 2.5 * alone


@pytest.mark.parametrize("value", [0, 1, 5, 2**24 - 1])
def test_a_fit_to_nothing_much_is_still_a_fit(value):
    for shape in ((1, 1), (1, 2), (3, 3), (70, 5)):
        found = lattice_fit.fit([np.full(shape, float(value))], Bounds(0, value))
        for each in found.values():
            assert np.abs(each.weights).max() <= 2**18
            assert 0 <= each.activity.min() <= each.activity.max() <= 2**18


def test_the_activity_tells_the_size_of_residuals():
    """Noise that grows to the right: contexts that are expected to be wide are wide."""
    spread = np.linspace(0.5, 40, 256)
    block = np.rint(2000 + np.random.default_rng(0).normal(0, 1, (256, 256)) * spread).clip(0)
    bounds = Bounds(0, 4000)
    found = lattice_fit.fit([block], bounds)
    passes = list(lattice.passes(block, found, bounds))
    known = np.concatenate([each.contexts for each in passes])
    sizes = np.abs(np.concatenate([e.target.reshape(-1) - e.centre for e in passes]))
    halves = [sizes[half].mean() for half in (known < np.median(known), known > np.median(known))]
    assert halves[1] > 2.5 * halves[0]


# --- the coder -------------------------------------------------------------------------------


def coder_for(*blocks, bound=0):
    found = levels.survey(blocks, float(bound))
    made = lattice_coder.fit(found, blocks)
    # always by way of its bytes, as a file does
    return lattice_coder.from_bytes(made.to_bytes(), blocks[0].dtype)


@pytest.mark.parametrize("shape", [*SHAPES, (3, 1000), (64, 64)])
def test_blocks_come_back(shape):
    block = smooth(shape).astype(np.uint16)
    coder = coder_for(block)
    np.testing.assert_array_equal(coder.decode(coder.encode(block), shape, block.dtype), block)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_blocks_unlike_those_of_the_fit_come_back(dtype):
    """Spikes from end to end of the type: escapes, and shifts that are far too small."""
    info = np.iinfo(dtype)
    quiet = np.full((70, 66), info.max // 2, dtype)
    quiet[::2, ::3] += 1
    wild = extremes(dtype, (70, 66))
    found = levels.survey([quiet, wild], 0.0)
    coder = lattice_coder.fit(found, [quiet])
    for block in (quiet, wild):
        chunk = coder.encode(block)
        np.testing.assert_array_equal(coder.decode(chunk, block.shape, block.dtype), block)
    assert len(coder.encode(quiet)) < 0.02 * quiet.nbytes + 400


def test_enlarged_images_cost_what_the_small_ones_do():
    block = smooth((60, 50)).astype(np.uint16)
    large = block.repeat(4, 0).repeat(3, 1)
    coder = coder_for(block)
    small = coder.encode(block)
    chunk = coder.encode(large)
    assert len(chunk) == len(small) + 240 // 8 + -(-150 // 8)
    np.testing.assert_array_equal(coder.decode(chunk, large.shape, large.dtype), large)
    rows = coder.encode(block.repeat(4, 0))
    assert len(rows) == len(small) + 240 // 8


@pytest.mark.parametrize("shape", [(1, 1), (512, 512), (1, 512), (300, 2)])
def test_a_constant_block_takes_a_few_bytes(shape):
    block = np.full(shape, 77, np.uint8)
    coder = coder_for(block)
    chunk = coder.encode(block)
    assert len(chunk) < 10 + sum(-(-side // 8) for side in shape if side > 1)
    np.testing.assert_array_equal(coder.decode(chunk, shape, block.dtype), block)


def test_smooth_blocks_take_little_more_than_their_noise():
    block = smooth((512, 512), size=200).astype(np.uint16)
    coder = coder_for(block)
    # of Gaussian noise of deviation 20, and none better than to see all neighbours at once
    entropy = np.log2(20 * np.sqrt(2 * np.pi * np.e))
    assert 8 * len(coder.encode(block)) / block.size < 1.03 * entropy


@pytest.mark.parametrize("bound", [1, 3, 40])
def test_larger_bounds_take_fewer_bits(bound):
    block = smooth((128, 128), size=200).astype(np.uint16)
    exact, bounded = coder_for(block), coder_for(block, bound=bound)
    saved = len(exact.encode(block)) - len(bounded.encode(block))
    assert saved * 8 / block.size == pytest.approx(np.log2(2 * bound + 1), rel=0.15)


def chunk_and_coder():
    block = smooth((20, 17)).astype(np.uint16)
    coder = coder_for(block)
    return coder.encode(block), coder


@pytest.mark.parametrize("change", ["empty", "flags", "escapes", "cut", "longer", "shape", "mask"])
def test_a_damaged_chunk_is_an_error(change):
    chunk, coder = chunk_and_coder()
    assert chunk[:2] == b"\x00\x00"
    changed, shape = {
        "empty": (b"", (20, 17)),
        "flags": (b"\x04" + chunk[1:], (20, 17)),
        "escapes": (b"\x00" + pack(20 * 17 + 1) + chunk[2:], (20, 17)),
        "cut": (chunk[:-2], (20, 17)),
        "longer": (chunk + b"\x00\x00", (20, 17)),
        "shape": (chunk, (17, 20)),
        "mask": (b"\x01" + b"\x7f\xff\xff" + chunk[1:], (20, 17)),
    }[change]
    with pytest.raises(FormatError):
        coder.decode(changed, shape, np.dtype("uint16"))


def test_escapes_beyond_any_number_stay_within_the_levels():
    coder = coder_for(smooth((9, 9)).astype(np.uint16))
    encoder_bytes = bytes([0]) + (1 << 16).to_bytes(4, "little")
    for escape in (2**63 - 1, 2**63 - 2, 0):
        head = bytes([0]) + pack(40) + pack(2**63 - 1) + pack(escape) * 40
        with pytest.raises(FormatError):
            coder.decode(head + encoder_bytes, (9, 9), np.dtype("uint16"))


@pytest.mark.parametrize("where", ["cut", "longer", "weight", "activity", "negative", "levels"])
def test_damaged_parameters_are_an_error(where):
    _, coder = chunk_and_coder()
    data = coder.to_bytes()
    head = coder.levels.to_bytes()
    sizes = [(len(lattice.taps(*each)), lattice.near(*each) + 2) for each in SETS]

    def body(weight=0, activity=0):
        values = []
        for count, near in sizes:
            values += [weight] * count + [activity] * near
        return b"".join(pack(unsigned(v)) for v in values) + zlib.compress(bytes(320))

    assert lattice_coder.from_bytes(head + body(2**19, 2**19), np.dtype("uint16"))
    changed = {
        "cut": data[:-1],
        "longer": data + b"\x00",
        "weight": head + body(weight=-(2**19) - 1),
        "activity": head + body(activity=2**19 + 1),
        "negative": head + body(activity=-1),
        "levels": data[1:],
    }[where]
    with pytest.raises(FormatError):
        lattice_coder.from_bytes(changed, np.dtype("uint16"))


def test_a_chunk_that_promises_escapes_takes_no_memory_for_them():
    _, coder = chunk_and_coder()
    tracemalloc.start()
    with pytest.raises(FormatError):
        coder.decode(bytes([0]) + pack(2**62) + bytes(50), (20, 17), np.dtype("uint16"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000

"""The lapped transform, how its numbers are coded, and the search for a step."""

import functools
import itertools
import math
import struct

import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st

from emd.codec import bands, lapped, lapped_coder, lapped_weights
from emd.codec.lapped import SIDES
from emd.codec.lapped_coder import Settled
from emd.codec.lapped_layout import layout
from emd.codec.settle import Try, settle
from emd.codec.varints import pack
from emd.data.contents import FormatError

GRIDS = [(1, 1), (1, 3), (3, 1), (4, 5), (9, 2)]


def scene(shape, seed=0, noise=4.0):
    """Waves, an edge and noise, in counts around 100."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    found = 100 + 30 * np.sin(rows / 9) * np.cos(columns / 13) + 40 * (rows > columns)
    return found + np.random.default_rng(seed).normal(0, noise, shape)


@functools.cache
def knowledge(side):
    return lapped_weights.find().known[side]


# --- the transform ---------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("grid", GRIDS)
def test_backward_undoes_forward(side, grid):
    image = np.random.default_rng(0).normal(100, 50, (grid[0] * side, grid[1] * side))
    found = lapped.forward(image, side)
    assert found.shape == (*grid, side, side)
    np.testing.assert_allclose(lapped.backward(found), image, rtol=0, atol=1e-10)
    numbers = np.random.default_rng(1).normal(0, 50, found.shape)
    again = lapped.forward(lapped.backward(numbers), side)
    np.testing.assert_allclose(again, numbers, rtol=0, atol=1e-10)


def plain_inverse(frequencies):
    """FORMAT.md's words: along one axis, value by value and border by border."""
    side = frequencies.shape[1]
    half = side // 2
    scale = [math.sqrt((1 if u == 0 else 2) / side) for u in range(side)]
    values = [
        sum(
            scale[u] * block[u] * math.cos(math.pi * (2 * n + 1) * u / (2 * side))
            for u in range(side)
        )
        for block in frequencies
        for n in range(side)
    ]
    flip = np.eye(half)[::-1]
    second, fourth = (scipy.fft.dct(np.eye(half), type=k, axis=0, norm="ortho") for k in (2, 4))
    stretch = np.diag([1.6] + [1.0] * (half - 1))
    odd = flip @ second.T @ stretch @ fourth @ flip
    one, none = np.eye(half), np.zeros((half, half))
    outer = np.block([[one, flip], [flip, -one]])
    filter_ = outer @ np.block([[one, none], [none, odd]]) @ outer / 2
    values = np.array(values)
    for border in range(side, len(values), side):
        part = slice(border - half, border + half)
        values[part] = np.linalg.solve(filter_, values[part])
    return values


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_inverse_is_that_of_the_format(side, count):
    """An image that is constant along rows has one row of frequencies."""
    numbers = np.random.default_rng(count).normal(0, 9, (count, side))
    frequencies = np.zeros((count, 1, side, side))
    frequencies[:, 0, :, 0] = numbers
    found = lapped.backward(frequencies)
    expected = plain_inverse(numbers)[:, None] / math.sqrt(side) * np.ones(side)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(lapped.backward(frequencies.transpose(1, 0, 3, 2)), expected.T)


@pytest.mark.parametrize("side", SIDES)
def test_a_constant_is_one_number_a_block(side):
    found = lapped.forward(np.full((3 * side, 2 * side), 7.0), side)
    np.testing.assert_allclose(found[..., 0, 0], 7 * side)
    found[..., 0, 0] = 0
    np.testing.assert_allclose(found, 0, atol=1e-11)


@pytest.mark.parametrize("side", SIDES)
def test_gains_are_norms_of_what_a_frequency_stands_for(side):
    gains = lapped.gains(side)
    assert gains.shape == (side, side)
    np.testing.assert_array_equal(gains, gains.T)
    for u, v in ((0, 0), (0, 1), (1, 1), (3, 2), (side - 1, side // 2)):
        numbers = np.zeros((3, 3, side, side))
        numbers[1, 1, u, v] = 1
        norm = np.linalg.norm(lapped.backward(numbers))
        assert gains[u, v] == pytest.approx(norm, rel=1e-9)


@pytest.mark.parametrize("side", SIDES)
def test_errors_in_steps_are_errors_in_counts(side):
    """Over gains, independent errors of a frequency add as much to each pixel's on average."""
    errors = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 20, side, side))
    image = lapped.backward(errors / lapped.gains(side))
    assert (image[side:-side, side:-side] ** 2).mean() == pytest.approx(1 / 12, rel=0.03)


@pytest.mark.parametrize("side", SIDES)
def test_a_block_reaches_half_way_into_those_beside_it(side):
    numbers = np.zeros((5, 5, side, side))
    numbers[2, 2] = np.random.default_rng(0).normal(0, 1, (side, side))
    image = lapped.backward(numbers)
    inside = np.zeros(image.shape, bool)
    part = slice(2 * side - side // 2, 3 * side + side // 2)
    inside[part, part] = True
    np.testing.assert_array_equal(image[~inside], 0)
    assert np.abs(image[part, part][0]).max() > 0


def test_coding_gain_is_above_that_of_the_cosine_transform():
    """On an AR(1) process of 0.95, 8 bands: the DCT has 8.83 dB, the paper's transform 9.6."""
    side = 8
    size = 7 * side
    covariance = 0.95 ** np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    cosine = scipy.fft.dct(np.eye(side), type=2, axis=0, norm="ortho")
    powers = np.diag(cosine @ covariance[:side, :side] @ cosine.T)
    assert -10 * np.log10(powers).mean() == pytest.approx(8.83, abs=0.01)
    # of white noise along the columns only what is along the rows tells
    rows = np.stack([_analysed(unit, side) for unit in np.eye(size)], 1)
    norms = np.sqrt(np.diag(lapped.gains(side)))
    powers = np.diag(rows @ covariance @ rows.T) * norms**2
    assert -10 * np.log10(powers).mean() == pytest.approx(9.55, abs=0.02)


def _analysed(line, side):
    """Frequencies of the middle block of a line, by way of an image that repeats it."""
    image = np.repeat(line[:, None], side, 1)
    return lapped.forward(image, side)[3, 0, :, 0] / math.sqrt(side)


# --- the layout ------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_bands_lie_in_shells_each_after_its_parent(side):
    found = layout(side)
    order = np.concatenate(found.shells)
    assert sorted(order.tolist()) == list(range(side * side))
    shell_of = np.full(side * side + 1, -1)
    for number, shell in enumerate(found.shells):
        shell_of[shell] = number
    edges = [e for e in (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32) if e < side] + [side]
    for band, (u, v) in enumerate(itertools.product(range(side), repeat=2)):
        assert edges[shell_of[band]] <= max(u, v) < edges[shell_of[band] + 1]
        if band:
            assert found.parent[band] == u // 2 * side + v // 2
            assert shell_of[found.parent[band]] < shell_of[band]
    assert found.shells[0].tolist() == [0]
    assert found.bands == side * side


@pytest.mark.parametrize("side", SIDES)
def test_bands_know_those_around_them(side):
    found, none = layout(side), side * side
    assert set(found.above[0]) | set(found.beside[0]) | {found.parent[0]} == {none}
    for u, v in ((0, 1), (3, 4), (side - 1, side - 1)):
        for table, (y, x) in ((found.beside, (u, v)), (found.above, (u // 2, v // 2))):
            there = [
                (y + i) * side + x + j
                for i, j in itertools.product((-1, 0, 1), repeat=2)
                if 0 <= y + i < side and 0 <= x + j < side
            ]
            row = table[u * side + v].tolist()
            assert sorted(k for k in row if k != none) == there
            assert len(row) == 9


# --- numbers ---------------------------------------------------------------------------------


def numbers_for(grid, side, seed=0, size=30.0):
    """Numbers that fall off with frequency, as an image's do."""
    u, v = np.mgrid[:side, :side].reshape(2, -1)
    spread = size / (1 + (u + v)) ** 1.5
    found = np.rint(np.random.default_rng(seed).laplace(0, spread, (*grid, side * side)))
    return found.astype(np.int64)


@pytest.mark.parametrize(
    ("side", "grid"),
    [
        *itertools.product(SIDES, [(1, 1), (2, 1)]),
        *[(8, (1, 9)), (8, (5, 7)), (8, (17, 16)), (16, (3, 5)), (32, (1, 5))],
    ],
)
def test_numbers_come_back(side, grid):
    numbers = numbers_for(grid, side)
    chunk = bands.encode(numbers, layout(side), knowledge(side))
    found = bands.decode(chunk, grid, layout(side), knowledge(side))
    np.testing.assert_array_equal(found, numbers)


@pytest.mark.parametrize("value", [0, 1, -1, 255, 256, -4000, 2**20, 2**30, -(2**30)])
def test_numbers_that_nothing_prepared_for_come_back(value):
    side, grid = 8, (5, 4)
    for places in ((slice(None), slice(None), 0), (slice(1, None, 2), 2, slice(9, 64, 6))):
        numbers = np.zeros((*grid, side * side), np.int64)
        numbers[places] = value
        chunk = bands.encode(numbers, layout(side), knowledge(side))
        found = bands.decode(chunk, grid, layout(side), knowledge(side))
        np.testing.assert_array_equal(found, numbers)


@pytest.mark.parametrize("side", SIDES)
def test_nothing_takes_a_few_bytes(side):
    numbers = np.zeros((512 // side, 512 // side, side * side), np.int64)
    chunk = bands.encode(numbers, layout(side), knowledge(side))
    assert len(chunk) == 7
    numbers[3, 4, 1] = 1
    assert len(bands.encode(numbers, layout(side), knowledge(side))) < 200


def taken(numbers, side):
    """The steps, and after each its numbers put in place, as a decoder would."""
    known = np.zeros_like(numbers)
    for step in bands.steps(known, layout(side)):
        place = step.rows[:, None], step.columns[:, None], step.shell
        yield step, place, known
        known[place] = numbers[place]


@pytest.mark.parametrize("grid", [(1, 1), (1, 6), (4, 4), (5, 9), (17, 8)])
def test_each_number_is_taken_once(grid):
    count = np.zeros((*grid, 64), int)
    for _, place, _ in taken(numbers_for(grid, 8), 8):
        count[place] += 1
    np.testing.assert_array_equal(count, 1)


@pytest.mark.parametrize("grid", [(1, 1), (1, 6), (4, 4), (5, 9), (17, 8)])
@pytest.mark.parametrize("side", [8, 16])
def test_only_what_is_known_tells_of_numbers(grid, side):
    """What is still to come may be anything: predictions and contexts stay."""
    numbers = numbers_for(grid, side)
    unknown = np.random.default_rng(5).integers(-900, 900, numbers.shape)
    truth = bands.steps(numbers, layout(side))
    for wanted, found in zip(truth, bands.steps(unknown, layout(side)), strict=True):
        for name in ("predicted", "features", "rows", "columns", "shell"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
        place = found.rows[:, None], found.columns[:, None], found.shell
        unknown[place] = numbers[place]


def plain_places(high, wide):
    """Phase, place and the four around it, as FORMAT.md says."""
    spacing = 1
    while max(high, wide) > 4 * spacing:
        spacing *= 2
    for i, j in itertools.product(range(0, high, spacing), range(0, wide, spacing)):
        yield 0, (i, j), []
    d = spacing // 2
    while d:
        for phase, down, right in ((1, 1, 1), (2, 0, 1), (2, 1, 0)):
            offsets = [(1, 0), (-1, 0), (0, 1), (0, -1)]
            if phase == 1:
                offsets = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
            for i, j in itertools.product(
                range(down * d, high, 2 * d), range(right * d, wide, 2 * d)
            ):
                yield (
                    phase,
                    (i, j),
                    [(_fold(i + y * d, high, d), _fold(j + x * d, wide, d)) for y, x in offsets],
                )
        d //= 2


def _fold(t, n, d):
    if t < 0:
        t = -t
    elif t >= n:
        t -= 2 * d
    return min(max(t, 0), n - 1)


@pytest.mark.parametrize("grid", [(1, 1), (2, 7), (6, 6), (9, 5)])
def test_features_are_those_of_the_format(grid):
    """Each number on its own, from a table of what is known, in whole numbers."""
    side, n = 8, numbers_for(grid, 8, size=90.0)
    order = list(plain_places(*grid))
    around = {place: near for _, place, near in order}
    assert len(around) == len(order) == grid[0] * grid[1]
    known, m = np.zeros_like(n), np.zeros_like(n)
    for step in bands.steps(n, layout(side)):
        if step.number == 0:
            done = [place for _, place, _ in order].index((step.rows[0], step.columns[0]))
            sums = m.sum((0, 1))
        own = {}
        for k, (i, j) in enumerate(zip(step.rows.tolist(), step.columns.tolist(), strict=True)):
            near = around[i, j]
            for b, band in enumerate(step.shell.tolist()):
                u, v = divmod(band, side)
                q = [int(known[y, x, band]) for y, x in near]
                predicted = (sum(q) + 2) >> 2 if band == 0 else 0
                assert step.predicted[k, b] == predicted
                ring = list(itertools.product((-1, 0, 1), repeat=2))
                lower = [(u // 2 + y, v // 2 + x) for y, x in ring]
                beside = [(u + y, v + x) for y, x in ring]
                lower, beside = (
                    [y * side + x for y, x in each if 0 <= y < side and 0 <= x < side]
                    for each in (lower, beside)
                )
                total = [sum(int(m[y, x, c]) for y, x in near) for c in range(64)]
                here = m[i, j].tolist()
                spread = min(sum(abs(4 * each - sum(q)) for each in q), 4080) << 8
                expected = [
                    total[band] << 10,
                    (int(sums[band]) << 12) // max(1, done),
                    here[u // 2 * side + v // 2] << 12 if band else 0,
                    (sum(here[c] for c in lower) << 12) // 9 if band else 0,
                    ((sum(total[c] for c in beside) << 12) // 9) >> 2 if band else 0,
                    spread if band == 0 else 0,
                ]
                assert step.features[:, k, b].tolist() == expected, (step.phase, i, j, band)
                own[i, j, band] = min(abs(int(n[i, j, band]) - predicted), 255)
        for place, value in own.items():
            m[place] = value
            known[place] = n[place]


@pytest.mark.parametrize("side", SIDES)
def test_chosen_numbers_are_no_worse_than_rounded_ones(side):
    how = Settled(side, 12.0, 100.0)
    values = lapped_coder.analyse(scene((256, 256)), how, slice(0, 256))
    shape, known = layout(side), knowledge(side)
    numbers, bits = bands.choose(values, shape, known, 0.1)
    chunk = bands.encode(numbers, shape, known)
    assert bits / 8 == pytest.approx(len(chunk), rel=0.05, abs=30)
    rounded = np.rint(values).astype(np.int64)
    plain = 8 * len(bands.encode(rounded, shape, known))
    error, least = (((values - each) ** 2).sum() for each in (numbers, rounded))
    assert error + 0.1 * 8 * len(chunk) <= least + 0.1 * plain
    assert (np.abs(numbers - values) < 1).all() | (numbers == 0).any()
    assert 8 * len(chunk) < 0.97 * plain


def test_numbers_without_a_price_are_the_nearest():
    values = np.random.default_rng(0).normal(0, 3, (6, 5, 64))
    numbers, _ = bands.choose(values, layout(8), knowledge(8), 0.0)
    np.testing.assert_array_equal(numbers, np.rint(values))


def test_weights_are_none_below_zero():
    """An activity below 0 has no context."""
    for side in SIDES:
        weights = knowledge(side).weights
        assert weights.shape == (bands.PHASES, len(layout(side).shells), bands.FEATURES)
        assert weights.min() >= 0
        # the largest features, all at once: far from what 64 bits hold
        largest = max(255 << 12, 4080 << 8, (4 * 255) << 10)
        assert int(weights.sum(2).max()) * largest < 2**53


def chunk_of(side=8, grid=(5, 4)):
    return bands.encode(numbers_for(grid, side), layout(side), knowledge(side))


@pytest.mark.parametrize("change", ["empty", "shells", "escapes", "cut", "longer", "grid"])
def test_a_damaged_chunk_is_an_error(change):
    chunk, grid = chunk_of(), (5, 4)
    changed, grid = {
        "empty": (b"", grid),
        "shells": (bytes([len(layout(8).shells) + 1]) + chunk[1:], grid),
        "escapes": (chunk[:1] + pack(5 * 4 * 64 + 1) + chunk[2:], grid),
        "cut": (chunk[:-2], grid),
        "longer": (chunk + b"\x00\x00", grid),
        "grid": (chunk, (5, 5)),
    }[change]
    with pytest.raises(FormatError):
        bands.decode(changed, grid, layout(8), knowledge(8))


@given(st.binary(max_size=80), st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_random_bytes_are_numbers_or_an_error(data, shells):
    for chunk in (data, bytes([shells, 0]) + data):
        try:
            found = bands.decode(chunk, (3, 2), layout(8), knowledge(8))
        except FormatError:
            continue
        assert np.abs(found).max() <= 2**30


# --- frames ----------------------------------------------------------------------------------


def decoded(image, how):
    """What comes back of a frame."""
    chunks = list(lapped_coder.encode(image, how, knowledge(how.side)))
    region = (0, image.shape[0], 0, image.shape[1])
    return lapped_coder.decode(chunks.__getitem__, image.shape, how, knowledge(how.side), region)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2), (65, 3), (3, 550), (33, 33)])
def test_fine_steps_bring_any_shape_back(side, shape):
    image = scene(shape)
    found = decoded(image, Settled(side, 0.05, 100.0))
    assert found.shape == shape
    # the step's own error; where the image ends the transform adds some
    assert np.abs(found - image).max() < 0.2


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("step", [1.0, 3.0])
def test_the_error_is_that_of_the_step(side, step):
    image = scene((160, 160), noise=10.0)
    found = decoded(image, Settled(side, step, 100.0))
    error = np.sqrt(((found - image) ** 2).mean())
    assert 0.98 * step / np.sqrt(12) < error < 1.15 * step / np.sqrt(12)


@pytest.fixture
def coded(side, monkeypatch):
    """A frame of six small blocks, its chunks, and the whole as it is decoded."""
    monkeypatch.setattr(lapped_coder, "BLOCK_PX", 32)
    return _coded(side)


@functools.cache
def _coded(side):
    image, how = scene((75, 50)), Settled(side, 20.0, 100.0, (20, 5))
    chunks = list(lapped_coder.encode(image, how, knowledge(side)))
    assert len(chunks) == 6
    whole, _ = region_of(chunks, image, how, (0, 75, 0, 50))
    return image, how, chunks, whole


def region_of(chunks, image, how, region):
    """A region, and the numbers of the chunks that were asked for."""
    asked = set()

    def chunk(index):
        asked.add(index)
        return chunks[index]

    found = lapped_coder.decode(chunk, image.shape, how, knowledge(how.side), region)
    return found, asked


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    "region",
    [(0, 1, 0, 1), (30, 35, 25, 50), (74, 75, 49, 50), (0, 75, 31, 32), (32, 64, 0, 32)],
)
def test_a_region_is_that_of_the_whole(coded, side, region):
    image, how, chunks, whole = coded
    found, _ = region_of(chunks, image, how, region)
    y0, y1, x0, x1 = region
    np.testing.assert_allclose(found, whole[y0:y1, x0:x1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    "region", [(0, 16, 0, 16), (0, 16, 0, 50), (74, 75, 0, 5), (31, 33, 48, 49)]
)
def test_a_region_asks_only_for_blocks_that_it_needs(coded, side, region):
    image, how, chunks, _ = coded
    _, asked = region_of(chunks, image, how, region)

    def within(reach):
        y0, y1, x0, x1 = region
        rows = range(max(0, y0 - reach) // 32, min(74, y1 - 1 + reach) // 32 + 1)
        columns = range(max(0, x0 - reach) // 32, min(49, x1 - 1 + reach) // 32 + 1)
        return {2 * i + j for i in rows for j in columns}

    # blocks of the transform overlap by half
    assert within(side // 2) <= asked <= within(2 * side - 1)


@pytest.mark.parametrize("side", SIDES)
def test_frames_in_strips_are_the_same(coded, side, monkeypatch):
    image, how, chunks, whole = coded
    monkeypatch.setattr(lapped_coder, "_STRIP_PX", 1)
    assert list(lapped_coder.encode(image, how, knowledge(side))) == chunks
    found, _ = region_of(chunks, image, how, (3, 75, 0, 50))
    np.testing.assert_allclose(found, whole[3:], rtol=0, atol=1e-9)


@pytest.mark.parametrize("side", SIDES)
def test_centres_lower_the_error(side):
    """Values of a bin lie nearer to 0 than its middle: the trial finds by how much."""
    image = scene((128, 128), noise=10.0)
    how = lapped_coder.settled(side, 8.0, 100.0)
    trial = lapped_coder.attempt([image], how, knowledge(side))
    chunks = list(lapped_coder.encode(image, how, knowledge(side)))
    assert trial.bits / 8 == pytest.approx(sum(map(len, chunks)), rel=0.04)
    errors = []
    for settled in (how, trial.settled):
        found = decoded(image, settled)
        errors.append(((found - image) ** 2).sum())
    assert errors[1] <= errors[0]
    assert trial.error == pytest.approx(errors[1], rel=0.05)
    assert any(trial.settled.centres)


def test_settings_come_back_from_bytes():
    how = lapped_coder.settled(16, 0.1, -3e5)
    assert how == lapped_coder.from_bytes(how.to_bytes())
    assert how.step == np.float32(0.1)
    how = Settled(32, 2.0, 0.0, (-128, 127))
    assert lapped_coder.from_bytes(how.to_bytes()) == how
    assert len(how.to_bytes()) == lapped_coder.PARAMETERS


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(11),
        struct.pack("<Bffbb", 8, 1, 0, 0, 0) + b"\x00",
        struct.pack("<Bffbb", 9, 1, 0, 0, 0),
        struct.pack("<Bffbb", 8, 0, 0, 0, 0),
        struct.pack("<Bffbb", 8, -1, 0, 0, 0),
        struct.pack("<Bffbb", 8, np.inf, 0, 0, 0),
        struct.pack("<Bffbb", 8, np.nan, 0, 0, 0),
        struct.pack("<Bffbb", 8, 1, np.inf, 0, 0),
        struct.pack("<Bffbb", 8, 1, np.nan, 0, 0),
    ],
)
def test_damaged_parameters_are_an_error(data):
    with pytest.raises(FormatError, match="parameters are damaged"):
        lapped_coder.from_bytes(data)


def test_weights_that_are_others_are_refused():
    found = lapped_weights.find()
    assert lapped_weights.find(found.name, found.fingerprint) is found
    with pytest.raises(FormatError, match=f"fingerprint {'0' * 16}, and those here have"):
        lapped_weights.find(found.name, "0" * 16)
    for name in ("lapped-v999", "../lapped-v1", "", "a" * 300, "temstem_latent16"):
        with pytest.raises(FormatError, match="are not here: install"):
            lapped_weights.find(name)


def test_weights_come_back_from_arrays():
    found = lapped_weights.find()
    again = lapped_weights.unpack(found.name, lapped_weights.pack(found.known))
    assert again.fingerprint == found.fingerprint
    for side in SIDES:
        np.testing.assert_array_equal(again.known[side].weights, found.known[side].weights)


# --- the search for a step -------------------------------------------------------------------


def counted(curve):
    calls = []

    def excess(step):
        calls.append(step)
        return curve(step)

    return excess, calls


@pytest.mark.parametrize("goal", [0.003, 0.7, 40.0])
@pytest.mark.parametrize("slope", [-1.0, -0.3, -2.5, 1.0, 0.6])
def test_a_line_is_settled_in_a_few_tries(goal, slope):
    excess, calls = counted(lambda step: slope * math.log2(step / goal))
    found = settle(excess, 1.0, slope=math.copysign(1.0, slope))
    assert -0.03 <= found.excess <= 0
    assert found.step == pytest.approx(goal, rel=0.06)
    assert len(calls) <= 6 + 2 * abs(math.log2(goal)) / 3


@pytest.mark.parametrize("curve", ["bend", "steps", "flat then steep"])
@pytest.mark.parametrize("goal", [0.02, 1.0, 9.0])
def test_curves_are_settled_on_the_side_that_is_allowed(curve, goal):
    shapes = {
        "bend": lambda x: -x - 0.3 * np.tanh(3 * x),
        "steps": lambda x: -np.round(x * 16) / 16 - 0.01,
        "flat then steep": lambda x: -0.1 * x - 2 * max(x, 0) - 1e-3,
    }
    excess, calls = counted(lambda step: float(shapes[curve](math.log2(step / goal))))
    found = settle(excess, 1.0, slope=-1.0)
    assert -0.3 <= found.excess <= 0
    assert len(calls) <= 10


def test_what_is_not_to_be_had_gives_the_nearest():
    excess, calls = counted(lambda step: 0.5 + 1 / step)
    found = settle(excess, 1.0, slope=-1.0)
    assert found.excess == min(0.5 + 1 / step for step in calls)
    assert len(calls) <= 10
    bounded, calls = counted(lambda step: -math.log2(step) + 5)
    found = settle(bounded, 1.0, slope=-1.0, bounds=(0.5, 4.0))
    assert found == Try(4.0, 3.0)
    assert 0.5 <= min(calls) <= max(calls) <= 4
    # all of it is allowed: the one nearest to the goal
    found = settle(lambda step: -math.log2(step) - 5, 1.0, slope=-1.0, bounds=(0.5, 4.0))
    assert found == Try(0.5, -4.0)


@given(st.floats(0.2, 4), st.floats(-8, 8), st.floats(0, 0.9), st.floats(-3, 3))
@settings(max_examples=60, deadline=None)
def test_any_monotonic_curve_ends_allowed(slope, goal, bend, start):
    excess, calls = counted(
        lambda step: -slope * (x := math.log2(step) - goal) - bend * slope * math.sin(x)
    )
    found = settle(excess, 2.0**start, slope=-1.0)
    assert found.excess <= 0
    assert len(calls) <= 10
    assert found.excess >= -0.5

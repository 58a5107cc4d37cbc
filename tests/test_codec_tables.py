"""Probability tables in integers, and contexts: which table a residual is coded by."""

import itertools
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emd.codec import contexts, tables
from emd.codec.contexts import CONTEXTS, Entry, Model
from emd.codec.rans import PRECISION, TOTAL, Decoder, Encoder
from emd.codec.tables import CENTRED, FINE_SCALES, FRACTIONS, SCALES, SHAPES, Kind
from emd.data.contents import FormatError

KINDS = [Kind(*pair) for pair in itertools.product(range(SHAPES), range(SCALES))]

# as FORMAT.md lists them
PARTS = [
    [(341499300, 4252421119, 4252421119)],
    [(411579031, 4018181472, 4275200147)],
    [(505290270, 3789677026, 4294967296)],
    [(372633819, 4149440748, 4258793538), (6531957, 4077235748, 4294967296)],
    [(568235151, 3537320428, 4294967296), (63185186, 4042226597, 4294967296)],
    [(813824346, 3042929841, 4294967296), (83909015, 4055227353, 4294967296)],
]


def mean_of(fraction):
    """Where a fraction has the middle of its table [counts]."""
    return 0 if fraction == CENTRED else (4 * fraction - 15) / 32


def plain_distribution(shape):
    density = [0] * 128
    for value, ratio, bend in PARTS[shape]:
        for k in range(128):
            density[k] += value
            value, ratio = value * ratio >> 32, ratio * bend >> 32
    sums = list(itertools.accumulate(density, initial=0))
    return [2**24 * each // sums[-1] for each in sums]


def plain_cumulative(kind, fraction, distribution):
    """FORMAT.md's formula, number by number."""
    reach = 4 + (10 << kind.scale // 4 >> 6)
    mean = 4 * fraction - 15 if fraction != 8 else 0
    quarter = (65536, 55109, 46341, 38968)[kind.scale % 4]
    below = []
    for k in range(2 * reach + 2):
        edge = 32 * (k - reach) - 16 - mean
        t = min(abs(edge) * (quarter << 4) >> kind.scale // 4, 2**23 - 1)
        i, r = divmod(t, 2**16)
        within = distribution[i] + ((distribution[i + 1] - distribution[i]) * r >> 16)
        sign = (edge > 0) - (edge < 0)
        below.append(2**24 + sign * within >> 1)
    n = 2 * reach + 2
    return [k + ((each - below[0]) * (2**14 - n) >> 24) for k, each in enumerate(below)] + [2**14]


def test_tables_are_those_of_the_format():
    for shape in range(SHAPES):
        distribution = plain_distribution(shape)
        for scale in range(SCALES):
            for fraction in range(FRACTIONS):
                kind = Kind(shape, scale)
                found = tables.cumulative(kind, fraction).tolist()
                assert found == plain_cumulative(kind, fraction, distribution), (kind, fraction)


def test_every_symbol_has_a_slot_and_all_slots_a_symbol():
    for kind, fraction in itertools.product(KINDS, range(FRACTIONS)):
        found = tables.cumulative(kind, fraction)
        assert (found[0], found[-1]) == (0, TOTAL)
        assert len(found) == 2 * tables.reach(kind.scale) + 3
        assert np.diff(found).min() >= 1
        assert len(found) - 1 <= 256


def test_tables_have_the_mean_and_the_mean_magnitude_that_they_are_for():
    for shape in range(SHAPES):
        for scale, fraction in itertools.product((26, 28, 30), range(FRACTIONS)):
            chances = np.diff(tables.cumulative(Kind(shape, scale), fraction))[:-1] / TOTAL
            reach = tables.reach(scale)
            residuals = np.arange(-reach, reach + 1) - mean_of(fraction)
            # rounding to counts, a slot for each symbol, and what is beyond the reach
            size = 2 ** (scale / 4 - 6)
            assert abs(chances @ residuals) < 0.02 * size, (shape, scale, fraction)
            assert chances @ np.abs(residuals) == pytest.approx(size, rel=0.1)


def test_tables_of_no_fraction_are_symmetric():
    for kind in KINDS:
        chances = np.diff(tables.cumulative(kind, CENTRED))[:-1]
        assert np.abs(chances - chances[::-1]).max() <= 1
        assert chances.argmax() == tables.reach(kind.scale)


def test_larger_scales_are_wider_and_shapes_have_tails_in_order():
    for shape in range(SHAPES):
        middles = []
        for scale in range(SCALES):
            found = tables.cumulative(Kind(shape, scale), CENTRED)
            middles.append(np.diff(found)[tables.reach(scale)] / TOTAL)
        assert (np.diff(middles) <= 0).all()
        assert middles[0] > 0.99
        # 8 counts of mean magnitude: a Gaussian's middle is 0.04, a Laplacian's 0.06
        assert 0.035 < middles[-1] < 0.11
    reach = tables.reach(28)
    tails = [np.diff(tables.cumulative(Kind(s, 28), CENTRED))[:3].sum() for s in (0, 1, 2)]
    assert tails == sorted(tails)
    assert reach == 4 + 20


@pytest.mark.parametrize("kind", [Kind(0, 0), Kind(3, 17), Kind(5, 31), Kind(2, 32), Kind(4, 36)])
def test_tables_of_kinds_lie_where_they_are_said_to(kind):
    before = Kind(1, 5)
    found, places = tables.build([before, kind])
    count = 1 if kind.scale >= FINE_SCALES else FRACTIONS
    assert places.tolist() == [0, FRACTIONS]
    assert len(found.sizes) == FRACTIONS + count
    for k, fraction in enumerate(tables.fractions(kind.scale)):
        cumulative = tables.cumulative(kind, fraction)
        chosen = np.full(len(cumulative) - 1, FRACTIONS + k)
        starts, frequencies = found.slots(chosen, np.arange(len(chosen)))
        np.testing.assert_array_equal(starts, cumulative[:-1])
        np.testing.assert_array_equal(frequencies, np.diff(cumulative))
        slots = np.arange(0, TOTAL, 7)
        symbols = np.searchsorted(cumulative, slots, side="right") - 1
        np.testing.assert_array_equal(
            found.find(np.full(len(slots), FRACTIONS + k), slots), symbols
        )


@pytest.mark.parametrize("kind", [Kind(0, 0), Kind(3, 17), Kind(4, 36)])
def test_costs_are_logarithms_of_chances(kind):
    costs = tables.costs(kind)
    widest, own = tables.reach(SCALES - 1), tables.reach(kind.scale)
    assert costs.shape == (FRACTIONS, 2 * widest + 2)
    chances = np.diff(tables.cumulative(kind, CENTRED)) / TOTAL
    for residual in (-own, -1, 0, 1, own):
        bits = -np.log2(chances[residual + own])
        assert costs[CENTRED, residual + widest] == pytest.approx(bits)
    assert costs[CENTRED, -1] == pytest.approx(16 - np.log2(chances[-1]))
    if own < widest:
        assert costs[CENTRED, own + 1 + widest] == costs[CENTRED, -1]


# --- contexts --------------------------------------------------------------------------------


def plain_class(activity):
    """FORMAT.md's formula, by the number's binary digits."""
    if activity < 4:
        return activity
    digits = activity.bit_length()
    return min(4 * (digits - 2) + (activity >> digits - 3) - 4, 159)


def test_contexts_are_those_of_the_format():
    near = [(1 << k) + d for k in range(2, 53) for d in (-1, 0, 1)]
    random = np.random.default_rng(0)
    wide = [each >> k % 50 for k, each in enumerate(random.integers(0, 2**53, 3000).tolist())]
    activities = np.array([*range(5000), *near, *wide])
    found = contexts.classes(activities)
    assert found.tolist() == [plain_class(each) for each in activities.tolist()]


def test_contexts_grow_four_an_octave():
    found = contexts.classes(np.arange(1 << 16))
    assert set(np.diff(found)) == {0, 1}
    assert found[0] == 0
    assert [np.count_nonzero(found == c) for c in (4, 8, 12, 40)] == [1, 2, 4, 512]
    assert contexts.classes(np.array([2**52]))[0] == CONTEXTS - 1


# --- models ----------------------------------------------------------------------------------


def entries(seed=0):
    """Tables of all kinds, and shifts up to 14."""
    random = np.random.default_rng(seed)
    shapes, scales = random.integers(0, SHAPES, CONTEXTS), random.integers(0, SCALES, CONTEXTS)
    shifts = np.where(random.random(CONTEXTS) < 0.5, 0, random.integers(0, 15, CONTEXTS))
    return [
        Entry(Kind(int(a), int(b)), int(c)) for a, b, c in zip(shapes, scales, shifts, strict=True)
    ]


def through(model, known, fractions, residuals):
    """What comes back of residuals, and their bytes."""
    encoder, escapes = Encoder(), []
    model.encode(encoder, escapes, known, fractions, residuals)
    data = encoder.to_bytes()
    decoder, left = Decoder(data), list(reversed(escapes))
    found = model.decode(decoder, left, known, fractions)
    decoder.finish()
    assert not left
    return found, data, escapes


@pytest.mark.parametrize("size", [0, 1, 5000])
@pytest.mark.parametrize("largest", [1, 300, 2**24])
def test_residuals_come_back(size, largest):
    random = np.random.default_rng(size)
    known, fractions = random.integers(0, CONTEXTS, size), random.integers(0, FRACTIONS, size)
    residuals = random.integers(-largest, largest + 1, size)
    found, _, _ = through(Model(entries()), known, fractions, residuals)
    np.testing.assert_array_equal(found, residuals)


def test_only_what_is_beyond_the_reach_escapes():
    for kind, shift in ((Kind(2, 0), 0), (Kind(2, 20), 3), (Kind(0, 36), 14)):
        model = Model([Entry(kind, shift)] * CONTEXTS)
        # of a reach of r, multiples up to r and a half stay
        end = (tables.reach(kind.scale) << shift) + ((1 << shift) - 1 >> 1)
        inside = np.array([-end, -1, 0, 1, end])
        zeros = np.zeros(len(inside), int)
        found, _, escapes = through(model, zeros, zeros + CENTRED, inside)
        np.testing.assert_array_equal(found, inside)
        assert not escapes
        outside = np.array([end + 1, 5 * end + 9, -5 * end - 9])
        found, _, escapes = through(model, zeros[:3], zeros[:3] + CENTRED, outside)
        np.testing.assert_array_equal(found, outside)
        assert np.sign(escapes).tolist() == [1, 1, -1]
        assert escapes[0] == 1


def test_too_few_escapes_are_an_error():
    model = Model([Entry(Kind(2, 0), 0)] * CONTEXTS)
    zeros = np.zeros(3, int)
    encoder, escapes = Encoder(), []
    model.encode(encoder, escapes, zeros, zeros, np.array([99, 0, -99]))
    assert escapes == [95, -95]
    with pytest.raises(FormatError, match="contexts are damaged"):
        model.decode(Decoder(encoder.to_bytes()), escapes[:1], zeros, zeros)


def test_costs_add_up_to_bytes():
    random = np.random.default_rng(1)
    model = Model(entries(3))
    known = random.integers(0, CONTEXTS, 30_000)
    widths = np.array([(1 << e.shift) * 2 ** (e.kind.scale / 4 - 6) for e in model.entries])
    residuals = np.rint(random.laplace(0, widths[known])).astype(np.int64)
    fractions = np.full(known.shape, CENTRED)
    _, data, escapes = through(model, known, fractions, residuals)
    bits = model.cost(known, residuals).sum()
    # an escape's number counts 16 bits, and is no part of these bytes
    assert (bits - 16 * len(escapes)) / 8 == pytest.approx(len(data), rel=0.01)


def test_models_come_back_from_bytes():
    model = Model(entries(5))
    data = model.to_bytes()
    found, end = contexts.from_bytes(data + b"more")
    assert (found.entries, end) == (model.entries, len(data))
    rows = zlib.decompress(data)
    assert list(rows[:CONTEXTS]) == [37 * e.kind.shape + e.kind.scale for e in model.entries]
    assert list(rows[CONTEXTS:]) == [e.shift for e in model.entries]


def packed(kind=0, shift=0, size=2 * CONTEXTS):
    rows = bytes([kind]) + bytes(CONTEXTS - 1) + bytes([shift]) + bytes(CONTEXTS - 1)
    return zlib.compress((rows + bytes(CONTEXTS))[:size])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 50,
        packed()[:-5],
        packed(kind=SHAPES * SCALES),
        packed(kind=255),
        packed(shift=15),
        packed(size=2 * CONTEXTS - 1),
        packed(size=2 * CONTEXTS + 1),
        packed()[:-1] + b"\x00",
    ],
)
def test_what_is_no_model_is_refused(data):
    with pytest.raises(FormatError, match="contexts are damaged"):
        contexts.from_bytes(data)


def test_a_model_that_inflates_without_end_takes_no_memory():
    data = zlib.compress(bytes(50_000_000), 9)
    tracemalloc.start()
    with pytest.raises(FormatError):
        contexts.from_bytes(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@given(st.binary(max_size=400))
@settings(max_examples=60, deadline=None)
def test_random_bytes_are_a_model_or_an_error(data):
    for each in (data, zlib.compress((data * 400)[: 2 * CONTEXTS])):
        try:
            model, end = contexts.from_bytes(each)
        except FormatError:
            continue
        assert end <= len(each)
        assert len(model.entries) == CONTEXTS


# --- the fit ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["normal", "laplace"])
def test_fitted_models_are_near_the_entropy(shape):
    random = np.random.default_rng(2)
    known = random.integers(10, 60, 60_000)
    widths = 2 ** ((known - 20) / 4)
    draw = getattr(random, shape)
    exact = draw(0, widths)
    fractions = random.integers(0, CENTRED, known.size)
    residuals = np.rint(exact + (4 * fractions - 15) / 32).astype(np.int64)
    model = contexts.fit(known, fractions, residuals)
    found, data, escapes = through(model, known, fractions, residuals)
    np.testing.assert_array_equal(found, residuals)
    bits = 0.0
    grid = np.arange(-2000, 2001)
    for context in np.unique(known):
        # a grid of one count, as fine as rounding leaves it
        scale = 2 ** ((context - 20) / 4)
        edges = (grid[:, None] - 0.5 - (4 * np.arange(8) - 15) / 32) / scale
        chances = np.diff(_below(shape, edges), axis=0)
        entropy = -(chances * np.log2(np.maximum(chances, 1e-300))).sum(0)
        bits += sum(
            np.count_nonzero((known == context) & (fractions == f)) * entropy[f] for f in range(8)
        )
    spent = 8 * (len(data) + 2 * len(escapes))
    assert bits < spent < 1.025 * bits


def _below(shape, x):
    from scipy import stats

    return {"normal": stats.norm, "laplace": stats.laplace}[shape].cdf(x)


def test_contexts_that_were_hardly_seen_take_the_nearest_below():
    known = np.repeat([20, 50, 51], [500, 500, 3])
    residuals = np.random.default_rng(0).integers(-1000, 1000, known.size)
    residuals[:500] //= 300
    found = contexts.fit(known, np.full(known.size, CENTRED), residuals).entries
    assert found[:50] == [found[20]] * 50
    assert found[50:] == [found[50]] * 110
    assert found[20] != found[50]


@pytest.mark.parametrize("residuals", [[], [0], [2**24], [-(2**24), 7, 5]])
def test_a_few_residuals_make_a_model(residuals):
    residuals = np.array(residuals, np.int64)
    known, fractions = np.zeros(residuals.shape, int), np.full(residuals.shape, CENTRED)
    model = contexts.fit(known, fractions, residuals)
    np.testing.assert_array_equal(through(model, known, fractions, residuals)[0], residuals)
    assert contexts.from_bytes(model.to_bytes())[0].entries == model.entries


def test_symbols_are_few_enough_for_a_byte():
    assert 2 * tables.reach(SCALES - 1) + 2 <= 256
    assert PRECISION == 14

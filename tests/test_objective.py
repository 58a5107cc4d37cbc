"""The training objectives: what each shows and wants, the laws of their noise, and the losses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd import zoo
from emd.data import crops, truths
from emd.training import loss, objective
from emd.training.objective import Pair

SIDE = 64


def stored(pixels, source):
    return crops.Image(np.asarray(pixels, np.uint16), "f", f"tem/{source}", "tem")


def striped(low=20_000, high=60_000):
    """A truth of two levels, in stripes of four pixels."""
    return np.where(np.arange(168) // 4 % 2, high, low) * np.ones((160, 1))


def truth_of(pixels, *, share=1.0):
    return truths.pack([stored(pixels, crops.SIMULATED)], simulated_share=share)


def counted_of(pixels, source="camera"):
    return truths.pack_counted([stored(pixels, source)], simulated_share=0.0)


def make_draw(name, *, batch=8, side=SIDE):
    """A program of its own: what a test has changed must not be compiled away."""
    made = jax.jit(functools.partial(objective.DRAWS[name], batch=batch, side=side))
    return lambda data, seed=0: Pair(*map(np.asarray, made(jax.random.key(seed), data)))


def draw(name, data, **options):
    return make_draw(name, **options)(data)


binomial = jax.jit(objective.binomial)


@pytest.fixture
def dose(monkeypatch):
    """A function that leaves no choice of dose, and no readout noise."""

    def fix(value):
        monkeypatch.setattr(truths, "DOSES", (value, value))
        monkeypatch.setattr(objective, "READOUT", 0.0)

    return fix


@pytest.fixture
def as_counts(monkeypatch):
    """Pairs before they are normalised."""
    monkeypatch.setattr(objective, "normalise", lambda image, scale: image)


def test_ended_images_are_mirrored_at_their_end():
    def draw(key, data, *, batch, side):
        seen = jax.random.normal(key, (batch, side, side))
        return Pair(seen, 2 * seen)

    ended = objective.ending(draw, cell=16)
    pair = Pair(*map(np.asarray, ended(jax.random.key(3), None, batch=64, side=32)))
    np.testing.assert_array_equal(pair.wanted, 2 * pair.seen)
    ends = []
    for seen in pair.seen:
        for way in (seen, seen.T):
            # rows are unlike each other unless mirrored
            count = 32 - len(np.unique(way[:, 0]))
            fills = ((0, count), (count, 0))
            wholes = way[: 32 - count], way[count:]
            filled = [
                np.pad(w, (f, (0, 0)), "symmetric") for w, f in zip(wholes, fills, strict=True)
            ]
            last, first = (np.array_equal(f, way) for f in filled)
            assert last or first
            ends.append(count if last else -count)
    assert (min(ends), max(ends)) == (-15, 15)
    assert 0.4 < np.mean(np.array(ends) == 0) < 0.7


def test_objectives_are_those_of_the_zoo():
    assert tuple(objective.DRAWS) == zoo.OBJECTIVES


@pytest.mark.parametrize("name", zoo.OBJECTIVES)
def test_a_key_decides_the_batch(name):
    data = counted_of(striped(20, 60)) if name == "thin" else truth_of(striped())
    given = data.store if name == "reproduce" else data
    made = make_draw(name)
    one, same, other = (made(given, seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert not np.array_equal(one.seen, other.seen)
    assert np.isfinite(one).all()
    np.testing.assert_allclose(one.seen.mean((1, 2)), 1, rtol=1e-4)
    assert (one.seen.min((1, 2)) == 0).all()


def test_reproduce_wants_the_papers_crops():
    data = truth_of(striped()).store
    pair = draw("reproduce", data)
    expected = jax.jit(functools.partial(crops.sample, batch=8, side=SIDE))(jax.random.key(0), data)
    np.testing.assert_array_equal(pair.seen, expected)
    np.testing.assert_array_equal(pair.wanted, expected)


# --- clean ------------------------------------------------------------------------------------


def units(seen):
    """Counts that one unit of each crop is, from the gap between neighbouring whole numbers."""
    values = [np.unique(np.round(crop, 5)) for crop in seen]
    return np.array([1 / np.diff(v).min() for v in values])[:, None, None]


@pytest.mark.parametrize("mean", [2.0, 20.0, 200.0])
def test_noise_has_the_variance_of_its_mean(dose, mean):
    """A level at a dose; 32 768 pixels, whose variance is within 0.8 % in one of three draws."""
    dose(mean)
    pair = draw("clean", truth_of(np.full((160, 160), 40_000)))
    noise = (pair.seen - pair.wanted) * units(pair.seen)
    assert noise.var() == pytest.approx(mean, rel=0.03)
    assert abs(noise.mean()) < 4 * (mean / noise.size) ** 0.5


def test_noise_grows_with_the_truth_as_counts_do(dose):
    dose(50.0)
    pair = draw("clean", truth_of(striped()))
    counts = units(pair.seen)
    bright = pair.wanted > pair.wanted.mean((1, 2), keepdims=True)
    wanted, noise = pair.wanted * counts, (pair.seen - pair.wanted) * counts
    growth = noise[bright].var() - noise[~bright].var()
    difference = wanted[bright].mean() - wanted[~bright].mean()
    assert difference == pytest.approx(50, rel=0.01)  # levels of 25 and 75, a third to one
    assert growth == pytest.approx(difference, rel=0.05)


@pytest.mark.parametrize(("name", "lean"), [("clean", 1.0), ("columns", objective.LEAN)])
def test_doses_reach_up_to_what_a_truth_bears(monkeypatch, name, lean):
    """Log-uniform, or as a power of chance: the mean of u^a is 1 / (1 + a), of its square alike."""
    monkeypatch.setattr(objective, "READOUT", 0.0)
    pixels = np.full((160, 160), 40_000)
    for source, most in ((crops.SIMULATED, truths.DOSES[1]), ("camera", truths.REAL_DOSE)):
        data = truths.pack([stored(pixels, source)], simulated_share=1.0)
        pair = draw(name, data, batch=384, side=32)
        noise = (pair.seen - pair.wanted) * units(pair.seen)
        found = np.log(noise.var((1, 2)) / truths.DOSES[0]) / np.log(most / truths.DOSES[0])
        assert -0.1 < found.min() < 0.1
        assert 0.9 < found.max() < 1.1
        mean = 1 / (1 + lean)
        variance = 1 / (1 + 2 * lean) - mean**2
        assert found.mean() == pytest.approx(mean, abs=4 * (variance / 384) ** 0.5)


def test_two_crops_in_three_have_readout_noise(monkeypatch):
    monkeypatch.setattr(truths, "DOSES", (2.0, 2.0))
    pair = draw("clean", truth_of(np.full((160, 160), 40_000)), batch=384, side=32)
    levels = np.array([len(np.unique(crop)) for crop in pair.seen])
    assert np.mean(levels > 100) == pytest.approx(2 / 3, abs=3 * (2 / 9 / 384) ** 0.5)
    assert ((levels > 100) | (levels < 20)).all()


def test_the_benchmark_has_doses_and_readout_noise_of_its_own(as_counts):
    """From 0.35 to 130 counts, low ones more often; half a count of readout is added."""
    pair = draw("benchmark", truth_of(np.full((160, 160), 40_000)), batch=384, side=32)
    dose = pair.wanted.mean((1, 2))
    place = np.log(dose / 0.35) / np.log(130 / 0.35)
    assert 0 <= place.min() < 0.02 < 0.98 < place.max() <= 1
    assert place.mean() == pytest.approx(1 / (1 + objective.LEAN), abs=4 / (12 * 384) ** 0.5)
    noise = (pair.seen - pair.wanted).var((1, 2))
    assert (noise / (dose + 0.25)).mean() == pytest.approx(1, abs=0.01)
    assert (noise / dose)[dose < 0.5].mean() > 1.4


# --- thin -------------------------------------------------------------------------------------

LAWS = [
    *[(1, 0.3), (5, 0.9), (24, 0.5), (60, 0.5), (50, 0.02)],
    *[(1000, 0.01), (1000, 0.05), (3000, 0.9), (40_000, 0.6)],
]


@pytest.mark.parametrize(("count", "p"), LAWS)
def test_thinning_follows_the_binomial_law(key, count, p):
    """The two laws' cumulative chances, from as many draws of NumPy's."""
    size = 200_000
    got = binomial(key, jnp.full(size, float(count)), jnp.full(size, p))
    got = np.sort(np.asarray(got))
    assert (got == np.round(got)).all()
    assert 0 <= got[0] <= got[-1] <= count
    expected = np.sort(np.random.default_rng(0).binomial(count, p, size))
    values = np.unique(expected)
    gap = np.searchsorted(got, values, "right") - np.searchsorted(expected, values, "right")
    assert np.abs(gap).max() / size < 2 * (2 / size) ** 0.5


def test_rounding_adds_nothing_to_the_spread(key):
    """Where the normal variate takes over; of so many draws the variance is within 0.07 %."""
    size = 4_000_000
    got = np.asarray(binomial(key, jnp.full(size, 48.0), jnp.full(size, 0.5)))
    assert got.mean(dtype=np.float64) == pytest.approx(24, abs=0.01)
    assert got.var(dtype=np.float64) == pytest.approx(12, rel=0.003)


def test_nothing_is_drawn_from_nothing(key):
    assert not np.asarray(binomial(key, jnp.zeros(99), jnp.full(99, 0.7))).any()


@pytest.mark.parametrize("p", [0.02, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("mean", [0.5, 12.0, 400.0])
def test_parts_of_poisson_counts_are_independent(key, mean, p):
    """Each is Poisson's itself, and neither tells of the other."""
    size = 200_000
    counts = np.random.default_rng(1).poisson(mean, size).astype(np.float32)
    part = np.asarray(binomial(key, jnp.asarray(counts), jnp.full(size, p)))
    rest = counts - part
    for found, expected in ((part, p * mean), (rest, (1 - p) * mean)):
        assert found.mean() == pytest.approx(expected, abs=4 * (expected / size) ** 0.5)
        error = ((2 + 1 / expected) / size) ** 0.5
        assert found.var() == pytest.approx(expected, rel=4 * error)
    assert abs(np.corrcoef(part, rest)[0, 1]) < 4 / size**0.5


@pytest.mark.parametrize("spread", [0.25, 4.0])
def test_parts_of_other_counts_share_what_is_not_poissons(key, spread):
    """The covariance that the docstring tells: below 0 for a gain taken too large, else above."""
    size, mean, p = 400_000, 100.0, 0.3
    draws = np.random.default_rng(2).normal(mean, (spread * mean) ** 0.5, size)
    counts = np.round(draws).astype(np.float32)
    part = np.asarray(binomial(key, jnp.asarray(counts), jnp.full(size, p)))
    covariance = np.cov(part, counts - part)[0, 1]
    assert covariance == pytest.approx(p * (1 - p) * (counts.var() - mean), rel=0.1)


@pytest.mark.usefixtures("as_counts")
def test_both_parts_together_are_the_micrograph(monkeypatch, dose):
    dose(1000.0)  # more than there are electrons, so that half of them is the least share
    monkeypatch.setattr(objective, "MOST_SHOWN", 0.5)
    pixels = np.random.default_rng(0).permutation(160 * 160).reshape(160, 160) % 97
    data = counted_of(pixels)
    pair = draw("thin", data, side=32)
    place = jax.random.split(jax.random.key(0), 5)[0]
    drawn, _ = jax.jit(functools.partial(crops.windows, batch=8, side=32))(place, data.store)
    np.testing.assert_allclose(pair.seen + pair.wanted, drawn, atol=1e-4)
    assert np.corrcoef(pair.seen.ravel(), np.ravel(drawn))[0, 1] < 0.99  # no plain half


@pytest.mark.usefixtures("as_counts")
def test_shares_leave_enough_electrons_to_see_and_to_want():
    pair = draw("thin", counted_of(np.full((160, 160), 100)), batch=96, side=32)
    share = pair.seen.mean((1, 2)) / 100
    np.testing.assert_allclose(pair.wanted.mean((1, 2)) / 100, share, rtol=0.2)
    low, high = truths.DOSES[0] / 100, objective.MOST_SHOWN
    found = np.log(share / low) / np.log(high / low)
    assert -0.1 < found.min() < 0.1
    assert 0.9 < found.max() < 1.01
    assert found.mean() == pytest.approx(0.5, abs=4 * (1 / 12 / 96) ** 0.5)


@pytest.mark.usefixtures("as_counts")
def test_truths_are_counted_before_they_are_thinned(monkeypatch, dose):
    """At one dose, half of the electrons each: two Poisson draws of half of the mean."""
    dose(40.0)
    monkeypatch.setattr(objective, "MOST_SHOWN", 0.5)
    pair = draw("thin", counted_of(np.full((160, 160), 40_000), crops.SIMULATED))
    for part in pair:
        assert part.mean() == pytest.approx(20, rel=0.01)
        assert part.var() == pytest.approx(20, rel=0.04)
    assert abs(np.corrcoef(pair.seen.ravel(), pair.wanted.ravel())[0, 1]) < 4 / pair.seen.size**0.5


def test_a_black_micrograph_gives_finite_pairs():
    pair = draw("thin", counted_of(np.zeros((160, 160))))
    assert (pair.seen == 1).all()
    assert (pair.wanted == 1).all()


# --- losses -----------------------------------------------------------------------------------


@pytest.fixture
def restored():
    """Three restorations, and their pairs, at noise of three sizes."""
    draws = np.random.default_rng(0)
    wanted = draws.uniform(0, 2, (3, 9, 9))
    noise = draws.normal(size=(3, 9, 9)) * np.array([3, 0.3, 0.03])[:, None, None]
    made = jnp.float32(wanted + 0.2 * noise)
    return made, Pair(jnp.float32(wanted + noise), jnp.float32(wanted))


def test_the_papers_loss_is_of_the_batch(restored):
    made, pair = restored
    mse = np.mean((np.float64(made) - np.float64(pair.wanted)) ** 2)
    assert mse < 1
    assert float(loss.batch_mse(made, pair)) == pytest.approx(mse, rel=1e-5)
    far = Pair(pair.seen, pair.wanted + 5)
    root = np.mean((np.float64(made) - np.float64(far.wanted)) ** 2) ** 0.5
    assert float(loss.batch_mse(made, far)) == pytest.approx(root, rel=1e-5)


def test_what_remains_counts_in_decibels_at_every_noise(restored):
    made, pair = restored
    shares = [
        np.mean((np.float64(m) - w) ** 2) / np.mean((np.float64(s) - w) ** 2)
        for m, s, w in zip(made, *pair, strict=True)
    ]
    np.testing.assert_allclose(shares, 0.04, rtol=1e-3)
    assert float(loss.remaining(made, pair)) == pytest.approx(np.log(0.04), rel=1e-3)
    assert float(loss.remaining(pair.seen, pair)) == pytest.approx(0, abs=1e-4)
    perfect = float(loss.remaining(pair.wanted, pair))
    assert perfect == pytest.approx(np.log(1e-5), rel=1e-3)
    gradient = jax.grad(lambda image: loss.remaining(image, pair))(pair.wanted)
    assert np.isfinite(np.asarray(gradient)).all()

"""Rate-aware training: the rate model, straight-through rounding, pairs, the step, the command."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd import checkpoint
from emd.data import crops
from emd.training import rate_aware
from emd.training.rate_aware import CAUSAL, RateModel
from experiments import codec_autoencoder, training_data

DEPTH = 3


@pytest.fixture(scope="module")
def model():
    """A rate model of no special structure."""
    random = np.random.default_rng(0)
    plain = rate_aware.init_rate_model(DEPTH)
    shaken = (x + 0.1 * random.standard_normal(x.shape).astype(np.float32) for x in plain)
    return RateModel(*shaken)


def integers(seed=1, shape=(2, 5, 6, DEPTH)):
    return jnp.asarray(np.random.default_rng(seed).poisson(1.5, shape), jnp.float32)


def logistic(x):
    return 1 / (1 + np.exp(-x))


def bits_by_hand(model, values, step):
    """The obvious loops, in double precision."""
    model = RateModel(*(np.asarray(x, np.float64) for x in model))
    images, height, width, depth = values.shape
    cost = np.zeros(values.shape)
    for n in range(images):
        mean = model.mean / step[n]
        miss = np.zeros((height, width, depth))
        for i, j, k in np.ndindex(height, width, depth):
            location = mean[k]
            scale = model.floor[k] ** 2 + model.spread[k] ** 2 / step[n] + 0.04
            for tap, (row, column) in enumerate(CAUSAL):
                y, x = i + row, j + column
                if 0 <= y < height and 0 <= x < width:
                    location += (values[n, y, x] - mean) @ model.near[tap][:, k]
                    scale += miss[y, x] @ model.near_spread[tap][:, k] ** 2
            location += (values[n, i, j, :k] - mean[:k]) @ model.before[:k, k]
            scale += miss[i, j, :k] @ model.before_spread[:k, k] ** 2
            miss[i, j, k] = abs(values[n, i, j, k] - location)
            value = values[n, i, j, k]
            chance = logistic((value + 0.5 - location) / scale)
            if value > 0:
                chance -= logistic((value - 0.5 - location) / scale)
            cost[n, i, j, k] = -np.log2(max(chance, 0) + 2.0**-18)
    return cost


def test_bits_are_those_of_the_obvious_loops(model):
    values, step = integers(), jnp.array([0.3, 1.1])
    found = rate_aware.bits(model, values, step)
    expected = bits_by_hand(model, *(np.asarray(x, np.float64) for x in (values, step)))
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4)


def test_the_chances_of_all_values_add_up_to_one(model):
    values = integers(2)
    total = 0
    for symbol in range(400):
        tried = values.at[0, 3, 2, 1].set(symbol)
        total += 2.0 ** -float(rate_aware.bits(model, tried, jnp.ones(2))[0, 3, 2, 1])
    assert total == pytest.approx(1, abs=400 * 2.0**-18 + 1e-4)


def test_a_value_costs_what_those_decoded_before_it_say(model):
    """No location or scale depends on a value that comes later, or on itself."""
    values = integers(3, (1, 4, 5, DEPTH))
    place = (2, 2, 1)

    def at_place(values):
        location, scale = rate_aware.locations_and_scales(model, values, jnp.ones(1))
        return location[0][place] + scale[0][place]

    slope = np.asarray(jax.grad(at_place)(values))[0]
    order = np.arange(slope.size).reshape(slope.shape)
    assert not slope[order >= order[place]].any()
    assert slope[2, 2, 0] != 0
    for row, column in CAUSAL:
        assert slope[2 + row, 2 + column].all()


def test_beyond_the_border_nothing_is_known(model):
    """A block codes as by itself: its first cell has the location of no neighbours."""
    values = integers(4)
    location, _ = rate_aware.locations_and_scales(model, values, jnp.full(2, 0.5))
    np.testing.assert_allclose(location[:, 0, 0, 0], model.mean[0] / 0.5, rtol=1e-5)


def test_bits_are_finite_and_so_are_their_gradients(model):
    values = jnp.tile(jnp.array([0.0, 1e-3, 0.5, 7.0, 1e4]).reshape(1, 1, 5, 1), DEPTH)
    cost, slope = jax.value_and_grad(lambda v: rate_aware.bits(model, v, jnp.ones(1)).sum())(values)
    assert np.isfinite(cost)
    assert np.isfinite(slope).all()


def test_rounding_is_straight_through():
    values = jnp.array([0.2, 0.7, 3.4])
    np.testing.assert_array_equal(rate_aware.rounded(values), [0, 1, 3])
    slope = jax.grad(lambda v: (rate_aware.rounded(v) * jnp.array([1.0, 2, 3])).sum())(values)
    np.testing.assert_array_equal(slope, [1, 2, 3])


def test_the_mean_log_cost():
    found = rate_aware.Coded(jnp.array([0.01, 0.2]), jnp.array([0.5, 0.1]))
    step = np.array([0.5, 1.0])
    expected = np.log(np.array([0.01, 0.2]) + 0.13 * step**2 * np.array([0.5, 0.1])).mean()
    got = rate_aware.log_cost(found, jnp.asarray(step, jnp.float32), 0.13)
    assert float(got) == pytest.approx(expected, rel=1e-3)


def test_balanced_steps_of_a_known_decoder():
    """Of one where channel c is c + 1 times an orthonormal coefficient."""
    random = np.random.default_rng(5)
    basis = np.linalg.qr(random.standard_normal((64, DEPTH)))[0] * np.arange(1, DEPTH + 1)
    matrix = jnp.asarray(basis, jnp.float32)
    latent = jnp.asarray(random.standard_normal((4, 30, 30, DEPTH)), jnp.float32)
    steps = rate_aware.balanced_steps(jax.random.key(0), lambda y: y @ matrix.T, latent)
    np.testing.assert_allclose(steps, 1 / np.arange(1, DEPTH + 1), rtol=0.05)


# --- pairs -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store():
    """A micrograph whose truth is half of it plus 10, and one that is its own."""
    rows, columns = np.mgrid[0:168, 0:176]
    first = (100 * (2 + np.sin(rows / 6) + np.cos(columns / 9))).astype(np.uint16)
    second = first[::-1, :160].copy()
    images = [crops.Image(p, f"f{n}", "tem/a", "tem") for n, p in enumerate((first, second))]
    truth = np.concatenate([(first // 2 + 10).ravel(), second.ravel()]).astype(np.uint16)
    return rate_aware.with_truth(crops.pack(images, whole_share=1.0), jnp.asarray(truth))


def test_pairs_are_one_window_under_one_normalisation(store):
    draw = jax.jit(functools.partial(rate_aware.pairs, batch=12, side=160))
    images, truth = map(np.asarray, draw(jax.random.key(3), store))
    means = np.asarray(store.mean)
    own = [np.allclose(a, b) for a, b in zip(images, truth, strict=True)]
    assert 0 < sum(own) < 12
    for image, clean, same in zip(images, truth, own, strict=True):
        if not same:
            counts = np.rint(image * means[0])
            np.testing.assert_allclose(clean * means[0], counts // 2 + 10, atol=1e-3)


def test_simulated_pairs_share_scale_and_origin(monkeypatch):
    monkeypatch.setattr(codec_autoencoder, "SIMULATED_SIDE_PX", 64)
    monkeypatch.setattr(crops, "SIDE_PX", 64)
    store = codec_autoencoder.make_store([], "stem", 1.0, count=4)
    half = store.pixels.size // 2
    counts, clean = (np.asarray(x, np.float64) for x in (store.pixels[:half], store.pixels[half:]))
    assert counts.size == clean.size == 4 * 64**2
    for noisy, truth in zip(counts.reshape(4, -1), clean.reshape(4, -1), strict=True):
        assert noisy.min() == 0
        assert noisy.mean() == pytest.approx(truth.mean(), rel=0.05)  # noise has mean 0
        assert np.corrcoef(noisy, truth)[0, 1] > 0.2


# --- the step ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trainer():
    start = checkpoint.load("temstem_latent2")  # an untrained one would code all as 0
    optimiser = rate_aware.make_optimiser(60, rate=5e-3)
    step = rate_aware.make_step(
        start.module,
        optimiser,
        np.ones(2, np.float32),
        batch_size=1,
        seed=3,
        step_range=(0.1, 0.4),
        slope=0.13,
        side_px=64,
    )
    return step, lambda: rate_aware.init_state(start.variables, 2, optimiser)


def test_steps_lower_the_cost_and_leave_the_statistics(trainer, store):
    step, start = trainer
    state, losses = start(), []
    before = jax.tree.map(np.array, state)
    for number in range(44):
        # the last four are the first four again
        state, loss = step(state._replace(step=jnp.int32(number % 40)), store)
        losses.append(float(loss))
    assert step._cache_size() == 1
    assert np.isfinite(losses).all()
    assert np.mean(losses[40:]) < np.mean(losses[:4]) - 0.3
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, before.batch_stats)
    moved = jax.tree.map(lambda a, b: bool((np.asarray(a) != b).any()), state.params, before.params)
    assert all(jax.tree.leaves(moved["weights"]))
    assert moved["rate"].near
    assert moved["rate"].floor


def test_a_step_is_a_function_of_state_and_store(trainer, store):
    step, start = trainer
    first, second = (float(step(start(), store)[1]) for _ in range(2))
    assert first == second
    other = start()._replace(reloads=jnp.int32(1))
    assert float(step(other, store)[1]) != first


# --- the command -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_writes_flat_weights_and_a_card(tmp_path, monkeypatch):
    monkeypatch.setattr(codec_autoencoder, "SIMULATED_COUNT", 4)
    monkeypatch.setattr(codec_autoencoder, "MEASURED_STEPS", (0.3,))
    # a few micrographs of its own, which no other test is to find in the cache
    few = functools.partial(crops.simulated, jax.random.key(0), count=12, side_px=256)
    monkeypatch.setattr(training_data, "_simulate", few)
    monkeypatch.setattr(training_data, "prepare", training_data.prepare.__wrapped__)
    small = functools.partial(codec_autoencoder.make_store, count=4)
    monkeypatch.setattr(codec_autoencoder, "make_store", small)
    config = codec_autoencoder.Config(
        model="temstem_latent1", steps=2, batch_size=1, workdir=str(tmp_path)
    )
    metrics = codec_autoencoder.run(config)
    assert metrics["bpp_at_0.3"] > 0
    place = tmp_path / "streams" / "temstem_latent1-v1"
    card = checkpoint.read_card(place / "card.md")
    assert card["batches"] == "2"
    arrays = dict(np.load(place / "weights.npz"))
    start = checkpoint.load("temstem_latent1")
    expected = codec_autoencoder._flat(start.variables)
    assert {name for name in arrays if name.startswith(("params", "batch_stats"))} == set(expected)
    for name, value in expected.items():
        assert arrays[name].shape == value.shape
        assert arrays[name].dtype == np.float32
        if name.startswith("batch_stats"):
            np.testing.assert_array_equal(arrays[name], value)
    assert codec_autoencoder.run(config) == metrics  # done: nothing is trained again


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="low_step"):
        codec_autoencoder.run(codec_autoencoder.Config(low_step=2.0))
    with pytest.raises(ValueError, match="has no latents"):
        codec_autoencoder.run(codec_autoencoder.Config(model="stem_kernel_w3"))

"""Autoencoder training: loss, step, the loop that resumes, and the statistics at its end."""

import functools
import itertools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from orbax.checkpoint import v1 as ocp

from emd import checkpoint
from emd.data import crops
from emd.models.autoencoder import Autoencoder
from emd.training import autoencoder as training
from emd.training import loss
from emd.training.autoencoder import MAX_RELOADS, DivergedError, TrainState
from emd.training.objective import Pair
from experiments import held_out

# --- the loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mse", [0.0, 1e-12, 0.25, 0.999, 1.0, 1.001, 4.0, 1e6])
def test_the_loss_is_the_papers_and_its_gradient_finite(mse):
    expected = mse if mse < 1 else mse**0.5
    slope = 1.0 if mse < 1 else 0.5 / mse**0.5
    value, gradient = jax.value_and_grad(loss.huberised)(jnp.float32(mse))
    assert float(value) == pytest.approx(expected, rel=1e-6)
    assert float(gradient) == pytest.approx(slope, rel=1e-6)


def test_the_loss_takes_each_member_by_itself():
    np.testing.assert_allclose(loss.huberised(jnp.array([0.5, 9.0])), [0.5, 3.0])


def test_a_loss_that_is_not_finite_stays_so():
    assert not np.isfinite(loss.huberised(jnp.array([jnp.nan, jnp.inf]))).any()


def test_batch_keys_are_a_function_of_their_three_numbers():
    data = {
        tuple(np.asarray(jax.random.key_data(training.batch_key(seed, jnp.int32(step), reloads))))
        for seed, step, reloads in itertools.product((0, 1), (0, 1, 2), (0, 1))
    }
    assert len(data) == 12
    again = training.batch_key(1, jnp.int32(2), jnp.int32(1))
    assert tuple(np.asarray(jax.random.key_data(again))) in data


# --- the step: compiled once for this file -----------------------------------------------------

STEPS = 24  # the learning rate falls every second batch


@pytest.fixture(scope="module")
def store():
    """One image of integers that no library's random numbers decide."""
    rows, columns = np.mgrid[0:168, 0:176]
    pixels = (rows * rows + 7 * columns * rows + 13 * columns) % 251
    return crops.pack([crops.Image(pixels.astype(np.uint16), "f", "tem/a", "tem")])


@pytest.fixture(scope="module")
def trainer(store):
    module = Autoencoder(2)
    optimiser = training.make_optimiser(STEPS)
    step = training.make_step(module, optimiser, batch_size=1, seed=3)

    def start():
        return training.init_state(jax.random.key(3), module, optimiser)

    return module, step, start


def gradient_norm(state):
    """Of the first batch: Adam's first moment is then a tenth of the gradient."""
    leaves = jax.tree.leaves(state.opt_state[0].mu)
    return sum(float(np.vdot(leaf, leaf)) for leaf in leaves) ** 0.5 / 0.1


def test_golden_first_step(trainer, store):
    """Seed 3, one crop of the store, depth 2.

    Recorded on a CPU (x86-64) with jax and jaxlib 0.12.0.1, flax 0.12.12 and optax 0.2.8.
    """
    _, step, start = trainer
    state, mse = step(start(), store)
    assert int(state.step) == 1
    assert float(mse) == pytest.approx(1.739959, rel=1e-4)
    assert gradient_norm(state) == pytest.approx(3.701282, rel=1e-4)


def test_the_step_is_the_papers_written_out(trainer, store):
    """What is seen is wanted, the huberised error minimised; losses and weights of two batches."""
    module, step, start = trainer
    optimiser = training.make_optimiser(STEPS)

    @jax.jit
    def plain(params, stats, opt_state, number):
        crop = crops.sample(training.batch_key(3, number), store, batch=1)

        def minimised(params):
            restored, new = module.apply(
                {"params": params, "batch_stats": stats}, crop, train=True, mutable=["batch_stats"]
            )
            mse = jnp.mean((restored - crop) ** 2)
            return jnp.where(mse < 1, mse, jnp.sqrt(mse)), (mse, new["batch_stats"])

        gradient, (mse, stats_after) = jax.grad(minimised, has_aux=True)(params)
        updates, opt_state = optimiser.update(gradient, opt_state)
        return optax.apply_updates(params, updates), stats_after, opt_state, mse

    state = start()
    mine = jax.tree.map(np.array, (state.params, state.batch_stats, state.opt_state))
    for number in range(2):
        *mine, expected = plain(*mine, jnp.int32(number))
        state, mse = step(state, store)
        assert float(mse) == pytest.approx(float(expected), rel=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state.batch_stats, mine[1]
    )


def test_the_first_update_is_adams_at_the_first_rate(trainer, store):
    """Adam's first step moves every parameter by the rate, 0.01, against its gradient's sign."""
    _, step, start = trainer
    before = jax.tree.map(np.array, start().params)
    state, _ = step(start(), store)
    for old, new, mu in zip(
        *map(jax.tree.leaves, (before, state.params, state.opt_state[0].mu)), strict=True
    ):
        clear = np.abs(mu) > 1e-5
        np.testing.assert_allclose(
            (np.asarray(new) - old)[clear], -0.01 * np.sign(mu)[clear], rtol=0.01
        )


def test_the_state_before_the_first_batch(trainer):
    module, _, start = trainer
    state = start()
    assert int(state.step) == int(state.reloads) == 0
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))  # or a reload recompiles
    jax.tree.map(np.testing.assert_array_equal, state.params, start().params)
    other = training.init_state(jax.random.key(4), module, training.make_optimiser(STEPS)).params
    one, two = (params["decoder"]["ToImage_0"]["kernel"] for params in (state.params, other))
    assert (np.asarray(one) != np.asarray(two)).all()
    biases = [x for path, x in jax.tree.leaves_with_path(state.params) if "bias" in str(path)]
    assert len(biases) == 7
    assert not any(np.asarray(x).any() for x in biases)


def run(trainer, store, folder, steps=6, stop_after=None, **options):
    """Losses, first batches and the last state of a `fit`."""
    _, step, start = trainer
    done, found = itertools.count(1), []
    stop = (lambda: next(done) >= stop_after) if stop_after else (lambda: False)
    options = {"checkpoint_every": 4, "dispatch_s": 0.0} | options  # a batch a dispatch
    fitting = training.fit(step, start(), store, steps=steps, folder=folder, stop=stop, **options)
    for state, losses, first in fitting:
        found += [(first + k, float(loss)) for k, loss in enumerate(losses)]
        last = jax.tree.map(np.array, state)
    return found, last


@pytest.fixture(scope="module")
def straight(trainer, store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    return *run(trainer, store, folder), folder


def test_a_run_goes_through_every_batch(straight):
    found, state, folder = straight
    assert [number for number, _ in found] == [1, 2, 3, 4, 5, 6]
    assert int(state.step) == 6
    assert sorted(p.name for p in folder.iterdir()) == ["4", "6"]
    assert found[-1][1] < found[0][1]


@pytest.mark.parametrize("stop_after", [1, 3, 4, 5])
def test_stopped_and_gone_on_with_equals_straight_through(
    trainer, store, straight, tmp_path, stop_after
):
    """Bit for bit, losses and state, wherever it stopped; nothing is compiled again."""
    first, stopped = run(trainer, store, tmp_path, stop_after=stop_after)
    assert int(stopped.step) == stop_after
    compiled = training.run._cache_size()
    second, state = run(trainer, store, tmp_path)
    assert training.run._cache_size() == compiled
    assert first + second == straight[0]
    jax.tree.map(np.testing.assert_array_equal, state, straight[1])


@pytest.mark.parametrize("stop_after", [None, 2])
def test_however_a_run_is_cut_into_dispatches_it_is_the_same(
    trainer, store, straight, tmp_path, stop_after
):
    """Bit for bit, in one program: 1, 3 and 2 batches, or 1, 3, a stop, then 1 and 1."""
    compiled = training.run._cache_size()
    found, _ = run(trainer, store, tmp_path, stop_after=stop_after, dispatch_s=1e6)
    rest, state = run(trainer, store, tmp_path, dispatch_s=1e6)
    assert len(found) == (4 if stop_after else 6)
    assert found + rest == straight[0]
    if not stop_after:
        state = jax.tree.map(np.array, checkpoint.restore_state(tmp_path, state)[0])
    jax.tree.map(np.testing.assert_array_equal, state, straight[1])
    assert training.run._cache_size() == compiled


def test_a_finished_run_is_not_repeated(trainer, store, straight):
    found, state = run(trainer, store, straight[2])
    assert found == []
    jax.tree.map(np.testing.assert_array_equal, state, straight[1])


def test_a_deadline_stops_with_a_checkpoint(trainer, store, tmp_path):
    found, state = run(trainer, store, tmp_path, deadline=0.0)
    assert len(found) == 1
    assert checkpoint.restore_state(tmp_path, state)[1] == 1


def test_other_reloads_draw_other_batches(trainer, store):
    _, step, start = trainer
    losses = [float(step(start()._replace(reloads=jnp.int32(k)), store)[1]) for k in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]


class Gain(nn.Module):
    """One weight, without batch statistics."""

    @nn.compact
    def __call__(self, x, *, train=False):
        return self.param("w", nn.initializers.constant(0.5), ()) * x


def test_a_step_sees_and_wants_what_its_objective_draws():
    """One weight w between seen 2 and wanted 3: the loss falls as w nears 3/2, its gradient known.

    The key is the batch's, the data what the step is given.
    """

    def fixed(key, data, *, batch, side):
        seen = jnp.full((batch, side, side), 2.0) + 0 * jax.random.uniform(key)
        return Pair(seen, jnp.full((batch, side, side), data))

    module, optimiser = Gain(), optax.sgd(0.1)
    step = training.make_step(
        module, optimiser, batch_size=3, seed=0, side_px=4, objective=fixed, loss=loss.remaining
    )
    state = training.init_state(jax.random.key(0), module, optimiser)
    state, mse = step(state, jnp.float32(3))
    assert float(mse) == pytest.approx((0.5 * 2 - 3) ** 2)
    # of log (2 w - 3)^2: 4 / (2 w - 3)
    assert float(state.params["w"]) == pytest.approx(0.5 - 0.1 * 4 / (0.5 * 2 - 3), rel=1e-4)
    assert state.batch_stats == {}


# --- the loop, around a step that costs nothing ------------------------------------------------


NO_STORE = crops.Store(
    pixels=jnp.zeros(0, jnp.uint16),
    start=jnp.zeros(0, jnp.int32),
    rows=jnp.zeros(0, jnp.int32),
    columns=jnp.zeros(0, jnp.int32),
    mean=jnp.zeros(0),
    cumulative=jnp.zeros(0),
    whole_share=jnp.zeros(()),
)


def small():
    """A state whose one parameter counts its batches and what their reload count was."""
    return TrainState(
        {"w": jnp.zeros(3)}, {}, {}, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
    )


def make_small_step(bad, spoil=lambda step, reloads: False):
    """A step whose loss is not finite where `bad(batch, reloads)`, donating its state."""

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, store):
        number, reloads = state.step + 1, state.reloads
        w = state.params["w"] * 1.5 + state.step + 10.0 * reloads
        w = jnp.where(spoil(number, reloads), jnp.nan, w)
        loss = jnp.where(bad(number, reloads), jnp.nan, number.astype(jnp.float32))
        return state._replace(params={"w": w}, step=number), loss

    return step


def fit_small(folder, step, *, steps=12, every=4, **options):
    fitting = training.fit(
        step, small(), NO_STORE, steps=steps, folder=folder, checkpoint_every=every, **options
    )
    found = {}  # a batch that is done again replaces itself, as in a curve
    for state, losses, first in fitting:
        found |= {first + k: float(loss) for k, loss in enumerate(losses)}
        last = jax.tree.map(np.array, state)
    return list(found.items()), last


def expected_small(reloads_of_batch):
    w = np.zeros(3, np.float32)
    for number, reloads in enumerate(reloads_of_batch):
        w = w * np.float32(1.5) + np.float32(number) + np.float32(10 * reloads)
    return w


def test_a_loss_that_is_not_finite_goes_back_to_the_checkpoint(tmp_path, caplog):
    bad = make_small_step(lambda number, reloads: (number == 7) & (reloads == 0))
    with caplog.at_level(logging.WARNING):
        found, state = fit_small(tmp_path, bad)
    assert [n for n, _ in found] == list(range(1, 13))
    assert all(np.isfinite(loss) for _, loss in found)
    assert int(state.reloads) == 1
    # batches 1 to 4 came before the checkpoint, those after it with another key
    np.testing.assert_allclose(state.params["w"], expected_small(4 * [0] + 8 * [1]))
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["loss not finite at batch 7: back to batch 4 (1 of at most 5 times)"]


def test_without_a_checkpoint_it_goes_back_to_the_start_as_often_as_needed(tmp_path):
    """The start survives its own donation, twice."""
    bad = make_small_step(lambda number, reloads: (number == 3) & (reloads < 3))
    found, state = fit_small(tmp_path, bad)
    assert [n for n, _ in found] == list(range(1, 13))
    np.testing.assert_allclose(state.params["w"], expected_small(12 * [3]))


def test_reloads_are_bounded(tmp_path):
    bad = make_small_step(lambda number, reloads: number == 6)
    with pytest.raises(
        DivergedError, match=rf"not finite {MAX_RELOADS + 1} times \(last at batch 6\).*--seed"
    ):
        fit_small(tmp_path, bad)
    found, step = checkpoint.restore_state(tmp_path, small())
    assert step == 4
    assert np.isfinite(found.params["w"]).all()


def test_exactly_the_bound_is_allowed(tmp_path):
    bad = make_small_step(lambda number, reloads: (number == 6) & (reloads < MAX_RELOADS))
    assert int(fit_small(tmp_path, bad)[1].reloads) == MAX_RELOADS == 5


def test_the_count_is_saved(tmp_path):
    """A resumed run neither forgets its reloads nor repeats the bad batch's key."""
    bad = make_small_step(lambda number, reloads: (number == 6) & (reloads == 0))
    fit_small(tmp_path, bad, steps=8)
    assert int(checkpoint.restore_state(tmp_path, small())[0].reloads) == 1
    _, state = fit_small(tmp_path, make_small_step(lambda *_: False), steps=12)
    assert int(state.reloads) == 1
    np.testing.assert_allclose(state.params["w"], expected_small(4 * [0] + 8 * [1]))


def test_a_state_that_is_not_finite_is_never_a_checkpoint(tmp_path):
    """The last update before a checkpoint may spoil the state after a finite loss."""
    step = make_small_step(
        lambda *_: False, spoil=lambda number, reloads: (number == 8) & (reloads == 0)
    )
    _, state = fit_small(tmp_path, step)
    assert int(state.reloads) == 1
    np.testing.assert_allclose(state.params["w"], expected_small(4 * [0] + 8 * [1]))


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    real = ocp.save

    def save(path, tree, **options):
        if path.name == "8":
            path.with_name("8.orbax-checkpoint-tmp").mkdir()
            raise OSError(28, "No space left on device")
        real(path, tree, **options)

    monkeypatch.setattr(ocp, "save", save)
    with pytest.raises(OSError, match=r"(?i)no space left"):
        fit_small(tmp_path, make_small_step(lambda *_: False))
    assert checkpoint.restore_state(tmp_path, small())[1] == 4
    monkeypatch.setattr(ocp, "save", real)
    _, state = fit_small(tmp_path, make_small_step(lambda *_: False))
    np.testing.assert_allclose(state.params["w"], expected_small(12 * [0]))


def test_what_was_yielded_covers_every_checkpoint(tmp_path):
    """A kill right after a checkpoint must find the curve as far as the checkpoint."""
    step = make_small_step(lambda *_: False)
    fitting = training.fit(step, small(), NO_STORE, steps=12, folder=tmp_path, checkpoint_every=4)
    seen = 0
    for _, losses, first in fitting:
        seen = first + len(losses) - 1
        found = checkpoint.restore_state(tmp_path, small())
        assert found is None or found[1] <= seen
    assert seen == 12


# --- at the end --------------------------------------------------------------------------------


def test_settled_statistics_are_the_average_over_batches(trainer, store):
    module, _, start = trainer
    state = start()
    count, size = 3, 2
    got = training.settle_batch_stats(module, state, store, batch_size=size, batches=count, seed=3)
    # the input of each normalisation, caught on its way, over the same crops
    sample = jax.jit(crops.sample, static_argnames="batch")
    inputs = []
    variables = {"params": state.params, "batch_stats": state.batch_stats}

    @jax.jit
    def catch(batch):
        return module.apply(
            variables,
            batch,
            train=True,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda m, _: type(m).__name__ in ("SeparableConv", "Upsample"),
        )[1]["intermediates"]

    for number in range(count):
        key = training.batch_key(4, jnp.int32(number))
        inputs.append(catch(sample(key, store, batch=size)))
    for half, conv, norm in [
        *[("encoder", f"SeparableConv_{k}", f"BatchNorm_{k}") for k in range(4)],
        *[("decoder", f"Upsample_{k}", f"BatchNorm_{k}") for k in range(2)],
    ]:
        maps = [np.asarray(c[half][conv]["__call__"][0], np.float64) for c in inputs]
        whole = np.concatenate(maps)
        settled = got[half][norm]
        np.testing.assert_allclose(
            settled["mean"], whole.mean((0, 1, 2)), atol=1e-5 * np.abs(whole).max()
        )
        var = whole.var((0, 1, 2))
        np.testing.assert_allclose(settled["var"], var, rtol=1e-3, atol=1e-5 * var.max())
    assert jax.tree.structure(got) == jax.tree.structure(state.batch_stats)


def test_statistics_settle_over_what_the_objective_shows(trainer, store):
    """Not over what it wants."""
    module, _, start = trainer

    def settle(**options):
        return training.settle_batch_stats(
            module, start(), store, batch_size=2, batches=1, seed=3, **options
        )

    def shifted(key, data, *, batch, side):
        drawn = crops.sample(key, data, batch=batch, side=side)
        return Pair(drawn, drawn + 9)

    def scaled(key, data, *, batch, side):
        drawn = crops.sample(key, data, batch=batch, side=side)
        return Pair(3 * drawn, drawn)

    paper = settle()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), settle(objective=shifted), paper
    )
    first, tripled = (s["encoder"]["BatchNorm_0"]["var"] for s in (paper, settle(objective=scaled)))
    np.testing.assert_allclose(tripled, 9 * first, rtol=1e-3, atol=1e-5 * first.max())


def test_restoration_error_is_each_images_own(trainer, monkeypatch):
    monkeypatch.setattr(held_out, "BATCH", 2)
    module, _, start = trainer
    state = start()
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    images = np.random.default_rng(0).uniform(0, 2, (3, 16, 16)).astype(np.float32)
    got = held_out.restoration_mse(module, variables, images)
    restored = np.asarray(jax.jit(module.apply)(variables, images))
    np.testing.assert_allclose(got, ((restored - images) ** 2).mean((1, 2)), rtol=1e-5)

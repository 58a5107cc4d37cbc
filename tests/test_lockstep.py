"""Lockstep training against one member at a time in its plain module, and its resuming."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from emd.models.pixelwise import MLP, Kernel
from emd.training import lockstep, loss, schedule

SETS = {
    "kernel": [Kernel(3), Kernel(7), Kernel(5)],
    "mlp1": [MLP(5, 1), MLP(3, 1)],
    "mlp2": [MLP(7, 2), MLP(3, 2)],
    "tied": [MLP(5, 2, equivariant=True), MLP(3, 2, equivariant=True)],
}


@pytest.fixture(scope="module")
def pairs():
    """Noisy crops of mean 1 and a smooth, slightly nonlinear restoration of each."""
    random = np.random.default_rng(0)
    clean = 1 + 0.3 * np.sin(np.arange(64) / 2)[:, None] * np.sin(np.arange(64) / 3)
    noisy = clean + 0.3 * random.standard_normal((5, 64, 64))
    rows = (noisy + np.roll(noisy, 1, 1) + np.roll(noisy, -1, 1)) / 3
    smooth = (rows + np.roll(rows, 1, 2) + np.roll(rows, -1, 2)) / 3
    return np.float32(noisy), np.float32(smooth + 0.1 * np.tanh(smooth - 1))


def _plain(member, plan, pairs, steps):
    """A member's losses and parameters, trained by itself in its own module."""
    key = jax.random.key(plan.seed)
    window = jnp.zeros((1, member.width, member.width))
    params = member.init(jax.random.fold_in(key, member.width), window)["params"]
    optimiser = optax.adam(schedule.quadratic(plan.steps, initial=plan.initial))
    opt_state = optimiser.init(params)
    half = member.width // 2
    noisy, restored = (jnp.asarray(images) for images in pairs)

    @jax.jit
    def step(i, params, opt_state):
        crops, truth = lockstep.draw_crops(jax.random.fold_in(key, i), plan, noisy, restored)

        def loss(params):
            got = member.apply({"params": params}, crops)
            mse = jnp.mean((got - truth[:, half:-half, half:-half]) ** 2)
            return jnp.where(mse < 1, mse, jnp.sqrt(mse)), mse

        gradient, mse = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = optimiser.update(gradient, opt_state)
        return optax.apply_updates(params, updates), opt_state, mse

    losses = []
    for i in range(steps):
        params, opt_state, mse = step(i, params, opt_state)
        losses.append(float(mse))
    return losses, params


@pytest.mark.parametrize("family", SETS)
def test_a_member_equals_its_plain_module_trained_alone(family, pairs):
    plan = lockstep.make_plan(SETS[family], steps=100)
    state, losses = lockstep.train(plan, lockstep.init_state(plan), *pairs)
    # The last of each set is not its widest.
    expected, params = _plain(SETS[family][-1], plan, pairs, 100)
    np.testing.assert_allclose(losses[-1], expected, atol=1e-6, rtol=1e-6)
    found = lockstep.unpad(plan, state)[-1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, params)


@pytest.mark.parametrize("family", SETS)
def test_a_set_of_one_equals_the_member_in_its_set(family, pairs):
    member = SETS[family][0]
    plan = lockstep.make_plan(SETS[family], steps=500, batch=2)
    alone = lockstep.make_plan([member], steps=500, batch=2, crop_px=plan.crop_px)
    first = [lockstep.unpad(p, lockstep.init_state(p))[0] for p in (plan, alone)]
    jax.tree.map(np.testing.assert_array_equal, *first)
    curves = [lockstep.train(p, lockstep.init_state(p), *pairs)[1][0] for p in (plan, alone)]
    np.testing.assert_allclose(curves[0][:100], curves[1][:100], atol=1e-6)
    np.testing.assert_allclose(curves[0][-100:].mean(), curves[1][-100:].mean(), rtol=1e-3)


def test_padding_stays_zero(pairs):
    plan = lockstep.make_plan(SETS["mlp2"], steps=50)
    state, _ = lockstep.train(plan, lockstep.init_state(plan), *pairs)
    inside = 3**2
    counts = {name: int((leaf[1] != 0).sum()) for name, leaf in state.params.items()}
    assert counts == {"weights": 3 * 3, "biases": 2 * 3, "connections": 2 * inside**2}


def test_resuming_equals_going_straight_through(pairs):
    plan = lockstep.make_plan(SETS["mlp1"], steps=60)
    whole, curve = lockstep.train(plan, lockstep.init_state(plan), *pairs, chunk=40)
    saved = []
    part, first = lockstep.train(
        plan, lockstep.init_state(plan), *pairs, until=23, chunk=40,
        on_chunk=lambda state, _: saved.append(jax.tree.map(np.asarray, state)),
    )  # fmt: skip
    assert int(part.step) == int(saved[0].step) == 23
    rest, second = lockstep.train(plan, jax.tree.map(jnp.asarray, saved[0]), *pairs, chunk=40)
    jax.tree.map(np.testing.assert_array_equal, whole, rest)
    np.testing.assert_array_equal(curve, np.concatenate([first, second], axis=1))


def test_every_iteration_is_run_once_and_reported(pairs):
    plan = lockstep.make_plan(SETS["kernel"], steps=25)
    seen = []
    state, curve = lockstep.train(
        plan, lockstep.init_state(plan), *pairs, chunk=10,
        on_chunk=lambda state, losses: seen.append((int(state.step), losses.shape)),
    )  # fmt: skip
    assert seen == [(10, (3, 10)), (20, (3, 10)), (25, (3, 5))]
    assert curve.shape == (3, 25)
    again, none = lockstep.train(plan, state, *pairs)
    assert none.shape == (3, 0)
    jax.tree.map(np.testing.assert_array_equal, state, again)


def test_crops_keep_their_distance_from_the_edge_and_reach_it():
    plan = lockstep.make_plan([Kernel(3)], batch=300)
    index, row, column = (jnp.asarray(g, jnp.float32) for g in np.mgrid[:3, :52, :60])
    key = jax.random.key(0)
    for images, low, high in ((index, 0, 2), (row, 20, 31), (column, 20, 39)):
        crops, same = lockstep.draw_crops(key, plan, images, images)
        assert crops.shape == (300, 8, 8)
        np.testing.assert_array_equal(crops, same)
        assert (float(crops.min()), float(crops.max())) == (low, high)


def test_draws_of_a_chunk_are_those_of_each_iteration(pairs):
    """The crops that a step sees are `draw_crops`' of its own key, wherever its chunk began."""
    plan = lockstep.make_plan(SETS["kernel"], steps=7)
    state = lockstep.init_state(plan)
    _, losses = lockstep.train(plan, state, *pairs, until=5, chunk=3)
    expected = []
    for i in range(5):
        key = jax.random.fold_in(jax.random.key(plan.seed), i)
        crops = lockstep.draw_crops(key, plan, *map(jnp.asarray, pairs))
        state, errors = lockstep._step(plan, state, *crops)
        expected.append(errors)
    np.testing.assert_allclose(losses.T, expected, rtol=1e-5)


def test_huberised_is_the_root_from_one_on():
    mses = jnp.asarray([0.0, 0.5, 1.0, 4.0])
    np.testing.assert_allclose(loss.huberised(mses), [0, 0.5, 1, 2])
    slopes = jax.vmap(jax.grad(lambda x: loss.huberised(x[None])[0]))(mses)
    np.testing.assert_allclose(slopes, [1, 1, 0.5, 0.25])


def test_crops_are_the_widest_width_and_five():
    assert lockstep.make_plan([Kernel(3), Kernel(15)]).crop_px == 20


@pytest.mark.parametrize(
    ("members", "options", "message"),
    [
        ([], {}, "no members"),
        ([Kernel(3), MLP(5, 1)], {}, "several families"),
        ([MLP(3, 1), MLP(5, 2)], {}, "several families"),
        ([Kernel(3), Kernel(3)], {}, "give each width once"),
        ([Kernel(3)], {"steps": 0}, "steps is 0"),
        ([Kernel(3)], {"batch": 0}, "batch is 0"),
        ([Kernel(7)], {"crop_px": 5}, "crop_px is 5"),
        ([Kernel(3)], {"initial": -1.0}, "learning rate"),
    ],
)
def test_a_bad_plan_is_an_error(members, options, message):
    with pytest.raises(ValueError, match=message):
        lockstep.make_plan(members, **options)


def test_bad_pairs_are_errors():
    plan = lockstep.make_plan([Kernel(3)], steps=1)
    state, good = lockstep.init_state(plan), np.zeros((1, 48, 48), np.float32)
    for noisy, restored in ((good, good[:, 1:]), (good[:0], good[:0]), (good[:, 1:], good[:, 1:])):
        with pytest.raises(ValueError, match="give"):
            lockstep.train(plan, state, noisy, restored)

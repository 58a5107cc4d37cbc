"""Blind-spot perceptrons: what they are blind to, their symmetry, and Bayes' rule by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd.models.blindspot import BlindSpot, inner_pairs

WIDTH = 7
HALO = WIDTH // 2


@pytest.fixture(scope="module")
def made():
    """A module whose every parameter is drawn by chance, but for a noise of plausible size."""
    module = BlindSpot(WIDTH)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 9, 9)))["params"]
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(0)
    drawn = [jnp.asarray(rng.normal(0, 0.2, leaf.shape), jnp.float32) for leaf in leaves]
    params = {**jax.tree.unflatten(tree, drawn), "noise": jnp.asarray([0.04, 0.03, 0.01])}
    return module, {"params": params}


@pytest.fixture
def image():
    return jnp.asarray(np.random.default_rng(1).gamma(4, 0.25, (2, 23, 19)), jnp.float32)


def by_hand(params, window):
    """The restored pixel in the middle of one window, in plain NumPy; and its own share."""
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    around = window.reshape(-1) - 1
    pairs = len(around) // 2
    first, last = around[:pairs], around[pairs + 1 :][::-1]
    linear = params["linear"] @ (first + last)
    even, odd = (first + last) @ params["even"], (first - last) @ params["odd"]
    found = 0
    for side in (odd, -odd):
        y = np.concatenate([even, side])
        for number in range(3):
            layer = params["prediction"][f"Dense_{number}"]
            y = y @ layer["kernel"] + layer["bias"]
            y = np.maximum(y, 0) if number < 2 else y
        found = found + y / 2
    level, slope, least = params["noise"]
    mean = linear + np.sqrt(level) * found[0]
    noise = max(level + slope * mean, least)
    missed = level * np.log1p(np.exp(2 * found[1] - 1))
    share = missed / (missed + noise)
    return 1 + mean + share * (around[pairs] - mean), share


def test_it_is_what_it_says_in_plain_numpy(made, image):
    module, variables = made
    found = np.asarray(module.apply(variables, image, margin=HALO))
    assert found.shape == (2, 23 - 2 * HALO, 19 - 2 * HALO)
    for n, i, j in [(0, 0, 0), (1, 5, 9), (0, 16, 12)]:
        window = np.asarray(image[n, i : i + WIDTH, j : j + WIDTH], np.float64)
        wanted, _ = by_hand(variables["params"], window)
        assert found[n, i, j] == pytest.approx(wanted, rel=1e-4)


def test_no_prediction_sees_its_own_pixel(made, image):
    """But the restored pixel follows it by its share, which lies between 0 and 1."""
    module, variables = made
    window = np.asarray(image[:1, 2 : 2 + WIDTH, 3 : 3 + WIDTH])
    brighter = window.copy()
    brighter[0, HALO, HALO] += 1
    plain, other = (
        module.apply(variables, jnp.asarray(w) - 1, method="describe") for w in (window, brighter)
    )
    for one, two in zip(plain, other, strict=True):
        np.testing.assert_array_equal(one, two)
    _, share = by_hand(variables["params"], window[0].astype(np.float64))
    before, after = (
        module.apply(variables, jnp.asarray(w), margin=HALO) for w in (window, brighter)
    )
    assert 0 < share < 1
    assert float((after - before)[0, 0, 0]) == pytest.approx(share, rel=1e-3)


def test_half_a_turn_of_the_image_is_half_a_turn_of_the_result(made, image):
    module, variables = made
    turned = module.apply(variables, image[:, ::-1, ::-1], margin=HALO)
    whole = module.apply(variables, image, margin=HALO)
    np.testing.assert_allclose(turned[:, ::-1, ::-1], whole, rtol=1e-4)


def test_a_margin_only_leaves_out(made, image):
    module, variables = made
    whole, part = (module.apply(variables, image, margin=m) for m in (0, HALO))
    assert whole.shape == image.shape
    np.testing.assert_allclose(whole[:, HALO:-HALO, HALO:-HALO], part, rtol=1e-5)


def test_pairs_in_the_middle_are_those_of_the_inner_square():
    half = 21 // 2
    found = {divmod(int(k), 21) for k in inner_pairs(21)}
    wanted = {(half + i, half + j) for i in range(-2, 3) for j in range(-2, 3) if (i, j) < (0, 0)}
    assert found == wanted


@pytest.mark.parametrize("width", [3, 8])
def test_a_width_without_a_middle_or_too_narrow_is_refused(width):
    with pytest.raises(ValueError, match="odd number of at least 5"):
        BlindSpot(width)

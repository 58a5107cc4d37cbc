"""The yardsticks against plain loops, and the closed form against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd.models import pixelwise, symmetry
from emd.models.pixelwise import MLP, Kernel
from emd.training import yardsticks


@pytest.fixture(scope="module")
def pairs():
    random = np.random.default_rng(1)
    noisy = 1 + 0.4 * random.standard_normal((3, 50, 47))
    smooth = (noisy + np.roll(noisy, 1, 1) + np.roll(noisy, 2, 2)) / 3
    return np.float32(noisy), np.float32(smooth + 0.2 * (smooth - 1) ** 2)


def _windows(image, width, margin):
    """Every window whose middle is at least `margin` from the edge, one a row."""
    half = width // 2
    return np.stack(
        [
            image[row - half : row + half + 1, column - half : column + half + 1].reshape(-1)
            for row in range(margin, image.shape[0] - margin)
            for column in range(margin, image.shape[1] - margin)
        ]
    )


def _inner(images, margin):
    return np.float64(images)[:, margin:-margin, margin:-margin].reshape(len(images), -1)


def best(noisy, restored, width, margin=20):
    """The tied weights of the best kernel of a width."""
    return yardsticks.measure_moments(noisy, restored, width, margin=margin).best(width)


def matrix(weights):
    return pixelwise.kernel_matrix({"weights": jnp.asarray(weights, jnp.float32)})


def evaluate(members, params, pairs, *, closed_forms=None, width=7):
    """The errors, closed forms fitted to the same pairs unless given."""
    moments = yardsticks.measure_moments(*pairs, width)
    fitted = [moments.best(member.width) for member in members]
    return yardsticks.evaluate(
        members, params, *pairs, closed_forms=closed_forms or fitted, moments=moments
    )


@pytest.mark.parametrize("width", [3, 7])
def test_closed_form_equals_least_squares_over_tied_weights(width, pairs):
    noisy, restored = pairs
    rows = np.concatenate([_windows(image, width, 20) for image in np.float64(noisy)])
    numbers = symmetry.orbits(width).reshape(-1)
    tied = np.stack([rows[:, numbers == n].sum(1) for n in range(numbers.max() + 1)], axis=1)
    expected = np.linalg.lstsq(tied, _inner(restored, 20).reshape(-1))[0]
    got = best(noisy, restored, width)
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("width", [3, 5, 15])
def test_closed_form_recovers_the_kernel_that_made_the_pairs(width, pairs):
    free = jax.random.normal(jax.random.key(width), (symmetry.free_count(width),))
    half = width // 2
    made = Kernel(width).apply({"params": {"weights": free}}, jnp.asarray(pairs[0]))
    restored = np.pad(np.asarray(made), ((0, 0), (half, half), (half, half)))
    got = best(pairs[0], restored, width, margin=half)
    np.testing.assert_allclose(got, free, atol=1e-4)


def test_errors_equal_a_plain_loop(pairs):
    noisy, restored = pairs
    members = [Kernel(5), MLP(3, 1), MLP(7, 2)]
    window = jnp.zeros((1, 7, 7))
    params = [m.init(jax.random.key(0), window)["params"] for m in members]
    params[0] = {"weights": params[0]["weights"] + 0.01 * jnp.arange(6.0)}
    errors = evaluate(members, params, pairs)
    truth = _inner(restored, 20)
    for member, free, got in zip(members, params, errors.members, strict=True):
        reach = 20 - member.width // 2
        out = member.apply({"params": free}, jnp.asarray(noisy)[:, reach:-reach, reach:-reach])
        expected = np.mean((np.float64(out).reshape(len(noisy), -1) - truth) ** 2)
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_allclose(errors.identity, np.mean((_inner(noisy, 20) - truth) ** 2))
    means = np.stack([_windows(image, 3, 20).mean(1) for image in np.float64(noisy)])
    np.testing.assert_allclose(errors.mean3, np.mean((means - truth) ** 2))
    for member, got in zip(members, errors.closed_forms, strict=True):
        kernel = matrix(best(noisy, restored, member.width))
        out = np.stack([_windows(im, member.width, 20) @ np.ravel(kernel) for im in noisy])
        np.testing.assert_allclose(got, np.mean((out - truth) ** 2), rtol=1e-5)


def test_no_kernel_does_better_than_the_closed_form(pairs):
    moments = yardsticks.measure_moments(*pairs, 5)
    weights = moments.best(5)
    least = moments.error(weights)
    for index in range(6):
        for change in (-0.01, 0.01):
            assert moments.error(weights + change * np.eye(6)[index]) > least


def test_closed_forms_may_come_from_other_pairs(pairs):
    (noisy, restored), kernel = pairs, [Kernel(3)]
    parts = slice(1), slice(1, None)
    foreign, own = (best(noisy[s], restored[s], 3).astype(np.float32) for s in parts)
    others = noisy[1:], restored[1:]
    errors = evaluate(kernel, [{"weights": jnp.asarray(foreign)}], others)
    given = evaluate(kernel, [{"weights": jnp.asarray(own)}], others, closed_forms=[foreign])
    assert errors.members == given.closed_forms
    np.testing.assert_allclose(errors.closed_forms, given.members, rtol=1e-6)
    assert errors.members[0] > errors.closed_forms[0]


def test_moments_of_wider_kernels_serve_for_narrower_members(pairs):
    members, params = [Kernel(5)], [{"weights": jnp.full(6, 1 / 25)}]
    wide = evaluate(members, params, pairs, width=15)
    own = evaluate(members, params, pairs, width=5)
    for a, b in zip(jax.tree.leaves(wide), jax.tree.leaves(own), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_constant_crops_have_a_finite_closed_form():
    ones = np.ones((2, 48, 48), np.float32)
    np.testing.assert_allclose(matrix(best(ones, ones, 5)).sum(), 1, rtol=1e-5)


def test_bad_pairs_margins_and_widths_are_errors(pairs):
    noisy, restored = pairs
    with pytest.raises(ValueError, match="odd number"):
        yardsticks.measure_moments(noisy, restored, 4)
    with pytest.raises(ValueError, match="equal shape"):
        yardsticks.measure_moments(noisy, restored[1:], 3)
    for margin in (2, 24):
        with pytest.raises(ValueError, match=f"margin is {margin}"):
            yardsticks.measure_moments(noisy, restored, 7, margin=margin)

"""The linear code against a singular value decomposition."""

import numpy as np
import pytest

from experiments import linear_code


def images(seed=0, shape=(6, 24, 32)):
    draws = np.random.default_rng(seed)
    return np.cumsum(np.cumsum(draws.normal(size=shape), 1), 2).astype(np.float32)


def blocks(x):
    return np.stack(
        [
            image[r : r + 8, c : c + 8].reshape(-1).astype(np.float64)
            for image in x
            for r in range(0, x.shape[1], 8)
            for c in range(0, x.shape[2], 8)
        ]
    )


@pytest.mark.parametrize("depth", [1, 4, 16, 64])
def test_equals_the_decomposition_of_the_blocks(depth):
    x, new = images(), images(seed=1, shape=(3, 16, 8))
    code = linear_code.fit(x, depth)
    found = blocks(x)
    basis = np.linalg.svd(found - found.mean(0), full_matrices=False)[2][:depth]
    held = blocks(new) - found.mean(0)
    residual = held - held @ basis.T @ basis
    expected = (residual**2).reshape(3, -1).mean(1)
    np.testing.assert_allclose(
        linear_code.mse(code, new), expected, rtol=1e-6, atol=1e-8 * (held**2).mean()
    )


def test_full_rank_leaves_nothing():
    x = images()
    code = linear_code.fit(x, 64)
    np.testing.assert_allclose(linear_code.mse(code, images(2)), 0, atol=1e-9)


def test_more_components_are_never_worse():
    x = images(shape=(20, 32, 32))
    errors = [linear_code.mse(linear_code.fit(x, d), x).mean() for d in (1, 2, 4, 8, 16, 32, 64)]
    assert (np.diff(errors) < 0).all()


def test_no_other_basis_does_better_on_the_blocks_it_was_fitted_to():
    x = images()
    best = linear_code.fit(x, 4)
    other = np.linalg.qr(np.random.default_rng(3).normal(size=(64, 4)))[0]
    for basis in (other, np.linalg.qr(best.components + 0.05 * other)[0]):
        worse = linear_code.mse(best._replace(components=basis), x).mean()
        assert worse > linear_code.mse(best, x).mean()

"""The metrics against NumPy loops, their laws, and bad input."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd import metrics

SHAPES = [(1, 11, 11), (3, 13, 20), (2, 37, 12)]
with_range = [
    pytest.param(metrics.psnr, id="psnr"),
    pytest.param(metrics.ssim, id="ssim"),
]


def pair(key, shape, noise=0.2):
    key_truth, key_noise = jax.random.split(key)
    truth = jax.random.uniform(key_truth, shape)
    return truth + noise * jax.random.normal(key_noise, shape), truth


def ssim_loop(x, y, data_range):
    """The formula of Wang et al. at every window inside one image, in float64."""
    offset = np.arange(11) - 5
    window = np.exp(-(offset[:, None] ** 2 + offset[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for r in range(x.shape[0] - 10):
        for c in range(x.shape[1] - 10):
            a, b = x[r : r + 11, c : c + 11], y[r : r + 11, c : c + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a = (window * (a - mean_a) ** 2).sum()
            var_b = (window * (b - mean_b) ** 2).sum()
            cov = (window * (a - mean_a) * (b - mean_b)).sum()
            values.append(
                (2 * mean_a * mean_b + c1)
                * (2 * cov + c2)
                / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
            )
    return np.mean(values)


@pytest.mark.parametrize("shape", [*SHAPES, (2, 1, 1), (1, 3, 7)])
def test_mse_and_psnr_equal_a_loop(key, shape):
    pred, truth = pair(key, shape)
    want = []
    for p, t in zip(np.asarray(pred, np.float64), np.asarray(truth, np.float64), strict=True):
        errors = [(p[i, j] - t[i, j]) ** 2 for i in range(shape[1]) for j in range(shape[2])]
        want.append(sum(errors) / len(errors))
    np.testing.assert_allclose(metrics.mse(pred, truth), want, rtol=1e-5)
    want_db = [10 * math.log10(2.5**2 / e) for e in want]
    np.testing.assert_allclose(metrics.psnr(pred, truth, data_range=2.5), want_db, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", [0.0, 3.0])
def test_ssim_equals_a_loop(key, shape, level):
    pred, truth = pair(key, shape)
    got = metrics.ssim(pred + level, truth + level, data_range=1.5)
    want = [
        ssim_loop(np.float64(p) + level, np.float64(t) + level, 1.5)
        for p, t in zip(pred, truth, strict=True)
    ]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_ssim_of_low_contrast_on_a_high_level(key):
    """A level a thousand times the contrast must not drown the variances in rounding."""
    level = 1024.0
    pred, truth = (jnp.round(x * 4096) / 4096 + level for x in pair(key, (1, 16, 16)))
    want = ssim_loop(np.float64(pred[0]), np.float64(truth[0]), 1.0)
    np.testing.assert_allclose(metrics.ssim(pred, truth, data_range=1.0), [want], rtol=1e-4)


def test_an_image_equals_itself(key):
    _, truth = pair(key, (2, 15, 17))
    np.testing.assert_array_equal(metrics.mse(truth, truth), 0.0)
    np.testing.assert_array_equal(metrics.psnr(truth, truth, data_range=1.0), np.inf)
    np.testing.assert_allclose(metrics.ssim(truth, truth, data_range=1.0), 1.0, rtol=1e-6)


@pytest.mark.parametrize("metric", with_range)
def test_units_do_not_matter(metric, key):
    pred, truth = pair(key, (2, 15, 17))
    want = metric(pred, truth, data_range=1.0)
    got = metric(1e4 * pred, 1e4 * truth, data_range=1e4)
    np.testing.assert_allclose(got, want, rtol=1e-4)


@pytest.mark.parametrize("metric", with_range)
def test_images_do_not_see_their_batch(metric, key):
    pred, truth = pair(key, (3, 15, 17))
    alone = [metric(pred[i : i + 1], truth[i : i + 1], data_range=1.0)[0] for i in range(3)]
    np.testing.assert_allclose(metric(pred, truth, data_range=1.0), alone, rtol=1e-6)


@pytest.mark.parametrize("metric", with_range)
def test_more_noise_scores_lower(metric, key):
    scores = [metric(*pair(key, (1, 32, 32), noise), data_range=1.0)[0] for noise in (0.1, 0.3, 1)]
    assert scores[0] > scores[1] > scores[2]


def test_ssim_is_symmetric_and_turns_with_the_image(key):
    pred, truth = pair(key, (2, 15, 19))
    want = metrics.ssim(pred, truth, data_range=1.0)
    np.testing.assert_allclose(metrics.ssim(truth, pred, data_range=1.0), want, rtol=1e-5)
    turned = [jnp.rot90(x, axes=(1, 2)) for x in (pred, truth)]
    np.testing.assert_allclose(metrics.ssim(*turned, data_range=1.0), want, rtol=1e-5)


def test_ssim_has_finite_gradients(key):
    _, truth = pair(key, (1, 12, 12))
    gradient = jax.grad(lambda x: metrics.ssim(x, truth, data_range=1.0).sum())(truth)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("metric", with_range)
@pytest.mark.parametrize("data_range", [0.0, -1.0, math.inf, math.nan])
def test_a_useless_range_is_refused(metric, data_range):
    x = jnp.ones((1, 16, 16))
    with pytest.raises(ValueError, match=r"data_range=.*above 0"):
        metric(x, x, data_range=data_range)


@pytest.mark.parametrize("shape", [(1, 10, 11), (1, 64, 3), (1, 1, 1)])
def test_ssim_refuses_images_below_the_window(shape):
    x = jnp.ones(shape)
    with pytest.raises(ValueError, match="smaller than the 11x11 window"):
        metrics.ssim(x, x, data_range=1.0)


def test_empty_images_are_refused():
    x = jnp.ones((1, 0, 4))
    with pytest.raises(ValueError, match="hold no pixel"):
        metrics.mse(x, x)

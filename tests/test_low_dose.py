"""Ede's low-dose exposures: counts, scales and his units, against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd.data.simulate.low_dose import low_dose, protocol_units, scale_in_test


@pytest.fixture
def crop():
    """A crop in units of its own, far from 0."""
    return 3000 + 500 * jnp.sin(jnp.arange(64 * 48, dtype=jnp.float32).reshape(64, 48) / 7)


def test_truth_runs_from_zero_to_the_scale_and_counts_scatter_about_it(crop, key):
    drawn = jax.jit(jax.vmap(lambda k: low_dose(k, crop, scale=60.0)))(jax.random.split(key, 200))
    truth = np.asarray(drawn.clean[0, 0])
    pixels = np.asarray(crop, np.float64)
    want = 60 * (pixels - pixels.min()) / np.ptp(pixels)
    np.testing.assert_allclose(truth, want, atol=0.02)
    counts = np.asarray(drawn.counts[:, 0], np.float64)
    np.testing.assert_array_equal(counts, np.rint(counts))
    # Mean and variance of every pixel are the truth: z scores over pixels are standard normal.
    lit = truth > 1
    z = (counts.mean(0) - truth)[lit] / np.sqrt(truth[lit] / len(counts))
    assert abs(z.mean()) < 5 / np.sqrt(z.size)
    assert z.std() == pytest.approx(1, abs=0.1)
    ratio = counts.var(0, ddof=1)[lit] / truth[lit]
    assert ratio.mean() == pytest.approx(1, abs=0.02)


def test_the_crop_may_be_in_any_linear_unit(crop, key):
    one = low_dose(key, crop, scale=40.0)
    other = low_dose(key, -7 + 0.01 * crop, scale=40.0)
    np.testing.assert_allclose(one.clean, other.clean, atol=0.01)


def test_scales_follow_their_law(key):
    test = np.asarray(jax.vmap(scale_in_test)(jax.random.split(key, 4000)))
    assert 25 <= test.min() < 26
    assert 99 < test.max() <= 100
    assert np.mean(test < 50) == pytest.approx(1 / 3, abs=0.03)


def test_units_of_the_protocol(crop, key):
    drawn = low_dose(key, crop, scale=30.0)
    noisy, truth = protocol_units(drawn.counts[0], drawn.clean[0])
    counts, clean = (np.asarray(x[0], np.float64) for x in drawn)
    np.testing.assert_allclose(noisy, (counts - counts.min()) / np.ptp(counts), atol=1e-6)
    np.testing.assert_allclose(truth, clean * np.mean(noisy) / clean.mean(), atol=1e-6)
    assert float(noisy.min()) == 0
    assert float(noisy.max()) == pytest.approx(1, abs=1e-6)
    assert float(truth.mean()) == pytest.approx(float(noisy.mean()), rel=1e-5)


def test_a_constant_crop_is_dark(key):
    drawn = low_dose(key, jnp.full((16, 16), 5.0), scale=50.0)
    assert not np.any(drawn.counts)
    noisy, truth = protocol_units(drawn.counts[0], drawn.clean[0])
    assert not np.any(noisy)
    assert not np.any(truth)

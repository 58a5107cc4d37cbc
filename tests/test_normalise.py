"""The normalisation, its exact inverse and the laws that follow from it."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emd.data.normalise import Scale, denormalise, measure, normalise

COUNTS = arrays(
    np.float64,
    st.tuples(st.integers(1, 5), st.integers(1, 7)),
    elements=st.integers(-(2**16), 2**16).map(float),
)


def there_and_back(x):
    scale = measure(x)
    return denormalise(normalise(x, scale), scale)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 2), (5, 7), (3, 4, 6)])
def test_minimum_is_0_and_mean_1(dtype, shape):
    x = np.random.default_rng(0).integers(3, 120, shape).astype(dtype)
    y = normalise(x, measure(x))
    for image in y.reshape(-1, *shape[-2:]):
        assert image.min() == 0
        assert image.mean() == pytest.approx(1, rel=1e-6)


def test_is_the_papers_map():
    x = np.array([[3.0, 5.0], [4.0, 8.0]])
    assert measure(x) == Scale(3, 2)
    np.testing.assert_array_equal(normalise(x, measure(x)), [[0, 1], [0.5, 2.5]])


@given(x=COUNTS)
@settings(deadline=None, max_examples=100)
def test_the_inverse_is_exact(x):
    np.testing.assert_allclose(there_and_back(x), x, rtol=1e-13, atol=1e-10)


def test_the_inverse_gives_integers_back():
    x = np.random.default_rng(1).integers(0, 65536, (64, 64)).astype(np.uint16)
    np.testing.assert_array_equal(np.rint(there_and_back(x)).astype(np.uint16), x)
    single = x.astype(np.float32)
    np.testing.assert_allclose(there_and_back(single), single, rtol=1e-6)


@given(x=COUNTS, gain=st.floats(1e-3, 1e3), offset=st.floats(-1e4, 1e4))
@settings(deadline=None, max_examples=100)
def test_gain_and_offset_leave_no_trace(x, gain, offset):
    """The same normalised image, so any f gives f(a x + b) = a f(x) + b."""
    moved = gain * x + offset
    if np.ptp(x) == 0:
        moved = np.full_like(x, gain * x.flat[0] + offset)
    expected = normalise(x, measure(x))
    np.testing.assert_allclose(normalise(moved, measure(moved)), expected, rtol=1e-7, atol=1e-6)
    model = np.sqrt  # any map of the normalised image
    once = denormalise(model(expected), measure(x))
    again = denormalise(model(normalise(moved, measure(moved)).clip(0)), measure(moved))
    size = gain * np.abs(x).max() + abs(offset) + 1
    np.testing.assert_allclose(again, gain * once + offset, atol=1e-3 * size)


@pytest.mark.parametrize("value", [0, 255, -7.3, 1e30])
@pytest.mark.parametrize("library", [np, jnp])
def test_a_constant_becomes_ones_and_comes_back(value, library):
    x = library.full((2, 5, 3), value, "float32")
    scale = measure(x)
    y = normalise(x, scale)
    np.testing.assert_array_equal(y, 1)
    np.testing.assert_array_equal(np.asarray(scale.mean), 0)
    np.testing.assert_array_equal(denormalise(y * 17 - 3, scale), x)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 65504.3])
def test_a_constant_whose_sum_rounds_is_constant(value):
    """Its mean is not its minimum in floating point: ones all the same."""
    for dtype in (np.float32, np.float64):
        x = np.full((31, 37), value, dtype)
        np.testing.assert_array_equal(normalise(x, measure(x)), 1)


def test_one_constant_image_does_not_touch_its_batch_mates():
    x = np.stack([np.full((3, 3), 4.0), np.arange(9.0).reshape(3, 3)])
    y = normalise(x, measure(x))
    np.testing.assert_array_equal(y[0], 1)
    np.testing.assert_array_equal(y[1], x[1] / 4)


def test_numpy_and_jax_agree():
    x = np.random.default_rng(2).gamma(2, 50, (3, 33, 40)).astype(np.float32) + 1000
    ours, theirs = measure(x), measure(jnp.asarray(x))
    np.testing.assert_allclose(ours.minimum, theirs.minimum, rtol=1e-7)
    np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-5)
    y = normalise(jnp.asarray(x), theirs)
    assert isinstance(y, jnp.ndarray)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(normalise(x, ours), y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(denormalise(y, theirs), x, rtol=1e-6)

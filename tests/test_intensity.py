"""Either side of a model: exact statistics, and counts as if worked out in float64."""

import numpy as np
import pytest

from emd.data.intensity import finish, for_device, prepare
from emd.data.micrograph import DTYPES
from emd.data.normalise import Scale


def counts(dtype, shape=(300, 900), seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.gamma(2, 50, shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_are_those_of_float64(dtype):
    x = counts(dtype)
    frame = prepare(x, spikes=False)
    above = x.astype(np.float64) - float(x.min())
    assert frame.scale.minimum == x.min()
    assert frame.scale.mean == pytest.approx(above.mean(), rel=1e-12)
    assert frame.pixels is x
    assert frame.wrong is None


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32"])
def test_sums_of_integers_are_exact(dtype):
    x = np.full((700, 800), np.iinfo(dtype).max, dtype)
    x[0, 0] -= 1
    assert prepare(x, spikes=False).scale.mean == (x.size - 1) / x.size


def test_an_offset_leaves_the_mean_above_the_minimum():
    x = counts("float64") + 1e12
    exact = (x - x.min()).mean()
    assert prepare(x, spikes=False).scale.mean == pytest.approx(exact, rel=1e-12)
    single = (counts("float32", seed=1) + np.float32(1e6)).astype(np.float32)
    exact = (single.astype(np.float64) - single.min()).mean()
    assert prepare(single, spikes=False).scale.mean == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_single_pixel_that_is_not_finite_is_found_in_any_band(value):
    for place in ((0, 0), (150, 899), (299, 450)):
        x = counts("float32")
        x[place] = value
        frame = prepare(x, spikes=False)
        assert np.argwhere(frame.wrong).tolist() == [list(place)]
        assert np.isfinite([*frame.scale, frame.pixels[place]]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("host", [False, True])
def test_both_ways_to_the_device_normalise(dtype, host):
    x = counts(dtype)
    frame = prepare(x, spikes=False)
    way = for_device(x.dtype, frame.scale, host=host)
    out = np.empty(x.shape, np.float32)
    way.put(x, out)
    expected = (x.astype(np.float64) - frame.scale.minimum) / frame.scale.mean
    np.testing.assert_allclose((out - way.minimum) / way.mean, expected, atol=1e-6, rtol=1e-6)
    assert (way.minimum, way.mean) == (0, 1) or not host
    way = for_device(x.dtype, Scale(7, 0), host=True)
    way.put(x, out)
    np.testing.assert_array_equal(out, 1)


def _outcome(dtype, spread, seed=0):
    """A result of a model around its input, put out as counts, beside float64's."""
    x = counts(dtype, seed=seed)
    frame = prepare(x, spikes=False)
    noise = np.random.default_rng(seed + 1).normal(0, spread, x.shape)
    raw = ((x - float(frame.scale.minimum)) / frame.scale.mean + noise).astype(np.float32)
    exact = raw.astype(np.float64) * frame.scale.mean + frame.scale.minimum
    out = np.empty_like(x)
    outcome = finish(frame, raw.copy(), x, out, keep_mean=True)
    exact += outcome.mean_correction
    assert outcome.mean_correction == pytest.approx(
        (1 - raw.mean(dtype=np.float64)) * frame.scale.mean, rel=1e-6, abs=1e-9
    )
    return out, exact, outcome


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32"])
@pytest.mark.parametrize("spread", [1e-3, 0.2])
def test_integers_are_rounded_as_float64_is(dtype, spread):
    out, exact, outcome = _outcome(dtype, spread)
    info = np.iinfo(dtype)
    tie = np.abs(exact - np.floor(exact) - 0.5) < 1e-3
    expected = np.clip(np.rint(exact), info.min, info.max)
    np.testing.assert_array_equal(out[~tie], expected[~tie])
    assert np.abs(out - expected).max() <= 1
    clipped = np.count_nonzero((np.rint(exact) < info.min) | (np.rint(exact) > info.max))
    assert outcome.clipped == pytest.approx(clipped, abs=int(tie.sum()))


@pytest.mark.parametrize(("dtype", "bound"), [("float16", 1e-3), ("float32", 1e-6)])
def test_floats_are_float64s_but_for_rounding(dtype, bound):
    out, exact, outcome = _outcome(dtype, 0.2)
    np.testing.assert_allclose(out, exact, atol=bound * np.abs(exact).max(), rtol=bound)
    assert outcome.clipped == 0


def test_float32_beyond_its_range_is_clipped_and_counted():
    x = np.array([[0, 3e38], [1e38, 2e38]], np.float32)
    frame = prepare(x, spikes=False)
    raw = np.array([[-9, 9], [1, 3]], np.float32)
    out = np.empty_like(x)
    assert finish(frame, raw, x, out, keep_mean=False).clipped == 3
    np.testing.assert_allclose(out, np.float32(np.clip([[-1e39, 1e39], [1.5e38, 1e39]], *_ends())))


def _ends():
    return float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)

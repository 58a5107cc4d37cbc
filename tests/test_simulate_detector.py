"""The detector: counts' mean, variance and correlation, against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd.data import simulate
from emd.data.simulate.detector import Detector, detect, transfer

SIDE = 256


def lorentzian(at_nyquist: float) -> np.ndarray:
    """Transfer at every frequency of a square image."""
    k = np.fft.fftfreq(SIDE)
    square = k[:, None] ** 2 + k[None, :] ** 2
    return 1 / (1 + (1 / at_nyquist - 1) * 4 * square)


def exposed(detector: Detector, electrons: float, seed: int = 0) -> np.ndarray:
    flat = jnp.full((SIDE, SIDE), electrons, jnp.float32)
    return np.asarray(detect(jax.random.key(seed), flat, detector).counts[0], np.float64)


def test_an_ideal_detector_counts_electrons():
    counts = exposed(Detector(), 7.0)
    assert counts.mean() == pytest.approx(7, abs=5 * np.sqrt(7 / SIDE**2))
    assert counts.var() == pytest.approx(7, abs=5 * np.sqrt((7 + 2 * 49) / SIDE**2))
    np.testing.assert_array_equal(counts, np.rint(counts))


@pytest.mark.parametrize("excess", [0.0, 0.5])
def test_variance_is_a_line_of_the_mean_with_the_gain_as_its_slope(excess):
    detector = Detector(gain=12.0, offset=200.0, readout=9.0, excess=excess)
    electrons = np.array([0.0, 2.0, 8.0, 20.0, 60.0, 150.0])
    counts = [exposed(detector, dose, seed) for seed, dose in enumerate(electrons)]
    mean = np.array([frame.mean() for frame in counts])
    variance = np.array([frame.var() for frame in counts])
    np.testing.assert_allclose(mean, 200 + 12 * electrons, rtol=2e-3)
    # weighted by 1 / variance, of which the error is a share
    slope, level = np.polyfit(mean - 200, variance, 1, w=1 / variance)
    assert slope == pytest.approx(12 * (1 + excess), rel=0.02)
    assert level == pytest.approx(9**2 + 1 / 12, rel=0.03)


@pytest.mark.parametrize(("mtf", "ntf"), [(0.3, 0.3), (0.3, 1.0), (0.3, 0.6)])
def test_noise_is_transferred_by_the_ntf_and_the_image_by_the_mtf(mtf, ntf):
    dose, gain, readout = 400.0, 5.0, 4.0
    detector = Detector(gain=gain, offset=100.0, readout=readout, mtf=mtf, ntf=ntf)
    rounds = 8
    noise = [exposed(detector, dose, seed) - (100 + gain * dose) for seed in range(rounds)]
    power = np.mean([np.abs(np.fft.fft2(n)) ** 2 for n in noise], axis=0) / SIDE**2
    want = gain**2 * dose * lorentzian(ntf) ** 2 + readout**2 + 1 / 12
    # Autocovariance at distances up to 3 px, as the Wiener-Khinchin theorem has it.
    got, expected = (np.fft.ifft2(p).real[:4, :4] for p in (power, want))
    np.testing.assert_allclose(got, expected, atol=6 * want.mean() / np.sqrt(rounds * SIDE**2))
    if ntf < 1:
        assert expected[0, 1] > 0.1 * expected[0, 0]  # correlated: the test tells them apart
    # A wave is imaged at the mtf, whatever the ntf.
    order = 64
    wave = 400 * (1 + 0.5 * np.cos(2 * np.pi * order * np.arange(SIDE) / SIDE))
    scene = jnp.asarray(np.broadcast_to(wave, (SIDE, SIDE)), jnp.float32)
    clean = np.asarray(detect(jax.random.key(0), scene, detector).clean[0])
    at = mtf / (mtf + (1 - mtf) * (2 * order / SIDE) ** 2)
    np.testing.assert_allclose(
        clean, 100 + gain * (400 + at * (np.asarray(scene) - 400)), rtol=1e-4
    )


def test_blur_keeps_the_electrons_and_counts_their_place():
    spot = jnp.zeros((SIDE, SIDE)).at[100, 31].set(1e4)
    drawn = detect(jax.random.key(1), spot, Detector(mtf=0.2, ntf=0.5))
    # What rings below zero beside a spot of one pixel is cut off.
    assert float(drawn.clean.sum()) == pytest.approx(1e4, rel=0.02)
    assert np.unravel_index(int(np.argmax(drawn.clean[0])), (SIDE, SIDE)) == (100, 31)
    want = 1e4 * np.fft.ifft2(lorentzian(0.2)).real
    np.testing.assert_allclose(
        np.roll(np.asarray(drawn.clean[0]), (-100, -31), (0, 1)), want, atol=0.02 * want.max()
    )


def test_adc_rounds_with_a_variance_of_one_twelfth():
    # The readout, of two counts, makes the rounding error uniform; the noise itself is known.
    key = jax.random.key(3)
    detector = Detector(gain=0.37, offset=50.0, readout=2.0)
    drawn = detect(key, jnp.full((SIDE, SIDE), 40.0), detector)
    arrive_key, _, readout_key = jax.random.split(key, 3)
    electrons = np.asarray(simulate.poisson(arrive_key, jnp.full((SIDE, SIDE), 40.0)))
    readout = 2 * np.asarray(jax.random.normal(readout_key, (SIDE, SIDE)))
    error = np.asarray(drawn.counts[0]) - (50 + 0.37 * electrons + readout)
    assert np.abs(error).max() <= 0.5 + 1e-4
    assert error.var() == pytest.approx(1 / 12, rel=0.02)


def test_saturation_cuts_at_its_level_and_darkness_at_zero():
    counts = exposed(Detector(gain=10.0, saturation=255.0), 25.0)
    assert counts.max() == 255
    assert np.mean(counts == 255) == pytest.approx(0.5, abs=0.1)
    dark = exposed(Detector(readout=3.0), 0.0)
    assert dark.min() == 0
    assert np.mean(dark == 0) == pytest.approx(0.566, abs=0.02)  # below half a count
    pedestal = exposed(Detector(readout=3.0, offset=100.0), 0.0)
    assert pedestal.mean() == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize("electrons", [1.0, 5.0, 100.0])
def test_uneven_electrons_keep_their_mean_and_are_never_negative(electrons):
    # a gain that makes rounding negligible
    detector = Detector(gain=1000.0, excess=0.6)
    counts = exposed(detector, electrons) / 1000
    assert counts.min() >= 0
    assert counts.mean() == pytest.approx(electrons, rel=0.01)
    assert counts.var() == pytest.approx(1.6 * electrons, rel=0.03)


def test_transfer_is_its_value_at_nyquist_and_one_at_rest():
    got = transfer(jnp.array([0.0, 0.25, 0.5]), 0.2)
    np.testing.assert_allclose(got, [1, 0.5, 0.2], rtol=1e-6)


@pytest.mark.parametrize(("mtf", "ntf"), [(0.0, 1.0), (0.6, 0.4), (0.5, 1.1)])
def test_a_transfer_that_no_detector_has_is_refused(mtf, ntf):
    with pytest.raises(ValueError, match=f"mtf is {mtf} and ntf {ntf}: "):
        detect(jax.random.key(0), jnp.ones((8, 8)), Detector(mtf=mtf, ntf=ntf))

"""Scan faults: where the probe really was, against plain NumPy and cross-correlation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd.data.simulate import scan
from emd.data.simulate.scan import ScanFaults, displacement, scanned

SIDE = 64


def test_jitter_moves_rows_along_the_fast_scan_only():
    shifts = np.array([0.0, 1.0, -3.0, 2.0] * 16, np.float32)
    image = np.asarray(jax.random.uniform(jax.random.key(0), (SIDE, SIDE)))
    moved = np.asarray(scan.shift_rows(jnp.asarray(image), jnp.asarray(shifts)))
    for row, shift in enumerate(shifts.astype(int)):
        source = np.clip(np.arange(SIDE) - shift, 0, SIDE - 1)
        np.testing.assert_allclose(moved[row], image[row, source], atol=1e-6)
    # A picture that does not change along the rows stays, whatever the shifts.
    layers = jnp.asarray(np.repeat(image[:, :1], SIDE, axis=1))
    drawn = scan.scan_shifts(jax.random.key(1), SIDE, jitter_px=1.5)
    np.testing.assert_allclose(scan.shift_rows(layers, drawn), layers, atol=1e-6)


def test_fractional_shift_of_a_wave_and_size_of_the_jitter():
    x = np.arange(SIDE)
    image = jnp.asarray(np.broadcast_to(np.sin(2 * np.pi * x / 16), (SIDE, SIDE)), jnp.float32)
    moved = scan.shift_rows(image, jnp.full(SIDE, 0.37))
    want = np.sin(2 * np.pi * (x - 0.37) / 16)
    np.testing.assert_allclose(moved[5, 2:-2], want[2:-2], atol=0.01)
    keys = jax.random.split(jax.random.key(2), 50)
    steps = np.diff([scan.scan_shifts(key, SIDE, jitter_px=0.5) for key in keys], axis=1)
    # From row to row two fast draws (variance 1 each) and one of the drift's steps, 1/8 as large.
    assert steps.std() == pytest.approx(0.5 * np.sqrt((2 + 1 / 64) / 2), rel=0.1)


def texture(seed: int, side: int = SIDE) -> jax.Array:
    """A band-limited random image, 1 in the mean, with a period of its side."""
    spectrum = np.fft.fft2(np.random.default_rng(seed).normal(size=(side, side)))
    k = np.fft.fftfreq(side)
    spectrum *= np.exp(-((k[:, None] ** 2 + k[None, :] ** 2) / 0.1**2))
    image = np.fft.ifft2(spectrum).real
    return jnp.asarray(1 + 0.2 * image / image.std(), jnp.float32)


def lag(row: np.ndarray, moved: np.ndarray) -> float:
    """By how many pixels a row was moved right, to fractions of a pixel, by cross-correlation."""
    fine = 16
    product = np.fft.fft(moved - moved.mean()) * np.conj(np.fft.fft(row - row.mean()))
    half = len(row) // 2
    padded = np.zeros(fine * len(row), complex)
    padded[:half], padded[-half:] = product[:half], product[-half:]
    peak = int(np.argmax(np.fft.ifft(padded).real))
    return (peak if peak < len(padded) / 2 else peak - len(padded)) / fine


def test_a_scan_without_faults_changes_nothing():
    scene = texture(0)
    np.testing.assert_allclose(
        scanned(jax.random.key(0), scene, ScanFaults()), scene, rtol=0, atol=1e-6
    )


def test_moving_agrees_with_moving_rows_and_with_the_transpose():
    scene = texture(1)
    down = jnp.zeros((SIDE, SIDE))
    shifts = jax.random.normal(jax.random.key(3), (SIDE,)) * 3
    right = jnp.broadcast_to(shifts[:, None], (SIDE, SIDE))
    by_rows = scan.shift_rows(scene, shifts)
    np.testing.assert_allclose(scan.move(scene, down, right), by_rows, atol=1e-5)
    np.testing.assert_allclose(scan.move(scene.T, right.T, down.T), by_rows.T, atol=1e-5)


def test_drift_stretches_along_the_slow_scan_and_shears_along_the_fast_one():
    rows, columns = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    time = (rows + columns / SIDE) / SIDE
    faults = ScanFaults(drift_px=(6.0, -4.0))
    inner = (slice(8, -8), slice(8, -8))
    for scene, drift in ((rows, 6.0), (columns, -4.0)):
        got = scanned(jax.random.key(0), jnp.asarray(scene, jnp.float32), faults)
        np.testing.assert_allclose(got[inner], (scene - drift * time)[inner], atol=1e-3)
    # A place seen at row r was at r - 6 t: rows of the scene lie 1 / (1 - 6 / side) rows apart.
    down, _ = displacement(jax.random.key(0), (SIDE, SIDE), faults)
    assert float(down[-1, 0] - down[0, 0]) == pytest.approx(6 * (SIDE - 1) / SIDE, rel=1e-5)


def test_jitter_is_found_again_by_cross_correlation():
    scene = texture(2, 128)
    key = jax.random.key(5)
    faults = ScanFaults(jitter_px=1.5)
    moved = np.asarray(scanned(key, scene, faults))
    move_key, _ = jax.random.split(key)
    _, right = displacement(move_key, scene.shape, faults)
    want = np.asarray(right)[:, 0]
    got = [lag(a, b) for a, b in zip(np.asarray(scene), moved, strict=True)]
    assert want.std() == pytest.approx(1.5, rel=0.25)
    np.testing.assert_allclose(got, want, atol=0.25)


def test_flyback_decays_from_the_start_of_a_row_and_is_the_same_for_all():
    faults = ScanFaults(flyback_px=5.0, flyback_decay_px=9.0)
    down, right = displacement(jax.random.key(0), (SIDE, SIDE), faults)
    assert not np.any(down)
    want = np.broadcast_to(5 * np.exp(-np.arange(SIDE) / 9), (SIDE, SIDE))
    np.testing.assert_allclose(right, want, atol=1e-5)
    # The same upside down: no row knows which it is.
    scene = texture(3)
    flipped = scanned(jax.random.key(0), scene[::-1], faults)
    np.testing.assert_allclose(flipped[::-1], scanned(jax.random.key(0), scene, faults), atol=1e-6)


@pytest.mark.parametrize(("row_ms", "cycles"), [(5.0, 16), (2.5, 8)])
def test_mains_hum_has_fifty_cycles_a_second(row_ms, cycles):
    faults = ScanFaults(mains_px=2.0, row_ms=row_ms)
    _, right = displacement(jax.random.key(1), (SIDE, SIDE), faults)
    first = np.asarray(right)[:, 0]
    power = np.abs(np.fft.rfft(first)) ** 2
    assert int(np.argmax(power)) == cycles  # 64 rows of so many ms
    assert power[cycles] > 0.999 * power.sum()
    assert np.sqrt(2) * first.std() == pytest.approx(2.0, rel=1e-3)
    # Rows in step with the mains are displaced alike.
    _, right = displacement(jax.random.key(1), (SIDE, SIDE), faults._replace(row_ms=20.0))
    np.testing.assert_allclose(right, np.broadcast_to(right[:1], right.shape), atol=2e-3)


def test_dwell_makes_rows_unevenly_bright_and_nothing_else_is_random_in_brightness():
    flat = jnp.full((512, 8), 10.0)
    drawn = np.asarray(scanned(jax.random.key(2), flat, ScanFaults(dwell=0.05)))
    assert np.ptp(drawn, axis=1).max() < 1e-4
    assert drawn[:, 0].std() / 10 == pytest.approx(0.05, rel=0.15)
    faults = ScanFaults(jitter_px=1.0, drift_px=(3.0, 3.0), flyback_px=4.0, mains_px=1.0)
    np.testing.assert_allclose(scanned(jax.random.key(2), flat, faults), flat, rtol=1e-5)


def test_a_scan_is_linear_in_the_scene_and_never_negative():
    faults = ScanFaults(0.5, (2.0, 3.0), 4.0, 10.0, 0.7, 9.0, 0.1)
    key, scene = jax.random.key(4), texture(4)
    np.testing.assert_allclose(
        scanned(key, 3 * scene, faults), 3 * scanned(key, scene, faults), rtol=1e-5
    )
    spots = jnp.zeros((SIDE, SIDE)).at[::7, ::5].set(100.0)
    assert float(scanned(key, spots, faults).min()) >= 0

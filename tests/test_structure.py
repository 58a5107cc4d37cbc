"""What of a spectrum is structure: an oracle for each step, and symmetries."""

import numpy as np
import pytest

from emd import structure

NORMAL = np.random.default_rng(7).normal(size=(64, 64))


def test_it_flips_and_shifts_with_the_image():
    rows, columns = np.mgrid[:128, :128]
    residual = np.random.default_rng(0).normal(size=rows.shape)
    residual += 2 * np.cos(2 * np.pi * (rows + 0.4 * columns) / 7.3)
    for most in (None, 1.0, 10.0):
        plain = structure.structure(residual, most=most)
        for move in (lambda x: np.roll(x, (5, 17), (0, 1)), np.flipud, np.fliplr):
            moved = structure.structure(np.ascontiguousarray(move(residual)), most=most)
            np.testing.assert_allclose(moved, move(plain), atol=1e-3)


def expected_by_hand(power):
    """Rings, then a circular Gaussian blur, then single bins; over the whole plane."""
    height, width = power.shape
    down, along = np.fft.fftfreq(height), np.fft.fftfreq(width)  # cycles a pixel
    ring = np.rint(np.hypot(down[:, None], along[None]) * (min(power.shape) / 4))
    expected = np.ones(power.shape)
    for number in np.unique(ring):
        bins = power[ring == number]  # each twice, but for a few
        if bins.mean() > 1.1 + 6 / np.sqrt(bins.size / 2):
            expected[ring == number] = bins.mean()
    blurs = []
    for n in (height, width):
        apart = np.arange(n)[:, None] - np.arange(n)[None] + n * np.arange(-2, 3)[:, None, None]
        weight = np.exp(-(apart**2) / 8.0).sum(0)
        blurs.append(weight / weight.sum(1, keepdims=True))
    blurred = blurs[0] @ (power / expected) @ blurs[1].T
    certain = blurred > 1.1 + 6 / np.sqrt(16 * np.pi)
    expected = np.where(certain, expected * blurred, expected)
    limit = np.log(power.size / 2) + 5
    return np.where(power > expected * limit, power, expected)


@pytest.mark.parametrize("shape", [(64, 64), (48, 65)])
def test_the_expected_power_is_that_of_rings_blurs_and_single_bins(shape):
    image = np.random.default_rng(3).normal(size=shape)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image += 0.9 * np.cos(rows * 1.9) * np.cos(columns * 0.7)  # a lattice
    image += 2 * np.cos(2 * np.pi * columns * 20 / shape[1])  # a single bin
    image += 3 * np.cumsum(np.random.default_rng(4).normal(size=shape), 1) / shape[1]  # a ring
    whole = np.abs(np.fft.fft2(image)) ** 2 / image.size
    half = shape[1] // 2 + 1
    found = structure.expected_power(whole[:, :half], shape)
    by_hand = expected_by_hand(whole)[:, :half]
    assert 1 < np.unique(np.round(by_hand, 6)).size < by_hand.size
    np.testing.assert_allclose(found, by_hand, rtol=1e-3)


def rows_of_their_own(shape, seed=0):
    """Normal noise of variance 1 whose neighbours along rows, and they alone, have correlation."""
    normal = np.random.default_rng(seed).normal(size=shape)
    spectrum = np.fft.rfft(normal, axis=1)
    power = 1 / (1 + (np.fft.rfftfreq(shape[1]) * 60) ** 2)
    power /= power.mean()
    return np.fft.irfft(spectrum * np.sqrt(power), shape[1], axis=1), power


def test_noise_of_rows_is_told_by_frequency_along_them():
    shape = 256, 200
    white = np.random.default_rng(1).normal(size=shape)
    lines, due = rows_of_their_own(shape)

    def level(image):
        power = np.abs(np.fft.rfft2(image)) ** 2 / image.size
        return structure.row_noise(power, shape)

    np.testing.assert_array_equal(level(white), 1)
    found = level(white + lines)
    strong = 1 + due > 2
    np.testing.assert_allclose(found[strong], 1 + due[strong], rtol=0.5)
    assert np.mean(found[strong] / (1 + due[strong])) == pytest.approx(1, abs=0.2)
    np.testing.assert_array_equal(found[due < 0.1], 1)
    # down the columns, or without a direction: structure
    np.testing.assert_array_equal(level(white + rows_of_their_own(shape[::-1])[0].T), 1)
    blurred = sum(np.roll(white, (i, j), (0, 1)) for i in range(2) for j in range(2))
    np.testing.assert_array_equal(level(blurred), 1)


def test_of_correlated_noise_as_much_stays_out_as_most_of_a_ring_has():
    """By hand, with medians up to a bound: bins of a ring alike, those of a lattice above them."""
    shape = 64, 64
    ring = np.rint(np.hypot(*np.meshgrid(*(np.fft.fftfreq(64),) * 2)) * 16)
    power = np.random.default_rng(0).exponential(size=shape) * (2 + 5 * np.exp(-ring))
    power[7, 9] = power[-7, -9] = 400
    residual = np.fft.ifft2(np.sqrt(power) * np.exp(1j * np.angle(np.fft.fft2(NORMAL)))).real * 64
    power = np.abs(np.fft.fft2(residual)) ** 2 / residual.size
    for number in np.unique(ring):
        power[ring == number] /= np.clip(np.median(power[ring == number]) / np.log(2), 1, 4)
    kept = np.maximum(0, 1 - 1.1 / expected_by_hand(power))
    found = structure.structure(residual.astype(np.float32), most=4.0)
    np.testing.assert_allclose(found, np.fft.ifft2(np.fft.fft2(residual) * kept).real, atol=2e-2)
    assert kept[7, 9] > 0.9
    assert np.mean(kept > 0) < 0.1  # its neighbourhood

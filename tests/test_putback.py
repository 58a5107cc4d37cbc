"""What is put back of a residual: structure and not noise, as Wiener's filter would have it."""

import numpy as np
import pytest

from emd import putback
from emd.putback import put_back

SIDE = 128
NORMAL = np.random.default_rng(7).normal(size=(64, 64))


def lattice(side=SIDE, mean=30.0, contrast=10.0):
    rows, columns = np.mgrid[:side, :side]
    waves = np.cos(2 * np.pi * (rows + 0.4 * columns) / 7.3) + np.cos(2 * np.pi * columns / 6.1)
    return mean + contrast * waves


def counted(truth, seed=0):
    return np.random.default_rng(seed).poisson(truth).astype(np.float32)


def flat(image):
    return np.full(image.shape, image.mean(dtype=np.float64), np.float32)


def mse(image, truth):
    return float(np.mean((image.astype(np.float64) - truth) ** 2))


@pytest.mark.parametrize("seed", range(4))
def test_noise_alone_stays_out(seed):
    """A ramp, since what has one brightness alone tells nothing of its noise."""
    truth = np.linspace(5.0, 60.0, SIDE**2).reshape(SIDE, SIDE)
    found = put_back(counted(truth, seed), truth.astype(np.float32))
    assert found.share < 0.005
    assert mse(found.pixels, truth) < 0.005 * truth.mean()
    assert found.warning is None


def test_noise_alone_stays_out_where_it_is_not_what_the_image_tells():
    """The middle has less than the rest, and is what tells; a spike; a border below the level."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    truth = 20 + 80 * np.clip(np.hypot(rows - SIDE / 2, columns - SIDE / 2) / SIDE, 0, 1)
    found = put_back(-counted(truth), -truth.astype(np.float32))  # contrast inverted: no gain
    assert found.share < 0.005
    ramp = np.linspace(30, 70, SIDE) * np.ones((SIDE, 1))
    spiked = counted(ramp)
    spiked[10, 10] = 5000
    assert put_back(spiked, ramp.astype(np.float32)).share < 0.005
    lifted, known = 300 + counted(ramp), 300 + ramp
    lifted[:20] = known[:20] = 0
    assert put_back(lifted, known.astype(np.float32)).share < 0.005


@pytest.mark.parametrize("shape", [(128, 128), (97, 150)])
def test_structure_that_was_taken_away_comes_back(shape):
    truth = lattice(160)[: shape[0], : shape[1]]
    seen = counted(truth)
    found = put_back(seen, flat(seen))
    assert 0.5 < found.share < 1
    assert mse(found.pixels, truth) < 0.15 * min(mse(seen, truth), mse(flat(seen), truth))


def test_what_was_left_is_as_it_was():
    seen = counted(lattice())
    found = put_back(seen, seen)
    assert found.share == 0
    np.testing.assert_array_equal(found.pixels, seen)


def test_of_an_image_without_noise_all_comes_back():
    seen = lattice().astype(np.float32)
    found = put_back(seen, flat(seen))
    assert mse(found.pixels, seen) < 1e-4 * np.var(seen)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    discs = 100 / (1 + np.exp(np.hypot(rows - 50, columns - 60) - 30)).astype(np.float32)
    assert mse(put_back(discs, flat(discs)).pixels, discs) < 1e-4 * np.var(discs)
    constant = np.full((64, 64), 7, np.uint8)
    np.testing.assert_array_equal(put_back(constant, constant + np.float32(1)).pixels, constant)


@pytest.mark.parametrize(("scale", "offset"), [(3.0, 0.0), (0.02, 5.0), (40.0, -900.0)])
def test_it_scales_and_shifts_with_the_counts(scale, offset):
    seen = counted(lattice()).astype(np.float64)
    restored = flat(seen)
    plain = put_back(seen, restored).pixels
    moved = put_back(scale * seen + offset, np.float32(scale) * restored + np.float32(offset))
    np.testing.assert_allclose((moved.pixels - offset) / scale, plain, atol=2e-3)


def test_it_flips_and_shifts_with_the_image():
    seen = counted(lattice())
    residual = (seen - seen.mean()) / np.float32(np.sqrt(30))
    for most in (1.0, 10.0):
        plain = putback.structure(residual, most=most)
        for move in (lambda x: np.roll(x, (5, 17), (0, 1)), np.flipud, np.fliplr):
            moved = putback.structure(np.ascontiguousarray(move(residual)), most=most)
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
    found = putback.expected_power(whole[:, :half], shape)
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
        return putback.row_noise(power, shape)

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


def test_noise_of_rows_stays_out_and_a_lattice_comes_back():
    truth = lattice()
    lines = 3 * rows_of_their_own(truth.shape)[0]
    flat_found = put_back(counted(np.full(truth.shape, 30.0)) + lines, flat(truth))
    assert flat_found.share < 0.02
    found = put_back(counted(truth) + lines.astype(np.float32), flat(truth))
    assert mse(found.pixels, truth) < 0.2 * np.var(truth)


def blurred(image):
    """As an image turned or shifted by half a pixel: the noise of neighbours is alike."""
    return sum(np.roll(image, (i, j), (0, 1)) for i in range(2) for j in range(2)) / 4


@pytest.mark.parametrize("seed", range(4))
def test_correlated_noise_stays_out_and_is_told_of(seed):
    truth = np.full((SIDE, SIDE), 30.0)
    found = put_back(blurred(counted(truth, seed)), truth.astype(np.float32))
    assert "noise is correlated" in found.warning
    assert found.share < 0.06


@pytest.mark.parametrize("dose", [1e4, 1e6])
def test_of_an_image_with_little_noise_nearly_all_comes_back(dose):
    """Its soft edges look like correlated noise."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    truth = dose * (0.2 + 1 / (1 + np.exp((np.hypot(rows - 50, columns - 60) - 30) / 2)))
    seen = counted(truth)
    found = put_back(seen, flat(seen))
    assert mse(found.pixels, truth) < 4 * mse(seen, truth)


def test_a_lattice_comes_back_from_correlated_noise():
    truth = blurred(lattice())
    seen = blurred(counted(lattice()))
    found = put_back(seen, flat(seen))
    assert "noise is correlated" in found.warning
    assert mse(found.pixels, truth) < 0.3 * min(mse(seen, truth), mse(flat(seen), truth))


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
    found = putback.structure(residual.astype(np.float32), most=4.0)
    np.testing.assert_allclose(found, np.fft.ifft2(np.fft.fft2(residual) * kept).real, atol=2e-2)
    assert kept[7, 9] > 0.9
    assert np.mean(kept > 0) < 0.1  # its neighbourhood


@pytest.mark.parametrize("shape", [(300, 1500), (2048, 1160)])
def test_blocks_of_a_large_image_share_its_pixels_out(shape):
    total = np.zeros(shape)
    for block, weight in putback._blocks(shape):
        assert max(weight.shape) <= 1152
        assert weight.min() > 0
        total[block] += weight
    np.testing.assert_allclose(total, 1, rtol=1e-5)


def test_blocks_work_like_the_whole_and_leave_no_seam(monkeypatch):
    truth = lattice(300)[:, :200]
    seen = counted(truth)
    whole = put_back(seen, flat(seen))
    monkeypatch.setattr(putback, "_BLOCK_PX", 128)
    monkeypatch.setattr(putback, "_OVERLAP_PX", 32)
    for _, weight in putback._spans(300):
        assert np.abs(np.diff(weight)).max() < 1.5 / 32
    found = put_back(seen, flat(seen))
    assert found.share == pytest.approx(whole.share, abs=0.03)
    assert mse(found.pixels, truth) < 0.2 * min(mse(seen, truth), mse(flat(seen), truth))


@pytest.mark.parametrize("shape", [(1, 1), (31, 200)])
def test_small_images_stay_as_the_model_made_them(shape):
    seen = counted(np.full(shape, 9.0))
    found = put_back(seen, flat(seen))
    np.testing.assert_array_equal(found.pixels, flat(seen))
    assert found.warning == "nothing is put back: a side is below 32 px"

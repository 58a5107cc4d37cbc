"""What is put back of a residual: structure and not noise, as Wiener's filter would have it."""

import numpy as np
import pytest
from test_structure import rows_of_their_own

from emd import putback
from emd.putback import Electrons, put_back

SIDE = 128


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
    assert found.suspicion is None


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
    assert "noise is correlated" in found.suspicion.text
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
    assert "noise is correlated" in found.suspicion.text
    assert mse(found.pixels, truth) < 0.3 * min(mse(seen, truth), mse(flat(seen), truth))


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
    assert found.suspicion.text == "nothing is put back: a side is below 32 px"


@pytest.mark.parametrize("seed", range(4))
def test_noise_of_a_known_gain_stays_out(seed):
    """Of one brightness, too, which tells an estimate nothing."""
    for truth in (np.linspace(5.0, 60.0, SIDE**2).reshape(SIDE, SIDE), np.full((SIDE, SIDE), 0.3)):
        found = put_back(counted(truth, seed), truth.astype(np.float32), Electrons(1.0))
        assert found.share < 0.005
        assert found.suspicion is None


@pytest.mark.parametrize("contrast", [0.6, 1.0, 10.0])
def test_of_a_known_gain_structure_as_fine_as_a_pixel_comes_back(contrast):
    """White contrast of variance S under noise of variance N: Wiener leaves S N / (S + N)."""
    dose = 400.0
    white = np.random.default_rng(5).uniform(-(3**0.5), 3**0.5, size=(SIDE, SIDE))
    truth = dose + contrast * np.sqrt(dose) * white
    seen = counted(truth)
    found = put_back(seen, flat(seen), Electrons(1.0))
    due = contrast**2 / (contrast**2 + 1) * dose
    assert mse(found.pixels, truth) == pytest.approx(due, rel=0.2)
    told = put_back(seen, flat(seen))  # to an estimate it is noise
    assert mse(told.pixels, truth) == pytest.approx(contrast**2 * dose, rel=0.1)


def test_of_a_known_gain_what_rows_have_of_their_own_comes_back():
    truth = 100 + 20 * rows_of_their_own((SIDE, SIDE))[0]
    seen = counted(truth)
    found = put_back(seen, flat(seen), Electrons(1.0))
    assert mse(found.pixels, truth) < 0.7 * mse(seen, truth)


@pytest.mark.parametrize(("gain", "black"), [(3.0, 0.0), (0.02, 5.0), (40.0, -900.0)])
def test_a_known_gain_scales_and_shifts_with_the_counts(gain, black):
    seen = counted(lattice())
    plain = put_back(seen, flat(seen), Electrons(1.0)).pixels
    given = (
        gain * seen.astype(np.float64) + black,
        np.float32(gain) * flat(seen) + np.float32(black),
    )
    moved = put_back(*given, Electrons(gain, black)).pixels
    np.testing.assert_allclose((moved - black) / gain, plain, atol=5e-3)


@pytest.mark.parametrize(
    ("gain", "words"), [(4.0, "noise is 0.2"), (1.1, None), (0.2, "noise seems 4.")]
)
def test_a_gain_that_does_not_fit_the_noise_is_told_of(gain, words):
    truth = lattice()
    found = put_back(counted(truth), truth.astype(np.float32), Electrons(gain))
    assert (found.suspicion is None) == (words is None)
    assert words is None or words in found.suspicion.text


def test_a_right_gain_is_not_doubted():
    """Whatever the model leaves: contrast as fine as a pixel, hard edges, and areas unlit."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    disc = 50.0 * (np.hypot(rows - 64, columns - 64) < 40)
    fine = np.random.default_rng(3).uniform(20, 180, (SIDE, SIDE))
    half = np.where(rows < SIDE / 2, 0.0, 30.0)
    for truth in (disc + 0.05, disc, fine, half):
        found = put_back(counted(truth), truth.astype(np.float32), Electrons(1.0))
        assert found.share < 0.01
        assert found.suspicion is None


def test_one_block_whose_noise_does_not_fit_the_gain_is_enough(monkeypatch):
    monkeypatch.setattr(putback, "_BLOCK_PX", 128)
    monkeypatch.setattr(putback, "_OVERLAP_PX", 32)
    truth = np.full((128, 320), 30.0)
    seen = counted(truth)
    plain = put_back(seen, truth.astype(np.float32), Electrons(1.0))
    assert plain.suspicion is None
    assert plain.share < 0.005
    seen[:, :130] = blurred(seen)[:, :130]
    found = put_back(seen, truth.astype(np.float32), Electrons(1.0))
    assert found.suspicion.name == "gain too large"


@pytest.mark.parametrize(
    ("electrons", "words"),
    [
        (Electrons(1.0, 500.0), "its mean is no more than the counts of no electron"),
        (Electrons(1e-40), "its gain is out of all proportion"),
        (Electrons(1e40), "its gain is out of all proportion"),
    ],
)
def test_where_there_can_be_no_such_electrons_nothing_is_put_back(electrons, words):
    seen = counted(lattice())
    found = put_back(seen, flat(seen), electrons)
    np.testing.assert_array_equal(found.pixels, flat(seen))
    assert found.suspicion.text.startswith(f"nothing is put back: {words}")

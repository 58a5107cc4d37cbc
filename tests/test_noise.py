import tracemalloc

import jax
import numpy as np
import pytest

from emd import blocks, noise
from emd.data import simulate

RNG = np.random.default_rng(5)


def scene(side=512, low=0.2, high=1.8):
    """Smooth brightness of mean about 1, so that all structure is coarser than a block."""
    y, x = np.mgrid[:side, :side] / side
    wave = 0.5 + 0.25 * (np.sin(7 * x + 3 * y) + np.cos(5 * x - 6 * y))
    return low + (high - low) * wave


def counted(dose, gain=1.0, offset=0.0, readout=0.0, image=None, seed=0):
    rng = np.random.default_rng(seed)
    electrons = rng.poisson(dose * (scene() if image is None else image))
    return gain * electrons + offset + readout * rng.normal(size=electrons.shape)


@pytest.mark.parametrize("std", [0.01, 3.0, 1e5])
def test_the_std_of_white_noise_on_a_smooth_image(std):
    pixels = 20 * std * scene() + std * np.random.default_rng(1).normal(size=(512, 512))
    found = noise.estimate(pixels)
    assert found.std == pytest.approx(std, rel=0.02)
    assert max(map(abs, found.correlation)) < 0.02
    assert found.gain is None
    assert "unknown" in found.warnings[0]


@pytest.mark.parametrize("dose", [0.3, 2, 20, 300, 5000])
@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (0.07, -3.0), (250.0, 9000.0)])
def test_gain_offset_and_dose_of_counted_electrons(dose, gain, offset):
    pixels = counted(dose, gain, offset)
    found = noise.estimate(pixels)
    assert found.gain == pytest.approx(gain, rel=0.05)
    assert found.dose == pytest.approx(dose * scene().mean(), rel=0.08)
    assert abs(found.dose - dose * scene().mean()) < 5 * found.dose_error
    assert abs(found.offset - offset) < 0.08 * gain * dose
    assert found.std == pytest.approx(gain * np.sqrt(dose * scene().mean()), rel=0.03)
    assert found.warnings == ()
    assert found.readout is None


def test_readout_noise_is_told_from_electrons_once_black_is_known():
    pixels = counted(10, 4.0, 100.0, readout=6.0)
    mean = 10 * scene().mean()
    blind = noise.estimate(pixels)
    # taken for electrons: (readout / gain)^2 of them
    assert blind.dose == pytest.approx(mean + (6 / 4) ** 2, rel=0.1)
    assert blind.readout is None
    found = noise.estimate(pixels, black=100.0)
    assert found.dose == pytest.approx(mean, rel=0.05)
    assert found.readout == pytest.approx(6.0, rel=0.1)
    assert found.gain == blind.gain


def test_another_gain_and_offset_change_no_dose():
    pixels = counted(10)
    one, other = noise.estimate(pixels), noise.estimate(8 * pixels - 4096)
    assert other.dose == pytest.approx(one.dose, rel=1e-6)
    assert other.dose_error == pytest.approx(one.dose_error, rel=1e-4)
    assert other.correlation == pytest.approx(one.correlation, abs=1e-6)
    for name in ("std", "gain", "gain_error"):
        assert getattr(other, name) == pytest.approx(8 * getattr(one, name), rel=1e-4)
    assert other.offset == pytest.approx(8 * one.offset - 4096, rel=1e-4)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float16", "float32"])
def test_the_type_changes_nothing(dtype):
    pixels = np.minimum(counted(40), 200)
    found = noise.estimate(pixels.astype(dtype))
    assert found == noise.estimate(pixels)


@pytest.mark.parametrize(
    ("kind", "seed", "doses", "within"),
    [
        (simulate.particles, 0, (3.0, 100.0), 0.1),
        (simulate.lattice, 1, (10.0, 100.0), 0.3),  # its brightness varies by 14 % only
    ],
)
def test_structure_is_not_taken_for_noise(kind, seed, doses, within):
    draw = jax.jit(kind, static_argnames="side_px")
    for dose in doses:
        drawn = draw(jax.random.key(seed), side_px=512, dose=dose)
        truth = float(drawn.clean.mean())
        found = noise.estimate(np.asarray(drawn.counts[0]))
        assert found.std == pytest.approx(truth**0.5, rel=0.05)
        assert found.dose == pytest.approx(truth, rel=within)
        assert abs(found.dose - truth) < 4 * found.dose_error
        assert found.warnings == ()


def test_correlated_noise_is_told():
    white = 100 + np.random.default_rng(2).normal(size=(301, 400))
    assert not any("correlated" in line for line in noise.estimate(white).warnings)
    across = (white[:, 1:] + white[:, :-1]) / 2
    found = noise.estimate(across)
    assert any("correlated" in line for line in found.warnings)
    assert found.correlation[0] > 0.3 > 0 > found.correlation[1]
    turned = noise.estimate(across.T)
    assert turned.correlation[1] > 0.3
    both = (across[1:] + across[:-1]) / 2
    assert noise.estimate(both).std < 0.5


def test_inverted_contrast_and_noise_that_was_clipped_give_no_dose():
    found = noise.estimate(1000 - counted(20))
    assert found.dose is None
    assert "darker" in found.warnings[-1]
    # variance grows as the square of the mean, as speckle's does
    image = 100 * scene(low=0.02)
    speckle = image * (1 + 0.1 * np.random.default_rng(3).normal(size=image.shape))
    found = noise.estimate(speckle)
    assert found.std > 0
    assert found.dose is None
    assert "not linear" in found.warnings[-1]


def test_saturated_pixels_are_counted_and_left_out():
    pixels = np.minimum(counted(100), 150).astype(np.uint16)
    found = noise.estimate(pixels)
    assert found.saturated == np.mean(pixels == 150)
    assert "saturated" in found.warnings[0]
    assert found.gain == pytest.approx(1, rel=0.08)
    assert noise.estimate(counted(100)).saturated == 0
    assert noise.estimate(counted(0.3)).saturated == 0  # few values, yet none is cut off


def test_pixels_that_are_not_finite_are_passed_over():
    pixels = counted(20)
    pixels[100:140, 50:60] = np.nan
    pixels[3, 4] = np.inf
    found = noise.estimate(pixels)
    assert found.gain == pytest.approx(1, rel=0.05)
    sums = noise.measure(pixels)
    good = pixels[np.isfinite(pixels)]
    assert (sums.finite, sums.low, sums.high) == (good.size, good.min(), good.max())
    assert sums.mean == pytest.approx(good.mean())


@pytest.mark.parametrize(
    ("pixels", "word"),
    [
        (np.full((40, 40), 7, np.uint8), "equal"),
        (np.full((4, 4), np.nan), "finite"),
        (np.arange(64.0).reshape(8, 8), "too small"),
        (np.arange(7.0)[None], "too small"),
        (np.tile(np.sin(np.arange(90.0)), (90, 1)), "no noise"),
        (np.pad(np.ones((1, 1)), 40), "too few electrons"),
        (np.where(np.arange(40) % 5, RNG.normal(9, 1, (40, 40)), np.nan), "cut off"),
    ],
)
def test_images_that_tell_nothing(pixels, word):
    found = noise.estimate(pixels)
    assert word in found.warnings[0]
    assert found.gain is None
    assert found.dose is None
    assert not found.std


@pytest.mark.parametrize("dose", [0.001, 0.01, 0.05])
def test_frames_of_few_electrons_tell_nothing(dose):
    """Blocks with an electron are no fair sample of them; those of 0.1 a pixel nearly all have."""
    found = noise.estimate(np.random.default_rng(1).poisson(dose, (512, 512)))
    assert (found.std, found.gain, found.dose) == (None, None, None)
    assert "too few electrons to measure its noise" in found.warnings[0]


def test_an_empty_border_is_no_lack_of_electrons():
    image = np.zeros((512, 512))
    image[128:] = np.random.default_rng(2).poisson(9 + 5 * np.sin(np.arange(512) / 20), (384, 512))
    assert noise.estimate(image).gain == pytest.approx(1, abs=0.1)
    assert noise.estimate(image).warnings == ()


def test_a_small_image_has_noise_but_no_dose():
    found = noise.estimate(counted(30, image=np.ones((24, 24))))
    assert found.std == pytest.approx(30**0.5, rel=0.25)
    assert found.dose is None
    assert "too small" in found.warnings[0]


def test_large_images_are_sampled():
    row = np.random.default_rng(4).poisson(50, 6000).astype(np.uint16)
    pixels = np.broadcast_to(row, (6000, 6000))  # takes no memory
    tracemalloc.start()
    try:
        noise.estimate(pixels)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 120e6  # as float32 the image is 144 MB


def test_sampled_blocks_give_the_same_within_their_error(monkeypatch):
    pixels = counted(20)
    monkeypatch.setattr(blocks, "_MAX_BLOCKS", 1200)
    found = noise.estimate(pixels)
    assert found.gain == pytest.approx(1, rel=0.15)
    assert len(blocks.sample(pixels, pixels.min(), None).mean) <= 1200


def test_blocks_are_those_of_the_image():
    pixels = RNG.normal(size=(24, 20))
    found = blocks.sample(pixels, pixels.min(), None)
    # small images' blocks overlap by half
    assert len(found.mean) == 5 * 4
    first = pixels[:8, :8]
    assert found.mean[0] == pytest.approx(first.mean())
    # an orthonormal transform keeps the power, and its first coefficient is the mean's
    assert (found.spectrum[0] ** 2).sum() == pytest.approx(first.var() * 64, rel=1e-5)
    assert abs(found.spectrum[0, 0, 0]) < 1e-6
    ramp = np.broadcast_to(np.cos(np.pi * (2 * np.arange(8) + 1) * 3 / 16), (8, 8))
    spectrum = blocks.sample(ramp.copy(), ramp.min(), None).spectrum[0]
    assert np.argmax(np.abs(spectrum)) == 3  # of row 0: no change down, third across

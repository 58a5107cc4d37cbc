"""Kernels fitted to one image: against plain least squares, the truth, and images that mislead."""

import jax.numpy as jnp
import numpy as np
import pytest

from emd import checkpoint, fit
from emd.models import symmetry
from emd.restore import denoise


def waves(side: int = 160) -> np.ndarray:
    """A smooth image of about 40 counts that no direction is marked in."""
    rows, columns = np.mgrid[:side, :side]
    return 40 + 15 * (np.sin(rows * 0.5) * np.sin(columns * 0.5) + np.sin((rows + columns) * 0.3))


def noisy(seed: int = 0, gain: float = 1.0, side: int = 160) -> np.ndarray:
    return np.random.default_rng(seed).poisson(waves(side)) * gain


def correlate(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A kernel over an image, pixel by pixel of the window, without the border."""
    width = symmetry.width_of(len(weights))
    kernel = weights[symmetry.orbits(width)]
    inner = image.shape[0] - width + 1
    return sum(
        kernel[i, j] * image[i : i + inner, j : j + inner]
        for i in range(width)
        for j in range(width)
    )


def test_the_autocovariance_is_that_of_plain_sums():
    x = np.random.default_rng(1).standard_normal((13, 17))
    found = fit.autocovariance(x, 3)
    rise = np.sin(np.pi / 2 * (np.arange(6) + 0.5) / 6) ** 2
    fade = np.outer(np.r_[rise, 1, rise[::-1]], np.r_[rise, np.ones(5), rise[::-1]])
    x, whole = x * fade, (fade**2).sum()
    for down in range(4):
        for right in range(4):
            product = x[: 13 - down, : 17 - right] * x[down:, right:]
            assert found[3 + down, 3 + right] == pytest.approx(product.sum() / whole)
            assert found[3 - down, 3 - right] == pytest.approx(product.sum() / whole)


@pytest.mark.parametrize("width", [3, 7])
def test_the_kernel_is_that_of_least_squares_against_the_truth(width):
    """Noise of one size everywhere: then what needs no truth and what has it agree."""
    truth = waves(400)
    x = truth + np.random.default_rng(2).normal(0, 6, truth.shape)
    free = symmetry.orbits(width).ravel()
    inner = 400 - width + 1
    sums = np.zeros((free.max() + 1, inner * inner))
    for place, orbit in enumerate(free):
        i, j = divmod(place, width)
        sums[orbit] += (x[i : i + inner, j : j + inner] - x.mean()).ravel()
    half = width // 2
    wanted = (truth - x.mean())[half : half + inner, half : half + inner].ravel()
    best = np.linalg.lstsq(sums.T, wanted)[0]
    found = fit.wiener(fit.moments(x - x.mean(), width), 36.0)
    error, least = (np.mean((w @ sums - wanted) ** 2) for w in (found, best))
    assert error == pytest.approx(least, rel=0.03)


def test_it_restores_and_says_by_how_much():
    x, truth = noisy(), waves()
    found = fit.fit(x, name="own")
    assert found.verdict == "use it"
    restored = denoise(x, found.model)
    gain = 10 * np.log10(np.mean((x - truth) ** 2) / np.mean((restored - truth) ** 2))
    assert gain > 6
    assert gain - 5 < found.gain_db < gain + 1
    exact = fit.fit(x, name="own", noise_std=float(np.sqrt(truth.mean())))
    assert gain - 3 < exact.gain_db < gain
    assert found.likelihood > 0.02


@pytest.mark.parametrize("seed", range(3))
def test_strong_smooth_contrast_is_no_trap(seed):
    """Contrast far above the noise: what is told is true, and products stay positive."""
    rows, columns = np.mgrid[:200, :230]
    truth = 500 + 300 * np.sin(columns / 9) * np.cos(rows / 11)
    x = np.random.default_rng(seed).poisson(truth).astype(float)
    found = fit.fit(x, name="own")
    restored = denoise(x, found.model)
    gain = 10 * np.log10(np.mean((x - truth) ** 2) / np.mean((restored - truth) ** 2))
    assert found.verdict == "use it"
    assert 3 < found.gain_db < gain
    gram = fit.moments(x - x.mean(), 15).gram
    assert np.linalg.eigvalsh(gram).min() > 0


def test_gain_and_offset_change_no_weight():
    plain = fit.fit(noisy(), name="own", width=5, noise_std=6.0)
    scaled = fit.fit(3 * noisy() + 700, name="own", width=5, noise_std=18.0)
    one, other = (f.model.variables["params"]["weights"] for f in (plain, scaled))
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert plain.gain_db == pytest.approx(scaled.gain_db)


@pytest.mark.parametrize("turn", [lambda x: x.T, lambda x: x[::-1], lambda x: np.rot90(x)])
def test_a_turned_image_has_the_same_moments(turn):
    x = noisy(side=100)[:, :70] - 40
    plain, turned = fit.moments(x, 9), fit.moments(turn(x), 9)
    np.testing.assert_allclose(turned.gram, plain.gram)
    np.testing.assert_allclose(turned.moment, plain.moment)
    np.testing.assert_array_equal(plain.narrowed(5).gram, plain.gram[:6, :6])


def test_the_floor_of_the_spectrum_is_the_noise_whatever_is_above_it():
    rows, columns = np.mgrid[:256, :250]
    columnar = 300 * np.exp(-((rows % 16 - 8) ** 2 + (columns % 16 - 8) ** 2) / 8)
    x = columnar + 5 * columns + np.random.default_rng(5).normal(0, 3, columnar.shape)
    assert fit.spectral_floor(x - x.mean()) == pytest.approx(9, rel=0.1)
    assert fit.spectral_floor(2 * x) == pytest.approx(4 * fit.spectral_floor(x - x.mean()))


def test_without_noise_nothing_is_to_gain():
    found = fit.fit(noisy(), name="own", noise_std=0.5)
    assert found.verdict == "no gain"
    weights = np.asarray(found.model.variables["params"]["weights"])
    assert weights[0] > 0.95


def test_pure_noise_becomes_its_mean():
    x = np.random.default_rng(3).normal(50, 5, (256, 256))
    found = fit.fit(x, name="own", noise_std=5.0)
    assert np.std(denoise(x, found.model)) < 1


def test_correlated_noise_is_refused():
    x = np.random.default_rng(4).poisson(30.0, (200, 200)).astype(float)
    blurred = (x + np.roll(x, 1, 0) + np.roll(x, 1, 1)) / 3
    found = fit.fit(blurred, name="own")
    assert found.verdict == "do not use"
    assert "correlated" in found.reason


def test_noise_larger_than_the_image_is_refused():
    found = fit.fit(noisy(), name="own", noise_std=60.0)
    assert found.verdict == "do not use"


def test_an_image_that_its_windows_tell_in_full_has_no_such_noise():
    rows, columns = np.mgrid[:128, :128]
    found = fit.fit(
        np.sin(rows * np.pi / 8) * np.sin(columns * np.pi / 8), name="own", noise_std=1.0
    )
    assert found.verdict == "do not use"
    assert "larger than pixels differ" in found.reason


def test_not_finite_pixels_are_no_obstacle():
    x = noisy()
    x[5, 7], x[100, 3] = np.nan, np.inf
    assert fit.fit(x, name="own").verdict == "use it"


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="12 are needed"):
        fit.fit(np.ones((11, 40)), name="own")
    with pytest.raises(ValueError, match="width 15 needs 60"):
        fit.fit(noisy(side=40), name="own", width=15)
    with pytest.raises(ValueError, match="odd number from 3 to 15"):
        fit.fit(noisy(), name="own", width=4)
    with pytest.raises(ValueError, match="all pixels are equal"):
        fit.fit(np.full((64, 64), 7), name="own")
    with pytest.raises(ValueError, match="noise is -1"):
        fit.fit(noisy(), name="own", noise_std=-1.0)
    with pytest.raises(ValueError, match="noise is nan"):
        fit.fit(noisy(), name="own", noise_std=float("nan"))


def test_it_is_saved_and_loaded_like_any_other(tmp_path):
    made = fit.fit(noisy(), name="monday", width=5).model
    folder = checkpoint.save(made, tmp_path, text="Of Monday.")
    assert folder == tmp_path / "monday"
    loaded = checkpoint.load(str(folder))
    assert loaded.config == made.config
    assert loaded.config.name == "monday"
    assert jnp.array_equal(
        loaded.variables["params"]["weights"], made.variables["params"]["weights"]
    )
    assert loaded.card["made_by"] == "emd fit"
    with pytest.raises(FileNotFoundError, match="emd fit"):
        checkpoint.load(str(tmp_path / "tuesday"))
    (folder / "card.md").write_text("# monday")
    with pytest.raises(ValueError, match="family and size"):
        checkpoint.load(str(folder))

"""Perceptrons fitted to one image: closer to the truth than the kernel, or the kernel itself."""

import jax.numpy as jnp
import numpy as np
import pytest

from emd import blindspot_fit, checkpoint, fit
from emd.restore import denoise

pytestmark = pytest.mark.usefixtures("optimised")


def lattice(side: int = 256) -> np.ndarray:
    """Sharp columns on a turned lattice, bright ones of 60 counts: nothing that a kernel knows."""
    rows, columns = np.mgrid[:side, :side] / 9.0
    u, v = rows + 0.3 * columns, columns - 0.3 * rows
    distance = (u - np.rint(u)) ** 2 + (v - np.rint(v)) ** 2
    return 4 + 60 * np.exp(-distance / (2 * 0.15**2))


@pytest.fixture(scope="module")
def exposure():
    return np.random.default_rng(0).poisson(lattice()).astype(np.float64)


@pytest.fixture(scope="module")
def kernel(exposure):
    return fit.fit(exposure, name="own")


@pytest.fixture(scope="module")
def better(exposure, kernel):
    return blindspot_fit.improved(exposure, kernel)


def error(restored: np.ndarray) -> float:
    return float(np.mean((restored - lattice()) ** 2))


def test_it_comes_closer_to_the_truth_than_the_kernel(exposure, kernel, better):
    assert better.model.config.family == "blindspot"
    assert better.verdict == "use it"
    gain = 10 * np.log10(
        error(denoise(exposure, kernel.model)) / error(denoise(exposure, better.model))
    )
    assert gain > 1
    assert better.likelihood > kernel.likelihood
    before = 10 * np.log10(error(exposure) / error(denoise(exposure, better.model)))
    assert before - 5 < better.gain_db < before + 1.5


def test_the_intensity_contract_and_tiles_hold(exposure, better):
    plain = denoise(exposure, better.model)
    scale = np.ptp(plain)
    scaled = denoise(3 * exposure + 700, better.model)
    np.testing.assert_allclose((scaled - 700) / 3, plain, atol=1e-4 * scale)
    tiled = denoise(exposure, better.model, tile_px=40)
    np.testing.assert_allclose(tiled, plain, atol=1e-4 * scale)
    turned = denoise(exposure[::-1, ::-1].copy(), better.model)[::-1, ::-1]
    np.testing.assert_allclose(turned, plain, atol=1e-4 * scale)
    flat = np.full((40, 50), 7.0)
    np.testing.assert_array_equal(denoise(flat, better.model), flat)


def test_it_is_saved_and_loaded_like_any_other(tmp_path, exposure, better):
    folder = checkpoint.save(better.model, tmp_path, text="Of Monday.")
    loaded = checkpoint.load(str(folder))
    assert loaded.config.family == "blindspot"
    np.testing.assert_array_equal(denoise(exposure, loaded), denoise(exposure, better.model))


def test_untrained_it_predicts_what_the_kernel_predicts(exposure, kernel):
    """The kernel less its own pixel, and the noise of its image as a line."""
    x = exposure[:96, :96]
    scale = blindspot_fit.Scale(float(x.min()), float(x.mean() - x.min()))
    normal = (x - scale.minimum) / scale.mean - 1
    module = blindspot_fit.BlindSpot()
    params, jitter = blindspot_fit._untrained(module, normal, kernel, scale, kernel.noise.std)
    block = normal[:21, :21].astype(np.float32)
    found = module.apply({"params": params}, jnp.asarray(block[None]), method="describe")
    tied = np.asarray(kernel.model.variables["params"]["weights"])
    size = kernel.model.config.size
    window = normal[10 - size // 2 : 11 + size // 2, 10 - size // 2 : 11 + size // 2]
    weights = tied[fit.orbits(size)]
    rest = (weights * window).sum() - tied[0] * normal[10, 10]
    assert found[0][0, 0, 0] == pytest.approx(rest / (1 - tied[0]), rel=1e-3)
    level, slope, _ = map(float, params["noise"])
    # at the level where electrons make no noise, the line is 0
    nothing = (kernel.noise.offset - x.mean()) / scale.mean
    assert level + slope * nothing == pytest.approx(0, abs=1e-4 * level)
    assert jitter.shape == (2, found[1].shape[-1])
    assert (jitter > 0).all()
    assert (jitter < 1 + 1e-6).all()


def test_features_have_variance_one_and_say_their_noise():
    x = np.random.default_rng(1).normal(0, 0.5, (200, 210))
    weights, noise = blindspot_fit._features(9, fit.autocovariance(x, 8), 0.25, -1)
    found = np.stack(
        [
            x[i : i + 190, j : j + 200] - x[8 - i : 198 - i, 8 - j : 208 - j]
            for i, j in (divmod(k, 9) for k in range(40))
        ]
    )
    features = np.einsum("pf,pij->fij", weights, found)
    np.testing.assert_allclose(features.std((1, 2)), 1, atol=0.05)
    np.testing.assert_allclose(noise, 1, atol=0.05)  # it is nothing but noise


def test_where_it_predicts_no_better_the_kernel_stays():
    """White noise about a level: there is nothing to learn."""
    x = np.random.default_rng(2).normal(50, 5, (224, 224))
    kernel = fit.fit(x, name="own", noise_std=5.0)
    assert blindspot_fit.improved(x, kernel) is kernel


def test_what_must_not_be_used_is_not_improved(exposure):
    blurred = (exposure + np.roll(exposure, 1, 0) + np.roll(exposure, 1, 1)) / 3
    kernel = fit.fit(blurred, name="own")
    assert kernel.verdict == "do not use"
    assert blindspot_fit.improved(blurred, kernel) is kernel


def test_an_image_too_small_is_refused(exposure, kernel):
    with pytest.raises(ValueError, match="100x256 px is too small for a perceptron"):
        blindspot_fit.improved(exposure[:100], kernel)

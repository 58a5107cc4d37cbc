"""Error maps against plain sums and closed forms; images that are, and are not, of a known kind."""

import json

import jax
import numpy as np
import pytest
from scipy import ndimage

from emd import apply, checkpoint, opencv, tiling
from emd.apply import over_image
from emd.data import simulate
from emd.data.simulate import Simulated
from emd.fit import fit
from emd.noise import Noise
from emd.restore import encode
from emd.trust import distribution, reference, spread
from experiments import calibrate_trust

SIDE = 96


@pytest.fixture(scope="module")
def kernel():
    return checkpoint.load("stem_kernel_w7")


@pytest.fixture(scope="module")
def autoencoder():
    return checkpoint.load("tem_latent1")


def counted(dose=20.0, side=SIDE, seed=0):
    x = np.arange(side) / 6
    image = dose * (1 + 0.7 * np.sin(x[:, None]) * np.cos(x))
    return np.random.default_rng(seed).poisson(image).astype(np.float32)


# --- error maps ------------------------------------------------------------------------------


def test_the_eight_symmetries_are_eight_and_come_back():
    x = np.arange(12.0).reshape(3, 4)
    made = [spread.turned(x, k) for k in range(8)]
    assert len({(y.shape, y.tobytes()) for y in made}) == 8
    for k, y in enumerate(made):
        np.testing.assert_array_equal(spread.turned_back(y, k), x)


def test_the_spread_is_that_of_eight_restorations(autoencoder):
    x = counted(side=48)[:40] / 20
    restored = []
    for flipped in (x, x[:, ::-1]):
        for turns in range(4):
            y = over_image(autoencoder, np.ascontiguousarray(np.rot90(flipped, turns)))
            back = np.rot90(y, -turns)
            restored.append(back if flipped is x else back[:, ::-1])
    expected = np.stack(restored).astype(np.float64).std(0)
    assert expected.max() > 0.01
    np.testing.assert_allclose(spread.spread(autoencoder, x)[0], expected, atol=1e-5)


def test_a_kernel_restores_all_symmetries_alike_and_its_map_is_the_noise_it_passes(kernel):
    pixels = counted()
    by, std = spread.measure(pixels, kernel, Noise(std=4.0))
    assert by == "noise"
    # sigma sqrt(sum w^2), the weights being what it makes of a single bright pixel
    point = np.zeros((31, 31), np.float32)
    point[15, 15] = 1
    weights = over_image(kernel, point) - over_image(kernel, 0 * point)
    assert std.mean() == pytest.approx(4 * np.sqrt((weights.astype(float) ** 2).sum()), rel=0.03)


def test_a_brighter_part_has_the_larger_noise():
    """Variance = gain (mean - offset), as `Noise` says."""
    pixels = np.concatenate([np.full((40, 30), 60.0), np.full((40, 30), 260.0)], axis=1)
    noise = Noise(std=1.0, gain=2.0, offset=10.0)
    found = spread.noise_map(pixels, noise)
    np.testing.assert_allclose(found[:, [0, -1]], np.sqrt([[100, 500]] * 40))
    np.testing.assert_array_equal(spread.noise_map(pixels - 300, noise), 0)
    np.testing.assert_array_equal(spread.noise_map(pixels, Noise(std=3.0)), 3.0)
    with pytest.raises(ValueError, match="does not tell of its noise"):
        spread.noise_map(pixels, Noise())


def test_a_map_is_averaged_over_windows():
    std = np.random.default_rng(0).random((20, 30))
    half = spread.WINDOW_PX // 2
    square = np.pad(std**2, half, mode="symmetric")
    for row, column in ((0, 0), (9, 4), (19, 29)):
        window = square[row : row + spread.WINDOW_PX, column : column + spread.WINDOW_PX]
        assert spread.smoothed(std)[row, column] == pytest.approx(np.sqrt(window.mean()))


def test_a_map_follows_gain_and_offset(autoencoder):
    pixels, noise = counted(), Noise(std=4.0, gain=1.0, offset=0.0)
    one = spread.error_map(pixels, autoencoder, noise)
    other = spread.error_map(3 * pixels + 50, autoencoder, Noise(12.0, gain=3.0, offset=50.0))
    np.testing.assert_allclose(other.std, 3 * one.std, rtol=1e-3)
    assert one.by == other.by == "symmetries"
    _, measured = spread.measure(pixels, autoencoder, noise)
    np.testing.assert_allclose(one.std, one.calibration.factor * measured)


@pytest.mark.parametrize("name", ["tem_latent1", "stem_kernel_w7"])
def test_tiles_of_the_side_asked_for_make_the_same_map_and_judgements(name, monkeypatch):
    model, pixels = checkpoint.load(name), counted()
    seen, real = set(), tiling.make_tiling

    def make_tiling(*arguments, largest, **options):
        seen.add(largest)
        return real(*arguments, largest=largest, **options)

    monkeypatch.setattr(apply, "make_tiling", make_tiling)
    monkeypatch.setattr(opencv, "is_quicker", lambda _: False)  # it takes no tiles
    maps, distances = [], []
    for tile_px in (None, 32):
        seen.clear()
        maps.append(spread.error_map(pixels, model, Noise(std=4.0), tile_px=tile_px).std)
        found = distribution.judge(pixels, model, tile_px=tile_px)
        distances.append([each.distance for each in found])
    assert seen == {(32, 32)}
    np.testing.assert_allclose(maps[1], maps[0], rtol=1e-3)
    assert distances[1] == pytest.approx(distances[0])


def test_only_without_symmetries_to_go_by_must_the_noise_be_known(kernel, autoencoder):
    assert spread.error_map(counted(), kernel, Noise()) is None
    assert spread.error_map(counted(), autoencoder, Noise()).by == "symmetries"
    flat = spread.error_map(np.full((40, 40), 7, np.uint8), kernel, Noise(std=0.0))
    np.testing.assert_array_equal(flat.std, 0)


def test_of_a_large_image_the_middle_is_mapped_at_the_scale_of_the_whole(kernel, monkeypatch):
    monkeypatch.setattr(spread, "LARGEST_PX", 32)
    pixels = counted()
    pixels[0, 0] = -500  # outside the middle, and sets the scale
    part = spread.middle(pixels.shape)
    assert part == (slice(32, 64), slice(32, 64))
    found = spread.error_map(pixels, kernel, Noise(std=4.0))
    alone = spread.error_map(pixels[part], kernel, Noise(std=4.0))
    assert found.std.shape == (32, 32)
    np.testing.assert_allclose(found.std, alone.std, rtol=1e-2)  # a kernel knows no scale


def test_a_map_is_not_scaled_by_what_was_fitted_to_the_other_measure(kernel, monkeypatch):
    held = spread.calibration(kernel.config)._replace(by="symmetries")
    monkeypatch.setattr(spread, "calibration", lambda _: held)
    assert spread.error_map(counted(), kernel, Noise(std=4.0)).calibration is None


def test_a_family_not_calibrated_gives_the_map_as_measured(kernel, monkeypatch):
    monkeypatch.setattr(spread, "calibration", lambda _: None)
    pixels, noise = counted(), Noise(std=4.0)
    found = spread.error_map(pixels, kernel, noise)
    assert found.calibration is None
    np.testing.assert_array_equal(found.std, spread.measure(pixels, kernel, noise)[1])


# --- what is known ---------------------------------------------------------------------------


def test_the_distance_is_that_of_mahalanobis():
    random = np.random.default_rng(0)
    rows = random.standard_normal((4000, 5)) @ (np.eye(5) + 0.2 * random.random((5, 5))) + 3
    known = reference.learn(rows, axes=5)
    covariance = np.cov(rows.T, bias=True)
    for row in rows[:5] + 2:
        away = row - rows.mean(0)
        expected = np.sqrt(away @ np.linalg.inv(covariance) @ away / 5)
        assert known.distance(row) == pytest.approx(expected, rel=0.1)
        assert known.distance(row) < expected  # nothing is known to better than a tenth
    assert known.distance(rows.mean(0)) == 0


def test_few_axes_stand_for_many_statistics():
    random = np.random.default_rng(0)
    rows = random.standard_normal((3000, 2)) @ random.standard_normal((2, 40))
    rows += 0.5 * random.standard_normal(rows.shape)
    known = reference.learn(rows[:2000], axes=2)
    assert known.axes.shape == (2, 40)
    np.testing.assert_allclose(known.axes @ known.axes.T, np.eye(2), atol=1e-9)
    distances = [known.distance(row) for row in rows[2000:]]
    assert np.sqrt(np.mean(np.square(distances))) == pytest.approx(1, rel=0.1)
    beside = rows[-1] + 3 * random.standard_normal(40)  # along no axis that is known
    assert known.distance(beside) > 3


def test_what_is_shipped_is_small_and_complete():
    assert reference.PLACE.stat().st_size < 100_000
    stored = json.loads(reference.PLACE.read_text())
    families = {reference.family_of(checkpoint.find(name)) for name in checkpoint.available()}
    for family in {*families, "fit"} - {"skip"}:
        held = reference.Calibration(**stored["calibrations"][family])
        assert held.factor > 0
        assert len(held.within_68) == len(held.within_95) == len(held.doses) >= 3
        assert 0.2 < np.mean(held.within_68) < np.mean(held.within_95) <= 1
    for name in ("tem_latent1", "stem_kernel_w7", "temstem_mlp1_w7", "stem_skip48_columns"):
        known = reference.known_images(checkpoint.find(name))
        assert len(known.mean) == len(distribution._STATISTICS)


def test_who_knows_columns_alone_is_judged_by_them():
    columns = checkpoint.find("stem_skip48_columns")
    assert reference.scenes_of(columns) == "columns"
    assert reference.scenes_of(checkpoint.find("stem_skip48_clean")) == "stem"
    known = reference.known_images(columns)
    drawn = [
        simulate.compiled(kind)(jax.random.key(3), side_px=192, dose=50.0).counts[0]
        for kind in (simulate.haadf_lattice, simulate.terrain)
    ]
    distances = [known.distance(distribution.statistics(np.asarray(image))) for image in drawn]
    assert distances[0] < known.bound < distances[1]


def test_latents_of_other_weights_are_not_judged(autoencoder):
    assert reference.known_latents(autoencoder) is not None
    changed = jax.tree.map(lambda leaf: leaf + 1e-3, autoencoder.variables)
    assert reference.known_latents(autoencoder._replace(variables=changed)) is None


# --- images of a known kind ------------------------------------------------------------------


def odd_images():
    """What no microscope made."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    text = np.full((256, 256), 255, np.uint8)
    for row in range(8, 244, 14):
        for column in range(8, 244, 8):
            letter = random.random((7, 5)) < 0.5
            text[row : row + 7, column : column + 5][letter] = 0
    photograph = np.zeros((256, 256))  # what hides what, from far to near
    for radius in 90 / np.arange(1, 60):
        centre = random.integers(0, 256, 2)
        photograph[np.hypot(y - centre[0], x - centre[1]) < radius] = random.random()
    photograph = ndimage.gaussian_filter(photograph, 0.7) + random.normal(0, 0.004, x.shape)
    r = np.hypot(y - 128, x - 128)
    spots = ((x % 32 == 0) & (y % 32 == 0)) * np.exp(-r / 60)
    return {
        "text": text,
        "photograph": photograph,
        "gradient": x.astype(np.float32),
        "checkerboard": (((x // 8 + y // 8) % 2) * 255).astype(np.uint8),
        "diffraction": random.poisson(3e4 / (1 + r**2) + 3e3 * spots),
    }


@pytest.mark.parametrize("domain", ["tem", "stem"])
@pytest.mark.parametrize("name", ["text", "photograph", "gradient", "checkerboard", "diffraction"])
def test_images_of_another_kind_are_flagged(domain, name):
    model = checkpoint.load(f"{domain}_kernel_w3")
    (found,) = distribution.judge(odd_images()[name], model)
    assert found.what == "image"
    assert found.is_beyond
    assert found.distance > found.bound


@pytest.mark.parametrize("domain", ["tem", "stem"])
def test_simulated_scenes_are_not(domain, key):
    """Of a seed that the reference does not know; one in a hundred would be due."""
    model = checkpoint.load(f"{domain}_kernel_w3")
    drawn = simulate.micrographs(key, domain, count=1, side_px=128).counts
    (found,) = distribution.judge(np.asarray(drawn[0]), model)
    assert not found.is_beyond


def test_statistics_know_no_gain_offset_or_non_finite_pixel():
    pixels = counted(side=150)
    expected = distribution.statistics(pixels)
    np.testing.assert_allclose(distribution.statistics(7 * pixels - 300), expected, rtol=1e-5)
    pixels[50, 60:64] = np.nan
    np.testing.assert_allclose(distribution.statistics(pixels), expected, atol=0.05)
    constant = distribution.statistics(np.full((70, 70), 5, np.uint8))
    assert np.isfinite(constant).all()


def test_an_autoencoder_is_also_judged_by_its_latents(autoencoder):
    pixels = counted(side=80)
    image, latents = distribution.judge(pixels, autoencoder)
    assert (image.what, latents.what) == ("image", "latents")
    inner = encode(pixels, autoencoder).latent[1:-1, 1:-1]
    expected = [inner.mean(), inner.std()]
    found = distribution.latent_statistics(pixels, autoencoder)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert latents.most[0] in ("mean of channel 0", "deviation of channel 0")


def test_small_images_and_own_kernels_are_not_judged(kernel):
    assert distribution.judge(counted(side=63), kernel) == []
    own = fit(counted(), name="mine").model
    assert distribution.judge(counted(), own) == []


# --- the calibration -------------------------------------------------------------------------


def test_a_calibrated_map_covers_what_it_says(kernel, monkeypatch):
    """Of flat scenes, whose error is nothing but noise, the factor is 1 and the shares are due."""

    def flat(key, *, side_px, dose):
        clean = np.full((1, side_px, side_px), dose, np.float32)
        counts = np.asarray(jax.random.poisson(key, dose, clean.shape), np.float32)
        return Simulated(counts=counts, clean=clean)

    monkeypatch.setattr(calibrate_trust, "kinds", lambda _: (flat,))
    calibrate_trust._scene.cache_clear()
    found = calibrate_trust.calibrated([(kernel, "stem")], 96)
    calibrate_trust._scene.cache_clear()
    assert found["factor"] == pytest.approx(1, rel=0.1)
    np.testing.assert_allclose(found["within_68"], 0.683, atol=0.06)
    np.testing.assert_allclose(found["within_95"], 0.95, atol=0.05)


def test_the_command_refuses_what_it_cannot_do(tmp_path):
    there = tmp_path / "there.json"
    there.write_text("{}")
    for change, words in [
        ({"scenes": 0}, "scenes is 0"),
        ({"side_px": 32}, "side_px is 32: give at least 64"),
        ({"families": "none"}, "families is none: name some of"),
    ]:
        config = calibrate_trust.Config(output=str(tmp_path / "x.json"), **change)
        with pytest.raises(ValueError, match=words):
            calibrate_trust.run(config)
    with pytest.raises(FileExistsError, match="overwrite"):
        calibrate_trust.run(calibrate_trust.Config(output=str(there)))
    assert [path.name for path in tmp_path.iterdir()] == ["there.json"]

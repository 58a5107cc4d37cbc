"""Which crops make the low-dose test, where they lie, and what is done to them."""

import numpy as np
import pytest

from emd.data import micrograph
from experiments.dose import crops as module
from experiments.dose.crops import Crop, crops, is_of_many_counts


@pytest.fixture(autouse=True)
def small_crops(monkeypatch):
    """Crops of 128 px, so that tests take seconds."""
    monkeypatch.setattr(module, "SIDE_PX", 128)
    monkeypatch.setattr(module, "_LEAST_SIDE_PX", 96)


def scene(height, width, *, counts, seed=0):
    """Poisson counts of a smooth scene, `counts` at its brightest."""
    y, x = np.mgrid[:height, :width]
    clean = 0.5 + 0.45 * np.sin(x / 9) * np.sin(y / 11 + x / 50)
    return np.random.default_rng(seed).poisson(counts * clean).astype(np.float32)


def put(folder, name, pixels):
    path = folder / "eval" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    micrograph.write(path, micrograph.Micrograph(pixels))


@pytest.fixture
def folder(tmp_path):
    put(tmp_path, "tem/bright.tif", scene(150, 140, counts=1e6))
    put(tmp_path, "tem/long.tif", scene(100, 480, counts=1e6, seed=1))
    put(tmp_path, "stem/noisy.tif", scene(150, 150, counts=200.0))
    put(tmp_path, "stem/tiny.tif", scene(90, 300, counts=1e6))
    put(tmp_path, "stem/stack.tif", np.stack([scene(128, 128, counts=1e6, seed=s) for s in (2, 3)]))
    return tmp_path


def test_only_micrographs_of_many_counts_and_size_enough_are_taken(folder):
    found = crops(folder, seed=0)
    assert [(c.name, c.domain, c.noisy.shape) for c in found] == [
        ("eval/tem/bright.tif 0", "tem", (128, 128)),
        ("eval/tem/long.tif 0", "tem", (100, 100)),
        ("eval/tem/long.tif 1", "tem", (100, 100)),
        ("eval/tem/long.tif 2", "tem", (100, 100)),  # a fourth would fit: three at most
        ("eval/stem/stack.tif 0", "stem", (128, 128)),
    ]


def test_counts_are_those_of_the_micrograph_scaled_to_the_tests_doses(folder):
    for crop in crops(folder, seed=3):
        assert 25 <= crop.scale <= 100
        assert crop.truth.min() == 0
        assert crop.truth.max() == pytest.approx(crop.scale, rel=1e-5)
        np.testing.assert_array_equal(crop.noisy, np.rint(crop.noisy))
        lit = crop.truth > 0.5
        ratio = np.mean((crop.noisy - crop.truth)[lit] ** 2 / crop.truth[lit])
        assert ratio == pytest.approx(1, abs=6 * np.sqrt(2.5 / lit.sum()))


def test_pieces_lie_side_by_side_within_the_micrograph(folder):
    pixels = np.asarray(micrograph.read(folder / "eval/tem/long.tif").pixels, np.float64)
    places = []
    for crop in crops(folder, seed=1)[1:4]:
        # Where the truth correlates perfectly with the file's pixels.
        def gap(start, crop=crop):
            piece = pixels[:, start : start + 100]
            unit = crop.scale * (piece - piece.min()) / np.ptp(piece)
            return np.abs(unit - crop.truth).max()

        places.append(min(range(381), key=gap))
        assert gap(places[-1]) < 1e-3
    assert np.diff(places).tolist() == [100, 100]


def test_a_crop_depends_on_the_seed_and_its_own_name_alone(folder):
    first = {c.name: c for c in crops(folder, seed=0)}
    put(folder, "tem/a_new_one.tif", scene(130, 130, counts=1e6, seed=9))
    again = {c.name: c for c in crops(folder, seed=0)}
    other = {c.name: c for c in crops(folder, seed=1)}
    assert len(again) == len(first) + 1
    for name, crop in first.items():
        np.testing.assert_array_equal(crop.noisy, again[name].noisy)
        np.testing.assert_array_equal(crop.truth, again[name].truth)
        assert not np.array_equal(crop.noisy, other[name].noisy)


def test_units_of_the_protocol_keep_the_mean():
    truth = np.linspace(0, 40, 64 * 64, dtype=np.float32).reshape(64, 64)
    noisy = np.random.default_rng(0).poisson(truth).astype(np.float32)
    one, other = Crop("a", "tem", noisy, truth, 40.0).in_protocol_units()
    assert (one.min(), one.max()) == (0, 1)
    assert one.mean() == pytest.approx(other.mean(), rel=1e-5)
    np.testing.assert_allclose(np.corrcoef(other.ravel(), truth.ravel())[0, 1], 1, atol=1e-6)


def test_noise_above_a_hundredth_of_the_tests_is_seen():
    # At n counts at the brightest and m in the mean the share is (m / n^2) / (m / n / 100) = 100/n.
    assert is_of_many_counts(scene(256, 256, counts=20_000.0))
    assert not is_of_many_counts(scene(256, 256, counts=5_000.0))
    assert not is_of_many_counts(np.full((256, 256), 7, np.uint8))


def test_sparse_spots_are_left_out_though_they_are_clean():
    spots = scene(256, 256, counts=5e4)
    assert is_of_many_counts(spots)
    spots[::40, ::40] = 2e6
    assert not is_of_many_counts(spots)  # 0.3 counts a pixel at the darkest exposure


def test_simulated_crops_take_turns_and_repeat():
    found = module.simulated(seed=0, count=1, side_px=64)
    again = module.simulated(seed=0, count=1, side_px=64)
    assert [c.domain for c in found] == ["tem", "stem"]
    assert [c.name for c in found] == ["simulated lattice 0", "simulated columns 0"]
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one.noisy, other.noisy)
        assert one.truth.max() == pytest.approx(one.scale, rel=1e-5)


def test_those_of_the_real_folder(real_data, monkeypatch):
    monkeypatch.undo()
    found = crops(real_data, seed=0)
    assert {c.domain for c in found} == {"tem", "stem"}
    assert sum(c.noisy.shape == (512, 512) for c in found) >= 8
    assert not [c.name for c in found if "jianlin" in c.name or "ccp4" in c.name]

"""What experiments train and validate on: real, simulated or both."""

import jax
import numpy as np
import pytest

from emd.data import crops
from emd.data.micrograph import Micrograph, write
from experiments import training_data


@pytest.fixture
def folder(tmp_path):
    """Three micrographs of their own fields, and one too small."""
    draws = np.random.default_rng(0)
    for domain in ("tem", "stem"):
        (tmp_path / domain).mkdir()
        for k, side in enumerate((160, 170, 180, 90)):
            pixels = draws.integers(0, 1000, (side, side)).astype(np.uint16)
            write(tmp_path / domain / f"{k}.tif", Micrograph(pixels))
    return tmp_path


@pytest.fixture(autouse=True)
def simulated(monkeypatch):
    """Noise in place of the simulator, whose compilation takes long; notes how it was asked."""
    asked = []

    def fake(key, dataset, *, count, side_px):
        asked.append((key, dataset, count, side_px))
        draws = np.random.default_rng(int(jax.random.key_data(key)[1]))
        return [
            crops.Image(
                draws.integers(0, 99, (160, 160)).astype(np.uint16),
                f"{domain}-{k}",
                f"{domain}/simulated",
                domain,
            )
            for domain in crops.domains_of(dataset)
            for k in range(20)
        ]

    monkeypatch.setattr(crops, "simulated", fake)
    training_data._simulate.cache_clear()
    yield asked
    training_data._simulate.cache_clear()


def test_without_a_folder_the_simulator_feeds_training_and_it_says_so(simulated, capsys):
    data = training_data.prepare("stem", None, 0.5)
    assert len(simulated) == 1
    assert simulated[0][1:] == ("stem", 300, 256)
    assert capsys.readouterr().out == "no --data_dir: training on simulated micrographs\n"
    assert {i.source for i in data.images} == {"stem/simulated"}
    assert 0 < len(data.held_out) < 20
    assert data.facts["simulated_share"] == "1"
    assert data.facts["real_sources"] == "none"
    assert data.facts["held_out_crops"].endswith("simulated")


def test_real_ones_are_validated_on_where_there_are_any(folder, capsys):
    data = training_data.prepare("tem", str(folder), 0.5)
    assert capsys.readouterr().out == "skipped 1 files smaller than 160x160 px\n"
    assert data.facts["real_frames"] == "2"
    assert data.facts["held_out_crops"] == "1 real"
    assert data.facts["simulated_share"] == "0.5"
    assert len(data.held_out) == len(data.held_out_whole) == 1
    np.testing.assert_allclose(data.held_out.mean((1, 2)), 1, rtol=1e-5)


def test_a_share_of_zero_simulates_nothing(folder, simulated):
    data = training_data.prepare("temstem", str(folder), 0.0)
    assert not simulated
    assert {i.source for i in data.images} == {"tem/.", "stem/."}


def test_held_out_images_are_not_trained_on(folder):
    data = training_data.prepare("tem", str(folder), 0.0)
    held = data.held_out_whole[0] / data.held_out_whole[0].max()
    for image in data.images:
        assert not np.allclose(image.pixels[:160, :160] / image.pixels[:160, :160].max(), held)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(ValueError, match="give a fraction from 0 to 1"):
        training_data.prepare("tem", None, share)


def test_nothing_to_validate_on_is_one_clear_line(folder):
    for name in ("1.tif", "2.tif"):
        (folder / "tem" / name).unlink()
    with pytest.raises(ValueError, match=r"single field.*add a second micrograph"):
        training_data.prepare("tem", str(folder), 0.0)
    assert training_data.prepare("tem", str(folder), 0.5).facts["held_out_crops"].endswith("ed")


def test_the_hash_is_of_the_pixels_in_any_order(folder):
    images = crops.load(folder, "tem")[0]
    one = training_data.fingerprint(images)
    assert one == training_data.fingerprint(images[::-1])
    assert one != training_data.fingerprint(images[1:])
    images[0].pixels[3, 3] ^= 1
    assert one != training_data.fingerprint(images)

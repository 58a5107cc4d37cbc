"""The weights that come with the code: they load, say how they were made, and restore."""

import numpy as np
import pytest

from emd import checkpoint, zoo
from emd.data import micrograph
from emd.restore import denoise

SHIPPED = [name for name in checkpoint.available() if not zoo.find(name).published]
FACTS = ("batches", "full_schedule", "batch_size", "real_sources", "command")


def test_all_of_the_papers_models_are_there():
    assert {model.name for model in zoo.PAPER_MODELS} <= set(SHIPPED)


def bytes_below(folder):
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def test_they_are_small_enough_to_come_along():
    papers = sum(bytes_below(checkpoint.shipped() / model.name) for model in zoo.PAPER_MODELS)
    assert papers < 30e6
    assert bytes_below(checkpoint.shipped()) < 60e6


def test_every_model_restores_a_real_micrograph(real_data):
    """A square from its middle: of the same mean, and clearly the same field."""
    path = min((real_data / "eval" / "stem").glob("*.tif"))
    pixels = micrograph.read(path).pixels.astype(np.float32)
    middle = [slice(side // 2 - 64, side // 2 + 64) for side in pixels.shape[-2:]]
    given = pixels.reshape(-1, *pixels.shape[-2:])[0][middle[0], middle[1]]
    for model in zoo.PAPER_MODELS:
        restored = denoise(given, checkpoint.load(model.name))
        assert restored.shape == given.shape
        assert restored.mean() == pytest.approx(given.mean(), rel=1e-3), model.name
        assert np.corrcoef(restored.ravel(), given.ravel())[0, 1] > 0.5, model.name


@pytest.mark.parametrize("name", SHIPPED)
def test_a_card_has_its_facts_and_no_place_of_its_maker(name):
    card = checkpoint.read_card(checkpoint.shipped() / name / "card.md")
    is_paper = zoo.find(name).objective == zoo.OBJECTIVES[0]
    assert all(card.get(fact) for fact in FACTS)
    assert card["validation_mse" if is_paper else "validation_gain_db"]
    assert int(card["batches"]) > 0
    assert " /" not in card["command"]
    assert "=/" not in card["command"]


@pytest.mark.parametrize("name", SHIPPED)
def test_noise_on_a_level_becomes_less_and_the_level_stays(name):
    rng = np.random.default_rng(0)
    noisy = rng.poisson(100, (96, 96)).astype(np.float32)
    restored = denoise(noisy, checkpoint.load(name), tile_px=96)
    assert restored.mean() == pytest.approx(noisy.mean(), rel=1e-4)
    assert restored.std() < 0.9 * noisy.std()


@pytest.mark.parametrize("set_name", [name for name in zoo.SETS if name.endswith("kernel")])
def test_kernels_have_a_sum_near_one(set_name):
    for member in zoo.find_set(set_name):
        weights = checkpoint.load(member.name).variables["params"]["weights"]
        counts = np.bincount(_orbits(member.size).ravel())
        assert float(counts @ np.asarray(weights)) == pytest.approx(1, abs=0.1)


def _orbits(width):
    distance = np.abs(np.arange(width) - width // 2)
    near, far = np.minimum.outer(distance, distance), np.maximum.outer(distance, distance)
    return far * (far + 1) // 2 + near

"""Images that stand for the truth, and those that are counts of electrons."""

import jax
import numpy as np
import pytest

from emd.data import crops, simulate, truths
from emd.data.crops import Image
from emd.data.simulate import haadf

SIDE = 192


def image(pixels, source="tem/camera"):
    return Image(crops.to_stored(np.asarray(pixels)), "f", source, "tem")


@pytest.fixture(scope="module")
def scene():
    """Expected electrons: 20 to 100 in smooth waves."""
    i, j = np.mgrid[:SIDE, :SIDE] / SIDE
    return 60 + 40 * np.sin(7 * i) * np.cos(5 * j)


@pytest.fixture(scope="module")
def counts(scene):
    return np.random.default_rng(0).poisson(scene)


def test_simulated_truths_are_free_of_noise_and_the_same_again(key):
    made = truths.simulated(key, "stem", count=4, side_px=64)
    assert [i.source for i in made] == 4 * ["stem/simulated"]
    assert len({i.field for i in made}) == 4
    clean = simulate.micrographs(
        jax.random.fold_in(key, list(crops.DOMAINS).index("stem")), "stem", count=2, side_px=64
    ).clean
    for one, expected in zip(made, np.asarray(clean), strict=False):
        assert one.pixels.max() == 65535
        np.testing.assert_allclose(one.pixels / 65535, expected / expected.max(), atol=1e-5)
    again = truths.simulated(key, "stem", count=4, side_px=64)
    for one, other in zip(made, again, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_lattices_are_those_sampled_alike_and_free_of_noise(key):
    made = truths.lattices(key, count=2, side_px=64)
    assert {(i.source, i.domain) for i in made} == {("stem/simulated", "stem")}
    for number, image in enumerate(made):
        lattice_key, field_key = jax.random.split(jax.random.fold_in(key, number))
        lattice = haadf.sampled_alike(lattice_key)
        field = haadf.draw(field_key, lattice, side_px=64, cells=haadf.most_cells(64))
        clean = np.asarray(field.clean)
        np.testing.assert_allclose(image.pixels / 65535, clean / clean.max(), atol=1e-4)


def test_zero_counts_stay_zero():
    np.testing.assert_array_equal(
        truths.to_stored(np.array([[0.0, 1.0], [2.0, 4.0]]))[0], [0, 16384]
    )
    assert not truths.to_stored(np.zeros((2, 2))).any()


def test_little_noise_makes_a_truth(scene):
    draws = np.random.default_rng(0).normal(size=scene.shape)
    mean = scene.mean() - scene.min()
    images = [image(1000 * scene + share * 1000 * mean * draws) for share in (0.01, 0.1)]
    assert truths.high_count(images) == images[:1]


@pytest.mark.parametrize(("gain", "offset", "readout"), [(1, 0, 0), (7, 300, 0), (3, 50, 4)])
def test_counts_of_any_gain_become_electrons(scene, counts, gain, offset, readout):
    """Readout noise counts as electrons without contrast; mean and variance are equal."""
    noise = readout * np.random.default_rng(1).normal(size=scene.shape)
    (found,) = truths.counted([image(np.rint(gain * counts + offset + noise))])
    electrons = found.pixels.astype(float)
    slope, level = np.polyfit(scene.ravel(), electrons.ravel(), 1)
    assert slope == pytest.approx(1, rel=0.1)
    noise_of = electrons - np.polyval((slope, level), scene)
    assert noise_of.var() == pytest.approx(electrons.mean(), rel=0.1)
    assert (found.field, found.source) == ("f", "tem/camera")


def test_what_does_not_tell_its_electrons_is_left_out(scene, counts):
    rows = counts + np.roll(counts, 1, 0)
    blurred = rows + np.roll(rows, 1, 1)
    saturated = np.minimum(counts, 80)
    flat = np.random.default_rng(2).normal(100, 5, scene.shape)
    inverted = 500 - counts
    for pixels in (blurred, saturated, flat, inverted, scene):
        assert truths.counted([image(pixels)]) == []


def test_packed_truths_know_how_high_a_dose_they_bear(scene):
    images = [image(scene), image(scene, "tem/simulated")]
    packed = truths.pack(images, simulated_share=0.25)
    np.testing.assert_allclose(packed.most, [truths.REAL_DOSE, truths.DOSES[1]])
    np.testing.assert_allclose(packed.store.cumulative, [0.75, 1])
    counted = truths.pack_counted(images, simulated_share=0.25)
    np.testing.assert_array_equal(counted.is_counted, [True, False])
    np.testing.assert_array_equal(counted.store.pixels, packed.store.pixels)
    with pytest.raises(ValueError, match="no images"):
        truths.pack_counted([], simulated_share=0.5)

import numpy as np
import pytest

from emd.data.micrograph import DTYPES
from emd.data.pixels import bands, despike, fill_nonfinite, mirrored, outlier_warning, reflected


def noisy(shape, seed=0):
    return np.random.default_rng(seed).normal(100, 5, shape)


@pytest.mark.parametrize("length", [1, 2, 3, 8, 37])
@pytest.mark.parametrize(("places", "mode"), [(reflected, "reflect"), (mirrored, "symmetric")])
def test_places_are_those_of_numpy_pad(length, places, mode):
    pad = 3 * length + 50
    expected = np.pad(np.arange(length), pad, mode=mode)
    np.testing.assert_array_equal(places(np.arange(-pad, length + pad), length), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 10**6), (999, 1001)])
def test_bands_cover_every_row_once(shape):
    rows = [row for band in bands(*shape) for row in range(band.start, band.stop)]
    assert rows == list(range(shape[0]))


def test_filling_leaves_the_given_image_alone():
    x = noisy((9, 11))
    assert fill_nonfinite(x) == (x, None)
    x[1, 2] = x[3, 4] = np.nan
    filled, wrong = fill_nonfinite(x)
    assert np.isnan(x[1, 2])
    assert filled[1, 2] == filled[3, 4] == np.median(x[np.isfinite(x)])
    assert wrong.sum() == 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("place", [(0, 0), (0, 30), (63, 20), (31, 32), (63, 69)])
def test_a_spike_takes_the_median_of_its_neighbours(dtype, sign, place):
    x = np.clip(noisy((64, 70)) / 4, 0, 120).astype(dtype)
    spiked = x.copy()
    spiked[place] = 125 if sign > 0 else (-100 if np.dtype(dtype).kind != "u" else 0)
    if spiked[place] == 0:
        spiked = np.where(spiked == 0, 0, spiked + 100).astype(dtype)
        x = (x + 100).astype(dtype)
        if dtype == "int8":
            pytest.skip("no room below")
    before = spiked.copy()
    clean, count = despike(spiked)
    assert count == 1
    assert clean.dtype == dtype
    np.testing.assert_array_equal(spiked, before)
    changed = np.argwhere(clean != spiked)
    assert [tuple(c) for c in changed] == [place]
    around = np.pad(spiked, 1, mode="reflect")[place[0] : place[0] + 3, place[1] : place[1] + 3]
    eight = np.sort(np.delete(around.reshape(-1), 4))
    assert clean[place] == eight[3]


def test_noise_atoms_and_edges_are_no_spikes():
    rows, columns = np.mgrid[:128, :128]
    atoms = np.where((rows % 8 == 4) & (columns % 8 == 4), 400.0, 0) + noisy((128, 128))
    step = np.where(columns > 60, 500.0, 0) + noisy((128, 128))
    counts = np.random.default_rng(0).poisson(0.05, (128, 128))
    for image in (noisy((128, 128)), atoms, step, counts.astype(np.uint16)):
        clean, count = despike(image)
        assert count == 0
        assert clean is image


def test_spikes_do_not_depend_on_gain_and_offset():
    x = noisy((80, 80))
    x[[3, 40], [5, 60]] = 1000, -700
    clean, count = despike(x)
    again, same = despike(-3e4 + 0.01 * x)
    assert count == same == 2
    np.testing.assert_allclose(again, -3e4 + 0.01 * clean)


def test_spikes_are_found_in_every_band():
    x = noisy((600, 900))
    places = [(0, 5), (71, 8), (72, 300), (73, 600), (300, 899), (599, 1)]
    for place in places:
        x[place] = 900
    clean, count = despike(x)
    assert count == len(places)
    assert clean.max() < 150


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1)])
def test_an_image_one_pixel_thin_has_no_spikes(shape):
    x = np.zeros(shape)
    x[0, 0] = 9
    assert despike(x) == (x, 0)


def test_outliers_are_warned_of_only_where_far():
    x = noisy((100, 100))
    assert outlier_warning(x, x.min(), x.max()) is None
    for value, words in ((1e4, "maximum 10000"), (-1e4, "minimum -10000")):
        hot = x.copy()
        hot[50, 50] = value
        assert words in outlier_warning(hot, hot.min(), hot.max())
    dead = np.zeros((20, 20), np.uint8)
    dead[3, 3] = 1
    assert "maximum 1" in outlier_warning(dead, 0.0, 1.0)
    assert outlier_warning(dead[:4, :4], 0.0, 1.0) is None

"""Crops: read, split by field, packed, and drawn as real windows under the eight symmetries."""

import collections
import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd.data import crops
from emd.data.crops import Image
from emd.data.micrograph import Micrograph, write

SIDE = 4


@pytest.fixture
def tiny(monkeypatch):
    """Crops of 4x4 pixels, so that every window can be listed."""
    monkeypatch.setattr(crops, "SIDE_PX", SIDE)


def image(shape=(6, 7), *, seed=0, field="f", source="tem/a", domain="tem"):
    """An image whose pixels all differ."""
    values = np.random.default_rng(seed).permutation(60_000)[: shape[0] * shape[1]]
    return Image(values.reshape(shape).astype(np.uint16), field, source, domain)


def eight(square):
    """The images of a square under its eight symmetries."""
    return [np.rot90(s, turns) for s in (square, square.T) for turns in range(4)]


def candidates(images):
    """Every window of every image, the eight symmetries of each, normalised in float64."""
    found = []
    for number, one in enumerate(images):
        rows, columns = one.pixels.shape
        for row, column in np.ndindex(rows - SIDE + 1, columns - SIDE + 1):
            window = one.pixels[row : row + SIDE, column : column + SIDE].astype(float)
            window -= window.min()
            found += [(number, turned / window.mean()) for turned in eight(window)]
    return [n for n, _ in found], np.stack([square for _, square in found])


sample = jax.jit(crops.sample, static_argnames=("batch", "side"))


def draw(images, count, **options):
    """`count` crops, and for each which candidate it is."""
    store = crops.pack(images, **options)
    got = sample(jax.random.key(0), store, batch=count, side=SIDE)
    numbers, squares = candidates(images)
    flat = np.asarray(got).reshape(count, -1)
    which = np.empty(count, int)
    for k, crop in enumerate(flat):
        gaps = np.abs(squares.reshape(len(squares), -1) - crop).max(1)
        which[k] = gaps.argmin()
        assert gaps.min() < 1e-4, "a crop that is no window of any image"
    return which, np.array(numbers), len(squares)


# --- drawing -----------------------------------------------------------------------------------


def test_crops_are_all_the_windows_under_all_symmetries(tiny):
    """Each of 24 windows x 8 symmetries is drawn, as often as the others of its image."""
    images = [image((6, 7)), image((9, 5), seed=1)]
    count = 12_000
    which, numbers, total = draw(images, count)
    assert total == 8 * (3 * 4 + 6 * 2)
    seen = np.bincount(which, minlength=total)
    assert seen.min() > 0
    share = np.array([42, 45]) / 87 / np.array([96, 96])
    expected = count * share[numbers]
    chi2 = ((seen - expected) ** 2 / expected).sum()
    assert abs(chi2 - (total - 1)) < 5 * (2 * total) ** 0.5


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_sources_are_drawn_evenly_and_simulated_ones_by_their_share(tiny, share):
    images = [
        image((4, 4), seed=0, source="tem/a"),
        image((12, 12), seed=1, source="tem/b"),
        image((6, 6), seed=2, source="tem/b"),
        image((5, 5), seed=3, source="tem/simulated"),
    ]
    chance = crops.draw_probabilities(images, simulated_share=share)
    real = (1 - share) / 2
    expected = [real, real * 144 / 180, real * 36 / 180, share]
    np.testing.assert_allclose(chance, expected, atol=1e-12)
    which, numbers, _ = draw(images, 3000, simulated_share=share)
    seen = np.bincount(numbers[which], minlength=4) / 3000
    np.testing.assert_allclose(seen, expected, atol=0.04)
    assert (seen[np.array(expected) == 0] == 0).all()


def test_temstem_is_even_by_domain_however_many_sources():
    images = [image(seed=s, source=f"tem/{s}") for s in range(3)]
    images += [image((40, 40), source="stem/x", domain="stem")]
    images += [image(source="stem/simulated", domain="stem")]
    chance = crops.draw_probabilities(images, simulated_share=0.5)
    np.testing.assert_allclose(chance, [1 / 6, 1 / 6, 1 / 6, 1 / 4, 1 / 4])


def test_simulated_ones_alone_have_every_draw():
    images = [image(source="tem/simulated"), image(source="stem/simulated", domain="stem")]
    np.testing.assert_allclose(crops.draw_probabilities(images, simulated_share=0.1), [0.5, 0.5])


def test_an_image_of_no_chance_is_never_drawn(tiny, monkeypatch):
    """Even where the uniform number is exactly 0, as one in 2^23 is."""
    images = [image(source="tem/a"), image(seed=1, source="tem/simulated")]
    monkeypatch.setattr(jax.random, "uniform", lambda key: jnp.zeros(()))
    store = crops.pack(images, simulated_share=1.0)
    unseen = jax.jit(lambda key: crops.sample(key, store, batch=1, side=SIDE))
    got = np.asarray(unseen(jax.random.key(0)))[0]
    numbers, squares = candidates(images)
    assert numbers[np.abs(squares - got).max((1, 2)).argmin()] == 1


def test_each_crop_is_normalised_by_itself(tiny):
    store = crops.pack([image((30, 30))])  # the shape of other tests' stores: compiled once
    got = np.asarray(sample(jax.random.key(1), store, batch=50, side=SIDE))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got.min((1, 2)), 0)
    np.testing.assert_allclose(got.mean((1, 2)), 1, rtol=1e-5)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_share_of_crops_is_normalised_by_its_whole_image(tiny, share):
    """They are windows of the image in units of its mean, none moved to begin at 0."""
    one = image((30, 30))
    store = crops.pack([one], whole_share=share)
    got = np.asarray(sample(jax.random.key(1), store, batch=50, side=SIDE))
    by_itself = np.abs(got.mean((1, 2)) - 1) < 1e-5
    assert abs((~by_itself).mean() - share) < 0.2
    windows = np.lib.stride_tricks.sliding_window_view(one.pixels / one.pixels.mean(), (SIDE, SIDE))
    expected = np.stack([t for w in windows.reshape(-1, SIDE, SIDE) for t in eight(w)])
    for crop in got[~by_itself]:
        assert np.abs(expected - crop).max((1, 2)).min() < 1e-5
    by_all = np.asarray(
        sample(jax.random.key(1), store._replace(whole_share=0.0), batch=50, side=SIDE)
    )
    np.testing.assert_array_equal(got[by_itself], by_all[by_itself])  # the same draws


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_that_is_no_fraction_is_refused(share):
    with pytest.raises(ValueError, match="whole_share"):
        crops.pack([image()], whole_share=share)


def test_a_constant_crop_is_all_ones(tiny):
    flat = image()._replace(pixels=np.full((30, 30), 7, np.uint16))
    got = sample(jax.random.key(0), crops.pack([flat]), batch=50, side=SIDE)
    np.testing.assert_array_equal(got, 1)


def test_a_batch_depends_on_its_key_alone(tiny):
    store = crops.pack([image((30, 30))])
    one, same, other = (sample(jax.random.key(k), store, batch=50, side=SIDE) for k in (5, 5, 6))
    np.testing.assert_array_equal(one, same)
    assert (np.asarray(one) != np.asarray(other)).any()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "no images to train on: give at least one of 160x160 px"),
        ([image((160, 159))], "side 159 px: at least 160 px"),
    ],
)
def test_what_cannot_be_packed_is_refused(images, message):
    with pytest.raises(ValueError, match=message):
        crops.pack(images)


# --- storing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32"])
def test_integers_keep_their_steps(dtype):
    pixels = np.array([[3, 7], [100, 4]], dtype)
    np.testing.assert_array_equal(crops.to_stored(pixels), [[0, 4], [97, 1]])


def test_integers_of_the_widest_spans():
    wide = np.array([[-32768, 32767]], np.int16)
    np.testing.assert_array_equal(crops.to_stored(wide), [[0, 65535]])
    wider = np.array([[-(2**31), 0, 2**31 - 1]], np.int32)
    np.testing.assert_array_equal(crops.to_stored(wider), [[0, 32768, 65535]])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_fill_the_span(dtype):
    pixels = np.array([[-1.5, 0.0, 1.5]], dtype)
    np.testing.assert_array_equal(crops.to_stored(pixels), [[0, 32768, 65535]])


def test_pixels_that_are_not_finite_take_the_median():
    pixels = np.array([[0, np.nan, 1, 4], [np.inf, -np.inf, 1, 4]], np.float32)
    got = crops.to_stored(pixels)
    np.testing.assert_array_equal(got, crops.to_stored(np.where(np.isfinite(pixels), pixels, 1)))


@pytest.mark.parametrize("value", [0.0, -2.5, np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_constant_is_stored_as_zeros(value, dtype):
    np.testing.assert_array_equal(crops.to_stored(np.full((2, 3), value, dtype)), 0)


# --- splitting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_no_field_is_on_both_sides_and_every_source_is_on_both(seed):
    draws = np.random.default_rng(seed)
    images = [
        image((1, 1), field=f"{source}-{draws.integers(1, 12)}", source=source)
        for source in ("tem/a", "tem/b", "stem/c")
        for _ in range(draws.integers(12, 60))
    ]
    train, held = crops.split(images)
    assert len(train) + len(held) == len(images)
    assert not {i.field for i in train} & {i.field for i in held}
    for side in (train, held):
        assert {i.source for i in side} == {"tem/a", "tem/b", "stem/c"}


def test_two_fields_are_parted_and_one_trains():
    images = [image((1, 1), field=f, source="tem/two") for f in ("x", "y")]
    images += [image((1, 1), field="z", source="tem/one")]
    train, held = crops.split(images)
    assert (len(train), len(held)) == (2, 1)
    assert "z" in {i.field for i in train}


def test_about_a_tenth_is_held_out():
    images = [image((1, 1), field=str(k)) for k in range(2000)]
    assert len(crops.split(images)[1]) == pytest.approx(200, abs=45)
    assert len(crops.split(images, fraction=0.5)[1]) == pytest.approx(1000, abs=100)


def test_the_split_does_not_depend_on_order_or_company():
    images = [image((1, 1), field=str(k)) for k in range(300)]
    held = {i.field for i in crops.split(images)[1]}
    assert {i.field for i in crops.split(images[::-1])[1]} == held
    assert {i.field for i in crops.split([*images, image((1, 1), source="tem/b")])[1]} == held


def test_a_field_that_lies_in_two_sources_stays_together():
    """The same file in two subfolders is two sources and one content: never on both sides."""
    fields = [str(k) for k in range(40)]
    images = [image((1, 1), field=f, source="tem/a") for f in fields]
    for copied in fields:
        train, held = crops.split(
            [
                *images,
                image((1, 1), field=copied, source="tem/copies"),
                image((1, 1), field="other", source="tem/copies"),
            ]
        )
        assert not {i.field for i in train} & {i.field for i in held}


# --- reading -----------------------------------------------------------------------------------


def save(path, pixels=None, seed=0, shape=(160, 165)):
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels is None:
        pixels = np.random.default_rng(seed).integers(0, 9999, shape).astype(np.uint16)
    write(path, Micrograph(pixels))
    return pixels


def test_files_are_fields_of_their_own_and_subfolders_sources(tmp_path):
    first = save(tmp_path / "tem/a.tif")
    save(tmp_path / "tem/deep/er/b.TIFF", seed=1)
    save(tmp_path / "tem/deep/er/copy of a.tif", first)
    images, small = crops.load(tmp_path, "tem")
    assert small == 0
    assert len(images) == 3
    assert {i.source for i in images} == {"tem/.", "tem/deep/er"}
    by_pixels = collections.Counter(i.field for i in images)
    assert sorted(by_pixels.values()) == [1, 2]  # known by content, not by name
    np.testing.assert_array_equal(images[0].pixels, first - first.min())


def test_every_frame_of_a_stack_is_an_image_of_one_field(tmp_path):
    save(tmp_path / "stem/movie.tif", shape=(3, 161, 170))
    images, _ = crops.load(tmp_path, "stem")
    assert [i.pixels.shape for i in images] == 3 * [(161, 170)]
    assert len({i.field for i in images}) == 1
    assert {i.domain for i in images} == {"stem"}


def test_temstem_reads_both(tmp_path):
    save(tmp_path / "tem/a.tif")
    save(tmp_path / "stem/b.tif", seed=1)
    assert {i.domain for i in crops.load(tmp_path, "temstem")[0]} == {"tem", "stem"}


def manifest(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "field", "source"])
        writer.writerows(rows)


@pytest.mark.parametrize("place", [".", "train", "train/tem"])
def test_a_manifest_names_fields_and_sources(tmp_path, place):
    for k in range(3):
        save(tmp_path / f"train/tem/{k}.tif", seed=k)
    paths = [(tmp_path / f"train/tem/{k}.tif").relative_to(tmp_path / place) for k in range(2)]
    manifest(tmp_path / place / "MANIFEST.csv", [(p, "movie", "lab") for p in paths])
    images, _ = crops.load(tmp_path / "train", "tem")
    assert [(i.field, i.source) for i in images[:2]] == 2 * [("movie", "tem/lab")]
    assert images[2].source == "tem/."  # not in the manifest
    assert images[2].field != "movie"


def test_files_of_one_name_in_two_folders_keep_their_fields(tmp_path):
    for k, folder in enumerate(("a", "b")):
        save(tmp_path / f"tem/{folder}/001.tif", seed=k)
    rows = [(f"tem/{folder}/001.tif", f"field {folder}", "lab") for folder in ("a", "b")]
    manifest(tmp_path / "MANIFEST.csv", rows)
    assert [i.field for i in crops.load(tmp_path, "tem")[0]] == ["field a", "field b"]


def test_small_images_are_skipped_and_counted(tmp_path):
    save(tmp_path / "tem/large.tif")
    for k, shape in enumerate([(159, 400), (400, 159), (2, 159, 160)]):
        save(tmp_path / f"tem/{k}.tif", shape=shape)
    images, small = crops.load(tmp_path, "tem")
    assert (len(images), small) == (1, 3)


def test_only_small_images_is_an_error(tmp_path):
    save(tmp_path / "tem/small.tif", shape=(100, 100))
    with pytest.raises(ValueError, match=r"160x160 px in .*tem \(1 smaller ones skipped\)"):
        crops.load(tmp_path, "tem")


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tem: no such folder"):
        crops.load(tmp_path, "tem")
    (tmp_path / "tem").mkdir()
    with pytest.raises(FileNotFoundError, match=r"tem: holds no micrograph"):
        crops.load(tmp_path, "tem")


def test_unknown_datasets_list_the_known(tmp_path):
    for call in (crops.load, lambda _, name: crops.domains_of(name)):
        with pytest.raises(ValueError, match="'xray': use one of tem, stem, temstem"):
            call(tmp_path, "xray")


def test_real_micrographs_load_and_split(real_data):
    images, _ = crops.load(real_data / "train", "temstem")
    train, held = crops.split(images)
    assert not {i.field for i in train} & {i.field for i in held}
    several = {
        s for s in {i.source for i in images} if len({i.field for i in images if i.source == s}) > 1
    }
    assert {i.source for i in held} == several
    assert len(several) > 2


# --- simulated and held-out --------------------------------------------------------------------


def test_simulated_micrographs_are_the_same_in_every_dataset(key):
    alone = crops.simulated(key, "stem", count=2, side_px=64)
    both = crops.simulated(key, "temstem", count=2, side_px=64)
    assert [i.source for i in both] == 2 * ["tem/simulated"] + 2 * ["stem/simulated"]
    assert len({i.field for i in both}) == 4
    np.testing.assert_array_equal(alone[1].pixels, both[3].pixels)


def test_held_out_crops_are_a_grid_under_both_normalisations(tiny):
    one = image((9, 13))
    own, whole = crops.held_out_crops([one])
    windows = [one.pixels[r : r + 4, c : c + 4] for r in (0, 4) for c in (0, 4, 8)]
    expected = np.stack(windows).astype(np.float64)
    np.testing.assert_allclose(whole, expected / one.pixels.mean(), rtol=1e-6)
    expected -= expected.min((1, 2), keepdims=True)
    np.testing.assert_allclose(own, expected / expected.mean((1, 2), keepdims=True), rtol=1e-6)
    assert own.dtype == whole.dtype == np.float32


def test_held_out_crops_are_bounded_a_source_and_spread(tiny):
    images = [image((40, 40), source="tem/large"), image((4, 8), seed=1, source="tem/small")]
    own, whole = crops.held_out_crops(images, per_source=5)
    assert len(own) == len(whole) == 5 + 2
    large = np.float32(images[0].pixels[36:, 36:] / images[0].pixels.mean())
    np.testing.assert_allclose(whole[4], large, rtol=1e-6)  # the last of the grid, too

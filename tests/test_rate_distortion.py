"""The rate-distortion experiment: measures of known curves, round trips, and a whole small run."""

import sys
import types
import zlib

import jax
import numpy as np
import pytest

from emd.data import simulate
from experiments.rate_distortion import __main__ as rate_distortion
from experiments.rate_distortion import (
    bd_rate,
    cache,
    compared,
    curves,
    images,
    lossless,
    ours,
    records,
    restored,
    rivals,
    scaling,
    scores,
    sweep,
)

RATES = np.array([0.05, 0.1, 0.2, 0.3, 0.5, 1.0])


def line(rates=RATES, *, offset=0.0, slope=4.0):
    """A curve that gains `slope` dB a doubling."""
    return curves.best([(rate, 30 + offset + slope * np.log2(rate)) for rate in rates])


def need_codecs():
    """Skips a test where other codecs are not there, or too old."""
    try:
        rivals.imagecodecs()
    except ValueError as error:
        pytest.skip(str(error))


# --- BD-rate ---------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_a_curve_shifted_in_rate_has_that_bd_rate(factor):
    """And, of a straight one, the gain that the slope makes of it."""
    found = bd_rate.compare(line(RATES * factor), shifted := line())
    assert found.where == bd_rate.BOTH
    assert shifted.at(0.2) == pytest.approx(30 + 4 * np.log2(0.2))
    # its values at RATES * factor are those of the other at RATES
    moved = curves.Curve(RATES * factor, shifted.quality)
    found = bd_rate.compare(moved, shifted)
    assert found.rate == pytest.approx(factor - 1, abs=1e-9)
    assert found.gain_db == pytest.approx(-4 * np.log2(factor), abs=1e-9)


def test_bent_curves_shifted_in_rate_have_that_bd_rate_too():
    rates = np.geomspace(0.05, 2, 40)
    quality = 30 + 6 * np.log2(rates) - 0.8 * np.log2(rates) ** 2
    bent = curves.Curve(rates, np.maximum.accumulate(quality))
    found = bd_rate.compare(curves.Curve(rates * 0.7, bent.quality), bent)
    assert found.rate == pytest.approx(-0.3, abs=1e-9)


def test_only_rates_between_the_two_count():
    """What lies outside moves the slopes of the cubics at the ends, and nothing else."""
    inside = np.geomspace(0.1, 0.5, 9)
    plain, other = line(inside, offset=1.0), line()
    wild = curves.Curve(
        np.array([0.01, *inside, 4.0]), np.array([-90, *plain.quality, plain.quality[-1] + 90])
    )
    one, two = bd_rate.compare(plain, other), bd_rate.compare(wild, other)
    assert one.gain_db == pytest.approx(1.0)
    assert two.gain_db == pytest.approx(1.0)
    assert one.rate == pytest.approx(2 ** (-1 / 4) - 1)
    assert two.rate == pytest.approx(one.rate, abs=0.005)


@pytest.mark.parametrize(
    ("offset", "where"), [(20.0, bd_rate.ABOVE), (-20.0, bd_rate.BELOW), (3.0, bd_rate.BOTH)]
)
def test_curves_without_a_common_quality_are_above_or_below(offset, where):
    found = bd_rate.compare(line(offset=offset), line())
    assert found.where == where
    assert (found.rate is None) == (where != bd_rate.BOTH)
    assert found.gain_db == pytest.approx(offset)


def test_a_level_curve_is_crossed():
    level = curves.best([(0.02, 20.0), (0.5, 18.0)])
    found = bd_rate.compare(line(), level)
    assert found.where == bd_rate.CROSSING
    assert found.rate is None
    assert found.gain_db is not None


def test_curves_are_compared_from_where_both_have_begun():
    late = line(np.array([0.2, 0.3, 0.5]), offset=1.0)
    found = bd_rate.compare(late, line())
    assert found.gain_db == pytest.approx(1.0)
    assert bd_rate.compare(line(np.array([0.45, 0.6])), line()).where == bd_rate.SHORT
    nothing = curves.best([])
    assert bd_rate.compare(nothing, line()) == bd_rate.Comparison(None, None, bd_rate.SHORT)


# --- curves ----------------------------------------------------------------------------------


def test_the_best_points_are_those_that_no_smaller_file_equals():
    points = [(0.4, 30.0), (0.1, 20.0), (0.2, 28.0), (0.3, 27.0), (0.25, 28.0), (0.8, np.inf)]
    found = curves.best(points)
    np.testing.assert_array_equal(found.bpp, [0.1, 0.2, 0.4])
    np.testing.assert_array_equal(found.quality, [20.0, 28.0, 30.0])


def test_interpolation_is_linear_in_the_logarithm_of_the_rate():
    curve = curves.best([(0.1, 20.0), (0.4, 30.0)])
    assert curve.at(0.2) == pytest.approx(25.0)
    assert curve.at(0.1) == 20.0
    assert curve.at(0.09) is None
    assert curve.at(2.0) == 30.0
    assert curves.best([]).at(0.2) is None


# --- scaling and scores ----------------------------------------------------------------------


@pytest.mark.parametrize(("top", "dtype"), [(65535, "uint16"), (255, "uint8"), (1.0, "float32")])
@pytest.mark.parametrize("kind", ["counts", "floats"])
def test_scaling_comes_back(top, dtype, kind):
    drawn = np.random.default_rng(0).normal(size=(20, 30)) * 50
    pixels = np.clip(np.rint(drawn + 90), 0, None) if kind == "counts" else drawn
    pixels = pixels.astype(np.uint16 if kind == "counts" else np.float32)
    scale = scaling.onto(pixels, top, dtype)
    there = scale.forth(pixels)
    assert there.dtype == dtype
    assert (there.min(), there.max()) == (0, top)
    steps = 2**-23 if dtype == "float32" else 0.5 / top
    span = float(pixels.max()) - float(pixels.min())
    np.testing.assert_allclose(scale.back(there), pixels, rtol=0, atol=1.01 * span * steps)


def test_a_constant_image_comes_back():
    pixels = np.full((4, 4), 7, np.uint16)
    scale = scaling.onto(pixels, 65535, "uint16")
    np.testing.assert_array_equal(scale.back(scale.forth(pixels)), pixels)


def test_floats_become_16_bits_and_integers_stay():
    counts = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert scaling.as_integers(counts) is counts
    floats = scaling.as_integers(counts.astype(np.float32) - 3)
    np.testing.assert_array_equal(floats, np.rint(counts * (65535 / 11)))


def test_scores_by_hand():
    truth = np.zeros((16, 16), np.uint16)
    truth[:8] = 10
    decoded = truth + 1.0
    point = scores.score(decoded, truth, truth * 2.0, control=0.5, size=64)
    assert (point.control, point.bpp) == (0.5, 2.0)
    assert point.psnr == pytest.approx(20)
    errors = [(11 - 20) ** 2, 1]
    assert point.psnr_clean == pytest.approx(10 * np.log10(400 / np.mean(errors)))
    assert scores.psnr(truth, truth) == np.inf
    assert scores.ssim(truth, truth) == pytest.approx(1)
    assert scores.score(decoded, truth, None, control=1, size=1).psnr_clean is None


# --- sweeps ----------------------------------------------------------------------------------


def at(control, bpp):
    return scores.Point(control, bpp, 0.0, 0.0)


def test_a_sweep_spreads_its_points_over_the_rates():
    tried = []

    def measure(control):
        tried.append(control)
        return at(control, 1e-4 * 2 ** (control / 3))

    found = sweep.sweep(measure, sweep.Span(0, 90), count=14, rates=(0.05, 2.0))
    assert len(found) == len(tried) == len(set(tried)) == 14
    assert [point.control for point in found] == sorted(tried)
    inside = [point.bpp for point in found if 0.05 <= point.bpp <= 2]
    assert len(inside) >= 7
    assert max(np.diff(np.log2(inside))) < 1.1


def test_a_sweep_of_whole_numbers_ends_where_none_are_left():
    found = sweep.sweep(
        lambda control: at(control, 0.1 * 3**control), sweep.Span(0, 3, whole=True), count=30
    )
    assert [point.control for point in found] == [0, 1, 2, 3]


def test_a_sweep_ends_where_all_rates_are_close():
    found = sweep.sweep(lambda control: at(control, 0.5), sweep.Span(1, 9, is_log=True), count=30)
    assert len(found) == 2


# --- images ----------------------------------------------------------------------------------


def test_near_identical_files_are_thinned(tmp_path):
    names = [f"warwickmicroscopy__GaAs_+{k}.tif" for k in range(5)] + ["a.tif", "b.tif"]
    kept = images.thinned([tmp_path / name for name in sorted(names)])
    assert [path.name for path in kept] == ["a.tif", "b.tif", *sorted(names[:5])[:2]]


def test_large_images_are_cut_to_their_middle():
    pixels = np.arange(6 * 9).reshape(6, 9)
    np.testing.assert_array_equal(images.middle(pixels, 4), pixels[1:5, 2:6])
    np.testing.assert_array_equal(images.middle(pixels, 7), pixels[:, 1:8])


def test_simulated_images_are_counts_with_their_truth():
    made = images.simulated(side_px=64, scenes=2, doses=(2.0, 50.0))
    assert len(made) == len({image.name for image in made}) == 8
    for image in made:
        assert image.pixels.dtype == np.uint16
        assert image.clean is not None
        assert image.clean.mean() == pytest.approx(image.dose, rel=1e-4)
        assert image.pixels.mean() == pytest.approx(image.dose, rel=0.05)
        assert "diffraction" not in image.name


def test_simulated_images_are_none_that_training_draws():
    kind = simulate.KINDS["tem"][0][0]
    (held_out, *_) = images.simulated(side_px=64, scenes=1, doses=(50.0,))
    for index in range(3):
        key = jax.random.fold_in(jax.random.key(0), index)
        drawn = simulate.compiled(kind)(key, side_px=64, dose=50.0)
        assert not np.array_equal(np.asarray(drawn.clean[0]), held_out.clean)


@pytest.mark.parametrize("domain", ["tem", "stem"])
def test_real_images_are_those_held_out(real_data, domain):
    found = [i for i in images.real(real_data, side_px=256) if i.domain == domain]
    assert all(image.name.startswith(f"eval/{domain}/") for image in found)
    assert all(max(image.pixels.shape) <= 256 for image in found)
    assert sum("GaAs" in image.name for image in found) == (2 if domain == "tem" else 0)


# --- other codecs ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene():
    """A noisy lattice of columns, 192x192."""
    need_codecs()
    (made,) = images.simulated(side_px=192, scenes=1, doses=(50.0,))[-1:]
    return made


NAMES = ("JPEG 2000", "HTJ2K", "JPEG XL", "AVIF", "WebP", "zfp", "SZ3", "SPERR")


@pytest.mark.parametrize("name", NAMES)
def test_rivals_trade_rate_for_distortion(scene, name):
    (rival,) = [rival for rival in rivals.rivals() if rival.name == name]
    points = rivals.curve(rival, scene, scene.pixels, points=8)
    curve = curves.best([(point.bpp, point.psnr) for point in points])
    least = 0.6 if name in ("zfp", "WebP") else 0.3  # of 192x192 pixels headers are a part
    assert curve.bpp[0] <= least
    assert curve.bpp[-1] >= 1.5
    assert curve.quality[-1] > curve.quality[0] + 3
    assert max(point.ssim for point in points) > 0.8


def test_jpeg_2000_reaches_low_rates_of_few_counts():
    """Its level is a PSNR over the range of the type: images of few counts are scaled to it."""
    need_codecs()
    (dim, *_) = images.simulated(side_px=192, scenes=1, doses=(2.0,))
    assert dim.pixels.max() < 20
    points = rivals.curve(rivals.rivals()[0], dim, dim.pixels, points=10)
    assert min(point.bpp for point in points) < 0.05
    assert sum(0.05 < point.bpp < 2 for point in points) >= 4


def test_rivals_are_scored_against_the_image_whatever_they_are_given():
    need_codecs()
    (scene, *_) = images.simulated(side_px=192, scenes=1, doses=(50.0,))
    rival = next(rival for rival in rivals.rivals() if rival.name == "SPERR")
    points = rivals.curve(rival, scene, restored.restored(scene), points=6)
    plain = rivals.curve(rival, scene, scene.pixels, points=6)
    clean = [max(point.psnr_clean for point in of) for of in (points, plain)]
    noisy = [max(point.psnr for point in of) for of in (points, plain)]
    assert clean[0] > clean[1] + 1
    assert noisy[0] < noisy[1]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_codecs_without_loss_give_all_back(dtype):
    need_codecs()
    drawn = np.random.default_rng(0).gamma(2.0, 20.0, (64, 80)).clip(0, 250)
    image = images.Image("drawn", "tem", False, drawn.astype(dtype))
    sizes = {c.name: lossless.size(c, image) for c in lossless.everyone() if not c.is_ours}
    floats = {"TIFF deflate", "zstd", "Blosc2", "JPEG XL effort 7", "JPEG XL effort 9", "zfp"}
    known = {name for name, size in sizes.items() if size is not None}
    assert known == (floats if dtype == "float32" else set(sizes))
    assert all(size < 40 for size in sizes.values() if size is not None)


def test_a_codec_that_loses_something_is_found_out():
    image = images.Image("drawn", "tem", False, np.arange(64, dtype=np.uint8).reshape(8, 8))
    wrong = lossless.Codec("x", "", False, False, np.ndarray.tobytes, lambda file, like: like + 1)
    with pytest.raises(ArithmeticError, match="drawn: x does not give it back"):
        lossless.size(wrong, image)


def test_others_get_the_narrowest_integers():
    assert lossless.narrowest(np.full((2, 2), 255, np.uint16)).dtype == np.uint8
    assert lossless.narrowest(np.full((2, 2), 256, np.uint16)).dtype == np.uint16
    assert lossless.narrowest(np.full((2, 2), 2, np.float32)).dtype == np.float32


def test_a_missing_package_is_one_line_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(ValueError, match=r"pip install 'emd-micrograph\[bench\]'"):
        rivals.rivals()


def test_an_old_package_is_one_line_that_says_which_is_needed(monkeypatch):
    old = types.ModuleType("imagecodecs")
    old.__version__ = "2026.3.6"
    monkeypatch.setitem(sys.modules, "imagecodecs", old)
    with pytest.raises(ValueError, match=r"imagecodecs 2026\.3\.6 is too old .* 2026\.10\.10"):
        rivals.rivals()


# --- records ---------------------------------------------------------------------------------


def test_what_others_made_is_kept(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return [[1.0, None]]

    for _ in range(2):
        assert cache.through(tmp_path / "new", "name", make) == [[1.0, None]]
    assert len(calls) == 1


def test_the_cache_knows_images_and_settings_apart():
    image = images.Image("a", "tem", False, np.zeros((4, 4), np.uint16))
    other = image._replace(pixels=np.ones((4, 4), np.uint16))
    names = [
        cache.key(image, image.pixels, "codec", 1),
        cache.key(image, image.pixels, "codec", 2),
        cache.key(image, other.pixels, "codec", 1),
        cache.key(other, other.pixels, "codec", 1),
        cache.key(image._replace(clean=np.zeros((4, 4))), image.pixels, "codec", 1),
    ]
    assert len(set(names)) == len(names)
    assert cache.key(image._replace(name="b"), image.pixels, "codec", 1) == names[0]


def test_rows_measured_anew_take_the_place_of_their_like():
    old = [{"codec": c, "image": i, "bpp": 1.0} for c in ("b", "gone", "a") for i in ("x", "y")]
    new = [{"codec": "b", "image": "x", "bpp": 2.0}]
    found = records.merged(old, new, ("codec", "image"), ["a", "b"])
    assert [(row["codec"], row["image"], row["bpp"]) for row in found] == [
        ("a", "x", 1.0), ("a", "y", 1.0), ("b", "y", 1.0), ("b", "x", 2.0),
    ]  # fmt: skip


def test_a_summary_counts_what_has_no_bd_rate():
    def row(rate, where, gain):
        return {"bd_rate": rate, "where": where, "gain_db": gain}

    rows = [
        row(-0.4, bd_rate.BOTH, 1.0), row(0.2, bd_rate.BOTH, -0.5), row(-0.1, bd_rate.BOTH, 0.1),
        row(None, bd_rate.ABOVE, 3.0), row(None, bd_rate.BELOW, -2.0),
        row(None, bd_rate.SHORT, None), row(None, bd_rate.CROSSING, 0.4),
    ]  # fmt: skip
    found = compared.summary(rows)
    assert (found.images, found.counted, found.above, found.below, found.neither) == (7, 3, 1, 1, 2)
    assert found.mean == pytest.approx(-0.1)
    assert found.median == pytest.approx(-0.1)
    assert found.gain_db == pytest.approx(2 / 6)
    assert found.better == 4


# --- the whole -------------------------------------------------------------------------------


def _pretend_to_compress(pixels, settings):
    """Cuts bits off, the more the lower the quality, and leaves the rest to zlib."""
    kept = 0 if "lossless" in settings else round(15 - settings["quality"] / 10)
    step = 1 << min(max(kept, 0), 15)
    head = f"{pixels.dtype},{pixels.shape[0]},{pixels.shape[1]},{step}\n".encode()
    return head + zlib.compress((pixels // step if step > 1 else pixels).tobytes())


def _pretend_to_decompress(stream):
    head, _, body = stream.partition(b"\n")
    dtype, height, width, step = head.decode().split(",")
    coarse = np.frombuffer(zlib.decompress(body), dtype).reshape(int(height), int(width))
    return coarse * np.dtype(dtype).type(int(step))


@pytest.fixture
def stand_in(monkeypatch):
    """A codec in the place of ours, which has tests of its own and takes longer."""
    need_codecs()
    pytest.importorskip("matplotlib", reason="the picture needs the extra plot")
    monkeypatch.setattr(ours, "_compress", _pretend_to_compress)
    monkeypatch.setattr(ours, "_decompress", _pretend_to_decompress)


def test_ours_is_swept_like_the_others(stand_in, scene):
    points = ours.curve(ours.VARIANTS[0], scene, points=8)
    assert points[0].control == 0
    assert points[-1].control == 100
    assert points[-1].bpp > points[0].bpp
    assert points[-1].psnr > points[0].psnr + 20


@pytest.mark.parametrize("verdict", ["use it", "do not use"])
def test_nothing_is_denoised_that_this_would_harm(scene, monkeypatch, verdict):
    found = restored.fit(scene.pixels, name="fit")._replace(verdict=verdict)
    monkeypatch.setattr(restored, "fit", lambda *_, **__: found)
    asked = ours.suited(ours.VARIANTS[1], scene.pixels).settings
    assert asked == ({"denoise": "fit"} if verdict == "use it" else {})
    is_same = np.array_equal(restored.restored(scene), scene.pixels)
    assert is_same == (verdict == "do not use")


def test_the_experiment_end_to_end(stand_in, tmp_path, monkeypatch):
    doses = (20.0,)
    monkeypatch.setattr(images.simulated, "__kwdefaults__", {"doses": doses})
    config = rate_distortion.Config(
        output=str(tmp_path), scenes=1, scene_px=96, points=4, repeats=1
    )
    rate_distortion.run(config)
    rows = records.read(tmp_path / "rate_distortion.csv", records.POINTS)
    names = {row["codec"] for row in rows}
    denoised = {name + restored.SUFFIX for name in restored.CODECS}
    assert names == {*NAMES, *denoised, *(variant.name for variant in ours.VARIANTS)}
    assert {row["domain"] for row in rows} == {"tem", "stem"}
    assert all(row["bpp"] > 0 and row["psnr_clean"] is not None for row in rows)
    of = {name: [row["bpp"] for row in rows if row["codec"] == name] for name in names}
    assert of["JPEG 2000 denoised"] != of["JPEG 2000"]
    first = (tmp_path / "rate_distortion.csv").read_text().splitlines()[0]
    assert first.startswith("# python -m experiments.rate_distortion")
    sizes = records.read(tmp_path / "lossless.csv", records.SIZES)
    assert len(sizes) == 2 * len(lossless.everyone())
    speeds = records.read(tmp_path / "rate_distortion_speed.csv", records.SPEEDS)
    assert all(row["encode_mb_s"] > 0 and row["decode_mb_s"] > 0 for row in speeds)
    page = (tmp_path / "rate_distortion.md").read_text()
    assert "Simulated TEM, to the clean image" in page
    assert "JPEG XL denoised" in page
    assert (tmp_path / "rate_distortion.png").stat().st_size > 10_000

    with pytest.raises(FileExistsError, match="--overwrite"):
        rate_distortion.run(config)

    def measured(*_, **__):
        raise AssertionError("another codec was measured anew")

    monkeypatch.setattr(rivals, "curve", measured)
    only = rate_distortion.Config(**{**vars(config), "only": "lapped,emd lossless"})
    rate_distortion.run(only)
    again = records.read(tmp_path / "rate_distortion.csv", records.POINTS)
    assert sorted(map(str, again)) == sorted(map(str, rows))


@pytest.mark.parametrize(
    "change", [{"scene_px": 32}, {"points": 1}, {"scenes": 0}, {"only": "nobody"}]
)
def test_settings_that_will_not_do(change, tmp_path):
    need_codecs()
    with pytest.raises(ValueError, match=rf"{next(iter(change))}"):
        rate_distortion.run(rate_distortion.Config(output=str(tmp_path), **change))

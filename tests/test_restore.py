import datetime
import functools
import json
import tracemalloc

import jax
import numpy as np
import pytest

import emd
from emd import checkpoint, restore, zoo
from emd.checkpoint import Model
from emd.data import micrograph
from emd.data.micrograph import DTYPES, Micrograph
from emd.putback import Electrons

SHAPES = [(1, 1), (1, 4096), (37, 500), (161, 333)]
FAMILIES = ["tem_latent1", "tem_kernel_w7", "tem_mlp1_w5", "temstem_mlp2_w3"]
PUBLISHED = "tem_kernel_w3_published"


@functools.cache
def make_model(name):
    """A model with random weights and an output that varies by about half its input's mean.

    With two hidden layers random weights give hardly any variation: there, the shipped ones.
    """
    config = zoo.find(name)
    if config.published or config.family == "mlp2":
        return checkpoint.load(name)
    module = zoo.make_module(config)
    sample = jax.random.uniform(jax.random.key(1), (1, 64, 64)) * 2
    variables = jax.jit(module.init)(jax.random.key(0), sample)
    params = dict(variables["params"])
    rng = np.random.default_rng(0)
    if config.family != "autoencoder":
        params = jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape), params)
        params = jax.tree.map(lambda leaf: jax.numpy.asarray(leaf, "float32"), params)
        return Model(config, module, {"params": params}, {})
    last = params["decoder"]["ToImage_0"]["kernel"]
    std = jax.jit(module.apply)(variables, sample)[:, 24:-24, 24:-24].std()
    params["decoder"] = {**params["decoder"], "ToImage_0": {"kernel": last * 0.5 / std}}
    return Model(config, module, {**variables, "params": params}, {})


def whole(model, pixels):
    """The oracle: the whole padded image through the plain module; normalised, uncorrected."""
    x = pixels.astype(np.float64) - pixels.min()
    x = x / x.mean() if x.any() else np.ones_like(x)
    if model.config.family == "autoencoder":
        before, after = (24, 24), tuple(24 + -side % 8 for side in x.shape)
    else:
        before = after = (model.config.size // 2,) * 2
    padded = np.pad(x, tuple(zip(before, after, strict=True)), mode="reflect").astype(np.float32)
    y = np.asarray(jax.jit(model.module.apply)(model.variables, padded[None]))[0]
    if model.config.family == "autoencoder":
        y = y[24 : 24 + x.shape[0], 24 : 24 + x.shape[1]]
    return y


def noisy(shape, seed=0, mean=20):
    return np.random.default_rng(seed).poisson(mean, shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_tiles_equal_the_whole_image(name, shape):
    model, x = make_model(name), noisy(shape)
    report = restore.restore(Micrograph(x), model, tile_px=64).report
    tiled = restore.denoise(x, model, tile_px=64)
    mean = report.mean[0] or 1.0
    normalised = (tiled - report.minimum[0] - report.mean_correction[0]) / mean
    expected = whole(model, x)
    if shape == (1, 1):
        np.testing.assert_array_equal(tiled, x)
        return
    assert expected.std() > 0.003
    np.testing.assert_allclose(normalised, expected, atol=1e-5)
    np.testing.assert_allclose(restore.denoise(x, model, tile_px=5000), tiled, atol=1e-5 * mean)


def test_a_published_kernel_is_the_plain_loop_over_the_reflected_image():
    x = noisy((9, 14)).astype(np.float64)
    corner, edge, centre = 0.064, 0.135, 0.218
    kernel = np.array([[corner, edge, corner], [edge, centre, edge], [corner, edge, corner]])
    padded = np.pad(x - x.min(), 1, mode="reflect")
    expected = np.zeros_like(x)
    for i in range(9):
        for j in range(14):
            expected[i, j] = (padded[i : i + 3, j : j + 3] * kernel).sum() + x.min()
    model = make_model(PUBLISHED)
    result = restore.restore(Micrograph(x), model)
    np.testing.assert_allclose(result.micrograph.pixels, expected, rtol=1e-6)
    assert result.report.mean_correction == [0.0]


@pytest.mark.parametrize("name", ["tem_latent1", "tem_mlp1_w5", PUBLISHED])
@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.0), (0.01, 5.0), (1e6, -1e7)])
def test_gain_and_offset_pass_through(name, gain, offset):
    model, x = make_model(name), noisy((40, 56)).astype(np.float64)
    once = restore.denoise(x, model)
    again = restore.denoise(gain * x + offset, model)
    np.testing.assert_allclose((again - offset) / gain, once, atol=1e-4)


@pytest.mark.parametrize("name", ["tem_latent1", "tem_mlp1_w5", "temstem_kernel_w11_published"])
@pytest.mark.parametrize(("dtype", "value"), [("uint8", 255), ("uint8", 0), ("float32", -2.7)])
def test_a_constant_comes_back_constant(name, dtype, value):
    x = np.full((19, 30), value, dtype)
    result = restore.restore(Micrograph(x), make_model(name))
    np.testing.assert_array_equal(result.micrograph.pixels, x)
    assert result.report.mean_correction == [0.0]
    assert result.report.clipped_pixels == 0


@pytest.mark.parametrize("name", FAMILIES)
def test_trained_models_keep_the_mean(name):
    x = noisy((70, 81)).astype(np.float64)
    x[3, 4], x[5, 6] = np.nan, -np.inf
    result = restore.restore(Micrograph(x), make_model(name))
    pixels, finite = result.micrograph.pixels, np.isfinite(x)
    assert pixels[finite].mean() == pytest.approx(x[finite].mean(), rel=1e-6)
    assert result.report.mean_correction[0] != 0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", ["tem_kernel_w7", PUBLISHED])
def test_pixels_that_are_not_finite_go_in_as_the_median_and_stay(name, dtype):
    x = noisy((30, 31)).astype(dtype)
    wrong = [(0, 0), (10, 11), (29, 30)]
    for place, value in zip(wrong, (np.nan, np.inf, -np.inf), strict=True):
        x[place] = value
    filled = x.copy()
    filled[~np.isfinite(x)] = np.median(x[np.isfinite(x)])  # of an odd number, so a pixel's own
    assert np.isfinite(x).sum() % 2
    result = restore.restore(Micrograph(x), make_model(name))
    pixels = result.micrograph.pixels
    np.testing.assert_array_equal(pixels[~np.isfinite(x)], x[~np.isfinite(x)])
    assert np.isfinite(pixels).sum() == x.size - 3
    assert result.report.nonfinite_pixels == 3
    if name == PUBLISHED:
        expected = restore.denoise(filled, make_model(name))
        np.testing.assert_array_equal(pixels[np.isfinite(x)], expected[np.isfinite(x)])


def test_an_image_without_a_finite_pixel_comes_back_as_it_is():
    x = np.full((5, 6), np.nan, np.float32)
    np.testing.assert_array_equal(restore.denoise(x, make_model(FAMILIES[0])), x)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32"])
def test_integers_are_rounded_and_saturated_and_the_clipped_are_counted(dtype):
    info = np.iinfo(dtype)
    steep = np.random.default_rng(0).random((40, 41)) < 0.97
    x = np.where(steep, info.max, info.min).astype(dtype)
    model = checkpoint.load("temstem_kernel_w11_published")  # its sum is 1.159
    exact = np.rint(restore.denoise(x.astype(np.float64), model))
    result = restore.restore(Micrograph(x), model)
    np.testing.assert_array_equal(result.micrograph.pixels, np.clip(exact, info.min, info.max))
    clipped = np.count_nonzero((exact < info.min) | (exact > info.max))
    assert result.report.clipped_pixels == clipped > 0


def test_rounding_is_to_the_nearest():
    x = np.random.default_rng(1).integers(50, 200, (33, 34)).astype(np.uint8)
    model = make_model(FAMILIES[0])
    exact = np.clip(restore.denoise(x.astype(np.float64), model), 0, 255)
    assert np.abs(restore.denoise(x, model) - exact).max() <= 0.501


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_is_kept(dtype):
    x = noisy((17, 18)).astype(dtype)
    expected = restore.denoise(noisy((17, 18)), make_model(PUBLISHED))
    result = restore.denoise(x, make_model(PUBLISHED))
    assert result.dtype == dtype
    np.testing.assert_allclose(result, expected, atol=0.51, rtol=1e-3)


def test_large_offsets_cost_float64_and_int32_no_precision():
    x, model = noisy((20, 21)).astype(np.float64), make_model(FAMILIES[0])
    exact = restore.denoise(x, model)
    np.testing.assert_allclose(restore.denoise(x + 2**30, model) - 2**30, exact, atol=1e-5)
    shifted = (x + 2**30).astype(np.int32)
    np.testing.assert_allclose(restore.denoise(shifted, model) - 2**30, exact, atol=0.501)


def test_a_hot_pixel_is_warned_of_and_despiked():
    x, model = noisy((64, 65), mean=100), make_model("tem_mlp1_w5")
    hot = x.copy()
    hot[20, 30] = 60_000
    clean = restore.restore(Micrograph(x), model)
    left = restore.restore(Micrograph(hot), model)
    despiked = restore.restore(Micrograph(hot), model, despike=True)
    assert clean.report.warnings == []
    assert "maximum 60000" in left.report.warnings[0]
    assert despiked.report.warnings == []
    assert despiked.report.despiked_pixels == 1
    assert clean.report.despiked_pixels == 0
    away = np.s_[40:, :]
    difference = despiked.micrograph.pixels - clean.micrograph.pixels
    assert np.abs(difference[away]).max() < 0.05
    assert np.abs((left.micrograph.pixels - clean.micrograph.pixels)[away]).max() > 0.5


@pytest.mark.parametrize("name", ["tem_mlp1_w5", "tem_latent1"])
def test_structure_that_a_model_took_away_is_put_back(name):
    """Each frame's own; that of a frame too small to tell stays away."""
    model = make_model(name)
    truth = 50 + 40 * np.sin(np.arange(70) * 2.1) * np.ones((64, 1))  # too fine for the model
    stack = np.random.default_rng(0).poisson(truth, (2, *truth.shape)).astype(np.uint16)
    stack[1] = np.random.default_rng(1).poisson(np.linspace(5, 50, 70), (64, 70))
    plain = restore.restore(Micrograph(stack), model)
    whole = restore.restore(Micrograph(stack), model, put_back=True)
    assert plain.report.put_back == []
    assert 0.5 < whole.report.put_back[0] < 1
    first, other = ((r.micrograph.pixels[0] - truth).std() for r in (whole, plain))
    assert first < 0.5 * other
    assert whole.micrograph.pixels.mean() == pytest.approx(stack.mean(), abs=0.5)  # some clipped
    tiled = restore.denoise(stack, model, put_back=True, tile_px=16)
    np.testing.assert_allclose(tiled, whole.micrograph.pixels, atol=1)
    small = restore.restore(Micrograph(stack[:, :20]), model, put_back=True)
    np.testing.assert_array_equal(small.micrograph.pixels, restore.denoise(stack[:, :20], model))
    assert small.report.warnings == [
        "frame 0: nothing is put back: a side is below 32 px (and 1 more frames)"
    ]


def test_a_known_gain_tells_the_noise_and_is_recorded():
    """Contrast as fine as a pixel and everywhere, 3 counts an electron; a constant frame."""
    model = make_model("tem_mlp1_w5")
    random = np.random.default_rng(0)
    truth = random.uniform(20, 180, (64, 70))
    truth, least = 100 + 3 * truth, 3 * np.sqrt(truth.mean())
    counts = 100 + 3 * random.poisson((truth - 100) / 3)
    stack = np.stack([counts, np.full(truth.shape, 90)]).astype(np.uint16)
    plain = restore.restore(Micrograph(stack), model, put_back=True)
    whole = restore.restore(Micrograph(stack), model, put_back=Electrons(3.0, 100.0))
    assert (plain.report.gain, plain.report.black) == (None, None)
    assert (whole.report.gain, whole.report.black) == (3, 100)
    assert (whole.micrograph.pixels[0] - truth).std() < 1.05 * least
    assert (plain.micrograph.pixels[0] - truth).std() > 3 * least
    np.testing.assert_array_equal(whole.micrograph.pixels[1], stack[1])
    for gain in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"a gain of {gain}: give counts an electron above 0"):
            restore.denoise(stack, model, put_back=Electrons(gain))
    with pytest.raises(ValueError, match="a black level of nan: give the counts of no electron"):
        restore.denoise(stack, model, put_back=Electrons(1.0, np.nan))


@pytest.mark.parametrize("shape", [(5, 24, 33), (3, 80, 70), (1, 20, 20)])
def test_a_stack_is_its_frames(shape):
    x = noisy(shape) * np.arange(1, shape[0] + 1, dtype=np.float32)[:, None, None]
    model = make_model(FAMILIES[0])
    result = restore.restore(Micrograph(x), model, tile_px=64)
    frames = [restore.restore(Micrograph(frame), model, tile_px=64) for frame in x]
    stacked = np.stack([frame.micrograph.pixels for frame in frames])
    np.testing.assert_allclose(result.micrograph.pixels, stacked, rtol=1e-5)
    assert result.report.mean == [frame.report.mean[0] for frame in frames]


def test_metadata_travels_and_says_what_was_done():
    given = Micrograph(noisy((20, 20)), (0.2, 0.3), "nm", {"microscope": {"kV": 300}})
    model = make_model(FAMILIES[0])
    once = restore.denoise(given, model)
    twice = restore.denoise(once, checkpoint.load(PUBLISHED))
    assert (twice.pixel_size, twice.unit) == ((0.2, 0.3), "nm")
    assert twice.metadata["microscope"] == {"kV": 300}
    assert given.metadata == {"microscope": {"kV": 300}}
    assert [entry["model"] for entry in twice.metadata["emd"]] == [FAMILIES[0], PUBLISHED]
    entry = once.metadata["emd"][0]
    assert entry["weights"] == checkpoint.fingerprint(model.variables)
    assert entry["version"] == emd.__version__
    assert entry["minimum"] == [given.pixels.min()]
    assert entry["mean"][0] == pytest.approx((given.pixels - given.pixels.min()).mean())
    assert json.loads(json.dumps(twice.metadata)) == twice.metadata


def test_the_time_is_the_clock_s_or_the_one_that_is_set(monkeypatch):
    x, model = noisy((8, 8)), checkpoint.load(PUBLISHED)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    told = datetime.datetime.fromisoformat(restore.restore(Micrograph(x), model).report.time)
    assert before <= told <= datetime.datetime.now(datetime.UTC)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert restore.restore(Micrograph(x), model).report.time == "1970-01-02T00:00:00Z"


def test_frames_are_asked_for_once_and_in_order():
    x = noisy((7, 300, 290)).astype(np.uint16)
    asked = []

    class Reader:
        def __getitem__(self, part):
            asked.extend(range(*part.indices(len(x))))
            return x[part]

    model, out, shares = checkpoint.load(PUBLISHED), np.empty_like(x), []
    report = restore.restore_frames(Reader(), out, model, progress=shares.append)
    assert asked == list(range(7))
    assert shares == sorted(shares)
    assert shares[-1] == 1
    whole = restore.restore(Micrograph(x), model)
    np.testing.assert_array_equal(out, whole.micrograph.pixels)
    assert report._replace(time="") == whole.report._replace(time="")


@pytest.mark.parametrize("shape", [(1, 1), (37, 100), (80, 88)])
def test_decoding_the_latents_gives_the_uncorrected_restoration(shape):
    model, x = make_model("tem_latent4"), noisy(shape)
    result = restore.restore(Micrograph(x), model, tile_px=64)
    encoded = restore.encode(x, model, tile_px=64)
    assert encoded.latent.shape == (shape[0] // 8 + 2, shape[1] // 8 + 2, 4)
    assert encoded.latent.dtype == np.float32
    decoded = restore.decode(encoded, model, tile_px=48)
    expected = result.micrograph.pixels - result.report.mean_correction[0]
    np.testing.assert_allclose(decoded, expected, atol=1e-5 * max(result.report.mean[0], 1))


def test_latents_that_do_not_fit_are_refused():
    model, x = make_model("tem_latent4"), noisy((40, 40))
    with pytest.raises(ValueError, match="has no latents"):
        restore.encode(x, make_model("tem_kernel_w7"))
    with pytest.raises(ValueError, match="encode each frame"):
        restore.encode(noisy((2, 9, 9)), model)
    encoded = restore.encode(x, model)
    with pytest.raises(ValueError, match=r"do not fit.*48x40 pixels have \(8, 7, 4\)"):
        restore.decode(encoded._replace(shape=(48, 40)), model)


def test_bad_input_is_refused():
    model, x = make_model(PUBLISHED), noisy((9, 9))
    with pytest.raises(ValueError, match="tile_px is 0"):
        restore.denoise(x, model, tile_px=0)
    with pytest.raises(ValueError, match="complex"):
        restore.denoise(x + 1j, model)
    with pytest.raises(ValueError, match="too far apart"):
        restore.denoise(np.array([[1.7e308, -1.7e308]]), model)
    broken = model._replace(variables={"params": {"weights": np.full(3, np.nan, np.float32)}})
    with pytest.raises(ValueError, match="weights are damaged"):
        restore.denoise(x, broken)


def test_extreme_but_finite_intensities_are_restored():
    model, x = make_model(FAMILIES[0]), noisy((16, 17))
    usual = restore.denoise(x, model)
    for dtype, gain in ((np.float32, 1e35), (np.float32, 1e-36), (np.float64, 1e290)):
        scaled = restore.denoise((x * dtype(gain)).astype(dtype), model)
        np.testing.assert_allclose(scaled / dtype(gain), usual, rtol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_tile_is_chosen_where_none_is_given(name):
    model, x = make_model(name), noisy((300, 530))
    expected = restore.denoise(x, model, tile_px=100)
    np.testing.assert_allclose(restore.denoise(x, model), expected, atol=1e-5 * x.mean())


def test_memory_is_bounded_by_the_tile():
    side, model = 2048, make_model(PUBLISHED)
    x = np.random.default_rng(0).integers(0, 255, (side, side), np.uint8)
    restore.denoise(x[:512], model, tile_px=256)
    tracemalloc.start()
    restore.denoise(x, model, tile_px=256)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the output, one float32 image and 8 MiB; a padded float64 copy alone would take 32 MiB
    assert peak < side**2 * 5 + 2**23


def test_a_real_micrograph_has_no_seams(real_data):
    given = micrograph.read(sorted((real_data / "eval" / "tem").glob("*.tif"))[0])
    model = make_model("tem_mlp1_w5")
    small = restore.restore(given, model, tile_px=120)
    large = restore.restore(given, model, tile_px=512)
    difference = small.micrograph.pixels.astype(float) - large.micrograph.pixels
    # integers may round the other way where a result lies half way between two
    assert np.abs(difference).max() <= 1
    assert np.count_nonzero(difference) < 1e-3 * difference.size

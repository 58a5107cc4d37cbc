"""dask arrays: however they are cut, the pixels of the whole image."""

import doctest
import functools

import numpy as np
import pytest

import emd

da = pytest.importorskip("dask.array", reason="needs dask: pip install 'emd-micrograph[scale]'")

import dask  # noqa: E402

from emd import lazy  # noqa: E402

KERNEL = "tem_kernel_w7"
PUBLISHED = "tem_kernel_w5_published"


@pytest.fixture(autouse=True)
def _one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@functools.cache
def load(name):
    return emd.load(name)


def noisy(shape, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    ramp = 20 + 10 * np.sin(np.arange(shape[-1]) / 50)
    return (rng.poisson(np.broadcast_to(ramp, shape)) + 100).astype(dtype)


def assert_is_the_whole(name, x, chunks):
    """The lazy result next to that of NumPy; integers may fall to either side of a half."""
    lazily = load(name)(da.from_array(x, chunks))
    assert lazily.chunks == da.from_array(x, chunks).chunks
    assert (lazily.shape, lazily.dtype) == (x.shape, x.dtype)
    got, expected = lazily.compute(), load(name)(x)
    assert got.dtype == x.dtype
    if x.dtype.kind == "f":
        np.testing.assert_allclose(got, expected, rtol=1e-5, equal_nan=True)
    else:
        different = got != expected
        assert different.mean() < 1e-3
        assert np.abs(got.astype("int64") - expected).max() <= 1


def test_the_example_in_the_documentation_holds():
    outcome = doctest.testmod(lazy)
    assert (outcome.attempted, outcome.failed) == (5, 0)


@pytest.mark.parametrize(
    "chunks",
    [
        (200, 150),  # one
        (100, 75),
        ((64, 136), (150,)),
        ((67, 70, 63), (71, 79)),  # ends between multiples of 8
        (1, 150),  # lines: too narrow to be restored alone
        ((190, 10), (5, 145)),
    ],
)
def test_any_grid_of_chunks_gives_the_whole_image(chunks):
    assert_is_the_whole(KERNEL, noisy((200, 150)), chunks)


@pytest.mark.parametrize("name", [PUBLISHED, "tem_mlp1_w5", "temstem_mlp2_w3"])
def test_kernels_and_perceptrons_see_no_seam(name):
    assert_is_the_whole(name, noisy((150, 140)), (75, 70))


def test_autoencoders_see_no_seam():
    assert_is_the_whole("tem_latent16", noisy((133, 50), "uint16"), ((67, 66), 50))


@pytest.mark.parametrize("columns", [(141, 159), (90,)])
def test_networks_that_pad_themselves_see_no_seam(columns):
    x = noisy((461, sum(columns)), "uint16")
    assert_is_the_whole("stem_skip48_columns", x, ((150, 150, 161), columns))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float16", "float64", ">f4"])
def test_types_come_back(dtype):
    assert_is_the_whole(KERNEL, noisy((140, 150), dtype), (70, 75))


def test_saturation_and_large_offsets_are_those_of_the_whole_image():
    x = noisy((140, 150), "uint8") - 100
    x[::7, ::9] = 255
    assert_is_the_whole(PUBLISHED, x, (70, 75))
    assert_is_the_whole(KERNEL, noisy((140, 150), "int32") + 10**9, (70, 75))


@pytest.mark.parametrize("chunks", [(1, 70, 75), (2, 140, 150), (3, 140, 75)])
def test_frames_are_restored_by_themselves(chunks):
    x = noisy((3, 140, 150))
    x[1] = 7 * x[1] - 300
    assert_is_the_whole(KERNEL, x, chunks)


def test_four_axes():
    x = noisy((2, 3, 70, 140), "uint16")
    assert_is_the_whole(KERNEL, x, (1, 2, 70, 70))
    assert_is_the_whole(KERNEL, x, (1, 3, 70, 140))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("sign", [1, -1])
def test_nonfinite_pixels_take_the_median_of_the_whole_frame(dtype, sign):
    """Few of them move the mean; with many a median of a piece would show."""
    x = sign * noisy((2, 140, 150), dtype)
    x[0, 10:60, 20:100] = np.nan
    x[0, 139, 149] = np.inf
    x[0, 70:, 75:] += 50  # pieces have other medians than the frame
    assert_is_the_whole(KERNEL, x, (1, 70, 75))


def test_constant_frames_and_frames_without_a_finite_pixel():
    x = noisy((3, 140, 150))
    x[0], x[1], x[2, :70, :75] = 5, np.nan, np.nan
    assert_is_the_whole(KERNEL, x, (2, 70, 75))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_median_is_that_of_sorted_pixels(dtype):
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(0, 1e-3, 700), -rng.exponential(100, 801)]).astype(dtype)
    x = np.append(x, [np.nan, -0.0, 0.0]).reshape(-1, 32)
    finite = np.sort(x[np.isfinite(x)])
    measured = lazy._measured(da.from_array(x, (20, 10))).compute().item()
    assert measured.fill == finite[finite.size // 2]


def test_nothing_is_computed_before_it_is_asked_for():
    def fail(block):
        raise RuntimeError("computed")

    x = da.from_array(noisy((140, 150)), (70, 75)).map_blocks(
        fail, dtype="float32", meta=np.empty((0, 0), "float32")
    )
    lazily = load(KERNEL)(x)
    with pytest.raises(RuntimeError, match="computed"):
        lazily.compute()


def test_equal_weights_name_equal_results():
    x = da.from_array(noisy((140, 150)), (70, 75), name="given")
    assert load(KERNEL)(x).name == emd.load(KERNEL)(x).name
    assert load(KERNEL)(x).name != load(PUBLISHED)(x).name


def test_unknown_sides_and_overflow_are_told():
    x = da.from_array(noisy((140, 150)), (70, 75))
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        load(KERNEL)(x[:, x[0] > 110])
    far = np.full((140, 150), 1e308)
    far[0, 0] = -1e308
    with pytest.raises(ValueError, match="too far apart"):
        load(KERNEL)(da.from_array(far, (70, 75))).compute()
    with pytest.raises(ValueError, match="complex"):
        load(KERNEL)(x.astype("complex64"))

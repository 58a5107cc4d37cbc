"""The engines: whatever a device and its libraries, the same pixels."""

import importlib.util
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd import apply, checkpoint, opencv, restore, zoo
from emd.checkpoint import Model
from emd.models import folded, symmetry
from emd.models.autoencoder import Autoencoder


def kernel(width):
    config = zoo.ModelConfig("kernel", "tem", width)
    weights = np.random.default_rng(width).normal(0, 0.1, symmetry.free_count(width))
    params = {"weights": jnp.asarray(weights, jnp.float32)}
    return Model(config, zoo.make_module(config), {"params": params}, {})


def noisy(shape, seed=0):
    return np.random.default_rng(seed).poisson(20, shape).astype(np.float32)


def assert_is_the_plain_sum(model, x):
    width = model.config.size
    matrix = np.asarray(folded.fold_params(model.variables["params"]).output, np.float64)
    scaled = (x - x.min()) / (x - x.min()).mean() if np.ptp(x) else np.ones(x.shape)
    padded = np.pad(scaled, width // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (width, width))
    got = apply.over_image(model, scaled.astype(np.float32))
    np.testing.assert_allclose(got, (windows * matrix).sum((2, 3)), atol=1e-5)


SHAPES = [(1, 1), (2, 70), (61, 83), (70, 1)]


@pytest.mark.parametrize("width", symmetry.WIDTHS)
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_by_xla_are_the_plain_sum_over_the_reflected_image(width, shape, monkeypatch):
    monkeypatch.setattr(opencv, "is_quicker", lambda width: False)
    assert_is_the_plain_sum(kernel(width), noisy(shape))


@pytest.mark.parametrize("width", symmetry.WIDTHS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("strip_px", [1, 1000, 2**22])
def test_kernels_by_opencv_are_the_plain_sum(width, shape, strip_px, monkeypatch):
    """Strips as thin as they get, several, and one."""
    pytest.importorskip("cv2")
    monkeypatch.setattr(opencv, "is_quicker", lambda width: True)
    monkeypatch.setattr(opencv, "_STRIP_PX", strip_px)
    assert_is_the_plain_sum(kernel(width), noisy(shape))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">f4", np.float64])
def test_opencv_takes_every_type_and_any_layout(dtype, monkeypatch):
    pytest.importorskip("cv2")
    model, x = kernel(5), noisy((60, 50)).astype(dtype)[::-1, ::2]
    assert apply.restoring(model).whole is not None
    by_opencv = restore.denoise(x, model)
    monkeypatch.setattr(opencv, "is_quicker", lambda width: False)
    # a rounding may fall either way
    np.testing.assert_allclose(
        by_opencv, restore.denoise(x, model), atol=1 if x.dtype.kind == "u" else 1e-4
    )


def test_kernels_never_go_through_opencvs_fourier_transform(monkeypatch):
    """It begins at 11x11, on builds without Intel's library."""
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setattr(cv2.ipp, "useIPP", lambda: False)
    assert [w for w in symmetry.WIDTHS if opencv.is_quicker(w)] == [3, 5, 7, 9]
    monkeypatch.setattr(cv2.ipp, "useIPP", lambda: True)
    assert [w for w in symmetry.WIDTHS if opencv.is_quicker(w)] == [3, 5, 7, 9, 11]


def test_without_opencv_kernels_go_through_xla(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert apply.restoring(kernel(3)).whole is None


@pytest.mark.parametrize("hidden", [0, 1])
def test_the_forms_for_cpu_and_for_accelerators_agree(hidden):
    rng = np.random.default_rng(0)
    free = symmetry.free_count(5)
    matrix = rng.normal(0, 0.3, free)[symmetry.orbits(5)] if not hidden else rng.normal(size=(5, 5))
    form = folded.Folded(
        jnp.asarray(rng.normal(size=free), jnp.float32),
        jnp.asarray(rng.normal(size=(hidden, free)), jnp.float32),
        None,
        jnp.asarray(matrix, jnp.float32),
    )
    tile = jnp.asarray(noisy((40, 52)) / 20)
    plain = folded._sum_of_shifts(form, tile)
    np.testing.assert_allclose(folded.apply_folded(form, tile), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["tem_latent16", "tem_kernel_w15", "temstem_mlp2_w3"])
def test_a_model_on_an_accelerator_gives_the_same_pixels(name, monkeypatch):
    """The way of accelerators, taken on CPU: pixels travel in their own type."""
    model, x = checkpoint.load(name), noisy((70, 90))
    given = x.astype(np.uint8)
    expected = restore.denoise(x, model)
    monkeypatch.setattr(apply, "on_host", lambda: False)
    rounded = restore.denoise(given, model)
    np.testing.assert_allclose(restore.denoise(x, model), expected, atol=1e-5 * x.mean())
    np.testing.assert_allclose(rounded, expected, atol=0.51)


@pytest.mark.parametrize(("gigabytes", "side"), [(None, 724), (1, 256), (8, 698), (80, 2048)])
def test_tiles_follow_the_memory_of_an_accelerator(gigabytes, side, monkeypatch):
    stats = None if gigabytes is None else {"bytes_limit": gigabytes * 10**9}
    device = types.SimpleNamespace(memory_stats=lambda: stats)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    monkeypatch.setattr(apply, "on_host", lambda: False)
    assert apply._network_tile(Autoencoder(1), 0)[0] == (side, side)


@pytest.mark.parametrize(
    ("free", "beside", "side"),
    [(2**40, 0, 512), (2**31, 0, 512), (2**31, 2**30, 362), (2**30, 0, 362), (0, 2**30, 128)],
)
def test_tiles_follow_the_memory_that_is_left(free, beside, side, monkeypatch):
    monkeypatch.setattr(apply, "free_bytes", lambda: free)
    assert apply._network_tile(Autoencoder(1), beside)[0] == (side, side)
    engine = apply.restoring(checkpoint.load("tem_latent16"), beside=beside)
    assert engine.tile == (side, side)

"""The engines: whatever a device and its libraries, the same pixels."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd import apply, checkpoint, restore, zoo
from emd.checkpoint import Model
from emd.models import folded, symmetry


def kernel(width):
    config = zoo.ModelConfig("kernel", "tem", width)
    weights = np.random.default_rng(width).normal(0, 0.1, symmetry.free_count(width))
    params = {"weights": jnp.asarray(weights, jnp.float32)}
    return Model(config, zoo.make_module(config), {"params": params}, {})


def noisy(shape, seed=0):
    return np.random.default_rng(seed).poisson(20, shape).astype(np.float32)


@pytest.mark.parametrize("width", symmetry.WIDTHS)
@pytest.mark.parametrize("opencv", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (2, 70), (61, 83)])
def test_kernels_are_the_plain_sum_over_the_reflected_image(width, opencv, shape, monkeypatch):
    if opencv:
        pytest.importorskip("cv2")
        monkeypatch.setattr(apply, "_OPENCV_WIDTHS", symmetry.WIDTHS)
    monkeypatch.setattr(apply, "_has_opencv", lambda: opencv)
    model, x = kernel(width), noisy(shape)
    engine = apply.restoring(model)
    assert ("_filter_tile" in repr(engine.call)) == opencv
    matrix = np.asarray(folded.fold_params(model.variables["params"]).output, np.float64)
    scaled = (x - x.min()) / (x - x.min()).mean() if np.ptp(x) else np.ones(shape)
    padded = np.pad(scaled, width // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (width, width))
    expected = (windows * matrix).sum((2, 3))
    got = apply.over_image(model, scaled.astype(np.float32))
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_wide_kernels_never_go_through_opencvs_fourier_transform():
    assert max(apply._OPENCV_WIDTHS) ** 2 < 121  # it begins there or later
    assert "_filter_tile" not in repr(apply.restoring(kernel(11)).call)


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
    assert apply._network_tile()[0] == (side, side)

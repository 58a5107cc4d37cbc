"""`emd.load`: arrays of every kind in, the same kind out, and the pixels of `emd.restore`."""

import doctest
import functools
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emd
from emd import checkpoint, restore, restorer
from emd.data.micrograph import Micrograph
from emd.models.pixelwise import kernel_matrix

KERNEL = "tem_kernel_w7"
PUBLISHED = "tem_kernel_w5_published"


@functools.cache
def load(name):
    return emd.load(name)


def noisy(shape, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    ramp = 20 + 10 * np.sin(np.arange(shape[-1]) / 9)
    return (rng.poisson(np.broadcast_to(ramp, shape)) + 100).astype(dtype)


def test_importing_emd_loads_no_jax():
    code = "import sys, emd; emd.load; print('jax' in sys.modules, 'numpy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("module", ["emd", "emd.restorer"])
def test_the_examples_in_the_documentation_hold(module):
    outcome = doctest.testmod(sys.modules[module])
    assert outcome.attempted >= 5
    assert outcome.failed == 0


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float64", ">f4"])
def test_numpy_is_denoise_in_shape_and_type(dtype):
    x = noisy((2, 3, 40, 33), dtype)
    got = load(KERNEL)(x)
    assert (got.shape, got.dtype) == (x.shape, x.dtype)
    expected = restore.denoise(x[1, 2], load(KERNEL).model)
    np.testing.assert_array_equal(got[1, 2], expected)
    np.testing.assert_array_equal(load(KERNEL)(x[1, 2]), expected)


def test_a_micrograph_stays_one():
    given = Micrograph(noisy((30, 40)), (0.2, 0.2), "nm")
    got = load(KERNEL)(given)
    assert (got.pixel_size, got.unit) == ((0.2, 0.2), "nm")
    np.testing.assert_array_equal(got.pixels, load(KERNEL)(given.pixels))


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_jax_arrays_stay_on_their_device(dtype):
    x = noisy((2, 40, 33), dtype)
    got = load(KERNEL)(jnp.asarray(x))
    assert isinstance(got, jax.Array)
    assert (got.dtype, got.sharding) == (x.dtype, jnp.asarray(x).sharding)
    np.testing.assert_array_equal(np.asarray(got), load(KERNEL)(x))


@pytest.mark.parametrize("name", [KERNEL, PUBLISHED, "tem_mlp1_w3", "temstem_mlp2_w3"])
@pytest.mark.parametrize("shape", [(1, 1), (29, 5)])
def test_inside_jit_it_is_denoise(name, shape):
    x = noisy(shape)
    got = np.asarray(jax.jit(load(name))(jnp.asarray(x)))
    np.testing.assert_allclose(got, load(name)(x), atol=1e-5 * x.mean())


def test_an_autoencoder_inside_jit_is_denoise():
    x = noisy((2, 35, 42))
    model = load("tem_latent16")
    got = np.asarray(jax.jit(model)(jnp.asarray(x)))
    expected = model(x)
    assert expected.std() > 1
    np.testing.assert_allclose(got, expected, atol=1e-5 * x.mean())


def test_inside_jit_integers_are_rounded_and_saturate():
    x = noisy((41, 37), "uint8")
    x[20, 20] = 255
    x[:2] = x[3, 3] = 0
    got = np.asarray(jax.jit(load(PUBLISHED))(jnp.asarray(x)))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, load(PUBLISHED)(x))
    large = np.where(noisy((20, 20)) > 120, 2**31 - 1, 0).astype("int32")
    ours = np.asarray(jax.jit(load(PUBLISHED))(jnp.asarray(large)), np.float64)
    np.testing.assert_allclose(ours, load(PUBLISHED)(large), atol=2**31 * 1e-6)


def test_vmap_and_grad_go_through():
    x = jnp.asarray(noisy((3, 20, 21)))
    model = load(PUBLISHED)
    np.testing.assert_allclose(jax.vmap(model)(x), model(x), rtol=1e-5)
    slope = np.asarray(jax.grad(lambda y: model(y)[10, 10])(x[0]))
    matrix = np.asarray(kernel_matrix(model.model.variables["params"]))
    np.testing.assert_allclose(slope[8:13, 8:13], matrix, atol=1e-5)


class Signal:
    """What HyperSpy's `signal.map` does, without HyperSpy: one call for each image."""

    def __init__(self, data, scale):
        self.data, self.scale = data, scale

    def map(self, function, inplace=True):
        first = function(self.data[(0,) * (self.data.ndim - 2)])
        data = np.empty(self.data.shape[:-2] + first.shape, first.dtype)
        for index in np.ndindex(data.shape[:-2]):
            data[index] = function(self.data[index])
        return Signal(data, self.scale)


def test_a_signal_is_restored_image_by_image():
    signal = Signal(noisy((2, 2, 30, 31), "uint16"), 0.2)
    restored = signal.map(load(KERNEL), inplace=False)
    assert (restored.scale, restored.data.dtype) == (0.2, np.uint16)
    np.testing.assert_array_equal(restored.data, load(KERNEL)(signal.data))


def test_it_says_what_it_is():
    kernel, autoencoder = load(PUBLISHED), load("tem_latent16")
    assert (kernel.name, kernel.reach_px, autoencoder.reach_px) == (PUBLISHED, 2, 23)
    assert repr(kernel).startswith(f"<{PUBLISHED}: 5x5 kernel; reach 2 px; weights ")
    assert repr(autoencoder).startswith("<tem_latent16: autoencoder of 16 latents; reach 23 px;")
    assert checkpoint.fingerprint(kernel.model.variables) in repr(kernel)
    assert "arXiv" in kernel.card["source"]


def test_it_travels_to_other_processes():
    x = noisy((20, 20))
    again = pickle.loads(pickle.dumps(load(KERNEL)))
    np.testing.assert_array_equal(again(x), load(KERNEL)(x))


def test_reach_is_how_far_a_pixel_matters():
    x = noisy((60, 61))
    x[0, 0], x[-1, -1] = 0, 200  # the same minimum with and without the change
    other = x.copy()
    other[30, 30] += 10
    other[10, 50] -= 10  # the mean stays
    for name in (KERNEL, PUBLISHED):
        model = load(name)
        changed = np.abs(model(other) - model(x))[:, :41].max(1)
        rows = np.flatnonzero(changed > 1e-3)
        assert (rows[0], rows[-1]) == (30 - model.reach_px, 30 + model.reach_px)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ([[1.0]], TypeError, "list is no array .* signal.map"),
        (np.ones(5), ValueError, "is no image"),
        (np.ones((5, 5), complex), ValueError, "complex"),
        (np.ones((5, 5), bool), ValueError, "boolean"),
        (np.ones((2, 2, 0, 5)), ValueError, "empty"),
        (np.ma.ones((5, 5)), ValueError, "mask"),
        (jnp.ones((5, 5), jnp.bfloat16), ValueError, "bfloat16"),
    ],
)
def test_what_is_no_image_is_refused(given, error, text):
    with pytest.raises(error, match=text):
        load(KERNEL)(given)


def test_unknown_names_and_missing_models():
    with pytest.raises(ValueError, match="unknown model 'mlp': use one of"):
        emd.load("mlp")
    with pytest.raises(FileNotFoundError, match="make it by"):
        restorer.load("tem_latent64", root="elsewhere")

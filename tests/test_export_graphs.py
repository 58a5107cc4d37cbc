"""ONNX and StableHLO: counts in, counts out, equal to `emd.restore` at every size."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emd
from emd import checkpoint, export

MODELS = ["tem_kernel_w3", "stem_kernel_w11_published", "tem_mlp1_w5", "temstem_mlp2_w3"]
AUTOENCODER = "tem_latent16"
SKIP = "stem_skip48_clean"
SHAPES = [(1, 1, 1), (1, 1, 30), (2, 5, 4), (1, 41, 50)]


@functools.cache
def load(name):
    return emd.load(name)


def noisy(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.poisson(20 + 10 * np.sin(np.arange(shape[-1]) / 9), shape).astype(np.float32)


@functools.cache
def session(name):
    pytest.importorskip("onnx", reason="needs onnx: pip install 'emd-micrograph[export]'")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    contents = bytes(render("onnx", name))
    return onnxruntime.InferenceSession(contents, providers=["CPUExecutionProvider"])


def render(target, name):
    module = export.TARGETS[target].module
    return __import__(module, fromlist=["render"]).render(load(name).model)


def by_onnx(name, x):
    return session(name).run(None, {"counts": x})[0]


def assert_is_denoise(got, name, x):
    """Within 1e-4 of the counts, and of what the model changed."""
    expected = load(name)(x)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-4 * max(1, (x - x.min()).mean()))
    if x[0].size > 100:
        assert np.abs(expected - x).mean() > 1


@pytest.mark.parametrize("name", MODELS)
def test_onnx_is_denoise(name):
    for shape in SHAPES:
        assert_is_denoise(by_onnx(name, noisy(shape)), name, noisy(shape))


@pytest.mark.parametrize("name", [AUTOENCODER, SKIP])
def test_a_network_in_onnx_is_denoise(name):
    """Sides of a multiple of a cell, beside it, and so small that the border reflects often."""
    for shape in [(2, 1, 3), (1, 48, 41)]:
        x = noisy(shape) + 1000
        assert_is_denoise(by_onnx(name, x), name, x)


@pytest.mark.parametrize("name", [MODELS[0], MODELS[1]])
def test_onnx_keeps_the_contract(name):
    x = noisy((1, 60, 61))
    y = by_onnx(name, x)
    np.testing.assert_allclose(by_onnx(name, 3 * x + 7), 3 * y + 7, rtol=1e-5)
    constant = np.full((1, 20, 20), 42, np.float32)
    np.testing.assert_array_equal(by_onnx(name, constant), constant)
    keeps = abs(y.mean() - x.mean()) < 1e-3
    assert keeps == (not load(name).model.config.published)


def test_onnx_frames_are_normalised_by_themselves():
    x = noisy((3, 40, 41))
    x[1] = 9 * x[1] - 100
    y = by_onnx(MODELS[0], x)
    for frame, expected in zip(x, y, strict=True):
        np.testing.assert_allclose(by_onnx(MODELS[0], frame[None])[0], expected, rtol=1e-6)


def test_onnx_says_what_it_is(tmp_path):
    onnx = pytest.importorskip("onnx")
    path = export.export(load(MODELS[0]), tmp_path / "model.onnx", "onnx")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    weights = checkpoint.fingerprint(load(MODELS[0]).model.variables)
    assert facts == {"model": MODELS[0], "weights": weights}
    assert (model.producer_name, model.producer_version) == ("emd", emd.__version__)
    assert [entry.version for entry in model.opset_import] == [17]
    sides = model.graph.input[0].type.tensor_type.shape.dim
    assert [side.dim_param for side in sides] == ["n", "h", "w"]


def test_without_onnx_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "emd.export.onnx_graph", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'emd-micrograph\[export\]'"):
        export.export(load(MODELS[0]), tmp_path / "model.onnx", "onnx")
    assert not list(tmp_path.iterdir())


@functools.cache
def program(name):
    return jax.export.deserialize(bytearray(render("stablehlo", name)))


@pytest.mark.parametrize("name", [MODELS[1], MODELS[3]])
def test_stablehlo_is_denoise_at_sizes_unknown_to_it(name):
    for shape in [(1, 1, 1), (2, 5, 33)]:
        got = np.asarray(program(name).call(jnp.asarray(noisy(shape))))
        assert_is_denoise(got, name, noisy(shape))


@pytest.mark.parametrize("name", [AUTOENCODER, SKIP])
def test_a_network_in_stablehlo_is_denoise(name):
    x = noisy((1, 9, 41))
    got = np.asarray(program(name).call(jnp.asarray(x)))
    assert_is_denoise(got, name, x)


def test_stablehlo_runs_on_every_platform():
    assert set(program(MODELS[1]).platforms) == {"cpu", "cuda", "rocm", "tpu"}
    assert [str(side) for side in program(MODELS[1]).in_avals[0].shape] == ["n", "h", "w"]

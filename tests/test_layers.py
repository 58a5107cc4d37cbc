"""The fast forms against the plain ones and plain loops; batch norm against flax's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from emd.models import cpu, layers

# odd, even and single-pixel sides, each way round
SHAPES = [(2, 1, 1), (2, 5, 8), (1, 8, 7), (1, 9, 9)]


def pair(key, shape, kernel_shape):
    """Maps and a kernel of order 1."""
    draw = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    made = draw.normal(size=shape), draw.normal(size=kernel_shape) / 3
    return tuple(jnp.asarray(a, jnp.float32) for a in made)


def check_same(fast, plain, x, kernel):
    """Values and both gradients agree to 1e-5 of their largest."""
    shape = jax.eval_shape(plain, x, kernel)
    assert jax.eval_shape(fast, x, kernel) == shape
    weights = jnp.asarray(np.random.default_rng(9).normal(size=shape.shape), jnp.float32)

    def both(form):
        y, back = jax.vjp(form, x, kernel)
        return y, *back(weights)

    for got, expected in zip(*jax.jit(lambda: (both(fast), both(plain)))(), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_forms_agree(key, shape, stride):
    x, kernel = pair(key, (*shape, 5), (3, 3, 1, 5))
    check_same(
        lambda x, k: cpu.depthwise(x, k, stride=stride),
        lambda x, k: layers.depthwise_plain(x, k, stride=stride),
        x,
        kernel,
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_upsample_forms_agree(key, shape):
    x, kernel = pair(key, (*shape, 4), (3, 3, 4, 3))
    check_same(cpu.upsample, layers.upsample_plain, x, kernel)


@pytest.mark.parametrize("shape", [(2, 6, 5), (1, 7, 2), (3, 1, 4)])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_upsample_gradient_is_the_same_in_any_blocks(key, shape, rows, monkeypatch):
    n, _, w = shape
    monkeypatch.setattr(cpu, "BLOCK_BYTES", rows * 4 * n * w * 9 * 3)
    x, kernel = pair(key, (*shape, 4), (3, 3, 4, 3))
    check_same(cpu.upsample, layers.upsample_plain, x, kernel)


@pytest.mark.parametrize("features", [2, 7])
def test_pointwise_forms_agree(key, features):
    x, matrix = pair(key, (2, 5, 8, 4), (4, features))
    check_same(cpu.product, lambda x, m: x @ m, x, matrix)


@pytest.mark.parametrize("shape", SHAPES)
def test_to_image_forms_agree(key, shape):
    x, kernel = pair(key, (*shape, 6), (3, 3, 6, 1))
    check_same(cpu.to_image, layers.to_image_plain, x, kernel)


@pytest.mark.parametrize("shape", SHAPES)
def test_channel_sums_agree(key, shape):
    x = jax.random.normal(key, (*shape, 7))
    np.testing.assert_allclose(
        cpu.channel_sums(x), np.asarray(x, np.float64).sum((0, 1, 2)), atol=1e-4
    )


def same_conv(x, kernel, stride):
    """3x3 SAME convolution as TensorFlow defines it, a loop in float64: (h w c) * (3 3 c f)."""
    h, w, _ = x.shape
    rows, cols = -(-h // stride), -(-w // stride)
    top = max((rows - 1) * stride + 3 - h, 0) // 2
    left = max((cols - 1) * stride + 3 - w, 0) // 2
    out = np.zeros((rows, cols, kernel.shape[-1]))
    for i, j, a, b in np.ndindex(rows, cols, 3, 3):
        r, c = i * stride + a - top, j * stride + b - left
        if 0 <= r < h and 0 <= c < w:
            out[i, j] += x[r, c] @ kernel[a, b]
    return out


@pytest.mark.parametrize("form", [cpu.upsample, layers.upsample_plain, layers.upsample])
def test_upsample_is_its_definition(key, form):
    """Output pixel 2i + k gains kernel[k] times input pixel i; beyond 2h nothing is kept."""
    x, kernel = (np.asarray(a, np.float64) for a in pair(key, (1, 4, 5, 2), (3, 3, 2, 3)))
    out = np.zeros((8 + 1, 10 + 1, 3))
    for i, j, a, b in np.ndindex(4, 5, 3, 3):
        out[2 * i + a, 2 * j + b] += x[0, i, j] @ kernel[a, b]
    got = form(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32))
    np.testing.assert_allclose(got[0], out[:8, :10], atol=1e-5)


def test_upsample_is_the_transpose_of_the_strided_convolution(key):
    """<conv(y), x> = <y, upsample(x)> with channels swapped: TensorFlow's conv2d_transpose."""
    x, kernel = pair(key, (1, 4, 5, 2), (3, 3, 2, 3))
    y = jax.random.normal(key, (1, 8, 10, 3))
    down = same_conv(np.asarray(y[0]), np.asarray(kernel).swapaxes(2, 3), 2)
    np.testing.assert_allclose(
        (down * np.asarray(x[0])).sum(), jnp.vdot(y, layers.upsample(x, kernel)), rtol=1e-5
    )


@pytest.mark.parametrize("shape", [(5, 8), (7, 7), (1, 2), (6, 6)])
@pytest.mark.parametrize("stride", [1, 2])
def test_separable_is_depthwise_then_pointwise(key, shape, stride):
    module = layers.SeparableConv(4, stride)
    x = jax.random.normal(key, (2, *shape, 3))
    params = module.init(key, x)["params"]
    assert set(params) == {"depthwise", "pointwise"}  # no bias
    full = np.zeros((3, 3, 3, 3))
    for c in range(3):
        full[:, :, c, c] = params["depthwise"][:, :, 0, c]
    for got, image in zip(module.apply({"params": params}, x), np.asarray(x), strict=True):
        expected = same_conv(image, full, stride) @ np.asarray(params["pointwise"])
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_to_image_is_a_same_convolution_without_bias(key):
    x = jax.random.normal(key, (1, 5, 6, 3))
    variables = layers.ToImage().init(key, x)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"kernel": (3, 3, 3, 1)}}
    expected = same_conv(np.asarray(x[0]), np.asarray(variables["params"]["kernel"]), 1)[..., 0]
    np.testing.assert_allclose(layers.ToImage().apply(variables, x)[0], expected, atol=1e-5)


def test_upsample_bias_starts_at_zero_and_is_added(key):
    module = layers.Upsample(3, use_bias=True)
    x = jax.random.normal(key, (1, 4, 4, 2))
    params = module.init(key, x)["params"]
    np.testing.assert_array_equal(params["bias"], 0)
    moved = module.apply({"params": params | {"bias": jnp.arange(3.0)}}, x)
    expected = module.apply({"params": params}, x) + jnp.arange(3.0)[None, None, None]
    np.testing.assert_allclose(moved, expected, atol=1e-6)
    assert "bias" not in layers.Upsample(3).init(key, x)["params"]


@pytest.mark.parametrize(
    ("module", "name", "fan_in", "fan_out"),
    [
        (layers.SeparableConv(64, 1), "pointwise", 32, 64),
        (layers.SeparableConv(64, 1), "depthwise", 9 * 32, 9),
        (layers.Upsample(64), "kernel", 9 * 32, 9 * 64),
        (layers.ToImage(), "kernel", 9 * 32, 9),
    ],
)
def test_weights_start_glorot_uniform(key, module, name, fan_in, fan_out):
    weights = np.asarray(module.init(key, jnp.zeros((1, 8, 8, 32)))["params"][name])
    limit = (6 / (fan_in + fan_out)) ** 0.5
    assert 0.9 * limit < np.abs(weights).max() <= limit
    assert weights.std() == pytest.approx(limit / 3**0.5, rel=0.1)


# --- batch normalisation -----------------------------------------------------------------------


@pytest.fixture
def norm(key):
    """Ours and flax's, the same variables (away from their start), and maps off centre."""
    x = 3 + 2 * jax.random.normal(key, (4, 5, 3, 6))
    ours = layers.BatchNorm()
    variables = ours.init(key, x, train=True)
    keys = iter(jax.random.split(key, 4))
    variables = jax.tree.map(
        lambda v: v + jax.random.uniform(next(keys), v.shape, minval=0.1), variables
    )
    return ours, nn.BatchNorm(momentum=0.999, epsilon=0.001), variables, x


def test_batch_norm_starts_as_flax_does(key):
    x = jnp.ones((1, 2, 2, 3))
    flax = nn.BatchNorm(use_running_average=False).init(key, x)
    ours = layers.BatchNorm().init(key, x, train=True)
    assert jax.tree.structure(ours) == jax.tree.structure(flax)
    jax.tree.map(np.testing.assert_array_equal, ours, flax)


def test_batch_norm_equals_flax_in_training(norm):
    ours, flax, variables, x = norm
    y, new = ours.apply(variables, x, train=True, mutable=["batch_stats"])
    expected, expected_new = flax.apply(
        variables, x, use_running_average=False, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(y, expected, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), dict(new), dict(expected_new)
    )


def test_batch_norm_equals_flax_in_inference(norm):
    ours, flax, variables, x = norm
    expected = flax.apply(variables, x, use_running_average=True)
    np.testing.assert_allclose(ours.apply(variables, x, train=False), expected, atol=1e-5)


def test_batch_norm_gradients_equal_flax(norm):
    ours, flax, variables, x = norm
    weights = jax.random.normal(jax.random.key(3), x.shape)

    def loss(x, params, module, **mode):
        whole = {**variables, "params": params}
        return jnp.vdot(module.apply(whole, x, mutable=["batch_stats"], **mode)[0], weights)

    got = jax.grad(loss, (0, 1))(x, variables["params"], ours, train=True)
    expected = jax.grad(loss, (0, 1))(x, variables["params"], flax, use_running_average=False)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), got, expected)


def test_training_moves_statistics_and_inference_does_not(norm):
    ours, _, variables, x = norm
    trained = ours.apply(variables, x, train=True, mutable=["batch_stats"])[1]["batch_stats"]
    used = ours.apply(variables, x, train=False, mutable=["batch_stats"])[1]["batch_stats"]
    before = variables["batch_stats"]
    mean = np.asarray(x).mean((0, 1, 2))
    np.testing.assert_allclose(trained["mean"], 0.999 * before["mean"] + 0.001 * mean, rtol=1e-5)
    assert (np.asarray(trained["var"]) != np.asarray(before["var"])).all()
    jax.tree.map(np.testing.assert_array_equal, used, before)


def test_inference_ignores_batch_mates_and_training_does_not(norm):
    ours, _, variables, x = norm
    alone = ours.apply(variables, x[:1], train=False)
    np.testing.assert_array_equal(alone, ours.apply(variables, x, train=False)[:1])
    alone = ours.apply(variables, x[:1], train=True, mutable=["batch_stats"])[0]
    among = ours.apply(variables, x, train=True, mutable=["batch_stats"])[0][:1]
    assert np.abs(alone - among).max() > 0.01


def test_a_constant_channel_stays_finite(key):
    """Cancellation in E[x^2] - E[x]^2 must not reach the root, nor its gradient."""
    x = jnp.full((2, 7, 7, 1), 1234.567)
    variables = layers.BatchNorm().init(key, x, train=True)

    def loss(x):
        return layers.BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])[0].sum()

    assert np.isfinite(loss(x))
    assert np.isfinite(jax.grad(loss)(x)).all()

"""The autoencoder's size, reach and symmetries, from the paper's section 2.1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd.models.autoencoder import REACH_PX, STRIDE, Autoencoder

DEPTHS = (1, 2, 4, 8, 16, 32, 64)


def shapes(latent, side=16):
    return jax.eval_shape(Autoencoder(latent).init, jax.random.key(0), jnp.zeros((1, side, side)))


def spread(variables, seed=0):
    """Variables whose statistics, scales and biases matter as they do once trained."""
    leaves, tree = jax.tree.flatten_with_path(variables)
    draw = np.random.default_rng(seed)
    values = [
        leaf
        if "kernel" in str(path) or "wise" in str(path)
        else np.asarray(leaf + draw.uniform(0.05, 0.3, leaf.shape), np.float32)
        for path, leaf in leaves
    ]
    return jax.tree.unflatten(tree, values)


@pytest.fixture(scope="module")
def model():
    module = Autoencoder(4)
    variables = spread(jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 16, 16))))
    apply = jax.jit(module.apply, static_argnames=("method", "train", "mutable"))
    return module, variables, apply


def images(*shape, seed=1):
    return np.random.default_rng(seed).uniform(0, 2, shape).astype(np.float32)


def test_the_size_is_the_papers():
    """About 0.457 M parameters at d = 16, counted layer by layer beside it."""
    separable = sum(9 * c + c * f for c, f in ((1, 64), (64, 128), (128, 256), (256, 16)))
    transposed = 9 * (16 * 256 + 256 * 128 + 128 * 64) + 64  # the last with a bias
    norms = 2 * (64 + 128 + 256 + 16 + 256 + 128)
    expected = separable + transposed + norms + 9 * 64
    found = sum(leaf.size for leaf in jax.tree.leaves(shapes(16)["params"]))
    assert found == expected == 457_001


@pytest.mark.parametrize("latent", DEPTHS)
def test_latents_are_an_eighth_the_side_and_images_the_whole(latent):
    module = Autoencoder(latent)
    x, variables = jnp.zeros((2, 24, 40)), shapes(latent)
    h = jax.eval_shape(lambda v: module.apply(v, x, method="encode"), variables)
    assert h.shape == (2, 3, 5, latent)
    assert jax.eval_shape(lambda v: module.apply(v, x), variables).shape == (2, 24, 40)
    y = jax.eval_shape(lambda v: module.apply(v, jnp.zeros(h.shape), method="decode"), variables)
    assert y.shape == (2, 24, 40)


def test_one_normalisation_a_layer_and_none_near_the_image():
    stats = shapes(16)["batch_stats"]
    found = sorted(leaf.shape[0] for leaf in jax.tree.leaves(stats))
    assert found == sorted(2 * [64, 128, 256, 16, 256, 128])
    decoder = shapes(16)["params"]["decoder"]
    biased = [name for name, leaf in decoder.items() if "bias" in leaf and "scale" not in leaf]
    assert len(biased) == 1
    assert decoder[biased[0]]["bias"].shape == (64,)


def test_the_call_is_decode_after_encode(model):
    _, variables, apply = model
    x = images(2, 96, 96)
    h = apply(variables, x, method="encode")
    np.testing.assert_allclose(apply(variables, h, method="decode"), apply(variables, x), atol=1e-6)


def test_latents_are_never_negative_and_not_all_zero(model):
    _, variables, apply = model
    h = np.asarray(apply(variables, images(2, 96, 96), method="encode"))
    assert h.min() == 0  # a ReLU that cuts
    assert h.max() > 0


def test_the_image_is_not_activated(model):
    """No activation after the last layer: with its kernel's sign turned the image turns sign."""
    _, variables, apply = model
    x = images(2, 96, 96)
    turned = jax.tree.map_with_path(
        lambda path, leaf: -leaf if "ToImage" in str(path) else leaf, variables
    )
    y = apply(variables, x)
    assert np.abs(y).max() > 1e-3
    np.testing.assert_allclose(apply(turned, x), -y, atol=1e-6)


def test_receptive_field_is_what_is_claimed(model):
    """All weights positive, so that no dependence cancels: exactly REACH_PX, no pixel more."""
    module, variables, _ = model
    positive = jax.tree.map(lambda leaf: jnp.abs(leaf) + 0.01, variables)
    side, reach = 96, 0
    sensitive = jax.jit(jax.grad(lambda x, row: module.apply(positive, x)[0, row, 44]))
    for row in range(40, 48):  # every place within a latent cell
        sensitivity = sensitive(images(1, side, side), row)[0]
        seen = np.nonzero(np.asarray(sensitivity).any(1))[0]
        reach = max(reach, row - seen.min(), seen.max() - row)
        columns = np.nonzero(np.asarray(sensitivity).any(0))[0]
        assert max(44 - columns.min(), columns.max() - 44) <= REACH_PX
    assert reach == REACH_PX == 23


def test_a_perturbed_pixel_changes_nothing_beyond_the_reach(model):
    _, variables, apply = model
    x = images(2, 96, 96)
    moved = np.array(x)
    moved[0, 50, 45] += 3
    change = np.abs(apply(variables, moved) - apply(variables, x))
    assert not change[1].any()  # nor in another image
    change = change[0]
    rows, columns = np.nonzero(change > 0)
    assert len(rows)
    assert max(np.abs(rows - 50).max(), np.abs(columns - 45).max()) <= REACH_PX


def test_shifts_by_eight_pixels_shift_the_output(model):
    _, variables, apply = model
    x = images(2, 96, 96)
    y = np.asarray(apply(variables, x))[0]
    moved = np.asarray(apply(variables, np.roll(x, (STRIDE, -2 * STRIDE), (1, 2))))[0]
    inner = slice(40, 56)
    np.testing.assert_allclose(
        np.roll(moved, (-STRIDE, 2 * STRIDE), (0, 1))[inner, inner], y[inner, inner], atol=1e-5
    )
    shifted = np.asarray(apply(variables, np.roll(x, 1, 1)))[0]
    assert np.abs(np.roll(shifted, -1, 0)[inner, inner] - y[inner, inner]).max() > 1e-3


def test_inference_ignores_batch_mates_and_keeps_statistics(model):
    _, variables, apply = model
    x = images(2, 96, 96)
    mates = np.stack([x[0], 100 * x[1]])
    np.testing.assert_allclose(apply(variables, x)[0], apply(variables, mates)[0], atol=1e-6)
    new = apply(variables, x, mutable=("batch_stats",))[1]["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, new, variables["batch_stats"])


def test_training_uses_the_batch_and_moves_every_statistic(model):
    _, variables, apply = model
    x = images(2, 96, 96)
    y, new = apply(variables, x, train=True, mutable=("batch_stats",))
    assert np.abs(y - apply(variables, x)).max() > 1e-3
    jax.tree.map(
        lambda a, b: np.testing.assert_array_less(0, np.abs(a - b).max()),
        dict(new["batch_stats"]),
        variables["batch_stats"],
    )


@pytest.mark.parametrize("shape", [(1, 12, 16), (1, 16, 12), (1, 1, 1)])
def test_sides_that_are_no_multiple_of_eight_are_refused(model, shape):
    module, variables, _ = model
    with pytest.raises(ValueError, match=f"{shape[1]}x{shape[2]} px: sides must be multiples of 8"):
        module.apply(variables, jnp.zeros(shape))


def test_bfloat16_keeps_weights_statistics_and_images_in_float32(model):
    module, variables, _ = model
    x = jnp.asarray(images(2, 32, 32))

    def step(module):
        def loss(params):
            y, new = module.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return jnp.mean((y - x) ** 2), (y, new)

        (mse, (y, new)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(
            variables["params"]
        )
        assert {leaf.dtype for leaf in jax.tree.leaves((mse, y, new, grads))} == {jnp.dtype("f4")}
        latent = jax.jit(lambda x: module.apply(variables, x, method="encode"))(x)
        assert latent.dtype == jnp.float32
        return float(mse), np.asarray(y), np.asarray(latent)

    exact, rounded = step(module), step(module.clone(dtype=jnp.bfloat16))
    # 8 bits of mantissa: a rounding of 2^-9 a layer
    assert exact[0] == pytest.approx(rounded[0], rel=0.02)
    for full, short in zip(exact[1:], rounded[1:], strict=True):
        difference = np.abs(full - short).max() / np.abs(full).max()
        assert 1e-4 < difference < 0.05

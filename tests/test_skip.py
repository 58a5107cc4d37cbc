"""The network with skip connections: its laws, its reach, and its way through the tool."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd import checkpoint, zoo
from emd.models import skip
from emd.models.skip import Skip
from emd.restore import denoise
from emd.restorer import Restorer

SIDE = 48


@pytest.fixture(scope="module")
def model():
    """A narrow one with weights that all matter: the last layer starts at 0."""
    module = Skip(4)
    config = zoo.find("stem_skip48_clean")

    def stir(leaf):
        return leaf + 0.05 * jax.random.normal(jax.random.key(leaf.size), leaf.shape)

    @jax.jit
    def stirred(key):
        return jax.tree.map(stir, module.init(key, jnp.ones((1, 16, 16))))

    return checkpoint.Model(config, module, stirred(jax.random.key(0)), {})


def counts(shape, seed=0):
    return np.random.default_rng(seed).poisson(9.0, shape).astype(np.float32)


def test_is_the_identity_before_training():
    module, x = Skip(4), jnp.asarray(counts((2, SIDE, SIDE)))
    variables = jax.jit(module.init)(jax.random.key(0), x)
    np.testing.assert_array_equal(jax.jit(module.apply)(variables, x), x)


def test_maps_and_pixels_are_each_other_s_inverse():
    x = jax.random.normal(jax.random.key(1), (2, 12, 8, 3))
    maps = skip.to_maps(x, 4)
    assert maps.shape == (2, 3, 2, 48)
    np.testing.assert_array_equal(maps[1, 2, 1].reshape(4, 4, 3), x[1, 8:12, 4:8])
    np.testing.assert_array_equal(skip.to_pixels(maps, 4), x)


def test_is_homogeneous_about_the_mean(model):
    x = jnp.asarray(counts((1, SIDE, SIDE))) / 9
    apply = jax.jit(model.module.apply)
    once = apply(model.variables, x)
    thrice = apply(model.variables, 3 * (x - 1) + 1)
    np.testing.assert_allclose(thrice - 1, 3 * (once - 1), atol=1e-4)


def test_depends_on_no_pixel_beyond_its_reach():
    module = Skip(2)
    variables = jax.jit(module.init)(jax.random.key(0), jnp.ones((1, 16, 16)))
    # positive weights and inputs: nothing cancels, no ReLU cuts off
    positive = jax.tree.map(lambda leaf: jnp.abs(leaf) + 0.1, variables)
    side = 2 * 144 + 16
    slopes = jax.jit(jax.grad(lambda x, row: module.apply(positive, x)[0, row, 150]))
    reaches = []
    for row in range(144, 160):
        slope = np.asarray(slopes(jnp.full((1, side, side), 2.0), row))[0]
        rows = np.flatnonzero(np.abs(slope).max(1))
        reaches += [row - rows.min(), rows.max() - row]
    assert max(reaches) == skip.REACH_PX
    last_of_cell = skip.REACH_PX - (Skip.cell_px - 1)
    assert last_of_cell <= Skip.halo_px


def test_refuses_sides_that_are_no_multiples():
    with pytest.raises(ValueError, match="48x40 px: sides must be multiples of 16"):
        Skip(4).init(jax.random.key(0), jnp.ones((1, 48, 40)))


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (150, 333)])
def test_tiles_equal_the_whole_image(model, shape):
    image = counts(shape)
    whole = denoise(image, model)
    assert whole.shape == shape
    np.testing.assert_allclose(denoise(image, model, tile_px=32), whole, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "tile_px"),
    [((48, 64), None), ((41, 90), None), ((5, 20), None), ((600, 330), 128)],
    ids=["whole cells", "filled up", "narrower than a cell", "tiles"],
)
def test_borders_are_those_that_it_learnt(model, shape, tile_px):
    """Nothing lies beyond: the image goes in as a training crop did, filled up at its end."""
    image = counts(shape).astype(np.float64)
    low, mean = image.min(), image.mean() - image.min()
    filled = np.pad((image - low) / mean, [(0, -side % 16) for side in shape], "symmetric")
    y = jax.jit(model.module.apply)(model.variables, jnp.asarray(filled, jnp.float32)[None])
    y = np.asarray(y)[0]
    due = low + mean * y[: shape[0], : shape[1]].astype(np.float64)
    due += image.mean() - due.mean()
    np.testing.assert_allclose(denoise(image, model, tile_px=tile_px), due, atol=1e-3)


def test_counts_in_counts_out(model):
    image = counts((70, 90))
    restored = denoise(image, model)
    assert np.abs(restored - image).max() > 0.1
    np.testing.assert_allclose(denoise(5 * image - 20, model), 5 * restored - 20, atol=2e-3)
    np.testing.assert_allclose(restored.mean(), image.mean(), rtol=1e-5)
    np.testing.assert_array_equal(denoise(np.full((40, 40), 7.0, np.float32), model), 7.0)


def test_traced_and_lazy_equal_the_tool(model):
    da = pytest.importorskip("dask.array")
    image = counts((300, 90))
    restored, restorer = denoise(image, model), Restorer(model)
    assert restorer.reach_px == skip.REACH_PX
    assert "skip connections" in repr(restorer)
    np.testing.assert_allclose(restorer(jnp.asarray(image)), restored, atol=1e-4)
    lazy = restorer(da.from_array(image, chunks=(150, 90)))
    np.testing.assert_allclose(lazy.compute(), restored, atol=1e-4)

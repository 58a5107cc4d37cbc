"""Kernels and MLPs against a plain NumPy loop, their symmetry and their folded forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd.models import folded as folded_forms
from emd.models import pixelwise, symmetry
from emd.models.pixelwise import MLP, Kernel

MODULES = [
    Kernel(3),
    Kernel(15),
    MLP(7, 1),
    MLP(5, 1, equivariant=True),
    MLP(5, 2),
    MLP(3, 2, equivariant=True),
]


def _variables(module, seed=0):
    """Parameters away from their symmetric start, with biases that matter."""
    key = jax.random.key(seed)
    params = module.init(key, jnp.zeros((1, 15, 15)))["params"]
    leaves, tree = jax.tree.flatten(params)
    noise = [
        0.3 * jax.random.normal(jax.random.fold_in(key, i), x.shape) for i, x in enumerate(leaves)
    ]
    return {"params": jax.tree.unflatten(tree, [x + n for x, n in zip(leaves, noise, strict=True)])}


def _image(*shape, seed=1):
    return jax.random.uniform(jax.random.key(seed), shape, minval=0.0, maxval=3.0)


def _tie(free, width):
    """The free weights laid out over the window, place by place."""
    half = width // 2
    out = np.empty((width, width))
    for row in range(width):
        for column in range(width):
            near, far = sorted((abs(row - half), abs(column - half)))
            out[row, column] = free[sum(range(far + 1)) + near]
    return out.reshape(-1)


def _connections(params, width):
    if params["connections"].ndim == 3:
        return params["connections"]
    return params["connections"][:, symmetry.pair_orbits(width)]


def _oracle(params, width, image):
    """The network of the paper's figure 3, one window at a time, in float64."""
    params = {name: np.asarray(leaf, np.float64) for name, leaf in params.items()}
    weights = np.atleast_2d(params["weights"])
    out = np.empty((image.shape[0] - width + 1, image.shape[1] - width + 1))
    for row, column in np.ndindex(out.shape):
        nodes = np.float64(image[row : row + width, column : column + width]).reshape(-1)
        nodes = nodes * _tie(weights[0], width)
        for layer in range(len(weights) - 1):
            nodes = 1 / (1 + np.exp(-(nodes + _tie(params["biases"][layer], width))))
            nodes = nodes @ _connections(params, width)[layer]
            nodes = nodes * _tie(weights[layer + 1], width)
        out[row, column] = nodes.sum()
    return out


def _name(module):
    return f"{type(module).__name__}{module.width}-{getattr(module, 'hidden', 0)}"


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_equals_the_plain_network(module):
    variables, x = _variables(module), _image(2, 19, 23)
    got = module.apply(variables, x)
    expected = np.stack([_oracle(variables["params"], module.width, im) for im in np.asarray(x)])
    assert got.shape == (2, 20 - module.width, 24 - module.width)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_folded_equals_the_plain_module(module):
    variables, x = _variables(module), _image(1, 41, 37)
    folded = pixelwise.fold(module, variables["params"])
    expected = module.apply(variables, x)[0]
    got = pixelwise.apply_folded(folded, x[0])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * jnp.abs(expected).max())


@pytest.mark.parametrize("module", [Kernel(5), MLP(3, 1), MLP(5, 2)], ids=_name)
@pytest.mark.parametrize("height", [6, 31])
def test_strips_join_to_the_whole(module, height, monkeypatch):
    variables, x = _variables(module), _image(2, height, 9)
    folded = pixelwise.fold(module, variables["params"])
    whole, fast = module.apply(variables, x), pixelwise.apply_folded(folded, x[0])
    monkeypatch.setattr(pixelwise, "_GATHER_LIMIT", 7 * 9 * module.width**2)
    monkeypatch.setattr(folded_forms, "_strip_rows", lambda *_, **__: 7)
    jax.clear_caches()
    np.testing.assert_allclose(module.apply(variables, x), whole, rtol=1e-6)
    np.testing.assert_allclose(pixelwise.apply_folded(folded, x[0]), fast, rtol=1e-6)
    jax.clear_caches()


@pytest.mark.parametrize("width", symmetry.WIDTHS)
def test_orbits_are_the_eight_symmetries(width):
    numbers, half = symmetry.orbits(width), width // 2
    np.testing.assert_array_equal(numbers, np.rot90(numbers))
    np.testing.assert_array_equal(numbers, numbers.T)
    assert sorted(set(numbers.reshape(-1))) == list(range((half + 1) * (half + 2) // 2))
    np.testing.assert_array_equal(
        numbers[1:-1, 1:-1], symmetry.orbits(width - 2) if half > 1 else 0
    )


@pytest.mark.parametrize("width", [3, 5, 7])
def test_pair_orbits_are_as_few_as_burnside_counts(width):
    # A symmetry fixes (its fixed places)^2 pairs: all; the centre (3 turns); a line (4 mirrors).
    expected = (width**4 + 3 * 1 + 4 * width**2) // 8
    assert symmetry.pair_orbits(width).max() + 1 == expected


def _turned(x):
    for image in (x, x.swapaxes(-1, -2)):
        for turns in range(4):
            yield jnp.rot90(image, turns, axes=(-2, -1))


@pytest.mark.parametrize(
    "module", [m for m in MODULES if getattr(m, "equivariant", True)], ids=_name
)
def test_turned_input_gives_turned_output(module):
    variables, x = _variables(module), _image(1, 18, 18)
    expected = module.apply(variables, x)
    turned = module.apply(variables, jnp.concatenate(list(_turned(x))))
    for got, wanted in zip(turned, _turned(expected[0]), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-5)


def test_an_untied_connection_is_not_equivariant():
    variables, x = _variables(MLP(3, 1)), _image(1, 18, 18)
    upside = MLP(3, 1).apply(variables, x[:, ::-1])[:, ::-1]
    assert jnp.abs(upside - MLP(3, 1).apply(variables, x)).max() > 0.01


def test_kernel_starts_as_the_mean_of_its_window():
    params = Kernel(7).init(jax.random.key(0), jnp.zeros((1, 7, 7)))["params"]
    np.testing.assert_allclose(pixelwise.kernel_matrix(params), np.full((7, 7), 1 / 49), rtol=1e-6)


@pytest.mark.parametrize("equivariant", [False, True])
def test_mlp_starts_with_xavier_connections_and_zero_biases(equivariant):
    module = MLP(7, 2, equivariant=equivariant)
    params = module.init(jax.random.key(0), jnp.zeros((1, 7, 7)))["params"]
    assert params["weights"].shape == (3, 10)
    assert params["biases"].shape == (2, 10)
    np.testing.assert_array_equal(params["biases"], 0)
    np.testing.assert_allclose(params["weights"], 1 / 49, rtol=1e-6)
    connections = _connections(params, 7)
    assert connections.shape == (2, 49, 49)
    assert float(jnp.abs(connections).max()) <= (6 / 98) ** 0.5
    np.testing.assert_allclose(connections.var(), 2 / 98, rtol=0.1)


@pytest.mark.parametrize("width", [3, 7])
def test_windows_are_numpys(width):
    x = np.random.default_rng(0).random((2, 9, 8)).astype(np.float32)
    views = np.lib.stride_tricks.sliding_window_view(x, (width, width), (1, 2))
    expected = views.reshape(*views.shape[:3], width**2)
    np.testing.assert_array_equal(pixelwise.gather_windows(jnp.asarray(x), width), expected)


@pytest.mark.parametrize("width", [-3, 0, 1, 4, 17])
def test_bad_width_is_an_error(width):
    with pytest.raises(ValueError, match="odd number from 3 to 15"):
        Kernel(width)
    with pytest.raises(ValueError, match="odd number from 3 to 15"):
        MLP(width, 1)


def test_bad_hidden_or_foreign_parameters_are_errors():
    with pytest.raises(ValueError, match="hidden is 3"):
        MLP(3, 3)
    params = _variables(MLP(3, 1))["params"]
    with pytest.raises(ValueError, match="width 3 with 1 hidden"):
        pixelwise.fold(MLP(5, 1), params)
    with pytest.raises(ValueError, match="give a kernel's"):
        pixelwise.kernel_matrix(params)
    with pytest.raises(ValueError, match="4 tied weights"):
        pixelwise.kernel_matrix({"weights": jnp.zeros(4)})

"""Figs. 1 and 3: what tracing a module finds, and that what is drawn is what the module does."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd import zoo
from emd.models.autoencoder import Autoencoder
from emd.models.layers import SeparableConv, Upsample
from emd.models.pixelwise import MLP, Kernel
from emd.models.symmetry import orbits
from experiments.figures import architecture, layers, style

pytest.importorskip("matplotlib")


def texts(figure):
    """All text of a figure, line breaks as spaces."""
    found = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    return [" ".join(text.get_text().split()) for text in found]


class Other(nn.Module):
    """Half of an autoencoder, with other activations."""

    @nn.compact
    def __call__(self, x):
        y = nn.sigmoid(SeparableConv(12, 4)(x[..., None]))
        return nn.tanh(Upsample(5, use_bias=True)(y))


@pytest.mark.parametrize("depth", [2, 16])
def test_the_autoencoder_is_that_of_the_paper(depth):
    traced = layers.trace(Autoencoder(depth), (1, 160, 160))
    groups = layers.stages(traced)
    assert [group.after for group in groups] == [
        (80, 80, 64), (40, 40, 128), (20, 20, 256), (20, 20, depth),
        (40, 40, 256), (80, 80, 128), (160, 160, 64), (160, 160),
    ]  # fmt: skip
    down, up = ["SeparableConv", "BatchNorm", "relu"], ["Upsample", "BatchNorm", "relu"]
    kinds = [[layer.kind for layer in group.layers] for group in groups]
    assert kinds == [down] * 4 + [up] * 2 + [["Upsample", "relu"], ["ToImage"]]
    sizes = sum(int(np.prod(shape)) for layer in traced for shape in layer.params.values())
    assert sizes == layers.count_params(Autoencoder(depth), (1, 160, 160))


def test_another_module_gives_other_layers():
    traced = layers.trace(Other(), (1, 16, 16))
    assert [layer.kind for layer in traced] == ["SeparableConv", "sigmoid", "Upsample", "tanh"]
    assert [layer.after for layer in traced] == [(4, 4, 12)] * 2 + [(8, 8, 5)] * 2
    labels = [architecture.stage_label(group) for group in layers.stages(traced)]
    assert [" ".join(label.split()) for label in labels] == [
        f"separable conv. 3{style.TIMES}3 stride 4 sigmoid",
        f"transposed conv. 3{style.TIMES}3 stride 2 + bias tanh",
    ]


def test_fig1_follows_the_module(monkeypatch):
    before = texts(architecture.fig1())
    times = style.TIMES
    assert f"20{times}20 {times}d" in before
    assert f"80{times}80 {times}64" in before
    assert any("457,001 trained numbers" in text for text in before)

    class Wider(nn.Module):
        depth: int

        def setup(self):
            self.encoder = Narrow(self.depth)
            self.decoder = Wide()

        def __call__(self, x):
            return self.decoder(self.encoder(x))

    class Narrow(nn.Module):
        depth: int

        @nn.compact
        def __call__(self, x):
            return SeparableConv(self.depth, 8)(x[..., None])

    class Wide(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.relu(Upsample(77)(x))[..., 0]

    monkeypatch.setattr(zoo, "make_module", lambda config: Wider(config.size))
    after = texts(architecture.fig1())
    assert f"40{times}40 {times}77" in after
    assert f"80{times}80 {times}64" not in after


def stepwise(steps, params, window):
    """What a list of steps makes of one window, in plain NumPy."""
    width = len(window)
    numbers = orbits(width).ravel()
    weights = iter(np.atleast_2d(params["weights"]))
    biases, connections = iter(params.get("biases", ())), iter(params.get("connections", ()))
    x = window.ravel()
    for step in steps:
        if step == "weights":
            x = x * next(weights)[numbers]
        elif step == "biases":
            x = x + next(biases)[numbers]
        elif step == "sigmoid":
            x = 1 / (1 + np.exp(-x))
        elif step == "connections":
            x = x @ next(connections)
        else:
            assert step == "sum"
            x = x.sum()
    return x


@pytest.mark.parametrize("module", [Kernel(3), MLP(3, 1), MLP(5, 2)], ids=str)
def test_the_steps_drawn_are_what_the_module_does(key, module):
    """Order, number and kind of the steps: evaluated one by one they give the module's output."""
    width = module.width
    shapes = layers.variables(module, (1, width, width))
    draws = np.random.default_rng(0)
    params = jax.tree.map(lambda s: jnp.asarray(draws.normal(size=s.shape), jnp.float32), shapes)[
        "params"
    ]
    traced = layers.trace(module, (1, width, width))
    steps = layers.steps(traced[0].params, [layer.kind for layer in traced if not layer.params])
    window = draws.uniform(size=(width, width)).astype(np.float32)
    expected = module.apply({"params": params}, jnp.asarray(window)[None])
    params = jax.tree.map(np.asarray, params)
    np.testing.assert_allclose(stepwise(steps, params, window), expected.item(), rtol=1e-4)


def test_steps_that_do_not_fit_one_another_are_refused():
    shapes = {"weights": (3, 6), "biases": (2, 6), "connections": (2, 25, 25)}
    assert layers.steps(shapes, ["sigmoid", "tanh"])[-4:] == [
        "tanh",
        "connections",
        "weights",
        "sum",
    ]
    with pytest.raises(ValueError, match="3 rows of weights with"):
        layers.steps(shapes, ["sigmoid"])


def test_fig3_gives_sizes_in_terms_of_the_width():
    chain = [text for _, text in architecture.student_chain("mlp2")]
    assert chain.count("fully connected: w² to w² nodes") == 2
    assert chain.count("+ biases: w², of them k free") == chain.count("sigmoid") == 2
    assert architecture.trained_numbers("kernel") == {3: 3, 5: 6, 7: 10, 11: 21, 15: 36}
    assert architecture.in_terms_of_width({3: 9, 5: 25}) == "w²"
    assert architecture.in_terms_of_width({3: 3, 5: 6}) == "k"
    assert architecture.in_terms_of_width({3: 3, 5: 7}) == "3/7"
    drawn = texts(architecture.fig3())
    assert drawn.count("sigmoid") == 3
    assert any("3, 6, 10, 21, 36" in text for text in drawn)

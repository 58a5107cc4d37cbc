"""Trained beside published kernels, and latent maps: what is drawn equals plain NumPy."""

import numpy as np
import pytest
from scipy import special

from emd import checkpoint, zoo
from experiments.figures import kernels, latents, micrographs, style

pytest.importorskip("matplotlib")

FREQUENCIES = np.linspace(0, 0.5, 26)


def texts(figure):
    return [text.get_text() for text in figure.texts] + [
        text.get_text() for axes in figure.axes for text in axes.texts
    ]


def save_kernel(root, name, weights):
    config = zoo.find(name)
    variables = {"params": {"weights": np.asarray(weights, np.float32)}}
    model = checkpoint.Model(config, zoo.make_module(config), variables, {})
    checkpoint.save(model, root, text="made by a test")


@pytest.mark.parametrize("width", [3, 7, 15])
def test_the_radial_response_is_a_sum_of_bessel_functions(width):
    """The mean of cos(2 pi f r cos(angle)) over all angles is J0(2 pi f r)."""
    kernel = np.random.default_rng(width).normal(size=(width, width))
    places = np.arange(width) - width // 2
    radius = np.hypot(places[:, None], places[None, :])
    expected = [(kernel * special.j0(2 * np.pi * f * radius)).sum() for f in FREQUENCIES]
    got = kernels.radial_response(kernel, FREQUENCIES)
    np.testing.assert_allclose(got, expected, atol=1e-9)
    assert got[0] == pytest.approx(kernel.sum())


def test_correlation_and_difference():
    draws = np.random.default_rng(0)
    one, other = draws.normal(size=(2, 5, 5))
    a, b = one - one.mean(), other - other.mean()
    expected = (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())
    assert kernels.correlation(one, other) == pytest.approx(expected)
    assert kernels.correlation(one, 3 - 2 * one) == pytest.approx(-1)
    assert kernels.difference(1.25 * one, one) == pytest.approx(0.25)


def test_kernels_are_drawn_beside_the_published_and_missing_ones_named(tmp_path):
    weights = np.array([0.3, 0.1, 0.05])
    save_kernel(tmp_path, "stem_kernel_w3", weights)
    found = kernels.pairs(str(tmp_path))
    assert [pair.config.name for pair in found if pair.trained is not None] == ["stem_kernel_w3"]
    assert sum(pair.printed is not None for pair in found) == 12
    figure = kernels.draw(found)
    trained = np.array([[0.05, 0.1, 0.05], [0.1, 0.3, 0.1], [0.05, 0.1, 0.05]])
    printed = np.array([[0.108, 0.111, 0.108], [0.111, 0.109, 0.111], [0.108, 0.111, 0.108]])
    r = np.corrcoef(trained.ravel(), printed.ravel())[0, 1]
    assert list(kernels.agreement(found).values()) == pytest.approx([r], abs=1e-4)
    diff = 100 * np.sqrt(((trained - printed) ** 2).sum() / (printed**2).sum())
    said = texts(figure)
    assert f"r = {r:.2f}\ndiff {diff:.0f} %" in said
    assert said.count(style.NOT_TRAINED) == 14
    assert said.count("none in\nthe paper") == 3
    maps = [axes.images[0] for axes in figure.axes if axes.images]
    assert [
        image for image in maps if np.array_equal(image.get_array(), trained.astype(np.float32))
    ]
    # one symmetric scale for all
    assert len({image.get_clim() for image in maps}) == 1
    low, high = maps[0].get_clim()
    assert low == -high == pytest.approx(-0.3)
    lines = [line for axes in figure.axes for line in axes.lines if line.get_label() == "w = 3"]
    x, y = lines[1].get_data()
    np.testing.assert_allclose(y, kernels.radial_response(trained, x), atol=1e-6)


def test_latent_maps_share_a_scale_and_a_missing_model_is_named():
    draws = np.random.default_rng(1)
    example = micrographs.Example("noise", draws.uniform(size=(80, 80)).astype(np.float32), None)
    latent = draws.uniform(size=(10, 10, 16)).astype(np.float32)
    found = [latents.Shown("tem", example, latent), latents.Shown("stem", example, None)]
    figure = latents.draw(found, is_real=True)
    above, below = figure.subfigs
    maps = [axes.images[0] for axes in above.axes if axes.images and axes.get_title()]
    assert len(maps) == 16
    for i, image in enumerate(maps):
        np.testing.assert_array_equal(image.get_array(), latent[..., i])
    top = np.percentile(latent, 99.8)
    assert {image.get_clim() for image in maps} == {(0.0, float(top))}
    assert style.NOT_TRAINED in [text.get_text() for axes in below.axes for text in axes.texts]
    assert not any("simulated" in text for text in texts(figure))


def test_latents_of_models_that_are_not_there(monkeypatch, tmp_path):
    example = micrographs.Example("noise", np.ones((80, 80), np.float32), None)
    monkeypatch.setattr(micrographs, "gather", lambda domain, data_dir: [example] * 5)
    found = latents.gather(None, str(tmp_path))
    assert [(one.domain, one.latent) for one in found] == [
        ("tem", None),
        ("stem", None),
        ("temstem", None),
    ]

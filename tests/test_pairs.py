"""The pairs of a domain: what they are, that they are made once, and never stale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd import checkpoint, zoo
from emd.data import crops
from emd.training import yardsticks
from experiments import pairs, training_data


def make_source(weight_seed=0, pixel_seed=0, held_out=18):
    config = zoo.find("tem_latent16")
    module = zoo.make_module(config)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 16, 16)))
    draws = np.random.default_rng(weight_seed)
    variables = jax.tree.map(lambda x: jnp.float32(draws.uniform(0.01, 0.1, x.shape)), shapes)
    teacher = checkpoint.Model(config, module, variables, {})
    pixels = np.random.default_rng(pixel_seed).poisson(20, (2, 160, 160)).astype(np.uint16)
    images = [crops.Image(p, str(k), "tem/a", "tem") for k, p in enumerate(pixels)]
    held = np.float32(np.random.default_rng(1).random((held_out, 48, 56)) * 2)
    facts = {"data_hash": training_data.fingerprint(images)}
    data = training_data.TrainingData(images, held, held, facts)
    return pairs.Source(teacher, checkpoint.fingerprint(variables), data)


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """How often the teacher was asked; none is made before."""
    monkeypatch.setattr(pairs, "_made", {})
    asked = []
    real = pairs._restore
    monkeypatch.setattr(
        pairs, "_restore", lambda *args: (asked.append(len(args[1])), real(*args))[1]
    )
    return asked


def make(*sources, count=2, seed=0, share=0.5):
    return pairs.make(sources, count=count, seed=seed, simulated_share=share)


def test_restorations_are_the_teachers():
    source = make_source()
    ((own, held_out),) = make(source)
    assert own.noisy.shape == (2, 160, 160)
    np.testing.assert_allclose(own.noisy.mean((1, 2)), 1, rtol=1e-5)
    np.testing.assert_array_equal(held_out.noisy, source.data.held_out)
    apply = jax.jit(source.teacher.module.apply)
    for found in (own, held_out):
        expected = apply(source.teacher.variables, jnp.asarray(found.noisy))
        scale = float(np.abs(expected).max())
        np.testing.assert_allclose(found.restored, expected, atol=1e-5 * scale)
    expected = yardsticks.measure_moments(own.noisy, own.restored, 15)
    np.testing.assert_array_equal(own.moments.gram, expected.gram)


def test_pairs_are_made_once(restored):
    source = make_source()
    first, again = make(source)[0], make(make_source())[0]
    assert again is first
    assert restored == [2, 18]


def test_pairs_are_never_stale(restored):
    first = make(make_source())[0][0]
    others = [
        make(make_source(weight_seed=1)),
        make(make_source(pixel_seed=1)),
        make(make_source(held_out=3)),
        make(make_source(), count=3),
        make(make_source(), seed=1),
        make(make_source(), share=0.25),
    ]
    assert len(restored) == 2 * (1 + len(others))
    assert not np.array_equal(others[0][0][0].restored, first.restored)
    assert not np.array_equal(others[1][0][0].noisy, first.noisy)
    assert len(others[2][0][1].noisy) == 3
    assert not np.array_equal(others[4][0][0].noisy, first.noisy)


def test_only_the_last_calls_pairs_stay_in_memory(restored):
    one, other = make_source(), make_source(weight_seed=1)
    both = make(one, other)
    assert make(other)[0] is both[1]
    assert len(pairs._made) == 1
    make(one)
    assert len(restored) == 6

"""`experiments.skip`: a few batches end to end, stopped and gone on with, and refused."""

import signal

import jax
import numpy as np
import pytest

from emd import checkpoint, zoo
from emd.data import crops
from emd.restore import denoise
from emd.training import objective
from experiments import held_out, skip, training_data
from experiments.skip import Config


@pytest.fixture(scope="module", autouse=True)
def quick():
    """A narrow network, small crops and few of them; handlers put back after."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo, "_SKIP_SIZE", 3)
        patch.setattr(skip, "SIDE_PX", 32)
        patch.setattr(held_out, "CROPS", 16)
        patch.setattr(training_data, "SIMULATED_SIDE_PX", 64)
        patch.setattr(crops, "SIDE_PX", 64)
        handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        yield
        for number, handler in handlers.items():
            signal.signal(number, handler)


def tiny(workdir, **changes):
    settings = {
        "simulated_count": 12,
        "steps": 4,
        "batch_size": 2,
        "checkpoint_every": 2,
        "workdir": str(workdir),
    }
    return Config(**(settings | changes))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, quick):
    workdir = tmp_path_factory.mktemp("runs")
    return workdir, skip.run(tiny(workdir))


def load(workdir, objective="clean"):
    folder = workdir / f"stem_skip3_{objective}"
    config = zoo.ModelConfig("skip", "stem", 3, objective=objective)
    card = checkpoint.read_card(folder / "card.md")
    variables = checkpoint._read_tree(folder / "weights")
    return checkpoint.Model(config, zoo.make_module(config), variables, card)


def test_leaves_a_model_with_its_card_and_curve(trained):
    workdir, metrics = trained
    model = load(workdir)
    assert set(metrics) == {"validation_gain_db", "validation_worst_db"}
    assert model.card["objective"] == "clean"
    assert model.card["batches"] == "4"
    assert float(model.card["validation_gain_db"]) == pytest.approx(
        metrics["validation_gain_db"], rel=1e-4
    )
    curve = (workdir / "stem_skip3_clean" / "learning_curve.csv").read_text().splitlines()
    assert len(curve) == 1 + 4
    image = np.random.default_rng(0).poisson(9.0, (40, 50)).astype(np.float32)
    assert denoise(image, model).shape == image.shape


def test_a_run_cut_short_ends_with_the_same_weights(trained, tmp_path, capsys):
    assert skip.run(tiny(tmp_path, minutes=0.0)) == {}
    assert "the same command goes on" in capsys.readouterr().out
    skip.run(tiny(tmp_path))
    for one, other in zip(
        *(jax.tree.leaves(load(place).variables) for place in (trained[0], tmp_path)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_the_rate_rises_and_falls():
    rate = skip._rate(Config(steps=1000, rate=0.002))
    rates = np.array([float(rate(step)) for step in range(1000)])
    assert rates[0] == pytest.approx(0.002 / skip.WARM_UP)
    assert rates.argmax() == skip.WARM_UP - 1
    assert rates[-1] < 0.002 / 1000


def test_it_learns_of_atom_columns_alone_from_weights_that_are_there(
    trained, tmp_path, monkeypatch
):
    start = load(trained[0])
    monkeypatch.setattr(checkpoint, "load", lambda name: start)
    columns = {"objective": "columns", "data_dir": "/nowhere"}
    skip.run(tiny(tmp_path, start="mine", steps=1, rate=1e-9, **columns))
    made = load(tmp_path, "columns")
    for one, other in zip(*(jax.tree.leaves(m.variables) for m in (start, made)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)
    assert (made.card["start"], made.card["before"]) == ("mine", "4x2 stem clean")
    assert (made.card["objective"], made.card["real_sources"]) == ("columns", "none")
    text = (tmp_path / "stem_skip3_columns" / "card.md").read_text()
    assert "at home nowhere else" in text


def test_some_images_end_before_the_crop(tmp_path, monkeypatch):
    given = []

    def ending(draw, *, cell):
        given.append((draw, cell))
        return draw

    monkeypatch.setattr(objective, "ending", ending)
    monkeypatch.setattr(skip.fitting, "fit", lambda step, state, *_, **__: state)
    skip.run(tiny(tmp_path, steps=1))
    assert given == [(objective.DRAWS["clean"], 16)]


@pytest.mark.parametrize("shape", [(3, 3, 6, 20), (40, 12)])
def test_a_step_is_as_long_in_every_direction_however_small_its_gradient(shape):
    """Singular values are near the rate times the scale, as Newton and Schulz's rule makes them."""
    optimiser = skip.make_optimiser(lambda _: 0.01)
    weights = {"a": np.zeros(shape, np.float32)}
    steps = []
    for size in (1e-4, 1e-2):
        gradient = {"a": size * jax.random.normal(jax.random.key(0), shape)}
        update, _ = optimiser.update(gradient, optimiser.init(weights), weights)
        steps.append(np.asarray(update["a"]).reshape(-1, shape[-1]))
    values = np.linalg.svd(steps[1], compute_uv=False)
    due = 0.01 * 0.2 * np.sqrt(max(steps[1].shape))
    assert (values > 0.6 * due).all()
    assert (values < 1.3 * due).all()
    np.testing.assert_allclose(steps[0], steps[1], atol=0.02 * due)
    assert (np.asarray(gradient["a"]).reshape(-1, shape[-1]) * steps[1]).sum() < 0


def test_weights_of_another_family_are_refused(tmp_path):
    with pytest.raises(ValueError, match="start=tem_kernel_w3 is no stem_skip3_clean"):
        skip.run(tiny(tmp_path, start="tem_kernel_w3"))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"simulated_count": 0}, "simulated_count is 0"),
        ({"objective": "reproduce"}, "with skip connections nothing is left to learn"),
        ({"simulated_share": 1.5}, "simulated_share 1.5"),
        ({"data_dir": "/nowhere"}, "nowhere"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, fault, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=fault):
        skip.run(tiny(tmp_path, **changes))

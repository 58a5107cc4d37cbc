"""Every experiment, run small into a temporary folder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd import checkpoint, zoo
from emd.data import crops, micrograph, truths
from experiments import curves, distill, held_out, simulate, training_data


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Three micrographs of one crop each."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "tem").mkdir()
    draws = np.random.default_rng(0)
    for k in range(3):
        pixels = draws.poisson(20, (160, 160)).astype(np.uint16)
        micrograph.write(folder / "tem" / f"{k}.tif", micrograph.Micrograph(pixels))
    return folder


def save(name, root, **facts):
    """A model of that name with small random weights."""
    config = zoo.find(name)
    module = zoo.make_module(config)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 16, 16)))
    draws = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: draws.uniform(0.01, 0.1, x.shape).astype(np.float32), shapes)
    checkpoint.save(checkpoint.Model(config, module, variables, facts), root, text="")


def test_distill_makes_every_member_of_a_set(data_dir, tmp_path):
    save("tem_latent16", tmp_path / "teachers")
    config = distill.Config(
        set="tem_mlp2", data_dir=str(data_dir), simulated_share=0.0, steps=20, pairs=3,
        teachers=str(tmp_path / "teachers"), workdir=str(tmp_path / "runs"),
    )  # fmt: skip
    metrics = distill.run(config)
    assert metrics
    assert all(np.isfinite(value) for value in metrics.values())
    for member in zoo.find_set("tem_mlp2"):
        model = checkpoint.load(member.name, root=tmp_path / "runs")
        assert model.card["batches"] == "20"
        text = (tmp_path / "runs" / member.name / "learning_curve.csv").read_text()
        assert curves.parse(text)[1][:, 0].tolist() == list(range(1, 21))


def test_distill_makes_several_sets_as_each_alone(data_dir, tmp_path):
    save("tem_latent16", tmp_path / "teachers")

    def distil(names, workdir, **options):
        return distill.run(
            distill.Config(
                set=names, data_dir=str(data_dir), simulated_share=0.0, pairs=3,
                teachers=str(tmp_path / "teachers"), workdir=str(tmp_path / workdir),
                **{"steps": 20, **options},
            )
        )  # fmt: skip

    both = distil("tem_mlp2,tem_kernel", "both")
    assert list(both) == [
        f"{member.name}_validation_mse"
        for name in ("tem_mlp2", "tem_kernel")
        for member in zoo.find_set(name)
    ]
    assert both == distil("tem_mlp2", "each") | distil("tem_kernel", "each")
    # a set that was trained with others goes on by itself, and under no other settings
    assert distil("tem_kernel", "both").items() <= both.items()
    with pytest.raises(ValueError, match="another steps"):
        distil("tem_mlp2", "both", steps=21)


def test_distill_names_sets():
    assert distill.find_names("all") == list(zoo.SETS)
    assert distill.find_names("stem_mlp1,tem_kernel") == ["stem_mlp1", "tem_kernel"]
    with pytest.raises(ValueError, match="unknown set 'tem_mlp3'"):
        distill.find_names("tem_mlp1,tem_mlp3")
    with pytest.raises(ValueError, match="names a set twice"):
        distill.find_names("tem_mlp1,tem_mlp1")


def test_distill_without_a_teacher_says_what_makes_it(data_dir, tmp_path):
    config = distill.Config(
        set="stem_kernel", data_dir=str(data_dir), teachers=str(tmp_path),
        workdir=str(tmp_path / "runs"),
    )  # fmt: skip
    with pytest.raises(
        FileNotFoundError, match=r"experiments.autoencoder --dataset=stem --lat.*16"
    ):
        distill.run(config)
    assert not (tmp_path / "runs").exists()


def test_distill_from_a_missing_folder_leaves_nothing_behind(tmp_path):
    """A mistyped folder must not bind the next try."""
    save("tem_latent16", tmp_path / "teachers")
    config = distill.Config(
        set="tem_mlp2", data_dir=str(tmp_path / "none"), teachers=str(tmp_path / "teachers"),
        workdir=str(tmp_path / "runs"),
    )  # fmt: skip
    with pytest.raises(FileNotFoundError, match="no such folder"):
        distill.run(config)
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def few(monkeypatch):
    """Few truths, made by no simulator, and few crops to measure on."""

    def fake(key, dataset, *, count, side_px):
        rows, columns = np.mgrid[:160, :160]
        return [
            crops.Image(
                np.uint16(20_000 + 9000 * np.sin(rows / (3 + k)) * np.cos(columns / 5)),
                f"{domain}-{k}", f"{domain}/simulated", domain,
            )
            for domain in crops.domains_of(dataset)
            for k in range(count)
        ]  # fmt: skip

    monkeypatch.setattr(truths, "simulated", fake)
    monkeypatch.setattr(training_data, "TRUTH_COUNT", 6)
    monkeypatch.setattr(held_out, "CROPS", 16)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("objective", ["clean", "thin"])
def test_distill_without_a_teacher_learns_of_an_objective(tmp_path, objective):
    """The models have names of their own, and cards that say what they learnt and what it is worth.

    No teacher is there. Gone on with, nothing changes; nor does it under another objective.
    """

    def distil(name):
        return distill.run(
            distill.Config(
                set="tem_mlp2,tem_kernel", objective=name, steps=20, pairs=3,
                teachers=str(tmp_path / "none"), workdir=str(tmp_path / "runs"),
            )
        )  # fmt: skip

    metrics = distil(objective)
    members = [m for name in ("tem_mlp2", "tem_kernel") for m in zoo.find_set(name, objective)]
    assert list(metrics) == [f"{member.name}_validation_mse" for member in members]
    assert np.isfinite(list(metrics.values())).all()
    assert (tmp_path / "runs" / "state" / f"tem_kernel_{objective}" / "20").is_dir()
    for member in members:
        model = checkpoint.load(member.name, root=tmp_path / "runs")
        assert model.card["objective"] == objective
        assert "teacher" not in model.card
        text = (tmp_path / "runs" / member.name / "card.md").read_text()
        assert "Its MSE against the truth on held-out crops" in text
        assert f"{float(model.card['validation_gain_db']):.1f} dB in the mean" in text
        assert ("noisy micrographs alone" in text) == (objective == "thin")
        curve = (tmp_path / "runs" / member.name / "learning_curve.csv").read_text()
        assert len(curves.parse(curve)[1]) == 20
    assert distil(objective) == metrics


@pytest.mark.usefixtures("few")
def test_gains_are_decibels_of_the_squared_error_over_the_pixels_that_are_there(key):
    """Of a model that halves the noise, in the middle alone: 6 dB; of one that doubles it: -6."""
    data = training_data.prepare_truths("tem", None, 1.0, 6).held_out
    pairs = held_out.draw(data, side_px=32)
    assert pairs.seen.shape == pairs.wanted.shape == (16, 32, 32)
    jax.tree.map(np.testing.assert_array_equal, pairs, held_out.draw(data, side_px=32))
    for factor in (0.5, 2.0):
        left = pairs.wanted + factor * (pairs.seen - pairs.wanted)
        found = held_out.gains(lambda _, left=left: left[:, 3:-3, 3:-3], pairs)
        expected = -20 * np.log10(factor)
        assert found["validation_gain_db"] == pytest.approx(expected, abs=1e-3)
        assert found["validation_worst_db"] == pytest.approx(expected, abs=1e-3)
    assert "GROWS by 6.0 dB" in held_out.gain_text(found)


def test_distill_refuses_an_objective_that_there_is_not(tmp_path):
    with pytest.raises(ValueError, match="unknown objective 'best': use one of reproduce, clean"):
        distill.run(distill.Config(objective="best", workdir=str(tmp_path / "runs")))
    assert not (tmp_path / "runs").exists()


def test_simulate_writes_a_micrograph_and_its_truth(tmp_path):
    noisy, truth = tmp_path / "noisy.tif", tmp_path / "truth.tif"
    config = simulate.Config(kind="columns", output=str(noisy), truth=str(truth), side_px=64)
    metrics = simulate.run(config)
    pixels = micrograph.read(noisy).pixels
    assert pixels.dtype == np.uint16
    assert pixels.shape == micrograph.read(truth).pixels.shape == (64, 64)
    assert np.isfinite(list(metrics.values())).all()
    before = noisy.read_bytes()
    with pytest.raises(FileExistsError, match="--overwrite"):
        simulate.run(config)
    assert noisy.read_bytes() == before

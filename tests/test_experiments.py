"""Every experiment, run small into a temporary folder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd import checkpoint, zoo
from emd.data import micrograph
from experiments import curves, distill, simulate


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
        set="tem_mlp2", data_dir=str(data_dir), simulated_share=0.0, steps=2, pairs=1,
        teachers=str(tmp_path / "teachers"), workdir=str(tmp_path / "runs"),
    )  # fmt: skip
    metrics = distill.run(config)
    assert metrics
    assert all(np.isfinite(value) for value in metrics.values())
    for member in zoo.find_set("tem_mlp2"):
        model = checkpoint.load(member.name, root=tmp_path / "runs")
        assert model.card["batches"] == "2"
        text = (tmp_path / "runs" / member.name / "learning_curve.csv").read_text()
        assert curves.parse(text)[1][:, 0].tolist() == [1, 2]


def test_distill_makes_several_sets_as_each_alone(data_dir, tmp_path):
    save("tem_latent16", tmp_path / "teachers")

    def distil(names, workdir, **options):
        return distill.run(
            distill.Config(
                set=names, data_dir=str(data_dir), simulated_share=0.0, pairs=2,
                teachers=str(tmp_path / "teachers"), workdir=str(tmp_path / workdir),
                **{"steps": 3, **options},
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
        distil("tem_mlp2", "both", steps=4)


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

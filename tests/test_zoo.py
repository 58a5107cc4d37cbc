"""The models by name, against the reference's table."""

import jax
import jax.numpy as jnp
import pytest

from emd import zoo
from emd.models.autoencoder import Autoencoder
from emd.models.pixelwise import MLP, Kernel
from emd.models.skip import Skip

# Source: the paper's tables 1 and 2; stem_mlp2 is ours (the paper leaves it empty).
PAPER = {
    "tem_latent": (1, 4, 16, 64),
    "stem_latent": (4, 16, 64),
    "temstem_latent": (1, 2, 4, 8, 16, 32, 64),
    "tem_kernel_w": (3, 5, 7, 11, 15),
    "stem_kernel_w": (3, 5, 7, 11, 15),
    "temstem_kernel_w": (3, 5, 7, 11, 15),
    "tem_mlp1_w": (3, 5, 7),
    "stem_mlp1_w": (3, 5, 7),
    "temstem_mlp1_w": (3, 5, 7, 11),
    "tem_mlp2_w": (5, 7),
    "stem_mlp2_w": (5, 7),
    "temstem_mlp2_w": (3, 7),
}
NAMES = {f"{stem}{size}" for stem, sizes in PAPER.items() for size in sizes}
PUBLISHED = {
    f"{d}_kernel_w{w}_published" for d in ("tem", "stem", "temstem") for w in (3, 5, 7, 11)
}
CLEAN = {
    "tem_skip48_clean",
    "stem_skip48_clean",
    "stem_skip48_columns",
    "stem_skip48_benchmark",
    "stem_latent64_clean",
    "tem_kernel_w7_clean",
    "tem_mlp1_w7_clean",
}


def test_all_models_and_no_others():
    assert (len(NAMES), len(PUBLISHED), len(CLEAN)) == (45, 12, 7)
    assert set(zoo.MODELS) == NAMES | PUBLISHED | CLEAN
    assert {config.name for config in zoo.CLEAN_MODELS} == CLEAN
    assert {config.name for config in zoo.PAPER_MODELS} == NAMES
    assert len(zoo.PAPER_MODELS) == 45


def test_nine_sets_hold_every_kernel_and_mlp_once():
    expected = {
        stem.removesuffix("_w"): [f"{stem}{size}" for size in sizes]
        for stem, sizes in PAPER.items()
        if "latent" not in stem
    }
    assert len(expected) == 9
    assert {n: [c.name for c in members] for n, members in zoo.SETS.items()} == expected
    assert all(config.set_name == name for name, s in zoo.SETS.items() for config in s)


@pytest.mark.parametrize("name", sorted(NAMES | PUBLISHED))
def test_a_name_finds_its_own_model(name):
    config = zoo.find(name)
    assert config.name == name
    assert config.published == name.endswith("_published")
    module = zoo.make_module(config)
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 16, 16)))
    if "latent" in name:
        assert isinstance(module, Autoencoder)
        assert module.latent == config.size
        assert set(variables) == {"params", "batch_stats"}
        return
    assert module.width == config.size
    assert set(variables) == {"params"}
    if "kernel" in name:
        assert isinstance(module, Kernel)
    else:
        assert isinstance(module, MLP)
        assert f"mlp{module.hidden}" in name
        assert not module.equivariant


@pytest.mark.parametrize("name", sorted(CLEAN))
def test_a_model_with_the_truth_is_of_the_papers_form(name):
    config = zoo.find(name)
    assert (config.name, config.objective) == (name, name.rpartition("_")[2])
    if "skip" in name:
        assert isinstance(zoo.make_module(config), Skip)
    else:
        assert zoo.make_module(config) == zoo.make_module(zoo.find(name.removesuffix("_clean")))


@pytest.mark.parametrize("objective", zoo.OBJECTIVES)
def test_a_set_is_the_same_under_every_objective(objective):
    suffix = "" if objective == "reproduce" else f"_{objective}"
    members = zoo.find_set("stem_mlp1", objective)
    assert [m.name for m in members] == [f"{m.name}{suffix}" for m in zoo.SETS["stem_mlp1"]]
    assert all(zoo.find(member.name) == member for member in members)
    found = zoo.find_autoencoder("stem", 2, objective)
    assert zoo.find(f"stem_latent2{suffix}") == found


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("tem_latent2", "autoencoder --dataset=tem --latent=2"),
        ("stem_latent64_clean", "autoencoder --dataset=stem --latent=64 --objective=clean"),
        ("tem_kernel_w5_thin", "distill --set=tem_kernel --objective=thin"),
        ("stem_skip48_columns", "skip --dataset=stem --objective=columns"),
        ("stem_skip48_benchmark", "skip --dataset=stem --objective=benchmark"),
    ],
)
def test_the_command_that_makes_a_model(name, command):
    assert zoo.training_command(zoo.find(name)) == f"python -m experiments.{command}"


@pytest.mark.parametrize("set_name", sorted(zoo.SETS))
def test_teachers_are_16_deep_and_of_the_same_domain(set_name):
    teacher = zoo.teacher_of(set_name)
    assert teacher == f"{set_name.split('_')[0]}_latent16"
    assert teacher in zoo.MODELS


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: zoo.find("tem_latent3"), r"'tem_latent3': use one of tem_latent1, .*_published"),
        (lambda: zoo.find_set("tem_mlp3"), r"'tem_mlp3': use one of tem_kernel, .*temstem_mlp2"),
        (lambda: zoo.teacher_of("all"), r"'all': use one of tem_kernel"),
        (lambda: zoo.find_autoencoder("xray", 4), r"'xray': use one of tem, stem, temstem"),
        (lambda: zoo.find_autoencoder("tem", 3), r"depth 3: use one of 1, 2, 4, 8, 16, 32, 64"),
        (
            lambda: zoo.find_autoencoder("tem", 4, "x"),
            r"'x': use one of reproduce, clean, thin, columns",
        ),
        (lambda: zoo.find_set("tem_mlp1", "x"), r"'x': use one of reproduce, clean, thin, columns"),
        (lambda: zoo.find_skip("tem", "x"), r"'x': use one of reproduce, clean, thin, columns"),
        (
            lambda: zoo.find_skip("tem", "columns"),
            r"'columns' has no tem micrographs: it is of stem",
        ),
        (lambda: zoo.find_set("temstem_mlp1", "columns"), r"'columns' has no temstem micrographs"),
        (lambda: zoo.find_skip("tem", "reproduce"), r"nothing is left to learn; use one of clean"),
        (lambda: zoo.find("tem_skip48_columns"), r"unknown model 'tem_skip48_columns'"),
    ],
)
def test_unknown_names_list_the_valid_ones(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_any_depth_of_the_paper_trains_in_any_domain():
    assert zoo.find_autoencoder("tem", 2).name == "tem_latent2"


def test_schedules_are_the_papers():
    expected = {"autoencoder": 60_000, "kernel": 10_000, "mlp1": 10_000, "mlp2": 10_000}
    assert expected == {f: n for f, n in zoo.FULL_SCHEDULE.items() if f != "skip"}

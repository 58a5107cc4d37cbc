"""Models and states on disk: whole or not at all, loadable without training code."""

import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from orbax.checkpoint import v1 as ocp

from emd import checkpoint, zoo
from emd.checkpoint import Model


def make(name="tem_kernel_w3", value=0.25, **facts):
    config = zoo.find(name)
    module = zoo.make_module(config)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 16, 16)))
    draw = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: draw.uniform(0, value, leaf.shape).astype(np.float32), shapes
    )
    return Model(config, module, variables, {"batches": "7", **facts})


def check_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


class DiskFullError(OSError):
    pass


@pytest.fixture
def full_disk(monkeypatch):
    """orbax stops half way, its temporary folder left behind."""

    def save(path, tree, **_):
        half = path.with_name(f"{path.name}.orbax-checkpoint-tmp-0")
        half.mkdir(parents=True)
        (half / "part").write_bytes(b"0" * 100)
        raise DiskFullError(28, "No space left on device")

    return lambda: monkeypatch.setattr(ocp, "save", save)


# --- models ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tem_kernel_w3", "stem_mlp2_w5", "temstem_latent1"])
def test_a_model_comes_back_as_it_was(tmp_path, name):
    model = make(name, command="python -m x --a=1: b", figure="0.5")
    folder = checkpoint.save(model, tmp_path, text="Prose: of two\n\nparagraphs.", curve="a,b\n1,2")
    assert folder == tmp_path / name
    assert {p.name for p in folder.iterdir()} == {"weights", "card.md", "learning_curve.csv"}
    assert [p.name for p in tmp_path.iterdir()] == [name]  # nothing half-made beside it
    found = checkpoint.load(name, root=tmp_path)
    assert found.config == model.config
    assert found.module == model.module
    check_equal(found.variables, model.variables)
    assert found.card == model.card
    assert (folder / "card.md").read_text().startswith(f"# {name}\n\nProse: of two")
    assert "\nbatches: 7\n" in (folder / "card.md").read_text()


def test_a_loaded_model_runs(tmp_path):
    model = make()
    checkpoint.save(model, tmp_path, text="")
    found = checkpoint.load("tem_kernel_w3", root=tmp_path)
    x = jnp.ones((1, 5, 5))
    results = [m.module.apply(jax.device_put(m.variables), x) for m in (found, model)]
    np.testing.assert_array_equal(*results)


def test_saving_again_replaces_the_model(tmp_path):
    checkpoint.save(make(value=0.1, old="yes"), tmp_path, text="", curve="x")
    new = make(value=0.2)
    checkpoint.save(new, tmp_path, text="")
    found = checkpoint.load("tem_kernel_w3", root=tmp_path)
    check_equal(found.variables, new.variables)
    assert found.card == {"batches": "7"}
    assert not (tmp_path / "tem_kernel_w3" / "learning_curve.csv").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["tem_kernel_w3"]


def test_a_full_disk_keeps_the_model_that_was_there(tmp_path, full_disk):
    old = make(value=0.1)
    checkpoint.save(old, tmp_path, text="")
    full_disk()
    with pytest.raises(OSError, match=r"(?i)no space left"):
        checkpoint.save(make(value=0.2), tmp_path, text="")
    check_equal(checkpoint.load("tem_kernel_w3", root=tmp_path).variables, old.variables)
    assert [p.name for p in tmp_path.iterdir()] == ["tem_kernel_w3"]


def test_a_failed_replacement_puts_the_old_model_back(tmp_path, monkeypatch):
    old = make(value=0.1)
    checkpoint.save(old, tmp_path, text="")
    rename = os.rename

    def fail_for_new(source, target):
        if str(target).endswith("tem_kernel_w3") and "-old" not in str(source):
            raise DiskFullError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_for_new)
    with pytest.raises(OSError, match=r"(?i)no space left"):
        checkpoint.save(make(value=0.2), tmp_path, text="")
    check_equal(checkpoint.load("tem_kernel_w3", root=tmp_path).variables, old.variables)


FACT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1)


@given(
    facts=st.dictionaries(
        FACT.filter(lambda s: ":" not in s and "`" not in s), FACT.filter(lambda s: "`" not in s)
    )
)
def test_facts_come_back_from_a_card(facts, tmp_path_factory):
    path = tmp_path_factory.mktemp("card") / "card.md"
    path.write_text(checkpoint.format_card("tem_latent1", "Prose: with a colon.", facts))
    assert checkpoint.read_card(path) == facts


def test_no_card_has_no_facts(tmp_path):
    assert checkpoint.read_card(tmp_path / "card.md") == {}


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("stem_latent4", "python -m experiments.autoencoder --dataset=stem --latent=4"),
        ("tem_mlp1_w5", "python -m experiments.distill --set=tem_mlp1"),
        ("temstem_kernel_w15", "python -m experiments.distill --set=temstem_kernel"),
    ],
)
def test_a_missing_model_names_the_command_that_makes_it(tmp_path, name, command):
    for call in (checkpoint.load, checkpoint.size_bytes):
        with pytest.raises(FileNotFoundError, match=f"model {name} is not in .*{command}"):
            call(name, root=tmp_path)


def test_an_unknown_model_lists_the_valid_ones(tmp_path):
    with pytest.raises(ValueError, match=r"unknown model 'tem'.*tem_latent1, .*temstem_mlp2_w7"):
        checkpoint.load("tem", root=tmp_path)


@pytest.mark.parametrize("damage", ["empty", "truncated"])
def test_damaged_weights_are_one_clear_line(tmp_path, damage):
    folder = checkpoint.save(make(), tmp_path, text="")
    files = [p for p in (folder / "weights").rglob("*") if p.is_file()]
    for path in files:
        if damage == "empty":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="tem_kernel_w3: its weights are damaged"):
        checkpoint.load("tem_kernel_w3", root=tmp_path)


def test_published_kernels_need_no_file(tmp_path):
    model = checkpoint.load("tem_kernel_w3_published", root=tmp_path)
    assert "1808.09916" in model.card["source"]
    assert set(checkpoint.available(root=tmp_path)) == {
        name for name in zoo.MODELS if name.endswith("published")
    }
    assert checkpoint.size_bytes("tem_kernel_w3_published", root=tmp_path) == 0


def test_what_is_there_is_available_with_its_facts_and_size(tmp_path):
    folder = checkpoint.save(make(note="x"), tmp_path, text="")
    (tmp_path / "state").mkdir()  # no model
    found = checkpoint.available(root=tmp_path)
    assert len(found) == 13
    assert found["tem_kernel_w3"] == {"batches": "7", "note": "x"}
    used = subprocess.run(
        ["find", folder / "weights", "-type", "f", "-printf", "%s\n"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert checkpoint.size_bytes("tem_kernel_w3", root=tmp_path) == sum(map(int, used.split())) > 0


def test_a_fingerprint_tells_weights_apart():
    one = {"params": {"a": np.zeros(3, np.float32)}}
    name = checkpoint.fingerprint(one)
    assert len(name) == 16
    assert int(name, 16)
    assert name == checkpoint.fingerprint({"params": {"a": jnp.zeros(3)}})
    others = [np.float32([0, 0, 1e-9]), np.zeros((3, 1), np.float32), np.zeros(3, np.int32)]
    seen = {checkpoint.fingerprint({"params": {"a": other}}) for other in others}
    seen.add(checkpoint.fingerprint({"params": {"b": one["params"]["a"]}}))
    assert len(seen | {name}) == 5


def test_loading_needs_no_training_code():
    code = (
        "import sys, emd.checkpoint as c; c.load('tem_kernel_w3_published');"
        "print([m for m in sys.modules if m.startswith(('emd.training', 'experiments', 'optax'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- training states ---------------------------------------------------------------------------


def state(value):
    return {"a": jnp.full((2, 3), value), "b": (jnp.int32(int(value)), jnp.arange(4) * value)}


def test_a_state_comes_back_and_the_last_two_stay(tmp_path):
    for step in (1, 2, 9, 10):
        checkpoint.save_state(tmp_path, state(float(step)), step)
    found, step = checkpoint.restore_state(tmp_path, state(0.0))
    assert step == 10  # by number, not by text
    check_equal(found, state(10.0))
    assert all(
        a.dtype == b.dtype
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(state(10.0)), strict=True)
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["10", "9"]


def test_more_than_ten_leaves_keep_their_order(tmp_path):
    many = [np.full(1, k) for k in range(12)]
    checkpoint.save_state(tmp_path, many, 1)
    check_equal(checkpoint.restore_state(tmp_path, many)[0], many)


def test_no_state_is_none(tmp_path):
    assert checkpoint.restore_state(tmp_path / "none", state(0.0)) is None


def test_a_state_of_another_shape_is_refused(tmp_path):
    checkpoint.save_state(tmp_path, state(1.0), 1)
    with pytest.raises(ValueError, match=r"another configuration: give another --workdir"):
        checkpoint.restore_state(tmp_path, {"a": jnp.zeros(3)})


def test_a_full_disk_keeps_the_previous_states(tmp_path, full_disk):
    checkpoint.save_state(tmp_path, state(1.0), 1)
    checkpoint.save_state(tmp_path, state(2.0), 2)
    full_disk()
    with pytest.raises(OSError, match=r"(?i)no space left"):
        checkpoint.save_state(tmp_path, state(3.0), 3)
    found, step = checkpoint.restore_state(tmp_path, state(0.0))
    assert step == 2
    check_equal(found, state(2.0))
    assert (tmp_path / "1").is_dir()


def test_what_a_killed_save_left_is_passed_over(tmp_path, full_disk, monkeypatch):
    checkpoint.save_state(tmp_path, state(1.0), 1)
    (tmp_path / "2.orbax-checkpoint-tmp-3").mkdir()
    (tmp_path / "config.json").write_text("{}")
    assert checkpoint.restore_state(tmp_path, state(0.0))[1] == 1
    checkpoint.save_state(tmp_path, state(2.0), 2)
    assert checkpoint.restore_state(tmp_path, state(0.0))[1] == 2


def test_a_name_of_the_zoo_is_no_folder_that_lies_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here, new = make(value=0.1), make(value=0.2)
    shipped = checkpoint.load("tem_kernel_w3").variables
    checkpoint.save(here, ".", text="")
    checkpoint.save(new, "new", text="")
    checkpoint.save(make("tem_kernel_w5"), ".", text="")
    check_equal(checkpoint.load("tem_kernel_w3").variables, shipped)
    check_equal(checkpoint.load("tem_kernel_w3", root="new").variables, new.variables)
    for name in ("./tem_kernel_w3", str(tmp_path / "tem_kernel_w3")):
        check_equal(checkpoint.load(name, root="new").variables, here.variables)
    with pytest.raises(FileNotFoundError, match=r"w5 is not in new: .*, or give \./tem_kernel_w5"):
        checkpoint.load("tem_kernel_w5", root="new")
    own = dataclasses.replace(here.config, label="monday")
    card = {"family": "kernel", "size": "3"}
    checkpoint.save(here._replace(config=own, card=card), ".", text="")
    for name in ("monday", "./monday"):
        check_equal(checkpoint.load(name, root="new").variables, here.variables)


def test_a_relative_folder_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = checkpoint.load("tem_kernel_w3_published")
    kernel = model._replace(config=zoo.find("tem_kernel_w3"))
    checkpoint.save(kernel, "models", text="a kernel")
    again = checkpoint.load("tem_kernel_w3", root="models")
    assert checkpoint.fingerprint(again.variables) == checkpoint.fingerprint(model.variables)

"""The training of the whole zoo: in what order, what again, and what is put on the shelf."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd import checkpoint, zoo
from experiments import autoencoder, distill, shelf
from experiments import zoo as train_zoo


def save(name, root, *, seed=0, **facts):
    """A model of that name with random weights."""
    config = zoo.find(name)
    module = zoo.make_module(config)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 16, 16)))
    draws = np.random.default_rng(seed)
    weights = jax.tree.map(lambda x: draws.uniform(0.01, 0.1, x.shape).astype(np.float32), shapes)
    given = {
        "validation_mse": "0.5", "held_out_crops": "3 real", "simulated_share": "1", **facts
    }  # fmt: skip
    checkpoint.save(checkpoint.Model(config, module, weights, given), root, text="")


@pytest.fixture
def trained(monkeypatch):
    """What was trained, by training that costs nothing; `mse` is what it reaches."""
    asked, result = [], {"mse": "0.5"}

    def train(config):
        asked.append((config.dataset, config.latent, config.simulated_share))
        name = f"{config.dataset}_latent{config.latent}"
        save(
            name, config.workdir, batches=str(config.steps), batch_size=str(config.batch_size),
            validation_mse=result["mse"],
        )  # fmt: skip
        return {}

    def distil(config):
        asked.append(config.set)
        for name in config.set.split(","):
            teacher = checkpoint.load(zoo.teacher_of(name), root=config.teachers)
            for member in zoo.find_set(name):
                save(
                    member.name, config.workdir, batches=str(config.steps), batch_size="1",
                    teacher_weights=checkpoint.fingerprint(teacher.variables),
                    validation_mse=result["mse"],
                )  # fmt: skip
        return {}

    monkeypatch.setattr(autoencoder, "run", train)
    monkeypatch.setattr(autoencoder, "compile_ahead", lambda config: None)
    monkeypatch.setattr(distill, "run", distil)
    return types.SimpleNamespace(asked=asked, result=result)


@pytest.fixture
def config(tmp_path):
    def make(only, **options):
        return train_zoo.Config(
            only=only, workdir=str(tmp_path / "runs"), checkpoints=str(tmp_path / "checkpoints"),
            **{"steps": 2, "batch_size": 4, "student_steps": 5, **options},
        )  # fmt: skip

    return make


def test_it_trains_what_is_missing_and_stops_there(trained, config, tmp_path):
    settings = config("stem_latent4,tem_latent16")
    done = {"new": 2, "models": 2, "missing_or_old": 0}
    assert train_zoo.run(settings) == done
    assert trained.asked == [("tem", 16, 0.0), ("stem", 4, 0.4)]  # the teacher first
    assert checkpoint.load("stem_latent4", root=tmp_path / "checkpoints").card["batches"] == "2"
    assert train_zoo.run(settings) == {**done, "new": 0}
    assert len(trained.asked) == 2


def test_it_distils_all_missing_sets_in_one_go(trained, config, tmp_path):
    root = tmp_path / "checkpoints"
    for domain in ("tem", "stem", "temstem"):
        save(f"{domain}_latent16", root)
    teacher = checkpoint.load("stem_latent16", root=root)
    for member in zoo.find_set("stem_mlp1"):
        weights = checkpoint.fingerprint(teacher.variables)
        save(member.name, root, batches="5", batch_size="1", teacher_weights=weights)
    found = train_zoo.run(config("tem_mlp1,stem_mlp1,stem_mlp2,temstem_mlp2"))
    assert found == {"new": 7, "models": 10, "missing_or_old": 0}
    assert trained.asked == ["tem_mlp1,stem_mlp2,temstem_mlp2"]


def test_models_of_fewer_crops_are_old_and_give_way_to_better_ones_alone(
    trained, config, tmp_path, capsys
):
    root = tmp_path / "checkpoints"
    save("tem_latent16", root, batches="2", batch_size="3", validation_mse="0.4")
    assert train_zoo.run(config("tem_latent16")) == {"new": 0, "models": 1, "missing_or_old": 1}
    assert "the old one stays, held-out MSE 0.4 against 0.5" in capsys.readouterr().out
    assert checkpoint.load("tem_latent16", root=root).card["validation_mse"] == "0.4"
    # nothing is trained twice for that
    train_zoo.run(config("tem_latent16"))
    assert len(trained.asked) == 1
    trained.result["mse"] = "0.3"
    settings = config("tem_latent16", steps=3)
    assert train_zoo.run(settings) == {"new": 1, "models": 1, "missing_or_old": 0}
    assert checkpoint.load("tem_latent16", root=root).card["validation_mse"] == "0.3"


def test_a_model_of_more_crops_is_not_trained_again(trained, config, tmp_path):
    save("tem_latent16", tmp_path / "checkpoints", batches="1", batch_size="9")
    train_zoo.run(config("tem_latent16"))
    assert trained.asked == []


def test_students_follow_their_teacher(trained, config, tmp_path):
    """Whatever their error: it is one against another teacher."""
    root = tmp_path / "checkpoints"
    save("tem_latent16", root, batches="9", batch_size="9")
    train_zoo.run(config("tem_mlp2"))
    state = tmp_path / "runs" / "state" / "tem_mlp2"
    state.mkdir(parents=True)
    (state / "config.json").write_text('{"teacher\'s weights": "of another"}')
    trained.result["mse"] = "0.9"
    save("tem_latent16", root, seed=1, batches="9", batch_size="9")
    found = train_zoo.run(config("tem_mlp2"))
    assert trained.asked == ["tem_mlp2", "tem_mlp2"]
    assert found == {"new": 2, "models": 2, "missing_or_old": 0}
    assert not state.exists()


def test_no_job_begins_out_of_minutes(trained, config):
    found = train_zoo.run(config("tem_latent16", minutes=0.0))
    assert found == {"new": 0, "models": 0, "missing_or_old": 1}
    assert trained.asked == []


def test_the_next_autoencoder_is_compiled_while_one_trains(trained, config, monkeypatch):
    ahead = []
    monkeypatch.setattr(autoencoder, "compile_ahead", lambda c: ahead.append((c.dataset, c.latent)))
    train_zoo.run(config("tem_latent16,tem_mlp2,tem_latent4,stem_latent4"))
    assert ahead == [("tem", 4), ("stem", 4)]


def test_every_model_is_known_once_teachers_before_their_sets():
    jobs = train_zoo.jobs()
    assert sorted(m.name for job in jobs for m in job.makes) == sorted(
        m.name for m in zoo.PAPER_MODELS
    )
    names = [job.name for job in jobs]
    for set_name in zoo.SETS:
        assert names.index(zoo.teacher_of(set_name)) < names.index(set_name)
    with pytest.raises(ValueError, match="unknown name 'x'"):
        train_zoo.jobs("x")


@pytest.mark.parametrize(
    ("card", "why"),
    [
        ({}, "missing"),
        ({"simulated_share": "0.5"}, "trained on simulated micrographs by 0.5"),
        ({"simulated_share": "1", "batches": "2", "batch_size": "3"}, "trained on 6 of 8 crops"),
        ({"simulated_share": "1", "batches": "2", "batch_size": "4"}, None),
    ],
)
def test_what_is_wrong_with_an_autoencoder(card, why):
    assert shelf.fault(card, shelf.Standard(8, 1.0)) == why


def test_errors_on_other_held_out_crops_do_not_compare(tmp_path):
    save("tem_latent4", tmp_path / "old", held_out_crops="2 simulated")
    save("tem_latent4", tmp_path / "new", validation_mse="0.1")
    said = shelf.promote(tmp_path / "new", tmp_path / "old", "tem_latent4")
    assert said == "tem_latent4: the old one stays, it was measured on other held-out crops"


def test_the_status_names_each_model_and_its_rival(tmp_path, capsys):
    save("tem_latent4", tmp_path, linear_code_mse="0.25", batches="3", batch_size="4")
    save("tem_latent64", tmp_path, linear_code_mse="1e-15")
    shelf.print_status([zoo.find(f"tem_latent{n}") for n in (4, 64, 1)], tmp_path)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1][:5] == ["tem_latent4", "3", "4", "0.5", "2.00"]
    assert lines[2][4] == "-"
    assert lines[3] == ["tem_latent1", "missing"]

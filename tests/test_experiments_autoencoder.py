"""`experiments.autoencoder`: two batches end to end, stopped, killed and refused."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest

from emd import checkpoint, zoo
from emd.data import crops, truths
from emd.data.micrograph import Micrograph, write
from emd.training import autoencoder as training
from experiments import autoencoder, autoencoder_card, curves, held_out, training_data
from experiments.autoencoder import Config


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "tem").mkdir()
    draws = np.random.default_rng(0)
    for k in range(3):
        smooth = np.cumsum(draws.normal(size=(168, 168)), 1)
        pixels = draws.poisson(20 + smooth - smooth.min()).astype(np.uint16)
        write(folder / "tem" / f"{k}.tif", Micrograph(pixels))
    return folder


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Few batches for the statistics, few crops for the yardstick; handlers put back after."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autoencoder, "SETTLE_BATCHES", 2)
        patch.setattr(autoencoder, "YARDSTICK_CROPS", 8)
        handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        yield
        for number, handler in handlers.items():
            signal.signal(number, handler)


def tiny(data_dir, workdir, /, **changes):
    settings = {
        "dataset": "tem",
        "latent": 1,
        "data_dir": str(data_dir),
        "simulated_share": 0.0,
        "steps": 3,
        "batch_size": 1,
        "checkpoint_every": 2,
        "workdir": str(workdir),
    }
    return Config(**(settings | changes))


@pytest.fixture(scope="module")
def straight(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("straight")
    return autoencoder.run(tiny(data_dir, workdir)), workdir


def test_what_is_compiled_ahead_is_what_runs(data_dir, tmp_path, monkeypatch):
    """The same program to the letter, so that the cache of programs has it."""
    real, programs = training.run, []

    class Noted:
        def lower(self, *given):
            programs.append(real.lower(*given).as_text())
            return types.SimpleNamespace(compile=lambda: None)

        def __call__(self, *given):
            self.lower(*given)
            raise InterruptedError

    monkeypatch.setattr(training, "run", Noted())
    autoencoder.compile_ahead(tiny(data_dir, tmp_path))
    with pytest.raises(InterruptedError):
        autoencoder.run(tiny(data_dir, tmp_path))
    assert len(programs) == 2
    assert programs[0] == programs[1]


def check_same_model(one, other):
    a, b = (checkpoint.load("tem_latent1", root=root).variables for root in (one, other))
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_run_leaves_a_model_its_card_and_its_curve(straight):
    metrics, workdir = straight
    folder = workdir / "tem_latent1"
    assert {"weights", "card.md", "learning_curve.csv"} <= {p.name for p in folder.iterdir()}
    names, rows = curves.parse((folder / "learning_curve.csv").read_text())
    assert names == ["batch", "mse", "seconds"]
    assert rows[:, 0].tolist() == [1, 2, 3]
    assert metrics["training_mse"] == pytest.approx(rows[:, 1].mean(), rel=1e-5)
    model = checkpoint.load("tem_latent1", root=workdir)
    facts = model.card
    assert (facts["batches"], facts["full_schedule"]) == ("3", "60000")
    assert facts["held_out_crops"] == "1 real"
    for name in ("command", "commit", "data_hash", "device", "versions", "date", "parameters"):
        assert facts[name]
    for name, value in metrics.items():
        assert np.isfinite(value)
        assert float(facts[name]) == pytest.approx(value, rel=1e-5)
    assert set(metrics) == {
        "validation_mse",
        "validation_mse_whole",
        "linear_code_mse",
        "linear_code_mse_whole",
        "training_mse",
    }


def test_the_card_says_plainly_how_far_and_how_well(straight):
    text = (straight[1] / "tem_latent1" / "card.md").read_text()
    for part in (
        "3 of the paper's 60000 batches",
        "a provisional model",
        "linear code",
        "\nbatches: 3\n",
    ):
        assert part in text
    metrics = {
        "validation_mse": 1.0,
        "linear_code_mse": 2.0,
        "validation_mse_whole": 3.0,
        "linear_code_mse_whole": 1.0,
    }
    model = zoo.find("stem_latent16")
    text = autoencoder_card.card_text(model, 60_000, 32, metrics)
    assert "0.50 times" in text
    assert "better than it" in text
    assert "provisional" not in text
    worse = autoencoder_card.card_text(model, 10, 32, metrics | {"linear_code_mse": 0.5})
    assert "2.00 times" in worse
    assert "WORSE than it" in worse


def test_stopped_and_gone_on_with_equals_straight_through(data_dir, straight, tmp_path, capsys):
    assert autoencoder.run(tiny(data_dir, tmp_path, minutes=0.0)) == {}
    assert "stopped at batch 1 of 3: the same command goes on" in capsys.readouterr().out
    assert not (tmp_path / "tem_latent1").exists()
    metrics = autoencoder.run(tiny(data_dir, tmp_path, checkpoint_every=100))
    assert metrics == straight[0]
    check_same_model(tmp_path, straight[1])
    rows = [
        curves.parse((w / "tem_latent1" / "learning_curve.csv").read_text())[1][:, :2]
        for w in (tmp_path, straight[1])
    ]
    np.testing.assert_array_equal(*rows)


def test_other_settings_do_not_go_on_with_a_run(data_dir, straight):
    for change in ({"seed": 1}, {"batch_size": 2}, {"steps": 4}):
        with pytest.raises(ValueError, match=f"another {next(iter(change))}.*--workdir"):
            autoencoder.run(tiny(data_dir, straight[1], **change))
    settings = json.loads((straight[1] / "state" / "tem_latent1" / "config.json").read_text())
    assert settings["seed"] == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"latent": 3}, ValueError, "unknown latent depth 3: use one of 1, 2, 4"),
        ({"objective": "best"}, ValueError, "'best': use one of reproduce, clean, thin"),
        ({"start": "tem_latent4"}, ValueError, "start=tem_latent4 is no autoencoder of latent d"),
        ({"start": "tem_kernel_w3"}, ValueError, "no autoencoder of latent depth 1: give one such"),
        ({"start": "tem_latent"}, ValueError, "unknown model 'tem_latent'"),
        ({"dataset": "xray"}, ValueError, "unknown dataset 'xray': use one of tem, stem"),
        ({"steps": 0}, ValueError, "steps is 0: give at least 1"),
        ({"batch_size": 0}, ValueError, "batch_size is 0: give at least 1"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every is 0: give at least 1"),
        ({"data_dir": "/nowhere"}, FileNotFoundError, "no such folder"),
        ({"simulated_share": 2.0}, ValueError, "fraction from 0 to 1"),
        ({"dataset": "stem"}, FileNotFoundError, "stem: no such folder"),
    ],
)
def test_bad_settings_leave_nothing_behind(data_dir, tmp_path, change, error, message):
    """A mistyped folder must not bind the next try, either."""
    workdir = tmp_path / "runs"
    with pytest.raises(error, match=message):
        autoencoder.run(tiny(data_dir, workdir, **change))
    assert not workdir.exists()


# --- other objectives --------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch):
    """Few truths, made by no simulator, and few crops to measure on."""

    def fake(key, dataset, *, count, side_px):
        rows, columns = np.mgrid[:160, :160]
        return [
            crops.Image(
                np.uint16(20_000 + 9000 * np.sin(rows / (3 + k)) * np.cos(columns / 5)),
                f"tem-{k}", "tem/simulated", "tem",
            )
            for k in range(count)
        ]  # fmt: skip

    monkeypatch.setattr(truths, "simulated", fake)
    monkeypatch.setattr(training_data, "TRUTH_COUNT", 6)
    monkeypatch.setattr(held_out, "CROPS", 16)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("objective", ["clean", "thin"])
def test_other_objectives_make_models_of_their_own(straight, tmp_path, objective):
    """From the weights of another, stopped and gone on with as straight through."""
    start = str(straight[1] / "tem_latent1")
    changes = {"objective": objective, "start": start, "data_dir": None}
    config = tiny("", tmp_path / "whole", **changes)
    metrics = autoencoder.run(config)
    assert set(metrics) == {"validation_gain_db", "validation_worst_db", "training_mse"}
    assert np.isfinite(list(metrics.values())).all()
    name = f"tem_latent1_{objective}"
    made = checkpoint.load(name, root=tmp_path / "whole")
    assert (made.card["objective"], made.card["simulated_share"]) == (objective, "1")
    assert (made.card["start"], made.card["before"]) == ("tem_latent1", "3x1 tem reproduce")
    known = checkpoint.read_card(straight[1] / "tem_latent1" / "card.md")["real_sources"]
    assert made.card["real_sources"] == known != "none"
    text = (tmp_path / "whole" / name / "card.md").read_text()
    assert f"{metrics['validation_gain_db']:.1f} dB in the mean" in text
    assert ("noisy micrographs alone" in text) == (objective == "thin")
    assert "linear code" not in text
    if objective == "thin":  # it goes on just as the other does
        return

    broken = tiny("", tmp_path / "broken", minutes=0.0, **changes)
    assert autoencoder.run(broken) == {}
    assert autoencoder.run(tiny("", tmp_path / "broken", **changes)) == metrics
    again = checkpoint.load(name, root=tmp_path / "broken")
    jax.tree.map(np.testing.assert_array_equal, made.variables, again.variables)


def test_training_starts_from_the_weights_that_are_named(data_dir, straight):
    mesh = autoencoder.devices.make_mesh(1)
    given = checkpoint.load("tem_latent1", root=straight[1]).variables
    config = tiny(data_dir, straight[1], start=str(straight[1] / "tem_latent1"))
    state = autoencoder._begin(config, mesh)[1]
    jax.tree.map(np.testing.assert_array_equal, state.params, given["params"])
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, given["batch_stats"])
    assert int(state.step) == 0


# --- as a program ------------------------------------------------------------------------------

PROGRAM = """
import sys
from experiments import autoencoder, config
autoencoder.SETTLE_BATCHES, autoencoder.YARDSTICK_CROPS = 2, 8
config.main(autoencoder.run, autoencoder.Config)
"""


def start(data_dir, workdir, *more):
    flags = [
        "--dataset=tem",
        "--latent=1",
        f"--data_dir={data_dir}",
        "--simulated_share=0",
        "--steps=60",
        "--batch_size=1",
        "--checkpoint_every=5",
        f"--workdir={workdir}",
        *more,
    ]
    cache = {
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    }
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *flags],
        env=os.environ | cache,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(folder, process, limit_s=300):
    until = time.monotonic() + limit_s
    while not folder.is_dir():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


def finish(process, status):
    """What a program said on stderr; it must end with that status."""
    _, said = process.communicate(timeout=500)
    assert process.returncode == status, said
    return said


@pytest.mark.slow
def test_killed_or_interrupted_and_run_again_equals_straight_through(data_dir, tmp_path):
    """Bit for bit: kill -9 right after a checkpoint, then Ctrl-C, then to the end."""
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    finish(start(data_dir, straight), 0)

    first = start(data_dir, broken)
    wait_for(broken / "state" / "tem_latent1" / "10", first)
    os.kill(first.pid, signal.SIGKILL)
    finish(first, -signal.SIGKILL)
    assert not (broken / "tem_latent1").exists()

    second = start(data_dir, broken)
    wait_for(broken / "state" / "tem_latent1" / "25", second)
    os.kill(second.pid, signal.SIGINT)
    assert "interrupted" in finish(second, 130)
    assert not (broken / "tem_latent1").exists()

    finish(start(data_dir, broken), 0)
    check_same_model(broken, straight)
    rows = [
        curves.parse((w / "tem_latent1" / "learning_curve.csv").read_text())[1][:, :2]
        for w in (broken, straight)
    ]
    np.testing.assert_array_equal(*rows)


def start_two(data_dir, workdir):
    """Two processes without a shared folder to work in."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        where = [f"--coordinator=127.0.0.1:{probe.getsockname()[1]}", "--processes=2"]
    return [
        start(data_dir, workdir / str(k), *where, f"--process_id={k}", "--batch_size=2")
        for k in range(2)
    ]


@pytest.mark.slow
def test_two_processes_make_one_model_where_the_first_is(data_dir, tmp_path):
    first, second = start_two(data_dir, tmp_path)
    said = [process.communicate(timeout=500) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert "training on 2 devices in 2 processes" in said[0][0]
    assert all(line.startswith("[Gloo]") for line in said[1][0].splitlines())
    assert "devices: 2 devices in 2 processes" in (tmp_path / "0/tem_latent1/card.md").read_text()
    assert not (tmp_path / "1").exists()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_ends_the_other(data_dir, tmp_path, victim):
    both = start_two(data_dir, tmp_path)
    wait_for(tmp_path / "0" / "state" / "tem_latent1" / "10", both[0])
    both[victim].kill()
    said = [process.communicate(timeout=120)[1] for process in both]
    assert both[1 - victim].returncode not in (0, None)
    assert said[1 - victim]


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_at_one_batch(data_dir, tmp_path):
    both = start_two(data_dir, tmp_path)
    wait_for(tmp_path / "0" / "state" / "tem_latent1" / "10", both[0])
    both[1].terminate()
    assert "interrupted" in finish(both[0], 130)
    assert "interrupted" in finish(both[1], 130)

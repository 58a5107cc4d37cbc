"""Which model, which device, what the record holds, how the bar moves, how errors are told."""

import inspect
import io
import json
import sys

import jax
import pytest

from emd import zoo
from emd.cli import choice, device, errors, progress
from emd.cli.ledger import Ledger, stamp


@pytest.mark.parametrize(
    ("metadata", "model", "words"),
    [
        ({"mode": "STEM"}, "stem_skip48_clean", "STEM"),
        ({"mode": "TEM", "kV": 300}, "tem_skip48_clean", "TEM"),
        ({}, "stem_skip48_clean", "does not say"),
        ({"mode": None}, "stem_skip48_clean", "does not say"),
        ({"mode": "SEM"}, "stem_skip48_clean", "does not say"),
        ({"mode": ["STEM"]}, "stem_skip48_clean", "does not say"),
    ],
)
def test_a_model_is_chosen_by_what_the_file_says(metadata, model, words):
    chosen = choice.choose(metadata, "nm")
    assert chosen.model == model
    assert words in chosen.reason
    assert model in zoo.MODELS


@pytest.mark.parametrize(
    ("metadata", "unit"),
    [({"mode": "diffraction"}, "nm"), ({}, "1/nm"), ({"mode": "TEM"}, "nm^-1"), ({}, "Å⁻¹")],
)
def test_diffraction_is_refused(metadata, unit):
    with pytest.raises(ValueError, match=r"no model was trained on diffraction.* --model"):
        choice.choose(metadata, unit)


# --- device ----------------------------------------------------------------------------------


@pytest.fixture
def settings():
    """jax's settings, as they were before the test afterwards."""
    names = ("jax_platforms", "jax_default_device")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_device_is_selected_and_described(settings, monkeypatch):
    assert device.select(None) == jax.devices()[0]
    chosen = device.select("CPU:0")
    assert chosen.platform == "cpu"
    assert jax.config.jax_default_device == chosen
    monkeypatch.setattr(device, "cores", lambda: 1)
    assert device.describe(chosen) == "cpu (1 core)"
    monkeypatch.setattr(device, "cores", lambda: 2)
    assert device.describe(chosen) == "cpu (2 cores)"


@pytest.mark.parametrize("wanted", ["tpu", "cpu:99", "quantum", "cuda:99"])
def test_a_device_that_is_not_there_is_told_with_those_that_are(settings, wanted):
    with pytest.raises(ValueError, match=f"--device {wanted}: there is none: use one of .*cpu"):
        device.select(wanted)
    with pytest.raises(ValueError, match="write it as cpu, gpu"):
        device.select("gpu 1")


class Fake:
    """A device of a machine with two GPUs."""

    platform, device_kind = "gpu", "NVIDIA H100"

    def memory_stats(self):
        return {"bytes_limit": 60 * 2**30}


def test_gpus_are_told_apart(monkeypatch):
    gpus, cpu = [Fake(), Fake()], jax.devices("cpu")[:1]
    by_name = {None: gpus, "gpu": gpus, "cuda": gpus, "cpu": cpu}
    monkeypatch.setattr(jax, "devices", lambda name=None: by_name[name])
    # without the checks of types: a stand-in is no device
    names, devices, describe = map(
        inspect.unwrap, (device._names, device._devices, device.describe)
    )
    assert devices() == [*gpus, *cpu]
    assert names([*gpus, *cpu]) == ["gpu:0", "gpu:1", "cpu"]
    assert describe(gpus[1]) == "gpu:1 of 2 (NVIDIA H100, 60 GiB)"


def test_a_gpu_that_lies_idle_is_told_of(monkeypatch):
    cpu = jax.devices("cpu")[0]
    monkeypatch.setattr(device, "_has_nvidia", lambda: False)
    assert device.warning(cpu, None) is None
    monkeypatch.setattr(device, "_has_nvidia", lambda: True)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'emd-micrograph[cuda12]'" in device.warning(cpu, None)
    assert device.warning(cpu, "cpu") is None
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda name: name)
    assert "driver" in device.warning(cpu, None)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert "--device gpu" in device.warning(cpu, None)


# --- record ----------------------------------------------------------------------------------


def test_a_record_tells_the_last_line_about_an_output(tmp_path):
    folder = tmp_path / "new" / "out"
    ledger = Ledger(folder)
    assert not folder.exists()
    ledger.add("begun", output="a", n=1)
    ledger.add("done", output="a", n=2)
    ledger.add("failed", output="a", n=3)
    ledger.add("begun", output="Zürich\udcff", n=4)
    again = Ledger(folder)
    assert again.last("a") == {"status": "done", "output": "a", "n": 2}
    assert again.last("Zürich\udcff")["n"] == 4
    assert again.last("b") == {}


@pytest.mark.parametrize(
    "cut", [b'{"status": "done", "outp', b"\xff\xfe", b"[1]\n", b"7", b"\0" * 9]
)
def test_a_line_cut_short_harms_no_other(tmp_path, cut):
    Ledger(tmp_path).add("done", output="a")
    with Ledger(tmp_path).path.open("ab") as file:
        file.write(cut)
    Ledger(tmp_path).add("begun", output="b")
    again = Ledger(tmp_path)
    assert again.last("a")["status"] == "done"
    assert again.last("b")["status"] == "begun"
    assert json.loads(again.path.read_bytes().splitlines()[-1])["output"] == "b"


def test_the_stamp_of_a_folder_is_that_of_all_in_it(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_bytes(b"12")
    before = stamp(tmp_path)
    (tmp_path / "sub/b").write_bytes(b"123")
    assert before.size == 2
    assert stamp(tmp_path).size == 5
    assert stamp(tmp_path).mtime_ns == stamp(tmp_path / "sub/b").mtime_ns
    assert stamp(tmp_path / "sub/b").size == 3


# --- what is told ----------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_moves_by_bytes_within_and_between_files(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_DELAY_S", 0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.Bar(4000, "1 of 2: a.tif") as bar:
        bar.begin(2000)
        for share, stands in ((0.5, 1000), (0, 0), (1.0, 2000)):
            bar.at(share)
            assert bar._bar.n == stands
        bar.leave_out(1000)  # skipped: neither done nor to do
        bar.begin(1000)
        bar.at(1)
        assert bar._bar.n == bar._bar.total == 3000
        bar.complain("error: b.tif")
        bar.say("out/a.tif: done")
    said = sys.stderr.getvalue()
    assert "error: b.tif\n" in said
    assert "100%" in said
    assert "3.00k/3.00k" in said
    assert "1 of 2: a.tif" in said
    assert capsys.readouterr().out == "out/a.tif: done\n"


def test_there_is_no_bar_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr(progress, "_DELAY_S", 0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress.Bar(10) as bar:
        bar.begin(10)
        bar.at(1)
        bar.leave_out(5)
    assert sys.stderr.getvalue() == ""


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("a.tif: is\n empty"), "is empty"),
        (PermissionError(13, "Permission denied", "a.tif"), "Permission denied"),
        (FileExistsError("b.tif: exists"), "b.tif: exists"),
        (KeyError("tag"), "unexpected KeyError: 'tag'"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_an_error_is_told_in_one_line_without_the_name(error, text):
    assert errors.reason(error, "a.tif") == text

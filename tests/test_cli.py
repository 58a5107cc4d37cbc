import errno
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import tifffile

import emd
from emd import checkpoint, cli, zoo
from emd.checkpoint import Model
from emd.data import micrograph
from emd.data.micrograph import Micrograph

MODEL = "tem_kernel_w3_published"


@pytest.fixture
def given(tmp_path):
    """A micrograph's file."""
    pixels = np.random.default_rng(0).poisson(50, (40, 52)).astype(np.uint16)
    path = tmp_path / "in.tif"
    micrograph.write(path, Micrograph(pixels, (0.1, 0.1), "nm", {"kV": 300}))
    return path


def fails(capsys, *arguments):
    """The one line that the command ends with, after that about the device."""
    assert cli.main([str(a) for a in arguments]) == 1
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith("device: ")]
    assert captured.out == ""
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def test_denoise_writes_the_restored_micrograph_and_says_so(given, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    out = tmp_path / "out.tif"
    assert cli.main(["denoise", str(given), "-o", str(out), "--model", MODEL]) == 0
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    for words in ("40x52 uint16", MODEL, "on cpu", "0 pixels clipped"):
        assert words in line
    assert "warning" not in line
    result = micrograph.read(out)
    from emd.restore import restore

    expected = restore(micrograph.read(given), checkpoint.load(MODEL)).micrograph
    assert result == expected
    assert result.metadata["emd"][0]["model"] == MODEL


def test_denoise_warns_of_a_hot_pixel_and_despikes(tmp_path, capsys):
    pixels = np.random.default_rng(0).normal(50, 2, (40, 52)).astype(np.float32)
    pixels[7, 8] = 60_000
    pixels[20, 20] = np.nan
    micrograph.write(tmp_path / "hot.tif", Micrograph(pixels))
    command = ["denoise", str(tmp_path / "hot.tif"), "--model", MODEL, "--tile", "16"]
    assert cli.main([*command, "-o", str(tmp_path / "a.tif")]) == 0
    assert "warning: maximum 60000" in (said := capsys.readouterr().out)
    assert "1 not finite" in said
    assert cli.main([*command, "-o", str(tmp_path / "b.tif"), "--despike"]) == 0
    assert "1 spikes replaced" in (said := capsys.readouterr().out)
    assert "warning" not in said


def test_an_existing_output_is_kept_unless_told(given, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out.tif"
    out.write_bytes(b"precious")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "load", lambda *_, **__: pytest.fail("computed first"))
        line = fails(capsys, "denoise", given, "-o", out, "--model", MODEL)
    assert "--overwrite" in line
    assert out.read_bytes() == b"precious"
    assert cli.main(["denoise", str(given), "-o", str(out), "--model", MODEL, "--overwrite"]) == 0
    assert micrograph.read(out).pixels.shape == (40, 52)


def test_each_bad_input_is_one_line_and_nothing_is_written(given, tmp_path, capsys):
    out = tmp_path / "out.tif"
    truncated = tmp_path / "truncated.tif"
    truncated.write_bytes(given.read_bytes()[:-500])
    empty = tmp_path / "empty.tif"
    empty.touch()
    text = tmp_path / "text.tif"
    text.write_text("not a micrograph")
    cases = [
        ((tmp_path / "none.tif", "-o", out, "--model", MODEL), "none.tif: no such file"),
        ((tmp_path, "-o", out, "--model", MODEL), "is named like a file"),
        ((truncated, "-o", out, "--model", MODEL), "truncated"),
        ((empty, "-o", out, "--model", MODEL), "empty"),
        ((text, "-o", out, "--model", MODEL), "not a TIFF"),
        ((given, "-o", given, "--model", MODEL, "--overwrite"), "would replace it"),
        ((given, "-o", tmp_path / "no" / "out.tif", "--model", MODEL), "does not exist"),
        ((given, "-o", out, "--model", "tem_latent3"), "tem_latent4, tem_latent16"),
        (
            (given, "-o", out, "--model", "stem_mlp1_w5", "--checkpoints", tmp_path),
            "python -m experiments.distill --set=stem_mlp1",
        ),
        ((given, "-o", out, "--checkpoints", tmp_path / "no"), "no such folder"),
    ]
    before = sorted(tmp_path.iterdir())
    for arguments, words in cases:
        assert words in fails(capsys, "denoise", *arguments)
        assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_is_one_line_and_nothing_is_left(given, tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(tifffile, "imwrite", full)
    line = fails(capsys, "denoise", given, "-o", tmp_path / "out.tif", "--model", MODEL)
    assert "out.tif" in line
    assert "No space left on device" in line
    assert sorted(tmp_path.iterdir()) == before


def test_running_out_of_device_memory_says_what_to_do(given, tmp_path, capsys, monkeypatch):
    from emd import job

    def exhausted(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(job, "restore_file", exhausted)
    line = fails(capsys, "denoise", given, "-o", tmp_path / "out.tif", "--model", MODEL)
    assert "--tile smaller than 512" in line


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["fly"], ["denoise"], ["denoise", "a.tif"]),
        *(["denoise", "a", "-o", "b", *bad] for bad in (["--tile", "0"], ["--frame", "-1"])),
    ],
)
def test_arguments_that_make_no_sense_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(arguments)
    assert error.value.code == 2
    assert "usage: emd" in capsys.readouterr().err


def test_models_lists_every_model_and_what_is_there(tmp_path, capsys):
    config = zoo.find("tem_kernel_w5")
    module = zoo.make_module(config)
    variables = jax.jit(module.init)(jax.random.key(0), jax.numpy.ones((1, 9, 9)))
    facts = {"batches": "1234", "validation_mse": "0.0123456"}
    checkpoint.save(Model(config, module, variables, facts), tmp_path, text="A test.")
    assert cli.main(["models", "--checkpoints", str(tmp_path)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines)[1:] == list(zoo.MODELS)
    assert "1234 of 10000" in lines["tem_kernel_w5"]
    assert "0.01235" in lines["tem_kernel_w5"]
    assert "as printed" in lines[MODEL]
    missing = "not trained (python -m experiments.autoencoder --dataset=stem --latent=16)"
    assert missing in lines["stem_latent16"]
    assert "--set=temstem_mlp2" in lines["temstem_mlp2_w7"]


def test_models_tolerates_a_card_without_facts(tmp_path, capsys):
    (tmp_path / "tem_latent4" / "weights").mkdir(parents=True)
    assert cli.main(["models", "--checkpoints", str(tmp_path)]) == 0
    assert "? of 60000" in capsys.readouterr().out


def test_the_command_runs_as_a_module_and_help_needs_no_jax():
    root = pathlib.Path(emd.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    run = {"capture_output": True, "text": True, "env": environment, "check": True}
    version = subprocess.run([sys.executable, "-m", "emd.cli", "--version"], **run)
    assert version.stdout == f"emd {emd.__version__}\n"
    code = (
        "import sys, emd.cli\n"
        "try: emd.cli.main(['denoise', '--help'])\n"
        "except SystemExit: pass\n"
        "print('jax' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], **run).stdout
    assert cli.denoise.DEFAULT_MODEL in said
    assert said.endswith("False\n")


def test_export_writes_a_kernel_for_fiji(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", MODEL, "--to", "imagej"]) == 0
    assert capsys.readouterr().out.startswith(f"{MODEL}.txt: {MODEL}, kernel for")
    rows = [line.split() for line in (tmp_path / f"{MODEL}.txt").read_text().splitlines()]
    assert [float(row[1]) for row in rows] == [0.135, 0.218, 0.135]


def test_export_tells_what_cannot_be(tmp_path, capsys):
    out = tmp_path / "out.txt"
    assert "unknown target 'x'" in fails(capsys, "export", MODEL, "--to", "x", "-o", out)
    line = fails(capsys, "export", "tem_latent16", "--to", "imagej", "-o", out)
    assert "imagej cannot hold" in line
    assert "onnx" in line
    out.write_text("mine")
    assert "--overwrite" in fails(capsys, "export", MODEL, "--to", "imagej", "-o", out)
    assert out.read_text() == "mine"

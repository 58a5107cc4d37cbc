"""Whoever reads what the commands tell may leave; unset shell variables name nothing."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import emd
from emd import cli
from emd.data import micrograph
from emd.data.micrograph import Micrograph

MODEL = "tem_kernel_w3_published"
ROOT = pathlib.Path(emd.__file__).parents[1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with two micrographs in `in`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name in ("a.tif", "b.tif"):
        pixels = np.random.default_rng(0).poisson(50, (20, 24)).astype(np.uint16)
        micrograph.write(f"in/{name}", Micrograph(pixels))
    return tmp_path


def shell(command):
    """What a shell makes of a command in which EMD stands for ours."""
    line = command.replace("EMD", f"{sys.executable} -m emd.cli")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("streams", [">&-", "2>&-", ">&- 2>&-", "| true", "2>&1 >/dev/null | true"])
def test_a_job_goes_on_when_nobody_listens(folder, streams):
    said = shell(f"set -o pipefail; EMD denoise in -o out --model {MODEL} {streams}")
    assert said.returncode == 0, said.stderr
    assert "Traceback" not in said.stderr
    made = sorted(p.name for p in (folder / "out").iterdir())
    assert made == ["a.tif", "b.tif", "emd-denoise.jsonl"]


def test_an_answer_that_nobody_reads_is_no_error(folder):
    said = shell("EMD models >&-")
    assert (said.returncode, said.stderr) == (0, "")


def test_an_empty_name_is_not_the_working_folder(folder, capsys):
    assert cli.main(["denoise", "", "-o", "out", "--model", MODEL]) == 1
    assert "is empty: give the name of a file or folder" in capsys.readouterr().err
    assert cli.main(["denoise", "in", "-o", "", "--model", MODEL]) == 1
    assert "OUT is empty" in capsys.readouterr().err
    assert sorted(p.name for p in (folder / "in").iterdir()) == ["a.tif", "b.tif"]


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.xyz"])
def test_no_tiff_under_another_name(folder, capsys, name):
    assert cli.main(["denoise", "in/a.tif", "-o", name, "--model", MODEL]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(
        f"error: {name}: .{name[2:]} is no format to write: name the output .tif"
    )
    assert not (folder / name).exists()


def test_an_interrupted_archive_says_where_it_is(folder, capsys, monkeypatch):
    def interrupted(*_, **__):
        (folder / "out.zarr.part").mkdir(exist_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr("emd.cli.restoring.Restorer.restore", interrupted)
    assert cli.main(["denoise", "in/a.tif", "-o", "out.zarr", "--model", MODEL]) == 130
    assert "out.zarr.part holds what is done: the same command" in capsys.readouterr().err
    assert cli.main(["denoise", "in/a.tif", "-o", "out.tif", "--model", MODEL]) == 130
    assert "nothing was written" in capsys.readouterr().err


@pytest.mark.parametrize("before", [None, b"of yesterday"])
def test_a_result_that_an_interrupt_came_after_is_told(folder, capsys, monkeypatch, before):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    if before is not None:
        (folder / "out.tif").write_bytes(before)
    command = ["denoise", "in/a.tif", "-o", "out.tif", "--model", MODEL, "--overwrite"]
    with monkeypatch.context() as patch:
        patch.setattr("emd.cli.restoring.Restorer.report", interrupted)
        assert cli.main(command) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "error: interrupted; out.tif is written, what was to follow it is not"
    assert micrograph.read("out.tif").pixels.shape == (20, 24)
    monkeypatch.setattr("emd.cli.restoring.Restorer.restore", interrupted)
    assert cli.main(command) == 130
    assert capsys.readouterr().err.endswith("error: interrupted; nothing was written\n")


@pytest.mark.parametrize("option", ["--frame", "--tile"])
def test_a_number_that_is_none_is_told(folder, capsys, option):
    with pytest.raises(SystemExit):
        cli.main(["denoise", "in/a.tif", "-o", "out.tif", option, "x"])
    assert "'x' is no number: give a whole one" in capsys.readouterr().err

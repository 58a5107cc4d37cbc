"""Jobs: many files into a folder, past the bad ones, on from where one was stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
import tifffile

from emd import checkpoint, cli, job
from emd.cli.ledger import NAME
from emd.data import micrograph
from emd.data.micrograph import Micrograph

MODEL = "tem_kernel_w3_published"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three good files and a sub-folder with one more; where it lies is the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    (tmp_path / "in/sub").mkdir(parents=True)
    random = np.random.default_rng(0)
    modes = {"a.tif": "STEM", "b.npy": None, "c.tif": "diffraction", "sub/a.tif": "TEM"}
    for name, mode in modes.items():
        pixels = random.poisson(50, (20, 24)).astype(np.uint16)
        metadata = {"mode": mode} if mode else {}
        micrograph.write(f"in/{name}", Micrograph(pixels, (0.1, 0.1), "nm", metadata))
    return tmp_path / "in"


def denoise(*arguments, model=MODEL):
    return cli.main(["denoise", *map(str, arguments), "--model", model])


def results(folder):
    """The bytes of all results in a folder, by name."""
    files = [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
    names = {str(p.relative_to(folder)): p.read_bytes() for p in files if p.name != NAME}
    return dict(sorted(names.items()))


def record(folder, status):
    entries = [json.loads(line) for line in (folder / NAME).read_text().splitlines()]
    return [entry for entry in entries if entry["status"] == status]


GOOD = ["a.tif", "b.npy", "c.tif", "sub/a.tif"]


def test_a_folder_with_bad_files_the_good_ones_done_the_others_named(folder, tmp_path, capsys):
    (folder / "cut.tif").write_bytes((folder / "a.tif").read_bytes()[:-300])
    (folder / "notes.txt").write_text("Tuesday: astigmatism")
    (folder / "sub/zero.mrc").touch()
    tifffile.imwrite(folder / "colour.tif", np.zeros((9, 9, 3), np.uint8), photometric="rgb")
    bad = {
        "cut.tif": "truncated",
        "notes.txt": "passed over",
        "sub/zero.mrc": "empty",
        "colour.tif": "RGB",
    }
    assert denoise("in", "-o", "out") == 1
    said = capsys.readouterr()
    assert list(results(tmp_path / "out")) == GOOD
    assert [line.partition(":")[0] for line in said.out.splitlines()] == [f"out/{n}" for n in GOOD]
    lines = said.err.splitlines()
    assert lines[0].startswith("device: cpu (")
    errors = [line for line in lines if line.startswith("error: ")]
    assert "4 done, 0 skipped, 4 failed" in lines
    told = lines[lines.index("4 done, 0 skipped, 4 failed") + 1 :]
    for name, words in bad.items():
        for start, those in (("error", errors), ("  failed", told)):
            (line,) = (line for line in those if line.startswith(f"{start}: in/{name}: "))
            assert words in line
    assert len(errors) == 4
    failures = record(tmp_path / "out", "failed")
    assert {entry["input"] for entry in failures} == {f"in/{name}" for name in bad}
    assert [entry["output"] for entry in record(tmp_path / "out", "done")] == GOOD


def test_what_is_done_is_skipped_until_something_changes(folder, tmp_path, capsys, monkeypatch):
    def run(*more, **options):
        code = denoise("in", "-o", "out", *more, **options)
        said = capsys.readouterr()
        return code, next(line for line in said.err.splitlines() if " done, " in line)

    assert run() == (0, "4 done, 0 skipped, 0 failed")
    before = results(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(job, "restore_file", lambda *_, **__: pytest.fail("restored again"))
        # the tile decides nothing, and neither does who asks
        assert run("--tile", "8") == (0, "0 done, 4 skipped (done before), 0 failed")
        assert denoise("in/*", "-o", "out") == 0
    capsys.readouterr()
    # other settings: not what was asked for, and not ours to replace
    for option in ("--despike", "--put-back"):
        assert run(option) == (1, "0 done, 0 skipped, 4 failed")
    assert run(model="tem_kernel_w5_published") == (1, "0 done, 0 skipped, 4 failed")
    assert results(tmp_path / "out") == before
    # a refusal is no reason to forget what was done
    assert run() == (0, "0 done, 4 skipped (done before), 0 failed")
    (tmp_path / "out/b.npy").write_bytes(b"cut")
    os.utime(folder / "a.tif", ns=(1, 1))
    assert run() == (1, "0 done, 2 skipped (done before), 2 failed")
    (tmp_path / "out/b.npy").unlink()
    assert run("--overwrite") == (0, "4 done, 0 skipped, 0 failed")
    assert results(tmp_path / "out") == before
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "fingerprint", lambda _: "0" * 16)
        assert run() == (1, "0 done, 0 skipped, 4 failed")


KILLED = """
import os, signal, sys
from emd import cli
from emd.cli import ledger

place, after = sys.argv[1], int(sys.argv[2])
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
count = 0
def fsync(file, real=os.fsync):
    global count
    real(file)
    count += 1
    if place == "writing" and count > after:
        die()
def add(self, status, real=ledger.Ledger.add, **facts):
    os.makedirs("out", exist_ok=True)
    there = [name for name in os.listdir("out") if not name.startswith(".") and name != ledger.NAME]
    if place == "noting" and status == "done" and len(there) == after:
        with self.path.open("a") as file:
            file.write('{"status": "done", "outp')
        die()
    real(self, status, **facts)
os.fsync, ledger.Ledger.add = fsync, add
sys.exit(cli.main(sys.argv[3:]))
"""


def test_a_run_killed_twice_ends_with_the_same_bytes(folder, tmp_path, capsys):
    assert denoise("in", "-o", "unkilled") == 0
    command = ["denoise", "in", "-o", "out", "--model", MODEL]
    # while the second file is written; after the third is there and before all of that is noted
    for place, after in (("writing", 1), ("noting", 3)):
        killed = [sys.executable, "-c", KILLED, place, str(after), *command]
        run = subprocess.run(killed, capture_output=True, text=True, check=False)
        assert run.returncode == -signal.SIGKILL, run.stderr
    assert len(results(tmp_path / "out")) == 3
    noted = (tmp_path / "out" / NAME).read_text().splitlines()[:-1]  # the last is cut short
    noted = [entry["output"] for entry in map(json.loads, noted) if entry["status"] == "done"]
    assert noted == ["a.tif", "b.npy"]
    capsys.readouterr()
    assert cli.main(command) == 0
    assert "2 done, 2 skipped (done before), 0 failed" in capsys.readouterr().err
    assert results(tmp_path / "out") == results(tmp_path / "unkilled")
    assert list(results(tmp_path / "out")) == GOOD


def test_an_interrupted_job_says_what_was_done(folder, tmp_path, capsys, monkeypatch):
    real, seen = job.restore_file, []

    def restore(source, *arguments, **options):
        seen.append(source)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(source, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(job, "restore_file", restore)
        assert denoise("in", "-o", "out") == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("interrupted: 1 done, 0 skipped, 0 failed, 3 left; the same command")
    assert denoise("in", "-o", "out") == 0
    assert "3 done, 1 skipped" in capsys.readouterr().err


def test_memory_that_does_not_suffice_for_one_file_stops_no_other(
    folder, tmp_path, capsys, monkeypatch
):
    real = job.restore_file
    faults = {
        "in/a.tif": jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"),
        "in/b.npy": MemoryError("Unable to allocate 9 TiB"),
        "in/c.tif": KeyError("a reader's bug"),
    }

    def restore(source, *arguments, **options):
        if str(source) in faults:
            raise faults[str(source)]
        return real(source, *arguments, **options)

    monkeypatch.setattr(job, "restore_file", restore)
    assert denoise("in", "-o", "out") == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "in/a.tif: out of memory on the device: use a --tile smaller than 512" in errors[0]
    assert "in/b.npy: Unable to allocate" in errors[1]
    assert "in/c.tif: unexpected KeyError" in errors[2]
    assert list(results(tmp_path / "out")) == ["sub/a.tif"]


def test_two_inputs_of_one_name_the_second_fails(folder, tmp_path, capsys):
    assert denoise("in/a.tif", "in/sub/a.tif", "-o", "out") == 1
    assert "error: in/sub/a.tif: the result would be out/a.tif" in capsys.readouterr().err
    assert list(results(tmp_path / "out")) == ["a.tif"]
    before = results(folder)
    assert denoise("in/a.tif", "in/c.tif", "-o", "in", "--overwrite") == 1
    assert capsys.readouterr().err.count("would replace it") == 4  # each told, and told again
    assert results(folder) == before


def test_auto_chooses_by_the_file_and_says_why(folder, tmp_path, capsys, monkeypatch):
    shutil.copy("in/a.tif", "in/d.tif")  # the same model again, loaded once
    loaded, real = [], checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda name, **_: loaded.append(name) or real(MODEL))
    assert denoise("in", "in/sub", "-o", "out", model="auto") == 1
    said = capsys.readouterr()
    assert "error: in/c.tif: the file says diffraction, and no model was trained" in said.err
    assert "as the file says STEM" in said.out.splitlines()[0]
    assert "as the file says TEM" in said.out
    assert "as the file does not say" in said.out
    assert loaded == ["stem_skip48_clean", "tem_skip48_clean"]
    entries = record(tmp_path / "out", "done")
    assert {entry["asked"] for entry in entries} == {"auto"}
    assert entries[0]["why"] == "the file says STEM"
    capsys.readouterr()
    assert denoise("in", "-o", "out", model="auto") == 1
    assert "0 done, 4 skipped (done before), 1 failed" in capsys.readouterr().err


def test_where_emd_chooses_the_model_structure_is_put_back(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    real = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda name, **_: real(MODEL))
    waves = 50 + 40 * np.sin(np.arange(70) * 2.1) * np.ones((64, 1))  # too fine for the kernel
    micrograph.write("in.tif", Micrograph(np.random.default_rng(0).poisson(waves).astype("u2")))

    def run(*more, model):
        assert denoise("in.tif", "-o", "out.tif", "--overwrite", *more, model=model) == 0
        assert ("put back" in capsys.readouterr().out) == bool(last()["put_back"])
        return micrograph.read("out.tif").pixels

    def last():
        return micrograph.read("out.tif").metadata["emd"][-1]

    plain = run(model=MODEL)
    np.testing.assert_array_equal(run("--no-put-back", model="auto"), plain)
    whole = run(model="auto")
    assert last()["put_back"][0] > 0.5
    np.testing.assert_array_equal(run("--put-back", model=MODEL), whole)
    for done in ("1 done, 0 skipped", "0 done, 1 skipped (done before)"):
        assert denoise("in.tif", "-o", "out/", model="auto") == 0
        assert done in capsys.readouterr().err
    for options in (["--put-back"], ["--no-put-back"], ["--gain", "2"]):
        assert denoise("in.tif", "-o", "out/", *options, model="auto") == 1


def test_a_gain_tells_what_is_put_back(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).poisson(50, (64, 70)).astype("u2")
    micrograph.write("in.tif", Micrograph(pixels))
    micrograph.write("lifted.tif", Micrograph(pixels + np.uint16(100)))
    for name, gain, black, due in (
        ("in", "1", [], None),
        ("in", "50", [], "noise is 0.0"),
        ("lifted", "1", ["--black", "100"], None),
        ("lifted", "1", [], "gain or black level are wrong"),
    ):
        options = ["--gain", gain, *black, "--overwrite"]
        assert denoise(f"{name}.tif", "-o", "out.tif", *options) == 0
        said = capsys.readouterr().out
        assert "put back" in said
        assert ("times that of electrons of this gain" in said) == (due is not None)
        assert due is None or due in said
        last = micrograph.read("out.tif").metadata["emd"][-1]
        assert (last["gain"], last["black"]) == (float(gain), float(black[1] if black else 0))
    for options, words in (
        (["--gain", "1", "--no-put-back"], "--gain is for putting back: leave it out"),
        (["--black", "1"], "--black is for --gain: give that, too, or leave it out"),
    ):
        assert denoise("in.tif", "-o", "new.tif", *options) == 1
        assert words in capsys.readouterr().err
    assert not (tmp_path / "new.tif").exists()


def several(path):
    """A file of two images, one of them a stack."""
    one = np.random.default_rng(0).poisson(50, (20, 24)).astype(np.uint16)
    np.savez(path, HAADF=one, BF=np.stack([one, one + 7]))


def test_all_images_of_a_file_each_into_its_own(folder, tmp_path, capsys):
    several(folder / "two.npz")
    assert denoise("in/two.npz", "-o", "one.tif") == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "holds 2 images (HAADF, BF): choose one with --signal, or name a folder" in line
    assert denoise("in/two.npz", "-o", "out/") == 0
    assert list(results(tmp_path / "out")) == ["two.npz.BF.tif", "two.npz.HAADF.tif"]
    assert micrograph.read("out/two.npz.BF.tif").pixels.shape == (2, 20, 24)
    capsys.readouterr()
    assert denoise("in/two.npz", "-o", "one.tif", "--signal", "1", "--frame", "1") == 0
    assert "one.tif: 20x24 uint16" in capsys.readouterr().out
    assert denoise("in/two.npz", "-o", "some/", "--signal", "1", "--frame", "1") == 0
    assert results(tmp_path / "some") == {"two.npz.BF.tif": (tmp_path / "one.tif").read_bytes()}
    capsys.readouterr()
    assert denoise("in/two.npz", "-o", "none/", "--signal", "DF") == 1
    assert "has no signal 'DF'" in capsys.readouterr().err
    assert denoise("in/two.npz", "-o", "none/", "--frame", "1") == 1  # one has no such frame
    assert "error: in/two.npz (signal HAADF): " in capsys.readouterr().err


def test_nothing_to_do_and_a_device_that_is_not_there_are_one_line(folder, tmp_path, capsys):
    for arguments, words in [
        (("in/*.none", "-o", "out"), "error: in/*.none: no file matches"),
        (("in", "-o", "in"), "error: in: is searched, so it cannot take the results"),
        (("in", "-o", "out", "--device", "cpu:99"), "there is none: use one of "),
        (("in", "-o", "out", "--scheduler", "tcp://x:1"), "--scheduler is for Zarr archives"),
        (("in/a.tif", "-o", "b.tif", "--scheduler", "tcp://x:1"), "--scheduler is for Zarr"),
    ]:
        assert denoise(*arguments) == 1
        errors = [e for e in capsys.readouterr().err.splitlines() if e.startswith("error: ")]
        assert len(errors) == 1
        assert words in errors[0]


def test_an_archive_is_restored_as_one_and_a_scheduler_is_handed_on(
    folder, tmp_path, capsys, monkeypatch
):
    archive = pytest.importorskip("emd.archive", reason="needs the extra scale")
    given = micrograph.read("in/a.tif")
    micrograph.write("in/x.zarr", given)
    calls, real = [], archive.restore_archive

    def restore(*arguments, scheduler, **options):
        calls.append(scheduler)
        return real(*arguments, scheduler=None, **options)

    monkeypatch.setattr(archive, "restore_archive", restore)
    assert denoise("in/x.zarr", "-o", "y.zarr", "--scheduler", "tcp://host:1") == 0
    assert "y.zarr: 20x24 uint16" in capsys.readouterr().out
    assert denoise("in/x.zarr", "-o", "y.zarr") == 1
    assert "exists already" in capsys.readouterr().err
    assert denoise("in", "-o", "out") == 0
    assert calls == ["tcp://host:1", None]
    first, second = (micrograph.read(path) for path in ("y.zarr", "out/x.zarr"))
    assert first.pixel_size == given.pixel_size
    np.testing.assert_array_equal(first.pixels, second.pixels)
    np.testing.assert_array_equal(first.pixels, micrograph.read("out/a.tif").pixels)
    capsys.readouterr()
    assert denoise("in", "-o", "out") == 0
    assert "0 done, 5 skipped" in capsys.readouterr().err

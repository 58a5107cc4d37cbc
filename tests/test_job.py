"""A file in, a file out: the same as in memory, frame by frame, and whole or not at all."""

import json
import pathlib

import numpy as np
import pytest

from emd import checkpoint, job
from emd.data import micrograph
from emd.data.micrograph import Micrograph
from emd.restore import restore

NAME = "tem_kernel_w3_published"
MODEL = checkpoint.load(NAME)


def movie(frames: int = 5, side: int = 40) -> np.ndarray:
    counts = np.random.default_rng(3).poisson(30.0, (frames, side, side + 8))
    return (counts * np.arange(1, frames + 1)[:, None, None]).astype(np.uint16)


@pytest.fixture
def source(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "movie.tif"
    micrograph.write(path, Micrograph(movie(), (0.2, 0.3), "nm", {"title": "a movie"}))
    return path


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".mrc", ".hspy", ".zspy", ".zarr"])
def test_a_file_becomes_what_memory_would_give(tmp_path, source, suffix, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    output = tmp_path / f"out{suffix}"
    done = job.restore_file(source, output, MODEL)
    expected = restore(micrograph.read(source), MODEL)
    assert done == ((5, 40, 48), "uint16", expected.report)
    written = micrograph.read(output)
    np.testing.assert_array_equal(written.pixels, expected.micrograph.pixels)
    if suffix != ".npy":
        assert (written.pixel_size, written.unit) == ((0.2, 0.3), "nm")
        assert written.metadata["emd"] == expected.micrograph.metadata["emd"]


def test_a_result_larger_than_memory_waits_beside_the_output(tmp_path, source, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    job.restore_file(source, tmp_path / "a.tif", MODEL)
    kinds = []
    monkeypatch.setattr(job, "free_bytes", lambda: 0)
    real = job.restore_frames

    def spy(stack, out, *rest, **options):
        kinds.append(type(out))
        return real(stack, out, *rest, **options)

    monkeypatch.setattr(job, "restore_frames", spy)
    job.restore_file(source, tmp_path / "b.tif", MODEL)
    assert kinds == [np.memmap]
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "b.tif", "movie.tif"]


def test_a_disk_without_room_is_told(tmp_path, source, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(job, "free_bytes", lambda: 0)
    monkeypatch.setattr(job.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="no room beside it \\(No space left") as caught:
        job.restore_file(source, tmp_path / "b.tif", MODEL)
    assert caught.value.filename == str(tmp_path / "b.tif")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["movie.tif"]


@pytest.mark.parametrize("suffix", [".tif", ".mrc", ".npy", ".hspy", ".zspy", ".zarr"])
def test_no_more_than_a_few_frames_are_read_at_a_time(tmp_path, suffix, monkeypatch):
    frames = np.random.default_rng(0).poisson(9.0, (6, 64, 64)).astype(np.uint16)
    path = tmp_path / f"stack{suffix}"
    micrograph.write(path, Micrograph(frames))
    with micrograph.opened(path) as given:
        load, asked = given._signal.load, []
        object.__setattr__(given._signal, "load", lambda k: asked.append(k) or load(k))
        assert given.shape == frames.shape
        np.testing.assert_array_equal(given[2:4], frames[2:4])
    assert asked == [2, 3]


def test_frames_of_a_4d_file(tmp_path):
    pixels = movie(6)
    path, output = tmp_path / "scan.hspy", tmp_path / "out.hspy"
    micrograph.write(path, Micrograph(pixels, metadata={"stack_shape": [2, 3]}))
    shares = []
    job.restore_file(path, output, MODEL, progress=shares.append)
    assert shares[-1] == 1
    assert micrograph.signals(output)[0].shape == (2, 3, 40, 48)
    job.restore_file(path, tmp_path / "one.tif", MODEL, frame=4)
    np.testing.assert_array_equal(
        micrograph.read(tmp_path / "one.tif").pixels, micrograph.read(output).pixels[4]
    )


def test_one_signal_of_several(tmp_path):
    path = tmp_path / "two.npz"
    np.savez(path, bf=movie()[0], df=movie()[1])
    with pytest.raises(micrograph.FormatError, match=r"2 images .*--signal"):
        job.restore_file(path, tmp_path / "out.tif", MODEL)
    job.restore_file(path, tmp_path / "out.tif", MODEL, signal="df")
    expected = restore(Micrograph(movie()[1]), MODEL).micrograph.pixels
    np.testing.assert_array_equal(micrograph.read(tmp_path / "out.tif").pixels, expected)


def test_inverted_contrast_stays_and_is_told(tmp_path):
    path, output = tmp_path / "in.tif", tmp_path / "out.tif"
    pixels = movie()[0]
    micrograph.write(path, Micrograph(pixels, metadata={"photometric": "miniswhite"}))
    done = job.restore_file(path, output, MODEL)
    result = micrograph.read(output)
    np.testing.assert_array_equal(result.pixels, restore(Micrograph(pixels), MODEL)[0].pixels)
    assert result.metadata["photometric"] == "miniswhite"
    assert "MinIsWhite" in done.report.warnings[0]
    assert result.metadata["emd"][-1]["warnings"] == done.report.warnings


def test_what_cannot_be_is_told_before_any_work(tmp_path, source, monkeypatch):
    monkeypatch.setattr(job, "restore_frames", lambda *_, **__: pytest.fail("worked"))
    wide = tmp_path / "wide.tif"
    micrograph.write(wide, Micrograph(movie().astype(np.int32)))
    with pytest.raises(ValueError, match=r"out\.mrc: MRC holds no int32"):
        job.restore_file(wide, tmp_path / "out.mrc", MODEL)
    with pytest.raises(FileExistsError, match="--overwrite"):
        job.restore_file(source, wide, MODEL)
    with pytest.raises(micrograph.FormatError, match=r"movie\.tif: has no frame 5"):
        job.restore_file(source, tmp_path / "out.tif", MODEL, frame=5)


def test_a_stack_cut_short_leaves_no_output(tmp_path, source):
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(micrograph.FormatError, match=r"movie\.tif: truncated"):
        job.restore_file(source, tmp_path / "out.tif", MODEL)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["movie.tif"]


def test_errors_of_the_work_are_not_taken_for_damage(tmp_path, source):
    path = tmp_path / "far.npy"
    np.save(path, np.array([[1e308, -1e308]] * 2))
    with pytest.raises(ValueError, match=r"far\.npy: pixels from .* divide them") as caught:
        job.restore_file(path, tmp_path / "out.tif", MODEL)
    assert not isinstance(caught.value, micrograph.FormatError)


def test_provenance_is_json(tmp_path, source):
    job.restore_file(source, tmp_path / "out.tif", MODEL)
    entry = micrograph.read(tmp_path / "out.tif").metadata["emd"][-1]
    assert json.loads(json.dumps(entry)) == entry
    assert {"model", "weights", "version", "time", "minimum", "mean"} <= set(entry)

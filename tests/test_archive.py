"""Archives: the pixels of `restore`, whoever does the work and however often it is cut short."""

import functools
import importlib.util
import multiprocessing
import multiprocessing.forkserver
import shutil
import time

import numpy as np
import pytest

zarr = pytest.importorskip("zarr", reason="needs zarr: pip install 'emd-micrograph[scale]'")
pytest.importorskip("dask.array", reason="needs dask: pip install 'emd-micrograph[scale]'")

from emd import archive, checkpoint  # noqa: E402
from emd.archive import folder, giant  # noqa: E402
from emd.data import micrograph  # noqa: E402
from emd.data.micrograph import FormatError, Micrograph  # noqa: E402
from emd.putback import Electrons  # noqa: E402
from emd.restore import restore, restore_frames  # noqa: E402

KERNEL = "tem_kernel_w3"
WHOLE = {"UNIT_PX": 1}  # a unit a chunk
PIECES = {"UNIT_PX": 64 * 64, "WHOLE_PX": 1}  # no frame at once, unless it lies whole in a chunk


@functools.cache
def load(name=KERNEL):
    return checkpoint.load(name)


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")


def noisy(shape, dtype="uint16"):
    ramp = 20 + 10 * np.sin(np.arange(shape[-1]) / 50)
    return (np.random.default_rng(0).poisson(np.broadcast_to(ramp, shape)) + 9).astype(dtype)


def store(path, values, chunks, **options):
    config = {"write_empty_chunks": True}
    out = zarr.create_array(
        path, shape=values.shape, dtype=values.dtype, chunks=chunks, config=config, **options
    )
    out[...] = values
    return path


def set_limits(monkeypatch, limits):
    for name, value in limits.items():
        monkeypatch.setattr(folder, name, value)


def files(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def assert_is_restored(tmp_path, values, chunks, name=KERNEL, **options):
    """The archive next to `restore`; integers may fall to either side of a half."""
    done = archive.restore_archive(
        store(tmp_path / "a.zarr", values, chunks, **options), tmp_path / "b.zarr", load(name)
    )
    stack = values.reshape(-1, *values.shape[-2:])
    whole, report = restore(Micrograph(stack), load(name))
    found = zarr.open_array(tmp_path / "b.zarr/0", mode="r")
    got = found[...].reshape(stack.shape)
    assert (found.chunks, found.shards) == (chunks, options.get("shards"))
    assert got.dtype == values.dtype.newbyteorder("=")
    if got.dtype.kind == "f":
        # tiles of another size round otherwise, which shows where a type is coarse
        rtol = max(1e-5, float(np.finfo(got.dtype).eps))
        np.testing.assert_allclose(got, whole.pixels, rtol=rtol, equal_nan=True)
    else:
        different = got != whole.pixels
        assert different.mean() < 1e-3
        assert np.abs(got.astype("int64") - whole.pixels).max() <= 1
    assert (done.shape, done.dtype, done.found) == (values.shape, got.dtype.name, 0)
    for one, other in zip(done.report, report, strict=True):
        assert one == (pytest.approx(other, rel=1e-6, abs=1e-6) if type(other) is list else other)
    entry = micrograph.read(tmp_path / "b.zarr").metadata["emd"]
    assert entry == [done.report._asdict()]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]
    return done


@pytest.mark.parametrize(
    ("shape", "chunks", "options"),
    [
        ((5, 40, 30), (2, 40, 30), {}),
        ((5, 40, 30), (1, 40, 64), {"zarr_format": 2}),
        ((40, 30), (16, 16), {}),
        ((3, 40, 30), (2, 7, 30), {"zarr_format": 2, "order": "F"}),
        ((2, 3, 40, 30), (1, 2, 40, 30), {}),
        ((4, 40, 30), (1, 20, 15), {"shards": (2, 40, 30)}),
        ((1, 1, 2, 1, 1), (1, 1, 1, 1, 1), {}),
    ],
)
def test_frames_restored_at_once(tmp_path, monkeypatch, shape, chunks, options):
    set_limits(monkeypatch, WHOLE)
    assert_is_restored(tmp_path, noisy(shape), chunks, **options)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float64", ">f4", "int64"])
def test_types_come_back(tmp_path, monkeypatch, dtype):
    set_limits(monkeypatch, PIECES)
    values = noisy((2, 140, 150), dtype)
    if dtype == "int64":
        archive.restore_archive(
            store(tmp_path / "a.zarr", values, (1, 70, 75)), tmp_path / "b.zarr", load()
        )
        found = micrograph.read(tmp_path / "b.zarr")
        assert found.pixels.dtype == "int32"
        return
    if values.dtype.kind == "f":
        values[1, 10:60, 20:100] = np.nan
        values[1, 139, 149] = np.inf
        values[1, 70:, 75:] += 50  # pieces have other medians than the frame
    assert_is_restored(tmp_path, values, (1, 70, 75))


@pytest.mark.parametrize(
    ("name", "chunks"),
    [
        ("tem_mlp1_w5", (2, 70, 75)),
        ("tem_kernel_w5_published", (1, 1, 150)),
        ("tem_kernel_w5_published", (1, 67, 71)),
    ],
)
def test_pieces_show_no_seam(tmp_path, monkeypatch, name, chunks):
    set_limits(monkeypatch, PIECES)
    values = noisy((3, 140, 150))
    values[1] = 7 * values[1] + 300
    assert_is_restored(tmp_path, values, chunks, name)


def test_autoencoders_show_no_seam(tmp_path, monkeypatch):
    set_limits(monkeypatch, PIECES)
    assert_is_restored(tmp_path, noisy((133, 50)), (67, 25), "tem_latent16")


def test_networks_that_pad_themselves_show_no_seam(tmp_path, monkeypatch):
    set_limits(monkeypatch, PIECES)
    assert_is_restored(tmp_path, noisy((461, 300), "uint16"), (150, 141), "stem_skip48_columns")


def test_a_giant_frame_is_told_from_small_ones(tmp_path, monkeypatch):
    set_limits(monkeypatch, PIECES | {"WHOLE_PX": 140 * 150})
    done = assert_is_restored(tmp_path, noisy((3, 140, 150)), (2, 70, 75))
    assert done.units == 3 * 4 + 1  # the last group is one frame


def test_calibration_and_history_survive(tmp_path):
    metadata = {"title": "grid", "emd": [{"model": "first"}], "stack_shape": [2, 2]}
    value = Micrograph(noisy((4, 40, 30)), (0.5, 0.25), "Å", metadata)
    micrograph.write(tmp_path / "a.zarr", value)
    done = archive.restore_archive(tmp_path / "a.zarr", tmp_path / "b.zarr", load())
    assert micrograph.read(tmp_path / "b.zarr") == restore(value, load()).micrograph
    assert done.report.time == "1970-01-02T00:00:00Z"
    (tmp_path / "a.zarr/zarr.json").write_text(
        (tmp_path / "a.zarr/zarr.json").read_text().replace("emd_micrograph", "others")
    )
    archive.restore_archive(tmp_path / "a.zarr", tmp_path / "c.zarr", load())
    told = [zarr.open_group(tmp_path / n, mode="r").attrs["ome"] for n in ("a.zarr", "c.zarr")]
    assert told[0] == told[1]
    found = micrograph.read(tmp_path / "c.zarr")
    assert (found.pixel_size, found.unit) == ((0.5, 0.25), "Å")


def test_long_archives_keep_no_lists(tmp_path, monkeypatch):
    set_limits(monkeypatch, {"LISTED_FRAMES": 3})
    values = noisy((4, 40, 30))
    values[2, 3, 4] = 60_000
    path = store(tmp_path / "a.zarr", values, (1, 40, 30))
    report = archive.restore_archive(path, tmp_path / "b.zarr", load()).report
    assert (report.minimum, report.mean, report.mean_correction) == ([], [], [])
    (warning,) = report.warnings
    assert warning == restore(Micrograph(values), load()).report.warnings[0]
    assert warning.startswith("frame 2: ")


# --- cut short -------------------------------------------------------------------------------


class Stop(BaseException):
    pass


def stop_after(share):
    def tell(fraction):
        if fraction >= share:
            raise Stop

    return tell


def counted(monkeypatch):
    """How often each unit was begun, by its stage and number."""
    begun = []
    for module, name in [
        (archive, "restore_whole"),
        (giant, "measure"),
        (giant, "restore_piece"),
        (giant, "finish_block"),
    ]:
        monkeypatch.setattr(module, name, functools.partial(_noted, getattr(module, name), begun))
    return begun


def _noted(work, begun, *arguments):
    begun.append(repr((work.__name__, *(a for a in arguments if isinstance(a, int | str)))))
    return work(*arguments)


@pytest.mark.parametrize("limits", [WHOLE, PIECES], ids=["whole", "pieces"])
def test_what_is_done_is_not_done_again(tmp_path, monkeypatch, limits):
    set_limits(monkeypatch, limits)
    count = 30 if limits is WHOLE else 5
    path = store(tmp_path / "a.zarr", noisy((count, 70, 75), "float32"), (1, 70, 40))
    archive.restore_archive(path, tmp_path / "whole.zarr", load())
    begun = counted(monkeypatch)
    output = tmp_path / "b.zarr"
    for share in (0.1, 0.4, 0.7):
        with pytest.raises(Stop):
            archive.restore_archive(path, output, load(), progress=stop_after(share))
        assert not output.exists()
    told = []
    done = archive.restore_archive(path, output, load(), progress=told.append)
    assert 0 < done.found < done.units
    assert len(begun) == len(set(begun)) == done.units
    assert told == sorted(told)
    assert told[-1] == 1
    assert files(output) == files(tmp_path / "whole.zarr")


@pytest.fixture(scope="module")
def processes():
    """A context whose processes begin with everything imported."""
    context = multiprocessing.get_context("forkserver")
    preload = ["emd.archive"]
    if importlib.util.find_spec("distributed"):
        preload.append("distributed")
    context.set_forkserver_preload(preload)
    multiprocessing.forkserver.ensure_running()
    return context


def _restore(source, output, limits):
    for name, value in limits.items():
        setattr(folder, name, value)
    archive.restore_archive(source, output, checkpoint.load(KERNEL))


@pytest.mark.parametrize("limits", [WHOLE, PIECES], ids=["whole", "pieces"])
def test_killed_twice_it_ends_with_the_same_bytes(tmp_path, monkeypatch, processes, limits):
    set_limits(monkeypatch, limits)
    count = 30 if limits is WHOLE else 12
    path = store(tmp_path / "a.zarr", noisy((2 * count, 70, 75)), (2, 70, 40))
    output, part = tmp_path / "b.zarr", tmp_path / "b.zarr.part"
    kept = {}
    for least in (2, 5):
        process = processes.Process(target=_restore, args=(path, output, limits))
        process.start()
        deadline = time.monotonic() + 60
        while len(list(part.glob("done/*/*.json"))) < least and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
        process.join()
        assert process.exitcode == -9
        assert not output.exists()
        times = {p: p.stat().st_mtime_ns for p in part.glob("done/*/*.json")}
        assert least <= len(times) < count
        assert {p: times[p] for p in kept} == kept  # the marks of the first run are its own
        kept = times
    # what zarr leaves where it is killed within a chunk, which happens here now and then
    (part / "image/0/c/0/0/0.0123456789abcdef.partial").touch()
    written = {p: p.stat().st_mtime_ns for p in (part / "image/0/c").rglob("0") if p.is_file()}
    done = archive.restore_archive(path, output, load())
    assert done.found >= len(kept)
    for mark in kept:
        first = part / f"image/0/c/{mark.stem}/0/0"
        assert (output / first.relative_to(part / "image")).stat().st_mtime_ns == written[first]
    archive.restore_archive(path, tmp_path / "c.zarr", load())
    assert files(output) == files(tmp_path / "c.zarr")


def begin(path, output, **options):
    with pytest.raises(Stop):
        archive.restore_archive(path, output, load(), progress=stop_after(0), **options)


def test_another_job_does_not_go_on(tmp_path, monkeypatch):
    set_limits(monkeypatch, WHOLE)
    path = store(tmp_path / "a.zarr", noisy((40, 40, 30)), (1, 40, 30))
    output = tmp_path / "b.zarr"
    begin(path, output)
    with pytest.raises(ValueError, match=r"b.zarr.part: was begun with another model \(tem_kern"):
        archive.restore_archive(path, output, load("tem_kernel_w5"))
    with pytest.raises(ValueError, match="another despike"):
        archive.restore_archive(path, output, load(), despike=True)
    weights = {"params": {"weights": load().variables["params"]["weights"] + 1}}
    with pytest.raises(ValueError, match="another weights"):
        archive.restore_archive(path, output, load()._replace(variables=weights))
    shutil.rmtree(path)
    store(path, noisy((40, 40, 30)), (1, 40, 30))
    with pytest.raises(ValueError, match=r"another source: .* remove the folder"):
        archive.restore_archive(path, output, load())
    shutil.rmtree(tmp_path / "b.zarr.part")
    assert archive.restore_archive(path, output, load()).found == 0


def test_folders_of_others_are_left_alone(tmp_path):
    path = store(tmp_path / "a.zarr", noisy((40, 30)), (40, 30))
    part = tmp_path / "b.zarr.part"
    part.mkdir()
    (part / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="move it away"):
        archive.restore_archive(path, tmp_path / "b.zarr", load())
    assert (part / "mine.txt").read_text() == "keep"


def test_killed_between_the_last_two_steps(tmp_path, monkeypatch):
    path = store(tmp_path / "a.zarr", noisy((40, 30)), (40, 30))
    output = tmp_path / "b.zarr"
    begin(path, output)
    shutil.rmtree(tmp_path / "b.zarr.part/image")
    archive.restore_archive(path, output, load())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


def test_the_first_unit_of_a_process_is_alone(tmp_path, monkeypatch):
    """What it imports and compiles would be met half done by another."""
    set_limits(monkeypatch, WHOLE)
    path = store(tmp_path / "a.zarr", noisy((8, 40, 30)), (1, 40, 30))
    busy, most = [], []

    def slow(stack, out, model, **options):
        busy.append(1)
        if not most:
            time.sleep(0.2)
        most.append(len(busy))
        busy.pop()
        return restore_frames(stack, out, model, **options)

    monkeypatch.setattr(archive.units, "restore_frames", slow)
    archive.restore_archive(path, tmp_path / "b.zarr", load())
    assert len(most) == 8
    assert most[0] == 1


# --- refusals --------------------------------------------------------------------------------


def test_outputs_that_cannot_be(tmp_path):
    path = store(tmp_path / "a.zarr", noisy((40, 30)), (40, 30))
    with pytest.raises(ValueError, match=r"name it \.zarr"):
        archive.restore_archive(path, tmp_path / "b.tif", load())
    with pytest.raises(ValueError, match="is the input"):
        archive.restore_archive(path, path, load(), overwrite=True)
    store(tmp_path / "b.zarr", noisy((4, 3)), (4, 3))
    with pytest.raises(FileExistsError, match="--overwrite"):
        archive.restore_archive(path, tmp_path / "b.zarr", load())
    archive.restore_archive(path, tmp_path / "b.zarr", load(), overwrite=True)
    assert micrograph.read(tmp_path / "b.zarr").pixels.shape == (40, 30)


def test_sources_that_cannot_be(tmp_path):
    np.save(tmp_path / "a.npy", noisy((40, 30)))
    for name, error in [("a.npy", "is no Zarr"), ("none.zarr", "no such file")]:
        with pytest.raises((FormatError, FileNotFoundError), match=f"{name}: {error}"):
            archive.restore_archive(tmp_path / name, tmp_path / "b.zarr", load())
    path = store(tmp_path / "a.zarr", noisy((3, 40, 30)), (1, 40, 30))
    (path / "c/1/0/0").unlink()
    with pytest.raises(FormatError, match=r"a.zarr: chunk c/1/0/0 of array / is missing"):
        archive.restore_archive(path, tmp_path / "b.zarr", load())
    assert not (tmp_path / "b.zarr").exists()
    far = np.full((40, 30), 1e308)
    far[0, 0] = -1e308
    path = store(tmp_path / "far.zarr", far, (40, 30))
    with pytest.raises(ValueError, match=r"far.zarr: .*too far apart"):
        archive.restore_archive(path, tmp_path / "c.zarr", load())


@pytest.mark.parametrize("option", ["despike", "put_back"])
def test_some_options_are_for_whole_frames(tmp_path, monkeypatch, option):
    set_limits(monkeypatch, PIECES)
    path = store(tmp_path / "a.zarr", noisy((140, 150)), (70, 75))
    match = f"--{option.replace('_', '-')} is for whole ones: leave it out"
    with pytest.raises(ValueError, match=match):
        archive.restore_archive(path, tmp_path / "b.zarr", load(), **{option: True})


def test_what_is_put_back_where_that_can_be_is_left_out_in_pieces(tmp_path, monkeypatch):
    path = store(tmp_path / "a.zarr", noisy((140, 150)), (70, 75))
    set_limits(monkeypatch, PIECES)
    plain = archive.restore_archive(path, tmp_path / "b.zarr", load())
    done = archive.restore_archive(path, tmp_path / "c.zarr", load(), put_back=None)
    assert done.report.put_back == []
    assert done.report.warnings == [
        *plain.report.warnings,
        "nothing is put back: frames are restored in pieces",
    ]
    stored = [zarr.open(tmp_path / name)["0"][...] for name in ("b.zarr", "c.zarr")]
    np.testing.assert_array_equal(*stored)
    set_limits(monkeypatch, PIECES | {"WHOLE_PX": 140 * 150})
    whole = archive.restore_archive(path, tmp_path / "d.zarr", load(), put_back=None)
    assert len(whole.report.put_back) == 1


def test_a_job_in_pieces_goes_on_whether_or_not_it_was_to_put_back(tmp_path, monkeypatch):
    path = store(tmp_path / "a.zarr", noisy((140, 150)), (70, 75))
    set_limits(monkeypatch, PIECES)
    due = archive.restore_archive(path, tmp_path / "b.zarr", load())
    with monkeypatch.context() as patch:
        patch.setattr(archive.folder, "finish", lambda *_: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception):
            archive.restore_archive(path, tmp_path / "c.zarr", load(), put_back=None)
    set_limits(monkeypatch, {"WHOLE_PX": 140 * 150})  # what was begun in pieces goes on so
    done = archive.restore_archive(path, tmp_path / "c.zarr", load(), put_back=False)
    assert done.found == done.units == due.units
    stored = [zarr.open(tmp_path / name)["0"][...] for name in ("b.zarr", "c.zarr")]
    np.testing.assert_array_equal(*stored)


def test_whole_frames_get_back_what_they_lost(tmp_path, monkeypatch):
    set_limits(monkeypatch, WHOLE)
    stack = noisy((3, 64, 70)) + (np.arange(70) % 5 * 20).astype("uint16")  # too fine for a kernel
    path = store(tmp_path / "a.zarr", stack, (1, 64, 70))
    for name, put_back in (("b.zarr", True), ("c.zarr", Electrons(4.0, -3.0))):
        done = archive.restore_archive(path, tmp_path / name, load(), put_back=put_back)
        whole = restore(Micrograph(stack), load(), put_back=put_back)
        assert done.report.put_back == whole.report.put_back
        assert (done.report.gain, done.report.black) == (whole.report.gain, whole.report.black)
        assert min(whole.report.put_back) > 0.5
        found = zarr.open(tmp_path / name)["0"][...]
        np.testing.assert_allclose(found, whole.micrograph.pixels, atol=1)
    with pytest.raises(ValueError, match=r"a gain of -4\.0: give counts an electron above 0"):
        archive.restore_archive(path, tmp_path / "d.zarr", load(), put_back=Electrons(-4.0))
    assert not (tmp_path / "d.zarr.part").exists()


def test_a_job_goes_on_with_its_gain_alone(tmp_path, monkeypatch):
    path = store(tmp_path / "a.zarr", noisy((3, 64, 70)), (1, 64, 70))
    with monkeypatch.context() as patch:
        patch.setattr(archive.folder, "finish", lambda *_: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception):
            archive.restore_archive(path, tmp_path / "b.zarr", load(), put_back=Electrons(1.0))
    for other, shown in ((None, "True"), (Electrons(2.0), r"\[2.0, 0.0\]")):
        match = rf"begun with another put_back \(\[1.0, 0.0\], not {shown}\)"
        with pytest.raises(ValueError, match=match):
            archive.restore_archive(path, tmp_path / "b.zarr", load(), put_back=other)
    done = archive.restore_archive(path, tmp_path / "b.zarr", load(), put_back=Electrons(1.0))
    assert done.found == done.units


def test_a_full_disk_names_the_output(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "elsewhere")

    path = store(tmp_path / "a.zarr", noisy((40, 30)), (40, 30))
    monkeypatch.setattr(archive.units, "store", full)
    with pytest.raises(OSError, match="not written") as error:
        archive.restore_archive(path, tmp_path / "b.zarr", load())
    assert error.value.filename == str(tmp_path / "b.zarr")


# --- on other machines -----------------------------------------------------------------------


def test_no_scheduler_is_told(tmp_path):
    dask = pytest.importorskip("dask")
    pytest.importorskip("distributed", reason="needs distributed")
    path = store(tmp_path / "a.zarr", noisy((40, 30)), (40, 30))
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.2s"}),
        pytest.raises(OSError, match="no dask scheduler answers"),
    ):
        archive.restore_archive(path, tmp_path / "b.zarr", load(), scheduler="tcp://127.0.0.1:9")


def test_a_cluster_of_two_processes(tmp_path, monkeypatch, processes):
    distributed = pytest.importorskip("distributed", reason="needs distributed")
    dask = pytest.importorskip("dask")
    set_limits(monkeypatch, PIECES)
    whole = store(tmp_path / "a.zarr", noisy((9, 40, 30)), (1, 40, 30))
    large = store(tmp_path / "large.zarr", noisy((140, 150)), (70, 75))
    method = {"distributed.worker.multiprocessing-method": processes.get_start_method()}
    with (
        dask.config.set(method),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
    ):
        for path in (whole, large):
            done = [
                archive.restore_archive(path, tmp_path / name, load(), scheduler=address)
                for name, address in [("b.zarr", cluster.scheduler_address), ("c.zarr", None)]
            ]
            assert done[0] == done[1]
            assert files(tmp_path / "b.zarr") == files(tmp_path / "c.zarr")
            shutil.rmtree(tmp_path / "b.zarr")
            shutil.rmtree(tmp_path / "c.zarr")
        far = np.full((40, 30), 1e308)
        far[0, 0] = -1e308
        path = store(tmp_path / "far.zarr", far, (40, 30))
        with pytest.raises(ValueError, match=r"far.zarr: .*too far apart"):
            archive.restore_archive(
                path, tmp_path / "b.zarr", load(), scheduler=cluster.scheduler_address
            )

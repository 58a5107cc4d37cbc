"""What is written comes back, in each format; what cannot be read or written is one line."""

import gzip
import io
import json
import os
import pathlib
import struct
import sys
import zipfile

import numpy as np
import pytest

from emd.data import micrograph
from emd.data.formats import extras, original, registry, units
from emd.data.micrograph import DTYPES, FormatError, Micrograph

METADATA = {
    "text": 'é日\n<&>"\x01', "list": [1, 2.5, None], "deep": {"on": True}, "title": "a/b",
    "acquisition": {"TEM": {"beam_energy": 300.0}}, "long": "x" * 100_000,
    "emd": [{"model": "tem_mlp1_w7", "weights": "abc"}],
}  # fmt: skip
SIZE = (1 / 3, 1 / 7)
MRC_DTYPES = ("int8", "int16", "uint16", "float16", "float32")


def _pixels(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    return (np.random.default_rng(0).random(shape) * 100).astype(dtype)


def _needs(suffix: str) -> None:
    for package in {".mrc": ["mrcfile"], ".hspy": ["rsciio", "h5py"]}.get(suffix, []):
        pytest.importorskip(package, reason="needs the extra io")


def _round(path: pathlib.Path, value: Micrograph) -> Micrograph:
    _needs(path.suffix)
    micrograph.write(path, value)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    return micrograph.read(path)


def _line(path: pathlib.Path, **options: object) -> str:
    with pytest.raises(FormatError) as error:
        micrograph.read(path, **options)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("shape", [(1, 1), (9, 1), (5, 7), (1, 5, 7), (3, 5, 7)])
@pytest.mark.parametrize("suffix", [".mrc", ".hspy", ".zspy", ".tif"])
def test_everything_comes_back(tmp_path: pathlib.Path, suffix: str, shape: tuple[int, ...]) -> None:
    for k, dtype in enumerate(MRC_DTYPES if suffix == ".mrc" else DTYPES):
        (tmp_path / dtype).mkdir()
        unit = ("nm", "µm", "1/nm", "Å", "")[k % 5]
        value = Micrograph(_pixels(shape, dtype), SIZE, unit, METADATA)
        assert _round(tmp_path / dtype / f"a{suffix}", value) == value


@pytest.mark.parametrize("suffix", [".mrc", ".hspy", ".zspy", ".npy"])
def test_pixels_of_every_value_come_back(tmp_path: pathlib.Path, suffix: str) -> None:
    value = Micrograph(np.float32([[np.nan, np.inf], [-np.inf, -0.0]]))
    result = _round(tmp_path / f"a{suffix}", value)
    assert result == value
    assert np.signbit(result.pixels[1, 1])
    assert result.pixel_size is None


def test_4d_data_take_their_shape_again(tmp_path: pathlib.Path) -> None:
    frames = [{"name": n, "scale": 12.8, "offset": 0.0, "units": "nm"} for n in "yx"]
    metadata = {"stack_shape": [2, 3], "frames": frames}
    value = Micrograph(_pixels((6, 4, 5)), SIZE, "1/nm", metadata)
    for suffix in (".hspy", ".zspy"):
        path = tmp_path / suffix[1:]
        path.mkdir()
        assert _round(path / f"a{suffix}", value) == value
        (summary,) = micrograph.signals(path / f"a{suffix}")
        assert summary.shape == (2, 3, 4, 5)
        one = micrograph.read(path / f"a{suffix}", frame=4)
        np.testing.assert_array_equal(one.pixels, value.pixels[4])


def test_zspy_is_read_alike_by_rosettasciio(tmp_path: pathlib.Path) -> None:
    reader = pytest.importorskip("rsciio.zspy", reason="needs the extra io")
    path = tmp_path / "a.zspy"
    micrograph.write(path, Micrograph(_pixels((3, 5, 7)), (0.5, 0.25), "nm", METADATA))
    (found,) = reader.file_reader(str(path))
    np.testing.assert_array_equal(found["data"], _pixels((3, 5, 7)))
    assert [a["scale"] for a in found["axes"]] == [1.0, 0.5, 0.25]
    assert [a["units"] for a in found["axes"]] == ["", "nm", "nm"]
    assert [a["navigate"] for a in found["axes"]] == [True, False, False]
    assert found["metadata"]["Acquisition_instrument"]["TEM"]["beam_energy"] == 300.0


def test_zspy_in_many_chunks(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emd.data.formats.zspy._CHUNK_BYTES", 40)
    value = Micrograph(_pixels((2, 11, 7)))
    assert _round(tmp_path / "a.zspy", value) == value
    with zipfile.ZipFile(tmp_path / "a.zspy") as archive:
        assert sum("/data/" in name for name in archive.namelist()) == 2 * 6 + 1
        archive.extractall(tmp_path / "folder.zspy")
    assert micrograph.read(tmp_path / "folder.zspy") == value
    np.testing.assert_array_equal(
        micrograph.read(tmp_path / "folder.zspy", frame=1).pixels, value.pixels[1]
    )


def test_mrc_header_is_what_others_read(tmp_path: pathlib.Path) -> None:
    _needs(".mrc")
    path = tmp_path / "a.mrc"
    micrograph.write(path, Micrograph(_pixels((3, 5, 7)), (0.5, 0.25), "nm", METADATA))
    header = path.read_bytes()[:1024]
    columns, rows, sections, mode = struct.unpack("<4i", header[:16])
    assert (columns, rows, sections, mode) == (7, 5, 3, 6)
    samples, cell = struct.unpack("<3i", header[28:40]), struct.unpack("<3f", header[40:52])
    assert [c / s for c, s in zip(cell[:2], samples[:2], strict=True)] == [2.5, 5.0]
    assert header[224:248] == b"emd: tem_mlp1_w7".ljust(24, header[240:241])
    extended = struct.unpack("<i", header[92:96])[0]
    assert path.read_bytes()[1024 + extended :] == _pixels((3, 5, 7)).tobytes()


def test_mrc_of_other_programs(tmp_path: pathlib.Path) -> None:
    """Both byte orders, IMOD's unsigned bytes, a slice alone, gzip; a volume stays one."""
    mrcfile = pytest.importorskip("mrcfile", reason="needs the extra io")
    pixels = _pixels((1, 5, 7), "int8") - np.int8(50)
    for order in "<>":
        header = bytearray(1024)
        struct.pack_into(f"{order}10i", header, 0, 7, 5, 1, 0, 0, 0, 0, 7, 5, 1)
        struct.pack_into(f"{order}6f3i", header, 40, 14.0, 15.0, 4.0, 90, 90, 90, 1, 2, 3)
        struct.pack_into(f"{order}i", header, 88, 1)
        header[208:216] = b"MAP " + (b"DD\0\0" if order == "<" else b"\x11\x11\0\0")
        (tmp_path / "a.mrc").write_bytes(header + pixels.tobytes())
        result = micrograph.read(tmp_path / "a.mrc")
        assert (result.pixel_size, result.unit) == ((3.0, 2.0), "Å")
        np.testing.assert_array_equal(result.pixels, pixels[0])
        assert result.dtype == np.int8
        struct.pack_into(f"{order}ii", header, 152, 1146047817, 0)
        (tmp_path / "b.mrc").write_bytes(header + pixels.tobytes())
        np.testing.assert_array_equal(
            micrograph.read(tmp_path / "b.mrc").pixels, pixels[0].view(np.uint8)
        )
        (tmp_path / "a.mrc.gz").write_bytes(gzip.compress(header + pixels.tobytes()))
        assert micrograph.read(tmp_path / "a.mrc.gz").pixels.shape == (5, 7)
        (tmp_path / "cut.mrc").write_bytes(header + pixels.tobytes()[:-1])
        assert "truncated MRC (1058 of 1059 bytes)" in _line(tmp_path / "cut.mrc")
        for mode, kind in ((3, "complex"), (4, "complex"), (101, "4-bit")):
            struct.pack_into(f"{order}i", header, 12, mode)
            (tmp_path / "c.mrc").write_bytes(header + bytes(999))
            assert kind in _line(tmp_path / "c.mrc")
    volume = Micrograph(_pixels((4, 5, 7)), (2.0, 2.0), "Å", {"mrc": {"volume": {"slice": 3.0}}})
    micrograph.write(tmp_path / "v.mrc", volume)
    with extras.quiet(), mrcfile.open(tmp_path / "v.mrc") as file:
        assert file.is_volume()
        assert file.header.cella.z == 12.0


@pytest.mark.parametrize("dtype", ["int32", "uint32", "float64"])
def test_mrc_refuses_what_it_has_no_mode_for(tmp_path: pathlib.Path, dtype: str) -> None:
    with pytest.raises(ValueError, match=rf"a\.mrc: MRC holds no {dtype}.*name the output"):
        micrograph.write(tmp_path / "a.mrc", Micrograph(_pixels((2, 2), dtype)))
    assert list(tmp_path.iterdir()) == []


def test_mrc_makes_uint8_uint16(tmp_path: pathlib.Path) -> None:
    result = _round(tmp_path / "a.mrc", Micrograph(_pixels((5, 7), "uint8"), SIZE, "nm"))
    np.testing.assert_array_equal(result.pixels, _pixels((5, 7), "uint8"))
    assert (result.dtype, result.pixel_size) == (np.uint16, SIZE)


@pytest.mark.parametrize("suffix", [".mrc", ".hspy", ".zspy"])
def test_a_calibration_changed_since_wins(tmp_path: pathlib.Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    _round(path, Micrograph(_pixels((5, 7)), (0.5, 0.5), "nm", {"kept": 1}))
    if suffix == ".mrc":
        content = bytearray(path.read_bytes())
        struct.pack_into("<2f", content, 40, 70.0, 50.0)
        path.write_bytes(content)
    elif suffix == ".hspy":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "a") as file:
            for axis in ("axis-0", "axis-1"):
                file["Experiments/__unnamed__"][axis].attrs["scale"] = 1.0
    else:
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content.replace(b'"scale": 0.5', b'"scale": 1.0'))
    result = micrograph.read(path)
    expected = (1.0, 1.0) if suffix != ".mrc" else (10.0, 10.0)
    assert (result.pixel_size, result.metadata) == (expected, {"kept": 1})


def test_numpy_files(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.npy"
    assert _round(path, Micrograph(_pixels((3, 5, 7)), SIZE, "nm")) == Micrograph(
        _pixels((3, 5, 7))
    )
    np.testing.assert_array_equal(micrograph.read(path, frame=2).pixels, _pixels((3, 5, 7))[2])
    np.save(path, np.arange(24).reshape(2, 3, 2, 2))
    result = micrograph.read(path)
    assert (result.pixels.shape, result.dtype) == ((6, 2, 2), np.int32)
    assert result.metadata == {"stack_shape": [2, 3]}
    np.savez(
        tmp_path / "a.npz", image=_pixels((5, 7)), line=np.zeros(9), flags=np.ones((2, 2), bool)
    )
    assert micrograph.read(tmp_path / "a.npz") == Micrograph(_pixels((5, 7)))
    faults = [s.fault for s in micrograph.signals(tmp_path / "a.npz")]
    assert not faults[0]
    assert "spectrum of 9 points" in faults[1]
    assert "boolean" in faults[2]
    for array, message in (
        (np.array([[2**40]]), "do not fit int32"),
        (np.zeros((2, 2), "c8"), "complex"),
        (np.array([[{}]]), "damaged"),
    ):
        np.save(path, array, allow_pickle=True)
        assert message in _line(path)


def test_arrays_of_npz_are_read_when_asked_for_and_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, stack, read = tmp_path / "a.npz", _pixels((3, 5, 7)), []
    arrays = {"stack": stack, "objects": np.array([[{}]]), "other": np.full((99, 99), 7, "u2")}
    np.savez(path, **arrays)
    content = path.read_bytes()
    assert content.count(arrays["other"].tobytes()) == 1
    path.write_bytes(content.replace(arrays["other"].tobytes(), bytes(2 * 99 * 99)))
    read_array = np.lib.format.read_array

    def noted(*arguments: object, **options: object) -> np.ndarray:
        array = read_array(*arguments, **options)
        read.append(array.shape)
        return array

    monkeypatch.setattr(np.lib.format, "read_array", noted)
    found = micrograph.signals(path)
    assert [(s.name, s.shape, bool(s.fault)) for s in found] == [
        ("stack", (3, 5, 7), False), ("objects", (1, 1), True), ("other", (99, 99), False)
    ]  # fmt: skip
    assert read == []
    with micrograph.opened(path, signal="stack") as source:
        np.testing.assert_array_equal(source[0:3], stack)
    assert read == [(3, 5, 7)]
    assert "damaged" in _line(path, signal="other")


def test_tiff_by_frame(tmp_path: pathlib.Path) -> None:
    path, pixels = tmp_path / "a.tif", _pixels((3, 5, 7))
    micrograph.write(path, Micrograph(pixels, SIZE, "nm", {"a": 1}))
    assert micrograph.signals(path) == [("0", (3, 5, 7), "uint16", "")]
    for frame in range(3):
        expected = Micrograph(pixels[frame], SIZE, "nm", {"a": 1})
        assert micrograph.read(path, signal=0, frame=frame) == expected
    for frame in (-1, 3):
        assert f"has no frame {frame}: its frames are 0 to 2" in _line(path, frame=frame)
    assert "has no signal 1" in _line(path, signal=1)
    micrograph.write(tmp_path / "b.tif", Micrograph(_pixels((4, 2, 1), "float16")))
    one = micrograph.read(tmp_path / "b.tif", frame=3)
    np.testing.assert_array_equal(one.pixels, _pixels((4, 2, 1), "float16")[3])
    assert micrograph.signals(tmp_path / "b.tif")[0].shape == (4, 2, 1)


@pytest.mark.parametrize(
    ("suffix", "reader"),
    [
        (".tif", "tifffile.TiffPageSeries.asarray"),
        (".npy", "numpy.array"),
        (".zarr", "zarr.Array.__getitem__"),
    ],
)
def test_too_little_memory_is_not_told_as_damage_alone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, suffix: str, reader: str
) -> None:
    pytest.importorskip(reader.partition(".")[0])
    micrograph.write(tmp_path / f"a{suffix}", Micrograph(_pixels((5, 7))))

    def fail(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 1 TiB")

    monkeypatch.setattr(reader, fail)
    line = _line(tmp_path / f"a{suffix}")
    assert "needs more memory than is there, or its header is damaged (Unable to allo" in line
    assert "truncated" not in line


@pytest.mark.parametrize("suffix", registry.SUFFIXES)
def test_what_is_no_such_file(tmp_path: pathlib.Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"")
    assert "0 bytes" in _line(path)
    path.write_bytes(b"a text file\n" * 200)
    _line(path)
    for magic in (
        b"PK\x03\x04",
        b"\x1f\x8b",
        b"BZh",
        b"\x89HDF\r\n\x1a\n",
        b"\0\0\0\x03",
        b"IMGBLO",
    ):
        path.write_bytes(magic + b"garbage" * 99)
        _line(path)


@pytest.mark.parametrize("suffix", registry.READ_ONLY)
def test_instruments_formats_are_not_written(tmp_path: pathlib.Path, suffix: str) -> None:
    with pytest.raises(ValueError, match="read but not written: name the output"):
        micrograph.write(tmp_path / f"a{suffix}", Micrograph(_pixels((2, 2))))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mrcfile", "rsciio.digitalmicrograph", "rsciio.hspy"):
        monkeypatch.setitem(sys.modules, name, None)
    path = tmp_path / "a.dm3"
    path.write_bytes(b"\0\0\0\x03" + bytes(300))
    assert _line(path).endswith("pip install 'emd-micrograph[io]'")
    for suffix in (".mrc", ".hspy"):
        with pytest.raises(FormatError, match=rf"a{suffix}: needs the package .*pip install"):
            micrograph.write(tmp_path / f"a{suffix}", Micrograph(_pixels((2, 2))))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("suffix", [".mrc", ".hspy", ".zspy", ".npy"])
def test_a_failed_write_keeps_the_previous_file(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, suffix: str, failure: BaseException
) -> None:
    path, value = tmp_path / f"a{suffix}", Micrograph(_pixels((5, 7)))
    _round(path, value)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(type(failure)):
            micrograph.write(path, Micrograph(value.pixels + 1), overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((2.0, 1.0, "A", "nm"), ((0.2, 1.0), "nm")),
        ((1.0, 1.0, "1 / nm", "nm^-1"), ((1.0, 1.0), "1/nm")),
        ((1.0, 1.0, "1/Å", "1/nm"), ((10.0, 1.0), "1/nm")),
        ((1.0, 2.0, "\u03bcm", "um"), ((1.0, 2.0), "µm")),
        ((1.0, 1.0, "[n_m]", "n_m"), ((1.0, 1.0), "nm")),
        ((1.0, 1.0, "mrad", "mrad"), ((1.0, 1.0), "mrad")),
        ((1.0, 1.0, "nm", "1/nm"), (None, "")),
        ((1.0, 1.0, "", ""), (None, "")),
        ((0.0, 1.0, "nm", "nm"), (None, "")),
        ((-1.0, 1.0, "nm", "nm"), (None, "")),
        ((1.0, float("nan"), "nm", "nm"), (None, "")),
        ((None, None, "nm", "nm"), (None, "")),
    ],
)
def test_pixel_sizes(given: tuple[object, ...], expected: object) -> None:
    assert units.pixel_size(*given) == expected


def test_metadata_thinned_to_json() -> None:
    tree = {
        1: np.float32(0.5), "nan": float("nan"), "bytes": b"abc\0", "array": np.arange(3),
        "deep": {"none": None, "big": np.zeros(65), "blob": b"\xff", "long": "x" * 30_000},
        "object": object(), "flag": np.bool_(True), "list": [np.int8(1), {"a": 2}],
    }  # fmt: skip
    kept, dropped = original.thin(tree)
    assert kept == {
        "1": 0.5, "nan": None, "bytes": "abc", "array": [0, 1, 2], "deep": {"none": None},
        "flag": True, "list": [1, {"a": 2}],
    }  # fmt: skip
    assert dropped == ["deep.big", "deep.blob", "deep.long", "object"]
    assert json.loads(json.dumps(kept)) == kept


def test_the_header_of_mrc_has_the_statistics_of_its_pixels(tmp_path: pathlib.Path) -> None:
    mrcfile = pytest.importorskip("mrcfile")
    pixels = np.random.default_rng(0).poisson(50, (3, 20, 30)).astype(np.uint16)
    micrograph.write(tmp_path / "a.mrc", Micrograph(pixels, (0.1, 0.1), "nm"))
    told = io.StringIO()
    with extras.quiet():
        with mrcfile.open(tmp_path / "a.mrc") as file:
            names = ("dmin", "dmax", "dmean", "rms")
            found = [float(file.header[name]) for name in names]
        mrcfile.validate(str(tmp_path / "a.mrc"), print_file=told)
    # an extended header of one's own is allowed, and the one thing it does not know
    complaints = told.getvalue().strip().splitlines()[1:]
    assert len(complaints) == 1, complaints
    assert "exttyp = 'EMDR'" in complaints[0]
    due = [pixels.min(), pixels.max(), pixels.mean(), pixels.std()]
    np.testing.assert_allclose(found, due, rtol=1e-6)

"""Round trips over every type, files of other programs, bad input, and writes that fail."""

import csv
import logging
import os
import pathlib
import zlib

import hypothesis
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import tifffile
from hypothesis import strategies as st

from emd.data import micrograph
from emd.data.micrograph import DTYPES, FormatError, Micrograph

UNITS = ["", "nm", "µm", "um", "Å", "pm", "m", "1/nm", "mrad", "日"]
METADATA = {"text": 'é日\n<&>"\x01', "list": [1, 2.5, None], "deep": {"on": True}}


def _pixels(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    return (np.random.default_rng(0).random(shape) * 100).astype(dtype)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("micrographs") / "round.emd"


def _round(path: pathlib.Path, value: Micrograph) -> Micrograph:
    micrograph.write(path, value, overwrite=True)
    return micrograph.read(path)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 9), (9, 1), (5, 7), (1, 5, 7), (3, 5, 7), (4, 1, 1), (4, 2, 1), (4, 4, 3)]
)
def test_round_trip(scratch: pathlib.Path, dtype: str, shape: tuple[int, ...]) -> None:
    value = Micrograph(_pixels(shape, dtype), (1 / 3, 1 / 7), "nm", METADATA)
    result = _round(scratch, value)
    assert result == value
    assert result.pixels.shape == shape
    assert result.dtype == np.dtype(dtype)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    pixels=hnp.arrays(
        st.sampled_from(DTYPES),
        hnp.array_shapes(min_dims=2, max_dims=3, max_side=6),
        elements=None,
    ),
    size=st.none() | st.tuples(*[st.floats(1e-15, 1e15)] * 2),
    unit=st.sampled_from(UNITS),
    metadata=st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.floats(-1, 1))),
)
def test_round_trip_of_anything(
    scratch: pathlib.Path,
    pixels: np.ndarray,
    size: tuple[float, float] | None,
    unit: str,
    metadata: dict[str, object],
) -> None:
    value = Micrograph(pixels, size, unit, metadata)
    assert _round(scratch, value) == value


def test_equality_sees_each_field() -> None:
    base = Micrograph(_pixels((2, 3)), (1.0, 1.0), "nm", {"a": 1})
    assert base == Micrograph(base.pixels.astype(">u2"), (1.0, 1.0), "nm", {"a": 1})
    others = [
        Micrograph(base.pixels + 1, (1.0, 1.0), "nm", {"a": 1}),
        Micrograph(base.pixels.astype("int32"), (1.0, 1.0), "nm", {"a": 1}),
        Micrograph(base.pixels, (1.0, 2.0), "nm", {"a": 1}),
        Micrograph(base.pixels, (1.0, 1.0), "µm", {"a": 1}),
        Micrograph(base.pixels, (1.0, 1.0), "nm", {"a": 2}),
    ]
    assert all(base != other for other in others)
    hot = np.float32([[np.nan, 1]])
    assert Micrograph(hot) == Micrograph(hot.copy())


@pytest.mark.parametrize(
    ("dtype", "kind"), [("uint8", "imagej"), ("float32", "imagej"), ("float64", "ome"),
                        ("int16", "ome"), ("float16", "shaped")]
)  # fmt: skip
def test_other_programs_find_the_scale(tmp_path: pathlib.Path, dtype: str, kind: str) -> None:
    path = tmp_path / "a.tif"
    micrograph.write(path, Micrograph(_pixels((3, 5, 7), dtype), (0.25, 0.5), "µm"))
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        assert getattr(tiff, f"is_{kind}")
        assert tiff.series[0].shape == (3, 5, 7)
        if kind == "imagej":
            assert page.get_resolution() == (2, 4)
            assert "unit=\\u00B5m" in page.description
        elif kind == "ome":
            assert 'PhysicalSizeX="0.5" PhysicalSizeXUnit="µm"' in tiff.ome_metadata
            assert 'PhysicalSizeY="0.25"' in tiff.ome_metadata
        else:
            assert page.get_resolution("micrometer") == pytest.approx((2, 4))


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("micron", "µm"),
        ("\\u00B5m", "µm"),
        ("um", "µm"),
        ("nm", "nm"),
        ("\\u00C5", "Å"),
        ("angstrom", "Å"),
    ],
)
def test_imagej_scale(tmp_path: pathlib.Path, unit: str, expected: str) -> None:
    path = tmp_path / "a.tif"
    metadata = {"unit": unit, "axes": "ZYX"}
    pixels = _pixels((2, 5, 7))
    tifffile.imwrite(path, pixels, imagej=True, resolution=(4, 8), metadata=metadata)
    result = micrograph.read(path)
    assert result.pixel_size == (0.125, 0.25)
    assert result.unit == expected
    np.testing.assert_array_equal(result.pixels, pixels)
    assert result.metadata["imagej"]["slices"] == 2
    assert _round(tmp_path / "b.tif", result) == result


@pytest.mark.parametrize("unit", [None, "pixel"])
def test_imagej_without_unit_has_no_scale(tmp_path: pathlib.Path, unit: str | None) -> None:
    metadata = {} if unit is None else {"unit": unit}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, _pixels((5, 7)), imagej=True, resolution=(4, 8), metadata=metadata)
    assert micrograph.read(path).pixel_size is None


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"X": 0.5, "XUnit": "nm", "Y": 0.25, "YUnit": "nm"}, ((0.25, 0.5), "nm")),
        ({"X": 0.5, "Y": 0.25}, ((0.25, 0.5), "µm")),
        ({"X": 0.5, "XUnit": "Å"}, ((0.5, 0.5), "Å")),
        ({"X": 5.0, "XUnit": "nm", "Y": 0.25, "YUnit": "µm"}, ((250.0, 5.0), "nm")),
        ({"X": 1.0, "XUnit": "pixel"}, (None, "")),
        ({}, (None, "")),
    ],
)
def test_ome_scale(tmp_path: pathlib.Path, sizes: dict[str, object], expected: object) -> None:
    path = tmp_path / "a.tif"
    pixels = _pixels((2, 5, 7), "int32")
    metadata = {f"PhysicalSize{name}": value for name, value in sizes.items()}
    tifffile.imwrite(path, pixels, ome=True, metadata={"axes": "TYX", **metadata})
    result = micrograph.read(path)
    size, unit = expected
    assert result.unit == unit
    assert result.pixel_size == (None if size is None else pytest.approx(size))
    np.testing.assert_array_equal(result.pixels, pixels)


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        (2e7, "CENTIMETER", ((0.5, 0.5), "nm")),
        (5000, "CENTIMETER", ((2.0, 2.0), "µm")),
        (254000, "INCH", ((100.0, 100.0), "nm")),
        *[(dpi, "INCH", (None, "")) for dpi in (1, 72, 96, 300)],
        (28.35, "CENTIMETER", (None, "")),
        (1, "CENTIMETER", (None, "")),
        (2e7, "NONE", (None, "")),
    ],
)
def test_baseline_scale(
    tmp_path: pathlib.Path, resolution: float, unit: str, expected: object
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, _pixels((5, 7)), resolution=(resolution,) * 2, resolutionunit=unit)
    result = micrograph.read(path)
    size, name = expected
    assert (result.unit, result.pixel_size) == (name, size and pytest.approx(size))


def test_a_scale_changed_elsewhere_wins(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.tif"
    micrograph.write(path, Micrograph(_pixels((5, 7)), (0.5, 0.5), "nm", {"kept": 1}))
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for name in ("XResolution", "YResolution"):
            tiff.pages.first.tags[name].overwrite((4, 1))
    result = micrograph.read(path)
    assert result.pixel_size == (0.25, 0.25)
    assert result.metadata == {"kept": 1}


@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": 2, "tile": (16, 16)},
        {"bigtiff": True},
        {"tile": (16, 16)},
        {"rowsperstrip": 3},
        {"metadata": None},
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32"])
def test_forms_of_tiff(tmp_path: pathlib.Path, dtype: str, options: dict[str, object]) -> None:
    pixels = _pixels((3, 20, 33), dtype)
    tifffile.imwrite(tmp_path / "a", pixels, photometric="minisblack", **options)
    result = micrograph.read(tmp_path / "a")
    np.testing.assert_array_equal(result.pixels, pixels)
    assert result.dtype == np.dtype(dtype)
    assert result.dtype.isnative


def test_pages_written_one_by_one_are_a_stack(tmp_path: pathlib.Path) -> None:
    pixels = _pixels((3, 5, 7))
    with tifffile.TiffWriter(tmp_path / "a") as tiff:
        for frame in pixels:
            tiff.write(frame)
        tiff.write(pixels[0, ::2, ::2], subfiletype=1)  # a reduced copy
    np.testing.assert_array_equal(micrograph.read(tmp_path / "a").pixels, pixels)


def _check_line(error: pytest.ExceptionInfo[BaseException], path: pathlib.Path) -> None:
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": np.zeros((9, 9, 3), "u1"), "photometric": "rgb"}, "RGB colour"),
        ({"data": np.zeros((3, 9, 9), "u2"), "photometric": "rgb"}, "RGB colour"),
        ({"data": np.zeros((9, 9), "u1"), "photometric": "palette",
          "colormap": np.zeros((3, 256), "u2")}, "palette colour"),
        ({"data": np.zeros((9, 9), "c8")}, "complex"),
        ({"data": np.zeros((9, 9), "?")}, "boolean"),
        ({"data": np.zeros((9, 9), "i8")}, "int64"),
    ],
)  # fmt: skip
def test_refuses_what_is_no_micrograph(
    tmp_path: pathlib.Path, options: dict[str, object], message: str
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, **options)
    with pytest.raises(FormatError, match=message) as error:
        micrograph.read(path)
    _check_line(error, path)
    assert "damaged" not in str(error.value)


def test_refuses_images_of_unlike_size(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(_pixels((5, 7)))
        tiff.write(_pixels((5, 8)))
    with pytest.raises(FormatError, match="unlike size"):
        micrograph.read(path)


def test_a_missing_codec_is_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, _pixels((16, 16)), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages.first.tags["Compression"].overwrite(34887)  # LERC, in imagecodecs only
    with pytest.raises(FormatError, match="pip install imagecodecs") as error:
        micrograph.read(path)
    _check_line(error, path)


def _read_or_line(path: pathlib.Path) -> Micrograph | str:
    try:
        return micrograph.read(path)
    except FormatError as error:
        return str(error)


FORMS = {
    "plain": {},
    "deflate": {"compression": "zlib"},
    "tiles": {"tile": (16, 16)},
    "imagej": {"imagej": True},
    "ome": {"ome": True, "metadata": {"axes": "TYX"}},
    "bigtiff": {"bigtiff": True},
    "no description": {"metadata": None},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("frames", [1, 6])
def test_truncated(tmp_path: pathlib.Path, form: str, frames: int) -> None:
    """Cut anywhere: one clear line, or all the pixels; never fewer, never zeros."""
    path = tmp_path / "a.tif"
    pixels = 1 + _pixels((frames, 40, 50))
    tifffile.imwrite(path, pixels, photometric="minisblack", **FORMS[form])
    content = path.read_bytes()
    refused = 0
    lengths = {*np.linspace(0, len(content) - 1, 40, dtype=int).tolist(), *range(1, 20)}
    for length in lengths:
        path.write_bytes(content[:length])
        result = _read_or_line(path)
        if isinstance(result, Micrograph):
            np.testing.assert_array_equal(result.pixels.reshape(pixels.shape), pixels)
        else:
            assert str(path) in result
            assert "\n" not in result
            refused += 1
    assert refused >= len(lengths) - 2


def test_cut_between_tiles(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, 1 + _pixels((40, 50)), tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        end = tiff.pages.first.dataoffsets[-1]
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(FormatError, match="pixels end after the file does"):
        micrograph.read(path)


def test_missing_strips_are_not_zeros(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, _pixels((40, 50)), rowsperstrip=10, compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tag = tiff.pages.first.tags["StripByteCounts"]
        tag.overwrite((0, *tag.value[1:]))
    with pytest.raises(FormatError, match="pixels are missing"):
        micrograph.read(path)


def test_a_strip_that_unpacks_to_less_is_not_zeros(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((40, 50), "u1"), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        page = tiff.pages.first
        short = zlib.compress(b"\1" * 1000)
        assert len(short) <= page.databytecounts[0]
        tiff.filehandle.seek(page.dataoffsets[0])
        tiff.filehandle.write(short)
    with pytest.raises(FormatError, match="damaged"):
        micrograph.read(path)


@pytest.mark.parametrize(
    "content", [b"", b"a text file\n" * 9, b"II*\0", b"II*\0\x08\0\0\0", b"MM"]
)
def test_not_tiff(tmp_path: pathlib.Path, content: bytes) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(FormatError) as error:
        micrograph.read(path)
    _check_line(error, path)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(place=st.integers(0, 400), value=st.integers(0, 255))
def test_a_flipped_byte_raises_nothing_else(scratch: pathlib.Path, place: int, value: int) -> None:
    micrograph.write(scratch, Micrograph(_pixels((2, 5, 7)), (1.0, 1.0), "nm"), overwrite=True)
    content = bytearray(scratch.read_bytes())
    content[place % len(content)] = value
    scratch.write_bytes(content)
    result = _read_or_line(scratch)
    assert isinstance(result, Micrograph) or "\n" not in result


def test_missing_file_and_folder(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.tif: no such file"):
        micrograph.read(tmp_path / "a.tif")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        micrograph.read(tmp_path)


def test_reading_logs_nothing_and_leaves_the_log_alone(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a").write_bytes(b"II*\0\x08\0\0\0")
    with pytest.raises(FormatError):
        micrograph.read(tmp_path / "a")
    assert not caplog.records
    assert not logging.getLogger("tifffile").filters


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((2, 2), bool), "boolean"),
        (np.zeros((2, 2), "c16"), "complex"),
        (np.zeros((2, 2), "i8"), "int64"),
        (np.full((2, 2), "a"), "not supported"),
        (np.zeros(4, "u1"), "neither"),
        (np.zeros((1, 1, 2, 2), "u1"), "neither"),
        (np.zeros((32, 32, 3), "u1"), "RGB"),
        (np.zeros((0, 4), "u1"), "empty"),
    ],
)
def test_bad_pixels(pixels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Micrograph(pixels)


@pytest.mark.parametrize("size", [(0.0, 1.0), (-1.0, 1.0), (np.nan, 1.0), (1.0, np.inf)])
def test_bad_pixel_size(size: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="positive numbers"):
        Micrograph(_pixels((2, 2)), size)


def test_bad_unit() -> None:
    with pytest.raises(ValueError, match="printable"):
        Micrograph(_pixels((2, 2)), (1.0, 1.0), "n\nm")


def test_write_refuses(tmp_path: pathlib.Path) -> None:
    value, path = Micrograph(_pixels((2, 2))), tmp_path / "a.tif"
    with pytest.raises(FileNotFoundError, match="make it first"):
        micrograph.write(tmp_path / "none" / "a.tif", value)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        micrograph.write(tmp_path, value)
    with pytest.raises(ValueError, match=r"a\.tif: metadata is not JSON"):
        micrograph.write(path, Micrograph(value.pixels, metadata={"a": object()}))
    assert list(tmp_path.iterdir()) == []
    micrograph.write(path, value)
    with pytest.raises(FileExistsError, match="--overwrite"):
        micrograph.write(path, Micrograph(value.pixels + 1))
    assert micrograph.read(path) == value
    micrograph.write(path, Micrograph(value.pixels + 1), overwrite=True)
    assert micrograph.read(path) == Micrograph(value.pixels + 1)


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["imwrite", "fsync", "replace"])
def test_failed_write_keeps_the_previous_file(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, step: str, failure: BaseException
) -> None:
    path, value = tmp_path / "a.tif", Micrograph(_pixels((2, 2)))
    micrograph.write(path, value)

    def fail(*_: object, **__: object) -> None:
        raise failure

    owner = {"imwrite": tifffile, "fsync": os, "replace": pathlib.Path}[step]
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, fail)
        with pytest.raises(type(failure)) as error:
            micrograph.write(path, Micrograph(value.pixels + 1), overwrite=True)
    if isinstance(failure, OSError):
        _check_line(error, path)
    assert list(tmp_path.iterdir()) == [path]
    assert micrograph.read(path) == value


def test_find(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        micrograph.find(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="holds no micrograph"):
        micrograph.find(tmp_path)
    names = ["b.tif", "A.TIFF", "sub/c.tif", "no.txt", ".d.tif", ".hid/e.tif"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in micrograph.find(tmp_path)]
    assert found == ["A.TIFF", "b.tif", "sub/c.tif"]
    with pytest.raises(NotADirectoryError, match="is a file"):
        micrograph.find(tmp_path / "b.tif")


def test_every_real_micrograph_opens_as_stated(real_data: pathlib.Path) -> None:
    with (real_data / "MANIFEST.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    listed = {real_data / row["file"] for row in rows}
    assert listed == {p for part in ("train", "eval") for p in micrograph.find(real_data / part)}
    for row in rows:
        result = micrograph.read(real_data / row["file"])
        frames, height, width = (int(row[name]) for name in ("frames", "height", "width"))
        expected = (height, width) if frames == 1 else (frames, height, width)
        assert (result.pixels.shape, result.dtype) == (expected, row["dtype"]), row["file"]

"""Forms of TIFF that are read, and damaged or unfit ones that give one clear line."""

import importlib.util
import logging
import pathlib
import zlib

import hypothesis
import numpy as np
import pytest
import tifffile
from hypothesis import strategies as st

from emd.data import micrograph
from emd.data.micrograph import FormatError, Micrograph


def _pixels(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    return (np.random.default_rng(0).random(shape) * 100).astype(dtype)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("micrographs") / "round.tif"


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
        {"compression": "zlib", "tile": (2, 16, 16), "volumetric": True},
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


@pytest.mark.parametrize("dtype", micrograph.DTYPES)
@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7)])
def test_what_is_shown_inverted_stays_so(
    tmp_path: pathlib.Path, dtype: str, shape: tuple[int, ...]
) -> None:
    """Stored values pass as they are, so a viewer must be told the same of the result."""
    pixels, path = _pixels(shape, dtype), tmp_path / "b.tif"
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite")
    given = micrograph.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(given.pixels, pixels)
    assert given.metadata["photometric"] == "miniswhite"
    micrograph.write(path, given)
    assert micrograph.read(path) == given
    with tifffile.TiffFile(path, mode="r+") as tiff:
        assert {page.keyframe.photometric for page in tiff.pages} == {0}
        for page in tiff.pages:
            page.aspage().tags["PhotometricInterpretation"].overwrite(1)  # as another program may
    assert "photometric" not in micrograph.read(path).metadata


def test_pages_written_one_by_one_are_a_stack(tmp_path: pathlib.Path) -> None:
    pixels = _pixels((3, 5, 7))
    with tifffile.TiffWriter(tmp_path / "a") as tiff:
        tiff.write(pixels[0, :2, :2], subfiletype=1)  # a reduced copy
        for frame in pixels:
            tiff.write(frame)
    np.testing.assert_array_equal(micrograph.read(tmp_path / "a").pixels, pixels)


@pytest.mark.parametrize(
    "options", [{"imagej": True}, {"imagej": True, "byteorder": ">"}, {"byteorder": ">"}]
)
def test_frames_of_a_stack_with_one_page_are_read_alone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    """As ImageJ's files over 4 GB are: each frame would cost a pass over all of them."""
    path, pixels, counts = tmp_path / "a.tif", _pixels((3, 20, 33)), []
    tifffile.imwrite(path, pixels, photometric="minisblack", truncate=True, **options)
    np.testing.assert_array_equal(micrograph.read(path).pixels, pixels)
    read_array = tifffile.FileHandle.read_array

    def counted(*arguments: object, **options: object) -> np.ndarray:
        array = read_array(*arguments, **options)
        counts.append(array.size)
        return array

    monkeypatch.setattr(tifffile.FileHandle, "read_array", counted)
    for frame, expected in enumerate(pixels):
        np.testing.assert_array_equal(micrograph.read(path, frame=frame).pixels, expected)
    assert counts == [20 * 33] * 3


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


@pytest.mark.skipif(
    importlib.util.find_spec("imagecodecs") is not None, reason="imagecodecs is there"
)
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
    "one page": {"imagej": True, "truncate": True},
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


def test_reading_logs_nothing_and_leaves_the_log_alone(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a").write_bytes(b"II*\0\x08\0\0\0")
    with pytest.raises(FormatError):
        micrograph.read(tmp_path / "a")
    assert not caplog.records
    assert not logging.getLogger("tifffile").filters

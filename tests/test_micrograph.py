"""Round trips over every type, bad values, writes that fail, folders and real micrographs."""

import csv
import os
import pathlib

import hypothesis
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import tifffile
from hypothesis import strategies as st

from emd.data import micrograph
from emd.data.micrograph import DTYPES, Micrograph

UNITS = ["", "nm", "µm", "um", "Å", "pm", "m", "1/nm", "mrad", "日"]
METADATA = {"text": 'é日\n<&>"\x01', "list": [1, 2.5, None], "deep": {"on": True}}


def _pixels(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    return (np.random.default_rng(0).random(shape) * 100).astype(dtype)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("micrographs") / "round.tif"


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


def test_missing_file_and_folder(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.tif: no such file"):
        micrograph.read(tmp_path / "a.tif")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        micrograph.read(tmp_path)


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
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
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

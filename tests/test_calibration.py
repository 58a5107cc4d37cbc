"""Scales that other programs wrote, and ours as they find them."""

import pathlib

import numpy as np
import pytest
import tifffile

from emd.data import micrograph
from emd.data.micrograph import Micrograph


def _pixels(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    return (np.random.default_rng(0).random(shape) * 100).astype(dtype)


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
    micrograph.write(tmp_path / "b.tif", result)
    assert micrograph.read(tmp_path / "b.tif") == result


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

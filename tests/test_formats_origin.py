"""Where an image lies on the specimen: its axes' offsets come back, in the pixel size's unit."""

import json
import pathlib
import zipfile

import numpy as np
import pytest

from emd.data import micrograph
from emd.data.contents import Contents
from emd.data.formats import hspy, original, units, vendor
from emd.data.micrograph import Micrograph

PIXELS = np.arange(35, dtype="uint16").reshape(5, 7)
SUFFIXES = (".hspy", ".zspy")


def _axis(scale: object, offset: object, unit: str = "nm") -> dict[str, object]:
    return {"name": "y", "scale": scale, "offset": offset, "units": unit}


def _needs(suffix: str) -> None:
    if suffix == ".hspy":
        pytest.importorskip("rsciio", reason="needs the extra io")


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (_axis(0.5, -3.0), _axis(0.25, 4.0), [-3.0, 4.0]),
        (_axis(-0.5, -3.0), _axis(0.25, 4.0), [-3.0, 4.0]),
        (_axis(np.float32(0.1), np.float32(42.5)), _axis(0.1, 131.9), [42.5, 131.9]),
        (_axis(0.002, 0.1, "µm"), _axis(3.0, -7.0), [100.0, -7.0]),
        (_axis(1.0, -128.0, "1/Å"), _axis(1.0, 0.0, "1 / nm"), [-1280.0, 0.0]),
        (_axis(0.5, 0), _axis(0.5, -0.0), []),
        (_axis(0.5, float("nan")), _axis(0.5, None), []),
        (_axis(0.5, "far"), _axis(0.5, 10**400), []),
        (_axis(0.5, 3.0, ""), _axis(0.5, 4.0, ""), []),
        (_axis(0.0, 3.0), _axis(0.5, 4.0), []),
        (_axis(None, 3.0), _axis(0.5, 4.0), []),
    ],
)
def test_origin_is_in_the_pixels_unit(rows: dict, columns: dict, expected: list[float]) -> None:
    sizes = [abs(a["scale"]) if a["scale"] is not None else None for a in (rows, columns)]
    known = units.pixel_size(*sizes, rows["units"], columns["units"])
    frames = [_axis(2.0, -60.0, "deg")]
    assert original.origin([*frames, rows, columns], known) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("scale", "offset", "unit", "expected"),
    [
        (6.25, -2e-7, "nm", -200.0),  # scale in nm, offset in m
        (6.25, -200.0, "nm", -200.0),
        (0.125, -8e9, "1 / nm", -8.0),
        (0.125, -8.0, "1 / nm", -8.0),
        (1.25e17, -8e9, "nm", -8.0),  # 1/m taken for m
        (1.25e17, -8e18, "nm", -8.0),
    ],
)
def test_offsets_of_ser_are_in_metres(
    scale: float, offset: float, unit: str, expected: float
) -> None:
    axes = [vendor._placed(_axis(scale, offset, unit)), vendor._placed(_axis(scale, 0.0, unit))]
    found = original.origin(axes, vendor._calibration(*axes, "tia"))
    assert found == pytest.approx([expected, 0.0], rel=1e-14)


def test_other_axes_of_ser_are_left() -> None:
    for axis in (_axis(2.0, 1e-9, "s"), _axis(0.0, 1e-9), {"name": None}):
        assert vendor._placed(axis) == axis


# Of digitalmicrograph's and Velox' files as rosettasciio documents them; of SER, whose offset is
# that of the first pixel, minus half a field of view.
@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("digitalmicrograph__2D__test_STEM_image.dm3", (171, 207)),
        ("digitalmicrograph__2D__test_diffraction_pattern.dm3", (756, 786)),
        ("emd__fei_example_tem_stack.emd", (-2048, -2048)),
        ("tia__old__64x64_TEM_images_acquire_1.ser", (-32, -32)),
        ("tia__old__64x64_diffraction_acquire_1.ser", (-32, -32)),
        ("tia__new__128x128-TEM_search_1.ser", (-64, -64)),
        ("tia__old__16x16_STEM_BF_DF_acquire_1.ser", (-8, -8)),
        ("hspy__example2_v3.1.hspy", (756, 786)),
    ],
)
def test_real_files_have_them(
    real_data: pathlib.Path, tmp_path: pathlib.Path, name: str, pixels: tuple[int, int]
) -> None:
    pytest.importorskip("rsciio", reason="needs the extra io")
    path = real_data / "formats/hyperspy+rosettasciio" / name
    if not path.is_file():
        pytest.skip(f"no {name} among the real files")
    found = micrograph.read(path)
    assert found.pixel_size is not None
    sides = zip(found.metadata["origin"], found.pixel_size, strict=True)
    assert [place / side for place, side in sides] == pytest.approx(pixels, rel=1e-4)
    for suffix in SUFFIXES:
        micrograph.write(tmp_path / f"a{suffix}", found)
        assert micrograph.read(tmp_path / f"a{suffix}") == found


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_offsets_of_others_files_come_back(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    _needs(suffix)
    with monkeypatch.context() as patch:
        # As another program writes it: without our record.
        patch.setattr("emd.data.formats.record.text", lambda contents: "{}")
        value = Micrograph(PIXELS, (0.5, 0.25), "nm", {"origin": [-3.0, 4.0]})
        micrograph.write(tmp_path / f"a{suffix}", value)
    found = micrograph.read(tmp_path / f"a{suffix}")
    assert found.metadata["origin"] == [-3.0, 4.0]
    for other in SUFFIXES:
        _needs(other)
        micrograph.write(tmp_path / f"b{other}", found, overwrite=True)
        again = micrograph.read(tmp_path / f"b{other}")
        assert again == found
    _, axes = hspy.layout(Contents(PIXELS, (0.5, 0.25), "nm", found.metadata))
    assert [(a["scale"], a["offset"]) for a in axes] == [(0.5, -3.0), (0.25, 4.0)]


@pytest.mark.parametrize(
    "bad", ["ab", 3, [1.0], [1.0, None], [float("nan"), 1.0], [10**400, 1], [True, 1.0], {"y": 1}]
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_origin_is_written_as_0(
    tmp_path: pathlib.Path, suffix: str, bad: object
) -> None:
    _needs(suffix)
    value = Micrograph(PIXELS, (0.5, 0.25), "nm", {"origin": bad})
    _, axes = hspy.layout(Contents(PIXELS, (0.5, 0.25), "nm", {"origin": bad}))
    assert [a["offset"] for a in axes] == [0.0, 0.0]
    micrograph.write(tmp_path / f"a{suffix}", value)
    again = micrograph.read(tmp_path / f"a{suffix}").metadata
    assert json.dumps(again) == json.dumps(value.metadata)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_without_a_pixel_size_the_record_holds(tmp_path: pathlib.Path, suffix: str) -> None:
    _needs(suffix)
    value = Micrograph(PIXELS, None, "", {"origin": [-3.0, 4.0]})
    micrograph.write(tmp_path / f"a{suffix}", value)
    assert micrograph.read(tmp_path / f"a{suffix}") == value
    _, axes = hspy.layout(Contents(PIXELS, None, "", value.metadata))
    assert [a["offset"] for a in axes] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("changed", "expected"), [(b"6.25", {"origin": [6.25, 4.0]}), (b"-3.0", {"origin": [-3, 4]})]
)
def test_an_origin_changed_since_wins(
    tmp_path: pathlib.Path, changed: bytes, expected: dict
) -> None:
    path = tmp_path / "a.zspy"
    micrograph.write(path, Micrograph(PIXELS, (0.5, 0.25), "nm", {"origin": [-3.0, 4.0]}))
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content.replace(b'"offset": -3.0', b'"offset": ' + changed))
    assert micrograph.read(path).metadata == expected


@pytest.mark.parametrize("bad", ["abc", [1.0], [1.0, None], [float("inf"), 1.0], [[1], 2]])
def test_what_is_no_origin_is_no_translation(tmp_path: pathlib.Path, bad: object) -> None:
    zarr = pytest.importorskip("zarr", reason="needs the extra io")
    value = Micrograph(PIXELS, (0.5, 0.25), "nm", {"origin": bad})
    micrograph.write(tmp_path / "a.zarr", value)
    (told,) = zarr.open_group(tmp_path / "a.zarr", mode="r").attrs["ome"]["multiscales"]
    (change,) = told["datasets"][0]["coordinateTransformations"]
    assert change["type"] == "scale"
    assert micrograph.read(tmp_path / "a.zarr") == value

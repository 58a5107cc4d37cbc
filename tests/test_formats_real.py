"""Real files of every format: each opens with what its own bytes say, or ends in one line."""

import csv
import json
import os
import pathlib
import struct

import numpy as np
import pytest

from emd import cli
from emd.cli.ledger import NAME
from emd.data import micrograph
from emd.data.micrograph import FormatError

pytest.importorskip("rsciio", reason="needs the extra io")
pytest.importorskip("mrcfile", reason="needs the extra io")
h5py = pytest.importorskip("h5py", reason="needs the extra io")

MODEL = "tem_kernel_w3_published"

# Pixel size, unit and mode of the first image, as read off the files' own tags by other means:
# h5py, hexadecimal dumps, ncempy's and rosettasciio's published expectations.
EXPECTED = {
    "PinkShnack+TEMUL/Cropped_PTO-SRO_Aligned.hspy": (0.0149968, 0.0149968, "nm", "STEM"),
    "ePSIC-DLS+particlespy/JEOL_HAADF_Image.dm4": (0.00124901, 0.00124901, "µm", "STEM"),
    "ePSIC-DLS+particlespy/SiO2_HAADF_Image.hspy": (0.00855245, 0.00855245, "µm", "STEM"),
    "ercius+openNCEM/16_STOimage_1.ser": (0.0100127, 0.0100127, "nm", None),
    "ercius+openNCEM/Acquisition_18.emd": (0.0122465, 0.0122465, "nm", None),
    "ercius+openNCEM/Camera_Ceta_Diffraction_Micro.emd": (0.11443, 0.11443, "1/nm", "diffraction"),
    "ercius+openNCEM/STEM_HAADF-DF4-DF2-BF_Diffraction_Micro.emd": (
        0.0873708, 0.0873708, "µm", "STEM",
    ),
    "ercius+openNCEM/dmTest_float32_nonSquare_diffPixelSize.dm3": (0.2, 1.0, "nm", None),
    "ercius+openNCEM/dmTest_float32_nonSquare_diffPixelSize.dm4": (0.2, 1.0, "nm", None),
    "ercius+openNCEM/temp.mrc": (2.0, 2.0, "Å", None),
    "hanjinliu+cylindra/13pf_MT.tif": (1.052, 1.052, "nm", None),
    "usnistgov+etspy/HAADF.dm3": (0.0179949, 0.0179949, "µm", "STEM"),
    "rhambach+TEMimage/graphene_flower_raw.dm3": None,
    "pycroscopy+SciFiReaders/fei_emd_image.emd": (0.00530241, 0.00530241, "µm", "STEM"),
    "WarwickMicroscopy+Felix/GaAs_+0+0+0.dm3": None,
    "ccpem+mrcfile/EMD-3197.map": (11.4, 11.4, "Å", None),
    "ccpem+mrcfile/emd_3197.map.gz": (11.4, 11.4, "Å", None),
}  # fmt: skip
EXPECTED |= {
    f"hyperspy+rosettasciio/{name}": value
    for name, value in {
        "digitalmicrograph__2D__multi_signal.dm3": (0.0177516, 0.0177516, "nm", "STEM"),
        "digitalmicrograph__2D__test_STEM_image.dm3": (0.248538, 0.248538, "nm", "STEM"),
        "digitalmicrograph__2D__test_diffraction_pattern.dm3": (
            0.174433, 0.174433, "1/nm", "diffraction",
        ),
        "digitalmicrograph__2D__test-1.dm3": None,
        "digitalmicrograph__2D__test-1.dm4": None,
        "digitalmicrograph__2D__test-10.dm3": None,
        "digitalmicrograph__2D__test-10.dm4": None,
        "digitalmicrograph__3D__test-1.dm4": None,
        "digitalmicrograph__test_stackbuilder_imagestack.dm3": (
            0.0599829, 0.0599829, "µm", "STEM",
        ),
        "tia__old__03_Scanning_Preview.emi": (0.384352, 0.384352, "nm", "STEM"),
        "tia__old__03_Scanning_Preview_1.ser": (0.384352, 0.384352, "nm", None),
        "tia__old__64x64_TEM_images_acquire.emi": (6.28183, 6.28183, "nm", "TEM"),
        "tia__old__64x64_TEM_images_acquire_1.ser": (6.28183, 6.28183, "nm", None),
        "tia__old__64x64_diffraction_acquire_1.ser": (0.101572, 0.101572, "1/nm", "diffraction"),
        "tia__old__64x64x5_TEM_preview_1.ser": (6.28183, 6.28183, "nm", None),
        "tia__old__16x16_STEM_BF_DF_acquire.emi": (21.51, 21.51, "nm", "STEM"),
        "tia__old__16x16_STEM_BF_DF_acquire_1.ser": (21.51, 21.51, "nm", None),
        "tia__old__16x16_STEM_BF_DF_acquire_2.ser": (21.51, 21.51, "nm", None),
        "tia__new__128x128-TEM_search_1.ser": (5.26121, 5.26121, "nm", None),
        "tia__new__128x128x5-diffraction_preview_1.ser": (
            0.0424641, 0.0424641, "1/nm", "diffraction",
        ),
        "emd__example_image.emd": None,
        "emd__Si100_3D.emd": (0.25, 0.25, "nm", None),
        "emd__fei_example_tem_stack.emd": (8.17288, 8.17288, "pm", "TEM"),
        "emd__fei_example_dpc_titles.emd": (99.6199, 99.6199, "pm", "STEM"),
        "mrc__HAADFscan.mrc": (56.7913, 56.7913, "Å", "STEM"),
        "mrc__Custom_movie.mrc": None,  # -10 in the header
        "blockfile__test1.blo": (0.0160617, 0.0160617, "cm", "diffraction"),
        "blockfile__test2.blo": (0.0160617, 0.0160617, "cm", "diffraction"),
        "hspy__example2_v3.1.hspy": (0.174433, 0.174433, "1/nm", "diffraction"),
        "zspy__signal2d_20x10x10-ragged_markers.zspy": None,
        "tiff__olympus_SIS.tif": (0.0239279, 0.0239279, "nm", None),
        "tiff__test_loading_image_saved_with_DM.tif": (0.168675, 0.168675, "µm", None),
        "tiff__test_loading_image_saved_with_imageJ_stack.tif": (0.168675, 0.168675, "µm", None),
    }.items()
}  # fmt: skip
REFUSED = {
    "hyperspy+rosettasciio/digitalmicrograph__2D__test-23.dm4": "RGBA colour",
    "hyperspy+rosettasciio/quantumdetector__Merlin_Single_Quad.zip": "ZIP archive: unpack it",
    "hyperspy+rosettasciio/tiff__TVIPS_bin4.zip": "ZIP archive: unpack it",
}
SEVERAL = {
    "ercius+openNCEM/STEM_HAADF-DF4-DF2-BF_Diffraction_Micro.emd": ["HAADF", "DF2", "BF", "DF4"],
    "hyperspy+rosettasciio/tia__old__16x16_STEM_BF_DF_acquire.emi": ["0", "1"],
    "hyperspy+rosettasciio/emd__fei_example_dpc_titles.emd": [
        "B-D", "iDPC", "DF4-C", "DF4-B", "DF4-A", "A-C", "DF4-D", "Filtered iDPC",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def formats(real_data: pathlib.Path) -> pathlib.Path:
    return real_data / "formats"


@pytest.fixture(scope="module")
def rows(formats: pathlib.Path) -> dict[str, dict[str, str]]:
    with (formats / "MANIFEST.csv").open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_every_file_is_expected_to_open_or_to_be_refused(rows: dict[str, dict[str, str]]) -> None:
    assert rows.keys() == EXPECTED.keys() | REFUSED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_every_image_opens_with_its_pixel_size(
    formats: pathlib.Path, rows: dict[str, dict[str, str]], name: str,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path, row, expected = formats / name, rows[name], EXPECTED[name]
    images = [s for s in micrograph.signals(path) if not s.fault]
    assert [s.name for s in images] == SEVERAL.get(name, [images[0].name])
    result = micrograph.read(path, signal=images[0].name)
    if expected is None:
        assert (result.pixel_size, result.unit) == (None, "")
    else:
        np.testing.assert_allclose(result.pixel_size, expected[:2], rtol=1e-5)
        assert (result.unit, result.metadata.get("mode")) == expected[2:]
    if row["dtype"] and not name.endswith("olympus_SIS.tif"):
        shape = int(row["height"]), int(row["width"])
        shape = shape if row["frames"] == "1" else (int(row["frames"]), *shape)
        assert (result.pixels.shape, result.dtype.name) == (shape, row["dtype"])
    assert result.dtype.isnative
    # Not a word but the result: rosettasciio warns and logs a lot.
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", REFUSED)
def test_the_rest_ends_in_one_line(formats: pathlib.Path, name: str) -> None:
    with pytest.raises(FormatError, match=REFUSED[name]) as error:
        micrograph.read(formats / name)
    assert str(error.value).startswith(f"{formats / name}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", SEVERAL)
def test_several_images_have_to_be_chosen_from(formats: pathlib.Path, name: str) -> None:
    with pytest.raises(FormatError, match=f"holds {len(SEVERAL[name])} images .*--signal") as error:
        micrograph.read(formats / name)
    assert all(f": {each}" in str(error.value) for each in SEVERAL[name])
    numbers = [k for k, s in enumerate(micrograph.signals(formats / name)) if not s.fault]
    for number, signal in zip(numbers, SEVERAL[name], strict=True):
        by_name = micrograph.read(formats / name, signal=signal)
        assert micrograph.read(formats / name, signal=str(number)) == by_name


@pytest.mark.parametrize(
    ("name", "signal", "message"),
    [
        ("digitalmicrograph__2D__multi_signal.dm3", "Plot", "line or spectrum of 512 points"),
        ("emd__fei_example_dpc_titles.emd", "DPC", "complex"),
        ("emd__fei_example_dpc_titles.emd", "none", "has no signal 'none': it holds 0: B-D"),
    ],
)
def test_a_signal_that_is_no_image(
    formats: pathlib.Path, name: str, signal: str, message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        micrograph.read(formats / "hyperspy+rosettasciio" / name, signal=signal)


RAW = [name for name in EXPECTED if name.endswith((".dm3", ".dm4", ".ser", ".mrc", ".map", ".blo"))]


@pytest.mark.parametrize("name", RAW)
def test_pixels_are_the_bytes_in_the_file(formats: pathlib.Path, name: str) -> None:
    """None of these formats compresses: each frame's bytes lie in the file as they are."""
    content = (formats / name).read_bytes()
    result = micrograph.read(formats / name)
    frames = result.pixels.reshape(-1, *result.pixels.shape[-2:])
    for frame in frames:
        # SER begins with the lowest row.
        assert (frame[::-1] if name.endswith(".ser") else frame).tobytes() in content


@pytest.mark.parametrize("name", [n for n in EXPECTED if n.endswith(".ser")])
def test_ser_against_its_bytes(formats: pathlib.Path, name: str) -> None:
    """Calibration and pixels where the format's description puts them."""
    content = (formats / name).read_bytes()
    version = struct.unpack_from("<H", content, 4)[0]
    wide = version > 528
    table = struct.unpack_from("<Q" if wide else "<I", content, 22)[0]
    first = struct.unpack_from("<Q" if wide else "<I", content, table)[0]
    delta = struct.unpack_from("<d", content, first + 8)[0]  # after the offset; metres or 1/m
    result = micrograph.read(formats / name)
    scale = {"nm": 1e9, "1/nm": 1e-9}[result.unit]
    np.testing.assert_allclose(result.pixel_size, [delta * scale] * 2, rtol=1e-12)


def test_berkeley_emd_is_not_turned_round(formats: pathlib.Path) -> None:
    path = formats / "ercius+openNCEM/Acquisition_18.emd"
    with h5py.File(path) as file:
        expected = file["data/single/data"][()]
        step = np.diff(file["data/single/dim1"][:2])[0]
    result = micrograph.read(path)
    np.testing.assert_array_equal(result.pixels, expected)
    np.testing.assert_allclose(result.pixel_size, step, rtol=1e-3)


def test_velox_against_hdf5(formats: pathlib.Path) -> None:
    path = formats / "pycroscopy+SciFiReaders/fei_emd_image.emd"
    with h5py.File(path) as file:
        (group,) = file["Data/Image"].values()
        expected = group["Data"][..., 0]
    np.testing.assert_array_equal(micrograph.read(path).pixels, expected)


def test_a_frame_of_every_stack(formats: pathlib.Path) -> None:
    stacks = [name for name in EXPECTED if "x5" in name or "stack" in name or name.endswith(".blo")]
    for name in stacks:
        whole = micrograph.read(formats / name)
        for frame in (0, len(whole.pixels) - 1):
            one = micrograph.read(formats / name, frame=frame)
            np.testing.assert_array_equal(one.pixels, whole.pixels[frame])
            assert (one.pixel_size, one.unit) == (whole.pixel_size, whole.unit)
        with pytest.raises(FormatError, match="has no frame"):
            micrograph.read(formats / name, frame=len(whole.pixels))


@pytest.mark.parametrize("suffix", [".tif", ".hspy", ".zspy"])
def test_a_tilt_series_keeps_all_it_had(
    formats: pathlib.Path, tmp_path: pathlib.Path, suffix: str
) -> None:
    value = micrograph.read(formats / "usnistgov+etspy/HAADF.dm3")
    assert value.metadata["frames"][0]["units"] == "deg"
    assert value.metadata["acquisition"]["TEM"]["beam_energy"] == 300.0
    micrograph.write(tmp_path / f"a{suffix}", value)
    assert micrograph.read(tmp_path / f"a{suffix}") == value


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_every_truncated_file_ends_in_one_line(
    formats: pathlib.Path, tmp_path: pathlib.Path, part: float
) -> None:
    seen = set()
    for name in sorted(EXPECTED, key=lambda n: (formats / n).stat().st_size):
        suffix = pathlib.Path(name).suffix
        if suffix in seen or suffix == ".emi":  # holds no pixels
            continue
        seen.add(suffix)
        path = tmp_path / f"a{suffix}"
        content = (formats / name).read_bytes()
        path.write_bytes(content[: int(len(content) * part)])
        with pytest.raises(FormatError) as error:
            micrograph.read(path)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)


def test_emi_without_its_ser(formats: pathlib.Path, tmp_path: pathlib.Path) -> None:
    content = (formats / "hyperspy+rosettasciio/tia__old__03_Scanning_Preview.emi").read_bytes()
    (tmp_path / "a.emi").write_bytes(content)
    with pytest.raises(FormatError, match=r"its pixels are in \.ser files"):
        micrograph.read(tmp_path / "a.emi")


def test_a_folder_of_them_all_is_one_job(
    formats: pathlib.Path,
    rows: dict[str, dict[str, str]],
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every file is restored, or named as one that is not."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # sixty waits for the disk
    job = ["denoise", str(formats), "-o", str(tmp_path), "--model", MODEL]
    assert cli.main(job) == 1
    said = capsys.readouterr()
    record = [json.loads(line) for line in (tmp_path / NAME).read_text().splitlines()]
    entries = [entry for entry in record if entry["status"] == "done"]
    for entry in entries:
        source, output = formats / entry["input"], tmp_path / entry["output"]
        with micrograph.opened(source, signal=entry["signal"]) as given:
            expected = given.shape, given.dtype, given.calibration
        with micrograph.opened(output) as given:
            np.testing.assert_equal((given.shape, given.dtype, given.calibration), expected)
            assert given.metadata["emd"][-1]["model"] == MODEL
    failed = {
        entry["input"].partition("formats/")[2] for entry in record if entry["status"] == "failed"
    }
    assert {entry["input"] for entry in entries} | failed == {*rows, "MANIFEST.csv"}
    refused = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(refused) == len(failed) == 4  # three of no image's format, one in colour
    assert f"{len(entries)} done, 0 skipped, 4 failed" in said.err

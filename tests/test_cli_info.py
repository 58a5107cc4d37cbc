import argparse
import json
import subprocess
import sys

import numpy as np
import pytest

from emd.cli import info
from emd.data import micrograph
from emd.data.micrograph import Micrograph

ACQUISITION = {"TEM": {"beam_energy": 300.0, "dwell_time": 4e-6, "camera_length": 0.0}}


def parse(*arguments):
    parser = argparse.ArgumentParser()
    info.add(parser.add_subparsers())
    return parser.parse_args(["info", *map(str, arguments)])


def run(*arguments):
    parsed = parse(*arguments)
    return parsed.run(parsed)


@pytest.fixture
def given(tmp_path):
    """A counted image's file: 20 electrons a pixel of 4 counts, on 100 counts of black."""
    x = np.arange(256) / 40
    image = 20 * (1 + 0.8 * np.sin(x[:, None]) * np.cos(x))
    pixels = 100 + 4 * np.random.default_rng(0).poisson(image)
    metadata = {
        "title": "particles",
        "mode": "STEM",
        "acquisition": ACQUISITION,
        "emd": [{"model": "tem_mlp1_w7", "weights": "0123456789abcdef", "version": "9.9",
                 "time": "2026-01-02T03:04:05Z"}],
    }  # fmt: skip
    path = tmp_path / "in.tif"
    micrograph.write(path, Micrograph(pixels.astype(np.uint16), (0.2, 0.2), "nm", metadata))
    return path


def test_what_is_told_of_an_image(given, capsys):
    assert run(given) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0] == f"{given}: TIFF"
    told = {line[2:].split("  ")[0]: line for line in lines[1:]}
    assert "256x256 uint16" in told["size"]
    assert told["pixel size"].endswith("0.2 nm")
    assert "51.2 x 51.2 nm" in told["field"]
    assert told["mode"].endswith("STEM")
    assert told["title"].endswith("particles")
    # what files write 0 for is not known
    assert told["instrument"].endswith("  300 kV, dwell time 4 µs")
    assert "mean 18" in told["counts"]
    assert "electrons a pixel" in told["dose"]
    assert "per Å²" in told["dose"]
    assert "this image alone" in told["dose"]
    assert "4.0" in told["gain"] or "3.9" in told["gain"]
    assert "tem_mlp1_w7 (weights 0123456789abcdef), emd 9.9, on 2026" in told["emd"]
    # aligned
    assert len({len(line) - len(line[2:].split("  ", 1)[1].lstrip()) for line in lines[1:]}) == 1


def test_json_is_an_object_a_file(given, tmp_path, capsys):
    assert run("--json", "--black", "100", given, given, tmp_path / "none.tif") == 1
    captured = capsys.readouterr()
    assert captured.err == ""
    one, other, fault = map(json.loads, captured.out.splitlines())
    assert one == other
    assert fault == {
        "file": str(tmp_path / "none.tif"), "error": "no such file: check the name"
    }  # fmt: skip
    (signal,) = one["signals"]
    pixels = micrograph.read(given).pixels
    assert signal["counts"] == {
        "min": pixels.min(),
        "median": np.median(pixels),
        "mean": pytest.approx(pixels.mean()),
        "max": pixels.max(),
    }
    assert signal["shape"] == [256, 256]
    assert signal["field_of_view"] == pytest.approx([51.2, 51.2])
    assert signal["acquisition"] == ACQUISITION
    assert signal["emd"][0]["model"] == "tem_mlp1_w7"
    noise = signal["noise"]
    assert noise["gain"] == pytest.approx(4, rel=0.1)
    assert noise["dose"] == pytest.approx((pixels.mean() - 100) / 4, rel=0.1)
    assert noise["dose_per_square_angstrom"] == pytest.approx(noise["dose"] / 4)
    assert noise["readout"] is not None


def test_a_stack_is_told_by_one_frame(tmp_path, capsys):
    pixels = np.zeros((3, 40, 50), np.float32)
    pixels[1] = np.random.default_rng(0).normal(7, 1, (40, 50))
    pixels[1, :2, 0] = np.nan
    micrograph.write(tmp_path / "s.tif", Micrograph(pixels))
    assert run(tmp_path / "s.tif") == 0
    text = capsys.readouterr().out
    assert "0 of 3: the numbers below are its" in text
    assert "mean 0, max 0" in text
    assert "not known" in text
    assert run(tmp_path / "s.tif", "--frame", 1) == 0
    text = capsys.readouterr().out
    assert "mean 7." in text or "mean 6.9" in text
    assert "2 pixels (0.1 %)" in text
    assert run(tmp_path / "s.tif", "--frame", 3) == 1
    assert "no frame 3" in capsys.readouterr().err


def test_a_bad_file_is_a_line_and_the_others_are_told(given, tmp_path, capsys):
    (tmp_path / "text.tif").write_text("not an image")
    (tmp_path / "empty.mrc").write_bytes(b"")
    assert run(tmp_path / "text.tif", given, tmp_path / "empty.mrc", tmp_path) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith(f"\n{given}: TIFF") or captured.out.startswith(str(given))
    lines = captured.err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"error: {tmp_path / 'text.tif'}: ")
    assert "0 bytes" in lines[1]
    assert "folder" in lines[2]


def test_all_signals_of_a_file_or_one(tmp_path, capsys):
    path = tmp_path / "several.npz"
    np.savez(path, bright=np.ones((9, 9)), line=np.ones(5), dark=np.zeros((3, 9, 9)))
    assert run(path) == 0
    text = capsys.readouterr().out
    assert "3 signals" in text.splitlines()[0]
    assert "no image" in text
    assert text.count("\n\n") == 2
    for wanted in ("dark", "2"):
        assert run(path, "--signal", wanted) == 0
        text = capsys.readouterr().out
        assert "2: dark" in text
        assert "bright" not in text
    assert run(path, "--signal", "none") == 1
    assert "no signal 'none'" in capsys.readouterr().err


def test_saturated_pixels_are_told(tmp_path, capsys):
    pixels = np.random.default_rng(0).poisson(240, (64, 64)).clip(0, 255).astype(np.uint8)
    micrograph.write(tmp_path / "s.tif", Micrograph(pixels))
    assert run(tmp_path / "s.tif", "--json") == 0
    (signal,) = json.loads(capsys.readouterr().out)["signals"]
    assert signal["saturated_pixels"] == np.count_nonzero(pixels == 255)
    assert run(tmp_path / "s.tif") == 0
    assert "saturated  " in capsys.readouterr().out


def test_no_pixel_is_finite(tmp_path, capsys):
    micrograph.write(tmp_path / "n.tif", Micrograph(np.full((9, 9), np.nan)))
    assert run(tmp_path / "n.tif", "--json") == 0
    (signal,) = json.loads(capsys.readouterr().out)["signals"]
    assert "counts" not in signal
    assert signal["nonfinite_pixels"] == 81


def test_a_pattern_has_no_dose_an_area(tmp_path, capsys, given):
    image = micrograph.read(given)
    for size, unit in ((0.2, "1/nm"), (0.2, "mrad")):
        path = tmp_path / f"{unit[-1]}.tif"
        micrograph.write(path, Micrograph(image.pixels, (size, size), unit))
        assert run(path, "--json") == 0
        (signal,) = json.loads(capsys.readouterr().out)["signals"]
        assert signal["noise"]["dose"] is not None
        assert "dose_per_square_angstrom" not in signal["noise"]


def test_help_needs_no_jax():
    code = (
        "import argparse, sys\n"
        "from emd.cli import compare, info, preview\n"
        "commands = argparse.ArgumentParser().add_subparsers()\n"
        "for module in (compare, info, preview):\n"
        "    module.add(commands)\n"
        "sys.exit('jax' in sys.modules or 'matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_real_instruments_files_are_told(real_data, capsys):
    folder = real_data / "formats"
    velox = next(folder.glob("*/fei_emd_image.emd"))
    movie = next(folder.glob("*/HAADF.dm3"))
    assert run(velox, movie) == 0
    text = capsys.readouterr().out
    assert "Talos, 200 kV" in text
    assert "dwell time 32.5 µs" in text
    assert "0 of 91" in text

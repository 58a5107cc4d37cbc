"""Intensities that mislead: what is warned of, with its consequence, and what is not."""

import subprocess
import sys

import numpy as np
import pytest

from emd import checkpoint, cli
from emd.data import micrograph, suspicions
from emd.data.intensity import prepare
from emd.data.micrograph import Micrograph
from emd.restore import restore


def counted(dose=40.0, side=192, seed=0):
    """Electrons of a smooth image, as a counting detector gives them."""
    x = np.arange(side) / 20
    image = dose * (1 + 0.6 * np.sin(x[:, None]) * np.cos(x))
    return np.random.default_rng(seed).poisson(image)


def names(pixels):
    found = suspicions.suspicions(pixels, float(pixels.min()), float(pixels.max()))
    return [each.name for each in found]


def stretched(pixels, low, high):
    """To 8 bits as a program does to show an image."""
    return np.clip(np.rint(255 * (pixels - low) / (high - low)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize("dose", [0.3, 2.0, 40.0])
def test_counts_as_they_are_arouse_no_suspicion(dose, dtype):
    assert names(counted(dose).astype(dtype)) == []


def test_few_values_are_no_saturation():
    assert names((counted(0.3) > 0).astype(np.uint8)) == []  # single electrons, a quarter of it 1


def test_eight_bits_of_a_detector_arouse_none():
    assert names((40 + counted(100)).astype(np.uint8)) == []
    hot = counted(30).astype(np.uint8)
    hot[3, 4], hot[9, 9] = 255, 0  # a hot and a dead pixel stretch no range
    assert names(hot) == []


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64"])
def test_negative_counts(dtype):
    pixels = (counted(4) - 5).astype(dtype)
    (found,) = suspicions.suspicions(pixels, float(pixels.min()), float(pixels.max()))
    assert found.name == "negative"
    share = 100 * np.mean(pixels < 0)
    assert found.text.startswith(f"{share:.2g} % of the counts are negative: ")
    assert "doses and ratios of intensities are wrong by that offset" in found.text


def test_negative_values_that_claim_no_counts_are_none_of_ours():
    pixels = (counted(4) - 5 + np.random.default_rng(1).normal(0, 1, (192, 192))).astype("float32")
    assert names(pixels) == []
    few = counted(40)
    few[0, :5] = -1  # dead pixels of a subtracted dark reference
    assert names(few.astype(np.int16)) == []


def test_display_copies():
    pixels = counted(200) + np.random.default_rng(1).normal(0, 5, (192, 192))
    full = stretched(pixels, pixels.min(), pixels.max())
    gapped = stretched(counted(60).astype(float), 0, 150)
    gamma = np.rint(255 * (full / 255.0) ** 0.5).astype(np.uint8)
    words = {"full range": full, "empty": gapped, "levels": gamma}
    for word, image in words.items():
        found = suspicions.suspicions(image, float(image.min()), float(image.max()))
        text = next(each.text for each in found if each.name == "display")
        assert text.startswith("8-bit, ")
        assert word in text
        assert "may be display values, not counts: doses and noise are not to be trusted" in text


def test_a_comb_is_of_a_compressed_range():
    """Two levels that became one, at every third, leave a comb without a gap."""
    levels = np.random.default_rng(0).normal(150, 20, (256, 256))
    comb = np.rint(np.rint(levels) * 2 / 3).astype(np.uint8)
    assert names(levels.astype(np.uint8)) == []
    assert names(comb) == ["display"]


def test_eight_bits_scaled_to_sixteen():
    levels = stretched(counted(200).astype(float), 50.0, 400.0).astype(np.uint16)
    assert "display" in names(levels * 257)
    assert names(levels * 256 + 3) == []
    assert names(counted(200).astype(np.uint16)) == []  # few of 65536 values


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_saturated(dtype):
    pixels = np.minimum(counted(100), 150).astype(dtype)
    (found,) = suspicions.suspicions(pixels, float(pixels.min()), float(pixels.max()))
    share = 100 * np.mean(pixels == 150)
    assert found.text.startswith(f"{share:.2g} % saturated, at 150: ")
    assert "the mean and bright columns are too low after restoration" in found.text


def test_small_and_constant_images_are_passed_over():
    assert names(np.full((64, 64), -3, np.int16)) == []
    assert names(np.full((20, 20), 255, np.uint8)) == []
    assert names((counted(4, side=30) - 5).astype(np.int16)) == []


def test_a_large_image_is_sampled():
    pixels = np.tile(counted(4) - 5, (16, 16)).astype(np.int16)
    (whole,) = suspicions.suspicions(pixels, float(pixels.min()), float(pixels.max()))
    share = 100 * np.mean(pixels < 0)
    assert float(whole.text.split(" %")[0]) == pytest.approx(share, rel=0.05)


def test_what_is_not_finite_is_not_looked_at():
    pixels = (counted(4) - 5).astype(np.float32)
    pixels[5, 5:9] = np.nan
    assert [each.name for each in prepare(pixels, spikes=False).suspicions] == ["negative"]


def test_a_stack_is_told_once():
    good, bad = counted(4), counted(4) - 5
    stack = np.stack([good, bad, bad]).astype(np.int16)
    model = checkpoint.load("tem_kernel_w3_published")
    (line,) = restore(Micrograph(stack), model).report.warnings
    assert line.startswith("frame 1: ")
    assert line.endswith("the restoration keeps it (and 1 more frames)")
    (line,) = restore(Micrograph(bad.astype(np.int16)), model).report.warnings
    assert line.endswith("the restoration keeps it")
    assert restore(Micrograph(good.astype(np.int16)), model).report.warnings == []


def test_commands_warn(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    micrograph.write("in.tif", Micrograph((counted(4) - 5).astype(np.int16)))
    assert cli.main(["denoise", "in.tif", "-o", "out.tif", "--model", "tem_kernel_w3"]) == 0
    assert "; warning: " in (line := capsys.readouterr().out)
    assert "of the counts are negative" in line
    assert cli.main(["info", "in.tif"]) == 0
    assert "of the counts are negative" in capsys.readouterr().out


@pytest.mark.parametrize("noise", ["-1", "nan"])
def test_negative_noise_is_one_line(noise, tmp_path, capsys):
    path = tmp_path / "in.tif"
    micrograph.write(path, Micrograph(counted().astype(np.uint16)))
    model = tmp_path / "model"
    assert cli.main(["fit", str(path), "-o", str(model), f"--noise={noise}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}: noise is {float(noise)}: give ")
    assert not model.exists()


@pytest.mark.parametrize("dose", ["-5", "0", "nan"])
def test_a_dose_that_is_none_is_one_line(dose, tmp_path):
    command = [sys.executable, "-m", "experiments.simulate", f"--dose={dose}"]
    command.append(f"--output={tmp_path}/x.tif")
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith("error: ")
    assert f"dose {float(dose)}" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("share", "text"), [(1.0, "100 %"), (0.996, "100 %"), (0.034, "3.4 %")])
def test_shares_are_written_without_exponents(share, text):
    assert suspicions.percent(share) == text

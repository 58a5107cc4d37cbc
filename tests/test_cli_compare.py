import argparse
import json

import jax.numpy as jnp
import numpy as np
import pytest

from emd import metrics
from emd.cli import compare, differences
from emd.data import micrograph
from emd.data.micrograph import Micrograph

RNG = np.random.default_rng(0)


def run(*arguments):
    parser = argparse.ArgumentParser()
    compare.add(parser.add_subparsers())
    parsed = parser.parse_args(["compare", *map(str, arguments)])
    return parsed.run(parsed)


@pytest.fixture
def files(tmp_path):
    """Writes pixels to a file, and gives its path."""

    def write(name, pixels, size=(0.1, 0.1), unit="nm"):
        micrograph.write(tmp_path / name, Micrograph(pixels, size, unit))
        return tmp_path / name

    return write


def facts(capsys, *arguments):
    assert run(*arguments, "--json") is None
    return json.loads(capsys.readouterr().out)


def test_numbers_are_those_of_plain_numpy(files, capsys):
    a = RNG.poisson(300, (70, 90)).astype(np.uint16)
    b = (a + RNG.normal(2, 5, a.shape)).astype(np.float32)
    found = facts(capsys, files("a.tif", a), files("b.tif", b))
    residual = a - b.astype(np.float64)
    span = float(np.ptp(a))
    assert not found["identical"]
    assert found["range"] == [a.min(), a.max()]
    assert found["mse"] == pytest.approx((residual**2).mean())
    assert found["residual_mean"] == pytest.approx(residual.mean())
    assert found["residual_std"] == pytest.approx(residual.std())
    assert found["correlation"] == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    level = residual - residual.mean()
    expected = [
        (level[:, 1:] * level[:, :-1]).mean() / level.var(),
        (level[1:] * level[:-1]).mean() / level.var(),
    ]
    assert found["whiteness"] == pytest.approx(expected, abs=1e-9)
    low = a.min()
    pair = [jnp.asarray((x - low).astype(np.float32)[None]) for x in (b, a)]
    assert found["psnr"] == pytest.approx(float(metrics.psnr(*pair, data_range=span)[0]), abs=1e-3)
    assert found["ssim"] == pytest.approx(float(metrics.ssim(*pair, data_range=span)[0]), abs=1e-5)
    assert found["worst_frame"] is None
    assert found["warnings"] == []


def test_bands_change_nothing(files, capsys, monkeypatch):
    a = RNG.poisson(300, (70, 90)).astype(np.uint16)
    paths = files("a.tif", a), files("b.tif", a + RNG.integers(0, 9, a.shape).astype(np.uint16))
    whole = facts(capsys, *paths)
    monkeypatch.setattr("emd.data.pixels._BAND_PX", 7 * 90)
    monkeypatch.setattr(differences, "_SSIM_BAND_PX", 20 * 90)
    banded = facts(capsys, *paths)
    for name in ("mse", "residual_std", "correlation", "ssim", "psnr"):
        assert banded[name] == pytest.approx(whole[name], rel=1e-5)
    assert banded["whiteness"] == pytest.approx(whole["whiteness"], abs=1e-9)


def test_what_is_told(files, capsys):
    a = RNG.poisson(300, (70, 90)).astype(np.float32)
    noisy = files("noisy.tif", a + RNG.normal(0, 5, a.shape).astype(np.float32))
    a = files("a.tif", a)
    run(a, noisy)
    captured = capsys.readouterr()
    assert captured.err == ""
    for words in ("70x90", " dB", "SSIM", "that of A", "noise alone", "of A and B"):
        assert words in captured.out
    run(a, a)
    out = capsys.readouterr().out
    assert "identical" in out
    assert "PSNR is infinite" in out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x + 50 * np.sin(np.arange(90) / 9), "structure"),
        (lambda x: x + 9 * (-1.0) ** np.arange(90), "finest"),
    ],
)
def test_whiteness_says_what_is_in_the_residual(files, capsys, change, words):
    a = RNG.poisson(300, (70, 90)).astype(np.float32)
    run(files("a.tif", a), files("b.tif", change(a).astype(np.float32)))
    assert words in capsys.readouterr().out


def test_stacks_frame_by_frame(files, capsys):
    a = RNG.poisson(300, (3, 40, 50)).astype(np.uint16)
    b = a.copy()
    b[1] += 3
    b[2, :20] += 20
    paths = files("a.tif", a), files("b.tif", b)
    found = facts(capsys, *paths)
    span = float(np.ptp(a))
    losses = ((a[1:] * 1.0 - b[1:]) ** 2).mean(axis=(1, 2))
    psnr = -10 * np.log10(losses / span**2)
    # the first frames are identical and have none
    assert found["psnr"] == pytest.approx(psnr.mean())
    assert (found["worst_frame"], found["worst_psnr"]) == (2, pytest.approx(psnr[1]))
    assert found["mse"] == pytest.approx(((a * 1.0 - b) ** 2).mean())
    run(*paths)
    assert "in frame 2" in capsys.readouterr().out
    assert facts(capsys, *paths, "--frame", 0)["identical"]


def test_unlike_files(files, capsys):
    a = RNG.poisson(300, (40, 50)).astype(np.uint16)
    path = files("a.tif", a)
    with pytest.raises(ValueError, match=r"40x50 and .* 39x50: only images of one size"):
        run(path, files("small.tif", a[1:]))
    run(path, files("scaled.tif", a, (0.2, 0.2)))
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "warning: pixel sizes differ: 0.1 x 0.1 nm and 0.2 x 0.2 nm"
    ]
    run(path, files("metres.tif", a, (100.0, 100.0), "pm"))  # the same
    assert capsys.readouterr().err == ""


def test_pixels_that_are_not_finite_are_left_out(files, capsys):
    a = RNG.normal(300, 9, (40, 50))
    b = a + RNG.normal(0, 1, a.shape)
    expected = np.delete(((a - b) ** 2).ravel(), [57, 1999]).mean()
    b[1, 7] = np.nan
    b[39, 49] = np.inf
    found = facts(capsys, files("a.tif", a), files("b.tif", b))
    assert found["mse"] == pytest.approx(expected)
    assert found["nonfinite"] == 2
    assert np.isfinite(found["ssim"])
    nothing = files("n.tif", np.full_like(a, np.nan))
    with pytest.raises(ValueError, match="no pixel is finite"):
        run(nothing, nothing)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 5)])
def test_small_and_constant_images(files, capsys, shape):
    a = np.full(shape, 7, np.uint8)
    b = a.copy()
    b[0, 0] = 9
    paths = files("a.tif", a), files("b.tif", b)
    found = facts(capsys, *paths)
    assert (found["psnr"], found["ssim"], found["correlation"]) == (None, None, None)
    run(*paths)
    assert "not defined: A is constant" in capsys.readouterr().out


def test_signals_are_chosen_by_name(tmp_path, capsys):
    path = tmp_path / "two.npz"
    one = RNG.normal(size=(20, 20))
    np.savez(path, one=one, other=one + 1)
    assert facts(capsys, path, path, "--signal-a", "one", "--signal-b", "1")["mse"] == 1
    with pytest.raises(ValueError, match="choose one"):
        run(path, path)

"""The page beside a result: whole and by itself, about the right frame, and what it warns of."""

import base64
import html
import re
import sys
from unittest import mock

import jax
import numpy as np
import pytest

from emd import checkpoint, cli
from emd.cli import findings, options, report, restoring, trust_picture
from emd.cli.differences import Residual
from emd.cli.findings import Findings
from emd.cli.ledger import NAME
from emd.data import micrograph
from emd.data.micrograph import Micrograph
from emd.ensemble import ensemble
from emd.noise import Noise
from emd.trust import spread
from emd.trust.distribution import Judgement
from emd.trust.reference import Calibration
from emd.trust.spread import ErrorMap

pytest.importorskip("matplotlib", reason="needs the extra plot")

MODEL = "tem_kernel_w3"


def counted(seed=0, side=96):
    x = np.arange(side) / 6
    image = 20 * (1 + 0.7 * np.sin(x[:, None]) * np.cos(x))
    return np.random.default_rng(seed).poisson(image).astype(np.uint16)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    micrograph.write("in.tif", Micrograph(counted(), (0.1, 0.1), "nm"))
    return tmp_path


@pytest.fixture
def plain(folder, monkeypatch):
    """The same, and pages without their pictures, which take a second each to draw."""
    monkeypatch.setattr(report, "_images", lambda *_: b"")
    monkeypatch.setattr(trust_picture, "draw", lambda *_: b"")
    return folder


def denoise(*arguments):
    return cli.main(["denoise", *arguments, "--model", MODEL, "--report"])


def text_of(path):
    """What a reader sees, but for the pictures."""
    body = re.sub(r"<style>.*?</style>", "", path.read_text(), flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", " ", body))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_page_lies_beside_the_result_and_needs_nothing_else(folder, capsys):
    assert denoise("in.tif", "-o", "out.tif") == 0
    assert capsys.readouterr().out.rstrip().endswith("; report: out.tif.report.html")
    assert names(folder) == ["in.tif", "out.tif", "out.tif.report.html"]
    page = folder / "out.tif.report.html"
    source = page.read_text()
    assert not re.search(r"<script|<link|https?:|src=\"(?!data:image/png;base64,)", source)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', source)
    assert len(pictures) == 2
    for picture in pictures:
        assert base64.b64decode(picture, validate=True).startswith(b"\x89PNG")
    text = text_of(page)
    words = "in.tif: 96x96 uint16", f"{MODEL} (weights ", "on 2023-11-14T22:13:20Z", "error map"
    for word in (*words, "standard deviation", "neighbours in it"):
        assert word in text
    assert "all below is about this one" not in text


def test_its_numbers_are_those_of_the_images(plain):
    assert denoise("in.tif", "-o", "out.tif") == 0
    text = text_of(plain / "out.tif.report.html")
    residual = counted().astype(float) - micrograph.read("out.tif").pixels
    assert f"standard deviation {residual.std():.4g} counts" in text
    r = residual - residual.mean()
    across = (r[:, 1:] * r[:, :-1]).mean() / r.var()
    told = re.search(r"correlation ([+-][\d.]+) across", text)
    assert float(told[1]) == pytest.approx(across, abs=0.01)


@pytest.mark.parametrize("change", [1e5, -1e5])
def test_with_despike_a_page_is_about_what_the_model_saw(plain, change):
    """That of the image without the spike, which was neither removed by the model nor its scale."""
    pixels = counted().astype(np.float32)
    pixels[5:7, 70] = np.nan
    pixels[40, 50] += change
    around = np.delete(pixels[39:42, 49:52].ravel(), 4)
    micrograph.write("spike.npy", Micrograph(pixels))
    pixels[40, 50] = np.sort(around)[3]
    micrograph.write("clean.npy", Micrograph(pixels))
    assert denoise("spike.npy", "-o", "one.npy", "--despike") == 0
    assert denoise("clean.npy", "-o", "other.npy") == 0
    one, other = (text_of(plain / f"{name}.npy.report.html") for name in ("one", "other"))
    assert "1 replaced first; the image before, below, is without them" in one
    assert "spikes" not in other
    assert one.partition("Warnings")[2] == other.partition("Warnings")[2] != ""


def test_what_was_put_back_is_told(plain, capsys):
    assert denoise("in.tif", "-o", "out.tif", "--put-back") == 0
    assert re.search(r"[\d.]+ % of what it took away put back", capsys.readouterr().out)
    assert "the error map is that of the model alone" in text_of(plain / "out.tif.report.html")


def test_the_noise_of_a_gain_that_was_told_is_what_the_page_goes_by(plain):
    """Contrast as fine as a pixel is noise to the image; of a gain in doubt the page warns."""
    truth = np.random.default_rng(0).uniform(20, 180, (96, 96))
    seen = np.random.default_rng(1).poisson(truth).astype(np.float32)
    micrograph.write("fine.tif", Micrograph(seen))
    for name, *asked in (("plain", "--put-back"), ("one", "--gain=1"), ("ten", "--gain=10")):
        assert denoise("fine.tif", "-o", f"{name}.tif", *asked) == 0
    plainly, one, ten = (
        " ".join(text_of(plain / f"{name}.tif.report.html").split())
        for name in ("plain", "one", "ten")
    )
    assert "noise by the image" in plainly
    assert re.search(r"noise by the gain\s+(9|10)[.\d]* counts", one)
    assert "dose by the gain about 100 electrons a pixel" in one
    assert "dose by the gain about 10 electrons a pixel" in ten
    assert "gain or black level are wrong" in ten


def test_the_same_bytes_again_and_overwrite_is_honoured(folder, capsys):
    assert denoise("in.tif", "-o", "out.tif") == 0
    before = (folder / "out.tif.report.html").read_bytes()
    (folder / "out.tif").unlink()
    capsys.readouterr()
    assert denoise("in.tif", "-o", "out.tif") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == ("error: out.tif.report.html: exists already: give --overwrite to replace it")
    assert names(folder) == ["in.tif", "out.tif.report.html"]  # told before the work
    assert denoise("in.tif", "-o", "out.tif", "--overwrite") == 0
    assert (folder / "out.tif.report.html").read_bytes() == before


def test_without_matplotlib_a_line_says_what_to_install(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for output in ("out.tif", "out/"):
        assert denoise("in.tif", "-o", output) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: pictures need matplotlib")
        assert "pip install 'emd-micrograph[plot]'" in line
    assert names(folder) == ["in.tif"]


def test_of_a_stack_the_first_frame_and_names_are_escaped(plain):
    name = "a&<b>.tif"
    micrograph.write(name, Micrograph(np.stack([counted(), counted(1), counted(2)])))
    assert denoise(name, "-o", "out.tif") == 0
    page = plain / "out.tif.report.html"
    assert "<b>.tif" not in page.read_text()
    assert "frame 0 of 3: all below is about this one alone" in " ".join(text_of(page).split())
    assert name in text_of(page)
    assert denoise(name, "-o", "one.tif", "--frame", "1") == 0
    assert "all below" not in text_of(plain / "one.tif.report.html")


def test_an_archive_has_a_page_of_its_first_frame(plain):
    pytest.importorskip("emd.archive", reason="needs the extra scale")
    micrograph.write("in.zarr", Micrograph(np.stack([counted(), counted(1)])))
    assert denoise("in.zarr", "-o", "out.zarr") == 0
    assert "frame 0 of 2" in " ".join(text_of(plain / "out.zarr.report.html").split())


def test_what_auto_leaves_out_in_pieces_is_not_said_to_be_put_back(plain, capsys, monkeypatch):
    archived = pytest.importorskip("emd.archive.folder", reason="needs the extra scale")
    zarr = pytest.importorskip("zarr")
    real = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda name, **_: real(MODEL))
    zarr.create_array("in.zarr", data=counted(), chunks=(48, 48))
    for whole_px in (1, 96 * 96):
        monkeypatch.setattr(archived, "UNIT_PX", 48 * 48)
        monkeypatch.setattr(archived, "WHOLE_PX", whole_px)
        command = ["denoise", "in.zarr", "-o", f"{whole_px}.zarr", "--report"]
        assert cli.main(command) == 0
        is_whole = whole_px > 1
        said = capsys.readouterr().out
        assert ("put back: frames are restored in pieces" in said) != is_whole
        text = text_of(plain / f"{whole_px}.zarr.report.html")
        assert ("is in the result already" in text) == is_whole


def test_in_a_folder_each_result_has_one_and_a_missing_one_is_made(plain, capsys, monkeypatch):
    micrograph.write("b.npy", Micrograph(counted(1)))
    assert denoise("in.tif", "b.npy", "-o", "out/") == 0
    out = plain / "out"
    results = ["b.npy", "b.npy.report.html", NAME, "in.tif", "in.tif.report.html"]
    assert names(out) == sorted(results)
    before = {name: (out / name).read_bytes() for name in results if name != NAME}
    (out / "in.tif.report.html").unlink()
    made = []
    monkeypatch.setattr(report, "write", _counting(made, report.write))
    capsys.readouterr()
    assert denoise("in.tif", "b.npy", "-o", "out/") == 0
    assert "0 done, 2 skipped (done before), 0 failed" in capsys.readouterr().err
    assert made == ["in.tif"]
    assert {name: (out / name).read_bytes() for name in before} == before


def _counting(made, real):
    def write(source, *arguments, **options):
        made.append(source.name)
        return real(source, *arguments, **options)

    return write


def test_a_page_that_fails_leaves_the_result_and_is_made_the_next_time(plain, capsys, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device", "out/in.tif.report.html")

    with monkeypatch.context() as patch:
        patch.setattr(report, "write", fail)
        assert denoise("in.tif", "-o", "out/") == 1
    assert "No space left" in capsys.readouterr().err
    assert names(plain / "out") == sorted([NAME, "in.tif"])
    assert denoise("in.tif", "-o", "out/") == 0
    assert names(plain / "out") == sorted([NAME, "in.tif", "in.tif.report.html"])


def test_a_kernel_is_fitted_once_for_a_result_and_its_page(plain, monkeypatch):
    fits, real = [], restoring.fit
    monkeypatch.setattr(restoring, "fit", lambda *a, **o: fits.append(o) or real(*a, **o))
    micrograph.write("b.npy", Micrograph(counted(1)))
    given = ["in.tif", "b.npy", "-o", "out/", "--model", "fit", "--report"]
    assert cli.main(["denoise", *given]) == 0
    assert len(fits) == 2
    page = plain / "out/in.tif.report.html"
    before = page.read_bytes()
    page.unlink()  # of a result made before, what made it is found again
    assert cli.main(["denoise", *given]) == 0
    assert len(fits) == 3
    assert page.read_bytes() == before


@pytest.mark.parametrize("name", ["error_map", "judge"])
def test_a_page_that_the_device_has_no_memory_for_says_what_to_do(plain, capsys, monkeypatch, name):
    def exhausted(*_, **options):
        assert options == {"tile_px": 40}
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(findings, name, exhausted)
    assert denoise("in.tif", "-o", "out.tif", "--tile", "40") == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == "error: in.tif: out of memory on the device: use a --tile smaller than 40"
    assert names(plain) == ["in.tif", "out.tif"]


def test_a_result_of_another_size_is_refused(folder):
    micrograph.write("out.tif", Micrograph(counted(side=64)))
    loaded = restoring.Restorer(options.Options(MODEL, report=True))
    with pytest.raises(ValueError, match=r"is 64x64, not 96x96: restore .*in\.tif anew"):
        loaded.report(folder / "in.tif", folder / "out.tif", signal=None, overwrite=False)
    assert names(folder) == ["in.tif", "out.tif"]


def test_of_an_ensemble_the_error_map_is_that_of_one_pass(monkeypatch):
    """Its own spread would be 0 here, where the sides are whole cells, at eight times the work."""
    applied, real = [], spread.over_image

    def over_image(model, x, **options):
        applied.append(model.config.name)
        return real(model, x, **options)

    monkeypatch.setattr(spread, "over_image", over_image)
    model, pixels = checkpoint.load("tem_latent1"), counted()
    one, mean = (findings.find(pixels, pixels, each) for each in (model, ensemble(model)))
    assert applied == 16 * ["tem_latent1"]
    np.testing.assert_array_equal(mean.error.std, one.error.std)
    assert mean.error.calibration == one.error.calibration is not None
    assert mean.judgements == one.judgements
    told = [line for line in findings.rows(mean) if line not in findings.rows(one)]
    assert told == [("the map is", mock.ANY)]


# --- warnings --------------------------------------------------------------------------------

HELD = Calibration("noise", 2.0, [5.0, 100.0], [0.68, 0.45], [0.95, 0.8], 0.8, 0.7)
GOOD = Findings(
    residual=Residual(0.0, 4.0, (0.0, -0.01)),
    pixels=10_000,
    noise=Noise(std=4.2, gain=1.0, offset=0.0, dose=6.0),
    error=ErrorMap(np.full((9, 9), 1.0), "noise", HELD),
    judgements=[Judgement("image", 1.0, 2.0, ("skewness", 0.3))],
    told=[],
)


def told(**change):
    return findings.cautions(GOOD._replace(**change))


def test_where_all_is_well_nothing_is_warned_of():
    assert told() == []
    assert "Nothing to warn of" in report._told([])


@pytest.mark.parametrize(
    ("change", "warning", "consequence"),
    [
        ({"residual": Residual(0.0, 6.0, (0.0, 0.0))}, "2.04 times", "about 4.285 counts are lost"),
        ({"residual": Residual(0.0, 2.0, (0.0, 0.0))}, "Only 23 %", "may be noise"),
        ({"residual": Residual(0.0, 4.0, (0.2, 0.0))}, "(+0.20; white", "structure"),
        ({"residual": Residual(0.0, 4.0, (0.0, -0.3))}, "(-0.30; white", "only the finest noise"),
        ({"noise": Noise(warnings=("too small",))}, "noise (too small)", "cannot be said"),
        ({"noise": Noise(std=4.2, warnings=("noise is correlated: x",))}, "The noise is corr",
         "may look like structure"),
        ({"error": None}, "There is no error map", "not known"),
        ({"error": GOOD.error._replace(calibration=None)}, "not calibrated", "not how large"),
        ({"error": GOOD.error._replace(calibration=HELD._replace(pearson=0.2))}, "weakly",
         "not its details"),
        ({"noise": Noise(std=4.2, dose=90.0)}, "near 100 electrons", "too small"),
        ({"judgements": [Judgement("latents", 9.0, 2.0, ("mean of channel 3", -7.0))]},
         "farthest off: mean of channel 3, -7.0 deviations", "may be invented or lost"),
        ({"told": ["2 % saturated, at 255: the mean is too low"]}, "2 % saturated, at 255",
         "the mean is too low"),
    ],
)  # fmt: skip
def test_each_warning_names_its_consequence(change, warning, consequence):
    found = told(**change)
    assert any(warning in each.warning and consequence in each.consequence for each in found)


def test_blur_larger_than_the_map_is_told_in_place_of_its_calibration():
    found = told(residual=Residual(0.0, 6.0, (0.0, 0.0)), noise=Noise(std=4.2, dose=90.0))
    (of_map,) = (each for each in found if "error map" in each.warning)
    assert (
        "The error map, 1 counts on the whole, is smaller than the 4.285 counts" in of_map.warning
    )
    assert "most of which is blur" in of_map.consequence


def test_unscaled_eight_bits_are_warned_of_on_the_page(plain):
    levels = np.random.default_rng(0).normal(128, 40, (96, 96)).clip(0, 255).astype(np.uint8)
    micrograph.write("screen.tif", Micrograph(levels))
    assert denoise("screen.tif", "-o", "out.tif") == 0
    assert "may be display values, not counts" in text_of(plain / "out.tif.report.html")

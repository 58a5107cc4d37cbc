import argparse
import sys

import numpy as np
import pytest

from emd.cli import preview, spectra
from emd.data import micrograph
from emd.data.micrograph import Micrograph

pytest.importorskip("matplotlib")

from matplotlib.image import imread

from emd.cli import drawing

MODEL = "tem_kernel_w3_published"
RNG = np.random.default_rng(0)


def run(*arguments):
    parser = argparse.ArgumentParser()
    preview.add(parser.add_subparsers())
    parsed = parser.parse_args(["preview", *map(str, arguments)])
    parsed.run(parsed)


@pytest.fixture
def given(tmp_path):
    path = tmp_path / "in.tif"
    pixels = RNG.poisson(50, (40, 52)).astype(np.uint16)
    micrograph.write(path, Micrograph(pixels, (0.1, 0.1), "nm", {"mode": "TEM"}))
    return path


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn, in place of the picture, which takes a second."""
    scenes = []

    def write(scene, path):
        scenes.append(scene)
        path.write_bytes(b"picture")

    monkeypatch.setattr(drawing, "write", write)
    return scenes


def test_a_picture_of_a_model_at_work(given, tmp_path, capsys):
    out = tmp_path / "p.png"
    run(given, "--model", MODEL, "-o", out)
    assert capsys.readouterr().out == f"{out}: in.tif, restored by {MODEL}\n"
    image = imread(out)
    assert min(image.shape[:2]) > 600
    assert {path.name for path in tmp_path.iterdir()} == {"in.tif", "p.png"}
    first = out.read_bytes()
    with pytest.raises(FileExistsError, match="--overwrite"):
        run(given, "--model", MODEL, "-o", out)
    run(given, "--model", MODEL, "-o", out, "--overwrite")
    assert out.read_bytes() == first  # no date, no version


def test_what_is_drawn_of_a_model(given, tmp_path, drawn):
    from emd import checkpoint
    from emd.restore import denoise

    run(given, "--model", MODEL, "-o", tmp_path / "p.png", "--region", "4:20,:30")
    (scene,) = drawn
    image = micrograph.read(given)
    np.testing.assert_array_equal(scene.before, image.pixels[4:20, :30])
    # the whole was restored: the region's own minimum and mean do not count
    np.testing.assert_array_equal(
        scene.after, denoise(image, checkpoint.load(MODEL)).pixels[4:20, :30]
    )
    assert scene.corner == (4, 0)
    assert (scene.pixel_size, scene.unit) == ((0.1, 0.1), "nm")
    assert "(white: 0)" in scene.caption


def test_auto_draws_what_denoise_makes(given, tmp_path, drawn):
    from emd import checkpoint
    from emd.restore import denoise

    truth = 50 + 40 * np.sin(np.arange(52) * 2.1) * np.ones((40, 1))
    image = Micrograph(RNG.poisson(truth).astype(np.uint16), metadata={"mode": "TEM"})
    micrograph.write(given, image, overwrite=True)
    run(given, "-o", tmp_path / "p.png")
    model = checkpoint.load("tem_skip48_clean")
    due = denoise(image, model, put_back=True).pixels
    assert np.any(due != denoise(image, model).pixels)
    np.testing.assert_array_equal(drawn[0].after, due)


def test_what_is_drawn_of_two_files(given, tmp_path, drawn, capsys):
    image = micrograph.read(given)
    after = tmp_path / "after.tif"
    micrograph.write(after, Micrograph(image.pixels, metadata={"emd": [{"model": "stem_mlp1_w7"}]}))
    run(given, after, "-o", tmp_path / "a.png")
    assert drawn[-1].title == "in.tif, restored by stem_mlp1_w7"
    assert "standard deviation 0 counts" in drawn[-1].caption
    other = tmp_path / "other.tif"
    micrograph.write(other, Micrograph(image.pixels))
    run(given, other, "-o", tmp_path / "b.png")
    assert drawn[-1].title == "in.tif, other.tif"
    stack = tmp_path / "stack.tif"
    micrograph.write(stack, Micrograph(np.stack([image.pixels, image.pixels // 2])))
    run(stack, other, "-o", tmp_path / "c.png", "--frame", 1)  # one image after
    np.testing.assert_array_equal(drawn[-1].before, image.pixels // 2)
    np.testing.assert_array_equal(drawn[-1].after, image.pixels)
    for frame in (2, -1):
        with pytest.raises(ValueError, match=f"has no frame {frame}"):
            run(stack, "-o", tmp_path / "d.png", "--frame", frame)


def test_auto_refuses_diffraction(given, tmp_path, drawn):
    image = micrograph.read(given)
    path = tmp_path / "pattern.tif"
    micrograph.write(path, Micrograph(image.pixels, (0.1, 0.1), "1/nm"))
    with pytest.raises(ValueError, match=r"pattern\.tif: .*1/nm"):
        run(path, "-o", tmp_path / "p.png")


def test_what_makes_no_picture(given, tmp_path, drawn):
    small = tmp_path / "small.tif"
    micrograph.write(small, Micrograph(np.ones((4, 4), np.uint8)))
    with pytest.raises(ValueError, match="only images of one size"):
        run(given, small, "-o", tmp_path / "p.png")
    with pytest.raises(ValueError, match=r"name it \.png"):
        run(given, "-o", tmp_path / "p.tif")
    with pytest.raises(ValueError, match="holds none of its pixels"):
        run(given, given, "-o", tmp_path / "p.png", "--region", "40:,:")
    with pytest.raises(SystemExit):
        run(given, given, "-o", tmp_path / "p.png", "--region", "1,2")
    with pytest.raises(SystemExit):
        run(given, given, "--model", MODEL, "-o", tmp_path / "p.png")
    assert not list(tmp_path.glob("*.png"))


def test_without_matplotlib_a_line_says_what_brings_it(given, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"emd-micrograph\[plot\]"):
        run(given, given, "-o", tmp_path / "p.png")


def panels(before, after, size=(0.1, 0.1)):
    figure = drawing.draw(drawing.Scene(before, after, (0, 0), size, "nm", "title", "caption"))
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def test_panels_of_a_small_image():
    before = RNG.poisson(50, (30, 40)).astype(np.uint16)
    before[3, 3] = 60_000  # a hot pixel takes no greys from the others
    after = np.full_like(before, 50)
    found = panels(before, after)
    assert list(found) == ["before", "after", "residual", "power spectrum of the residual"]
    shown = {name: axes.get_images()[0] for name, axes in found.items()}
    assert shown["before"].get_clim() == shown["after"].get_clim()
    assert shown["before"].get_clim()[1] < 100
    low, high = shown["residual"].get_clim()
    assert low == -high
    np.testing.assert_array_equal(shown["residual"].get_array(), before - 50.0)
    assert found["before"].get_box_aspect() == pytest.approx(30 / 40)
    assert [text.get_text() for text in found["before"].texts] == ["1 nm"]
    assert not found["residual"].texts


@pytest.mark.parametrize(
    ("shape", "title"),
    [
        ((700, 600), "before, binned 2 x 2"),
        ((1100, 60), "before, binned 3 x 3\n(not to scale)"),
        ((3, 600), "before, binned 2 x 2\n(not to scale)"),
    ],
)
def test_panels_of_a_large_image(shape, title):
    before = RNG.normal(50, 2, shape)
    found = panels(before, before - 1, None)
    assert len(found) == 8
    assert title in found
    centre = next(axes for name, axes in found.items() if name.startswith("before, centre"))
    pixels = centre.get_images()[0].get_array()
    assert pixels.shape == tuple(min(side, 192) for side in shape)
    top = (shape[0] - pixels.shape[0]) // 2
    assert centre.get_ylim()[1] == top - 0.5  # in pixels of the whole
    left = (shape[1] - pixels.shape[1]) // 2
    np.testing.assert_array_equal(
        pixels, before[top : top + pixels.shape[0], left : left + pixels.shape[1]]
    )


@pytest.mark.parametrize("value", [0.0, np.nan])
@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (1, 20)])
def test_images_that_hold_nothing(shape, value):
    before = np.full(shape, value)
    assert len(panels(before, before)) == 4


def test_the_spectrum_of_white_noise_is_its_variance():
    white = RNG.normal(0, 3, (600, 500))
    power = spectra.spectrum(white, None)
    assert power.shape == (256, 256)
    assert power.mean() == pytest.approx(9, rel=0.03)
    frequency, mean = spectra.profile(power)
    assert (frequency > 0).all()
    assert (frequency < 0.5).all()
    np.testing.assert_allclose(mean[3:], 9, rtol=0.2)
    np.testing.assert_allclose(spectra.spectrum(white + 5, white + 5 - white), power, atol=1e-6)


def test_the_spectrum_shows_a_period():
    wave = np.cos(2 * np.pi * np.arange(300) / 8) * np.ones((300, 1))
    power = spectra.spectrum(wave, None)
    row, column = np.unravel_index(power.argmax(), power.shape)
    assert row == 128  # no change down
    assert abs(column - 128) == 256 // 8

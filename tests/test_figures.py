"""The command, its files, and figures 5 to 12: examples of restorations."""

import sys

import numpy as np
import pytest

from emd import checkpoint, zoo
from emd.data import micrograph
from emd.restore import denoise
from experiments.figures import __main__ as figures
from experiments.figures import architecture, examples, micrographs, style

pytest.importorskip("matplotlib")


@pytest.fixture
def five(monkeypatch):
    """Five micrographs of random pixels in place of the simulated ones."""
    draws = np.random.default_rng(0)
    truth = draws.uniform(10, 20, (5, 104, 164)).astype(np.float32)
    noisy = truth + draws.normal(size=truth.shape).astype(np.float32)
    found = [micrographs.Example(f"no {i}", noisy[i], truth[i]) for i in range(5)]
    monkeypatch.setattr(micrographs, "gather", lambda domain, data_dir: found)
    return found


@pytest.fixture
def one_kernel(tmp_path):
    """A folder of models with a single one, which blurs."""
    root = tmp_path / "models"
    config = zoo.find("tem_kernel_w5")
    variables = {"params": {"weights": np.full(6, 1 / 25, np.float32)}}
    model = checkpoint.Model(config, zoo.make_module(config), variables, {})
    checkpoint.save(model, root, text="made by a test")
    return str(root)


def test_figures_5_to_12_show_all_models_once():
    assert list(examples.FIGURES) == [f"fig{i}" for i in range(5, 13)]
    drawn = [c.name for name in examples.FIGURES for _, cs in examples.shown(name) for c in cs]
    assert sorted(drawn) == sorted(c.name for c in zoo.PAPER_MODELS)
    assert len(drawn) == 45


def test_examples_are_what_the_model_makes_of_them(five, one_kernel):
    figure = examples.draw("fig7", None, one_kernel)
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 5 * 3  # input, the kernel, truth
    said = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert said.count(style.NOT_TRAINED) == 4
    assert [text.get_text() for text in figure.texts].count("kernel\nw = 5") == 1
    model = checkpoint.load("tem_kernel_w5", root=one_kernel)
    for i, example in enumerate(five):
        rows = example.pixels, denoise(example.pixels, model), example.truth
        cut = np.stack([row[2:102, 2:162] for row in rows])
        windows = [cut[0][r : r + 98, c : c + 158] for r in range(3) for c in range(3)]
        limits = np.percentile(np.mean(windows, axis=0), (0.5, 99.5))
        for row in range(3):
            axes = panels[5 * row + i]
            image, inset = axes.images[0], axes.child_axes[0].images[0]
            np.testing.assert_allclose(image.get_clim(), limits, rtol=1e-6)
            np.testing.assert_allclose(inset.get_clim(), limits, rtol=1e-6)
            shown = image.get_array()
            np.testing.assert_array_equal(shown[:40], cut[row, :40])
            np.testing.assert_array_equal(shown[:, :100], cut[row, :, :100])
            left, top = (round(v + 0.5) for v in axes.patches[0].get_xy())
            part = cut[row, top : top + 28, left : left + 28]
            np.testing.assert_array_equal(inset.get_array(), part)
            assert left + 28 <= 100  # not under what is enlarged
            error = np.mean((rows[row].astype(float) - example.truth) ** 2)
            if error:
                db = 10 * np.log10(np.ptp(example.truth) ** 2 / error)
                assert float(axes.texts[0].get_text()) == pytest.approx(db, abs=0.06)
            else:
                assert not axes.texts


def test_what_is_enlarged_is_what_varies_most():
    image = np.random.default_rng(0).normal(size=(100, 160)) * 0.1
    image[40:60, 50:70] += np.arange(20)
    row, column = examples.busiest(image, 28, 100)
    assert row <= 44 <= row + 28
    assert column <= 60 <= column + 28


def test_a_simulated_example_has_its_truth(monkeypatch):
    assert all(len(found) == micrographs.COUNT for found in micrographs.SIMULATED.values())
    monkeypatch.setattr(micrographs, "SIDE_PX", 64)
    monkeypatch.setattr(micrographs, "SIMULATED", {"stem": (("terrain", 5.0, 1),)})
    found = micrographs.gather("stem", None)
    assert [example.title for example in found] == ["terrain, dose 5"]
    assert all(example.pixels.shape == example.truth.shape == (64, 64) for example in found)
    assert found[0].truth.mean() == pytest.approx(5, rel=1e-3)
    assert np.array_equal(found[0].pixels, np.round(found[0].pixels))  # counts, without readout


def write(folder, count, shape=(120, 200)):
    folder.mkdir(parents=True)
    draws = np.random.default_rng(0)
    for i in range(count):
        pixels = draws.poisson(20, shape).astype(np.uint16)
        micrograph.write(folder / f"{i:02d}.tif", micrograph.Micrograph(pixels))


def test_real_examples_are_the_middle_of_five_files(tmp_path):
    write(tmp_path / "tem", 11, (400, 200))
    found = micrographs.gather("tem", str(tmp_path))
    assert [example.title for example in found] == ["00", "02", "04", "06", "08"]
    assert found[0].truth is None
    pixels = micrograph.read(tmp_path / "tem" / "00.tif").pixels
    np.testing.assert_array_equal(found[0].pixels, pixels[40:360])
    write(tmp_path / "stem", 5, (90, 200))
    with pytest.raises(ValueError, match=r"00\.tif has 90x200 px: at least 100x160"):
        micrographs.gather("stem", str(tmp_path))
    (tmp_path / "stem" / "00.tif").unlink()
    with pytest.raises(ValueError, match="has 4 micrographs: 5 are needed"):
        micrographs.gather("stem", str(tmp_path))


def test_both_domains_share_a_figure(monkeypatch):
    made = {
        name: [micrographs.Example(f"{name} {i}", np.ones((2, 2)), None) for i in range(5)]
        for name in ("tem", "stem")
    }
    monkeypatch.setattr(micrographs, "_real", lambda folder: made[folder.name])
    titles = [example.title for example in micrographs.gather("temstem", "anywhere")]
    assert titles == ["tem 0", "tem 1", "tem 2", "stem 0", "stem 1"]


# --- files -----------------------------------------------------------------------------------


def run(tmp_path, **options):
    return figures.run(figures.Config(output=str(tmp_path / "out"), **options))


def test_a_run_writes_png_and_pdf_the_same_each_time(monkeypatch, tmp_path):
    monkeypatch.setattr(style, "DPI", 60)
    numbers = run(tmp_path, only="fig1")
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == ["fig1.pdf", "fig1.png"]
    first = [path.read_bytes() for path in files]
    assert numbers == pytest.approx({"fig1 kB": sum(map(len, first)) / 1000})
    assert first[1].startswith(b"\x89PNG")
    assert b"CreationDate" not in first[0]
    assert b"/Type3" not in first[0]  # shapes in place of letters
    assert b"/CIDFontType2" in first[0]
    with pytest.raises(FileExistsError, match=r"fig1\.png"):
        run(tmp_path, only="fig1")
    run(tmp_path, only="fig1", overwrite=True)
    assert [path.read_bytes() for path in files] == first


def test_a_figure_is_written_whole_or_not_at_all(tmp_path):
    class Broken:
        def savefig(self, path, *, format, **options):
            if format == "pdf":
                path.write_bytes(b"half")
                raise OSError("no space left")
            from matplotlib.figure import Figure

            Figure(figsize=(1, 1)).savefig(path, format=format, dpi=20)

    (tmp_path / "fig1.pdf").write_bytes(b"old")
    with pytest.raises(OSError, match="no space"):
        style.save(Broken(), tmp_path, "fig1")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("fig1.pdf", b"old")]


def test_examples_of_a_folder_go_where_they_are_told(monkeypatch, tmp_path, five, one_kernel):
    monkeypatch.setattr(style, "DPI", 40)
    run(tmp_path, only="fig7", data_dir="anywhere", checkpoints=one_kernel)
    assert (tmp_path / "out" / "fig7.png").stat().st_size > 1000
    monkeypatch.chdir(tmp_path)
    for output in (None, "results/figures", str(tmp_path / "results" / "figures")):
        with pytest.raises(ValueError, match="name another folder with --output"):
            figures.run(figures.Config(only="fig1", data_dir="anywhere", output=output))
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("options", "error", "line"),
    [
        ({"only": "fig13"}, ValueError, "--only has 'fig13': use names or their beginnings: fig1 "),
        (
            {"checkpoints": "nowhere", "only": "fig1"},
            FileNotFoundError,
            "nowhere: no such folder of models",
        ),
    ],
)
def test_bad_options_are_one_line(tmp_path, options, error, line):
    with pytest.raises(error, match=line):
        run(tmp_path, **options)
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"pip install 'emd-micrograph\[plot\]'"):
        run(tmp_path, only="fig1")
    assert not (tmp_path / "out").exists()


def test_type_is_large_enough_and_ignores_the_users_settings(five, one_kernel):
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 3.0, "pdf.fonttype": 3}):
        drawn = [architecture.fig1(), architecture.fig3(), examples.draw("fig7", None, one_kernel)]
        written = [text for figure in drawn for text in figure.findobj(mpl.text.Text)]
    assert min(text.get_fontsize() for text in written if text.get_text()) >= 7

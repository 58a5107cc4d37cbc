"""`emd fit`: a model of one's own from one file, used by the other commands, or a clear refusal."""

import dataclasses
import pathlib

import numpy as np
import pytest

from emd import blindspot_fit, checkpoint, cli
from emd.data import micrograph
from emd.data.micrograph import Micrograph

pytestmark = pytest.mark.usefixtures("optimised")


@pytest.fixture
def exposure(tmp_path: pathlib.Path) -> pathlib.Path:
    rows, columns = np.mgrid[:128, :128]
    truth = 40 + 15 * np.sin(rows * 0.4) * np.sin(columns * 0.4)
    path = tmp_path / "one.tif"
    counts = np.random.default_rng(0).poisson(truth).astype(np.uint16)
    micrograph.write(path, Micrograph(counts, (0.1, 0.1), "nm"))
    return path


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_a_fitted_kernel_is_a_model_like_any_other(tmp_path, exposure, capsys):
    model = tmp_path / "monday"
    assert run("fit", exposure, "-o", model, "--width", 5) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{model}: 5x5 kernel; use it: the squared error falls by ")
    assert told.endswith(f"restore with: emd denoise {exposure} -o OUT --model {model}\n")
    assert run("denoise", exposure, "-o", tmp_path / "out.tif", "--model", model) == 0
    restored = micrograph.read(tmp_path / "out.tif")
    assert restored.metadata["emd"][0]["model"] == "monday"
    assert restored.pixels.std() < micrograph.read(exposure).pixels.std()
    assert run("export", model, "--to", "csv", "-o", tmp_path / "k.csv") == 0
    assert len((tmp_path / "k.csv").read_text().splitlines()) >= 5


def test_names_and_places_are_checked_before_any_work(tmp_path, exposure, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, reason in [
        (("-o", "tem_kernel_w3"), "name of a model of the zoo"),
        (("-o", "one.tif"), "exists already"),
        (("-o", "no/where"), "its folder does not exist"),
        (("-o", "m", "--width", 4), "odd number from 3 to 15"),
        (("-o", "m", "--noise", -1), "at least 0"),
    ]:
        assert run("fit", "one.tif", *arguments) == 1
        error = capsys.readouterr().err
        assert reason in error
        assert error.count("\n") == 1
    assert run("fit", "one.tif", "-o", "m", "--width", 3) == 0
    assert "--model ./m\n" in capsys.readouterr().out
    assert run("fit", "one.tif", "-o", "m", "--width", 3) == 1
    assert run("fit", "one.tif", "-o", "m", "--width", 3, "--overwrite") == 0


def test_an_image_free_of_noise_has_nothing_to_gain(tmp_path, exposure, capsys):
    steps = tmp_path / "steps.tif"
    micrograph.write(
        steps, Micrograph(np.kron(np.arange(256).reshape(16, 16) % 7, np.ones((8, 8))))
    )
    for given in ((steps,), (exposure, "--noise", 0)):
        model = tmp_path / f"of_{len(given)}"
        assert run("fit", *given, "-o", model, "--width", 5) == 0
        assert "5x5 kernel; no gain: it is free of noise\n" in capsys.readouterr().out
        assert "gain_db" not in (model / "card.md").read_text()
        out = tmp_path / f"of_{len(given)}.tif"
        assert run("denoise", given[0], "-o", out, "--model", model) == 0
        before, after = (micrograph.read(path).pixels for path in (given[0], out))
        np.testing.assert_allclose(after, before, atol=1e-3)


def test_a_filtered_image_gets_no_kernel(tmp_path, exposure, capsys):
    given = micrograph.read(exposure)
    pixels = given.pixels.astype(np.float32)
    blurred = (pixels + np.roll(pixels, 1, 0) + np.roll(pixels, 1, 1)) / 3
    path = tmp_path / "blurred.tif"
    micrograph.write(path, Micrograph(blurred))
    assert run("fit", path, "-o", tmp_path / "m") == 1
    assert "do not use a kernel: noise is correlated" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_each_file_of_a_job_gets_a_kernel_of_its_own(tmp_path, exposure, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    pixels = micrograph.read(exposure).pixels
    micrograph.write(folder / "a.tif", Micrograph(pixels))
    micrograph.write(folder / "b.tif", Micrograph(pixels[:, ::2].repeat(2, 1)))  # doubled columns
    micrograph.write(folder / "c.tif", Micrograph(np.roll(pixels, 20, 1)[10:]))
    job = ("denoise", folder, "-o", tmp_path / "out", "--model", "fit")
    assert run(*job) == 1
    told = capsys.readouterr()
    assert "b.tif: do not use a kernel: " in told.err
    assert told.out.count("fit, as the squared error falls by ") == 2
    restored = [micrograph.read(tmp_path / "out" / name) for name in ("a.tif", "c.tif")]
    steps = [each.metadata["emd"][-1] for each in restored]
    assert [step["model"] for step in steps] == ["fit", "fit"]
    assert steps[0]["weights"] != steps[1]["weights"]
    assert run(*job) == 1
    assert "0 done, 2 skipped (done before), 1 failed" in capsys.readouterr().err
    assert run("preview", folder / "a.tif", "--model", "fit", "-o", tmp_path / "p.png") == 0
    assert run("denoise", folder / "b.tif", "-o", tmp_path / "b.tif", "--model", "fit") == 1
    assert not (tmp_path / "b.tif").exists()


@pytest.mark.parametrize("name", ["monday", "tem_kernel_w3", "fit", "monday_ensemble"])
def test_a_job_knows_again_what_a_model_of_ones_own_did(tmp_path, exposure, capsys, name):
    def save(printed):
        given = checkpoint.load(printed)
        own = dataclasses.replace(given.config, published=False, label=name)
        card = {"family": "kernel", "size": "3"}
        checkpoint.save(given._replace(config=own, card=card), tmp_path / "mine", text="")

    def job():
        code = run("denoise", exposure, "-o", f"{tmp_path}/out/", "--ensemble", "--model", model)
        return code, capsys.readouterr().err

    model = tmp_path / "mine" / name
    save("tem_kernel_w3_published")
    assert job()[0] == 0
    code, told = job()
    assert code == 0
    assert "0 done, 1 skipped (done before), 0 failed" in told
    save("stem_kernel_w3_published")  # other weights of that name
    code, told = job()
    assert code == 1
    assert "0 done, 0 skipped, 1 failed" in told


def test_a_perceptron_is_fitted_where_asked_and_stays_where_it_is_better(
    tmp_path, capsys, monkeypatch
):
    rows, columns = np.mgrid[:224, :224] / 9.0
    u, v = rows + 0.3 * columns, columns - 0.3 * rows
    truth = 4 + 60 * np.exp(-((u - np.rint(u)) ** 2 + (v - np.rint(v)) ** 2) / 0.045)
    lattice, flat = tmp_path / "lattice.tif", tmp_path / "flat.tif"
    rng = np.random.default_rng(0)
    micrograph.write(lattice, Micrograph(rng.poisson(truth).astype(np.uint16)))
    micrograph.write(flat, Micrograph(rng.normal(50, 5, (224, 224)).astype(np.float32)))
    model = tmp_path / "m"
    assert run("fit", lattice, "-o", model, "--perceptron") == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{model}: 21x21 perceptron; use it: the squared error falls by ")
    assert "below a kernel's\n" in told
    assert "dB below" in (model / "card.md").read_text()
    assert run("denoise", lattice, "-o", tmp_path / "out.tif", "--model", model) == 0
    restored = micrograph.read(tmp_path / "out.tif").pixels
    assert np.mean((restored - truth) ** 2) < 0.25 * truth.mean()
    assert run("export", model, "--to", "imagej", "-o", tmp_path / "k.txt") == 1
    *_, error = capsys.readouterr().err.splitlines()
    assert error == "error: imagej cannot hold a model of family blindspot: use one of npz"
    monkeypatch.setattr(blindspot_fit, "improved", lambda _, kernel: kernel)
    assert run("fit", flat, "-o", tmp_path / "f", "--perceptron", "--noise", 5) == 0
    assert "kernel, no worse than a perceptron; use it" in capsys.readouterr().out

"""What experiments train and validate on: real, simulated or both."""

import jax
import numpy as np
import pytest

from emd.data import crops, truths
from emd.data.micrograph import Micrograph, write
from emd.data.simulate import haadf
from experiments import training_data


@pytest.fixture
def folder(tmp_path):
    """Three micrographs of their own fields, and one too small."""
    draws = np.random.default_rng(0)
    for domain in ("tem", "stem"):
        (tmp_path / domain).mkdir()
        for k, side in enumerate((160, 170, 180, 90)):
            pixels = draws.integers(0, 1000, (side, side)).astype(np.uint16)
            write(tmp_path / domain / f"{k}.tif", Micrograph(pixels))
    return tmp_path


@pytest.fixture(autouse=True)
def simulated(monkeypatch):
    """Noise in place of the simulator, whose compilation takes long; notes how it was asked."""
    asked = []

    def fake(key, dataset, *, count, side_px):
        asked.append((key, dataset, count, side_px))
        draws = np.random.default_rng(int(jax.random.key_data(key)[1]))
        return [
            crops.Image(
                draws.integers(0, 99, (160, 160)).astype(np.uint16),
                f"{domain}-{k}",
                f"{domain}/simulated",
                domain,
            )
            for domain in crops.domains_of(dataset)
            for k in range(20)
        ]

    monkeypatch.setattr(crops, "simulated", fake)
    training_data._simulate.cache_clear()
    yield asked
    training_data._simulate.cache_clear()


def test_without_a_folder_the_simulator_feeds_training_and_it_says_so(simulated, capsys):
    data = training_data.prepare("stem", None, 0.5)
    assert len(simulated) == 1
    assert simulated[0][1:] == ("stem", 300, 256)
    assert capsys.readouterr().out == "no --data_dir: training on simulated micrographs\n"
    assert {i.source for i in data.images} == {"stem/simulated"}
    assert 0 < len(data.held_out) < 20
    assert data.facts["simulated_share"] == "1"
    assert data.facts["real_sources"] == "none"
    assert data.facts["held_out_crops"].endswith("simulated")


def test_real_ones_are_validated_on_where_there_are_any(folder, capsys):
    data = training_data.prepare("tem", str(folder), 0.5)
    assert capsys.readouterr().out == "skipped 1 files smaller than 160x160 px\n"
    assert data.facts["real_frames"] == "2"
    assert data.facts["held_out_crops"] == "1 real"
    assert data.facts["simulated_share"] == "0.5"
    assert len(data.held_out) == len(data.held_out_whole) == 1
    np.testing.assert_allclose(data.held_out.mean((1, 2)), 1, rtol=1e-5)


def test_a_share_of_zero_simulates_nothing(folder, simulated):
    data = training_data.prepare("temstem", str(folder), 0.0)
    assert not simulated
    assert {i.source for i in data.images} == {"tem/.", "stem/."}


def test_held_out_images_are_not_trained_on(folder):
    data = training_data.prepare("tem", str(folder), 0.0)
    held = data.held_out_whole[0] / data.held_out_whole[0].max()
    for image in data.images:
        assert not np.allclose(image.pixels[:160, :160] / image.pixels[:160, :160].max(), held)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(ValueError, match="give a fraction from 0 to 1"):
        training_data.prepare("tem", None, share)


def test_nothing_to_validate_on_is_one_clear_line(folder):
    for name in ("1.tif", "2.tif"):
        (folder / "tem" / name).unlink()
    with pytest.raises(ValueError, match=r"single field.*add a second micrograph"):
        training_data.prepare("tem", str(folder), 0.0)
    assert training_data.prepare("tem", str(folder), 0.5).facts["held_out_crops"].endswith("ed")


def test_the_hash_is_of_the_pixels_in_any_order(folder):
    images = crops.load(folder, "tem")[0]
    one = training_data.fingerprint(images)
    assert one == training_data.fingerprint(images[::-1])
    assert one != training_data.fingerprint(images[1:])
    images[0].pixels[3, 3] ^= 1
    assert one != training_data.fingerprint(images)


# --- truths -----------------------------------------------------------------------------------


@pytest.fixture
def made(monkeypatch):
    """Smooth images in place of the simulator's truths; notes how they were asked for."""
    asked = []

    def fake(key, dataset, *, count, side_px):
        asked.append((dataset, count, side_px))
        wave = 1000 + 900 * np.sin(np.arange(160) / 9)[:, None] * np.ones(160)
        return [
            crops.Image(np.uint16(wave + k), f"{domain}-{k}", f"{domain}/simulated", domain)
            for domain in crops.domains_of(dataset)
            for k in range(count)
        ]

    monkeypatch.setattr(truths, "simulated", fake)
    return asked


@pytest.fixture
def cameras(tmp_path):
    """Four micrographs: two of known gain, and two smooth ones of so many counts as to be true."""
    draws = np.random.default_rng(0)
    i, j = np.mgrid[:192, :192] / 192
    scene = 60 + 40 * np.sin(7 * i) * np.cos(5 * j)
    (tmp_path / "tem").mkdir()
    for k in range(2):
        counts = 5 * draws.poisson(scene)
        write(tmp_path / "tem" / f"counts{k}.tif", Micrograph(counts.astype(np.uint16)))
        smooth = 500 * scene + draws.normal(0, 50, scene.shape)
        write(tmp_path / "tem" / f"smooth{k}.tif", Micrograph(smooth.astype(np.uint16)))
    return tmp_path


def test_truths_are_simulated_without_a_folder(made, capsys):
    data = training_data.prepare_truths("temstem", None, 0.3, 10)
    assert made == [("temstem", 10, 256)]
    assert capsys.readouterr().out == "no --data_dir: training on simulated micrographs\n"
    assert data.facts["simulated_share"] == "1"
    assert data.facts["real_frames"] == "0"
    assert data.training.store.start.size + data.held_out.store.start.size == 20
    assert int(data.facts["simulated_micrographs"]) == data.training.store.start.size


@pytest.mark.parametrize(
    ("objective", "said", "kind"),
    [
        ("clean", "2 of 4 real micrographs have counts high enough for a truth", truths.Truths),
        (
            "thin",
            "2 of 4 real micrographs tell of their electrons; the others are left out",
            truths.Counted,
        ),
    ],
)
def test_an_objective_takes_the_real_ones_that_suit_it(
    made, cameras, capsys, objective, said, kind
):
    data = training_data.prepare_truths("tem", str(cameras), 0.3, 10, objective)
    assert capsys.readouterr().out == f"{said}\n"
    assert isinstance(data.training, kind)
    assert data.facts["real_frames"] == "1"
    assert data.facts["simulated_share"] == "0.3"
    real = np.asarray(data.training.store.rows) == 192
    assert real.sum() == 1
    if objective == "thin":
        np.testing.assert_array_equal(data.training.is_counted, real)
        assert float(data.training.store.mean[np.argmax(real)]) == pytest.approx(60, rel=0.15)
    # what a model is measured on must be the truth
    held = np.asarray(data.held_out.store.rows) == 192
    assert held.sum() == (1 if objective == "clean" else 0)


@pytest.mark.usefixtures("made")
def test_what_needs_no_truths_is_refused():
    with pytest.raises(
        ValueError, match="'reproduce' has no truths: use one of clean, thin, columns"
    ):
        training_data.prepare_truths("tem", None, 0.5, 10, "reproduce")
    with pytest.raises(ValueError, match="give a fraction from 0 to 1"):
        training_data.prepare_truths("tem", None, 1.5, 10)


@pytest.mark.parametrize(
    ("objective", "kind"), [("columns", haadf.sampled_alike), ("benchmark", haadf.benchmark)]
)
def test_atom_columns_come_alone_and_from_stem(monkeypatch, objective, kind):
    monkeypatch.setattr(training_data, "SIMULATED_SIDE_PX", 64)
    monkeypatch.setattr(crops, "SIDE_PX", 64)
    data = training_data.prepare_truths("stem", "/nowhere", 0.3, 12, objective)
    key = jax.random.key(training_data.SIMULATION_SEED)
    drawn = truths.lattices(key, count=12, side_px=64, kind=kind)
    assert data.facts["data_hash"] == training_data.fingerprint(crops.split(drawn)[0])
    assert data.facts["real_sources"] == "none"
    assert data.facts["simulated_share"] == "1"
    assert len(data.training.most) + len(data.held_out.most) == 12
    assert min(data.held_out.most) == truths.DOSES[1]
    with pytest.raises(ValueError, match=f"'{objective}' has no tem micrographs: it is of stem"):
        training_data.prepare_truths("tem", None, 0.3, 12, objective)

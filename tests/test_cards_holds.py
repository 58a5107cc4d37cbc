"""Charts of gain over a tuned Gaussian: the gains, what they follow from, and the models' cards."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from emd import checkpoint, zoo
from emd.restore import denoise
from experiments import shelf
from experiments.benchmark import table
from experiments.cards import charts, fringes, holds, regions
from experiments.cards.holds import Cell
from experiments.dose import fields
from experiments.dose.samples import Sample

CHECKPOINTS = checkpoint.shipped()
HOLDS = CHECKPOINTS.parent / "results" / "holds.csv"


def save(root, name, *weights, **facts):
    config = zoo.find(name)
    params = {"weights": np.array(weights, np.float32)}
    model = checkpoint.Model(config, zoo.make_module(config), {"params": params}, facts)
    checkpoint.save(model, root, text="Prose of two\n\nparagraphs.")
    return checkpoint.load(name, root=root)


def rows_of(name, gain, weights="0123"):
    """Rows of a model whose gain is a function of dose and spacing."""
    due = holds.cells(zoo.find(name).domain)
    return [
        dict(zip(holds.COLUMNS, (name, weights, c.domain, f"{c.dose:g}", f"{c.spacing_px:g}",
                                 f"{gain(c.dose, c.spacing_px):.3f}", "0", "1"), strict=True))
        for c in due
    ]  # fmt: skip


@pytest.fixture
def few(monkeypatch):
    """Two cells a domain, of small fields without a simulator, and what was drawn for them."""
    drawn = []

    def draw(cell, purpose):
        drawn.append((cell, purpose))
        draws = np.random.default_rng([int(cell.dose), purpose == fields.TUNING])
        place = 2 * np.pi * np.arange(24) / cell.spacing_px
        contrast = 0.5 if purpose == fields.TUNING else 0.3
        truth = cell.dose * (1 + contrast * np.outer(np.sin(place), np.cos(place)))
        return [Sample(draws.poisson(truth).astype(np.float32), truth) for _ in range(2)]

    monkeypatch.setattr(holds, "draw", draw)
    monkeypatch.setattr(holds, "DOSES", (3.0, 50.0))
    monkeypatch.setattr(holds, "SPACINGS_PX", (8.0,))
    holds.measured.cache_clear()
    yield drawn
    holds.measured.cache_clear()


# --- what is measured -----------------------------------------------------------------------------


def blurred(image, sigma):
    """A Gaussian cut at 4 sigma over an image mirrored about its edges, in plain NumPy."""
    reach = int(4 * sigma + 0.5)
    steps = np.arange(-reach, reach + 1)
    profile = np.exp(-0.5 * (steps / sigma) ** 2)
    profile /= profile.sum()
    side = len(image)
    matrix = np.zeros((side, side))
    for row in range(side):
        for step, weight in zip(steps, profile, strict=True):
            place = (row + step) % (2 * side)
            matrix[row, min(place, 2 * side - 1 - place)] += weight
    return matrix @ image @ matrix.T


def test_gain_over_the_tuned_gaussian_in_plain_numpy(few, tmp_path):
    model = save(tmp_path, "stem_kernel_w3", 0.2, 0.1, 0.1)
    rows = holds.fill(tmp_path / "holds.csv", tmp_path, comment="how")
    sigmas = [float(f"{sigma:.3g}") for sigma in np.geomspace(0.3, 24, 48)]
    for dose in (3.0, 50.0):
        cell = Cell("stem", dose, 8.0)
        tuning, samples = holds.draw(cell, fields.TUNING), holds.draw(cell, fields.EVALUATION)

        def errors(sigma, of):
            return [((blurred(s.noisy, sigma) - s.truth) ** 2).mean() for s in of]

        best = min(sigmas, key=lambda sigma: sum(np.log(errors(sigma, tuning))))
        own = [((denoise(s.noisy, model) - s.truth) ** 2).mean() for s in samples]
        due = 10 * np.log10(np.array(errors(best, samples)) / own)
        (row,) = (r for r in rows if (r["model"], r["dose"]) == ("stem_kernel_w3", f"{dose:g}"))
        assert float(row["gaussian_sigma_px"]) == best
        assert float(row["gain_db"]) == pytest.approx(due.mean(), abs=1e-3)
        assert float(row["least_db"]) == pytest.approx(due.min(), abs=1e-3)
        raw = [((s.noisy - s.truth) ** 2).mean() for s in samples]
        (row,) = (r for r in rows if (r["model"], r["domain"], r["dose"])
                  == ("no denoising", "stem", f"{dose:g}"))  # fmt: skip
        due = 10 * np.log10(np.array(errors(best, samples)) / raw)
        assert float(row["gain_db"]) == pytest.approx(due.mean(), abs=1e-3)


def test_models_are_measured_on_their_domains_alone(few, tmp_path):
    save(tmp_path, "temstem_kernel_w3", 0.2, 0.1, 0.1)
    rows = holds.fill(tmp_path / "holds.csv", tmp_path, comment="how")
    found = {name: {r["domain"] for r in rows if r["model"] == name}
             for name in ("temstem_kernel_w3", "tem_kernel_w3_published", "fit", "no denoising")
             }  # fmt: skip
    both = {"stem", "tem"}
    assert list(found.values()) == [both, {"tem"}, both, both]


def test_only_what_is_missing_is_measured(few, tmp_path):
    path, root = tmp_path / "holds.csv", tmp_path / "models"
    save(root, "stem_kernel_w3", 0.2, 0.1, 0.1)
    rows = holds.fill(path, root, comment="how")
    text = path.read_text()
    assert text.startswith("# how\nmodel,weights,domain,dose,spacing_px,gain_db,")
    holds.measured.cache_clear()
    few.clear()
    assert holds.fill(path, root, comment="again") == rows
    assert (path.read_text(), few) == (text, [])
    # stopped halfway, and a model that was replaced
    path.write_text("".join(text.splitlines(keepends=True)[:-1]))
    assert holds.fill(path, root, comment="again") == rows
    assert len(few) == 2
    save(root, "stem_kernel_w3", 0.3, 0.1, 0.05)
    new = holds.fill(path, root, comment="again")
    assert {row["model"] for row in new if row not in rows} == {"stem_kernel_w3"}


def test_rows_of_other_weights_are_stale(few, tmp_path):
    save(tmp_path, "stem_kernel_w3", 0.2, 0.1, 0.1)
    rows = holds.fill(tmp_path / "holds.csv", tmp_path, comment="how")
    published = {r["model"]: r["weights"] for r in rows if r["model"].endswith("_published")}
    own = next(r["weights"] for r in rows if r["model"] == "stem_kernel_w3")
    assert holds.stale(rows, {**published, "stem_kernel_w3": own}) == []
    assert holds.stale(rows, {**published, "stem_kernel_w3": "0"}) == ["stem_kernel_w3"]
    assert holds.stale(rows, published) == ["stem_kernel_w3"]
    assert holds.stale(rows[:-1], {**published, "stem_kernel_w3": own}) == [rows[-1]["model"]]


def frequency(spacing_px):
    """Of the strongest wave in the scene of fringes of a spacing, in cycles a pixel."""
    (sample,) = fringes.draw(spacing_px, 100.0, fields.EVALUATION, count=1, side_px=128)
    window = np.outer(np.hanning(128), np.hanning(128))
    spectrum = np.abs(np.fft.fft2((sample.truth - sample.truth.mean()) * window))
    k = np.fft.fftfreq(128)
    radius = np.hypot(*np.meshgrid(k, k))
    spectrum[radius < 0.025] = 0  # uneven thickness
    return radius.flat[spectrum.argmax()]


def test_fringes_have_their_spacing_and_counts():
    found = [frequency(spacing) * spacing for spacing in (6.0, 10.0, 16.0)]
    # in units of the first planes; a second family may be up to 1 / 0.6 wider
    assert 0.55 < min(found) < max(found) < 1.1
    assert np.ptp(found) < 0.15
    first, second = fringes.draw(8.0, 20.0, fields.EVALUATION, count=2, side_px=128)
    (other,) = fringes.draw(8.0, 20.0, fields.TUNING, count=1, side_px=128)
    (again,) = fringes.draw(8.0, 20.0, fields.EVALUATION, count=1, side_px=128)
    np.testing.assert_array_equal(first.noisy, again.noisy)
    for sample in (first, second, other):
        assert sample.truth.mean() == pytest.approx(20, rel=1e-4)
        assert (sample.noisy - sample.truth).var() == pytest.approx(20, rel=0.1)
    assert abs(np.corrcoef(first.truth.ravel(), other.truth.ravel())[0, 1]) < 0.9


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gain", "due"),
    [
        (lambda d, s: -1.0, "nowhere closer .*; [*]{2}it loses at every dose and spacing, by up to "
                            "1.0 dB.[*]{2}$"),
        (lambda d, s: 0.04, "nowhere closer .*; it loses nowhere.$"),
        (lambda d, s: 2.5, "it is closer to the truth than .* at every dose and spacing, by up to "
                           "2.5 dB of squared error; it loses nowhere.$"),
        (lambda d, s: -3.0 if (d, s) == (5, 6) else 1.0,
         r"[*]{2}it loses at 5 peak counts [(]6 px[)], by up to 3.0 dB.[*]{2}$"),
        (lambda d, s: -2.0 if d >= 100 or (d == 2 and s not in (10, 16)) else 0.0,
         r"it loses at 2 peak counts [(]6 to 8, 12 and 20 px[)] and at 100 and 500 peak counts "
         r"[(]every spacing[)], by up to 2.0 dB"),
    ],
)  # fmt: skip
def test_sentence(gain, due):
    gains = regions.of_model(rows_of("stem_kernel_w3", gain), "stem_kernel_w3")
    text = regions.sentence(gains)
    assert text.startswith("On simulated HAADF honeycombs it is ")
    assert re.search(due, text), text


def test_table_of_a_family_marks_where_a_model_loses():
    rows = rows_of("stem_kernel_w3", lambda d, s: 1.0 if d < 100 else -s / 10)
    rows += rows_of("stem_kernel_w5_published", lambda d, s: 0.5) + rows_of("stem_mlp1_w3", max)
    text = regions.family_table(rows, "kernel")
    win, loss = " | ".join(3 * ["+1.0 to +1.0"]), "**-2.0 to -0.6**"
    assert f"| `stem_kernel_w3` | STEM | {win} | {loss} | {loss} | 12 of 30 |" in text
    assert "| `stem_kernel_w5_published` | STEM | +0.5 to +0.5 |" in text
    assert "mlp1" not in text
    assert regions.family_table(rows, "autoencoder") == "None was measured yet."


# --- pictures and cards ---------------------------------------------------------------------------


def hatched(picture):
    """Where a chart has the colour of its hatching, as shares of height and width."""
    image = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), float)
    colour = [int(charts._HATCH[i : i + 2], 16) for i in (1, 3, 5)]
    found = np.argwhere(np.abs(image - colour).max(axis=-1) < 25)
    return found / image.shape[:2]


def test_a_model_that_loses_is_marked():
    """At high dose and wide spacing it loses: in the upper right part of the chart alone."""
    rows = rows_of("stem_kernel_w3", lambda d, s: -2.0 if d >= 100 and s >= 16 else 0.3)
    places = hatched(charts.picture("stem_kernel_w3", rows))
    assert len(places) > 100
    assert places[:, 0].max() < 0.5
    assert places[:, 1].min() > 0.6
    assert len(hatched(charts.picture("stem_kernel_w3", rows_of("stem_kernel_w3", max)))) == 0


@pytest.mark.parametrize("name", ["stem_kernel_w3", "temstem_mlp1_w11"])
def test_pictures_are_small_and_the_same_each_time(name):
    rows = rows_of(name, lambda d, s: 12.3 - 4.2 * np.log(d) + np.sin(s))
    first = charts.picture(name, rows)
    assert first == charts.picture(name, rows)
    assert len(first) < 10_000
    assert Image.open(io.BytesIO(first)).width >= 400


def test_a_card_gains_a_section_and_keeps_the_rest(tmp_path):
    save(tmp_path, "stem_kernel_w3", 0.2, 0.1, 0.1, batches="7", command="python: -m x")
    path = tmp_path / "stem_kernel_w3" / "card.md"
    before, facts = path.read_text(), checkpoint.read_card(path)
    rows = rows_of("stem_kernel_w3", lambda d, s: -1.0 if d > 50 else 1.0)
    assert charts.stale(tmp_path, rows) == ["stem_kernel_w3"]
    assert charts.write_all(tmp_path, rows) == ["stem_kernel_w3"]
    files = {p.name: p.read_bytes() for p in path.parent.glob("*.*")}
    text = path.read_text()
    assert "\n## Where it holds\n\nOn simulated HAADF honeycombs it is closer" in text
    assert "](gain.png)" in text
    assert checkpoint.read_card(path) == facts == {"batches": "7", "command": "python: -m x"}
    start, end = text.index("## Where it holds"), text.index("```")
    assert text[:start] + text[end:] == before
    assert charts.stale(tmp_path, rows) == []
    charts.write_all(tmp_path, rows)
    assert {p.name: p.read_bytes() for p in path.parent.glob("*.*")} == files


def test_charts_of_other_weights_are_stale(tmp_path):
    """After training anew, without a picture, and of a model that came from another folder."""
    name, work, root = "stem_kernel_w3", tmp_path / "work", tmp_path / "shelf"
    save(root, name, 0.2, 0.1, 0.1, validation_mse="2", held_out_crops="9")
    rows = rows_of(name, max)
    charts.write_all(root, rows)
    assert charts.stale(root, rows) == []
    assert charts.stale(root, rows_of(name, max, "4567")) == [name]
    assert charts.stale(root, []) == [name]
    other = {"gain.png": charts.picture(name, rows_of(name, min)), "card.md": b"```\n```\n"}
    for file, content in other.items():
        kept = (root / name / file).read_bytes()
        (root / name / file).write_bytes(content)
        assert charts.stale(root, rows) == [name]
        (root / name / file).write_bytes(kept)
    assert charts.stale(root, rows) == []
    (root / name / "gain.png").unlink()
    assert charts.stale(root, rows) == [name]
    save(work, name, 0.3, 0.1, 0.05, validation_mse="1", held_out_crops="9")
    charts.write_all(work, rows)
    assert "new" in shelf.promote(work, root, name)
    assert charts.stale(root, rows) == [name]


# --- what is committed ----------------------------------------------------------------------------


def test_committed_charts_are_of_the_committed_table():
    """Fails when a model was replaced: run `python -m experiments.cards`."""
    rows = table.read(HOLDS, holds.COLUMNS)
    assert HOLDS.read_text().startswith("# python -m experiments.cards")
    assert charts.stale(CHECKPOINTS, rows) == []
    assert max(path.stat().st_size for path in CHECKPOINTS.glob("*/gain.png")) <= 10_000


def test_a_committed_gain_is_measured_anew():
    (row,) = (r for r in table.read(HOLDS, holds.COLUMNS) if (r["model"], r["dose"],
              r["spacing_px"]) == ("stem_kernel_w7", "5", "12"))  # fmt: skip
    cell = holds.measured(Cell("stem", 5.0, 12.0))
    model = checkpoint.load("stem_kernel_w7")
    assert row["weights"] == checkpoint.fingerprint(model.variables)
    found = holds.gains_db([denoise(s.noisy, model) for s in cell.samples], cell)
    assert np.mean(found) == pytest.approx(float(row["gain_db"]), abs=0.02)
    assert cell.sigma_px == float(row["gaussian_sigma_px"])

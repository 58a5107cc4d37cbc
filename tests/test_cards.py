"""The families' cards: they say what the models' own say, and the numbers are right."""

import csv
import re

import numpy as np
import pytest

from emd import checkpoint, zoo
from emd.models import published
from experiments.benchmark import table
from experiments.cards import __main__ as cards
from experiments.cards import holds, measure, pages, sources, standing
from experiments.cards.standing import Entry

CHECKPOINTS = checkpoint.shipped()
RESULTS = CHECKPOINTS.parent / "results" / "cards"
NAMES = ("AUTOENCODERS.md", "KERNELS.md", "MLPS.md", "SKIPS.md")


def student(name="tem_kernel_w3", **facts):
    defaults = {"validation_mse": "1", "identity_mse": "4", "mean3_mse": "2",
                "closed_form_kernel_mse": "1.1"}  # fmt: skip
    return Entry(zoo.find(name), {**defaults, **facts})


def coder(name="tem_latent16", **facts):
    defaults = {"validation_mse": "1", "linear_code_mse": "2", "validation_mse_whole": "1",
                "linear_code_mse_whole": "2"}  # fmt: skip
    return Entry(zoo.find(name), {**defaults, **facts})


def save(root, name, params, **facts):
    config = zoo.find(name)
    model = checkpoint.Model(config, zoo.make_module(config), {"params": params}, facts)
    checkpoint.save(model, root, text="")
    return checkpoint.load(name, root=root)


# --- what is committed --------------------------------------------------------------------------


def test_committed_cards_are_what_the_committed_models_give():
    """Fails when a model was replaced: run `python -m experiments.cards`."""
    tables = cards.read_tables(RESULTS)
    tables["holds"] = table.read(RESULTS.parent / "holds.csv", holds.COLUMNS)
    due = pages.write_all(CHECKPOINTS, tables, "../results/cards")
    assert tuple(due) == NAMES
    for name, text in due.items():
        assert (CHECKPOINTS / name).read_text() == text, f"{name}: run python -m experiments.cards"


def test_committed_pictures_are_there_small_and_shown():
    for name in NAMES:
        text = (CHECKPOINTS / name).read_text()
        shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
        assert len(shown) == 1
        path = CHECKPOINTS / shown[0]
        assert 10_000 < path.stat().st_size < 300_000


def test_committed_links_lead_somewhere():
    for name in (*NAMES, "README.md"):
        links = re.findall(r"\]\((?!https)([^)]+)\)", (CHECKPOINTS / name).read_text())
        assert links
        for link in links:
            assert (CHECKPOINTS / link).exists(), f"{name}: {link}"


def test_committed_numbers_are_measured_anew():
    rows = cards.read_tables(RESULTS)
    model = checkpoint.load("stem_kernel_w7")
    scenes = {("terrain", 20.0): [measure.draw("terrain", 20.0, side_px=256, seed=s)
                                 for s in range(3)]}  # fmt: skip
    new = measure.gains(model, scenes)
    (old,) = (row for row in rows["gains"]
              if (row["model"], row["scene"], row["dose"]) == ("stem_kernel_w7", "terrain", "20")
              )  # fmt: skip
    for column in ("gain_db", "put_back_db", "counted_db"):
        assert float(new[0][column]) == pytest.approx(float(old[column]), abs=0.05)
    assert new[0]["worst_seed"] == old["worst_seed"]


def test_committed_sources_all_have_a_licence():
    for name in checkpoint.available():
        for named in sources.of_card(checkpoint.read_card(CHECKPOINTS / name / "card.md")):
            assert sources.split(named)[1] in sources.SOURCES, f"{name}: {named}"


def test_licences_are_those_of_the_data(real_data):
    with (real_data / "MANIFEST.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["role"] == "train"]
    stated = {row["source"]: row["licence"] for row in rows}
    assert set(stated) == set(sources.SOURCES)
    for source, licence in stated.items():
        first = re.match(r"[A-Z]+0?(-\d)?", licence)[0]  # such as BSD-2 of BSD-2-Clause-style
        assert sources.SOURCES[source].licence.startswith(first)


def test_cards_leave_the_models_as_they_are():
    """What lies beside the models is not taken for one."""
    beside = {*NAMES, "README.md", "inspect.ipynb", "streams"}
    there = {path.name for path in CHECKPOINTS.iterdir() if not path.name.startswith(".")}
    found = {name for name in checkpoint.available() if not zoo.find(name).published}
    assert beside <= there
    assert found == there - beside


# --- how models stand ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "due"),
    [
        (student(), "beats all"),
        (student(mean3_mse="0.99"), "level with the 3x3 mean (1.010)"),
        (student(mean3_mse="0.5"), "**loses to the 3x3 mean (2.00)**"),
        (
            student(identity_mse="0.5", closed_form_kernel_mse="0.999"),
            "**loses to no change (2.00)**; level with the best kernel (1.001)",
        ),
        (student(mean3_mse="lost"), "not measured against the 3x3 mean"),
        (coder(), "beats all"),
        (coder(linear_code_mse="0.8"), "**loses to the linear code (1.25)**"),
        (coder("tem_latent64", linear_code_mse="1e-9"), "no yardstick"),
        (Entry(zoo.find("tem_latent16"), None), "-"),
    ],
)
def test_verdict(entry, due):
    assert standing.verdict(entry) == due


def test_summary_names_losers_and_what_is_missing():
    listed = [student(), student("tem_kernel_w5", mean3_mse="0.5"),
              Entry(zoo.find("tem_kernel_w7"), None)]  # fmt: skip
    text = standing.summary(listed)
    assert "2 of 3 are here; not trained yet: `tem_kernel_w7`." in text
    assert "**1 of 2 lose to a yardstick:** `tem_kernel_w5`." in text
    assert "None loses" in standing.summary(listed[:1])
    assert standing.summary([coder("tem_latent64")]) == "1 of 1 are here."


def test_entries_are_the_papers_models(tmp_path):
    save(tmp_path, "tem_kernel_w3", {"weights": np.ones(3, np.float32)}, batches="7")
    found = standing.entries(tmp_path, "kernel")
    assert len(found) == 15
    assert [e.card for e in found if e.card is not None] == [{"batches": "7"}]


def test_schedule_shares_rows_and_says_what_is_missing():
    facts = {"batches": "5000", "batch_size": "8", "real_frames": "3", "real_fields": "2"}
    listed = [Entry(zoo.find("stem_latent64"), None), student("tem_kernel_w3", **facts),
              student("tem_kernel_w5", **facts), coder("tem_latent4", **facts)]  # fmt: skip
    lines = standing.schedule(listed).splitlines()[2:]
    assert lines[0].startswith("| `tem_kernel_w3`, `tem_kernel_w5` | 5000 (10000) | 8 | 400 % |")
    assert "3 (2)" in lines[0]
    assert lines[1].startswith("| `tem_latent4` | 5000 (60000) | 8 | 2.08 % |")
    assert lines[2].startswith("| `stem_latent64` | not trained |")


def test_licences_of_known_and_unknown_sources():
    named = "tem/ai-atoms/creme, stem/xinhuolin/AtomSegNet, tem/mine/own"
    text = standing.licences([student(real_sources=named), student(real_sources="none")])
    assert "| `ai-atoms/creme` | BF-TEM, defects of steel irradiated in situ | TEM | MIT |" in text
    assert "| `mine/own` | not known here | TEM | not known here: ask" in text
    assert standing.licences([student()]) == "No card names a source of real micrographs."


# --- the command --------------------------------------------------------------------------------


def one_cell(patch):
    """Gains over the tuned Gaussian at one dose and spacing alone."""
    patch.setattr(holds, "SPACINGS_PX", (6.0,))
    patch.setattr(holds, "DOSES", (2.0,))


@pytest.fixture(scope="module")
def one_model(tmp_path_factory):
    """Cards, tables and pictures of a folder with one kernel in it, measured on slopes."""
    folder = tmp_path_factory.mktemp("cards")

    def draw(kind, dose, *, side_px, seed):
        clean = dose * np.linspace(0.5, 1.5, side_px**2).reshape(side_px, side_px)
        noisy = np.random.default_rng(seed).poisson(clean)
        return measure.Scene(noisy.astype(np.float32), clean.astype(np.float32))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "draw", draw)
        one_cell(patch)
        save(folder / "models", "tem_kernel_w7", {"weights": published.weights("tem", 7)})
        config = cards.Config(
            checkpoints=str(folder / "models"), cards=str(folder / "models"),
            output=str(folder / "out"), holds=str(folder / "holds.csv"), side_px=96, seeds=1,
        )  # fmt: skip
        cards.run(config)
    return folder, config


def test_a_folder_of_one_model_gives_all_cards(one_model):
    folder, _ = one_model
    kernels = (folder / "models" / "KERNELS.md").read_text()
    assert "1 of 15 are here; not trained yet: `tem_kernel_w3`," in kernels
    assert "| tem | 7 | 1.000 | 1.000 |" in kernels
    assert "(../out/kernels.png)" in kernels
    assert "None of the models that are scored" in (folder / "models" / "MLPS.md").read_text()
    assert {path.name for path in (folder / "out").iterdir()} == {
        "gains.csv", "levels.csv", "kernels.csv", "kernels.png"
    }  # fmt: skip
    assert "| `tem_kernel_w7` | TEM |" in kernels
    assert (folder / "models" / "tem_kernel_w7" / "gain.png").is_file()
    first = (folder / "out" / "gains.csv").read_text().splitlines()[0]
    assert first.startswith("# python -m experiments.cards")


def test_cards_of_replaced_weights_are_refused(one_model, monkeypatch):
    folder, config = one_model
    one_cell(monkeypatch)
    tables = cards.read_tables(folder / "out")
    tables["holds"] = table.read(folder / "holds.csv", holds.COLUMNS)
    prints = holds.fingerprints(folder / "models")
    assert measure.stale(tables, prints) == holds.stale(tables["holds"], prints) == []
    other = {**tables, "gains": [{**row, "weights": "0"} for row in tables["gains"]]}
    held = {**tables, "holds": [row for row in tables["holds"] if row["model"] != "tem_kernel_w7"]}
    for wrong in (other, held):
        with pytest.raises(ValueError, match=r"other weights .*: tem_kernel_w7; run python -m"):
            pages.write_all(folder / "models", wrong, "")
    save(folder / "more", "tem_mlp1_w3", {"weights": np.ones((2, 3)), "biases": np.ones((1, 3)),
                                          "connections": np.ones((1, 9, 9))})  # fmt: skip
    more = holds.fingerprints(folder / "more")
    assert measure.stale(tables, more) == ["tem_kernel_w7", "tem_mlp1_w3"]
    anew = cards.Config(checkpoints=str(folder / "more"), cards=str(folder / "no"),
                        output=config.output, holds=config.holds, measure=False)  # fmt: skip
    with pytest.raises(ValueError, match="measured on other weights"):
        cards.run(anew)
    assert not (folder / "no").exists()


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"side_px": 64}, ValueError, "side_px is 64: give at least 96"),
        ({"seeds": 0}, ValueError, "seeds is 0"),
        ({"checkpoints": "nowhere"}, FileNotFoundError, "nowhere: no such folder"),
    ],
)
def test_bad_settings(options, error, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=match):
        cards.run(cards.Config(**options))
    assert list(tmp_path.iterdir()) == []

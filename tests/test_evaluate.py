"""Table 3: the paper's numbers, statistics of shipped curves, orderings, and the page of it."""

import numpy as np
import pytest

from emd import checkpoint, zoo
from experiments import curves
from experiments.evaluate import __main__ as evaluate
from experiments.evaluate import entries, markdown, ordering_page, orderings, paper, reasons, table3
from experiments.evaluate.entries import Curve, Entry


def shipped_curve(mse):
    """A curve as it ships, from the MSE of each batch."""
    rows = [f"{i + 1},{value!r},{i / 10:.1f}" for i, value in enumerate(mse.tolist())]
    text = curves.thin("\n".join(["batch,mse,seconds", *rows]))
    return text, Curve(*curves.parse(text)[1].T[:2])


def put(root, name, *, mse=None, **facts):
    """A folder that holds a model's card and curve; its weights are never read."""
    folder = root / name
    (folder / "weights").mkdir(parents=True)
    text = {key: str(value) for key, value in facts.items()}
    (folder / "card.md").write_text(checkpoint.format_card(name, "", text))
    if mse is not None:
        (folder / "learning_curve.csv").write_text(shipped_curve(mse)[0])


def entry(name, mse=None, **facts):
    curve = None if mse is None else shipped_curve(mse)[1]
    return Entry(zoo.find(name), {k: str(v) for k, v in facts.items()}, curve, is_there=True)


# --- the paper -------------------------------------------------------------------------------


def test_the_paper_has_its_43_cells():
    names = [c.name for c in zoo.PAPER_MODELS if c.set_name != "stem_mlp2"]
    assert set(paper.TABLE) == set(names)
    columns = {d: [c for n, c in paper.TABLE.items() if n.split("_")[0] == d]
               for d in ("tem", "stem", "temstem")}  # fmt: skip
    assert {d: len(c) for d, c in columns.items()} == {"tem": 14, "stem": 11, "temstem": 18}
    assert paper.TABLE["temstem_latent32"] == (0.191258, 0.001654, None)
    assert paper.TABLE["stem_kernel_w15"].likely == 0.190376
    slip = paper.TABLE["tem_kernel_w15"]
    assert (slip.mean, slip.likely) == (0.000929, 0.00929)
    assert [n for n, cell in paper.TABLE.items() if cell.read_as] == ["tem_kernel_w15"]


def test_the_paper_agrees_with_the_orderings_it_states_but_for_what_is_known():
    columns = ordering_page.columns([{"model": "x", "raw_mean": None, "held_out_mse": None}])
    broken = {
        (name, v.pair.lower.name)
        for name, checked in columns["paper"].items()
        for v in checked.violations
    }
    depth, _, _, layers, width = orderings.ORDERINGS
    assert (depth, "temstem_latent64") in broken
    assert {n for o, n in broken if o == width} == {
        "tem_kernel_w11", "tem_kernel_w15", "stem_kernel_w7", "stem_kernel_w11", "stem_kernel_w15",
        "temstem_kernel_w15", "tem_mlp2_w7",
    }  # fmt: skip
    assert {n for o, n in broken if o == layers} == {"tem_mlp2_w7"}
    assert len(broken) == 9
    assert ordering_page.counts(columns) == {
        "violations_raw": 0, "violations_held_out": 0, "violations_paper": 9,
    }  # fmt: skip


# --- curves ----------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [200, 1400, 6000])
@pytest.mark.parametrize("window", [1, 37, 250])
def test_smoothed_is_the_moving_mean_of_each_batch(steps, window):
    mse = np.random.default_rng(0).exponential(size=steps)
    curve = shipped_curve(mse)[1]
    want = np.array([mse[max(0, i - window + 1) : i + 1].mean() for i in range(steps)])[-500:]
    got = curve.smoothed(window)
    # curves hold six digits; a window that begins within a span of several batches is not exact
    begin = curve.ends[-500:] - window
    exact = (begin <= 0) | (begin >= curve.ends[max(0, len(curve.ends) - 501)]) | (steps <= 1400)
    np.testing.assert_allclose(got[exact], want[exact], rtol=1e-5)
    np.testing.assert_allclose(got, want, rtol=0.3)
    np.testing.assert_allclose(curve.raw(), mse[-500:], rtol=1e-5)
    assert curve.counts.sum() == steps


def test_a_window_that_begins_with_a_span_is_exact():
    mse = np.random.default_rng(1).exponential(size=6000)
    curve = shipped_curve(mse)[1]
    first = int(curve.ends[200])
    got = curve.smoothed(6000 - first)[-1]
    np.testing.assert_allclose(got, mse[first:].mean(), rtol=1e-5)


def test_a_trend_is_that_of_a_straight_line():
    batch = np.arange(1, 20_001)
    curve = shipped_curve(3.0 - 1e-4 * batch)[1]
    found = entries.trend(curve)
    mean = 3.0 - 1e-4 * 19_000.5
    assert found.change == pytest.approx(-1e-4 * 2000 / mean, rel=1e-3)
    assert found.error < 1e-4


def test_a_trend_knows_its_error():
    """Of noise without a slope, changes spread as their errors say."""
    generator = np.random.default_rng(2)
    found = [
        entries.trend(Curve(np.arange(1.0, 1501.0), generator.exponential(size=1500)))
        for _ in range(300)
    ]
    z = np.array([t.change / t.error for t in found])
    assert abs(z.mean()) < 0.25
    assert 0.85 < z.std() < 1.15
    assert entries.trend(Curve(np.arange(1.0, 9.0), np.ones(8))) is None


@pytest.mark.parametrize(
    ("name", "batches", "window"),
    [("tem_latent4", 60_000, 5000), ("tem_latent4", 1800, 150), ("tem_latent4", 5, 1),
     ("tem_mlp1_w3", 10_000, 500), ("tem_kernel_w3", 300, 15)],
)  # fmt: skip
def test_windows_are_scaled_to_the_schedule(name, batches, window):
    assert entry(name, batches=batches).window() == window


def test_entries_need_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.*--checkpoints"):
        entries.read(str(tmp_path / "nowhere"))
    known = entries.read(str(tmp_path))
    assert len(known) == 45
    assert not any(e.is_there for e in known.values())
    assert entry("tem_latent4", batches="many").number("batches") is None


# --- orderings -------------------------------------------------------------------------------


def test_every_ordering_compares_what_it_says():
    depth, domain, mlp, layers, width = orderings.ORDERINGS.values()
    assert len(depth) == 3 + 2 + 6
    assert all(p.lower.size > p.higher.size and p.lower.domain == p.higher.domain for p in depth)
    assert {p.lower.family for p in depth} == {"autoencoder"}
    order = ["tem", "temstem", "stem"]
    assert all(order.index(p.lower.domain) < order.index(p.higher.domain) for p in domain)
    assert all((p.lower.family, p.lower.size) == (p.higher.family, p.higher.size) for p in domain)
    both = [p for p in domain if p.lower.name == "tem_mlp2_w5"]
    assert [p.higher.name for p in both] == ["stem_mlp2_w5"]  # none of TEM+STEM is between
    assert all(p.lower.family != "kernel" == p.higher.family for p in mlp)
    assert {p.lower.name for p in mlp} == {c.name for c in zoo.PAPER_MODELS if "mlp" in c.family}
    assert all((p.lower.family, p.higher.family) == ("mlp2", "mlp1") for p in layers)
    assert all(p.lower.set_name == p.higher.set_name for p in width)
    assert len(width) == 3 * 4 + (2 + 2 + 3) + 3


def test_pairs_count_where_both_values_are_known_and_ties_break_them():
    pairs = orderings.ORDERINGS["MSE falls with latent depth"]
    values = {"tem_latent1": 3.0, "tem_latent4": 2.0, "tem_latent16": 2.0, "tem_latent64": None}
    values["temstem_latent2"] = 1.0
    checked = orderings.check(pairs, values)
    assert (checked.kept, checked.total) == (1, 2)
    (broken,) = checked.violations
    assert (broken.pair.lower.name, broken.lower, broken.higher) == ("tem_latent16", 2.0, 2.0)


def test_errors_of_a_set_are_paired_and_others_are_not():
    generator = np.random.default_rng(3)
    crop, own = generator.exponential(size=500), generator.normal(size=500)
    low = entry("tem_kernel_w5", crop + 0.01 * own)
    high = entry("tem_kernel_w3", crop + 0.001)
    want = abs(np.mean(0.01 * own) - 0.001) / (0.01 * np.std(own) / 500**0.5)
    assert reasons.standard_errors(low, high) == pytest.approx(want, rel=1e-2)
    other = entry("stem_kernel_w3", crop + 0.5)
    want = 0.5 / np.hypot(np.std(crop), np.std(crop)) * 500**0.5
    assert reasons.standard_errors(high, other) == pytest.approx(want, rel=0.02)
    assert reasons.standard_errors(entry("tem_latent1"), high) is None


def test_reasons_name_what_differs():
    known = {
        e.config.name: e
        for e in (
            entry("tem_kernel_w5", batches=10, batch_size=1, identity_mse=0.3,
                  closed_form_kernel_mse=0.2, pairs_mse=3, pairs_closed_form_kernel_mse=2),
            entry("tem_kernel_w3", batches=20, batch_size=1, closed_form_kernel_mse=0.1),
            entry("stem_kernel_w5", batches=10, batch_size=1, identity_mse=0.2),
        )
    }  # fmt: skip
    pair = orderings.Pair(zoo.find("tem_kernel_w5"), zoo.find("tem_kernel_w3"))
    assert reasons.of_ours(pair, "held_out", known) == [
        "batches 10 x 1 against 20 x 1",
        "best kernels: 0.200000 and 0.100000",
        "not learnt out, 1.5 times",
    ]
    pair = orderings.Pair(zoo.find("tem_kernel_w5"), zoo.find("stem_kernel_w5"))
    assert reasons.of_ours(pair, "raw", known)[0] == "data: 0.3000 and 0.2000"


def test_what_was_measured_once_is_explained_by_training_and_a_lossless_code_by_another():
    noise = np.random.default_rng(4).exponential(size=500)
    known = {
        e.config.name: e
        for e in (
            entry("temstem_latent64", noise, linear_code_mse=1e-12),
            entry("stem_latent64", noise + 0.01, linear_code_mse=1e-13),
            entry("temstem_latent16", noise, linear_code_mse=0.03),
            entry("stem_latent16", noise + 1.0, linear_code_mse=0.02),
        )
    }
    pair = orderings.Pair(zoo.find("temstem_latent64"), zoo.find("stem_latent64"))
    tie, data = reasons.of_ours(pair, "held_out", known)
    assert tie.startswith("in training a tie, 0.")
    assert data == "data, depth 16: 0.0300 and 0.0200"
    pair = orderings.Pair(zoo.find("temstem_latent16"), zoo.find("stem_latent16"))
    assert reasons.of_ours(pair, "held_out", known) == ["data: 0.0300 and 0.0200"]


# --- Markdown --------------------------------------------------------------------------------


def test_a_table_is_aligned_and_refuses_ragged_rows():
    text = markdown.table(("model", "x"), [("a", "1.5"), ("bcdefg", "-")])
    assert text.splitlines() == [
        "| model  |   x |", "| ------ | --: |", "| a      | 1.5 |", "| bcdefg |   - |",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="without 2 cells"):
        markdown.table(("model", "x"), [("a",)])


def test_the_lowest_is_found_among_the_known():
    assert markdown.lowest([None, 2.0, 1.0, None]) == 2
    assert markdown.lowest([None]) is None


# --- the table -------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path):
    """Table 3 of five models, with what each is there for."""
    root = tmp_path / "models"
    generator = np.random.default_rng(4)
    noise = generator.uniform(-0.01, 0.01, 1200)
    schedule = {"batches": 1200, "batch_size": 8}
    put(root, "tem_latent1", mse=0.5 + noise, validation_mse=0.4, linear_code_mse=0.3, **schedule)
    put(root, "tem_latent4", mse=0.4 + noise, validation_mse=0.5, linear_code_mse=0.6, **schedule)
    put(root, "tem_latent64", validation_mse=0.2, linear_code_mse=1e-30, **schedule)
    put(root, "tem_kernel_w3", mse=0.1 + noise, validation_mse=0.1, identity_mse=0.2, **schedule)
    put(root, "tem_mlp1_w3", mse=0.2 + noise, validation_mse=0.05, identity_mse=0.2, **schedule)
    config = evaluate.Config(table="3", checkpoints=str(root), output=str(tmp_path / "out"))
    results = evaluate.run(config)
    folder = tmp_path / "out"
    return results, (folder / "table3.csv").read_text(), (folder / "table3.md").read_text()


def test_table_3_has_a_row_a_model(made):
    results, csv, _ = made
    assert results == {
        "models": 5, "violations_raw": 1, "violations_held_out": 1, "violations_paper": 9,
    }  # fmt: skip
    first, header, *rows = csv.splitlines()
    assert first.startswith("# python -m experiments.evaluate")
    assert tuple(header.split(",")) == table3.COLUMNS
    assert [row.split(",")[0] for row in rows] == [c.name for c in zoo.PAPER_MODELS]
    cells = dict(zip(header.split(","), rows[1].split(","), strict=True))
    noise = np.random.default_rng(4).uniform(-0.01, 0.01, 1200)
    assert float(cells["raw_mean"]) == pytest.approx(0.4 + noise[-500:].mean(), abs=1e-5)
    assert float(cells["raw_std"]) == pytest.approx(noise[-500:].std(), rel=1e-3)
    smooth = np.convolve(noise, np.ones(100) / 100, "valid")[-500:]
    assert cells["window"] == "100"
    assert float(cells["smoothed_mean"]) == pytest.approx(0.4 + smooth.mean(), abs=1e-5)
    assert float(cells["smoothed_std"]) == pytest.approx(smooth.std(), rel=1e-2)
    assert (cells["paper_mean"], cells["paper_std"]) == ("0.018571", "5e-06")
    missing = dict(zip(header.split(","), rows[2].split(","), strict=True))
    assert missing["note"].endswith("python -m experiments.autoencoder --dataset=tem --latent=16")
    assert missing["raw_mean"] == missing["held_out_mse"] == ""


def lines_of(text, section):
    """Cells by the first cell of each line of a section's table."""
    body = text.split(f"## {section}\n")[1].split("\n##")[0].splitlines()
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in body if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows}


def test_table_3_is_beside_the_papers_and_marks_the_best(made):
    _, _, text = made
    tem = lines_of(text, "TEM")
    raw, smoothed, printed, held_out, yardstick, trained = tem["Autoencoder, latent depth 1"]
    assert (raw[:4], smoothed[:4]) == ("0.50", "0.50")
    assert printed == "0.026422 ± 0.000033"
    assert (held_out, yardstick, trained) == ("0.40000†", "0.30000", "1200 x 8")
    assert tem["Autoencoder, latent depth 4"][0].startswith("**0.40")
    assert tem["Autoencoder, latent depth 4"][3] == "0.50000"
    # depth 64: no curve, and a yardstick that nothing can lose to
    assert tem["Autoencoder, latent depth 64"][:2] == ["-", "-"]
    assert tem["Autoencoder, latent depth 64"][2:5] == [
        "**0.013034** ± 0.000008", "**0.20000**", "lossless",
    ]  # fmt: skip
    assert tem["Autoencoder, latent depth 16"][-1] == "missing"
    # the best kernel or perceptron of each column, the slip left out
    assert tem["Kernel, width 3"][0].startswith("**0.1")
    assert tem["MLP, 1 hidden layer, width 3"][3] == "**0.05000**"
    assert tem["Kernel, width 15"][2] == "0.000929\\* ± 0.000522"
    assert tem["MLP, 1 hidden layer, width 7"][2].startswith("**0.005917**")
    stem = lines_of(text, "STEM")
    assert stem["MLP, 2 hidden layers, width 5"][2] == "-"
    assert len(lines_of(text, "TEM+STEM")) == 2 + 18


def test_table_3_lists_each_broken_ordering_with_both_numbers(made):
    _, _, text = made
    counts = lines_of(text, "Orderings")
    assert counts["every MLP below the kernel of its width"] == ["0 of 1", "1 of 1", "14 of 14"]
    assert counts["MSE falls with latent depth"] == ["1 of 1", "0 of 1", "10 of 11"]
    raw = text.split("### Broken: ours, raw\n")[1].split("###")[0]
    cells = [cell.strip() for cell in raw.splitlines()[3].split("|")]
    assert cells[2:5:2] == ["`tem_mlp1_w3`", "`tem_kernel_w3`"]
    assert float(cells[3]) == pytest.approx(0.2, abs=0.002)
    assert float(cells[5]) == pytest.approx(0.1, abs=0.002)
    held_out = text.split("### Broken: ours, held out\n")[1].split("###")[0]
    cells = [cell.strip() for cell in held_out.splitlines()[3].split("|")]
    assert cells[1:6] == [
        "MSE falls with latent depth",
        "`tem_latent4`", "0.500000", "`tem_latent1`", "0.400000",
    ]  # fmt: skip
    assert "a tie, 0.7 s.d." in text.split("### Broken: the paper's")[1]


def test_an_empty_folder_gives_a_table_of_missing_models(tmp_path):
    results = table3.make(str(tmp_path), tmp_path / "out", command="c")
    assert results["models"] == 0
    assert (tmp_path / "out" / "table3.md").read_text().count("missing |") == 45


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"table": "4"}, "no table '4': use one of 3, claims"),
        ({"table": "claims", "repeats": 0}, "repeats is 0: give at least 1"),
        ({"table": "claims", "side_px": 0}, "side_px is 0"),
    ],
)
def test_bad_settings(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        evaluate.run(evaluate.Config(output=str(tmp_path), **settings))


@pytest.mark.parametrize("table", ["3", "claims"])
def test_missing_checkpoints(tmp_path, table):
    config = evaluate.Config(table=table, checkpoints=str(tmp_path / "no"), output=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no is no folder of models"):
        evaluate.run(config)

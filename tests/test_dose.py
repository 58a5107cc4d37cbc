"""The table of doses: fields, transform, detection, scores, and what is kept between runs."""

import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from emd import checkpoint, zoo
from emd.data.simulate import haadf
from emd.training import objective
from experiments.dose import (
    anscombe,
    cases,
    contestants,
    crops,
    detection,
    ede,
    fields,
    measuring,
    page,
    pareto,
    published,
    records,
    scores,
    seconds,
    standing,
)
from experiments.dose.samples import Columns, Sample
from experiments.evaluate import __main__ as evaluate

SIDE = 96
COMMITTED = checkpoint.shipped().parent / "results" / "dose.csv"


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def draw(condition=fields.HEXAGONAL, dose=10.0, purpose=fields.EVALUATION, count=1):
    return fields.draw(condition, dose, purpose, count=count, side_px=SIDE)


# --- fields ----------------------------------------------------------------------------------


def test_a_field_does_not_depend_on_the_others():
    two, one = draw(count=2), draw(count=1)
    np.testing.assert_array_equal(two[0].noisy, one[0].noisy)
    assert not np.array_equal(two[0].noisy, two[1].noisy)


@pytest.mark.parametrize("other", [{"dose": 20.0}, {"purpose": fields.TUNING}])
def test_fields_of_other_doses_and_purposes_are_others(other):
    assert not np.array_equal(draw()[0].columns.positions_px, draw(**other)[0].columns.positions_px)


@pytest.mark.parametrize("dose", [2.0, 500.0])
def test_the_noise_is_that_of_counts_and_readout(dose):
    samples = draw(dose=dose, count=4)
    residual = np.stack([s.noisy - s.truth for s in samples])
    expected = np.mean([s.truth for s in samples]) + fields.READOUT**2
    assert np.var(residual) == pytest.approx(expected, rel=0.05)
    assert abs(residual.mean()) < 4 * np.sqrt(expected / residual.size)


def test_conditions_are_what_they_say():
    assert [c.name for c in fields.OFF] == [
        "spacing 9", "spacing 16", "vacancies 12 %", "probe 3.0", "faint 0.2",
    ]  # fmt: skip
    vacant = [np.mean(draw(c)[0].columns.weights == 0) for c in (fields.HEXAGONAL, fields.OFF[2])]
    assert vacant[0] < 0.07 < vacant[1] < 0.2
    np.testing.assert_allclose(np.unique(draw(fields.OFF[4])[0].columns.weights), [0, 0.2, 1])
    positions = draw()[0].columns.positions_px
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    assert np.median(apart.min(axis=1)) == pytest.approx(
        11.6, abs=0.4
    )  # the nearest of three, shaken


# --- the transform ---------------------------------------------------------------------------


def expected_forward(mean, readout):
    """The transform's expectation, by sums over counts and an integral over the readout."""
    counts = np.arange(0, int(mean + 12 * np.sqrt(mean + 1)) + 30)
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    noisy = counts[:, None] + readout * nodes
    inner = anscombe.forward(noisy, readout=readout) @ (weights / weights.sum())
    return stats.poisson.pmf(counts, mean) @ inner


@pytest.mark.parametrize("readout", [0.0, 0.5])
@pytest.mark.parametrize("mean", [0.0, 0.3, 1.0, 2.0, 5.0, 20.0, 500.0])
def test_the_inverse_is_unbiased(mean, readout):
    """To 0.04 counts, as close as the closed form is; plain squaring is off by 0.3."""
    image = np.full((1, 1), expected_forward(mean, readout))
    found = anscombe.inverse(image, readout=readout).item()
    assert found == pytest.approx(mean, abs=0.04)
    if mean >= 1:
        plain = (image.item() / 2) ** 2 - 3 / 8 - readout**2
        assert abs(plain - mean) > 0.1


@pytest.mark.parametrize("mean", [5.0, 50.0, 1000.0])
def test_transformed_noise_has_standard_deviation_one(mean):
    rng = np.random.default_rng(0)
    noisy = rng.poisson(mean, (300, 300)) + 0.5 * rng.normal(size=(300, 300))
    assert anscombe.forward(noisy, readout=0.5).std() == pytest.approx(1, abs=0.03)


def test_the_inverse_rises_and_is_never_negative():
    stable = np.linspace(0, 6, 601)[None]
    for readout in (0.0, 0.5):
        found = anscombe.inverse(stable, readout=readout)[0]
        assert found.min() == 0
        assert np.all(np.diff(found) >= 0)


# --- detection -------------------------------------------------------------------------------


def field(places, weights=None, *, spacing=12.0):
    """An image of Gaussian columns at these places, drawn by plain NumPy."""
    places = np.asarray(places, float)
    weights = np.ones(len(places)) if weights is None else np.asarray(weights, float)
    y, x = np.mgrid[:SIDE, :SIDE]
    image = sum(
        w * np.exp(-((y - p[0]) ** 2 + (x - p[1]) ** 2) / (2 * 2.2**2))
        for p, w in zip(places, weights, strict=True)
    )
    return image, Columns(places, weights, spacing, 2.2)


def square(step=12):
    return [(y + 0.3, x - 0.2) for y in range(12, 90, step) for x in range(12, 90, step)]


def test_a_perfect_image_has_all_columns_where_they_are():
    image, columns = field(square())
    found = detection.score(image, columns)
    assert found.f1 == 1
    assert found.position_px < 0.15
    assert found.faint_f1 is None


def test_a_missing_column_and_a_false_one_count():
    places = square()
    image, columns = field(places)
    without, _ = field(places[:10] + places[11:])
    count = len(places)
    assert detection.score(without, columns).f1 == pytest.approx(2 * (count - 1) / (2 * count - 1))
    fewer = Columns(columns.positions_px[1:], columns.weights[1:], 12.0, 2.2)
    assert detection.score(image, fewer).f1 == pytest.approx(2 * (count - 1) / (2 * count - 1))
    vacancy = columns._replace(weights=np.where(np.arange(count) == 10, 0.0, 1.0))
    assert detection.score(without, vacancy).f1 == 1


def test_faint_columns_are_counted_by_themselves():
    bright = square(24)
    faint = [(y + 12, x + 12) for y, x in bright if y + 12 < 84 and x + 12 < 84]
    weights = [1.0] * len(bright) + [0.3] * len(faint)
    image, columns = field(bright + faint, weights, spacing=14.0)
    assert detection.score(image, columns).faint_f1 == 1
    without, _ = field(bright + faint[1:], weights[:-1], spacing=14.0)
    n = len(faint)
    expected = 2 * (n - 1) / (2 * (n - 1) + 1)
    assert detection.score(without, columns).faint_f1 == pytest.approx(expected)


def test_columns_near_the_border_are_left_out_on_both_sides():
    places = [*square(), (3.0, 40.0)]
    image, columns = field(places)
    assert detection.score(image, columns).f1 == 1
    unknown = Columns(columns.positions_px[:-1], columns.weights[:-1], 12.0, 2.2)
    assert detection.score(image, unknown).f1 == 1


def test_as_many_as_possible_are_matched():
    """The nearest pair first would leave one alone."""
    true, found = np.array([[0.0, 0.0], [0.0, 2.0]]), np.array([[0.0, 1.9], [0.0, 4.8]])
    which, apart = detection.match(true, found)
    assert sorted(which) == [0, 1]
    np.testing.assert_allclose(sorted(apart), [1.9, 2.8])
    assert len(detection.match(true, found[1:])[0]) == 1
    assert len(detection.match(true, np.zeros((0, 2)))[0]) == 0


def test_an_image_without_columns_scores_nothing():
    image, columns = field(square())
    found = detection.score(np.zeros_like(image), columns)
    assert found.f1 == 0
    assert found.position_px is None


# --- scores ----------------------------------------------------------------------------------


def test_scores_of_a_known_error(rng):
    truth = 5 + rng.random((SIDE, SIDE))
    restored = 0.8 * truth + 2
    found = scores.score(restored, Sample(truth + rng.normal(size=truth.shape), truth))
    span = np.ptp(truth)
    assert found.psnr == pytest.approx(10 * np.log10(span**2 / np.mean((restored - truth) ** 2)))
    assert found.slope == pytest.approx(0.8)
    assert found.offset == pytest.approx(2 / span)
    assert found.f1 is found.position_px is None
    perfect = scores.score(truth, Sample(truth, truth))
    assert (perfect.psnr, perfect.whiteness) == (np.inf, None)
    assert perfect.ssim == pytest.approx(1)


def test_whiteness_is_that_of_the_definition(rng):
    noise = rng.normal(size=(40, 33)) + np.linspace(0, 1, 33)
    x = noise - noise.mean()
    lags = [(dy, dx) for dy, dx in itertools.product(range(5), range(-4, 5)) if dy or dx > 0]
    values = []
    for dy, dx in lags:
        one = x[dy:, max(dx, 0) : 33 + min(dx, 0)]
        other = x[: 40 - dy, max(-dx, 0) : 33 - max(dx, 0)]
        values.append(np.mean(one * other) / np.mean(x**2))
    expected = np.sqrt(np.mean(np.square(values)))
    assert scores.whiteness(noise) == pytest.approx(expected, rel=1e-6)


def test_white_noise_is_white_and_a_smooth_residual_is_not(rng):
    noise = rng.normal(size=(200, 200))
    assert scores.whiteness(noise) < 0.02
    assert scores.whiteness(noise + np.roll(noise, 1, axis=0)) > 0.05


def test_a_grid_is_told_from_noise(rng):
    truth = np.full((160, 160), 10.0)
    noisy = truth + rng.normal(size=truth.shape)
    grid = np.zeros_like(truth)
    grid[::8, ::8] = 8.0
    added = np.std(grid) / 10
    assert scores.grid(truth + grid, truth) == pytest.approx(added, rel=0.05)
    assert scores.grid(noisy + grid, truth) == pytest.approx(added, rel=0.3)
    assert scores.grid(noisy, truth) < added / 3


def test_means_leave_out_what_is_not_defined():
    one = scores.Score(1.0, 0.5, None, None, 0.2, 1.0, 0.0, None, None)
    other = one._replace(psnr=3.0, f1=1.0)
    mean = scores.mean([one, other])
    assert (mean.psnr, mean.f1, mean.whiteness) == (2.0, 1.0, None)


def test_his_ssim_is_over_the_range_of_the_image_restored(rng):
    truth = rng.random((SIDE, SIDE))
    flat = 0.5 + 0.1 * (truth - 0.5)
    sample = Sample(truth, truth)
    his, fair = ede.score_his_way(flat, sample), scores.score(flat, sample)
    assert his.ssim == pytest.approx(scores.ssim(flat, truth, span=float(np.ptp(flat))))
    assert abs(his.ssim - fair.ssim) > 0.005
    assert his.psnr == pytest.approx(-10 * np.log10(np.mean((flat - truth) ** 2)))
    assert ede.score_his_way(np.full_like(truth, 0.5), sample).ssim == 0


# --- who takes part --------------------------------------------------------------------------


def test_names_are_told_apart_and_chosen():
    chosen = contestants.everyone(None, "no denoising,fit,stem_kernel_w3")
    assert [c.name for c in chosen] == ["no denoising", "fit", "stem_kernel_w3"]
    with pytest.raises(ValueError, match="nobody"):
        contestants.everyone(None, "nobody")
    assert len(set(contestants.names(None))) == len(contestants.names(None))


def test_models_take_part_in_their_domain():
    usual = cases.lattices(count=1, side_px=SIDE)[0]
    names = ("fit", "stem_kernel_w3", "temstem_kernel_w3", "tem_kernel_w3")
    takes_part = [usual.takes_part(contestants.named(name, None)) for name in names]
    assert takes_part == [True, True, True, False]


def test_the_truth_takes_part_where_columns_are_found_and_needs_no_denoising():
    truth = contestants.named(contestants.TRUTH, None)
    usual, *others = cases.lattices(count=1, side_px=SIDE)
    assert usual.takes_part(truth)
    assert not any(c.takes_part(truth) for c in others if c.protocol != cases.HAADF)
    assert not contestants.suits(truth, "")
    score, _ = measuring.judge(truth, *usual.draw(), usual.score)
    assert score.psnr == np.inf
    assert (score.ssim, score.slope) == pytest.approx((1, 1))


def test_who_learnt_of_the_very_lattices_is_none_of_ours_there_and_nowhere_else(monkeypatch):
    model = contestants.checkpoint.load("stem_skip48_columns")
    monkeypatch.setattr(contestants.checkpoint, "load", lambda name, root=None: model)
    for name in ("stem_skip48_benchmark", "stem_skip48_benchmark_ensemble"):
        tailored = contestants.named(name, None)
        assert tailored.kind == contestants.TAILORED
        assert all(case.takes_part(tailored) for case in cases.lattices(count=1, side_px=SIDE))
        assert not any(contestants.suits(tailored, domain) for domain in ("", "tem", "stem"))
    rows = [
        {**dict.fromkeys(records.COLUMNS), "protocol": cases.HAADF, "condition": "hexagonal",
         "dose": 2.0, "model": name, "kind": kind, "psnr": psnr}
        for name, kind, psnr in (("a", contestants.OURS, 25.0), ("b", contestants.TAILORED, 28.0),
                                 ("c", contestants.TUNED, 20.0))
    ]  # fmt: skip
    (lead,) = standing.leads(rows)
    assert (lead.ours, lead.gain_db) == ("a", 5.0)
    assert page._shown(rows, cases.HAADF) == ["c", "a", "b"]


def test_the_objective_of_that_name_is_of_these_lattices_doses_and_readout():
    drawn = jax.vmap(haadf.benchmark)(jax.random.split(jax.random.key(0), 40))
    for condition in fields.USUAL:
        due = condition.lattice()
        same = np.asarray(drawn.weights[:, 1] < 1) == condition.is_binary
        assert 0 < same.sum() < 40
        for name in haadf.Lattice._fields:
            values = np.asarray(getattr(drawn, name))[same]
            own = np.asarray(getattr(due, name))
            padded = np.zeros(values.shape[1:])
            padded[tuple(slice(n) for n in own.shape)] = own
            np.testing.assert_allclose(values, np.broadcast_to(padded, values.shape))
        low, high = objective.DRAWS[zoo.BENCHMARK].keywords["doses"]
        for dose, least, most in ((fields.DOSES[0], low, 1.5 * low),
                                  (fields.DOSES[-1], high / 1.5, high)):  # fmt: skip
            (field,) = fields.draw(condition, dose, fields.EVALUATION, side_px=128, count=1)
            assert least < field.truth.mean() < most
    assert objective.DRAWS[zoo.BENCHMARK].keywords["readout"] == fields.READOUT


def scenes(*, seed, count, side_px):
    """Quicker than `crops.simulated`, which has tests of its own."""
    rng = np.random.default_rng(seed)
    truths = [(domain, 40 * rng.random((side_px, side_px), np.float32))
              for domain in ("tem", "stem") for _ in range(count)]  # fmt: skip
    return [
        crops.Crop("x", domain, rng.poisson(truth).astype(np.float32), truth, 40.0)
        for domain, truth in truths
    ]


def test_cases_of_his_protocol_hold_crops_of_one_domain(monkeypatch):
    monkeypatch.setattr(crops, "simulated", scenes)
    found = ede.cases(None, scenes=2, side_px=128)
    assert [(c.protocol, c.condition, c.fields) for c in found] == [
        (p, f"{d}, simulated", 2) for p in ("ede", "ede-fair") for d in ("tem", "stem")
    ]
    tuning, evaluation = found[2].draw()
    assert len(evaluation) == 2
    assert not any(np.array_equal(t.noisy, e.noisy) for t in tuning for e in evaluation)
    his = found[0].draw()[1][0]
    assert his.noisy.min() == 0
    assert his.noisy.max() == 1
    assert his.truth.mean() == pytest.approx(his.noisy.mean(), rel=1e-3)


# --- what is kept, and shown -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stem_latent16", "latent"), ("temstem_mlp2_w7", "mlp_w"), ("fit", "fit"),
        ("tem_kernel_w3_published", "kernel_w_published"), ("stem_skip48_clean", "skip_clean"),
    ],
)  # fmt: skip
def test_families(name, expected):
    assert standing.family(name) == expected


def test_the_front_holds_what_nothing_quicker_equals():
    points = [(1.0, 5.0, "a"), (2.0, 4.0, "b"), (3.0, 6.0, "c"), (1.0, 3.0, "d"), (4.0, 6.0, "e")]
    assert [name for *_, name in pareto.front(points)] == ["a", "c"]


def made(model, kind, psnr, dose=10.0, condition="binary", protocol=cases.HAADF, **cells):
    row = dict.fromkeys(records.COLUMNS)
    return row | {
        "protocol": protocol, "condition": condition, "dose": dose, "model": model, "kind": kind,
        "psnr": psnr, **cells,
    }  # fmt: skip


def test_leads_are_over_the_best_tuned_rival():
    rows = [
        made("no denoising", "none", 10.0, faint_f1=0.9),
        made("Gaussian", "tuned", 20.0, faint_f1=0.7),
        made("BM3D", "tuned", 22.0, faint_f1=0.8),
        made("BM3D (defaults)", "default", 30.0),
        made("fit", "ours", 21.0, faint_f1=0.95),
        made("stem_kernel_w3", "ours", 18.0, faint_f1=1.0),
    ]
    assert standing.leads(rows) == [
        ("binary", 10.0, "fit", "BM3D", -1.0, pytest.approx(0.05)),
    ]
    assert standing.summary(rows) == {"least_lead_binary_db": -1.0}
    swept = [
        made(name, kind, psnr, 5.0, "spacing 9", cases.SPACING)
        for name, kind, psnr in (("Gaussian", "tuned", 21.0), ("fit", "ours", 20.0))
    ]
    assert standing.spacing_gains(swept, "fit", 5.0) == {9.0: -1.0}
    assert standing.summary(rows + swept)["least_gain_over_gaussian_by_spacing_db"] == -1.0


def test_the_published_table_has_a_figure_for_each_dose():
    assert {len(psnr) for psnr in published.PSNR.values()} == {len(fields.DOSES)}
    assert published.psnr("Gaussian", 10.0) == 25.33
    with pytest.raises(ValueError, match="BM3D"):
        published.psnr("BM3D", 10.0)


@pytest.fixture
def timeless(monkeypatch):
    """Times of no process: those are for `test_seconds`."""
    monkeypatch.setattr(seconds, "measure", lambda names, **_: dict.fromkeys(names, 0.25))


def config(output, **changed):
    settings = {
        "table": "dose", "models": "no denoising,fit", "only": "haadf", "doses": "10", "fields": 1,
        "field_px": SIDE, "output": str(output),
    }  # fmt: skip
    return evaluate.Config(**settings | changed)


@pytest.mark.usefixtures("timeless")
def test_a_small_table_is_made_and_made_again(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    assert evaluate.run(config(tmp_path)) == {}  # nobody to lead over
    table = (tmp_path / "dose.csv").read_text()
    assert table.startswith("# python -m ")
    rows = list(records.Table(tmp_path / "dose.csv", comment=""))
    assert [(r["condition"], r["model"]) for r in rows if r["protocol"] == "haadf"] == [
        (c, m) for c in ("binary", "hexagonal") for m in ("no denoising", "fit")
    ]
    by_name = {r["model"]: r for r in rows if r["condition"] == "hexagonal"}
    assert by_name["fit"]["psnr"] > by_name["no denoising"]["psnr"] + 3
    assert by_name["fit"]["s_per_mpx"] == 0.25
    text = (tmp_path / "dose.md").read_text()
    assert f"{by_name['fit']['psnr']:.2f}" in text
    assert published.U_NET in text
    assert (tmp_path / "dose.png").stat().st_size > 10_000

    def refuse(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(measuring, "judge", refuse)
    evaluate.run(config(tmp_path))
    # the first line names another commit where one was made meanwhile
    assert (tmp_path / "dose.csv").read_text().partition("\n")[2] == table.partition("\n")[2]
    with pytest.raises(AssertionError, match="measured again"):
        evaluate.run(config(tmp_path, fields=2))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"doses": "3"}, "doses"), ({"doses": "x"}, "doses"), ({"only": "nothing"}, "nothing"),
        ({"fields": 0}, "fields"), ({"models": "nobody"}, "nobody"),
        ({"data_dir": "no/such", "only": "ede"}, "no/such"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(tmp_path, changed, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        evaluate.run(config(tmp_path, **changed))
    assert not (tmp_path / "dose.csv").exists()


def test_a_row_goes_when_its_stamp_does(tmp_path):
    case = cases.lattices(count=1, side_px=SIDE)[0]
    one = contestants.Contestant("x", contestants.OURS, "a", lambda _: None)
    kept = records.Table(tmp_path / "t.csv", comment="made")
    score = scores.Score(1.0, 0.5, None, None, 0.2, 1.0, 0.0, None, None)
    kept.add(case, one, score, "3 1")
    again = records.Table(tmp_path / "t.csv", comment="made")
    assert again.holds(case, one)
    assert list(again) == list(kept)
    assert not again.holds(case, one._replace(stamp="b"))
    assert not again.holds(case._replace(fields=2), one)
    assert not again.holds(case._replace(dose=500.0), one)


def test_the_page_of_nothing_says_so():
    text = "\n".join(page.parts("made", []))
    assert text.count("Not measured yet.") >= 5


def test_seconds(monkeypatch):
    """What the child does, here."""
    monkeypatch.setattr(seconds, "SIDE_PX", 64)
    found = seconds._measure(["fit", "stem_kernel_w3", published.U_NET], None, 1)
    assert found["fit"] > 0
    assert found["stem_kernel_w3"] > 0
    with seconds.one_core():
        pass


# --- what is committed ------------------------------------------------------------------------


def test_committed_rows_are_of_the_committed_weights():
    """Fails when a model was replaced: run `python -m experiments.evaluate --table=dose`."""
    found = {}
    for row in records.Table(COMMITTED, comment=""):
        found.setdefault(row["model"], set()).add(row["stamp"].partition("/")[0])
    due = {name: {contestants.named(name, None).stamp} for name in contestants.names(None)}
    assert found == {**due, published.U_NET: {"random weights"}}


@pytest.mark.parametrize("name", ["no denoising", "stem_kernel_w3", "stem_kernel_w7 --put-back"])
def test_a_committed_row_is_measured_anew(name):
    (case,) = (
        case
        for case in cases.lattices(count=6, side_px=256)
        if (case.protocol, case.condition, case.dose) == (cases.HAADF, "hexagonal", 10)
    )
    (row,) = (
        row
        for row in records.Table(COMMITTED, comment="")
        if (row["protocol"], row["condition"], row["dose"], row["model"])
        == (case.protocol, case.condition, case.dose, name)
    )
    score, _ = measuring.judge(contestants.named(name, None), *case.draw(), case.score)
    there = {column: row[column] for column in score._fields if row[column] is not None}
    assert set(there) == {column for column, cell in score._asdict().items() if cell is not None}
    for column, cell in there.items():
        assert getattr(score, column) == pytest.approx(cell, rel=1e-3, abs=1e-4), column

"""The claims: grids in a spectrum, gaps to held-out crops, ranks, verdicts, and their page."""

import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd import checkpoint, zoo
from emd.data import crops, micrograph
from experiments import held_out, linear_code, training_data
from experiments.evaluate import checkerboard, claims, measured, overfitting, ranks, verdicts
from experiments.evaluate.checkerboard import Grid
from experiments.evaluate.entries import Entry, Trend
from experiments.evaluate.measured import Grids, Measured
from experiments.evaluate.overfitting import Errors, Gap

NO_DATA = measured.Settings(None, None, None, 1, 96)


def noise(seed, side=256):
    return np.random.default_rng(seed).normal(5.0, 1.0, (side, side)).astype(np.float32)


# --- grids -----------------------------------------------------------------------------------


def test_white_noise_has_no_grid():
    found = [checkerboard.measure(noise(seed)) for seed in range(20)]
    assert abs(np.mean([grid.excess for grid in found])) < 0.05
    assert max(grid.share for grid in found) < 0.01


@pytest.mark.parametrize("amplitude", [0.2, 0.5])
def test_a_known_grid_stands_out_as_far_as_it_must(amplitude):
    """A cosine of period 8 px puts a / 2 on two of the 63 points."""
    side = 256
    wave = amplitude * np.cos(2 * np.pi * np.arange(side) / 8)[:, None]
    found = checkerboard.measure(noise(0) + wave.astype(np.float32))
    # over nine bins, above noise of variance 1
    want = 2 * (amplitude / 2) ** 2 * side**2 / 9 / 63
    assert found.excess == pytest.approx(want, rel=0.25, abs=0.1)
    assert found.share == pytest.approx(amplitude / 2**0.5 / 5, rel=0.1)


def test_every_point_of_the_grid_counts():
    """A comb, one bright pixel in 8x8, has the same energy at all 63 points."""
    comb = np.zeros((256, 256), np.float32)
    comb[::8, ::8] = 3.0
    found = checkerboard.measure(noise(1) + comb)
    want = 63 * (3 / 64) ** 2 * 256**2 / 9 / 63
    assert found.excess == pytest.approx(want, rel=0.1)
    assert found.share == pytest.approx((63 * (3 / 64) ** 2) ** 0.5 / (5 + 3 / 64), rel=0.05)


@pytest.mark.parametrize("period", [7, 9, 12])
def test_other_periods_are_no_grid(period):
    wave = 2 * np.cos(2 * np.pi * np.arange(512) / period)[None]
    found = checkerboard.measure(noise(2, 512) + wave.astype(np.float32))
    assert abs(found.excess) < 0.3


def test_a_background_that_rises_across_the_image_is_no_grid():
    ramp = np.linspace(0, 100, 256, dtype=np.float32)
    found = checkerboard.measure(noise(4) + ramp[:, None] + ramp)
    assert abs(found.excess) < 0.3
    assert found.share < 1e-3


def test_scale_and_level_do_not_matter_and_sides_are_cut():
    image = noise(3) + np.tile(np.eye(8, dtype=np.float32), (32, 32))
    want = checkerboard.measure(image)
    assert checkerboard.measure(7 * image + 100).excess == pytest.approx(want.excess, rel=1e-3)
    larger = np.pad(image, ((0, 7), (0, 3)), constant_values=50)
    assert checkerboard.measure(larger) == want


def test_a_constant_image_has_none_and_a_small_one_is_refused():
    assert checkerboard.measure(np.ones((80, 96), np.float32)) == Grid(0.0, 0.0)
    with pytest.raises(ValueError, match="79x80 px: give at least 80"):
        checkerboard.measure(np.ones((79, 80), np.float32))


# --- gaps ------------------------------------------------------------------------------------


def test_a_gap_is_in_units_of_its_yardstick():
    generator = np.random.default_rng(0)
    yardstick = [generator.exponential(size=n) for n in (80, 50)]
    spread = [np.exp(0.1 * generator.normal(size=n)) for n in (80, 50)]
    gap = Gap(Errors(2 * yardstick[0] * spread[0], yardstick[0]),
              Errors(3 * yardstick[1] * spread[1], yardstick[1]))  # fmt: skip
    excess, error = gap.excess()
    logs = [np.log(s) for s in spread]
    assert excess == pytest.approx(1.5 * np.exp(logs[1].mean() - logs[0].mean()))
    want = np.hypot(logs[0].std(ddof=1) / 80**0.5, logs[1].std(ddof=1) / 50**0.5)
    assert error == pytest.approx(excess * want)
    same = Errors(np.zeros(3), np.zeros(3))
    assert Gap(same, same).excess() == (1.0, 0.0)


def build(name, seed=0, **card):
    config = zoo.find(name)
    module = zoo.make_module(config)
    # shapes alone: initialising for real compiles for seconds
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 16, 16)))
    generator = np.random.default_rng(seed)

    def draw(path, leaf):
        is_statistic = path[0].key == "batch_stats"
        low, high = (0.5, 1.5) if is_statistic else (-0.2, 0.2)
        return jnp.asarray(generator.uniform(low, high, leaf.shape), jnp.float32)

    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    return checkpoint.Model(config, module, variables, card)


@pytest.fixture(scope="module")
def sides():
    generator = np.random.default_rng(1)
    return overfitting.Sides(
        *(generator.exponential(size=(2, 64, 64)).astype(np.float32) for _ in range(2))
    )


@pytest.fixture(scope="module")
def teacher():
    return build("tem_latent16")


def test_an_autoencoders_gap_is_that_of_its_output_and_of_a_linear_code(sides, teacher):
    gap = overfitting.of_autoencoder(teacher, sides)
    code = linear_code.fit(sides.seen, 16)
    for errors, side in zip(gap, sides, strict=True):
        out = teacher.module.apply(teacher.variables, jnp.asarray(side))
        np.testing.assert_allclose(errors.model, np.mean((out - side) ** 2, (1, 2)), rtol=1e-3)
        np.testing.assert_allclose(errors.yardstick, linear_code.mse(code, side))


def test_a_students_gap_is_that_to_its_teacher_and_of_a_mean(sides, teacher):
    students = [build("tem_kernel_w15"), build("tem_mlp1_w5", seed=1)]
    gaps = overfitting.of_students(students, teacher, sides)
    assert list(gaps) == ["tem_kernel_w15", "tem_mlp1_w5"]
    for model, index in itertools.product(students, range(2)):
        side, errors = sides[index], gaps[model.config.name][index]
        target = np.asarray(teacher.module.apply(teacher.variables, jnp.asarray(side)))
        half = model.config.size // 2
        got = np.asarray(model.module.apply(model.variables, jnp.asarray(side)))
        cut = 20 - half
        inner = target[:, 20:-20, 20:-20]
        want = np.mean((got[:, cut:-cut, cut:-cut] - inner) ** 2, (1, 2))
        np.testing.assert_allclose(errors.model, want, rtol=1e-3)
        windows = np.lib.stride_tricks.sliding_window_view(side[:, 19:-19, 19:-19], (3, 3), (1, 2))
        mean = windows.mean((-2, -1))
        np.testing.assert_allclose(
            errors.yardstick, np.mean((mean - inner) ** 2, (1, 2)), rtol=1e-3
        )


def test_a_changed_teacher_is_noticed(teacher):
    own = checkpoint.fingerprint(teacher.variables)
    assert overfitting.has_its_teacher(build("tem_kernel_w3", teacher_weights=own), teacher)
    assert overfitting.has_its_teacher(build("tem_kernel_w3"), teacher)
    assert not overfitting.has_its_teacher(build("tem_kernel_w3", teacher_weights="0"), teacher)


def test_both_sides_are_of_the_same_sources(tmp_path):
    """A source of a single field has no held-out side, so none of its crops is on the other."""
    levels = {"two/a": 10, "two/b": 20, "one/c": 30}
    generator = np.random.default_rng(2)
    for name, level in levels.items():
        pixels = (level * 100 + generator.integers(0, 50, (320, 320))).astype(np.uint16)
        pixels[0::160, 0::160] = level  # so that a crop, less its minimum, tells whose it is
        path = tmp_path / "tem" / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        micrograph.write(path, micrograph.Micrograph(pixels))
    sides = overfitting.crop_sides("tem", str(tmp_path))
    assert [len(side) for side in sides] == [4, 4]
    (tmp_path / "tem" / "two" / "b.tif").unlink()
    with pytest.raises(ValueError, match="no source of tem has two fields"):
        overfitting.crop_sides("tem", str(tmp_path))
    with pytest.raises(FileNotFoundError):
        overfitting.crop_sides("tem", str(tmp_path / "nowhere"))


def test_without_a_folder_both_sides_are_simulated(monkeypatch):
    pixels = np.random.default_rng(3).integers(0, 9, (160, 320)).astype(np.uint16)
    image = crops.Image(pixels, "f", "tem/simulated", "tem")
    held_out = np.ones((5, 160, 160), np.float32)

    def prepare(domain, data_dir, share):
        assert (domain, data_dir) == ("tem", None)
        return training_data.TrainingData([image], held_out, held_out, {})

    monkeypatch.setattr(training_data, "prepare", prepare)
    sides = overfitting.crop_sides("tem", None)
    assert [len(side) for side in sides] == [2, 5]


# --- ranks -----------------------------------------------------------------------------------


def test_rank_correlation_is_spearmans():
    assert ranks.correlation([1, 2, 3, 4], [1, 8, 9, 100]) == pytest.approx(1)
    assert ranks.correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert ranks.correlation([1, 2, 3], [5, 5, 5]) == 0
    generator = np.random.default_rng(0)
    one, other = generator.permutation(9), generator.permutation(9)
    want = 1 - 6 * np.sum((one - other) ** 2) / (9 * 80)
    assert ranks.correlation(one, other) == pytest.approx(want)
    np.testing.assert_array_equal(ranks.ranks([3.0, 1.0, 3.0, 2.0]), [2.5, 0, 2.5, 1])


def test_chances_are_those_of_counting():
    # of the 24 orders of four values two correlate perfectly
    assert ranks.shuffled_chance([([1, 2, 3, 4], [1, 2, 3, 4])]) == pytest.approx(1 / 12, abs=0.01)
    assert ranks.shuffled_chance([([1, 2, 3, 4], [2, 1, 4, 3]), ([1, 2], [1, 2])]) > 0.05
    assert ranks.sign_chance(0, 0) == 1
    assert ranks.sign_chance(5, 5) == ranks.sign_chance(0, 5) == 1 / 16
    assert ranks.sign_chance(3, 6) == 1


# --- verdicts --------------------------------------------------------------------------------


def grids(added, spread=0.1):
    excess = added + spread * np.linspace(-1, 1, 5)
    return Grids([Grid(float(e), 0.01) for e in excess], [Grid(0.0, 0.0)] * 5)


def gap(excess):
    one = np.ones(4)
    return Gap(Errors(one, one), Errors(excess * one, one))


def model(name, card=None, **found):
    return Measured(Entry(zoo.find(name), card or {}, None, is_there=True), **found)


AUTOENCODERS = ("tem_latent1", "tem_latent4", "tem_latent16")
STUDENTS = ("tem_kernel_w3", "tem_kernel_w5", "tem_mlp1_w3", "tem_mlp1_w5")


@pytest.mark.parametrize(
    ("rise", "verdict"), [(0.1, "holds"), (-0.1, "does not hold"), (0.0, "cannot be told")]
)
def test_overfitting_follows_capacity_or_not(rise, verdict):
    found = [
        model(name, parameters=10 * i + 1, gap=gap(1.5 + rise * i))
        for i, name in enumerate((*STUDENTS, *AUTOENCODERS))
    ]
    judged = verdicts.overfits_less(found)
    assert judged.verdict == verdict
    assert f"autoencoders {1.5 + 5 * rise:.2f}" in judged.numbers


def test_efficiency_is_held_against_the_quickest_autoencoder():
    slow = [model(name, seconds=s) for name, s in zip(AUTOENCODERS, (0.5, 0.6, 0.7), strict=True)]
    for times, verdict in (((0.1, 0.2, 0.4, 0.55), "holds"), ((0.1, 0.2, 0.5, 9.0), "does not")):
        quick = [model(name, seconds=s) for name, s in zip(STUDENTS, times, strict=True)]
        judged = verdicts.quicker([*slow, *quick])
        assert judged.verdict.startswith(verdict)
    assert "2 of 4 take less" in judged.numbers


@pytest.mark.parametrize(
    ("added", "verdict"),
    [
        ((1.0, 1.0, 1.0, 5.0), "holds"),
        ((1.0, 1.0, 5.0, 5.0), "cannot be told"),
        ((1.0, 1.0, 1.0, 9.0), "cannot be told"),
        ((1.0, 9.0, 9.0, 9.0), "does not hold"),
        ((5.0, 5.0, 5.0, 5.0), "cannot be told"),
    ],
)
def test_grids_are_held_against_the_teachers(added, verdict):
    found = [model(n, grids=grids(a)) for n, a in zip(STUDENTS, added, strict=True)]
    teacher = model("tem_latent16", grids=grids(5.0, spread=0.2))
    assert verdicts.fewer_grids([teacher, *found]).verdict == verdict
    assert verdicts.fewer_grids(found).verdict == "cannot be told"  # without the teacher


@pytest.mark.parametrize(
    ("trends", "verdict"),
    [
        ((Trend(-0.2, 0.05), Trend(-0.1, 0.04)), "holds"),
        ((Trend(-0.2, 0.05), Trend(-0.1, 0.06)), "cannot be told"),
        ((Trend(-0.01, 0.01), Trend(0.02, 0.01)), "does not hold"),
        ((), "cannot be told"),
    ],
)
def test_a_plateau_is_known_by_its_error(trends, verdict):
    names = ("stem_latent4", "stem_latent16")
    found = [model(n, trend=t) for n, t in zip(names, trends, strict=False)]
    steep = [model("tem_latent4", trend=Trend(-9, 0.1)), model("stem_mlp1_w3", trend=Trend(9, 1))]
    judged = verdicts.not_plateaued([*found, *steep])
    assert judged.verdict == verdict
    # neither another domain's autoencoders nor perceptrons
    assert judged.numbers.count("±") == len(trends)


def test_deviations_fall_step_by_step():
    def found(sign):
        return [
            model(c.name, raw=np.array([-1.0, 1.0]) * (100 + sign * c.size))
            for c in zoo.PAPER_MODELS
        ]

    falling = {v.letter: v for v in verdicts.variances(found(-1))}
    rising = {v.letter: v for v in verdicts.variances(found(1))}
    assert (falling["e1"].verdict, falling["e2"].verdict) == ("holds", "holds")
    assert (rising["e1"].verdict, rising["e2"].verdict) == ("does not hold", "does not hold")
    assert falling["e1"].numbers.startswith("falls at 11 of 11 steps")
    assert falling["e2"].numbers.startswith("falls at 22 of 22 steps")
    # equal with more layers: no step falls; the paper's fall at 12 of 14
    assert falling["e3"].verdict == "does not hold"
    assert falling["e3"].numbers.endswith("the paper's at 12 of 14")
    assert verdicts.variances([])[0].verdict == "cannot be told"


# --- the whole -------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch, sides):
    """Few and small images, and a network that compiles in no time."""
    images = [noise(seed, 96) for seed in range(2)]
    monkeypatch.setattr(measured, "micrographs", lambda domain, folder: images)
    monkeypatch.setattr(overfitting, "crop_sides", lambda domain, data_dir: sides)
    monkeypatch.setattr(overfitting, "_restore", lambda teacher, side: side / 2)
    monkeypatch.setattr(held_out, "restoration_mse", lambda module, variables, x: x[:, 0, 0])
    through = measured.over_image
    small = build("tem_kernel_w3")

    def over_image(model, x):
        return through(small if model.config.family == "autoencoder" else model, x)

    def seconds(model, x, *, repeats):
        return 0.6 if model.config.family == "autoencoder" else 0.01

    monkeypatch.setattr(measured, "over_image", over_image)
    monkeypatch.setattr(measured, "seconds_a_megapixel", seconds)


def test_claims_write_a_row_a_model_and_a_verdict_a_claim(tmp_path, capsys, quick, teacher, sides):
    root = tmp_path / "models"
    curve = "\n".join(["batch,mse,seconds", *(f"{i},{1 / i:.6g},1" for i in range(1, 31)), ""])
    changed = build("tem_kernel_w3", teacher_weights="0" * 16)
    for one in (teacher, changed, build("stem_mlp1_w3")):
        checkpoint.save(one, root, text="", curve=curve)
    settings = NO_DATA._replace(checkpoints=str(root))
    results = claims.make(settings, tmp_path / "out", command="python -m x")
    assert list(results) == [f"{letter}_holds" for letter in ("a", "b", "c", "d", "e1", "e2", "e3")]
    assert results["b_holds"] == 1
    assert capsys.readouterr().out.count("(") >= 7
    first, header, *lines = (tmp_path / "out" / "claims.csv").read_text().splitlines()
    assert first.startswith("# python -m x  (commit ")
    rows = {
        line.split(",")[0]: dict(zip(header.split(","), line.split(","), strict=True))
        for line in lines
    }
    assert list(rows) == [config.name for config in zoo.PAPER_MODELS]
    assert rows["tem_latent16"]["parameters"] == "457001"
    assert rows["tem_kernel_w3"]["parameters"] == "3"
    assert rows["tem_kernel_w3"]["note"] == "its teacher has changed since"
    assert rows["stem_mlp1_w3"]["note"] == "its teacher is missing"
    assert rows["stem_mlp1_w3"]["gap"] == rows["tem_latent1"]["parameters"] == ""
    assert float(rows["stem_mlp1_w3"]["seconds_a_megapixel"]) == 0.01
    assert float(rows["tem_latent16"]["seen_mse"]) == pytest.approx(
        sides.seen[:, 0, 0].mean(), rel=1e-5
    )
    assert float(rows["tem_latent16"]["raw_mean"]) == pytest.approx(
        np.mean(1 / np.arange(1, 31)), rel=1e-4
    )
    page = (tmp_path / "out" / "claims.md").read_text()
    assert page.count("**holds**") + page.count("**does not hold**") + page.count(
        "**cannot be told**"
    ) == len(results)
    assert "Missing, and so left out: `tem_latent1`" in page
    ends = page.split("learning curves\n")[1].split("##")[0]
    assert "`tem_latent16`" in ends
    assert "kernel" not in ends


def test_time_is_for_a_million_pixels(monkeypatch):
    monkeypatch.setattr(measured, "over_image", lambda model, x: time.sleep(0.06))
    x = measured.micrograph_to_time(500)
    assert x.shape == (500, 500)
    # a machine that has much to do takes longer
    assert 0.24 <= measured.seconds_a_megapixel(None, x, repeats=3) < 24


def test_claims_of_no_models_are_open(tmp_path):
    results = claims.make(NO_DATA._replace(checkpoints=str(tmp_path)), tmp_path / "o", command="c")
    assert not any(results.values())
    assert (tmp_path / "o" / "claims.md").read_text().count("**cannot be told**") == 7


def test_micrographs_come_normalised_from_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "MICROGRAPH_PX", 168)
    generator = np.random.default_rng(5)
    for i in range(3):
        pixels = generator.integers(5, 200, (170, 200)).astype(np.uint16)
        (tmp_path / "stem").mkdir(exist_ok=True)
        micrograph.write(tmp_path / "stem" / f"{i}.tif", micrograph.Micrograph(pixels))
    found = measured.micrographs("stem", str(tmp_path))
    assert [image.shape for image in found] == [(168, 168)] * 3
    for image in found:
        assert image.min() == 0
        assert image.mean() == pytest.approx(1, rel=1e-5)

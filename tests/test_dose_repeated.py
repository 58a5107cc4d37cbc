"""Repeated frames as a case of the table of doses: no truth is needed to know the error."""

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from experiments.dose import contestants, measuring, page, records, repeated, rivals
from experiments.dose.contestants import Contestant, Ready
from experiments.evaluate import __main__ as evaluate

SIDE, GAIN, OFFSET = 128, 30.0, 400.0


def truth(dose=20.0):
    """Expected electrons: smooth, of as many levels as noise is told from."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return dose * (1 + 0.7 * np.sin(x / 19) * np.cos(y / 23))


def frames(count, *, dose=20.0, readout=0.0):
    draw = np.random.default_rng(0)
    electrons = draw.poisson(truth(dose), (count, SIDE, SIDE))
    noise = draw.normal(scale=max(readout, 1e-9), size=electrons.shape)
    return np.rint(GAIN * (electrons + noise) + OFFSET).astype(np.uint16)


def blurred(sample):
    return ndimage.gaussian_filter(sample.noisy, 2.0)


@pytest.fixture
def made(tmp_path):
    """A function that writes a stack and returns its path."""

    def write(pixels):
        path = tmp_path / "frames.tif"
        tifffile.imwrite(path, pixels, photometric="minisblack")
        return path

    return write


def judged(case, restore):
    contestant = Contestant("x", contestants.OURS, "", lambda _: Ready(restore))
    return measuring.judge(contestant, *case.draw(), case.score)[0]


@pytest.mark.parametrize(("dose", "readout"), [(20.0, 0.0), (20.0, 2.0), (4.0, 0.0)])
@pytest.mark.parametrize("restore", [lambda s: s.noisy, blurred], ids=["raw", "blurred"])
def test_it_is_the_error_against_the_truth_that_nobody_was_given(made, dose, readout, restore):
    case = repeated.case(made(frames(12, dose=dose, readout=readout)))
    assert (case.fields, case.side_px, case.dose) == (11, SIDE, None)
    _, samples = case.draw()
    # readout noise counts as electrons without contrast
    level = np.mean([s.noisy for s in samples]) - truth(dose).mean()
    assert level == pytest.approx(readout**2, abs=0.1 * dose)
    mse = np.mean([(restore(s) - truth(dose) - level) ** 2 for s in samples])
    span = np.ptp(np.percentile(truth(dose), (1, 99)))
    expected = 10 * np.log10(span**2 / mse)
    found = judged(case, restore)
    assert found.psnr == pytest.approx(expected, abs=0.4)
    assert 0 < found.psnr_error < 1


def test_a_good_denoiser_has_a_finite_psnr_of_few_counts(made):
    """The error of one frame is often estimated below 0 here, that of all of them is not."""
    case = repeated.case(made(frames(30, dose=3.0)))
    broad = judged(case, lambda s: ndimage.gaussian_filter(s.noisy, 5.0))
    assert np.isfinite(broad.psnr)
    assert broad.psnr > judged(case, blurred).psnr


def test_frames_become_electrons(made):
    tuning, evaluation = repeated.case(made(frames(5))).draw()
    samples = [*tuning, *evaluation]
    assert len(samples) == 5
    for sample in samples:
        assert len(sample.references) == 4
        assert not any(np.array_equal(sample.noisy, other) for other in sample.references)
        np.testing.assert_allclose(sample.truth, np.mean(sample.references, axis=0))
        assert sample.noisy.mean() == pytest.approx(truth().mean(), rel=0.05)
        assert sample.noisy.var() == pytest.approx(truth().mean() + truth().var(), rel=0.1)


def test_a_rival_is_tuned_as_if_the_truth_were_known(made):
    tuning, _ = repeated.case(made(frames(6))).draw()
    gaussian = rivals.RIVALS[0]
    known = [sample._replace(truth=truth()) for sample in tuning]
    (chosen,), (best,) = (rivals.tune(gaussian, samples) for samples in (tuning, known))
    assert chosen == pytest.approx(best, rel=0.3)


def test_what_needs_a_truth_is_not_scored(made):
    score = judged(repeated.case(made(frames(4))), blurred)
    given = {name for name, value in score._asdict().items() if value is not None}
    assert given == {"psnr", "psnr_error", "whiteness"}


def test_other_frames_of_the_same_name_are_measured_anew(made):
    one = contestants.named("no denoising", None)
    first, again = (repeated.case(made(frames(4))) for _ in range(2))
    other = repeated.case(made(frames(4, dose=21.0)))
    assert records.stamp(first, one) == records.stamp(again, one) != records.stamp(other, one)


def test_who_takes_part_follows_from_what_the_file_tells(made, monkeypatch):
    def taking_part(mode):
        read = repeated.micrograph.read(path)
        told = read.__class__(read.pixels, metadata={"mode": mode} if mode else {})
        monkeypatch.setattr(repeated.micrograph, "read", lambda _: told)
        case = repeated.case(path)
        monkeypatch.undo()
        return {e.name for e in entrants if case.takes_part(e)}

    path = made(frames(4))
    entrants = [
        contestants.named(name, None)
        for name in ("no denoising", "fit", "fit --perceptron", "Gaussian", "Gaussian (defaults)",
                     "stem_kernel_w3", "tem_kernel_w3")
    ]  # fmt: skip
    anyone = {"no denoising", "fit", "Gaussian"}
    assert taking_part("STEM") == anyone | {"stem_kernel_w3"}
    assert taking_part("TEM") == anyone | {"tem_kernel_w3"}
    assert taking_part(None) == anyone | {"stem_kernel_w3", "tem_kernel_w3"}
    path = made(np.tile(frames(4), (1, 1, 2)))  # now large enough for a perceptron
    assert taking_part("TEM") == anyone | {"tem_kernel_w3", "fit --perceptron"}


def test_its_rows_are_in_the_table_and_on_the_page(made, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "experiments.dose.seconds.measure", lambda names, **_: dict.fromkeys(names, 0.25)
    )
    monkeypatch.setattr("experiments.dose.pareto.draw", lambda *_: None)
    evaluate.run(
        evaluate.Config(
            table="dose", models="no denoising,stem_kernel_w3", only="repeated",
            frames=str(made(frames(4))), output=str(tmp_path),
        )
    )  # fmt: skip
    rows = [r for r in records.Table(tmp_path / "dose.csv", comment="") if r["psnr"] is not None]
    places = [(r["protocol"], r["condition"], r["model"]) for r in rows]
    assert places == [("repeated", "frames", m) for m in ("no denoising", "stem_kernel_w3")]
    heading, table = page._repeated(rows)
    assert heading == "### frames: 3 frames"
    (line,) = [line for line in table.splitlines() if "stem_kernel_w3" in line]
    assert f"{rows[1]['psnr']:.2f} ± {rows[1]['psnr_error']:.1f}" in line


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (frames(1)[0], "1 frames: give 4 or more"),
        (frames(3), "3 frames: give 4 or more"),
        (np.full((5, SIDE, SIDE), 7, np.uint16), "do not tell what an electron counts"),
        (np.stack([np.roll(f, 20 * i, 1) for i, f in enumerate(frames(5))]), "times their noise"),
    ],
)
def test_bad_frames_are_one_clear_line(made, pixels, message):
    with pytest.raises(ValueError, match=message):
        repeated.case(made(pixels))


@pytest.mark.parametrize("only", ["repeated", "haadf,repeated"])
def test_the_protocol_needs_frames(tmp_path, only):
    config = evaluate.Config(table="dose", only=only, output=str(tmp_path))
    with pytest.raises(ValueError, match="with --frames"):
        evaluate.run(config)

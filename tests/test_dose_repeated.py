"""Repeated frames as a case of the table of doses: no truth is needed to know the error."""

import numpy as np
import pytest
import tifffile

from experiments.dose import contestants, measuring, page, records, repeated, rivals, scores
from experiments.dose.contestants import Contestant, Ready
from experiments.evaluate import __main__ as evaluate

SIDE, GAIN, OFFSET = 128, 30.0, 400.0


def truth():
    """Expected electrons: flat steps, smooth within, as many levels as noise is told from."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return 20 + 14 * np.sin(x / 19) * np.cos(y / 23)


def frames(count, seed=0):
    electrons = np.random.default_rng(seed).poisson(truth(), (count, SIDE, SIDE))
    return np.rint(GAIN * electrons + OFFSET).astype(np.uint16)


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


@pytest.mark.parametrize(
    "restore", [lambda s: s.noisy, lambda s: rivals._gaussian(s.noisy, (2.0,))], ids=["raw", "2 px"]
)
def test_it_is_the_error_against_the_truth_that_nobody_was_given(made, restore):
    case = repeated.case(made(frames(12)))
    assert (case.fields, case.side_px, case.dose) == (11, SIDE, None)
    _, samples = case.draw()
    errors = [np.mean((restore(s) - truth()) ** 2) for s in samples]
    spans = [np.ptp(s.truth) for s in samples]
    expected = np.mean(10 * np.log10(np.square(spans) / errors))
    assert judged(case, restore).psnr == pytest.approx(expected, abs=0.3)


def test_frames_become_electrons(made):
    tuning, evaluation = repeated.case(made(frames(5))).draw()
    samples = [*tuning, *evaluation]
    assert len(samples) == 5
    for sample in samples:
        assert len(sample.references) == 4
        assert all(sample.noisy is not other for other in sample.references)
        np.testing.assert_allclose(sample.truth, np.mean(sample.references, axis=0))
        assert sample.noisy.mean() == pytest.approx(truth().mean(), rel=0.05)
        assert sample.noisy.var() == pytest.approx(truth().mean() + truth().var(), rel=0.1)


def test_a_rival_is_tuned_as_if_the_truth_were_known(made):
    pytest.importorskip("bm3d")
    tuning, _ = repeated.case(made(frames(6))).draw()
    gaussian = rivals.RIVALS[0]
    known = [sample._replace(truth=truth()) for sample in tuning]
    (chosen,), (best,) = (rivals.tune(gaussian, samples) for samples in (tuning, known))
    assert chosen == pytest.approx(best, rel=0.3)


def test_what_needs_a_truth_is_not_scored(made):
    score = judged(repeated.case(made(frames(4))), lambda s: rivals._gaussian(s.noisy, (2.0,)))
    given = {name for name, value in score._asdict().items() if value is not None}
    assert given == {"psnr", "whiteness"}
    assert isinstance(score, scores.Score)


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
    path = made(np.tile(frames(4), (1, 2, 2)))  # now large enough for a perceptron
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
    lines = [line for line in page._repeated(rows).splitlines() if "stem_kernel_w3" in line]
    assert f"{rows[1]['psnr']:.2f}" in lines[0]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (frames(1)[0], "1 frames: give 4 or more"),
        (frames(3), "3 frames: give 4 or more"),
        (np.full((5, SIDE, SIDE), 7, np.uint16), "do not tell what an electron counts"),
    ],
)
def test_bad_frames_are_one_clear_line(made, pixels, message):
    with pytest.raises(ValueError, match=message):
        repeated.case(made(pixels))


def test_the_protocol_needs_frames(tmp_path):
    config = evaluate.Config(table="dose", only="repeated", output=str(tmp_path))
    with pytest.raises(ValueError, match="with --frames"):
        evaluate.run(config)

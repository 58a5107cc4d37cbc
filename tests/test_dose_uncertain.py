"""uMSE and uPSNR: against the true error on simulated frames, and the paper's own formula."""

import itertools
import math

import numpy as np
import pytest

from experiments.dose.uncertain import uncertain

SIDE = 128


def truth():
    y, x = np.mgrid[:SIDE, :SIDE]
    return 20 * (1.2 + np.sin(x / 5) * np.sin(y / 6))


def smoothed(image):
    """A denoiser that errs: the mean of 3x3 pixels, wrapped."""
    shifts = itertools.product((-1, 0, 1), repeat=2)
    return sum(np.roll(image, shift, (0, 1)) for shift in shifts) / 9


def frames(seed, count):
    return list(np.random.default_rng(seed).poisson(truth(), (count, SIDE, SIDE)).astype(float))


def of_one(restored, references, *, data_range=1.0):
    return uncertain([restored], [references], data_range=data_range)


@pytest.mark.parametrize("references", [2, 3, 5])
@pytest.mark.parametrize("restore", [smoothed, lambda x: x], ids=["smoothed", "raw"])
def test_it_is_the_true_error_within_its_standard_error(references, restore):
    z = []
    for seed in range(60):
        first, *others = frames(seed, references + 1)
        restored = restore(first)
        got = of_one(restored, others, data_range=48.0)
        true = np.mean((restored - truth()) ** 2)
        z.append((got.mse - true) / got.mse_error)
        assert got.psnr == pytest.approx(10 * math.log10(48**2 / got.mse))
        # the slope of the logarithm, by a small difference
        beside = 10 * math.log10(48**2 / (got.mse - 1e-6 * got.mse_error))
        assert got.psnr_error == pytest.approx((beside - got.psnr) / 1e-6, rel=1e-3)
    # No bias; and the error bar, which counts the scatter of places too, is never too small.
    assert abs(np.mean(z)) < 5 * np.std(z) / np.sqrt(len(z))
    assert 0.3 < np.sqrt(np.mean(np.square(z))) < 1.15


def test_it_is_the_papers_formula_averaged_over_the_roles_of_the_references():
    first, *others = frames(7, 5)
    restored = smoothed(first)
    plain = [
        np.mean((a - restored) ** 2) - np.mean((b - c) ** 2) / 2
        for a, b, c in itertools.permutations(others, 3)
    ]
    assert of_one(restored, others).mse == pytest.approx(np.mean(plain), rel=1e-9)
    # And scatters less than it.
    ours, theirs = [], []
    for seed in range(40):
        first, a, b, c = frames(seed, 4)
        error = np.mean((smoothed(first) - truth()) ** 2)
        ours.append(of_one(smoothed(first), [a, b, c]).mse - error)
        theirs.append(np.mean((a - smoothed(first)) ** 2) - np.mean((b - c) ** 2) / 2 - error)
    assert np.std(ours) < 0.7 * np.std(theirs)


def test_of_several_images_it_is_the_mean_error():
    taken = frames(3, 4)
    restored = [smoothed(frame) for frame in taken]
    others = [[g for g in taken if g is not f] for f in taken]
    got = uncertain(restored, others, data_range=48.0)
    each = [of_one(f, g, data_range=48.0) for f, g in zip(restored, others, strict=True)]
    assert got.mse == pytest.approx(np.mean([one.mse for one in each]))
    assert got.psnr == pytest.approx(10 * math.log10(48**2 / got.mse))
    true = np.mean([np.mean((f - truth()) ** 2) for f in restored])
    assert got.mse == pytest.approx(true, abs=4 * got.mse_error)
    assert got.mse_error < each[0].mse_error


def test_an_error_too_small_to_see_has_no_psnr():
    some = frames(4, 9)
    found = [of_one(truth(), some[i : i + 2], data_range=48.0) for i in range(0, 8, 2)]
    for got in found:
        assert abs(got.mse) < 5 * got.mse_error
        assert math.isfinite(got.psnr) == math.isfinite(got.psnr_error) == (got.mse > 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: of_one(f[0], f[1:2]), "1 references: at least 2"),
        (lambda f: of_one(f[0], [f[1], f[2][:64]]), "crop them to one place"),
        (lambda f: of_one(f[0], f[1:], data_range=0.0), "data_range is 0.0: give the span"),
        (
            lambda f: of_one(f[0][:16, :16], [g[:16, :16] for g in f[1:]]),
            "image of 16x16 px: 16 blocks of 8x8",
        ),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message):
        call(frames(0, 3))

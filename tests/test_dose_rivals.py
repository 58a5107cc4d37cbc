"""Classical rivals: those of the extra `bench` are skipped where it is not installed."""

import numpy as np
import pytest

from experiments.benchmark import peers
from experiments.dose import anscombe, contestants, fields, rivals, scores, unet

SIDE = 64


@pytest.fixture(scope="module")
def ready():
    try:
        rivals.ready()
    except ValueError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def samples():
    drawn = fields.draw(fields.HEXAGONAL, 10.0, fields.TUNING, count=2, side_px=SIDE)
    return [*drawn, *fields.draw(fields.HEXAGONAL, 10.0, fields.EVALUATION, count=1, side_px=SIDE)]


def psnr(image, sample):
    truth = sample.truth.astype(float)
    return scores.psnr(np.asarray(image, float), truth, span=float(np.ptp(truth)))


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("rival", rivals.RIVALS, ids=lambda r: r.name)
def test_each_rival_gains_when_tuned(rival, samples):
    few = rival._replace(grid=rival.grid[:: max(1, len(rival.grid) // 4)])
    if rival.name == "BM3D":  # seconds each
        few = rival._replace(grid=rival.grid[2:3])
    chosen = rivals.tune(few, samples[:1])
    held_out = samples[2]
    restored = rivals.restore(rival, held_out.noisy, chosen, readout=0.5)
    assert restored.shape == held_out.noisy.shape
    assert psnr(restored, held_out) > psnr(held_out.noisy, held_out) + 3


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("rival", rivals.RIVALS, ids=lambda r: r.name)
def test_as_libraries_give_them_units_do_not_matter(rival, samples):
    noisy = samples[2].noisy.astype(np.float64)
    one = rivals.restore_plainly(rival, noisy)
    other = rivals.restore_plainly(rival, 300 * noisy + 70)
    np.testing.assert_allclose(other, 300 * one + 70, atol=300 * np.ptp(noisy) * 1e-4)
    assert np.isfinite(one).all()


def test_tuning_finds_the_best_of_its_grid(samples):
    """Of the Gaussian, which needs no more than scipy."""
    gaussian = rivals.RIVALS[0]
    chosen = rivals.tune(gaussian, samples[:2])

    def merit(parameter):
        return np.mean([psnr(gaussian.tuned(s.noisy.astype(float), parameter), s)
                        for s in samples[:2]])  # fmt: skip

    best = max(gaussian.grid, key=merit)
    assert chosen == best
    assert gaussian.grid[0] < chosen < gaussian.grid[-1]
    with pytest.raises(ValueError, match="at least one field"):
        rivals.tune(gaussian, [])


def test_only_the_gaussian_works_on_counts():
    seen = []
    spy = rivals.RIVALS[0]._replace(tuned=lambda x, _: seen.append(x) or x)
    noisy = np.random.default_rng(0).poisson(20.0, (16, 16)).astype(float)
    rivals.restore(spy, noisy, (1.0,), readout=0.5)
    np.testing.assert_array_equal(seen[0], noisy)
    rivals.restore(spy._replace(on_counts=False), noisy, (1.0,), readout=0.5)
    np.testing.assert_array_equal(seen[1], anscombe.forward(noisy, readout=0.5))
    assert [r.name for r in rivals.RIVALS if r.on_counts] == ["Gaussian"]


def test_a_missing_library_is_told_in_a_line(monkeypatch):
    def missing(name):
        raise peers.MissingLibraryError(f"{name} is not installed: pip install it")

    monkeypatch.setattr(peers, "library", missing)
    with pytest.raises(ValueError, match="is not installed"):
        contestants.everyone(None, "BM3D")
    assert len(contestants.everyone(None, "no denoising")) == 1


@pytest.mark.usefixtures("ready")
def test_a_constant_image_stays():
    for rival in rivals.RIVALS[:3]:
        np.testing.assert_allclose(rivals.restore_plainly(rival, np.full((32, 32), 7.0)), 7.0)


def test_the_peer_has_the_published_size():
    torch = pytest.importorskip("torch")
    made = unet.network(torch)
    assert round(sum(p.numel() for p in made.parameters()), -3) == 262_000
    assert unet.restore()(np.ones((16, 20), np.float32)).shape == (16, 20)

"""What the families' cards measure, against plain NumPy."""

import numpy as np
import pytest

from emd import checkpoint, zoo
from emd.data.simulate import KINDS
from emd.models import published
from experiments.cards import measure, pictures, sections


def save(root, name, params):
    config = zoo.find(name)
    model = checkpoint.Model(config, zoo.make_module(config), {"params": params}, {})
    checkpoint.save(model, root, text="")
    return checkpoint.load(name, root=root)


def scene(seed=0, side=24):
    draws = np.random.default_rng(seed)
    clean = draws.uniform(5, 20, (side, side)).astype(np.float32)
    return measure.Scene(draws.poisson(clean).astype(np.float32), clean)


def test_gain():
    noisy, clean = scene()
    restored = (noisy + clean) / 2
    before = sum((a - b) ** 2 for a, b in zip(noisy.flat, clean.flat, strict=True))
    after = sum((a - b) ** 2 for a, b in zip(restored.flat, clean.flat, strict=True))
    due = 10 * np.log10(before / after)
    assert measure.gain_db(measure.Scene(noisy, clean), restored) == pytest.approx(due)
    assert due == pytest.approx(20 * np.log10(2), rel=1e-4)


def applied(weights, image, *, keep_mean):
    """A kernel over an image, its border reflected, in plain NumPy."""
    width = len(weights)
    low = image.min()
    padded = np.pad(image - low, width // 2, mode="reflect")
    out = np.zeros(image.shape)
    for row in range(width):
        for column in range(width):
            part = padded[row : row + image.shape[0], column : column + image.shape[1]]
            out += weights[row, column] * part
    out += low
    return out + (image.mean() - out.mean()) * keep_mean


def square(corner, edge, centre):
    return np.array([[corner, edge, corner], [edge, centre, edge], [corner, edge, corner]])


def test_against_published(tmp_path):
    """TEM+STEM 3x3: the paper prints corner 0.093, edge 0.124, centre 0.149."""
    model = save(tmp_path, "temstem_kernel_w3", {"weights": np.array([0.3, 0.1, 0.05], np.float32)})
    scenes = [scene(seed) for seed in range(2)]
    row = {k: float(v) for k, v in measure.against_published(model, scenes).items()
           if k not in ("model", "weights")}  # fmt: skip
    own, printed = square(0.05, 0.1, 0.3), square(0.093, 0.124, 0.149)
    assert row["correlation"] == pytest.approx(
        np.corrcoef(own.ravel(), printed.ravel())[0, 1], abs=1e-4
    )
    cosine = (own * printed).sum() / np.sqrt((own**2).sum() * (printed**2).sum())
    assert row["cosine"] == pytest.approx(cosine, abs=1e-4)
    assert (row["own_sum"], row["printed_sum"]) == pytest.approx((0.9, 1.017), abs=1e-4)
    middle = ("own_centre", "own_next", "printed_centre", "printed_next")
    assert [row[key] for key in middle] == pytest.approx([0.3, 0.1, 0.149, 0.124], abs=1e-4)
    ours = [applied(own, s.noisy, keep_mean=True) for s in scenes]
    theirs = [applied(printed, s.noisy, keep_mean=False) for s in scenes]
    scaled = [(b - s.noisy.min()) / 1.017 + s.noisy.min()
              for b, s in zip(theirs, scenes, strict=True)]  # fmt: skip

    def rms(a, b):
        ratios = [((x - y) ** 2).mean() / s.noisy.mean() ** 2
                  for x, y, s in zip(a, b, scenes, strict=True)]  # fmt: skip
        return 100 * np.sqrt(np.mean(ratios))

    def psnr(a, b):
        spans = [s.clean.max() - s.clean.min() for s in scenes]
        return np.mean([10 * np.log10(span**2 / ((x - y) ** 2).mean())
                        for x, y, span in zip(a, b, spans, strict=True)])  # fmt: skip

    def gain(a):
        errors = [[((x - s.clean) ** 2).mean() for x in (s.noisy, y)]
                  for y, s in zip(a, scenes, strict=True)]  # fmt: skip
        return np.mean([10 * np.log10(before / after) for before, after in errors])

    due = {
        "change_percent": rms(ours, [s.noisy for s in scenes]),
        "rms_percent": rms(ours, theirs),
        "rms_sum1_percent": rms(ours, scaled),
        "psnr_db": psnr(ours, theirs),
        "psnr_sum1_db": psnr(ours, scaled),
        "own_gain_db": gain(ours),
        "printed_gain_db": gain(theirs),
    }
    assert {key: row[key] for key in due} == pytest.approx(due, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("domain", ["tem", "stem", "temstem"])
def test_the_published_kernel_differs_in_nothing_but_the_mean_from_itself(domain, tmp_path):
    weights = published.weights(domain, 3)
    model = save(tmp_path, f"{domain}_kernel_w3", {"weights": weights})
    row = measure.against_published(model, [scene()])
    assert float(row["correlation"]) == pytest.approx(1)
    assert float(row["cosine"]) == pytest.approx(1)
    noisy = scene().noisy
    printed = applied(square(*weights[::-1]), noisy, keep_mean=False)
    due = 100 * abs(printed.mean() - noisy.mean()) / noisy.mean()
    assert float(row["rms_percent"]) == pytest.approx(due, rel=1e-3)


def test_levels_of_a_perceptron(tmp_path):
    draws = np.random.default_rng(0)
    params = {"weights": draws.normal(size=(2, 3)), "biases": draws.normal(size=(1, 3)),
              "connections": draws.normal(size=(1, 9, 9))}  # fmt: skip
    model = save(tmp_path, "tem_mlp1_w3", {k: v.astype(np.float32) for k, v in params.items()})
    (first, last), (bias,) = (
        [square(c, b, a).ravel() for a, b, c in params[k]] for k in ("weights", "biases")
    )
    due = [
        ((1 / (1 + np.exp(-(level * first + bias)))) @ params["connections"][0]) @ last
        for level in measure.LEVELS
    ]
    np.testing.assert_allclose(measure.respond(model), due, rtol=2e-4, atol=2e-4)


def test_contrast_and_mean_gain():
    found = {("a", "0.75"): 0.8, ("a", "1.25"): 1.1}
    assert sections.slope(found, "a") == pytest.approx(0.6)
    gains = {
        ("a", "lattice", "2"): (1.0, 2.0), ("a", "film", "2"): (3.0, 6.0),
        ("a", "diffraction", "2"): (-99.0, -99.0), ("a", "film", "20"): (50.0, 50.0),
        ("b", "film", "2"): (70.0, 70.0),
    }  # fmt: skip
    assert sections.mean_gain(gains, "a", "2") == (2.0, 4.0)
    assert sections.mean_gain(gains, "c", "2") is None


def test_the_worst_scene_is_shown():
    rows = [
        {"model": model, "scene": kind, "dose": dose, "worst_db": worst, "worst_seed": seed}
        for model, kind, dose, worst, seed in (
            ("a", "lattice", "20", "-1", "0"), ("a", "film", "20", "-2", "2"),
            ("a", "diffraction", "20", "-9", "1"), ("a", "film", "200", "-5", "1"),
            ("b", "film", "20", "-7", "1"),
        )
    ]  # fmt: skip
    assert pictures.worst(rows, "a") == ("film", 2)
    assert pictures.worst(rows, "c") is None


def test_kinds_of_the_mixture_are_those_of_both():
    assert set(measure.kinds_of("temstem")) == {
        kind.__name__ for one in ("tem", "stem") for kind, _, _ in KINDS[one]
    }

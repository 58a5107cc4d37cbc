"""The simulator held to its physics: transfer, counts, Z contrast and probe."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd.data import simulate
from emd.data.simulate import optics, stem, texture

KINDS = list(dict.fromkeys(kind for kinds in simulate.KINDS.values() for kind, _, _ in kinds))
SIDE = 64


def wavelength_nm(kv: float) -> float:
    # CODATA 2018, in SI and float64.
    planck, mass, charge, light = 6.62607015e-34, 9.1093837015e-31, 1.602176634e-19, 299792458.0
    volts = kv * 1e3
    momentum = 2 * mass * charge * volts * (1 + charge * volts / (2 * mass * light**2))
    return 1e9 * planck / momentum**0.5


def radial_mean(image: np.ndarray) -> np.ndarray:
    """Mean power of the frequencies at each whole distance from the origin."""
    side = image.shape[0]
    power = np.abs(np.fft.fft2(image - image.mean())) ** 2
    k = np.fft.fftfreq(side, 1 / side)
    radius = np.rint(np.hypot(k[:, None], k[None, :])).astype(int)
    total = np.bincount(radius.ravel(), power.ravel())
    return total / np.bincount(radius.ravel())


@pytest.mark.parametrize(("kv", "pm"), [(80, 4.176), (100, 3.701), (200, 2.508), (300, 1.969)])
def test_wavelength_is_that_of_the_tables(kv, pm):
    # Table of de Broglie wavelengths, Williams & Carter, Transmission Electron Microscopy, 1.2.
    assert float(simulate.electron_wavelength_pm(kv)) == pytest.approx(pm, abs=6e-4)
    assert float(simulate.electron_wavelength_pm(kv)) == pytest.approx(1e3 * wavelength_nm(kv))


@pytest.mark.parametrize("defocus_nm", [400.0, 900.0])
@pytest.mark.parametrize("cs_mm", [0.0, 2.7])
def test_film_has_its_zeros_where_defocus_puts_them(defocus_nm, cs_mm):
    side, pixel_nm, kv = 256, 0.2, 200.0
    microscope = simulate.Microscope(kv, cs_mm, defocus_nm, 2.0, 0.01, pixel_nm)
    images = [
        np.asarray(simulate.film(jax.random.key(seed), microscope, side_px=side, strength=0.02))
        for seed in range(8)
    ]
    power = np.mean([radial_mean(image) for image in images], axis=0)
    # Closed form: lambda k^2 (defocus - Cs lambda^2 k^2 / 2) = n, a quadratic in k^2.
    wave = wavelength_nm(kv)
    orders = np.arange(1, 4)
    if cs_mm == 0:
        square = orders / (wave * defocus_nm)
    else:
        a = 0.5 * cs_mm * 1e6 * wave**3
        b = wave * defocus_nm
        square = (b - np.sqrt(b**2 - 4 * a * orders)) / (2 * a)
    expected = np.sqrt(square) * side * pixel_nm
    for zero in expected:
        near = np.arange(int(zero) - 3, int(zero) + 5)
        assert abs(near[np.argmin(power[near])] - zero) <= 1.0
    between = np.rint((expected[:-1] + expected[1:]) / 2).astype(int)
    assert (power[between] > 8 * power[np.rint(expected[1:]).astype(int)]).all()


def test_transfer_matches_a_plain_formula_and_its_sign():
    k = np.linspace(0, 5, 101)
    wave, cs, defocus = wavelength_nm(300.0), 1.2e6, 60.0
    chi = np.pi * wave * k**2 * (0.5 * cs * wave**2 * k**2 - defocus)
    for share in (0.0, 0.1):
        got = simulate.contrast_transfer(
            jnp.asarray(k, jnp.float32),
            defocus_nm=defocus,
            cs_mm=1.2,
            wavelength_pm=1e3 * wave,
            amplitude_contrast=share,
        )
        want = np.sqrt(1 - share**2) * np.sin(chi) - share * np.cos(chi)
        np.testing.assert_allclose(got, want, atol=2e-4)
    assert got[0] == pytest.approx(-0.1)  # absorption is dark at the lowest frequency
    assert got[10] < 0  # and so are atoms at underfocus


def test_envelope_matches_plain_gaussians():
    k = np.linspace(0, 8, 81)
    wave = wavelength_nm(200.0)
    options = {"defocus_nm": 500.0, "cs_mm": 1.0, "wavelength_pm": 1e3 * wave}
    for spread, mrad in ((4.0, 0.0), (0.0, 0.2), (4.0, 0.2)):
        slope = 1e6 * wave**3 * k**3 - 500.0 * wave * k
        want = np.exp(-0.5 * (np.pi * wave * spread * k**2) ** 2)
        want = want * np.exp(-((np.pi * mrad * 1e-3 / wave) ** 2) * slope**2)
        got = simulate.envelope(
            jnp.asarray(k, jnp.float32), focal_spread_nm=spread, convergence_mrad=mrad, **options
        )
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_grating_is_imaged_at_its_transfer():
    side, pixel_nm, order = 96, 0.05, 9
    microscope = simulate.Microscope(300.0, 1.0, 80.0, 3.0, 0.1, pixel_nm)
    wave = 2 * np.pi * order * np.arange(side) / side
    phase = np.broadcast_to(0.05 * np.cos(wave), (side, side)).astype(np.float32)
    k = jnp.float32(order / (side * pixel_nm))
    options = {"defocus_nm": 80.0, "cs_mm": 1.0, "wavelength_pm": 1e3 * wavelength_nm(300.0)}
    transfer = simulate.contrast_transfer(k, **options) * simulate.envelope(
        k, focal_spread_nm=3.0, convergence_mrad=0.1, **options
    )
    want = np.broadcast_to(1 + 2 * 0.05 * float(transfer) * np.cos(wave), (side, side))
    got = optics.weak_phase_image(jnp.asarray(phase), microscope)
    np.testing.assert_allclose(got, want, atol=1e-4)
    assert abs(float(transfer)) > 0.1


@pytest.mark.parametrize("mean", [0.0, 0.3, 5.0, 23.9, 24.1, 400.0])
def test_counts_follow_the_poisson_law(mean):
    count = 400_000
    counts = np.asarray(simulate.poisson(jax.random.key(3), jnp.full(count, mean)), np.float64)
    assert (counts >= 0).all()
    np.testing.assert_array_equal(counts, np.rint(counts))
    # Five standard errors each; that of the variance is sqrt((mean + 2 mean^2) / count).
    assert abs(counts.mean() - mean) <= 5 * np.sqrt(mean / count) + 1e-9
    assert abs(counts.var() - mean) <= 5 * np.sqrt((mean + 2 * mean**2) / count) + 1e-9
    if mean > 0:
        third = np.mean((counts - mean) ** 3) / mean**1.5
        assert third == pytest.approx(mean**-0.5, abs=0.03 + 0.1 * mean**-0.5)


def test_exposure_has_variance_equal_to_mean_and_readout_on_top():
    scene = texture.smooth_field(jax.random.key(0), 256, 20.0) * 0.2 + 1
    for readout in (0.0, 3.0):
        drawn = simulate.expose(jax.random.key(1), scene, dose=50.0, readout=readout)
        excess = np.asarray(drawn.counts - drawn.clean, np.float64)
        ratio = np.mean(excess**2 / (np.asarray(drawn.clean) + readout**2))
        assert ratio == pytest.approx(1, abs=5 * np.sqrt(2 / excess.size))
        assert float(drawn.clean.mean()) == pytest.approx(50, rel=1e-4)


def test_integrated_columns_give_back_the_exponent_of_z():
    numbers = np.array([6.0, 14.0, 31.0, 47.0, 79.0])
    positions = np.stack([np.full(5, 20.3), 20.0 + 40 * np.arange(5) + 0.17 * np.arange(5)], 1)
    image = stem.column_image(
        jnp.asarray(positions, jnp.float32),
        jnp.asarray(numbers, jnp.float32),
        side_px=200,
        probe_px=2.5,
    )
    integrated = np.asarray(image).reshape(200, 5, 40).sum(axis=(0, 2))
    slope = np.polyfit(np.log(numbers), np.log(integrated), 1)[0]
    assert slope == pytest.approx(1.7, abs=2e-3)


@pytest.mark.parametrize("probe_px", [0.8, 2.0, 4.5])
@pytest.mark.parametrize("offset", [0.0, 0.31, 0.5])
def test_column_is_a_gaussian_of_the_probe_width_at_its_place(probe_px, offset):
    place = np.array([31.0 + offset, 29.0 - offset / 2], np.float32)
    image = stem.column_image(
        jnp.asarray(place[None]), jnp.ones(1), side_px=SIDE, probe_px=probe_px
    )
    axis = np.arange(SIDE)
    rows, columns = (np.exp(-0.5 * ((axis - p) / probe_px) ** 2) for p in place)
    want = np.outer(rows, columns) / (rows.sum() * columns.sum())
    np.testing.assert_allclose(image, want, atol=0.02 * want.max())
    for axis_sum, p in ((image.sum(1), place[0]), (image.sum(0), place[1])):
        mean = float((axis_sum * axis).sum())
        assert mean == pytest.approx(float(p), abs=2e-3)
        variance = float((axis_sum * (axis - mean) ** 2).sum())
        assert variance == pytest.approx(probe_px**2, rel=0.02)


def test_tail_of_the_probe_keeps_the_current():
    spot = jnp.zeros((SIDE, SIDE)).at[32, 32].set(1.0)
    sharp, skirted = stem.blur(spot, 2.0), stem.blur(spot, 2.0, tail=0.3)
    assert float(skirted.sum()) == pytest.approx(1, abs=1e-5)
    assert float(skirted[32, 32] / sharp[32, 32]) == pytest.approx(0.7 + 0.3 / 9, abs=1e-3)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_kind_is_finite_deterministic_and_linear_in_dose(kind):
    def draw(key, dose):
        # As `micrographs` draws, with a dose of no width: shares its compiled programs.
        return simulate._draw(key, kind, dose, dose, SIDE)

    for seed in range(6):
        low, again = (draw(jax.random.key(seed), 3.0) for _ in range(2))
        high = draw(jax.random.key(seed), 300.0)
        for array in (*low, *high):
            assert array.shape == (1, SIDE, SIDE)
            assert array.dtype == jnp.float32
            assert np.isfinite(array).all()
        assert (low.clean >= 0).all()
        np.testing.assert_array_equal(low.counts, again.counts)
        np.testing.assert_allclose(high.clean, 100 * low.clean, rtol=1e-5)
        assert float(low.clean.mean()) == pytest.approx(3, rel=1e-4)
        assert float(low.clean.std()) > 0.01
    other = draw(jax.random.key(99), 3.0)
    assert float(jnp.abs(other.clean - low.clean).max()) > 0.05


def test_kind_alone_and_its_counts():
    draw = jax.jit(simulate.terrain, static_argnames="side_px")
    drawn = draw(jax.random.key(0), side_px=33, dose=40.0)
    assert drawn.counts.shape == (1, 33, 33)
    np.testing.assert_array_equal(drawn.counts, np.rint(drawn.counts))  # no readout: whole counts


@pytest.mark.parametrize("domain", ["tem", "stem"])
def test_a_longer_draw_begins_with_the_shorter_and_compiles_nothing(domain):
    key = jax.random.key(7)
    kinds = len(simulate.KINDS[domain])
    short = simulate.micrographs(key, domain, count=kinds, side_px=SIDE)
    compiled = simulate._draw._cache_size()
    long = simulate.micrographs(key, domain, count=kinds + 5, side_px=SIDE)
    assert simulate._draw._cache_size() == compiled
    assert long.counts.shape == long.clean.shape == (kinds + 5, SIDE, SIDE)
    np.testing.assert_array_equal(long.counts[:kinds], short.counts)
    np.testing.assert_array_equal(long.clean[:kinds], short.clean)
    doses = np.asarray(long.clean.mean(axis=(1, 2)))
    assert doses.min() >= 1.99
    assert doses.max() <= 1001
    assert len(np.unique(doses)) == kinds + 5


@pytest.mark.parametrize(
    ("domain", "count", "side_px", "message"),
    [
        ("temstem", 1, 64, "unknown domain 'temstem': use one of 'tem', 'stem'"),
        ("tem", 0, 64, "count is 0: ask for at least 1"),
        ("tem", 1, 31, "side_px is 31: the smallest simulated micrograph has 32"),
    ],
)
def test_bad_input_is_one_clear_line(domain, count, side_px, message):
    with pytest.raises(ValueError, match=message):
        simulate.micrographs(jax.random.key(0), domain, count=count, side_px=side_px)

"""Crystals and carbon through the lens: lattice spacings, inner potential, dose and Thon rings."""

import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd.data.simulate import optics
from emd.data.simulate.crystals import _FACTORS, CRYSTALS, places, scattering_factor_nm
from emd.data.simulate.detector import Detector
from emd.data.simulate.hrtem import (
    CORRECTED,
    carbon_phase,
    coarser,
    crystal_phase,
    exit_wave,
    hrtem,
    wave_image,
)

SIDE = 96


@pytest.fixture(scope="module")
def images():
    """An image of each crystal without carbon or much noise, expected electrons a pixel 4000."""
    drawn = {}
    for seed, name in enumerate(CRYSTALS):
        key = jax.random.key(seed)
        thickness = 0.0 if name == "graphene" else 2.0
        drawn[name] = hrtem(
            key,
            side_px=192,
            dose_e_per_angstrom2=1e5,
            crystal=name,
            thickness_nm=thickness,
            carbon_nm=0.0,
        )
    return drawn


# The distances of planes that the cubic (hexagonal) lattice constant a alone decides.
@pytest.mark.parametrize(
    ("name", "spacings_nm"),
    [
        ("Au [001]", [0.40782 / 2, 0.40782 / math.sqrt(8)]),
        ("Au [110]", [0.40782 / math.sqrt(3), 0.40782 / 2, 0.40782 / math.sqrt(8)]),
        ("Si [110]", [0.54310 / math.sqrt(3), 0.54310 / math.sqrt(8), 0.54310 / math.sqrt(11)]),
        ("SrTiO3 [001]", [0.39050, 0.39050 / math.sqrt(2), 0.39050 / 2]),
        ("graphene", [0.24612 * math.sqrt(3) / 2, 0.24612 / 2]),
    ],
)
def test_lattice_peaks_lie_at_the_spacings_of_the_structure(images, name, spacings_nm):
    image = np.asarray(images[name].counts[0], np.float64)
    side, padded = image.shape[0], 1024
    taper = np.outer(np.hanning(side), np.hanning(side))
    spectrum = np.abs(np.fft.fft2((image - image.mean()) * taper, (padded, padded)))
    k = np.fft.fftfreq(padded, CORRECTED.pixel_nm)
    radius = np.hypot(k[:, None], k[None, :])
    for spacing in spacings_nm:
        near = np.abs(radius * spacing - 1) < 0.06
        peak = np.argmax(np.where(near, spectrum, 0))
        assert radius.flat[peak] * spacing == pytest.approx(1, abs=0.01)
        assert spectrum.flat[peak] > 5 * np.median(spectrum[near])
    # And none further inside: these are the widest planes that are not forbidden.
    inside = (radius > 0.8) & (radius < 0.85 / spacings_nm[0])
    assert spectrum[inside].max() < 0.1 * spectrum[radius > 0.8].max()


def test_mean_inner_potential_of_silicon_and_gold():
    # Neutral atoms beside one another: 13.9 V and 29.9 V (Si, Au; Doyle-Turner or Peng factors).
    volt_nm = 0.00652616  # rad a volt and nm at 300 kV: Kirkland, chapter 5
    for name, volts in (("Si [110]", 13.9), ("Au [110]", 29.9)):
        crystal = CRYSTALS[name]
        # A plate of ten periods, on a field of many cells: what the border cuts is little.
        thickness = 10 * crystal.period_nm
        phase = crystal_phase(crystal, CORRECTED, side_px=600, thickness_nm=thickness)
        inner = np.asarray(phase)[60:-60, 60:-60].mean()
        assert inner / (volt_nm * thickness) == pytest.approx(volts, rel=0.03)


def test_phase_is_that_of_gaussian_atoms_summed_up_plainly():
    side, pixel_nm = 96, 0.008  # fine enough for the sharpest Gaussian
    crystal = CRYSTALS["SrTiO3 [001]"]
    thickness = 2 * crystal.period_nm
    microscope = CORRECTED._replace(pixel_nm=pixel_nm)
    got = crystal_phase(crystal, microscope, side_px=side, thickness_nm=thickness, turn=0.3)
    axis = (np.arange(side) - (side - 1) / 2) * pixel_nm
    wavelength_nm, gamma = 1.96875e-3, 1.58708
    want = np.zeros((side, side))
    for element, nm in places(
        crystal, reach_nm=side * pixel_nm / 2, turn=0.3, offset=(0.0, 0.0)
    ).items():
        for y, x in nm:
            # To the other border, too: the square is periodic.
            period = side * pixel_nm
            dy, dx = ((axis - at + period / 2) % period - period / 2 for at in (y, x))
            square = 100 * (dy[:, None] ** 2 + dx[None, :] ** 2)  # square Angstrom
            for a, b in zip(*_FACTORS[element], strict=True):
                width = b + 0.5  # the Debye-Waller factor
                want += a * 4 * np.pi / width * np.exp(-4 * np.pi**2 * square / width)
    want *= 2 * gamma * 10 * wavelength_nm  # two atoms a column
    np.testing.assert_allclose(got, want, atol=3e-3 * want.max())


def test_many_columns_are_summed_in_parts(monkeypatch):
    def draw():
        return crystal_phase(CRYSTALS["Au [110]"], CORRECTED, side_px=SIDE, thickness_nm=1.0)

    whole = draw()
    monkeypatch.setattr(sys.modules[hrtem.__module__], "_TOGETHER", 7)
    np.testing.assert_allclose(draw(), whole, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "nearest_nm"),
    [
        ("Au [001]", 0.2039),
        ("Au [110]", 0.2497),  # half the diagonal of 0.2884 x 0.4078
        ("Si [110]", 0.1358),  # the dumbbell
        ("SrTiO3 [001]", 0.1953),
        ("graphene", 0.1421),  # the bond
    ],
)
def test_nearest_columns_are_as_far_apart_as_is_known(name, nearest_nm):
    found = places(CRYSTALS[name], reach_nm=1.0, turn=0.4, offset=(0.3, 0.1))
    nm = np.unique(np.concatenate(list(found.values())).round(6), axis=0)  # Ti and O share columns
    apart = np.hypot(*(nm[:, None] - nm[None, :]).transpose(2, 0, 1))
    assert np.abs(nm).max() <= 1
    nearest = np.where(apart > 0, apart, np.inf).min(axis=1)
    inner = np.abs(nm).max(axis=1) < 0.7
    np.testing.assert_allclose(nearest[inner], nearest_nm, atol=2e-4)


@pytest.mark.parametrize("element", [6, 8, 14, 22, 38, 79])
def test_scattering_at_high_angles_is_rutherfords(element):
    # Without motion f = Z / (2 a_0 (2 pi k)^2) x 4, that is 0.02393 Z / s^2 (Mott and Bethe).
    k = jnp.float32(20 * 1.5)  # s = 1.5 / Angstrom
    factor = 10 * float(scattering_factor_nm(element, k)) * math.exp(0.5 * 1.5**2)
    rutherford = 0.02393366 * element / 1.5**2
    assert 0.6 * rutherford < factor < 1.02 * rutherford  # electrons still screen a part


def test_dose_is_electrons_times_area(images):
    for name, drawn in images.items():
        expected = 1e5 * (10 * CORRECTED.pixel_nm) ** 2
        counts = np.asarray(drawn.counts[0], np.float64)
        assert counts.mean() == pytest.approx(expected, rel=0.005), name
    vacuum = hrtem(
        jax.random.key(0),
        side_px=SIDE,
        dose_e_per_angstrom2=50.0,
        crystal=None,
        carbon_nm=0.0,
        microscope=CORRECTED._replace(pixel_nm=0.1),
        detector=Detector(gain=3.0, offset=10.0),
    )
    np.testing.assert_allclose(vacuum.clean, 10 + 3 * 50.0, rtol=1e-5)  # 1 square Angstrom a pixel
    mean = float(vacuum.counts.mean())
    assert mean == pytest.approx(160, abs=5 * 3 * np.sqrt(50 / SIDE**2))


def test_contrast_does_not_depend_on_the_sampling():
    """Gold turns the wave by several radians, beyond the Nyquist frequency of these pixels."""
    found = []
    for pixel_nm in (0.01, 0.02, 0.04):
        drawn = hrtem(
            jax.random.key(1),
            side_px=round(1.28 / pixel_nm),
            dose_e_per_angstrom2=1e4,
            radius_nm=0.5,
            carbon_nm=0.0,
            microscope=CORRECTED._replace(pixel_nm=pixel_nm),
        )
        clean = np.asarray(drawn.clean[0], np.float64)
        found.append(clean.std() / clean.mean())
    np.testing.assert_allclose(found, found[0], rtol=0.02)


@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_coarser_image_keeps_what_its_pixels_can_hold(times):
    def wave(side_px):
        y = (np.arange(side_px) + 0.5) / side_px  # of the middle of each pixel
        slow = np.cos(2 * np.pi * 3 * y)[:, None] + np.sin(2 * np.pi * 5 * y)
        return 2 + slow, np.cos(2 * np.pi * 9 * y) * np.ones((side_px, 1))

    slow, fine = wave(16 * times)
    image = jnp.asarray(slow + (fine if times > 1 else 0), jnp.float32)
    np.testing.assert_allclose(coarser(image, times), wave(16)[0], atol=1e-5)


def test_a_weak_phase_is_imaged_as_the_linear_theory_says():
    phase = 1e-3 * jax.random.normal(jax.random.key(0), (SIDE, SIDE))
    for share in (0.0, 0.2):
        microscope = CORRECTED._replace(cs_mm=0.7, defocus_nm=40.0, amplitude_contrast=share)
        got = wave_image(exit_wave(phase, share), microscope)
        want = optics.weak_phase_image(phase, microscope)
        np.testing.assert_allclose(got - got.mean(), want - want.mean(), atol=2e-5)


def test_no_electron_is_lost_in_a_lens_however_strong_the_phase():
    phase = 2.0 * jax.random.normal(jax.random.key(1), (SIDE, SIDE))
    image = wave_image(exit_wave(phase), CORRECTED._replace(focal_spread_nm=8.0))
    assert float(image.mean()) == pytest.approx(1, abs=1e-5)
    assert float(image.min()) > 0
    still = CORRECTED._replace(focal_spread_nm=0.0, convergence_mrad=0.0, defocus_nm=0.0, cs_mm=0.0)
    np.testing.assert_allclose(wave_image(exit_wave(phase), still), 1, atol=1e-4)  # pure phase
    # Absorption takes what it says: exp(-2 share x phase).
    absorbed = wave_image(exit_wave(phase, 0.1), still)
    np.testing.assert_allclose(absorbed, np.exp(-0.2 * np.asarray(phase)), rtol=1e-3, atol=1e-4)


def test_carbon_shows_thon_rings_at_its_defocus():
    side, pixel_nm, defocus_nm = 256, 0.1, 500.0
    microscope = CORRECTED._replace(cs_mm=0.0, defocus_nm=defocus_nm, pixel_nm=pixel_nm)
    k = np.fft.fftfreq(side, 1 / side)
    radius = np.rint(np.hypot(k[:, None], k[None, :])).astype(int).ravel()
    power = np.zeros(radius.max() + 1)
    for seed in range(6):
        phase = carbon_phase(jax.random.key(seed), microscope, side_px=side, thickness_nm=2.0)
        image = np.asarray(wave_image(exit_wave(phase), microscope), np.float64)
        square = np.abs(np.fft.fft2(image - image.mean())).ravel() ** 2
        power += np.bincount(radius, square) / np.bincount(radius)
    wavelength_nm = 1.9687e-3
    for order in (1, 2, 3):
        zero = math.sqrt(order / (wavelength_nm * defocus_nm)) * side * pixel_nm
        near = np.arange(int(zero) - 2, int(zero) + 4)
        assert abs(near[np.argmin(power[near])] - zero) <= 1
        between = round(math.sqrt((order - 0.5) / (wavelength_nm * defocus_nm)) * side * pixel_nm)
        assert power[between] > 4 * power[near].min()


def test_carbon_has_the_mean_phase_of_its_density():
    phase = carbon_phase(jax.random.key(0), CORRECTED, side_px=SIDE, thickness_nm=5.0)
    # 100 atoms a cubic nm of 0.25073 nm each at no angle, over 300 kV's wavelength and mass
    want = 100 * 5 * 0.25088 * 1.9687e-3 * 1.58708
    # Within five standard errors of the number of atoms in the field.
    atoms = 500 * (SIDE * CORRECTED.pixel_nm) ** 2
    assert float(phase.mean()) == pytest.approx(want, rel=5 / math.sqrt(atoms))


def test_a_particle_ends_at_its_radius_and_is_thickest_in_the_middle():
    crystal = CRYSTALS["Au [110]"]
    ball = np.asarray(
        crystal_phase(crystal, CORRECTED, side_px=160, thickness_nm=9.0, radius_nm=1.0)
    )
    axis = (np.arange(160) - 79.5) * CORRECTED.pixel_nm
    radius = np.hypot(axis[:, None], axis[None, :])
    middle, rim = ball[radius < 0.5].mean(), ball[(radius > 0.8) & (radius < 0.95)].mean()
    assert middle > 1.5 * rim > 20 * abs(ball[radius > 1.4].mean())


def test_the_same_key_draws_the_same_and_another_turns_it():
    def draw(seed):
        return hrtem(jax.random.key(seed), side_px=64, dose_e_per_angstrom2=500.0)

    one, again, other = draw(0), draw(0), draw(1)
    np.testing.assert_array_equal(one.counts, again.counts)
    assert one.counts.shape == one.clean.shape == (1, 64, 64)
    assert float(jnp.corrcoef(one.clean.ravel(), other.clean.ravel())[0, 1]) < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crystal": "Cu [001]"}, "unknown crystal 'Cu .001.': use one of Au"),
        ({"dose_e_per_angstrom2": 0.0}, "dose is 0.0: give electrons per square Angstrom"),
        ({"microscope": CORRECTED._replace(pixel_nm=0.2)}, "pixel_nm is 0.2: .* at most 0.08 nm"),
    ],
)
def test_bad_input_is_one_clear_line(options, message):
    options = {"dose_e_per_angstrom2": 10.0, **options}
    with pytest.raises(ValueError, match=message):
        hrtem(jax.random.key(0), side_px=64, **options)


def test_an_element_of_no_crystal_is_refused():
    with pytest.raises(ValueError, match="no scattering factor of element 29: use one of 6, 8"):
        scattering_factor_nm(29, jnp.zeros(3))

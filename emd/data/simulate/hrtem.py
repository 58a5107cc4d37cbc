"""High resolution from atoms: a crystal on amorphous carbon, exposed to a dose of the specimen.

Unlike the kinds of `tem`, which look alike, these have a known structure, magnification and dose in
electrons per square Angstrom, and a detector. One slice: the specimen turns the wave's phase and
the lens does the rest, so crystals thicker than a few nm lack the dynamical scattering that
multislice calculations have.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Complex, Float, PRNGKeyArray

from emd.data.simulate import optics, texture
from emd.data.simulate.crystals import CRYSTALS, Crystal, places, scattering_factor_nm
from emd.data.simulate.detector import IDEAL, Detector, Simulated, detect, poisson
from emd.data.simulate.optics import Microscope, Scalar

CORRECTED = Microscope(
    kv=300.0,
    cs_mm=-0.013,
    defocus_nm=-6.0,
    focal_spread_nm=3.0,
    convergence_mrad=0.1,
    pixel_nm=0.02,
)
"""A corrected microscope at which atoms are bright. Source: Jia, Lentzen and Urban, Microscopy and
Microanalysis 10 (2004) 174: negative Cs against a small overfocus."""

_CARBON = 6
_CARBON_PER_NM3 = 100.0  # 2.0 g/cm^3
_COARSEST_NM = 0.08  # a pixel, beyond which the finest lattice planes are lost
_FINE_NM = 0.01  # of the grid of the wave: on a coarser one heavy columns turn it beyond Nyquist
_TOGETHER = 4096  # columns, for a bound on memory
_REST_KV = 510.99895
_poisson = jax.jit(poisson)  # compiled once for each size


def exit_wave(
    phase: Float[Array, "h w"], amplitude_contrast: Scalar = 0.0
) -> Complex[Array, "h w"]:
    """The wave, 1 before the specimen, behind one that turns its phase by so many radians.

    A share of amplitude contrast is absorption in proportion to the phase.

    Source: Kirkland, chapter 5: exp(i sigma v), whose first order `optics.weak_phase_image` takes.
    """
    share = jnp.asarray(amplitude_contrast)
    return jnp.exp((1j * jnp.sqrt(1 - share**2) - share) * phase)


@jax.jit
def wave_image(wave: Complex[Array, "h w"], microscope: Microscope) -> Float[Array, "h w"]:
    """Intensity of a wave through the lens; its mean is the wave's, as no electron is lost.

    The wave is square and periodic.

    Source: Kirkland, section 3.2: quasi-coherent, envelopes damp the wave.
    Deviation: what the envelopes take from the mean intensity is given back evenly. So it is in the
    theory of partial coherence, where the image's zero frequency is never damped.
    """
    side_px = wave.shape[0]
    rows = jnp.fft.fftfreq(side_px)
    k = jnp.hypot(rows[:, None], rows[None, :]) / microscope.pixel_nm
    wavelength_pm = optics.electron_wavelength_pm(microscope.kv)
    lens = {
        "defocus_nm": microscope.defocus_nm,
        "cs_mm": microscope.cs_mm,
        "wavelength_pm": wavelength_pm,
    }
    damping = optics.envelope(
        k,
        focal_spread_nm=microscope.focal_spread_nm,
        convergence_mrad=microscope.convergence_mrad,
        **lens,
    )
    transfer = damping * jnp.exp(-1j * optics.aberration(k, **lens))
    seen = jnp.abs(jnp.fft.ifft2(jnp.fft.fft2(wave) * transfer)) ** 2
    return seen + (jnp.mean(jnp.abs(wave) ** 2) - seen.mean())


@partial(jax.jit, static_argnames="atomic_number")
def _phase(
    atoms: Complex[Array, "h f"], atomic_number: int, microscope: Microscope
) -> Float[Array, "h w"]:
    """Phase in radians by atoms whose places have this Fourier transform.

    Source: Kirkland, chapter 5: sigma times the projected potential is gamma lambda f_e.
    """
    side_px = atoms.shape[0]
    factor = scattering_factor_nm(atomic_number, optics.frequency(side_px, microscope.pixel_nm))
    gamma = 1 + microscope.kv / _REST_KV
    strength = gamma * 1e-3 * optics.electron_wavelength_pm(microscope.kv) / microscope.pixel_nm**2
    return jnp.fft.irfft2(atoms * strength * factor, s=(side_px, side_px))


def _transform(
    places_px: Float[np.ndarray, "k 2"], atoms: Float[np.ndarray, " k"], side_px: int
) -> Complex[np.ndarray, "h f"]:
    """`rfft2` of so many atoms at places between the pixels: summed, so that nothing aliases."""
    total = np.zeros((side_px, side_px // 2 + 1), np.complex64)
    for start in range(0, len(atoms), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        y, x = places_px[part].T
        down = np.exp(-2j * np.pi * np.outer(np.fft.fftfreq(side_px), y)).astype(np.complex64)
        right = np.exp(-2j * np.pi * np.outer(x, np.fft.rfftfreq(side_px))).astype(np.complex64)
        total += (down * atoms[part].astype(np.float32)) @ right
    return total


def crystal_phase(
    crystal: Crystal,
    microscope: Microscope,
    *,
    side_px: int,
    thickness_nm: float,
    radius_nm: float = math.inf,
    turn: float = 0.0,
    offset: tuple[float, float] = (0.0, 0.0),
) -> Float[Array, "h w"]:
    """Phase in radians by which a crystal turns the wave: a plate, or a ball cut to a plate.

    Args:
        crystal: one of `CRYSTALS`.
        microscope: voltage and pixel size are taken.
        side_px: of the square, which is taken as periodic; columns beyond it are left out.
        thickness_nm: of the plate; at least one period is taken.
        radius_nm: of the ball, in the middle; infinite for a plate that fills the square.
        turn: rotation about the beam, radians.
        offset: of the cell's corner from the middle, shares of its height and width.
    """
    pixel_nm = float(microscope.pixel_nm)
    phase = jnp.zeros((side_px, side_px))
    found = places(crystal, reach_nm=side_px * pixel_nm / 2, turn=turn, offset=offset)
    thickness_nm = max(thickness_nm, crystal.period_nm)
    for element, nm in found.items():
        chord = np.full(len(nm), math.inf)
        if math.isfinite(radius_nm):
            chord = 2 * np.sqrt(np.maximum(radius_nm**2 - (nm**2).sum(axis=1), 0))
        atoms = np.minimum(chord, thickness_nm) / crystal.period_nm
        transform = _transform(nm / pixel_nm + (side_px - 1) / 2, atoms, side_px)
        phase = phase + _phase(jnp.asarray(transform), element, microscope)
    return phase


def carbon_phase(
    key: PRNGKeyArray, microscope: Microscope, *, side_px: int, thickness_nm: Scalar
) -> Float[Array, "h w"]:
    """Phase in radians by which a film of amorphous carbon turns the wave.

    Deviation: atoms lie anywhere, also on one another, so that the film is grainier at low
    frequencies than carbon, whose atoms keep their distance.
    """
    mean = _CARBON_PER_NM3 * thickness_nm * microscope.pixel_nm**2
    numbers = _poisson(key, jnp.full((side_px, side_px), mean, jnp.float32))
    return _phase(jnp.fft.rfft2(numbers), _CARBON, microscope)


@partial(jax.jit, static_argnames="times")
def coarser(image: Float[Array, "h w"], times: int) -> Float[Array, "H W"]:
    """The square, periodic image in pixels so many times as wide, its finer frequencies left out.

    A pixel's middle lies in the middle of those that it is made of.
    """
    fine_px = image.shape[0]
    side_px = fine_px // times
    near = np.fft.fftfreq(side_px, 1 / side_px).astype(np.int32)
    ahead = np.exp(1j * np.pi * near * (times - 1) / fine_px).astype(np.complex64)
    kept = jnp.fft.fft2(image)[np.ix_(near, near)] * np.outer(ahead, ahead)
    return jnp.fft.ifft2(kept).real / times**2


def hrtem(
    key: PRNGKeyArray,
    *,
    side_px: int,
    dose_e_per_angstrom2: float,
    crystal: str | None = "Au [110]",
    thickness_nm: float = 3.0,
    radius_nm: float = math.inf,
    carbon_nm: float = 3.0,
    microscope: Microscope = CORRECTED,
    detector: Detector = IDEAL,
) -> Simulated:
    """One exposure (n = 1) of a crystal on carbon, at a random turn and place.

    A pixel gets dose x its area electrons where there is no specimen, and the same in the mean over
    a specimen that does not absorb. The wave behind heavy columns holds frequencies far beyond a
    pixel's, which the lens mixes with others, so it is computed on a grid of 0.01 nm or finer; the
    pixels then have what they can hold of the image's frequencies. `clean` is what the detector
    reads in the mean, in counts.

    Args:
        key: turn, place, carbon and noise.
        side_px: of the square image.
        dose_e_per_angstrom2: electrons per square Angstrom of the specimen.
        crystal: a name in `CRYSTALS`; None for carbon alone.
        thickness_nm: of the crystal; at least one period, for graphene one layer.
        radius_nm: of a particle in the middle; infinite for a crystal that fills the image.
        carbon_nm: thickness of the film; 0 for none.
        microscope: the lens and the pixel size.
        detector: what reads the electrons.

    Raises:
        ValueError: unknown crystal; a dose that is not positive; pixels that are too large.
    """
    pixel_nm = float(microscope.pixel_nm)
    _check(crystal, dose_e_per_angstrom2, pixel_nm)
    carbon_key, place_key, noise_key = jax.random.split(key, 3)
    times = 1 if crystal is None else math.ceil(pixel_nm / _FINE_NM)
    fine = microscope._replace(pixel_nm=pixel_nm / times)
    fine_px = times * (side_px + 2 * max(16, side_px // 8))
    phase = carbon_phase(carbon_key, fine, side_px=fine_px, thickness_nm=carbon_nm)
    if crystal is not None:
        turn, *offset = np.asarray(jax.random.uniform(place_key, (3,)), np.float64).tolist()
        phase = phase + crystal_phase(
            CRYSTALS[crystal],
            fine,
            side_px=fine_px,
            thickness_nm=thickness_nm,
            radius_nm=radius_nm,
            turn=2 * math.pi * turn,
            offset=(offset[0], offset[1]),
        )
    image = wave_image(exit_wave(phase, fine.amplitude_contrast), fine)
    image = jnp.maximum(coarser(image, times), 0.0)  # few frequencies may overshoot
    electrons = dose_e_per_angstrom2 * (10 * pixel_nm) ** 2 * image
    drawn = detect(noise_key, electrons, detector)
    return Simulated(*(texture.crop(frame[0], side_px)[None] for frame in drawn))


def _check(crystal: str | None, dose_e_per_angstrom2: float, pixel_nm: float) -> None:
    if crystal is not None and crystal not in CRYSTALS:
        raise ValueError(f"unknown crystal {crystal!r}: use one of {', '.join(CRYSTALS)}")
    if not 0 < dose_e_per_angstrom2 < math.inf:
        raise ValueError(
            f"dose is {dose_e_per_angstrom2}: give electrons per square Angstrom, above 0"
        )
    if crystal is not None and not 0 < pixel_nm <= _COARSEST_NM:
        raise ValueError(
            f"pixel_nm is {pixel_nm}: lattice planes need pixels of at most {_COARSEST_NM} nm"
        )

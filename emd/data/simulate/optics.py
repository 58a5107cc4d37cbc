"""The electron optics of the simulator: wavelength, aberrations, coherence, weak-phase imaging.

Owns every formula of transmission imaging, so that tests can hold simulated micrographs to them.
Lengths are nm, spatial frequencies 1/nm; wavelengths are pm, spherical aberration mm and voltages
kV, as microscopists quote them.

Source: Kirkland, Advanced Computing in Electron Microscopy, chapters 2 and 3.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

Scalar = int | float | Float[Array, ""]

_PLANCK = 6.62607015e-34  # J s
_CHARGE = 1.602176634e-19  # C
_MASS = 9.1093837015e-31  # kg
_LIGHT = 2.99792458e8  # m/s


class Microscope(NamedTuple):
    """How a transmission microscope stands: voltage, aberrations, coherence and magnification.

    Attributes:
        kv: acceleration voltage, kV.
        cs_mm: spherical aberration, mm.
        defocus_nm: underfocus is positive, nm.
        focal_spread_nm: standard deviation of the defocus over time, nm.
        convergence_mrad: semi-angle of the illumination, mrad.
        pixel_nm: side of a pixel at the specimen, nm.
        amplitude_contrast: share of the contrast that is absorption, 0 to 1.
    """

    kv: Scalar
    cs_mm: Scalar
    defocus_nm: Scalar
    focal_spread_nm: Scalar
    convergence_mrad: Scalar
    pixel_nm: Scalar
    amplitude_contrast: Scalar = 0.0


def electron_wavelength_pm(kv: Scalar) -> Float[Array, ""]:
    """Relativistic wavelength in pm of electrons accelerated by `kv` kilovolts (300 kV: 1.969 pm).

    Source: de Broglie, with E = eV + mc^2; written in units of mc^2 to stay within float32.
    """
    rest_kv = _MASS * _LIGHT**2 / _CHARGE / 1e3
    hc_kv_pm = _PLANCK * _LIGHT / _CHARGE / 1e3 * 1e12
    return hc_kv_pm / jnp.sqrt(jnp.asarray(kv * (2 * rest_kv + kv), jnp.float32))


def frequency(side_px: int, pixel_nm: Scalar) -> Float[Array, "h f"]:
    """Spatial frequency in 1/nm of every coefficient of `jnp.fft.rfft2` of a square image."""
    rows = jnp.fft.fftfreq(side_px)[:, None]
    columns = jnp.fft.rfftfreq(side_px)[None, :]
    return jnp.sqrt(rows**2 + columns**2) / pixel_nm


def aberration(
    frequency: Float[Array, "*k"], *, defocus_nm: Scalar, cs_mm: Scalar, wavelength_pm: Scalar
) -> Float[Array, "*k"]:
    """Aberration phase chi in radians at frequencies in 1/nm; underfocus is positive.

    Source: Kirkland, equation 3.1: chi = pi lambda k^2 (Cs lambda^2 k^2 / 2 - defocus).
    """
    wavelength_nm = wavelength_pm * 1e-3
    square = frequency**2
    curvature = 0.5e6 * cs_mm * wavelength_nm**2 * square
    return jnp.pi * wavelength_nm * square * (curvature - defocus_nm)


def contrast_transfer(
    frequency: Float[Array, "*k"],
    *,
    defocus_nm: Scalar,
    cs_mm: Scalar,
    wavelength_pm: Scalar,
    amplitude_contrast: Scalar = 0.0,
) -> Float[Array, "*k"]:
    """Coherent transfer in [-1, 1]: sin(chi) for a phase object, at frequencies in 1/nm.

    Negative at underfocus and low frequency: atoms look dark. A share of amplitude contrast adds
    -cos(chi), as absorption does.
    """
    chi = aberration(frequency, defocus_nm=defocus_nm, cs_mm=cs_mm, wavelength_pm=wavelength_pm)
    share = jnp.asarray(amplitude_contrast)
    return jnp.sqrt(1 - share**2) * jnp.sin(chi) - share * jnp.cos(chi)


def envelope(
    frequency: Float[Array, "*k"],
    *,
    defocus_nm: Scalar,
    cs_mm: Scalar,
    wavelength_pm: Scalar,
    focal_spread_nm: Scalar,
    convergence_mrad: Scalar,
) -> Float[Array, "*k"]:
    """Damping in [0, 1] by partial coherence: focal spread (time) times convergence (space).

    Source: Kirkland, section 3.2 (quasi-coherent form, without the cross term).
    """
    wavelength_nm = wavelength_pm * 1e-3
    temporal = 0.5 * (jnp.pi * wavelength_nm * focal_spread_nm * frequency**2) ** 2
    slope = 1e6 * cs_mm * wavelength_nm**2 * frequency**3 - defocus_nm * frequency
    spatial = (jnp.pi * convergence_mrad * 1e-3 * slope) ** 2
    return jnp.exp(-temporal - spatial)


def weak_phase_image(phase: Float[Array, "h w"], microscope: Microscope) -> Float[Array, "h w"]:
    """Intensity of a weak phase object, incident beam 1: 1 + 2 phase x transfer, in Fourier space.

    `phase` is in radians, square and periodic. Contrast that the linear theory would carry below
    zero is cut at zero.
    """
    side_px = phase.shape[0]
    wavelength_pm = electron_wavelength_pm(microscope.kv)
    k = frequency(side_px, microscope.pixel_nm)
    transfer = contrast_transfer(
        k,
        defocus_nm=microscope.defocus_nm,
        cs_mm=microscope.cs_mm,
        wavelength_pm=wavelength_pm,
        amplitude_contrast=microscope.amplitude_contrast,
    ) * envelope(
        k,
        defocus_nm=microscope.defocus_nm,
        cs_mm=microscope.cs_mm,
        wavelength_pm=wavelength_pm,
        focal_spread_nm=microscope.focal_spread_nm,
        convergence_mrad=microscope.convergence_mrad,
    )
    contrast = jnp.fft.irfft2(jnp.fft.rfft2(phase) * transfer, s=phase.shape)
    return jnp.maximum(1 + 2 * contrast, 0.0)

"""What others have published on the same lattices: figures cited, none of them measured here."""

from __future__ import annotations

from experiments.dose import fields

U_NET = "U-Net of 263 k weights"
"""The network of the published table, trained on its own lattices."""

PSNR: dict[str, tuple[float, ...]] = {
    "no denoising": (8.52, 13.69, 17.19, 20.43, 24.54, 29.42, 34.64),
    "Gaussian": (20.19, 23.51, 25.33, 27.73, 30.23, 33.46, 36.00),
    "NLM": (15.52, 19.72, 23.01, 25.96, 29.36, 32.81, 36.74),
    "wavelet": (18.24, 20.87, 23.41, 25.79, 28.33, 31.58, 36.06),
    U_NET: (27.86, 31.84, 34.57, 37.32, 41.09, 44.92, 48.36),
}
"""PSNR on the hexagonal lattice [dB], at each of `fields.DOSES`."""


def psnr(name: str, dose: float) -> float:
    """Return a published PSNR on the hexagonal lattice [dB].

    Raises:
        ValueError: none is published of that name or dose.
    """
    if name not in PSNR or dose not in fields.DOSES:
        raise ValueError(f"nothing is published of {name} at dose {dose:g}")
    return PSNR[name][fields.DOSES.index(dose)]

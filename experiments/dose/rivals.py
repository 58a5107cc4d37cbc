"""Classical denoisers: as their libraries give them, and with a parameter chosen for the dose.

As they are, they get the image scaled to [0, 1], whatever its noise. Tuned, they work inside the
transform that gives counts noise of standard deviation 1 (`experiments.dose.anscombe`), but for the
Gaussian, which is linear; the parameter is the one of highest PSNR on fields for tuning.

Their libraries come with `pip install 'emd-micrograph[bench]'`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage, signal

from experiments.benchmark import peers
from experiments.dose import anscombe
from experiments.dose.samples import Sample

Image = Float[np.ndarray, "h w"]
Parameter = tuple[float, ...]


class Rival(NamedTuple):
    """A classical denoiser.

    Attributes:
      name: in tables.
      how: its parameters, in words.
      grid: values of its parameters that are tried.
      tuned: the image restored with such values.
      plain: an image in [0, 1] restored with its library's own values.
      on_counts: whether the tuned form works on counts rather than inside the transform.
    """

    name: str
    how: str
    grid: tuple[Parameter, ...]
    tuned: Callable[[Image, Parameter], Image]
    plain: Callable[[Image], Image]
    on_counts: bool = False


def ready() -> None:
    """Check that the libraries are installed.

    Raises:
        ValueError: one is not; the message says what brings it.
    """
    try:
        for name in ("skimage.restoration", "cv2", "pywt", "bm3d"):
            peers.library(name)
    except peers.MissingLibraryError as error:
        raise ValueError(str(error)) from None


def versions() -> str:
    """Return the versions of the libraries."""
    names = ("bm3d", "opencv-python-headless", "PyWavelets", "scikit-image", "scipy")
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


def restore(rival: Rival, noisy: Image, parameter: Parameter, *, readout: float) -> Image:
    """Return counts restored by a rival with these parameters."""
    if rival.on_counts:
        return rival.tuned(noisy.astype(np.float64), parameter)
    stable = anscombe.forward(noisy, readout=readout)
    return anscombe.inverse(rival.tuned(stable, parameter), readout=readout)


def restore_plainly(rival: Rival, noisy: Image) -> Image:
    """Return an image restored by a rival's own values, which are for images in [0, 1]."""
    low, span = float(noisy.min()), float(np.ptp(noisy)) or 1.0
    unit = (noisy.astype(np.float64) - low) / span
    return low + span * rival.plain(unit).astype(np.float64)


def tune(rival: Rival, samples: Sequence[Sample]) -> Parameter:
    """Return the parameters of highest mean PSNR on samples.

    Raises:
        ValueError: there are no samples.
    """
    if not samples:
        raise ValueError(f"{rival.name}: give at least one field to tune it on")
    return max(rival.grid, key=lambda parameter: _merit(rival, samples, parameter))


def _merit(rival: Rival, samples: Sequence[Sample], parameter: Parameter) -> float:
    """The mean PSNR less what does not depend on the parameter."""
    errors = [
        np.mean(
            (restore(rival, s.noisy, parameter, readout=s.readout) - s.truth.astype(np.float64))
            ** 2
        )
        for s in samples
    ]
    return -float(np.mean(np.log(errors)))


def _steps(low: float, high: float, count: int) -> tuple[Parameter, ...]:
    """Values of one parameter, at equal ratios."""
    return tuple((float(f"{value:.3g}"),) for value in np.geomspace(low, high, count))


def _restoration() -> Any:
    return peers.library("skimage.restoration")


def _cv2() -> Any:
    return peers.library("cv2")


# --- each of them ---------------------------------------------------------------------------------


def _gaussian(image: Image, parameter: Parameter) -> Image:
    return ndimage.gaussian_filter(image, parameter[0])


def _median(image: Image, parameter: Parameter) -> Image:
    return ndimage.median_filter(image, int(parameter[0]))


def _bilateral(image: Image, parameter: Parameter) -> Image:
    color, space = parameter
    reach = int(np.ceil(2 * space))
    return _cv2().bilateralFilter(image.astype(np.float32), 2 * reach + 1, color, space)


def _wiener(image: Image, parameter: Parameter) -> Image:
    side, noise = parameter
    return np.asarray(signal.wiener(image, int(side), noise=noise))


def _chambolle(image: Image, parameter: Parameter) -> Image:
    return _restoration().denoise_tv_chambolle(image, weight=parameter[0])


def _bregman(image: Image, parameter: Parameter) -> Image:
    return _restoration().denoise_tv_bregman(image, weight=parameter[0])


def _wavelet(image: Image, parameter: Parameter) -> Image:
    return _restoration().denoise_wavelet(
        image, sigma=parameter[0], wavelet="db2", mode="soft", method="BayesShrink"
    )


def _nlm(image: Image, parameter: Parameter) -> Image:
    return _restoration().denoise_nl_means(
        image, patch_size=5, patch_distance=6, h=parameter[0], fast_mode=True, sigma=1.0
    )


def _bm3d(image: Image, parameter: Parameter) -> Image:
    return peers.library("bm3d").bm3d(image, parameter[0])


def _bm3d_plain(image: Image) -> Image:
    # the only one without a value of its own: the noise is estimated
    return peers.library("bm3d").bm3d(image, float(_restoration().estimate_sigma(image)))


RIVALS: tuple[Rival, ...] = (
    Rival(
        "Gaussian", "sigma [px]", _steps(0.4, 5.0, 24), _gaussian,
        lambda x: _cv2().GaussianBlur(x, (3, 3), 0), on_counts=True,
    ),
    Rival(
        "median", "side [px]", ((3.0,), (5.0,), (7.0,), (9.0,)), _median,
        lambda x: ndimage.median_filter(x, 3),
    ),
    Rival(
        "bilateral", "sigma of intensity, sigma [px]",
        tuple(itertools.product((2.0, 3.0, 4.0, 6.0, 9.0, 14.0), (0.5, 0.7, 1.0, 1.5, 2.0))),
        _bilateral, lambda x: _cv2().bilateralFilter(x.astype(np.float32), 9, 75, 75),
    ),
    Rival(
        "Wiener", "side [px], variance of the noise",
        tuple(itertools.product((3.0, 5.0, 7.0), (1.0, 1.5, 2.0, 3.0, 4.0, 6.0))),
        _wiener, lambda x: np.asarray(signal.wiener(x)),
    ),
    Rival(
        "TV Chambolle", "weight", _steps(0.1, 4.0, 14), _chambolle,
        lambda x: _restoration().denoise_tv_chambolle(x),
    ),
    Rival(
        "TV Bregman", "weight", _steps(0.1, 4.0, 14), _bregman,
        lambda x: _restoration().denoise_tv_bregman(x, weight=0.1),
    ),
    Rival(
        "wavelet", "sigma of the noise", _steps(0.6, 4.0, 16), _wavelet,
        lambda x: _restoration().denoise_wavelet(x),
    ),
    Rival(
        "NLM", "h", _steps(0.4, 4.0, 14), _nlm, lambda x: _restoration().denoise_nl_means(x),
    ),
    Rival(
        "BM3D", "sigma of the noise", ((0.85,), (1.0,), (1.2,), (1.5,), (1.9,), (2.5,)),
        _bm3d, _bm3d_plain,
    ),
)  # fmt: skip
"""All of them, the cheapest first. Bregman's weight is of the data, the reverse of Chambolle's."""

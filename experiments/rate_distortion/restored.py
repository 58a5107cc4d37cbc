"""Other codecs after denoising: they are given what the denoiser that ours can use makes of it.

So that what the codec brings is told apart from what the denoiser brings.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

from emd.fit import Fit, fit
from emd.restore import denoise
from experiments.rate_distortion.images import Image

SUFFIX = " denoised"
CODECS = ("JPEG 2000", "JPEG XL")
"""Those that are tried so."""


def restored(image: Image) -> Float[np.ndarray, "h w"]:
    """Return an image restored by the kernel fitted to it, or itself if that would harm it.

    As floats, not rounded to counts: few counts a pixel hold no restored image.
    """
    counts = image.pixels.astype(np.float32)
    found = fit(counts, name="fit")
    return denoise(counts, found.model) if _is_useful(found) else counts


def may_denoise(pixels: Shaped[np.ndarray, "h w"]) -> bool:
    """Return whether a kernel fitted to an image may be used."""
    return _is_useful(fit(pixels, name="fit"))


def _is_useful(found: Fit) -> bool:
    return found.verdict != "do not use"

"""The transform that gives counts noise of one standard deviation, and its unbiased inverse.

Denoisers made for white Gaussian noise are fair rivals only inside it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_ZERO = 2 * np.sqrt(3 / 8)  # where the closed form without readout is 0; below, it turns up again


def forward(counts: Float[np.ndarray, "h w"], *, readout: float) -> Float[np.ndarray, "h w"]:
    """Return counts with noise of standard deviation 1, nearly, from some 3 counts on.

    Args:
        counts: Poisson of any mean, plus normal noise.
        readout: standard deviation of the latter in counts.

    Source: the generalised transform of Murtagh, Starck and Bijaoui (Astronomy and Astrophysics
    Supplement 112 (1995) 179) for gain 1.
    """
    lifted = counts.astype(np.float64) + 3 / 8 + readout**2
    return np.asarray(2 * np.sqrt(np.maximum(lifted, 0)))


def inverse(stable: Float[np.ndarray, "h w"], *, readout: float) -> Float[np.ndarray, "h w"]:
    """Return the expected counts of which transformed counts have this mean, at least 0.

    The mean of a root is not the root of the mean: squaring alone would be biased at low counts.

    Source: Makitalo and Foi, IEEE Transactions on Image Processing 20 (2011) 2697, equation 10, and
    22 (2013) 91, equation 13: the exact unbiased inverse in closed form.
    """
    d = np.maximum(stable.astype(np.float64), _ZERO)
    root = np.sqrt(3 / 2)
    series = d**2 / 4 + root / 4 / d - 11 / 8 / d**2 + 5 / 8 * root / d**3 - 1 / 8
    return np.asarray(np.maximum(series - readout**2, 0))

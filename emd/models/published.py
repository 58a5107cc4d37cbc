"""The kernels that the paper prints in its appendix, the only surviving weights of its authors.

Each is its free weights, centre first, in the order of ``symmetry.orbits``. They are as printed,
to three decimals, with one repair: the last entry of row 2 of the TEM+STEM 11x11 kernel reads "1"
in the paper and is -0.003 by symmetry.

That kernel sums to 1.159 where the others sum to 0.985 to 1.057; its four entries 0.017 at the
edges' centres may have lost a minus sign (it would then sum to 1.023). They are kept as printed.

Source: paper, section 6.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_WEIGHTS: dict[tuple[str, int], str] = {
    ("tem", 3): "0.218 0.135 0.064",
    ("tem", 5): "0.220 0.157 0.107 0.030 -0.001 -0.084",
    ("tem", 7): "0.204 0.153 0.114 0.058 0.035 -0.009 -0.018 -0.025 -0.038 -0.039",
    ("tem", 11): (
        "0.202 0.152 0.111 0.059 0.035 -0.007 -0.001 -0.010 -0.022 -0.015 -0.014 "
        "-0.015 -0.013 -0.001 0.009 -0.006 -0.006 -0.005 0.001 0.000 -0.017"
    ),
    ("stem", 3): "0.109 0.111 0.108",
    ("stem", 5): "0.089 0.089 0.057 0.040 0.026 0.004",
    ("stem", 7): "0.089 0.071 0.057 0.035 0.026 0.007 0.012 0.007 -0.004 -0.016",
    ("stem", 11): (
        "0.089 0.070 0.055 0.038 0.029 0.012 0.013 0.007 -0.001 -0.010 0.005 "
        "-0.001 -0.007 -0.009 -0.006 0.002 0.000 -0.002 -0.001 0.003 0.012"
    ),
    ("temstem", 3): "0.149 0.124 0.093",
    ("temstem", 5): "0.142 0.116 0.091 0.042 0.016 -0.061",
    ("temstem", 7): "0.127 0.110 0.095 0.063 0.052 0.016 0.001 -0.008 -0.037 -0.077",
    ("temstem", 11): (
        "0.123 0.105 0.088 0.062 0.050 0.021 0.025 0.017 -0.001 -0.011 0.001 "
        "-0.004 -0.013 -0.013 -0.008 0.017 -0.019 -0.022 -0.015 -0.003 0.005"
    ),
}

WIDTHS = (3, 5, 7, 11)
"""Widths that are printed, for each of the three domains."""


def weights(domain: str, width: int) -> Float[np.ndarray, " free"]:
    """Return the free weights of a published kernel.

    Raises:
        ValueError: the paper prints no kernel of that domain and width.
    """
    if (domain, width) not in _WEIGHTS:
        known = ", ".join(f"{d} {w}" for d, w in _WEIGHTS)
        raise ValueError(f"no published kernel {domain} {width}: the paper prints {known}")
    return np.array(_WEIGHTS[domain, width].split(), np.float32)

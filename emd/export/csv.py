"""Kernels as comma-separated rows of numbers: for a spreadsheet, `numpy.loadtxt`, MATLAB.

Of kernels alone: a perceptron is several arrays of unlike shape, which `npz` holds by name.
"""

from __future__ import annotations

import numpy as np

from emd.checkpoint import Model
from emd.models.pixelwise import kernel_matrix


def render(model: Model) -> bytes:
    """The kernel's rows, each number with all the digits that float32 has."""
    matrix = np.asarray(kernel_matrix(model.variables["params"]))
    rows = (",".join(np.format_float_positional(w, trim="0") for w in row) for row in matrix)
    return "".join(f"{row}\n" for row in rows).encode("ascii")

"""Kernels for Fiji and ImageJ: the text of Process > Filters > Convolve...

The dialogue takes rows of numbers and nothing else. Convert the image to 32-bit first, and untick
"Normalize Kernel", which would divide by the kernel's sum and so change contrast. What comes out
then differs from `emd.restore` by one constant, since `emd` keeps the mean, and in the outermost
half window, since ImageJ repeats the border's pixels where `emd` reflects the image.
"""

from __future__ import annotations

import numpy as np

from emd.checkpoint import Model
from emd.models.pixelwise import kernel_matrix


def render(model: Model) -> bytes:
    """The kernel's rows, numbers apart by a space, each with all the digits that float32 has."""
    matrix = np.asarray(kernel_matrix(model.variables["params"]))
    rows = (" ".join(np.format_float_positional(w, trim="0") for w in row) for row in matrix)
    return "".join(f"{row}\n" for row in rows).encode("ascii")

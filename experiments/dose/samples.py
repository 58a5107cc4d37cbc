"""What a denoiser is given, and the truth, or what stands for it, to hold its answer against."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Columns(NamedTuple):
    """The atom columns of a field.

    Attributes:
      positions_px: of each, (row, column), some beyond the border.
      weights: peak of each, the brightest 1; 0 for a vacancy.
      spacing_px: the length that detection goes by.
      probe_px: standard deviation of a column's Gaussian.
    """

    positions_px: Float[np.ndarray, "k 2"]
    weights: Float[np.ndarray, " k"]
    spacing_px: float
    probe_px: float


class Sample(NamedTuple):
    """One exposure.

    Attributes:
      noisy: counts as the detector gives them, Poisson and then normal.
      truth: expected counts; where nobody knows them, the mean of the references.
      readout: standard deviation of the normal noise in counts.
      columns: where they are known.
      references: other exposures of the same place, where the truth is not known.
    """

    noisy: Float[np.ndarray, "h w"]
    truth: Float[np.ndarray, "h w"]
    readout: float = 0.0
    columns: Columns | None = None
    references: tuple[Float[np.ndarray, "h w"], ...] = ()

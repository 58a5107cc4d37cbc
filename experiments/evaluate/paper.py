"""Table 3 of the paper as it is printed, and what is known to be wrong with it.

Source: arXiv:1808.09916, table 3: means and standard deviations over the last 500 points of the
learning curves of figures 2 and 4, which are moving averages already, of 5 000 batches for
autoencoders and of 500 for the others.

Its slips: the mean of the TEM kernel of width 15 is printed as 0.000929, a tenth of what its
neighbours lead one to expect (``Cell.read_as``). The autoencoders of depth 32 and 64 for TEM+STEM
differ by one standard deviation, and so tie.
"""

from __future__ import annotations

from typing import NamedTuple

from emd.zoo import ModelConfig

WINDOW = {"autoencoder": 5_000, "kernel": 500, "mlp1": 500, "mlp2": 500}
"""Batches of the paper's moving averages."""

LAST = 500
"""Points at a curve's end that the table summarises."""


class Cell(NamedTuple):
    """A mean and a standard deviation as printed."""

    mean: float
    std: float
    read_as: float | None = None
    """What the mean must have been, where the print slipped."""

    @property
    def likely(self) -> float:
        """The mean, a slip of the print repaired."""
        return self.mean if self.read_as is None else self.read_as


_DOMAINS = ("tem", "stem", "temstem")
_ROWS: dict[tuple[str, int], tuple[Cell | None, Cell | None, Cell | None]] = {
    ("autoencoder", 1): (Cell(0.026422, 0.000033), None, Cell(0.275182, 0.002885)),
    ("autoencoder", 2): (None, None, Cell(0.248378, 0.003710)),
    ("autoencoder", 4): (
        Cell(0.018571, 0.000005), Cell(0.387636, 0.001898), Cell(0.236593, 0.003277),
    ),
    ("autoencoder", 8): (None, None, Cell(0.219717, 0.003008)),
    ("autoencoder", 16): (
        Cell(0.014360, 0.000004), Cell(0.314286, 0.002043), Cell(0.212957, 0.003008),
    ),
    ("autoencoder", 32): (None, None, Cell(0.191258, 0.001654)),
    ("autoencoder", 64): (
        Cell(0.013034, 0.000008), Cell(0.219523, 0.001777), Cell(0.192866, 0.001395),
    ),
    ("kernel", 3): (Cell(0.010822, 0.000288), Cell(0.181633, 0.002732), Cell(0.014224, 0.000436)),
    ("kernel", 5): (Cell(0.009728, 0.000398), Cell(0.177021, 0.002536), Cell(0.014071, 0.000518)),
    ("kernel", 7): (Cell(0.008032, 0.000410), Cell(0.178340, 0.002297), Cell(0.012350, 0.000599)),
    ("kernel", 11): (Cell(0.008217, 0.000191), Cell(0.181634, 0.002163), Cell(0.011783, 0.000908)),
    ("kernel", 15): (
        Cell(0.000929, 0.000522, read_as=0.00929),
        Cell(0.190376, 0.003822), Cell(0.015055, 0.001629),
    ),
    ("mlp1", 3): (Cell(0.007167, 0.000188), Cell(0.057006, 0.000905), Cell(0.011494, 0.000271)),
    ("mlp1", 5): (Cell(0.006934, 0.000128), Cell(0.054407, 0.001163), Cell(0.010921, 0.000334)),
    ("mlp1", 7): (Cell(0.005917, 0.000113), Cell(0.050175, 0.001688), Cell(0.010340, 0.000308)),
    ("mlp1", 11): (None, None, Cell(0.009965, 0.000342)),
    ("mlp2", 3): (None, None, Cell(0.011027, 0.000095)),
    ("mlp2", 5): (Cell(0.006590, 0.000263), None, None),
    ("mlp2", 7): (Cell(0.006614, 0.000247), None, Cell(0.009252, 0.000292)),
}  # fmt: skip

TABLE: dict[str, Cell] = {
    ModelConfig(family, domain, size).name: cell
    for (family, size), cells in _ROWS.items()
    for domain, cell in zip(_DOMAINS, cells, strict=True)
    if cell is not None
}
"""The 43 cells by model name."""

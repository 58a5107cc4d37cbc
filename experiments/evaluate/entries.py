"""What is known of each model without applying it: its card and its learning curve.

A shipped curve holds means over spans of batches, then the last 500 batches as they are. Sums of
whole spans are exact, so moving averages are too, but for the span that a window begins in.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from emd import checkpoint, zoo
from experiments import curves
from experiments.evaluate import paper


class Curve(NamedTuple):
    """A learning curve: the last batch of each span, and the mean MSE of its batches."""

    ends: Float[np.ndarray, " k"]
    mse: Float[np.ndarray, " k"]

    @property
    def counts(self) -> Float[np.ndarray, " k"]:
        """Batches of each span."""
        return np.diff(self.ends, prepend=0)

    def raw(self) -> Float[np.ndarray, " r"]:
        """Return the MSEs of the last 500 batches, each by itself."""
        return self.mse[-paper.LAST :]

    def smoothed(self, window: int) -> Float[np.ndarray, " r"]:
        """Return, at each of the last 500 batches, the mean of the ``window`` up to it."""
        sums = np.cumsum(self.mse * self.counts)
        ends, sums = np.insert(self.ends, 0, 0), np.insert(sums, 0, 0)
        last = self.ends[-paper.LAST :]
        first = np.maximum(last - window, 0)
        gained = np.interp(last, ends, sums) - np.interp(first, ends, sums)
        return gained / (last - first)


class Trend(NamedTuple):
    """How an MSE changes over the end of a curve, as a fraction of its mean there."""

    change: float
    error: float
    """Standard error of the change."""


def standard_error(values: Float[np.ndarray, " n"]) -> float:
    """Return the standard error of the mean of independent values; 0 for a single one."""
    return float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0


class Entry(NamedTuple):
    """One of the paper's models: its facts, none where it is missing, and its curve."""

    config: zoo.ModelConfig
    card: dict[str, str]
    curve: Curve | None
    is_there: bool

    def number(self, fact: str) -> float | None:
        """Return a fact of the card as a number; None where the card has none."""
        try:
            return float(self.card[fact])
        except (KeyError, ValueError):
            return None

    def window(self) -> int:
        """Return the batches of the paper's moving average, scaled to this model's schedule."""
        family = self.config.family
        steps = self.number("batches") or zoo.FULL_SCHEDULE[family]
        return max(1, int(steps * paper.WINDOW[family]) // zoo.FULL_SCHEDULE[family])


def read(root: str | None) -> dict[str, Entry]:
    """Return what a folder of models, or the one that comes along, knows of each of the 45.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    folder = Path(root) if root is not None else checkpoint.shipped()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is no folder of models: name one by --checkpoints, or make it by "
            "python -m experiments.zoo"
        )
    return {config.name: _entry(folder / config.name, config) for config in zoo.PAPER_MODELS}


def _entry(folder: Path, config: zoo.ModelConfig) -> Entry:
    if not checkpoint.is_there(folder):
        return Entry(config, {}, None, is_there=False)
    path = folder / "learning_curve.csv"
    curve = None
    if path.is_file():
        rows = curves.parse(path.read_text())[1]
        curve = Curve(rows[:, 0], rows[:, 1]) if len(rows) else None
    return Entry(config, checkpoint.read_card(folder / "card.md"), curve, is_there=True)


def trend(curve: Curve, *, share: float = 0.1) -> Trend | None:
    """Return how the MSE changed over the last ``share`` of a curve; None for too few points.

    Least squares of a straight line, each span weighted by its batches. Batches are drawn
    independently, so that the residuals give the standard error.
    """
    inside = curve.ends > (1 - share) * curve.ends[-1]
    if inside.sum() < 3:
        return None
    weights, y = curve.counts[inside], curve.mse[inside]
    x = curve.ends[inside] - (weights - 1) / 2  # the middle of the span that y is the mean of
    middle, mean = np.average(x, weights=weights), np.average(y, weights=weights)
    spread = np.sum(weights * (x - middle) ** 2)
    slope = np.sum(weights * (x - middle) * (y - mean)) / spread
    residual = y - mean - slope * (x - middle)
    variance = np.sum(weights * residual**2) / (len(x) - 2)
    reach = share * curve.ends[-1] / mean
    return Trend(float(slope * reach), float(np.sqrt(variance / spread) * reach))

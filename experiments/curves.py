"""Learning curves: written as training goes, thinned for shipping, and drawn as the paper's."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

THINNED = 1000
"""Points that a shipped curve keeps of the whole run, beside its last ``RAW`` batches."""
RAW = 500


Points = Float[np.ndarray, " k"]


class Curve:
    """A learning curve in a CSV file: a row a batch, its number, MSEs, and seconds of training.

    Rows later than a checkpoint that training goes back to are dropped by ``append``.
    """

    def __init__(self, path: str | Path, columns: Sequence[str] = ("mse",)) -> None:
        """Open the curve of a file, with the rows that are there."""
        self.path = Path(path)
        self.header = ",".join(("batch", *columns, "seconds"))
        text = self.path.read_text() if self.path.is_file() else ""
        # a kill may have cut the last line short
        self._text = text[: text.rfind("\n") + 1].splitlines()[1:]
        self._is_whole = text == "\n".join([self.header, *self._text, ""])
        self.seconds = self._before = float(self._text[-1].split(",")[-1]) if self._text else 0.0

    def append(self, first: int, values: Float[np.ndarray, "k ..."], seconds: float) -> None:
        """Add the MSEs of batches ``first`` on; ``seconds`` is this process's training time."""
        self.seconds = self._before + seconds
        kept = len(self._text)
        while kept and int(self._text[kept - 1].split(",")[0]) >= first:
            kept -= 1
        if kept < len(self._text) or not self._is_whole:
            self._text = self._text[:kept]
            self._replace()
        rows = [
            f"{first + i},{','.join(f'{v:.6g}' for v in np.atleast_1d(row))},{self.seconds:.1f}"
            for i, row in enumerate(values)
        ]
        self._text += rows
        with self.path.open("a") as file:
            file.write("\n".join([*rows, ""]))

    def _replace(self) -> None:
        """Make the file anew, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.part")
        temporary.write_text("\n".join([self.header, *self._text, ""]))
        temporary.replace(self.path)
        self._is_whole = True

    def thinned(self) -> str:
        """Return the CSV with means at 1 000 points, then the last 500 batches as they are."""
        return thin("\n".join([self.header, *self._text]))

    def lines(self, names: Sequence[str]) -> dict[str, tuple[Points, Points]]:
        """Return (batches, MSEs) of each MSE column under new names, for ``draw``."""
        rows = parse("\n".join([self.header, *self._text]))[1]
        return {name: (rows[:, 0], rows[:, 1 + i]) for i, name in enumerate(names)}

    def last(self, count: int = RAW) -> Float[np.ndarray, "k c"]:
        """Return the MSEs of the last ``count`` batches."""
        rows = [[float(v) for v in line.split(",")[1:-1]] for line in self._text[-count:]]
        return np.array(rows).reshape(len(rows), self.header.count(",") - 1)


def thin(text: str) -> str:
    """Return a curve's CSV with means over equal spans before its last 500 batches."""
    names, rows = parse(text)
    head, tail = rows[:-RAW], rows[-RAW:]
    spans = np.array_split(head, THINNED) if len(head) > THINNED else [row[None] for row in head]
    # batch and seconds are those of a span's end, the MSEs its mean
    merged = [
        np.concatenate([span[-1:, 0], span[:, 1:-1].mean(0), span[-1:, -1]]) for span in spans
    ]
    lines = [
        f"{int(row[0])},{','.join(f'{v:.6g}' for v in row[1:-1])},{row[-1]:.1f}"
        for row in [*merged, *tail]
    ]
    return "\n".join([",".join(names), *lines]) + "\n"


def parse(text: str) -> tuple[list[str], Float[np.ndarray, "rows columns"]]:
    """Return the column names and values of a curve's CSV."""
    names = text.splitlines()[0].split(",")
    rows = np.loadtxt(io.StringIO(text), delimiter=",", skiprows=1, ndmin=2)
    return names, rows.reshape(-1, len(names))


def select(text: str, name: str) -> str:
    """Return a curve's CSV with one of its MSE columns, renamed ``mse``."""
    column = text.splitlines()[0].split(",").index(name)
    rows = [line.split(",") for line in text.splitlines()[1:]]
    lines = [",".join((row[0], row[column], row[-1])) for row in rows]
    return "\n".join(["batch,mse,seconds", *lines]) + "\n"


def moving_mean(values: Float[np.ndarray, " k"], window: int) -> Float[np.ndarray, " k"]:
    """Return the mean of each value and up to ``window`` - 1 before it."""
    sums = np.cumsum(np.insert(values, 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def draw(
    path: str | Path,
    lines: Mapping[str, tuple[Points, Points]],
    *,
    window: int,
    title: str,
) -> None:
    """Draw named (batches, MSEs) as moving means on a log axis, as the paper's Figs. 2 and 4.

    Raises:
        ValueError: matplotlib is not installed.
    """
    figure = figure_type()(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, (batches, values) in lines.items():
        axes.plot(batches, moving_mean(np.asarray(values), window), label=name, linewidth=1.2)
    axes.set(xlabel="batch", ylabel=f"MSE, mean of {window} batches", yscale="log", title=title)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    save_figure(figure, Path(path))


def figure_type() -> Any:
    """Return matplotlib's ``Figure``, which comes with an extra.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("pictures need matplotlib: pip install 'emd-micrograph[plot]'") from None
    return Figure


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    partial = path.with_name(f".{path.name}.part")
    try:
        figure.savefig(partial, dpi=150, format="png")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

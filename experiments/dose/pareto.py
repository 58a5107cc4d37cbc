"""Quality against time: `results/dose.png` and `.pdf`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.dose import cases, contestants, fields, published
from experiments.dose.records import TIME, number
from experiments.evaluate.rows import Row
from experiments.figures import style

DOSES = (2.0, 10.0, 50.0)
_LABEL_DECADES = 0.5  # of time: the width of a label
_LOOKS: dict[str, tuple[str, str, str]] = {
    contestants.DEFAULT: (style.SKY, "x", "rivals, defaults"),
    contestants.TUNED: (style.BLACK, "s", "rivals, tuned"),
    contestants.OURS: (style.VERMILION, "o", "ours"),
    contestants.TAILORED: (style.VERMILION, "^", "ours, of these lattices alone"),
}
_CAPTION = """\
PSNR of restored lattices against the expected counts, over seconds a megapixel on one core; up
and to the left is better. The line joins what nothing quicker equals, but for those that learnt of
these lattices alone. Grey: no denoising. Blue:
the published PSNR of a U-Net trained on these lattices alone, at the time that a network of its
size takes here where PyTorch is installed. Dose: counts at the peak of a lone bright column."""


def draw(rows: Sequence[Row], output: Path, name: str) -> int:
    """Return how many bytes the picture takes, having drawn it.

    Raises:
        ValueError: matplotlib is not installed.
    """
    with style.settings():
        figure = style.new(5.6, layout="constrained")
        style.frame(figure, "Quality and time", _CAPTION, head_in=0.5)
        panels = figure.subplots(len(fields.USUAL), len(DOSES), sharex=True)
        handles: dict[str, Any] = {}
        for line, condition in zip(panels, fields.USUAL, strict=True):
            for axes, dose in zip(line, DOSES, strict=True):
                handles |= _panel(axes, rows, condition.name, dose)
        for axes in panels[-1]:
            axes.set_xlabel("seconds a megapixel")
        for axes in panels[:, 0]:
            axes.set_ylabel("PSNR [dB]")
        place = (0.5, 1 - 0.22 / figure.get_figheight())
        figure.legend(
            list(handles.values()), list(handles), loc="upper center", bbox_to_anchor=place,
            ncols=4, frameon=False,
        )  # fmt: skip
        return style.save(figure, output, name)


def _panel(axes: Any, rows: Sequence[Row], condition: str, dose: float) -> dict[str, Any]:
    """Draw the points of a condition and dose; returned by what they are."""
    axes.set_title(f"{condition}, dose {dose:g}")
    here = [
        row for row in rows
        if (row["protocol"], row["condition"], row["dose"]) == (cases.HAADF, condition, dose)
    ]  # fmt: skip
    handles = {}
    points: list[tuple[float, float, str]] = []
    for kind, (color, marker, label) in _LOOKS.items():
        known = [
            (seconds, psnr, str(row["model"]))
            for row in here
            if row["kind"] == kind
            and (seconds := number(row, "s_per_mpx")) is not None
            and (psnr := number(row, "psnr")) is not None
        ]
        if known:
            points += known if kind != contestants.TAILORED else []
            handles[label] = axes.scatter(
                [p[0] for p in known], [p[1] for p in known], s=12, color=color, marker=marker,
                linewidths=0.8, zorder=3,
            )  # fmt: skip
    if not points:
        style.say_missing(axes, "not measured yet")
        return {}
    raw = [number(row, "psnr") for row in here if row["kind"] == contestants.NONE]
    for level in raw:
        axes.axhline(level, color="#999999", linewidth=0.8)
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.2)
    best = front(points)
    axes.plot([p[0] for p in best], [p[1] for p in best], color=style.PALE, linewidth=2, zorder=1)
    labelled: list[float] = []
    for seconds, psnr, name in reversed(best):  # of close ones the best
        if all(abs(math.log10(seconds / other)) > _LABEL_DECADES for other in labelled):
            lift = 4 if labelled else 11  # the slowest have the longest names
            labelled.append(seconds)
            axes.annotate(
                name, (seconds, psnr), textcoords="offset points", xytext=(0, lift), ha="center",
                fontsize=5,
                # a line behind it would strike it through
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5}, zorder=2.5,
            )  # fmt: skip
    if condition == fields.HEXAGONAL.name:
        _cite(axes, rows, dose)
    return handles


def _cite(axes: Any, rows: Sequence[Row], dose: float) -> None:
    """The published network: a level, and a point where its time is known."""
    psnr = published.psnr(published.U_NET, dose)
    axes.axhline(psnr, color=style.BLUE, linewidth=0.8, linestyle=(0, (5, 1)))
    for row in rows:
        if row["protocol"] == TIME and row["model"] == published.U_NET:
            axes.scatter([row["s_per_mpx"]], [psnr], s=16, color=style.BLUE, marker="D", zorder=3)


def front(points: Sequence[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """Return the points (seconds, quality, name) that none equals in less time, by time."""
    found: list[tuple[float, float, str]] = []
    for point in sorted(points, key=lambda p: (p[0], -p[1])):
        if not found or point[1] > found[-1][1]:
            found.append(point)
    return found

"""The curves: `results/rate_distortion.png` and `.pdf`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.evaluate.rows import Row
from experiments.figures import style
from experiments.rate_distortion import bd_rate, compared, ours, records, restored
from experiments.rate_distortion.curves import Curve
from experiments.rate_distortion.page import REFERENCE
from experiments.rate_distortion.records import Group

_RATES = np.geomspace(0.05, 1.0, 60)
_LEAST_SHARE = 0.75  # of the images, that an average speaks for them
_DASHED, _DOTTED = (0, (5, 1)), (0, (1, 1))
_GREY = "#999999"
_FAR_BELOW = ("SZ3", "WebP")  # they would take the room of the others
LINES: dict[str, tuple[str, Any, float]] = {
    "HTJ2K": (style.BLACK, _DOTTED, 0.8),
    "JPEG XL": (style.BLUE, "-", 1.2),
    "AVIF": (style.GREEN, "-", 0.8),
    "WebP": (style.GREEN, _DOTTED, 0.8),
    "SZ3": (_GREY, _DASHED, 0.8),
    "SPERR": (_GREY, "-", 0.8),
    REFERENCE + restored.SUFFIX: (style.BLACK, _DASHED, 1.2),
    "JPEG XL" + restored.SUFFIX: (style.BLUE, _DASHED, 1.2),
    ours.VARIANTS[0].name: (style.VERMILION, "-", 1.6),
    ours.VARIANTS[1].name: (style.VERMILION, _DASHED, 1.6),
    ours.VARIANTS[2].name: (style.PURPLE, "-", 1.2),
}
"""Colour, dashes and width of each codec's line."""

_CAPTION = """\
Mean over images of the PSNR at equal rate less that of JPEG 2000, in dB, for whole files. The
band is 0.1 to 0.5 bits per pixel. A line begins where three quarters of the images reach the
rate, and is their mean; zfp, which begins above half a bit, is left out. "Denoised": a kernel
fitted to the image restored it first. To the clean image, each codec's best up to that rate
counts."""


def draw(points: Sequence[Row], output: Path, name: str) -> int:
    """Return how many bytes the picture takes, having drawn it.

    Raises:
        ValueError: matplotlib is not installed.
    """
    with style.settings():
        figure = style.new(6.6, layout="constrained")
        style.frame(figure, "Rate and distortion beside JPEG 2000", _CAPTION)
        panels = figure.subplots(3, 2)
        drawn: dict[str, Any] = {}
        for axes, group in zip(panels.flat, records.GROUPS, strict=True):
            drawn |= _panel(axes, points, group)
        for axes in panels[-1]:
            axes.set_xlabel("bits per pixel")
        for axes in panels[:, 0]:
            axes.set_ylabel("gain over JPEG 2000 [dB]")
        if drawn:
            names = [name for name in LINES if name in drawn]
            figure.legend(
                [drawn[name] for name in names], names, loc="outside right upper", frameon=False
            )
        return style.save(figure, output, name)


def _panel(axes: Any, points: Sequence[Row], group: Group) -> dict[str, Any]:
    """Draw a group's lines; returned by codec."""
    axes.set_title(group.title)
    curves = records.curves(points, group, group.quality)
    if REFERENCE not in curves:
        style.say_missing(axes, "no such images")
        return {}
    to_truth = group.quality == "psnr_clean"
    hidden = {variant.name for variant in ours.VARIANTS if variant.needs_truth and not to_truth}
    axes.axvspan(*bd_rate.WITHIN, color=style.PALE, linewidth=0)
    axes.axhline(0, color=style.BLACK, linewidth=1.2)
    drawn = {}
    heights: list[float] = []
    for codec, (color, dashes, width) in LINES.items():
        if codec in hidden or (codec.endswith(restored.SUFFIX) and not to_truth):
            continue
        gains = _gains(curves, codec)
        if np.isfinite(gains).any():
            (drawn[codec],) = axes.plot(
                _RATES, gains, color=color, linestyle=dashes, linewidth=width
            )
            seen = np.isfinite(gains) & (bd_rate.WITHIN[0] <= _RATES)
            heights += [] if codec in _FAR_BELOW else gains[seen].tolist()
    top, bottom = max([0.5, *heights]), max(min([-0.5, *heights]), -6.0)
    axes.set(xscale="log", xlim=(_RATES[0], _RATES[-1]), ylim=(bottom * 1.05, top * 1.05))
    ticks = [0.05, 0.1, 0.2, 0.5, 1.0]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    return drawn


def _gains(curves: dict[str, dict[str, Curve]], codec: str) -> Float[np.ndarray, " k"]:
    """Mean gains over those images that a line begins with, or it would leap where one joins in."""
    least = _LEAST_SHARE * len(curves[REFERENCE])
    chosen: list[str] = []
    means = []
    for bpp in _RATES:
        found = compared.gains_at(curves, codec, REFERENCE, float(bpp))
        if not chosen and len(found) >= least:
            chosen = list(found)
        means.append(np.mean([found[image] for image in chosen]) if chosen else np.nan)
    return np.array(means)

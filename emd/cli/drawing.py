"""Owns the picture of `emd preview`: an image before and after, what was removed, its spectrum.

Imports matplotlib where something is drawn.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from emd.cli import words
from emd.cli.spectra import draw_profiles, logarithm, spectrum

_DPI = 150
_PANEL_IN, _HEAD_IN = 3.5, 0.75
_SHOWN_PX = 512  # larger images are binned to be shown, and their centre is shown beside
_CENTRE_PX = 192
_LONGEST = 3.0  # times as long as wide is a panel at most
_CUT = 0.002  # share of the pixels that may lie beyond either end of the greys
_DARK = "#333333"
_SETTINGS: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.linewidth": 0.6,
    "axes.unicode_minus": True,
}


class Scene(NamedTuple):
    """What is drawn.

    Attributes:
      before: in counts.
      after: of the same size, in counts.
      corner: row and column of its first pixel in the whole image.
      pixel_size: height and width of a pixel in `unit`, or None.
      unit: "" where not known.
      title: what it shows, and which model made it.
      caption: lines below the title.
    """

    before: Shaped[np.ndarray, "h w"]
    after: Shaped[np.ndarray, "h w"]
    corner: tuple[int, int]
    pixel_size: tuple[float, float] | None
    unit: str
    title: str
    caption: str


def check() -> None:
    """Nothing.

    Raises:
      ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        remedy = "pip install 'emd-micrograph[plot]'"
        raise ImportError(f"pictures need matplotlib, which is not installed: {remedy}") from None


def write(scene: Scene, path: Path) -> None:
    """Nothing; the file is then a PNG of `draw`, the same bytes for the same scene."""
    figure = draw(scene)
    with _settings():  # they count when it is written, too
        figure.savefig(path, format="png", dpi=_DPI, metadata={"Software": None})


def _settings() -> AbstractContextManager[None]:
    """A context in which figures look the same whatever the user has set."""
    import matplotlib as mpl

    return mpl.rc_context({**mpl.rcParamsDefault, **_SETTINGS})


def draw(scene: Scene) -> Any:
    """The figure: four panels, or, of a large image, eight with its centre beside the whole."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    height, width = scene.before.shape
    is_large = max(height, width) > _SHOWN_PX
    with _settings():
        rows, columns = (2, 4) if is_large else (2, 2)
        size = columns * _PANEL_IN * 1.2, rows * _PANEL_IN + _HEAD_IN
        rect = (0, 0, 1, 1 - _HEAD_IN / size[1])
        layout = ConstrainedLayoutEngine(rect=rect, w_pad=0.08, h_pad=0.06)
        figure = Figure(figsize=size, dpi=_DPI, layout=layout)
        panels = figure.subplots(rows, columns)
        figure.text(0.5, 1 - 0.2 / size[1], scene.title, fontsize=12, ha="center", va="center")
        figure.text(
            0.5, 1 - 0.4 / size[1], scene.caption, fontsize=9, ha="center", va="top", color=_DARK
        )
        whole = slice(0, height), slice(0, width)
        if is_large:
            centre = slice(*_middle(height)), slice(*_middle(width))
            _draw_images(figure, panels[0, :3], scene, whole)
            _draw_images(figure, panels[1, :3], scene, centre)
            spectrum_panel = panels[0, 3]
        else:
            _draw_images(figure, panels.ravel()[:3], scene, whole)
            spectrum_panel = panels[1, 1]
        residual = spectrum(scene.before, scene.after)
        _draw_spectrum(figure, spectrum_panel, residual)
        if is_large:
            panels[1, 3].set_box_aspect(1)
            draw_profiles(panels[1, 3], spectrum(scene.before, None), residual)
    return figure


def _middle(length: int) -> tuple[int, int]:
    shown = min(length, _CENTRE_PX)
    return (length - shown) // 2, (length + shown) // 2


def _draw_images(figure: Any, panels: Any, scene: Scene, part: tuple[slice, slice]) -> None:
    """Part of the image before, after, and of the residual."""
    rows, columns = part
    before, after = scene.before[part], scene.after[part]
    step = math.ceil(max(before.shape) / _SHOWN_PX)
    where = f", binned {step} x {step}" if step > 1 else ""
    if before.shape != scene.before.shape:
        where = f", centre {before.shape[1]} x {before.shape[0]} px"
    residual = _binned(before, after, step)
    images = (_binned(before, None, step), _binned(after, None, step), residual)
    greys, bound = _greys(images[0]), _bound(residual)
    top, left = scene.corner[0] + rows.start - 0.5, scene.corner[1] + columns.start - 0.5
    high, wide = scene.pixel_size or (1.0, 1.0)
    true = before.shape[0] * high / (before.shape[1] * wide)
    ratio = min(max(true, 1 / _LONGEST), _LONGEST)
    where += "" if ratio == true else "\n(not to scale)"
    for panel, image, name in zip(panels, images, ("before", "after", "residual"), strict=True):
        is_residual = image is residual
        limits = (-bound, bound) if is_residual else greys
        bottom, right = top + step * image.shape[0], left + step * image.shape[1]
        shown = panel.imshow(
            image,
            cmap="RdBu_r" if is_residual else "gray",
            vmin=limits[0],
            vmax=limits[1],
            extent=(left, right, bottom, top),
            aspect="auto",
            interpolation="nearest" if max(image.shape) < _SHOWN_PX // 2 else "antialiased",
        )
        panel.set(title=name + where, xlabel="x [px]", ylabel="y [px]", box_aspect=ratio)
        panel.xaxis.set_major_locator(_locator(4 if ratio < 2 else 1))
        panel.yaxis.set_major_locator(_locator(4 if ratio > 0.5 else 1))
        label = "before - after [counts]" if is_residual else "counts"
        _draw_bar(figure, panel, shown, label, ratio=ratio)
        if not is_residual and ratio == true:
            _draw_scale(panel, (left, right), (bottom, top), scene)


def _draw_bar(figure: Any, panel: Any, shown: Any, label: str, *, ratio: float = 1.0) -> None:
    """What the colours stand for, beside the panel, which is `ratio` times as high as wide."""
    width = 0.045 * max(1.0, ratio)
    place = panel.inset_axes((1 + width, 0, width, 1))
    bar = figure.colorbar(shown, cax=place, label=label, ticks=_locator(7 if ratio > 0.6 else 3))
    bar.outline.set_linewidth(0.5)


def _locator(count: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(count)


def _draw_scale(
    panel: Any, across: tuple[float, float], down: tuple[float, float], scene: Scene
) -> None:
    """A bar of a round length, at the lower left."""
    if scene.pixel_size is None:
        return
    (left, right), (bottom, top) = across, down
    length = _round_length(0.35 * (right - left) * scene.pixel_size[1])
    width = length / scene.pixel_size[1]
    if width < 1:
        return
    inset = 0.05 * (right - left)
    place = left + inset, bottom - 0.05 * (bottom - top)
    text = f"{words.number(length)} {scene.unit}"
    for colour, points in (("black", 5), ("white", 3)):
        ends = [place[0], place[0] + width], [place[1], place[1]]
        panel.plot(*ends, color=colour, lw=points, solid_capstyle="butt")
    panel.annotate(
        text,
        (place[0] + width / 2, place[1]),
        (0, 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
        color="white",
        fontsize=9,
        bbox={"boxstyle": "round,pad=0.15", "fc": "black", "alpha": 0.6, "lw": 0},
    )


def _round_length(limit: float) -> float:
    """The largest of 1, 2, 5, 10 ... that is no longer."""
    power = 10.0 ** math.floor(math.log10(limit))
    return next(power * digit for digit in (5, 2, 1) if power * digit <= limit * 1.000001)


def _draw_spectrum(figure: Any, panel: Any, power: Float[np.ndarray, "h w"]) -> None:
    """The logarithm of the residual's power."""
    height, width = power.shape
    level = logarithm(power)
    # half a step around the frequencies, which begin at the lowest
    down, across = (np.fft.fftshift(np.fft.fftfreq(size)) for size in (height, width))
    extent = (
        across[0] - 0.5 / width, across[-1] + 0.5 / width,
        down[-1] + 0.5 / height, down[0] - 0.5 / height,
    )  # fmt: skip
    shown = panel.imshow(
        level,
        cmap="cividis",
        extent=extent,
        aspect="equal",
        vmin=np.quantile(level, 0.001),
        vmax=max(float(np.quantile(level, 0.9995)), float(np.quantile(level, 0.001)) + 1e-3),
        interpolation="nearest" if height < _SHOWN_PX // 4 else "antialiased",
    )
    panel.set(
        title="power spectrum of the residual",
        xlabel="cycles a pixel, across",
        ylabel="cycles a pixel, down",
        xticks=(-0.5, -0.25, 0, 0.25, 0.5),
        yticks=(-0.5, -0.25, 0, 0.25, 0.5),
    )
    panel.set(xlim=extent[:2], ylim=extent[2:])
    _draw_bar(figure, panel, shown, "log10 of power [counts²]")


def _binned(
    image: Shaped[np.ndarray, "h w"], other: Shaped[np.ndarray, "h w"] | None, step: int
) -> Float[np.ndarray, "k l"]:
    """Means of an image, less another, over squares of `step` pixels a side.

    What is left over at the far ends is not shown.
    """
    height, width = (max(1, size // step) for size in image.shape)
    out = np.empty((height, width))
    for row in range(height):
        part = slice(row * step, (row + 1) * step), slice(0, width * step)
        strip = image[part].astype(np.float64)
        if other is not None:
            with np.errstate(invalid="ignore"):  # infinity less infinity
                strip = strip - other[part]
        columns = np.arange(width) * step
        sums = np.add.reduceat(strip, columns, axis=1).sum(axis=0)
        sizes = np.diff(np.append(columns, strip.shape[1]))
        out[row] = sums / (sizes * strip.shape[0])
    return out


def _greys(image: Float[np.ndarray, "h w"]) -> tuple[float, float]:
    """The counts that are shown black and white, whatever spikes there are."""
    some = image[np.isfinite(image)]
    if not some.size:
        return 0.0, 1.0
    low, high = np.quantile(some, [_CUT, 1 - _CUT])
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def _bound(residual: Float[np.ndarray, "h w"]) -> float:
    """Where the colours of a residual end, either side of 0."""
    size = np.abs(residual[np.isfinite(residual)])
    return float(np.quantile(size, 1 - _CUT)) or 1.0 if size.size else 1.0

"""Figs. 5 to 12: what each model makes of five micrographs, with a part of each enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from emd import metrics, zoo
from emd.restore import denoise
from experiments.figures import micrographs, style
from experiments.figures.micrographs import COUNT, SHOWN_PX, Example, Plane, mean3, middle

_INSET_PX = 28
_INSET_SHARE = 0.6
"""Of a panel's height, that the enlarged part takes."""

GREYS = 48
"""Grey levels of a panel: more would double the files and not be seen."""

AUTOENCODERS, KERNELS, MLPS = ("autoencoder",), ("kernel",), ("mlp1", "mlp2")
FIGURES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "fig5": (AUTOENCODERS, ("tem", "stem")),
    "fig6": (AUTOENCODERS, ("temstem",)),
    "fig7": (KERNELS, ("tem",)),
    "fig8": (KERNELS, ("stem",)),
    "fig9": (KERNELS, ("temstem",)),
    "fig10": (MLPS, ("tem",)),
    "fig11": (MLPS, ("stem",)),
    "fig12": (MLPS, ("temstem",)),
}
"""Families and domains of each figure: together all 45 models, each once."""


class Row(NamedTuple):
    """A row of a figure: what it shows, and a panel an example; None where there is no model."""

    title: str
    panels: list[Plane] | None


def shown(figure: str) -> list[tuple[str, list[zoo.ModelConfig]]]:
    """Return the domains of a figure, each with its models."""
    families, domains = FIGURES[figure]
    return [
        (d, [c for c in zoo.PAPER_MODELS if c.domain == d and c.family in families])
        for d in domains
    ]


def busiest(image: Plane, side: int, columns: int) -> tuple[int, int]:
    """Return the corner (row, column) of the square that varies most, noise averaged over.

    It lies in the first ``columns`` columns, so that the enlarged part does not hide it.
    """
    smooth = mean3(mean3(image))
    places = [
        (row, column)
        for row in range(4, image.shape[0] - side - 3, 4)
        for column in range(4, columns - side - 3, 4)
    ]
    return max(places, key=lambda p: float(smooth[p[0] : p[0] + side, p[1] : p[1] + side].std()))


def restore(domain_examples: Sequence[Example], config: zoo.ModelConfig, root: str | None) -> Row:
    """Return the row of a model; without panels where it is not trained yet."""
    model = style.find(config.name, root)
    if model is None:
        return Row(style.label(config), None)
    restored = [np.asarray(denoise(example.pixels, model)) for example in domain_examples]
    return Row(style.label(config), restored)


def psnr(image: Plane, truth: Plane) -> float:
    """Return the peak signal-to-noise ratio [dB] in the span of the truth."""
    pair = [jnp.asarray(plane, jnp.float32)[None] for plane in (image, truth)]
    return float(metrics.psnr(pair[0], pair[1], data_range=float(np.ptp(truth)))[0])


def draw(name: str, data_dir: str | None, root: str | None) -> Any:
    """Return one of figures 5 to 12.

    Raises:
        ValueError: the examples will not do.
        FileNotFoundError: the folder of examples is missing or empty.
    """
    blocks = []
    for domain, configs in shown(name):
        found = micrographs.gather(domain, data_dir)
        rows = [Row("input", [example.pixels for example in found])]
        rows += [restore(found, config, root) for config in configs]
        truths = [example.truth for example in found if example.truth is not None]
        if truths:
            rows.append(Row("truth", truths))
        blocks.append((domain, found, rows))
    return _compose(name, blocks)


# --- the drawing -----------------------------------------------------------------------------

_LEFT_IN, _PANEL_IN, _GAP_IN = 0.35, (200 / style.DPI, 320 / style.DPI), 2 / style.DPI
_TOP_IN, _HEAD_IN, _CAPTION_IN = 0.3, 0.2, 0.64


def _compose(name: str, blocks: list[tuple[str, list[Example], list[Row]]]) -> Any:
    pitch = _PANEL_IN[0] + _GAP_IN
    height = _TOP_IN + _CAPTION_IN + sum(_HEAD_IN + len(rows) * pitch for _, _, rows in blocks)
    # whole pixels, so that an example's pixels all have the same size
    height = round(height * style.DPI) / style.DPI
    with style.settings():
        figure = style.new(height, width_in=style.WIDTH_IN + 0.05)
        top = _TOP_IN
        for _, found, rows in blocks:
            scales = [micrographs.grey_range(example.pixels) for example in found]
            corners = [_corner(example) for example in found]
            for i, example in enumerate(found):
                x = _LEFT_IN + i * (_PANEL_IN[1] + _GAP_IN) + _PANEL_IN[1] / 2
                figure.text(x / figure.get_figwidth(), 1 - (top + 0.1) / height, example.title,
                            ha="center", va="center")  # fmt: skip
            top += _HEAD_IN
            for row in rows:
                _draw_row(figure, top, row, found, scales, corners)
                top += pitch
        has_truth = any(example.truth is not None for _, found, _ in blocks for example in found)
        style.frame(figure, _title(name), _caption(has_truth=has_truth))
    return figure


def _title(name: str) -> str:
    families, domains = FIGURES[name]
    kind = {AUTOENCODERS: "autoencoders", KERNELS: "kernels", MLPS: "perceptrons (MLPs)"}[families]
    names = " (above) and ".join(style.DOMAINS[domain] for domain in domains)
    below = " (below)" if len(domains) > 1 else ""
    return f"Fig. {name.removeprefix('fig')}. {names}{below} {kind}: five examples each"


def _caption(*, has_truth: bool) -> str:
    simulated = """Simulated micrographs, so that the truth is known; dose in mean counts a pixel;
    numbers in panels are the peak signal-to-noise ratio against the truth, in dB."""
    inset = f"{_INSET_PX}{style.TIMES}{_INSET_PX} px"
    return f"""{simulated if has_truth else "Real micrographs."} Each column is one micrograph on
    one grey scale, from the 0.5th to the 99.5th percentile of its input after a mean over
    3{style.TIMES}3 px, so brightness and contrast compare down a column. At the lower right of each
    panel the {inset} of the small orange frame, enlarged."""


def _corner(example: Example) -> tuple[int, int]:
    """Where the enlarged part of an example lies in what is shown of it."""
    source = example.pixels if example.truth is None else example.truth
    free = SHOWN_PX[1] - round(_INSET_SHARE * SHOWN_PX[0])
    return busiest(middle(source, SHOWN_PX), _INSET_PX, free)


def _draw_row(
    figure: Any,
    top: float,
    row: Row,
    found: Sequence[Example],
    scales: Sequence[tuple[float, float]],
    corners: Sequence[tuple[int, int]],
) -> None:
    width, height = figure.get_size_inches()
    down = (height - top - _PANEL_IN[0]) / height
    figure.text(0.17 / width, down + 0.5 * _PANEL_IN[0] / height, row.title, rotation=90,
                ha="center", va="center", linespacing=1.05)  # fmt: skip
    if row.panels is None:
        whole = (COUNT * (_PANEL_IN[1] + _GAP_IN) - _GAP_IN) / width
        axes = figure.add_axes((_LEFT_IN / width, down, whole, _PANEL_IN[0] / height))
        style.say_missing(axes)
        return
    for i, (panel, example) in enumerate(zip(row.panels, found, strict=True)):
        left = (_LEFT_IN + i * (_PANEL_IN[1] + _GAP_IN)) / width
        box = (left, down, _PANEL_IN[1] / width, _PANEL_IN[0] / height)
        axes = figure.add_axes(box)
        score = None
        if example.truth is not None and panel is not example.truth:
            score = psnr(panel, example.truth)
        _draw_panel(axes, middle(panel, SHOWN_PX), scales[i], corners[i], score)


def _draw_panel(
    axes: Any,
    image: Plane,
    scale: tuple[float, float],
    corner: tuple[int, int],
    score: float | None,
) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    look = {
        "cmap": colormaps["gray"].resampled(GREYS),
        "vmin": scale[0],
        "vmax": scale[1],
        "interpolation": "none",
    }
    axes.set_axis_off()
    share = round(_INSET_SHARE * SHOWN_PX[0])
    seen = image.copy()
    # what the enlarged part hides need not be stored
    seen[-share:, -share:] = scale[0]
    axes.imshow(seen, aspect="auto", **look)
    frame: Any = {"fill": False, "edgecolor": style.FRAME, "linewidth": 0.8}
    row, column = corner
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), _INSET_PX, _INSET_PX, **frame))
    across, down = (share / side for side in SHOWN_PX[::-1])
    inset = axes.inset_axes((1 - across, 0, across, down))
    inset.imshow(image[row : row + _INSET_PX, column : column + _INSET_PX], aspect="auto", **look)
    inset.set(xticks=[], yticks=[])
    for spine in inset.spines.values():
        spine.set(color=style.FRAME, linewidth=1.0)
    if score is not None:
        axes.text(
            0.98, 0.97, f"{score:.1f}", transform=axes.transAxes, ha="right", va="top",
            color="white",
            bbox={"facecolor": "black", "edgecolor": "none", "alpha": 0.65, "pad": 1.0},
        )  # fmt: skip

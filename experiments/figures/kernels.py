"""The trained kernels beside the published ones: heat maps, correlations, frequency responses."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from emd import zoo
from emd.models import published
from emd.models.pixelwise import kernel_matrix
from experiments.figures import style

_ANGLES = 180
"""Directions that a radial response averages over, in half a turn."""

_LINEAR = 0.02
"""Weights up to this have a linear colour scale, larger ones a logarithmic one."""

_COLOURS = "PuOr_r"
_PITCH_IN, _MAP_IN, _BLOCK_IN, _HEIGHT_IN = 0.87, 0.77, 2.4, 8.9
_CAPTION = f"""Maps: the weights of each kernel, orange above zero and purple below, linear within
{_LINEAR:g} of zero and logarithmic beyond. r is the correlation of the trained with the published
kernel of the same width over all places, diff the root-mean-square difference over the published
kernel's root mean square; where all weights are nearly equal (STEM, w = 3) r tells of the third
decimal only. Curves: the factor by which a kernel multiplies waves of each spatial frequency,
averaged over all directions; solid as trained here, dotted as published."""

Matrix = Float[np.ndarray, "w w"]


class Pair(NamedTuple):
    """A kernel as trained here and as printed in the paper, where there is one."""

    config: zoo.ModelConfig
    trained: Matrix | None
    printed: Matrix | None


def pairs(root: str | None) -> list[Pair]:
    """Return all kernels of the zoo, by domain and width."""
    return [
        Pair(config, _matrix(config.name, root), _printed(config))
        for config in zoo.PAPER_MODELS
        if config.family == "kernel"
    ]


def _printed(config: zoo.ModelConfig) -> Matrix | None:
    if config.size not in published.WIDTHS:
        return None
    return _matrix(f"{config.name}_published", None)


def _matrix(name: str, root: str | None) -> Matrix | None:
    model = style.find(name, root)
    return None if model is None else np.asarray(kernel_matrix(model.variables["params"]))


def correlation(one: Matrix, other: Matrix) -> float:
    """Return Pearson's correlation over all places of two windows."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def difference(one: Matrix, other: Matrix) -> float:
    """Return the root-mean-square difference, relative to the other's root mean square."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def radial_response(
    kernel: Matrix, frequencies: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " k"]:
    """Return the factor on waves of each frequency [cycles/px], averaged over all directions.

    A kernel with the square's symmetries keeps a wave's phase, so the factor is real.
    """
    places = np.arange(len(kernel)) - len(kernel) // 2
    angles = np.pi * (np.arange(_ANGLES) + 0.5) / _ANGLES
    along = (
        np.cos(angles)[:, None, None] * places[None, :, None]
        + np.sin(angles)[:, None, None] * places[None, None, :]
    )
    return np.array(
        [(kernel[None] * np.cos(2 * np.pi * f * along)).sum((1, 2)).mean() for f in frequencies]
    )


def agreement(found: list[Pair]) -> dict[str, float]:
    """Return the correlation of each trained kernel with its published one."""
    return {
        f"{pair.config.name} correlation": correlation(pair.trained, pair.printed)
        for pair in found
        if pair.trained is not None and pair.printed is not None
    }


def draw(found: list[Pair]) -> Any:
    """Return the figure: a block a domain, trained above published, responses at the right."""
    with style.settings():
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import SymLogNorm

        drawn = [m for pair in found for m in (pair.trained, pair.printed) if m is not None]
        limit = max(float(np.abs(matrix).max()) for matrix in drawn)
        norm = SymLogNorm(_LINEAR, linscale=1.0, vmin=-limit, vmax=limit)
        figure = style.new(_HEIGHT_IN)
        responses: list[Any] = []
        for block, domain in enumerate(style.DOMAINS):
            own = [pair for pair in found if pair.config.domain == domain]
            top = 0.62 + block * _BLOCK_IN
            _write(figure, 0.08, top - 0.14, f"{style.DOMAINS[domain]} kernels", fontsize=8)
            _draw_maps(figure, top, own, norm)
            box = _place(5.1, top + 0.14, 1.8, 2 * _PITCH_IN - 0.06)
            responses.append(figure.add_axes(box, sharey=responses[0] if responses else None))
            _draw_responses(responses[-1], own)
        responses[-1].set_xlabel("spatial frequency [cycles/px]")
        bar = figure.add_axes(_place(0.5, _HEIGHT_IN - 1.18, 4.1, 0.1))
        ticks = [-0.2, -0.1, -0.05, -0.02, 0, 0.02, 0.05, 0.1, 0.2]
        ticks = [tick for tick in ticks if abs(tick) <= limit]
        figure.colorbar(
            ScalarMappable(norm, _COLOURS), cax=bar, orientation="horizontal", ticks=ticks,
            format="%g", label="weight (one scale for all maps)",
        )  # fmt: skip
        style.frame(figure, "Trained kernels beside those that the paper prints", _CAPTION)
    return figure


def _place(left: float, top: float, width: float, height: float) -> tuple[float, ...]:
    """A rectangle in inches from the figure's upper left corner, as matplotlib takes it."""
    bottom = _HEIGHT_IN - top - height
    across = (left / style.WIDTH_IN, width / style.WIDTH_IN)
    return across[0], bottom / _HEIGHT_IN, across[1], height / _HEIGHT_IN


def _write(figure: Any, left: float, top: float, text: str, **look: Any) -> None:
    figure.text(left / style.WIDTH_IN, 1 - top / _HEIGHT_IN, text, **{"va": "center", **look})


def _draw_maps(figure: Any, top: float, own: list[Pair], norm: Any) -> None:
    for column, pair in enumerate(own):
        left = 0.28 + column * _PITCH_IN
        for row, (name, matrix) in enumerate(
            (("trained here", pair.trained), ("published", pair.printed))
        ):
            at = top + 0.14 + row * _PITCH_IN
            if not column:
                _write(figure, 0.12, at + _MAP_IN / 2, name, rotation=90, ha="center")
            axes = figure.add_axes(_place(left, at, _MAP_IN, _MAP_IN))
            axes.set(xticks=[], yticks=[])
            if matrix is None:
                style.say_missing(axes, style.NOT_TRAINED if not row else "none in\nthe paper")
            else:
                axes.imshow(matrix, cmap=_COLOURS, norm=norm, interpolation="none")
        _write(figure, left + _MAP_IN / 2, top + 0.06, f"w = {pair.config.size}", ha="center")
        if pair.trained is not None and pair.printed is not None:
            r = correlation(pair.trained, pair.printed)
            diff = difference(pair.trained, pair.printed)
            text = f"r = {r:.2f}\ndiff {100 * diff:.0f} %"
            at = top + 0.16 + 2 * _PITCH_IN - (_PITCH_IN - _MAP_IN)
            _write(figure, left + _MAP_IN / 2, at, text, ha="center", va="top")


def _draw_responses(axes: Any, own: list[Pair]) -> None:
    frequencies = np.linspace(0, 0.5, 101)
    for pair in own:
        colour, _ = style.LINES[pair.config.size]
        named = f"w = {pair.config.size}"
        for matrix, dashes, width in ((pair.trained, "-", 1.0), (pair.printed, ":", 1.3)):
            if matrix is not None:
                response = radial_response(matrix, frequencies)
                axes.plot(frequencies, response, color=colour, linestyle=dashes, linewidth=width,
                          label=named)  # fmt: skip
                named = "_"  # one entry of the legend for both
    axes.axhline(0, color=style.DARK, linewidth=0.5)
    axes.set(xlim=(0, 0.5), ylabel="factor on the amplitude")
    axes.locator_params(axis="y", nbins=5, steps=[5, 10])  # short, for the label
    axes.grid(visible=True, alpha=0.25, linewidth=0.4)
    axes.legend(loc="upper right", handlelength=1.6)

"""The latent maps of the 16-deep autoencoders for one micrograph each."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from emd import zoo
from emd.restore import encode
from experiments.figures import micrographs, style

_EXAMPLES = {"tem": ("tem", 1), "stem": ("stem", 0), "temstem": ("tem", 1)}
"""Of whose micrographs each autoencoder is shown which; the mixed one shares that of TEM."""

_COLUMNS = 8
_COLOURS = 100  # few enough for the palette of the PNG file


class Shown(NamedTuple):
    """A micrograph and its latent maps; none where the autoencoder is not trained yet."""

    domain: str
    example: micrographs.Example
    latent: Float[np.ndarray, "hl wl d"] | None


def gather(data_dir: str | None, root: str | None) -> list[Shown]:
    """Return the micrograph of each domain and the latent maps of its 16-deep autoencoder.

    Cells beyond the border of the micrograph are left out.
    """
    found = []
    for domain, (source, place) in _EXAMPLES.items():
        example = micrographs.gather(source, data_dir)[place]
        model = style.find(zoo.find_autoencoder(domain, zoo.TEACHER_LATENT).name, root)
        latent = None if model is None else encode(example.pixels, model).latent[1:-1, 1:-1]
        found.append(Shown(domain, example, latent))
    return found


def brightest(latent: Float[np.ndarray, "hl wl d"]) -> float:
    """Return the top of the scale that all maps of an autoencoder share."""
    return float(max(np.percentile(latent, 99.8), 1e-6))


_CAPTION = """Left: the simulated micrograph. Right: its latent, 16 maps at one eighth of the side
(numbered; 4 times fewer numbers than pixels), never negative. All maps of an autoencoder share the
scale at their right, which ends at the 99.8th percentile; a dark map carries nothing for this
micrograph."""


def draw(found: list[Shown], *, is_real: bool) -> Any:
    """Return the figure, a block an autoencoder."""
    with style.settings():
        from matplotlib import colormaps

        colours = colormaps["cividis"].resampled(_COLOURS)
        figure = style.new(6.6, layout="constrained")
        figure.get_layout_engine().set(h_pad=0.02, w_pad=0.01, hspace=0.0, wspace=0.0)
        blocks = figure.subfigures(len(found), 1)
        for block, one in zip(blocks, found, strict=True):
            _draw_block(block, one, colours)
        text = _CAPTION.replace("simulated ", "") if is_real else _CAPTION
        title = f"Latent maps of the autoencoders with d = {zoo.TEACHER_LATENT}"
        style.frame(figure, title, text)
    return figure


def _draw_block(block: Any, one: Shown, colours: Any) -> None:
    block.suptitle(f"{style.DOMAINS[one.domain]} autoencoder: {one.example.title}", fontsize=8)
    rows = zoo.TEACHER_LATENT // _COLUMNS
    grid = block.add_gridspec(rows, _COLUMNS + rows)
    picture = block.add_subplot(grid[:, :rows])
    low, high = micrographs.grey_range(one.example.pixels)
    picture.imshow(one.example.pixels, cmap="gray", vmin=low, vmax=high, interpolation="none")
    picture.set(xticks=[], yticks=[])
    if one.latent is None:
        style.say_missing(block.add_subplot(grid[:, rows:]))
        return
    panels = []
    for i in range(one.latent.shape[-1]):
        axes = block.add_subplot(grid[i // _COLUMNS, rows + i % _COLUMNS])
        image = axes.imshow(
            one.latent[..., i], cmap=colours, vmin=0, vmax=brightest(one.latent),
            interpolation="none",
        )  # fmt: skip
        axes.set(xticks=[], yticks=[])
        axes.set_title(str(i + 1), fontsize=style.POINTS, pad=1.5)
        panels.append(axes)
    block.colorbar(image, ax=panels, pad=0.01, aspect=25, fraction=0.03)

"""What the figures share: size, type, colours, captions, and how they are written."""

from __future__ import annotations

import io
import textwrap
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from emd import checkpoint, zoo
from experiments.curves import figure_type

WIDTH_IN = 7.0
"""Width of a printed page's text; figures are made to be printed at this size."""

POINTS = 7.0
"""The smallest type, at that size."""

DPI = 240
"""Of the PNG files; two of their pixels stand for one of an example's."""

DARK, PALE = "#333333", "#E6E6E6"
FRAME = "#E69F00"
TIMES = "\N{MULTIPLICATION SIGN}"
# Okabe and Ito's colours, which differ for colour-blind eyes as well; the yellow, too pale for
# lines, is left out. Dashes tell the lines apart on a grey print.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
LINES: dict[int, tuple[str, Any]] = {
    1: (BLACK, "-"),
    2: (PURPLE, (0, (5, 1))),
    3: (BLACK, "-"),
    4: (VERMILION, (0, (3, 1, 1, 1))),
    5: (VERMILION, (0, (5, 1))),
    7: (BLUE, "-"),
    8: (SKY, (0, (5, 1))),
    11: (GREEN, (0, (3, 1, 1, 1))),
    15: (ORANGE, (0, (1, 1))),
    16: (BLUE, "-"),
    32: (GREEN, (0, (3, 1, 1, 1))),
    64: (ORANGE, (0, (1, 1))),
}
"""Colour and dashes of a latent depth or a width."""

DOMAINS = {"tem": "TEM", "stem": "STEM", "temstem": "TEM+STEM"}
FAMILIES = {
    "autoencoder": "autoencoder",
    "kernel": "kernel",
    "mlp1": "MLP, 1 hidden layer",
    "mlp2": "MLP, 2 hidden layers",
}
NOT_TRAINED = "not trained yet"

_SETTINGS: Any = {
    "font.size": POINTS,
    "axes.titlesize": 8.0,
    "axes.labelsize": POINTS,
    "xtick.labelsize": POINTS,
    "ytick.labelsize": POINTS,
    "legend.fontsize": POINTS,
    "axes.linewidth": 0.6,
    "pdf.fonttype": 42,  # text stays text that can be searched and edited
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
}


def settings() -> AbstractContextManager[None]:
    """Return a context in which figures are drawn and written, whatever the user has set.

    Raises:
        ValueError: matplotlib is not installed.
    """
    figure_type()
    import matplotlib as mpl

    return mpl.rc_context({**mpl.rcParamsDefault, **_SETTINGS})


def new(height_in: float, *, layout: str | None = None, width_in: float = WIDTH_IN) -> Any:
    """Return an empty figure.

    Raises:
        ValueError: matplotlib is not installed.
    """
    return figure_type()(figsize=(width_in, height_in), layout=layout)


def files(output: Path, name: str) -> tuple[Path, Path]:
    """Return the PNG and the PDF file of a figure."""
    return output / f"{name}.png", output / f"{name}.pdf"


def frame(figure: Any, title: str, caption: str, *, head_in: float = 0.28) -> None:
    """Write title and caption, and keep a constrained layout out of their place.

    ``head_in`` is what the title, and whatever the figure puts below it, takes of the height.
    """
    height = figure.get_figheight()
    text = wrapped(caption)
    foot_in = 0.14 + 0.125 * (1 + text.count("\n"))
    figure.text(0.5, 1 - 0.13 / height, title, fontsize=9, ha="center", va="center")
    figure.text(0.01, 0.05 / height, text, va="bottom")
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0, foot_in / height, 1, 1 - (foot_in + head_in) / height))


def save(figure: Any, output: Path, name: str, *, exact: bool = False) -> int:
    """Return how many bytes a figure takes as PNG and PDF, having written both or neither.

    No file holds a date or a version, so that the same figure is the same bytes. Without
    ``exact``, the PNG file has a palette of 256 colours, which takes half the bytes.
    """
    output.mkdir(parents=True, exist_ok=True)
    pairs = [(path, path.with_name(f".{path.name}.part")) for path in files(output, name)]
    nothing = {"CreationDate": None, "Creator": None, "Producer": None}
    try:
        with settings():  # they count when a file is written, too
            for path, partial in pairs:
                if path.suffix == ".png":
                    _write_png(figure, partial, exact=exact)
                else:
                    figure.savefig(partial, dpi=DPI, format="pdf", metadata=nothing)
        sizes = [partial.stat().st_size for _, partial in pairs]
        for path, partial in pairs:
            partial.replace(path)
    finally:
        for _, partial in pairs:
            partial.unlink(missing_ok=True)
    return sum(sizes)


def _write_png(figure: Any, path: Path, *, exact: bool) -> None:
    from PIL import Image  # matplotlib needs it, too

    full = io.BytesIO()
    figure.savefig(full, dpi=DPI, format="png", metadata={"Software": None})
    with Image.open(full) as image:
        opaque = image.convert("RGB")
    made = opaque if exact else opaque.quantize(256, dither=Image.Dither.NONE)
    made.save(path, "PNG", optimize=True)


def label(config: zoo.ModelConfig) -> str:
    """Return what a model is, in two lines."""
    if config.family == "autoencoder":
        return f"autoencoder\nd = {config.size}"
    kind = {"kernel": "kernel", "mlp1": "MLP, 1 hidden", "mlp2": "MLP, 2 hidden"}[config.family]
    return f"{kind}\nw = {config.size}"


def wrapped(text: str, *, width_in: float = WIDTH_IN) -> str:
    """Return a caption broken into lines of the smallest type."""
    return textwrap.fill(" ".join(text.split()), round(width_in * 18.5))


def find(name: str, root: str | None) -> checkpoint.Model | None:
    """Return a model, or None where it is not trained yet."""
    try:
        return checkpoint.load(name, root=root)
    except FileNotFoundError:
        return None


def say_missing(axes: Any, text: str = NOT_TRAINED) -> None:
    """Make a panel empty but for a line that says why."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=PALE)
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=DARK)

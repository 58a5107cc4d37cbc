"""A model's chart of its gain over the tuned Gaussian, and its place in the model's card."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from emd import checkpoint
from experiments.cards import holds, regions
from experiments.cards.holds import Cell, Row
from experiments.cards.regions import Gains
from experiments.curves import figure_type

PICTURE = "gain.png"
"""In a model's folder."""

HEADING = "## Where it holds"
"""Of the section that is added to a model's card, between its prose and its facts."""

_FENCE = "```"
_KEY = "emd-gain"  # of the picture's text chunk that tells what it was drawn from
_EDGES_DB = (-5.0, -1.0, -holds.LEVEL_DB, holds.LEVEL_DB, 1.0, 5.0)
# Orange is told from blue whatever an eye's colour vision, and in grey the hatching is left.
_COLOURS = np.array([
    (226, 125, 34), (245, 176, 109), (252, 222, 191), (246, 246, 246),
    (209, 227, 243), (150, 192, 226), (89, 154, 207),
], np.uint8)  # fmt: skip
_HATCH = "#a85a10"
_SHADES = 32  # of the palette
_DPI = 100
_TITLE = 53  # characters that fit at full size
_PLAIN = {"fontsize": 8.5, "antialiased": False}  # grey edges of figures would double the file


def write_all(root: Path, rows: Sequence[Row]) -> list[str]:
    """Return the models of a folder whose charts and cards were written, from their rows.

    Raises:
        ValueError: matplotlib is not installed.
    """
    done = []
    for name in dict.fromkeys(row["model"] for row in rows):
        folder = root / name
        if name in holds.REFERENCES or not checkpoint.is_there(folder):
            continue
        own = [row for row in rows if row["model"] == name]
        _replace(folder / PICTURE, picture(name, own))
        card = folder / "card.md"
        _replace(card, with_section(card.read_text(), section(name, own)).encode())
        done.append(name)
    return done


def stale(root: Path, rows: Sequence[Row]) -> list[str]:
    """Return the models of a folder whose chart or card is of other rows than these, or missing."""
    wrong = []
    for name in checkpoint.available(root=root):
        folder = root / name
        if not checkpoint.is_there(folder):
            continue
        own = [row for row in rows if row["model"] == name]
        drawn = folder / PICTURE
        card = (folder / "card.md").read_text()
        is_drawn = drawn.is_file() and _stamp(own).encode() in drawn.read_bytes()
        if not own or not is_drawn or with_section(card, section(name, own)) != card:
            wrong.append(name)
    return wrong


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(content)
    partial.replace(path)


# --- the card -------------------------------------------------------------------------------------


def with_section(card: str, text: str) -> str:
    """Return a model's card with this section in place of the one that is there, if any.

    Its prose and facts stay as they are.
    """
    prose, fence, facts = card.partition(_FENCE)
    prose = prose.partition(f"{HEADING}\n")[0].rstrip()
    return f"{prose}\n\n{text}\n\n{fence}{facts}" if fence else f"{prose}\n\n{text}\n"


def section(name: str, rows: Sequence[Row]) -> str:
    """Return the section of a model's card: where it holds in words, the chart and how it came."""
    return f"""\
{HEADING}

{regions.sentence(regions.of_model(rows, name))}

![Gain of {name} over a tuned Gaussian by dose and spacing; hatched where it loses]({PICTURE})

*Gain in dB of squared error over that Gaussian, hatched where it loses by more than \
{holds.LEVEL_DB:g} dB: the mean of {holds.FIELDS} fields of {holds.SIDE_PX}x{holds.SIDE_PX} px a \
cell, the Gaussian tuned on {holds.FIELDS} others. Measured by `python -m experiments.cards` on \
the weights `{rows[0]["weights"] if rows else "?"}`.*"""


# --- the picture ----------------------------------------------------------------------------------


def picture(name: str, rows: Sequence[Row]) -> bytes:
    """Return a model's chart as PNG, a panel a domain.

    Raises:
        ValueError: matplotlib is not installed.
    """
    gains = regions.of_model(rows, name)
    domains = [domain for domain in regions.FIELDS if any(c.domain == domain for c in gains)]
    figure = figure_type()(figsize=(4.2, 2.5 * len(domains) + 0.2), dpi=_DPI, layout="constrained")
    title = f"{name}: gain over a tuned Gaussian [dB]"
    size = min(9.0, 9.0 * _TITLE / len(title))
    figure.suptitle(title, fontsize=size, weight="bold")
    panels = figure.subplots(len(domains), squeeze=False)[:, 0]
    for panel, domain in zip(panels, domains, strict=True):
        _draw(panel, domain, gains)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=_DPI, format="png")
    return _small(drawn, _stamp(rows))


def _draw(panel: Any, domain: str, gains: Gains) -> None:
    """Cells in colour with their numbers; those where the model loses hatched and outlined."""
    columns, lines = len(holds.DOSES), len(holds.SPACINGS_PX)
    values = np.array(
        [[gains.get(Cell(domain, d, s), np.nan) for d in holds.DOSES] for s in holds.SPACINGS_PX]
    )
    colours = _COLOURS[np.digitize(values, _EDGES_DB)]
    panel.imshow(colours, origin="lower", extent=(0, columns, 0, lines), aspect="auto")
    lost = values < -holds.LEVEL_DB
    for line, column in np.ndindex(lines, columns):
        value, right, top = values[line, column], column + 1, line + 1
        if lost[line, column]:
            panel.fill(
                (column, right, right, column), (line, line, top, top),
                fill=False, hatch="||", edgecolor=_HATCH, linewidth=0,
            )  # fmt: skip
        text = f"{value:+.1f}" if abs(value) > holds.LEVEL_DB else "0.0"
        panel.text(
            column + 0.5, line + 0.48, text.replace("-", "\N{MINUS SIGN}"),
            ha="center", va="center", **_PLAIN,
            weight="bold" if lost[line, column] else "normal",
            bbox={"facecolor": colours[line, column] / 255, "linewidth": 0, "pad": 1.0},
        )  # fmt: skip
    for x, y in _outline(lost):
        panel.plot(x, y, color="black", linewidth=1.6, solid_capstyle="projecting", clip_on=False)
    panel.set_xticks(np.arange(columns) + 0.5, [f"{dose:g}" for dose in holds.DOSES], **_PLAIN)
    panel.set_yticks(np.arange(lines) + 0.5, [f"{s:g}" for s in holds.SPACINGS_PX], **_PLAIN)
    panel.set_xlabel(f"dose [{regions.DOSE[domain]}]", fontsize=8)
    panel.set_ylabel("spacing [px]", fontsize=8)
    panel.set_title(f"{regions.FIELDS[domain]}; hatched: it loses", fontsize=8)


def _outline(marked: Bool[np.ndarray, "h w"]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """The sides, as (x, y) of both ends, between marked cells and others or the border."""
    padded = np.pad(marked, 1)
    for y, x in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1]).tolist():
        yield (x, x + 1), (y, y)
    for y, x in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1]).tolist():
        yield (x, x), (y, y + 1)


def _small(drawn: io.BytesIO, stamp: str) -> bytes:
    """A picture in few colours, with a text chunk that tells what it was drawn from."""
    from PIL import Image, PngImagePlugin  # matplotlib brings it

    chunk = PngImagePlugin.PngInfo()
    chunk.add_text(_KEY, stamp)
    few = Image.open(drawn).convert("RGB").quantize(_SHADES, dither=Image.Dither.NONE)
    written = io.BytesIO()
    few.save(written, format="png", optimize=True, pnginfo=chunk)
    return written.getvalue()


def _stamp(rows: Sequence[Row]) -> str:
    """What a chart follows from: the rows, weights among them."""
    cells = [[row[name] for name in holds.COLUMNS] for row in rows]
    return hashlib.sha256(repr(cells).encode()).hexdigest()[:16]

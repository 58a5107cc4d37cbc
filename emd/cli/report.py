"""Owns the page beside a result that says how far it is to be trusted: `emd denoise --report`.

Imports jax: to be imported where a command runs, not where its arguments are read.
"""

from __future__ import annotations

import base64
import html
import math
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

import emd
from emd.checkpoint import Model, fingerprint
from emd.cli import drawing, findings, trust_picture, words
from emd.cli.choice import Choice
from emd.cli.findings import Caution, Findings
from emd.data import micrograph
from emd.data.calibration import Calibration
from emd.data.intensity import prepare
from emd.data.replacing import replacing
from emd.history import now
from emd.putback import Electrons

SUFFIX = ".report.html"

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.45 sans-serif; color: #222; max-width: 62em; margin: 1.5em auto }}
h1 {{ font-size: 1.35em }} h2 {{ font-size: 1.1em; margin-top: 1.4em }}
img {{ max-width: 100%; height: auto }}
table {{ border-collapse: collapse }}
th, td {{ text-align: left; vertical-align: top; padding: 0.2em 1.2em 0.2em 0 }}
th {{ color: #555; white-space: nowrap; font-weight: normal }}
.caution {{ border-left: 4px solid #D55E00; padding: 0.1em 0.8em; margin: 0.5em 0 }}
.well {{ border-left: 4px solid #009E73; padding: 0.1em 0.8em; margin: 0.5em 0 }}
.note {{ color: #555; font-size: 0.92em }}
@media print {{ body {{ margin: 0; max-width: none; font-size: 11px }} img, .caution {{
break-inside: avoid }} }}
</style>
</head>
<body>
<h1>{title}</h1>
{about}
<h2>Warnings</h2>
{cautions}
<h2>Before, after, and what was removed</h2>
<img src="data:image/png;base64,{images}" alt="before, after, residual, power of the residual">
<h2>Error and whiteness</h2>
<img src="data:image/png;base64,{trust}" alt="error map, power by frequency, correlations">
<h2>Numbers</h2>
{numbers}
<p class="note">{how}</p>
</body>
</html>
"""
_HOW = """\
The residual is before - after: where the model took out noise alone it shows no structure, has
about the variance of the noise, and its neighbours are uncorrelated. Blur shows as edges and
columns in it. The error map is an estimate from this image; its factor was fitted to simulated
micrographs, where the truth is known. An error that all flips and turns share, as blur, is not in
it. That an image is like the simulated ones does not prove the result right. Dose and noise are
estimates from the image alone.
"""
_PUT_BACK = (
    "put back",
    "what the residual showed beyond the noise is in the result already; the error map is that of "
    "the model alone",
)


class _Pair(NamedTuple):
    """An image less its `spikes`, its restoration, and what their files say of them."""

    before: Shaped[np.ndarray, "h w"]
    after: Shaped[np.ndarray, "h w"]
    spikes: int
    shape: tuple[int, ...]
    calibration: Calibration
    steps: list[dict[str, Any]]


def place_of(output: Path) -> Path:
    """The page's place: beside the result, with its whole name."""
    return output.with_name(output.name + SUFFIX)


def check(output: Path, *, overwrite: bool) -> None:
    """Nothing: to be told before anything slow.

    Raises:
      ImportError: the pictures need a package that is not installed.
      OSError: the page could not be written.
    """
    drawing.check()
    micrograph.check_output(place_of(output), overwrite=overwrite)


def write(
    source: Path,
    output: Path,
    model: Model,
    choice: Choice,
    *,
    signal: str | None,
    frame: int | None,
    tile_px: int | None,
    despike: bool,
    put_back: bool | Electrons | None,
    overwrite: bool,
) -> Path:
    """The page, which is then there, or all is as it was; of a stack it is about the first frame.

    Args:
      source: what was restored.
      output: the result.
      model: that made it.
      choice: which model that is, and why.
      signal: which image of the source; None for its only one.
      frame: which frame of a stack was restored; None for all.
      tile_px: side of the pieces worked on at a time; None for what suits.
      despike: whether isolated spikes were replaced first.
      put_back: whether structure was put back, and by which noise; None for wherever it could be.
      overwrite: replace a page that is there.

    Raises:
      OSError, ValueError: a file cannot be read, or the page not be written.
      ImportError: as of `check`.
    """
    check(output, overwrite=overwrite)
    pair = _read(source, output, signal, frame, despike)
    electrons = put_back if isinstance(put_back, Electrons) else None
    found = findings.find(pair.before, pair.after, model, electrons=electrons, tile_px=tile_px)
    back = _of_putting_back(pair)
    found.told.extend(back)
    numbers = findings.rows(found)
    if put_back is not False and not any(text.startswith("nothing") for text in back):
        numbers.append(_PUT_BACK)
    name = f"{source.name}, restored by {model.config.name}"
    page = _PAGE.format(
        title=html.escape(name),
        about=_table(_about(source, output, model, choice, pair)),
        cautions=_told(findings.cautions(found)),
        images=_encoded(_images(pair, name, found)),
        trust=_encoded(trust_picture.draw(pair.before, pair.after, found)),
        numbers=_table(numbers),
        how=html.escape(_HOW),
    )
    place = place_of(output)
    with replacing(place) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return place


def _read(
    source: Path, output: Path, signal: str | None, frame: int | None, despike: bool
) -> _Pair:
    """The first frame of what was restored."""
    with (
        micrograph.opened(source, signal=signal, frame=frame) as given,
        micrograph.opened(output) as made,
    ):
        if given.shape != made.shape:
            sizes = words.size(given.shape), words.size(made.shape)
            raise ValueError(f"{output}: is {sizes[1]}, not {sizes[0]}: restore {source} anew")
        before, spikes = given[:1][0], 0
        if despike:
            before, spikes = _despiked(before)
        steps = made.metadata.get("emd", [])
        return _Pair(before, made[:1][0], spikes, given.shape, given.calibration, steps)


def _of_putting_back(pair: _Pair) -> list[str]:
    """What the record warns of in putting back the first frame's structure."""
    told = pair.steps[-1].get("warnings", []) if pair.steps else []
    told = [text.removeprefix("frame 0: ") for text in told]
    return [text for text in told if "put back" in text and not text.startswith("frame ")]


def _despiked(pixels: Shaped[np.ndarray, "h w"]) -> tuple[Shaped[np.ndarray, "h w"], int]:
    """The image that the model saw, but for pixels that are not finite, and how many were spikes.

    A spike is no structure that the model took out, and it would scale the whole error map.
    """
    frame = prepare(pixels, spikes=True)
    if frame.wrong is None:
        return frame.pixels, frame.spikes
    return np.where(frame.wrong, pixels, frame.pixels), frame.spikes


def _about(
    source: Path, output: Path, model: Model, choice: Choice, pair: _Pair
) -> list[tuple[str, str]]:
    """What the page is about, name by name."""
    told = [
        ("image", f"{source.name}: {words.size(pair.shape)} {pair.before.dtype}"),
        ("result", output.name),
    ]
    if (count := math.prod(pair.shape[:-2])) > 1:
        told.append(("frame", f"0 of {count}: all below is about this one alone"))
    if pair.spikes:
        told.append(
            ("spikes", f"{pair.spikes} replaced first; the image before, below, is without them")
        )
    why = f", as {choice.reason}" if choice.reason else ""
    weights = fingerprint(model.variables)
    told.append(("model", f"{model.config.name}{why} (weights {weights})"))
    return [*told, ("made by", f"emd {emd.__version__}, on {now()}")]


def _images(pair: _Pair, title: str, found: Findings) -> bytes:
    mean, std = words.number(found.residual.mean), words.number(found.residual.std)
    caption = f"residual: mean {mean}, standard deviation {std} counts"
    size, unit = pair.calibration
    scene = drawing.Scene(pair.before, pair.after, (0, 0), size, unit, title, caption)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.png"
        drawing.write(scene, path)
        return path.read_bytes()


def _encoded(png: bytes) -> str:
    return base64.b64encode(png).decode("ascii")


def _told(cautions: list[Caution]) -> str:
    if not cautions:
        return '<p class="well">Nothing to warn of.</p>'
    lines = (
        f'<p class="caution"><b>{html.escape(each.warning)}</b>: '
        f"{html.escape(each.consequence)}.</p>"
        for each in cautions
    )
    return "\n".join(lines)


def _table(rows: Iterable[tuple[str, str]]) -> str:
    lines = (f"<tr><th>{html.escape(n)}</th><td>{html.escape(text)}</td></tr>" for n, text in rows)
    return "<table>\n" + "\n".join(lines) + "\n</table>"

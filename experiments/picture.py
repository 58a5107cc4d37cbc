"""Draw originals beside their restorations: `python -m experiments.picture`.

Without `--inputs` it draws two simulated micrographs, whose truth it shows and scores against; the
README's picture is made so. Pixels are shown one to one, without interpolation.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from emd import checkpoint, metrics
from emd.data import crops, micrograph
from emd.restore import denoise
from experiments import config as configs
from experiments import simulate
from experiments.curves import figure_type, save_figure

MODELS = "kernel_w7 mlp1_w7 latent16"
"""Models of each family, to be prefixed by the domain."""

SIMULATED = (("tem", "membranes", 20.0, 1), ("stem", "columns", 3.0, 6))
"""Domain, kind, dose and seed, chosen so that the middle shows something."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What to restore, by what, and how much of it to show."""

    inputs: str | None = configs.option(
        None, "domain:file of TIFF micrographs, by commas, such as tem:a.tif,stem:b.tif"
    )
    models: str = configs.option(MODELS, "models without their domain, by spaces")
    side_px: int = configs.option(192, "side of the square shown, from the micrograph's middle")
    checkpoints: str | None = configs.option(None, "folder of models; those shipped without it")
    output: str = configs.option("results/restored.png", "PNG file to write")
    overwrite: bool = configs.option(False, "replace the picture if it exists")


class Row(NamedTuple):
    """One micrograph of the picture, and its truth where that is known."""

    domain: str
    title: str
    pixels: np.ndarray
    truth: Float[np.ndarray, "h w"] | None


def run(config: Config) -> dict[str, float]:
    """Return the PSNR of each restoration whose truth is known, having drawn them all.

    Raises:
        ValueError: an input is not domain:file, or matplotlib is not installed.
        FileNotFoundError: a model or a file is missing.
        FileExistsError: the picture exists and ``overwrite`` is not set.
    """
    configs.check_counts(config, "side_px")
    Path(config.output).parent.mkdir(parents=True, exist_ok=True)
    micrograph.check_output(Path(config.output), overwrite=config.overwrite)
    figure_type()
    rows = _simulated_rows() if config.inputs is None else _file_rows(config.inputs)
    panels, scores = [], {}
    for row in rows:
        found = [(row.title, row.pixels)]
        for suffix in config.models.split():
            name = f"{row.domain}_{suffix}"
            model = checkpoint.load(name, root=config.checkpoints)
            restored = np.asarray(denoise(row.pixels.astype(np.float32), model))
            found.append((name, restored))
        if row.truth is not None:
            scored = []
            for name, image in found:
                score = _psnr(image, row.truth)
                scores[f"{row.domain}: {name}"] = score
                scored.append((f"{name}\n{score:.1f} dB", image))
            found = [*scored, ("truth", row.truth)]
        panels.append([(title, _middle(image, config.side_px)) for title, image in found])
    _draw(panels, Path(config.output))
    return scores


def _simulated_rows() -> list[Row]:
    rows = []
    for domain, kind, dose, seed in SIMULATED:
        made = simulate.draw(kind, side_px=512, dose=dose, seed=seed)
        title = f"{kind}, {dose:g} counts a pixel"
        rows.append(Row(domain, title, np.asarray(made.counts[0]), np.asarray(made.clean[0])))
    return rows


def _file_rows(inputs: str) -> list[Row]:
    rows = []
    for entry in inputs.split(","):
        domain, _, path = entry.partition(":")
        if domain not in crops.DOMAINS or not path:
            raise ValueError(f"--inputs has {entry!r}: write tem:FILE, stem:FILE or temstem:FILE")
        pixels = micrograph.read(path).pixels
        frame = pixels if pixels.ndim == 2 else pixels[0]
        rows.append(Row(domain, Path(path).stem, frame, None))
    return rows


def _psnr(image: np.ndarray, truth: Float[np.ndarray, "h w"]) -> float:
    span = float(truth.max() - truth.min())
    pair = [jnp.asarray(x, jnp.float32)[None] for x in (image, truth)]
    return float(metrics.psnr(pair[0], pair[1], data_range=span)[0])


def _middle(image: np.ndarray, side: int) -> np.ndarray:
    top, left = (max(0, (n - side) // 2) for n in image.shape)
    return image[top : top + side, left : left + side]


def _draw(panels: list[list[tuple[str, np.ndarray]]], path: Path) -> None:
    """Draw rows of panels, each row on the grey scale of its last."""
    columns = max(len(row) for row in panels)
    figure = figure_type()(figsize=(2.2 * columns, 2.65 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), columns, squeeze=False)
    for line, row in zip(axes, panels, strict=True):
        low, high = np.percentile(row[-1][1], (0.1, 99.9))
        for axis in line:
            axis.set_axis_off()
        for axis, (title, image) in zip(line, row, strict=False):
            axis.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axis.set_title(title, fontsize=8)
    save_figure(figure, path)


if __name__ == "__main__":
    configs.main(run, Config)

"""Pictures of failures: where a family does worst on simulated micrographs of a common dose."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from emd import checkpoint
from emd.restore import denoise
from experiments.benchmark import table
from experiments.cards import measure, sections
from experiments.curves import figure_type, save_figure

SHOWN = {
    "autoencoders": "latent16",
    "kernels": "kernel_w7",
    "mlps": "mlp1_w7",
    "skips": "skip48_clean",
}
"""The model of each family that its picture shows, without its domain."""

SIDE_PX = 96
"""Of the square shown."""


class Failure(NamedTuple):
    """A scene, what a model made of it, and what it gained."""

    model: str
    kind: str
    gain_db: float
    scene: measure.Scene
    restored: measure.Image


def worst(rows: list[table.Row], model: str) -> tuple[str, int] | None:
    """Return kind and seed of the scene, diffraction apart, that a model gains least on.

    None where it was not scored.
    """
    found = [
        (float(row["worst_db"]), row["scene"], int(row["worst_seed"]))
        for row in rows
        if row["model"] == model
        and row["dose"] == f"{measure.COMMON_DOSE:g}"
        and row["scene"] != sections.SPECIAL
    ]
    return min(found)[1:] if found else None


def draw_all(rows: list[table.Row], root: Path, folder: Path, *, side_px: int) -> list[Path]:
    """Return the pictures drawn, one a family that is there.

    Raises:
        ValueError: matplotlib is not installed.
    """
    drawn = []
    for family, suffix in SHOWN.items():
        failures = []
        for domain in measure.SCORED_DOMAINS:
            name = f"{domain}_{suffix}"
            found = worst(rows, name)
            if found is None:
                continue
            kind, seed = found
            scene = measure.draw(kind, measure.COMMON_DOSE, side_px=side_px, seed=seed)
            restored = denoise(scene.noisy, checkpoint.load(name, root=root))
            gain = measure.gain_db(scene, restored)
            failures.append(Failure(name, kind, gain, scene, restored))
        if failures:
            drawn.append(folder / f"{family}.png")
            _draw(failures, drawn[-1])
    return drawn


def _draw(failures: list[Failure], path: Path) -> None:
    figure = figure_type()(figsize=(8, 2.25 * len(failures)), layout="constrained")
    axes = figure.subplots(len(failures), 4, squeeze=False)
    for line, failure in zip(axes, failures, strict=True):
        clean = failure.scene.clean
        low, high = np.percentile(clean, (0.1, 99.9))
        images = (
            (f"{failure.kind}, {measure.COMMON_DOSE:g} counts a pixel", failure.scene.noisy),
            (f"{failure.model}: {failure.gain_db:+.1f} dB", failure.restored),
            ("truth", clean),
        )
        for axis, (title, image) in zip(line, images, strict=False):
            axis.imshow(_middle(image), cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axis.set_title(title, fontsize=8)
        error = _middle(failure.restored - clean)
        limit = float(np.abs(error).max())
        shown = line[3].imshow(error, cmap="PuOr", vmin=-limit, vmax=limit, interpolation="nearest")
        line[3].set_title("restored less truth [counts]", fontsize=8)
        figure.colorbar(shown, ax=line[3], shrink=0.9).ax.tick_params(labelsize=7)
        for axis in line:
            axis.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, path)


def _middle(image: measure.Image) -> measure.Image:
    top, left = (max(0, (side - SIDE_PX) // 2) for side in image.shape)
    return image[top : top + SIDE_PX, left : left + SIDE_PX]

"""What the examples are of: simulated micrographs with their truth, or real ones of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from emd.data import crops, micrograph
from experiments import simulate

COUNT = 5
"""Examples of each model, as in the paper's figures."""

SIDE_PX = 320
"""Side of what is restored: a simulated micrograph, or at most the middle of a real one."""

SHOWN_PX = (100, 160)
"""Height and width of the middle of it that is shown."""

SIMULATED: dict[str, tuple[tuple[str, float, int], ...]] = {
    "tem": (
        ("membranes", 20.0, 4),
        ("nanoparticles", 20.0, 0),
        ("lattice", 200.0, 2),
        ("nanoparticles", 100.0, 4),
        ("lattice", 20.0, 7),
    ),
    "stem": (
        ("columns", 5.0, 6),
        ("particles", 10.0, 0),
        ("dislocations", 50.0, 0),
        ("terrain", 4.0, 6),
        ("columns", 10.0, 4),
    ),
}
"""Kind, mean counts a pixel and seed: what training takes, at doses that leave much to restore."""

_MIXED = {"tem": (0, 1, 2), "stem": (0, 1)}
"""Which examples of either domain TEM+STEM models are shown on."""

Plane = Float[np.ndarray, "h w"]


class Example(NamedTuple):
    """A micrograph to restore, and its truth where that is known."""

    title: str
    pixels: Plane
    truth: Plane | None


def gather(domain: str, data_dir: str | None) -> list[Example]:
    """Return five examples of a domain: simulated, or real ones of a folder.

    Raises:
        ValueError: the folder has too few micrographs, or one that is too small.
        FileNotFoundError: a folder is missing or empty.
    """
    if domain == "temstem":
        both = {name: gather(name, data_dir) for name in crops.domains_of(domain)}
        return [both[name][i] for name, places in _MIXED.items() for i in places]
    if data_dir is not None:
        return _real(Path(data_dir) / domain)
    found = []
    for kind, dose, seed in SIMULATED[domain]:
        made = simulate.draw(kind, side_px=SIDE_PX, dose=dose, seed=seed)
        planes = (np.asarray(plane[0], np.float32) for plane in made)
        found.append(Example(f"{kind}, dose {dose:g}", *planes))
    return found


def _real(folder: Path) -> list[Example]:
    """The middle of five files, taken evenly from all in order of their names."""
    paths = micrograph.find(folder)
    if len(paths) < COUNT:
        raise ValueError(f"{folder} has {len(paths)} micrographs: {COUNT} are needed")
    found = []
    for i in range(COUNT):
        path = paths[i * len(paths) // COUNT]
        pixels = micrograph.read(path).pixels
        frame = middle(pixels.reshape(-1, *pixels.shape[-2:])[0], (SIDE_PX, SIDE_PX))
        if frame.shape[0] < SHOWN_PX[0] or frame.shape[1] < SHOWN_PX[1]:
            size, least = (f"{h}x{w}" for h, w in (frame.shape, SHOWN_PX))
            raise ValueError(f"{path} has {size} px: at least {least} are shown")
        found.append(Example(path.stem[:20], frame.astype(np.float32), None))
    return found


def middle(image: Plane, shape: tuple[int, int]) -> Plane:
    """Return the middle of an image, at most of that shape."""
    top, left = (max(0, (n - m) // 2) for n, m in zip(image.shape, shape, strict=True))
    return image[top : top + shape[0], left : left + shape[1]]


def mean3(image: Plane) -> Plane:
    """Return the mean over each whole 3x3 window."""
    return np.lib.stride_tricks.sliding_window_view(image, (3, 3)).mean((-2, -1))


def grey_range(pixels: Plane) -> tuple[float, float]:
    """Return what is black and what is white in all panels of an example."""
    low, high = np.percentile(mean3(middle(pixels, SHOWN_PX)), (0.5, 99.5))
    return float(low), float(max(high, low + 1e-6))

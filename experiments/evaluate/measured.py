"""What the paper's claims are tested on: each model applied, timed, and looked at for grids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from emd import checkpoint
from emd.apply import over_image
from emd.checkpoint import Model
from emd.data import crops, normalise, simulate
from experiments.benchmark import machine, timing
from experiments.evaluate import checkerboard, entries, overfitting
from experiments.evaluate.checkerboard import Grid
from experiments.evaluate.entries import Entry, Trend
from experiments.evaluate.overfitting import Gap

MICROGRAPHS = 10
"""Simulated micrographs of each domain that grids are looked for in: each kind in its share."""

MICROGRAPH_PX = 512
"""Their side."""

SEED = 1
"""Of the simulated micrographs; models are trained on those of seed 0."""

_TIMED_S = 20.0


class Settings(NamedTuple):
    """Which models, on what data, and how long they are timed."""

    checkpoints: str | None
    data_dir: str | None
    eval_dir: str | None
    repeats: int
    side_px: int


class Grids(NamedTuple):
    """Grids of one model's outputs beside those of its inputs, an entry a micrograph."""

    outputs: list[Grid]
    inputs: list[Grid]

    def added(self) -> Float[np.ndarray, " n"]:
        """Return how far the excess of each output is above that of its input."""
        return np.array([o.excess - i.excess for o, i in zip(*self, strict=True)])

    def share(self) -> float:
        """Return the grid's root mean square over the mean, of outputs, the median of images."""
        return float(np.median([grid.share for grid in self.outputs]))


class Measured(NamedTuple):
    """All that claims are tested on, of one model; None where it could not be measured."""

    entry: Entry
    parameters: int | None = None
    gap: Gap | None = None
    seconds: float | None = None
    """To restore a megapixel, the median of repeats."""
    grids: Grids | None = None
    trend: Trend | None = None
    raw: Float[np.ndarray, " r"] | None = None
    """MSEs of the last 500 batches."""
    note: str = ""


def measure(settings: Settings) -> dict[str, Measured]:
    """Return what there is to know of each of the 45 models, applying those that are there.

    Raises:
        ValueError: a folder's micrographs will not do, or a model is damaged.
        FileNotFoundError: a folder is missing or empty.
    """
    known = entries.read(settings.checkpoints)
    there = [name for name, entry in known.items() if entry.is_there]
    models = {name: checkpoint.load(name, root=settings.checkpoints) for name in there}
    domains = list(dict.fromkeys(entry.config.domain for entry in known.values()))
    gaps: dict[str, Gap] = {}
    images: dict[str, list[Float[np.ndarray, "h w"]]] = {}
    with tqdm(total=2 * len(models), unit="step") as bar:
        for domain in domains:
            own = [model for model in models.values() if model.config.domain == domain]
            if own:
                images[domain] = micrographs(domain, settings.eval_dir)
            for name, gap in _gaps(domain, own, settings.data_dir):
                gaps[name] = gap
                bar.set_description(f"overfitting {name}")
                bar.update()
        x = micrograph_to_time(settings.side_px)
        inputs = {domain: [checkerboard.measure(i) for i in images[domain]] for domain in images}
        applied = {}
        for name, model in models.items():
            bar.set_description(f"speed and grid {name}")
            domain = model.config.domain
            applied[name] = (
                seconds_a_megapixel(model, x, repeats=settings.repeats),
                Grids(
                    [checkerboard.measure(over_image(model, i)) for i in images[domain]],
                    inputs[domain],
                ),
            )
            bar.update()
    teachers = {d: models.get(overfitting.teacher_name(d)) for d in domains}
    return {
        name: Measured(
            entry,
            parameters=parameters(models[name]) if name in models else None,
            gap=gaps.get(name),
            seconds=applied[name][0] if name in applied else None,
            grids=applied[name][1] if name in applied else None,
            trend=None if entry.curve is None else entries.trend(entry.curve),
            raw=None if entry.curve is None else entry.curve.raw(),
            note=_note(entry, models.get(name), teachers[entry.config.domain]),
        )
        for name, entry in known.items()
    }


def _gaps(domain: str, models: list[Model], data_dir: str | None) -> Iterator[tuple[str, Gap]]:
    """Each model of a domain and its gap; kernels' and perceptrons' only where their teacher is."""
    if not models:
        return
    sides = overfitting.crop_sides(domain, data_dir)
    by_name = {model.config.name: model for model in models}
    for name, model in by_name.items():
        if model.config.family == "autoencoder":
            yield name, overfitting.of_autoencoder(model, sides)
    students = [model for model in models if model.config.family != "autoencoder"]
    teacher = by_name.get(overfitting.teacher_name(domain))
    if students and teacher is not None:
        yield from overfitting.of_students(students, teacher, sides).items()


def _note(entry: Entry, model: Model | None, teacher: Model | None) -> str:
    if model is None:
        return "missing"
    if entry.config.family == "autoencoder":
        return ""
    if teacher is None:
        return "its teacher is missing"
    return "" if overfitting.has_its_teacher(model, teacher) else "its teacher has changed since"


def parameters(model: Model) -> int:
    """Return how many numbers a model has learnt, batch statistics not counted."""
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(model.variables["params"]))


def micrographs(dataset: str, folder: str | None) -> list[Float[np.ndarray, "h w"]]:
    """Return normalised micrographs of a dataset, simulated or the middles of a folder's.

    Raises:
        ValueError: the folder's micrographs will not do.
        FileNotFoundError: the folder is missing or empty.
    """
    found = []
    for domain in crops.domains_of(dataset):
        if folder is None:
            key = jax.random.key(SEED)
            made = simulate.micrographs(key, domain, count=MICROGRAPHS, side_px=MICROGRAPH_PX)
            found += list(np.asarray(made.counts))
        else:
            loaded = crops.load(folder, domain)[0]
            keep = np.unique(np.linspace(0, len(loaded) - 1, MICROGRAPHS).astype(int))
            found += [_middle(loaded[k].pixels).astype(np.float32) for k in keep]
    return [normalise.normalise(image, normalise.measure(image)) for image in found]


def _middle(image: np.ndarray) -> np.ndarray:
    top, left = (max(0, (side - MICROGRAPH_PX) // 2) for side in image.shape)
    return image[top : top + MICROGRAPH_PX, left : left + MICROGRAPH_PX]


def micrograph_to_time(side_px: int) -> Float[np.ndarray, "s s"]:
    """Return an image to time models on; what it shows changes no time."""
    return np.random.default_rng(SEED).exponential(size=(side_px, side_px)).astype(np.float32)


def seconds_a_megapixel(model: Model, x: Float[np.ndarray, "h w"], *, repeats: int) -> float:
    """Return the median time that a model takes over an image, for each million pixels of it."""
    side = timing.Side(lambda: over_image(model, x), lambda: [over_image(model, x)])
    timed = timing.alternate(side, None, repeats=repeats, seconds=_TIMED_S)
    return timed.ours.median / x.size * 1e6


def device() -> str:
    """Return what models were timed on."""
    return f"{machine.device_name()} ({machine.cpu_model()})"

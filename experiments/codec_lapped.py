"""Fit the contexts of lapped streams: `python -m experiments.codec_lapped --data_dir=train`.

Quantises micrographs by the lapped transform at many steps, fits what is known of a number before
it is coded to its magnitude, and writes weights.npz and card.md to `<workdir>/streams/lapped-v1/`.
Two rounds, as the numbers that the coder chooses depend on what it expects. A few minutes on two
CPU cores.

Weights of streams are for good: what was written with them is lost without them. Better ones get
another version.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import nnls

from emd.checkpoint import format_card
from emd.codec import bands, contexts, lapped, lapped_coder, lapped_weights, tables
from emd.codec.bands import EXPECTED_BITS, FEATURES, PHASES, WEIGHT_BITS, Knowledge
from emd.codec.lapped_layout import layout
from emd.data import crops
from emd.data.replacing import replacing
from emd.threads import share
from experiments import config as configs
from experiments import provenance, training_data

ROUNDS = 2
STEPS_AN_IMAGE = 2
STEP_OCTAVES = (-4.5, 2.0)
"""Steps are drawn between, in octaves of the image's standard deviation."""
PER_SOURCE = 40
"""Images of each source, at most."""
KEPT = 3_000
"""Numbers of a step that are kept, at most."""
_ENOUGH = 300_000  # numbers of a phase and shell: more would hardly move the weights
_REWEIGHTINGS = 3


@dataclasses.dataclass(frozen=True)
class Config:
    """One fit of the contexts."""

    version: int = configs.option(1, "version of the weights that are written")
    data_dir: str | None = configs.option(
        None, "folder with tem/ and stem/ inside; simulated micrographs without it"
    )
    simulated_share: float = configs.option(0.0, "above 0 simulated micrographs are added")
    seed: int = configs.option(0, "seed of the steps")
    workdir: str = configs.option("runs", "folder for the weights")


class _Numbers(NamedTuple):
    """What was known of numbers, and what they were, by phase and shell."""

    features: dict[tuple[int, int], list[Int[np.ndarray, "f n"]]]
    residuals: dict[tuple[int, int], list[Int[np.ndarray, " n"]]]


def run(config: Config) -> dict[str, float]:
    """Return how many blocks the weights, which then lie in their folder, were fitted to.

    Raises:
        ValueError: a setting or the data will not do.
        FileNotFoundError: the data folder is missing or empty.
    """
    configs.check_counts(config, "version")
    data = training_data.prepare("temstem", config.data_dir, config.simulated_share)
    blocks = _blocks(data.images)
    known: dict[int, Knowledge] = {}
    for number in range(ROUNDS):
        found = {side: _gather(blocks, side, known.get(side), config.seed) for side in lapped.SIDES}
        weights = {side: _fit(found[side], len(layout(side).shells)) for side in lapped.SIDES}
        models = _models(found, weights)
        known = {side: Knowledge(weights[side], models) for side in lapped.SIDES}
        print(f"round {number + 1} of {ROUNDS}: {len(blocks)} blocks")
    name = f"lapped-v{config.version}"
    arrays = lapped_weights.pack(known)
    facts = {
        "fingerprint": lapped_weights.unpack(name, arrays).fingerprint,
        "blocks": str(len(blocks)),
        "rounds": str(ROUNDS),
        **data.facts,
        **provenance.facts(),
    }
    place = Path(config.workdir) / "streams" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place) as folder:
        folder.mkdir()
        np.savez(folder / "weights.npz", **arrays)  # type: ignore[arg-type]  # its stubs
        (folder / "card.md").write_text(format_card(name, _TEXT, facts))
    print(place)
    return {"blocks": len(blocks)}


_TEXT = (
    "Contexts of the coder `lapped` of .emdz streams: how what is known of a number's surroundings "
    "tells its magnitude, and the tables it is then coded by. All whole numbers, no pixels. These "
    "weights never change: streams name them by their fingerprint."
)


def _blocks(images: list[crops.Image]) -> list[Float[np.ndarray, "_ _"]]:
    """Return a block of some images of each source."""
    found = []
    for source in sorted({image.source for image in images}):
        own = [image for image in images if image.source == source]
        for image in own[:: -(-len(own) // PER_SOURCE)]:
            found += lapped_coder.crops(image.pixels, 1)
    return found


def _gather(
    blocks: list[Float[np.ndarray, "_ _"]], side: int, known: Knowledge | None, seed: int
) -> _Numbers:
    """Return what blocks are quantised to at some steps, as the coder would with what is known."""
    found = _Numbers({}, {})
    draw = np.random.default_rng(seed)
    octaves = draw.uniform(*STEP_OCTAVES, (len(blocks), STEPS_AN_IMAGE))

    def one(task: tuple[Float[np.ndarray, "h w"], float]) -> list[_Part]:
        block, octave = task
        step = float(block.std()) * 2**octave or 1.0
        how = lapped_coder.settled(side, step, float(np.float32(block.mean())))
        values = lapped_coder.analyse(block, how, slice(0, block.shape[0]))
        if known is None:
            numbers = np.rint(values * 0.85).astype(np.int64)
        else:
            numbers, _ = bands.choose(values, layout(side), known, lapped_coder.EXCHANGE)
        return [_part(each, numbers) for each in bands.steps(numbers, layout(side))]

    tasks = [(b, o) for b, row in zip(blocks, octaves, strict=True) for o in row]
    for parts in share(one, tasks):
        for place, features, residuals in parts:
            found.features.setdefault(place, []).append(features)
            found.residuals.setdefault(place, []).append(residuals)
    return found


_Part = tuple[tuple[int, int], np.ndarray, np.ndarray]


def _part(step: bands.Step, numbers: Int[np.ndarray, "i j c"]) -> _Part:
    """Return phase and shell of a step, and features and residuals of some of its numbers."""
    residuals = (numbers[step.place] - step.predicted).reshape(-1)
    # any stride would see some bands alone
    draw = np.random.default_rng(residuals.size)
    kept = draw.permutation(residuals.size)[:KEPT]
    features = step.features.reshape(FEATURES, -1)[:, kept].astype(np.int32)
    return (step.phase, step.number), features, residuals[kept].astype(np.int32)


def _fit(found: _Numbers, shells: int) -> Int[np.ndarray, "p s f"]:
    """Return the weights that tell magnitudes best, none below 0."""
    weights = np.zeros((PHASES, shells, FEATURES), np.int64)
    for place, parts in found.features.items():
        features = np.concatenate(parts, 1)
        magnitudes = np.abs(np.concatenate(found.residuals[place]))
        step = -(-len(magnitudes) // _ENOUGH)
        known = features[:, ::step] / (1 << EXPECTED_BITS)
        wanted = np.minimum(magnitudes[::step], 255).astype(float)
        used = known.any(1)
        if used.any():
            found_ = _reweighted(known[used], wanted)
            weights[place][used] = np.rint(found_ * (1 << WEIGHT_BITS))
    return weights


def _reweighted(
    known: Float[np.ndarray, "f n"], wanted: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " f"]:
    """Return least squares in which errors count by what is expected."""
    expected = known.mean(0) + 0.02
    weights = np.zeros(len(known))
    for _ in range(_REWEIGHTINGS):
        scaled = known / expected
        normal, right = scaled @ scaled.T, scaled @ (wanted / expected)
        scale = 1 / np.sqrt(np.diag(normal))
        matrix = normal * scale[:, None] * scale + 1e-6 * np.eye(len(scale))
        triangle = np.linalg.cholesky(matrix)
        weights = scale * nnls(triangle.T, np.linalg.solve(triangle, right * scale))[0]
        expected = known.T @ weights + 0.01
    return weights


def _models(
    found: dict[int, _Numbers], weights: dict[int, Int[np.ndarray, "p s f"]]
) -> tuple[contexts.Model, contexts.Model]:
    """Return the tables of contexts: of the mean, which is predicted, and of the others."""
    known: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    numbers: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for side, own in found.items():
        for (phase, shell), parts in own.features.items():
            if not (phase or shell):
                continue  # plain
            for features, residuals in zip(parts, own.residuals[phase, shell], strict=True):
                expected = weights[side][phase, shell] @ features.astype(np.int64) >> WEIGHT_BITS
                classes = contexts.classes(expected)
                # numbers of context 0 are not coded where all are 0
                is_coded = (classes > 0) | residuals[classes == 0].any()
                known[shell > 0].append(classes[is_coded].astype(np.uint8))
                numbers[shell > 0].append(residuals[is_coded])

    def fit(classes: list[np.ndarray], values: list[np.ndarray]) -> contexts.Model:
        flat = np.concatenate(classes).astype(np.int64)
        centred = np.full(flat.shape, tables.CENTRED)
        return contexts.fit(flat, centred, np.concatenate(values).astype(np.int64))

    return fit(known[0], numbers[0]), fit(known[1], numbers[1])


if __name__ == "__main__":
    configs.main(run, Config)

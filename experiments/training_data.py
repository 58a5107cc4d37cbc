"""The micrographs that experiments train and validate on: real ones, simulated ones, or both."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from emd import zoo
from emd.data import crops, truths
from emd.data.simulate import haadf

SIMULATED_COUNT = 300
SIMULATED_SIDE_PX = 256
"""Simulated micrographs of each domain, and their side."""

TRUTH_COUNT = 1000
"""Simulated micrographs of each domain, where they stand for the truth."""

SIMULATION_SEED = 0
"""Simulated micrographs are the same for every run, so that models compare."""

# Of an objective: which real micrographs it takes, what a line says of them, and how they pack.
_REAL: dict[str, tuple[Callable[..., list[crops.Image]], str, Callable[..., Any]]] = {
    "clean": (truths.high_count, "have counts high enough for a truth", truths.pack),
    "thin": (
        truths.counted,
        "tell of their electrons; the others are left out",
        truths.pack_counted,
    ),
}

# Of an objective that has atom columns alone: what draws their lattices.
_LATTICES = {zoo.COLUMNS: haadf.sampled_alike, zoo.BENCHMARK: haadf.benchmark}


class TrainingData(NamedTuple):
    """Images to train on, and crops of held-out fields to validate on."""

    images: list[crops.Image]
    held_out: Float[np.ndarray, "n s s"]
    """Held-out crops, each normalised by itself; real ones where there are any."""
    held_out_whole: Float[np.ndarray, "n s s"]
    """The same crops normalised by their whole micrograph."""
    facts: dict[str, str]


class TruthData(NamedTuple):
    """Truths or counted electrons to train with, and truths of held-out fields to validate on."""

    training: truths.Truths | truths.Counted
    held_out: truths.Truths
    facts: dict[str, str]


Data = TrainingData | TruthData


@functools.lru_cache(maxsize=2)  # a mixture is made of what its two domains read
def _load(data_dir: str, domain: str) -> tuple[list[crops.Image], int]:
    return crops.load(data_dir, domain)


@functools.lru_cache(maxsize=2)
def _simulate(domain: str) -> list[crops.Image]:
    key = jax.random.key(SIMULATION_SEED)
    return crops.simulated(key, domain, count=SIMULATED_COUNT, side_px=SIMULATED_SIDE_PX)


@functools.lru_cache(maxsize=3)  # the sets of a domain share it
def prepare(dataset: str, data_dir: str | None, simulated_share: float) -> TrainingData:
    """Return the training data of a dataset, and say in a line where it is from.

    Raises:
        ValueError: unknown dataset; a share outside [0, 1]; no usable micrograph.
        FileNotFoundError: the folder is missing or empty.
    """
    _check_share(simulated_share)
    domains = crops.domains_of(dataset)
    real: list[crops.Image] = []
    made: list[crops.Image] = []
    small = 0
    for domain in domains if data_dir is not None else ():
        images, count = _load(data_dir, domain)
        real, small = real + images, small + count
    if not real or simulated_share > 0:
        made = [image for domain in domains for image in _simulate(domain)]
    if data_dir is None:
        print("no --data_dir: training on simulated micrographs")
    if small:
        print(f"skipped {small} files smaller than {crops.SIDE_PX}x{crops.SIDE_PX} px")
    images, held = crops.split(real + made)
    if not held:
        raise ValueError(
            f"{data_dir}: every source is a single field, so none can be held out to validate on: "
            "add a second micrograph, or give --simulated_share above 0"
        )
    held_real = [i for i in held if not truths.is_simulated(i)]
    own, whole = crops.held_out_crops(held_real or held)
    facts = {
        **_facts(dataset, real, images, simulated_share),
        "real_fields": str(len({i.field for i in images if not truths.is_simulated(i)})),
        "held_out_crops": f"{len(own)} {'real' if held_real else 'simulated'}",
    }
    return TrainingData(images, own, whole, facts)


def prepare_truths(
    dataset: str,
    data_dir: str | None,
    simulated_share: float,
    count: int,
    objective: str = "clean",
) -> TruthData:
    """Return what an objective learns from: ``count`` simulated truths of each domain, and real.

    Of the real ones `clean` takes those of high counts, see `emd.data.truths.HIGH_COUNT`, and
    `thin` those that tell of their electrons, see `emd.data.truths.counted`; `columns` and
    `benchmark` take none.
    Only truths are validated on.

    Raises:
        ValueError: unknown dataset; a share outside [0, 1]; an objective that needs no truth, or
            columns of another dataset than stem.
        FileNotFoundError: the folder is missing or empty.
    """
    _check_share(simulated_share)
    if objective in _LATTICES:
        return _columns(dataset, count, objective)
    if objective not in _REAL:
        known = ", ".join((*_REAL, *_LATTICES))
        raise ValueError(f"objective {objective!r} has no truths: use one of {known}")
    choose, virtue, pack = _REAL[objective]
    real: list[crops.Image] = []
    if data_dir is None:
        print("no --data_dir: training on simulated micrographs")
    else:
        given = [i for domain in crops.domains_of(dataset) for i in _load(data_dir, domain)[0]]
        real = choose(given)
        print(f"{len(real)} of {len(given)} real micrographs {virtue}")
    key = jax.random.key(SIMULATION_SEED)
    made = truths.simulated(key, dataset, count=count, side_px=SIMULATED_SIDE_PX)
    images, held = crops.split(real + made)
    if objective != "clean":
        held = [image for image in held if truths.is_simulated(image)]
    training = pack(images, simulated_share=simulated_share)
    facts = _facts(dataset, real, images, simulated_share)
    return TruthData(training, truths.pack(held, simulated_share=simulated_share), facts)


def _columns(dataset: str, count: int, objective: str) -> TruthData:
    """Return what an objective of atom columns learns from."""
    zoo.check_objective(objective, dataset)
    print("simulated atom columns alone: no real micrograph is used")
    key = jax.random.key(SIMULATION_SEED)
    kind = _LATTICES[objective]
    made = truths.lattices(key, count=count, side_px=SIMULATED_SIDE_PX, kind=kind)
    images, held = crops.split(made)
    training, held_out = (truths.pack(each, simulated_share=1.0) for each in (images, held))
    return TruthData(training, held_out, _facts(dataset, [], images, 1.0))


def _check_share(simulated_share: float) -> None:
    if not 0 <= simulated_share <= 1:
        raise ValueError(f"simulated_share {simulated_share}: give a fraction from 0 to 1")


def _facts(
    dataset: str, real: list[crops.Image], images: list[crops.Image], simulated_share: float
) -> dict[str, str]:
    """What a card says of the images that a model was trained on; `real` with those held out."""
    made = sum(map(truths.is_simulated, images))
    return {
        "dataset": dataset,
        "real_frames": str(len(images) - made),
        "real_sources": ", ".join(sorted({i.source for i in real})) or "none",
        "simulated_micrographs": str(made),
        "simulated_share": f"{simulated_share if real else 1:g}",
        "data_hash": fingerprint(images),
    }


def fingerprint(images: list[crops.Image]) -> str:
    """Return the first 16 hex digits of the SHA-256 of all images' pixels, in any order."""
    digests = sorted(hashlib.sha256(image.pixels.tobytes()).digest() for image in images)
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]

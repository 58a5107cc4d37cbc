"""What the families' cards need beyond the models' own: measured on simulated micrographs.

Their truth is known. Three tables: by how much models bring a micrograph closer to its truth, what
they make of a flat level, and how our kernels differ from those that the paper prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from emd import checkpoint, zoo
from emd.data import simulate as simulators
from emd.fit import fit
from emd.models import pixelwise, published
from emd.putback import Electrons, put_back
from emd.restore import denoise
from emd.trust.reference import scenes_of
from experiments import simulate
from experiments.benchmark import table

DOSES = (2.0, 20.0, 200.0, 2000.0)
"""Mean counts a pixel of the scenes that models are scored on."""

COMMON_DOSE = 20.0
"""Of the scenes that kernels are compared on, and of the pictures of failures."""

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0)
"""Flat levels, in units of a micrograph's mean above its minimum."""

SUFFIXES = (
    "kernel_w3", "kernel_w7", "kernel_w15", "mlp1_w3", "mlp1_w7", "mlp2_w7",
    "latent4", "latent16", "latent64",
)  # fmt: skip
"""Models that are scored, without their domain: the ends and the middle of each family."""

COUNTED = Electrons(gain=1.0)  # what makes the noise of all scenes
OWN = "fit"  # in place of size and weights where each scene has a kernel fitted to itself
SCORED_DOMAINS = ("tem", "stem")

COLUMNS = {
    "gains": (
        "model", "weights", "scene", "dose", "gain_db", "worst_db", "worst_seed", "put_back_db",
        "put_back_worst_db", "counted_db", "counted_worst_db",
    ),
    "levels": ("model", "weights", "level", "response"),
    "kernels": (
        "model", "weights", "correlation", "cosine", "own_centre", "own_next", "printed_centre",
        "printed_next", "own_sum", "printed_sum", "change_percent", "rms_percent", "psnr_db",
        "rms_sum1_percent", "psnr_sum1_db", "own_gain_db", "printed_gain_db",
    ),
}  # fmt: skip
"""Columns of each table, by its name."""

Tables = dict[str, list[table.Row]]
Image = Float[np.ndarray, "h w"]


class Scene(NamedTuple):
    """A simulated micrograph and its truth."""

    noisy: Image
    clean: Image


def kinds_of(domain: str) -> list[str]:
    """Return the kinds of scene of a domain, those of both for the mixture."""
    domains = SCORED_DOMAINS if domain == "temstem" else (domain,)
    made = [kind.__name__ for one in domains for kind, _, _ in simulators.KINDS[one]]
    return list(dict.fromkeys(made))


def kinds_for(config: zoo.ModelConfig) -> list[str]:
    """Return the kinds of scene that a model is scored on: what it learnt, then its domain's."""
    return list(dict.fromkeys((*kinds_of(scenes_of(config)), *kinds_of(config.domain))))


def draw(kind: str, dose: float, *, side_px: int, seed: int) -> Scene:
    """Return one scene, as a detector without readout noise counts it."""
    made = simulate.draw(kind, side_px=side_px, dose=dose, seed=seed)
    return Scene(np.asarray(made.counts[0]), np.asarray(made.clean[0]))


def gain_db(scene: Scene, restored: Image) -> float:
    """Return how much closer to the truth a restoration is than its input, in squared error."""
    before, after = (_mse(image, scene.clean) for image in (scene.noisy, restored))
    return 10 * float(np.log10(before / after))


def _mse(a: Image, b: Image) -> float:
    return float(np.mean((a.astype(np.float64) - b) ** 2))


def measure_all(root: Path, *, side_px: int, seeds: int) -> Tables:
    """Return the three tables of the models that are there."""
    scored = _there(scored_models(), root)
    answering = _there(answering_models(), root)
    compared = _there(compared_models(), root)
    tables: Tables = {name: [] for name in COLUMNS}
    with tqdm(total=len(scored) + len(answering) + len(compared), unit="model") as bar:
        scenes = {
            (kind, dose): [draw(kind, dose, side_px=side_px, seed=seed) for seed in range(seeds)]
            for domain in (*SCORED_DOMAINS, zoo.COLUMNS)
            for kind in kinds_of(domain)
            for dose in DOSES
        }
        for name in scored:
            tables["gains"] += gains(checkpoint.load(name, root=root), scenes)
            bar.update()
        for domain in SCORED_DOMAINS:
            tables["gains"] += gains(domain, scenes)
        for name in answering:
            tables["levels"] += level_rows(checkpoint.load(name, root=root))
            bar.update()
        for name in compared:
            config = zoo.find(name)
            same = [
                scene
                for kind in kinds_of(config.domain)
                if kind != "diffraction"  # its beam would outweigh all other differences
                for scene in scenes[kind, COMMON_DOSE]
            ]
            tables["kernels"].append(against_published(checkpoint.load(name, root=root), same))
            bar.update()
    return tables


def scored_models() -> list[str]:
    """Return the names of the models that are held against the truth."""
    own = [model.name for model in zoo.SKIP_MODELS]
    return [f"{domain}_{suffix}" for domain in SCORED_DOMAINS for suffix in SUFFIXES] + own


def answering_models() -> list[str]:
    """Return the names of the models whose answer to a level is not that level times a number."""
    return [model.name for model in zoo.PAPER_MODELS if model.family != "kernel"]


def compared_models() -> list[str]:
    """Return the names of the kernels that the paper prints kernels of equal width for."""
    kernels = [model for model in zoo.PAPER_MODELS if model.family == "kernel"]
    return [model.name for model in kernels if model.size in published.WIDTHS]


def _there(names: Sequence[str], root: Path) -> list[str]:
    return [name for name in names if checkpoint.is_there(root / name)]


def stale(tables: Tables, prints: Mapping[str, str]) -> list[str]:
    """Return the models that the tables lack, or have of other weights than the fingerprints.

    A model that is no longer there counts too.
    """
    wanted = (scored_models(), answering_models(), compared_models())
    wrong: set[str] = set()
    for names, rows in zip(wanted, (tables[name] for name in COLUMNS), strict=True):
        due = {(name, prints[name]) for name in names if name in prints}
        listed = {(row["model"], row["weights"]) for row in rows}
        wrong |= {name for name, _ in due ^ listed if not name.endswith(f"_{OWN}")}
    return sorted(wrong)


def gains(
    model: checkpoint.Model | str, scenes: dict[tuple[str, float], list[Scene]]
) -> list[table.Row]:
    """Return a model's gains by kind of scene and dose, also with what it took away put back.

    By the noise that the image tells, and by that of counted electrons, which is known. For the
    name of a domain, those of kernels fitted to each scene by itself.
    """
    rows = []
    own = kinds_of(model) if isinstance(model, str) else kinds_for(model.config)
    for (kind, dose), same in scenes.items():
        if kind not in own:
            continue
        models = [fit(s.noisy, name=OWN).model if isinstance(model, str) else model for s in same]
        restored = [denoise(s.noisy, m) for s, m in zip(same, models, strict=True)]
        pairs, found = list(zip(same, restored, strict=True)), _each_gain(same, restored)
        told, counted = (
            _each_gain(same, [put_back(s.noisy, x, known).pixels for s, x in pairs])
            for known in (None, COUNTED)
        )
        rows.append(
            {
                **_identity(model),
                "scene": kind,
                "dose": f"{dose:g}",
                "gain_db": f"{np.mean(found):.2f}",
                "worst_db": f"{min(found):.2f}",
                "worst_seed": f"{np.argmin(found)}",
                "put_back_db": f"{np.mean(told):.2f}",
                "put_back_worst_db": f"{min(told):.2f}",
                "counted_db": f"{np.mean(counted):.2f}",
                "counted_worst_db": f"{min(counted):.2f}",
            }
        )
    return rows


def level_rows(model: checkpoint.Model) -> list[table.Row]:
    """Return what a model makes of flat, noise-free levels."""
    return [
        {**_identity(model), "level": f"{level:g}", "response": f"{response:.3f}"}
        for level, response in zip(LEVELS, respond(model), strict=True)
    ]


def respond(model: checkpoint.Model) -> Float[np.ndarray, " k"]:
    """Return a model's answers to `LEVELS`, over the middle 8x8 pixels where it is an autoencoder.

    Levels are what a model sees, normalised already.
    """
    side = 64 if model.config.family == "autoencoder" else model.config.size
    flat = jnp.broadcast_to(
        jnp.asarray(LEVELS, jnp.float32)[:, None, None], (len(LEVELS), side, side)
    )
    out = np.asarray(model.module.apply(model.variables, flat), np.float64)
    start = max(0, out.shape[1] // 2 - 4)
    return out[:, start : start + 8, start : start + 8].mean((1, 2))


def against_published(model: checkpoint.Model, scenes: Sequence[Scene]) -> table.Row:
    """Return how a kernel differs from the one of its domain and width that the paper prints."""
    printed = checkpoint.load(f"{model.config.name}_published")
    matrices = [
        np.asarray(pixelwise.kernel_matrix(one.variables["params"]), np.float64)
        for one in (model, printed)
    ]
    own_sum, printed_sum = (float(matrix.sum()) for matrix in matrices)
    pairs = [(denoise(s.noisy, model), denoise(s.noisy, printed)) for s in scenes]
    ours, theirs = zip(*pairs, strict=True)
    noisy = [scene.noisy for scene in scenes]
    # applied to a micrograph above its minimum, a kernel of sum s scales what one of sum 1 gives
    scaled = [
        (own, (other - image.min()) / printed_sum + image.min())
        for (own, other), image in zip(pairs, noisy, strict=True)
    ]
    values = {
        "correlation": _cosine(*(matrix - matrix.mean() for matrix in matrices)),
        "cosine": _cosine(*matrices),
        **_middle("own", matrices[0]),
        **_middle("printed", matrices[1]),
        "own_sum": own_sum,
        "printed_sum": printed_sum,
        "change_percent": _rms_percent(scenes, list(zip(ours, noisy, strict=True))),
        "rms_percent": _rms_percent(scenes, pairs),
        "psnr_db": _psnr_db(scenes, pairs),
        "rms_sum1_percent": _rms_percent(scenes, scaled),
        "psnr_sum1_db": _psnr_db(scenes, scaled),
        "own_gain_db": np.mean(_each_gain(scenes, ours)),
        "printed_gain_db": np.mean(_each_gain(scenes, theirs)),
    }
    return {**_identity(model), **{name: f"{value:.4f}" for name, value in values.items()}}


def _cosine(a: Image, b: Image) -> float:
    return float(np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def _middle(name: str, matrix: Image) -> dict[str, float]:
    """A kernel's weights of the pixel itself and of the one beside it."""
    half = len(matrix) // 2
    return {
        f"{name}_centre": float(matrix[half, half]),
        f"{name}_next": float(matrix[half, half + 1]),
    }


def _rms_percent(scenes: Sequence[Scene], pairs: Sequence[tuple[Image, Image]]) -> float:
    """Root mean square of the pairs' differences, each over the mean of its micrograph."""
    relative = [
        _mse(*pair) / float(scene.noisy.mean(dtype=np.float64)) ** 2
        for scene, pair in zip(scenes, pairs, strict=True)
    ]
    return 100 * float(np.sqrt(np.mean(relative)))


def _psnr_db(scenes: Sequence[Scene], pairs: Sequence[tuple[Image, Image]]) -> float:
    """Mean PSNR between the two of each pair, over the span of its truth."""
    decibels = [
        10 * np.log10(float(np.ptp(scene.clean)) ** 2 / _mse(*pair))
        for scene, pair in zip(scenes, pairs, strict=True)
    ]
    return float(np.mean(decibels))


def _each_gain(scenes: Sequence[Scene], images: Sequence[Image]) -> list[float]:
    return [gain_db(*both) for both in zip(scenes, images, strict=True)]


def _identity(model: checkpoint.Model | str) -> table.Row:
    if isinstance(model, str):
        return {"model": f"{model}_{OWN}", "weights": OWN}
    return {"model": model.config.name, "weights": checkpoint.fingerprint(model.variables)}

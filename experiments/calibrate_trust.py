"""Calibrate error maps, and learn what simulated scenes look like.

`python -m experiments.calibrate_trust --overwrite` writes `emd/trust/reference.json` and prints how
well it holds on seeds and doses that it was not made of; with `--data_dir=data` also which share of
real micrographs is flagged.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from scipy import stats

from emd import checkpoint, noise, zoo
from emd.checkpoint import Model
from emd.data import crops, micrograph, simulate
from emd.data.replacing import replacing
from emd.fit import fit
from emd.restore import denoise
from emd.trust import distribution, spread
from emd.trust.reference import PLACE, Known, family_of, learn, scenes_of
from experiments import config as configs

DOMAINS = {**crops.DOMAINS, zoo.COLUMNS: (zoo.COLUMNS,)}
FITTED_DOSES = (2.0, 10.0, 50.0, 250.0)
TESTED_DOSES = (5.0, 20.0, 100.0, 500.0)
_LEARN, _BOUND, _TEST = 101, 102, 103  # seeds of scenes for statistics
_FIT_SEED, _TEST_SEED = 201, 202  # of those for error maps
_AXES = 8  # of latents' statistics, which are up to 128
_SHARE = 0.99
_LEAST_SCENES = 4  # a dose, of whatever kinds, for error maps
_EVERY = 5  # of the pixels, neighbours being alike
_BATCH = 40
_ONE_DEVIATION, _TWO_DEVIATIONS = 0.6827, 1.96


@dataclasses.dataclass(frozen=True)
class Config:
    """What to calibrate, and on how many scenes."""

    output: str = configs.option(str(PLACE), "JSON file to write")
    checkpoints: str | None = configs.option(None, "folder of models; by default those shipped")
    side_px: int = configs.option(192, "side of a scene in pixels")
    scenes: int = configs.option(300, "scenes a domain for statistics, and as many for the bound")
    families: str | None = configs.option(None, "only these, separated by commas, to try it out")
    data_dir: str | None = configs.option(None, "folder with eval/tem and eval/stem, to report on")
    overwrite: bool = configs.option(False, "replace the file if it exists")


class Ratios(NamedTuple):
    """Of a restoration: errors in units of the map, and how well the map follows them."""

    by: str
    values: Float[np.ndarray, " n"]
    pearson: float
    spearman: float


# --- scenes ----------------------------------------------------------------------------------


@functools.cache
def kinds(domain: str) -> tuple[simulate.Kind, ...]:
    """The kinds of scene of a domain, diffraction apart: no model is for it."""
    found = [kind for part in DOMAINS[domain] for kind, _, _ in simulate.KINDS[part]]
    return tuple(kind for kind in dict.fromkeys(found) if kind is not simulate.diffraction)


def scenes(domain: str, seed: int, config: Config) -> list[Float[np.ndarray, "h w"]]:
    """Noisy scenes of a domain, of all its kinds but diffraction, and of all doses."""
    parts = DOMAINS[domain]
    drawn = [_drawn(part, seed, config.scenes, config.side_px) for part in parts]
    return [image for some in drawn for image in some[: len(some) // len(parts)]]


@functools.cache
def _drawn(part: str, seed: int, count: int, side_px: int) -> list[Float[np.ndarray, "h w"]]:
    order = [kind for kind, _, _ in simulate.KINDS[part]]
    found = []
    for start in range(0, count, _BATCH):
        key = jax.random.fold_in(jax.random.key(seed), start)
        drawn = simulate.micrographs(key, part, count=min(_BATCH, count - start), side_px=side_px)
        images = enumerate(np.asarray(drawn.counts))
        found += [im for k, im in images if order[k % len(order)] is not simulate.diffraction]
    return found


@functools.lru_cache(maxsize=512)
def _scene(kind: simulate.Kind, seed: int, dose: float, side_px: int) -> tuple[Any, Any, Any]:
    """Noisy and clean counts, and what the noisy ones tell of their noise."""
    drawn = kind(jax.random.key(seed), side_px=side_px, dose=dose)
    counts = np.asarray(drawn.counts[0])
    return counts, np.asarray(drawn.clean[0]), noise.estimate(counts)


# --- statistics ------------------------------------------------------------------------------


def known(
    domain: str,
    config: Config,
    statistics: Callable[[Float[np.ndarray, "h w"]], Float[np.ndarray, " d"]],
    *,
    axes: int,
) -> tuple[Known, float]:
    """What is known of a domain's statistics, and the share of other scenes that is flagged."""
    rows = [
        np.array([statistics(image) for image in scenes(domain, seed, config)])
        for seed in (_LEARN, _BOUND, _TEST)
    ]
    found = learn(rows[0], axes=axes)
    bound = float(np.quantile([found.distance(row) for row in rows[1]], _SHARE))
    flagged = np.mean([found.distance(row) > bound for row in rows[2]])
    return found._replace(bound=bound), float(flagged)


# --- error maps ------------------------------------------------------------------------------


def ratios(model: Model, domain: str, seed: int, dose: float, side_px: int) -> Iterator[Ratios]:
    """The errors of a model on scenes of all kinds; of a fitted kernel, those of its own fit."""
    found_kinds = kinds(domain)
    for number in range(max(len(found_kinds), _LEAST_SCENES)):
        kind = found_kinds[number % len(found_kinds)]
        counts, clean, told = _scene(kind, seed + 10 * number, dose, side_px)
        if family_of(model.config) == "fit":
            found = fit(counts, name=model.config.label)
            if found.verdict == "do not use":
                continue
            model = found.model
        by, std = spread.measure(counts, model, told)
        if std is None:
            continue
        error = np.abs(denoise(counts, model).astype(np.float64) - clean)
        local = spread.smoothed(error)
        some = std.ravel()[::_EVERY], local.ravel()[::_EVERY]
        values = (error / np.maximum(std, 1e-9)).ravel()[::_EVERY]
        pearson, spearman = stats.pearsonr(*some)[0], stats.spearmanr(*some)[0]
        yield Ratios(by, values, float(pearson), float(spearman))


def calibrated(models: list[tuple[Model, str]], side_px: int) -> dict[str, Any]:
    """The calibration of models of one family, as `emd.trust.reference.Calibration` has it."""

    def measured(seed: int, dose: float) -> list[Ratios]:
        found = (ratios(model, domain, seed, dose, side_px) for model, domain in models)
        return [each for some in found for each in some]

    fitted = [each for dose in FITTED_DOSES for each in measured(_FIT_SEED, dose)]
    kept = max(sorted({each.by for each in fitted}), key=[each.by for each in fitted].count)
    pooled = np.concatenate([each.values for each in fitted if each.by == kept])
    factor = float(np.quantile(pooled, _ONE_DEVIATION))
    tested = [[e for e in measured(_TEST_SEED, dose) if e.by == kept] for dose in TESTED_DOSES]
    pools = [np.concatenate([each.values for each in some]) for some in tested]
    every = [each for some in tested for each in some]
    return {
        "by": kept,
        "factor": factor,
        "doses": list(TESTED_DOSES),
        "within_68": [float(np.mean(pool <= factor)) for pool in pools],
        "within_95": [float(np.mean(pool <= _TWO_DEVIATIONS * factor)) for pool in pools],
        "pearson": float(np.mean([each.pearson for each in every])),
        "spearman": float(np.mean([each.spearman for each in every])),
    }


# --- the command -----------------------------------------------------------------------------


def run(config: Config) -> dict[str, float]:
    """Shares and coverages by name, having written what they belong to.

    Raises:
        ValueError: a count below 1, or no model to calibrate.
        FileExistsError: the output exists and ``overwrite`` is not set.
    """
    configs.check_counts(config, "scenes")
    if config.side_px < distribution.LEAST_PX:
        raise ValueError(f"side_px is {config.side_px}: give at least {distribution.LEAST_PX}")
    micrograph.check_output(Path(config.output), overwrite=config.overwrite)
    families = _families(config)
    told: dict[str, float] = {}
    written: dict[str, Any] = {"images": {}, "latents": {}, "calibrations": {}}
    references = {}
    for domain in DOMAINS:
        found, flagged = known(domain, config, distribution.statistics, axes=10**6)
        references[domain], written["images"][domain] = found, _plain(found._asdict())
        told[f"images_flagged_{domain}"] = flagged
    every = [each for models in families.values() for each in models]
    for model, domain in every:
        if model.config.family != "autoencoder":
            continue
        read = functools.partial(distribution.latent_statistics, model=model)
        found, flagged = known(domain, config, read, axes=_AXES)
        weights = {"weights": checkpoint.fingerprint(model.variables)}
        written["latents"][model.config.name] = {**weights, **_plain(found._asdict())}
        told[f"latents_flagged_{model.config.name}"] = flagged
    for family, models in families.items():
        found_ = calibrated(models, config.side_px)
        written["calibrations"][family] = _plain(found_)
        told |= _flat(family, found_)
    with replacing(Path(config.output)) as temporary:
        temporary.write_text(json.dumps(written, separators=(",", ":")) + "\n", encoding="utf-8")
    return told | _on_real(config, references)


def _families(config: Config) -> dict[str, list[tuple[Model, str]]]:
    """The models there are by family, each with its domain; of one, and kernels fitted anew."""
    names = checkpoint.available(root=config.checkpoints)
    own = zoo.ModelConfig("kernel", "own", 3, label="fit")
    known_ = dict.fromkeys(map(family_of, (*map(checkpoint.find, names), own)))
    wanted = known_ if config.families is None else config.families.split(",")
    if not set(wanted) <= set(known_):
        raise ValueError(f"families is {config.families}: name some of {', '.join(known_)}")
    found: dict[str, list[tuple[Model, str]]] = {family: [] for family in wanted}
    for name in names:
        if (family := family_of(checkpoint.find(name))) in found:
            model = checkpoint.load(name, root=config.checkpoints)
            found[family].append((model, scenes_of(model.config)))
    if (family := family_of(own)) in found:
        found[family] = [(Model(own, zoo.make_module(own), {}, {}), "temstem")]
    return found


def _flat(family: str, found: dict[str, Any]) -> dict[str, float]:
    """A calibration as names and numbers."""
    told = {f"{family}_{name}": found[name] for name in ("factor", "pearson", "spearman")}
    for name in ("within_68", "within_95"):
        for dose, share in zip(found["doses"], found[name], strict=True):
            told[f"{family}_{name}_at_dose_{dose:g}"] = share
    return told


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    """Arrays as lists, numbers in four digits."""

    def short(value: Any) -> Any:
        if isinstance(value, np.ndarray | list):
            return [short(each) for each in value]
        return float(f"{value:.4g}") if isinstance(value, float) else value

    return {name: short(value) for name, value in found.items()}


def _on_real(config: Config, references: dict[str, Known]) -> dict[str, float]:
    """The share of real micrographs that is flagged."""
    if config.data_dir is None:
        return {}
    told = {}
    for domain in ("tem", "stem"):
        files = micrograph.find(Path(config.data_dir) / "eval" / domain)
        images = [pixels if pixels.ndim == 2 else pixels[0] for pixels in (
            micrograph.read(file).pixels for file in files)]  # fmt: skip
        known_ = references[domain]
        flags = [known_.distance(distribution.statistics(p)) > known_.bound for p in images]
        told[f"real_flagged_{domain}_of_{len(flags)}"] = float(np.mean(flags))
    return told


if __name__ == "__main__":
    configs.main(run, Config)

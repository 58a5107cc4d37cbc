"""Train an autoencoder for streams: `python -m experiments.codec_autoencoder --data_dir=train`.

Goes on from the zoo's weights, with the latents' rate in the loss, and writes what a stream's
decoder needs, weights.npz and card.md, to `<workdir>/streams/<model>-v<version>/`. A batch of 8
takes about 0.8 s on one CPU core. Stopped at any point, the same command goes on from the last
checkpoint.

Weights of streams are for good: what was written with them is lost without them. Better ones get
another version.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from emd import checkpoint
from emd.codec import weights
from emd.data import crops, simulate
from emd.models.autoencoder import Autoencoder
from emd.training import autoencoder as training
from emd.training import rate_aware
from experiments import config as configs
from experiments import curves, fitting, held_out, latent_contexts, provenance, training_data

SIMULATED_COUNT = 200
SIMULATED_SIDE_PX = 256
"""Simulated micrographs of each domain, with their truth, and their side."""
SPAN = 60_000
"""Levels that a simulated micrograph is stored in, so that a dose of few counts is not rounded."""
FREE = ("workdir", "data_dir", "minutes", "checkpoint_every")
"""Settings that may differ when a run goes on."""
MEASURED_STEPS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2)
"""Global steps at which rate and distortion are measured."""


@dataclasses.dataclass(frozen=True)
class Config:
    """One rate-aware training."""

    model: str = configs.option("temstem_latent16", "autoencoder of the zoo to go on from")
    version: int = configs.option(1, "version of the weights that are written")
    data_dir: str | None = configs.option(
        None, "folder with tem/ and stem/ inside; simulated micrographs without it"
    )
    simulated_share: float = configs.option(
        0.4, "fraction of draws from simulated micrographs when there are real ones"
    )
    steps: int = configs.option(2_400, "batches of the whole schedule")
    batch_size: int = configs.option(8, "crops a batch")
    learning_rate: float = configs.option(1e-3, "of the weights, at its highest")
    low_step: float = configs.option(0.1, "smallest global step, in units of the mean intensity")
    high_step: float = configs.option(1.2, "largest global step")
    slope: float = configs.option(0.13, "weight of a bit a pixel, in squares of the global step")
    seed: int = configs.option(0, "seed of batches")
    workdir: str = configs.option("runs", "folder for the weights and the training state")
    checkpoint_every: int = configs.option(200, "batches between checkpoints")
    minutes: float | None = configs.option(None, "stop after this long, to be gone on with later")


def run(config: Config) -> dict[str, float]:
    """Return bits a pixel and MSE on held-out crops at the end; empty where stopped before.

    Raises:
        ValueError: a setting or the data will not do.
        FileNotFoundError: the data folder is missing or empty.
    """
    configs.check_counts(config, "steps", "batch_size", "checkpoint_every", "version")
    if not 0 < config.low_step < config.high_step:
        raise ValueError(f"low_step {config.low_step}: give one above 0 and below high_step")
    deadline = None if config.minutes is None else time.monotonic() + 60 * config.minutes
    start = checkpoint.load(config.model)
    if start.config.family != "autoencoder":
        raise ValueError(f"{config.model} has no latents: give an autoencoder")
    folder = Path(config.workdir) / "state" / f"{config.model}-v{config.version}"
    data = training_data.prepare(start.config.domain, config.data_dir, 0.0)
    configs.keep(config, folder, free=FREE, also={"data": data.facts["data_hash"]})
    units = _channel_steps(start, data.held_out_whole)
    curve = curves.Curve(folder / "learning_curve.csv", ("log_cost",))
    state = _train(config, start, data, units, folder, curve, deadline)
    if int(state.step) < config.steps:
        return {}
    return _finish(config, start, state, data, units, curve)


def _channel_steps(start: checkpoint.Model, images: np.ndarray) -> Float[np.ndarray, " d"]:
    """Return the steps of the channels, from the zoo's weights, so that a resumed run has them."""
    apply = start.module.apply

    def decode(latent: jax.Array) -> jax.Array:
        return jnp.asarray(apply(start.variables, latent, method="decode", margin=1))

    some = jnp.asarray(images[:: max(1, len(images) // 20)])
    latent = jnp.asarray(jax.jit(lambda x: apply(start.variables, x, method="encode"))(some))
    return rate_aware.balanced_steps(jax.random.key(0), jax.jit(decode), latent)


def make_store(
    images: list[crops.Image], domain: str, simulated_share: float, *, count: int = SIMULATED_COUNT
) -> crops.Store:
    """Return real images, their own truth, and simulated ones with theirs, to draw pairs from."""
    real = [image for image in images if not image.source.endswith(crops.SIMULATED)]
    made: list[crops.Image] = []
    truths = [image.pixels.ravel() for image in real]
    for each in crops.domains_of(domain) if simulated_share > 0 or not real else ():
        key = jax.random.fold_in(jax.random.key(1), list(crops.DOMAINS).index(each))
        drawn = simulate.micrographs(key, each, count=count, side_px=SIMULATED_SIDE_PX)
        for number, pair in enumerate(zip(*map(np.asarray, drawn), strict=True)):
            counts, clean = _stored(*pair)
            made.append(crops.Image(counts, f"{each}-{number}", f"{each}/{crops.SIMULATED}", each))
            truths.append(clean.ravel())
    store = crops.pack(real + made, simulated_share=simulated_share, whole_share=1.0)
    return rate_aware.with_truth(store, jnp.asarray(np.concatenate(truths)))


def _stored(counts: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return counts and truth as 16-bit integers above the least count, on one scale."""
    low = float(counts.min())
    factor = SPAN / (max(float(counts.max()), float(clean.max())) - low or 1.0)
    levels = (np.rint((x.astype(np.float64) - low) * factor) for x in (counts, clean))
    first, second = (np.clip(x, 0, 65535).astype(np.uint16) for x in levels)
    return first, second


def _train(
    config: Config,
    start: checkpoint.Model,
    data: training_data.TrainingData,
    units: np.ndarray,
    folder: Path,
    curve: curves.Curve,
    deadline: float | None,
) -> training.TrainState:
    """Return the state where training ended or was stopped."""
    store = make_store(data.images, start.config.domain, config.simulated_share)
    optimiser = rate_aware.make_optimiser(config.steps, rate=config.learning_rate)
    step = rate_aware.make_step(
        Autoencoder(start.config.size),
        optimiser,
        units,
        batch_size=config.batch_size,
        seed=config.seed,
        step_range=(config.low_step, config.high_step),
        slope=config.slope,
    )
    state = rate_aware.init_state(start.variables, start.config.size, optimiser)
    return fitting.fit(
        step,
        state,
        store,
        steps=config.steps,
        folder=folder,
        checkpoint_every=config.checkpoint_every,
        curve=curve,
        deadline=deadline,
        runner=training.run,
        loss_name="log_cost",
    )


def measure(
    start: checkpoint.Model,
    variables: Any,
    model: rate_aware.RateModel,
    units: np.ndarray,
    images: Float[np.ndarray, "n h w"],
    size: float,
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return each image's MSE and bits a pixel, by the rate model, at one global step."""
    module, batch = Autoencoder(start.config.size), held_out.BATCH
    parts = [
        _coded(
            module, variables, model, jnp.asarray(units), jnp.asarray(images[i : i + batch]), size
        )
        for i in range(0, len(images), batch)
    ]
    mse, bpp = (np.concatenate([np.asarray(p) for p in part]) for part in zip(*parts, strict=True))
    return mse, bpp


@functools.partial(jax.jit, static_argnames="module")
def _coded(
    module: Autoencoder,
    variables: Any,
    model: rate_aware.RateModel,
    units: Float[Array, " d"],
    x: Float[Array, "n h w"],
    size: Float[Array, ""] | float,
) -> rate_aware.Coded:
    steps = jnp.full(len(x), size)
    return rate_aware.coded(None, module, variables, model, units, x, x, steps)


def _finish(
    config: Config,
    start: checkpoint.Model,
    state: training.TrainState,
    data: training_data.TrainingData,
    units: np.ndarray,
    curve: curves.Curve,
) -> dict[str, float]:
    """Write the weights and their card; return what was measured on held-out crops."""
    model = state.params["rate"]
    variables = {"params": state.params["weights"], "batch_stats": state.batch_stats}
    metrics = {}
    for size in MEASURED_STEPS:
        mse, bpp = measure(start, variables, model, units, data.held_out_whole, size)
        metrics[f"mse_at_{size:g}"] = float(mse.mean())
        metrics[f"bpp_at_{size:g}"] = float(bpp.mean())
    name = f"{config.model}-v{config.version}"
    arrays = {
        **_flat(variables),
        "channel_steps": np.asarray(units, np.float32),
        **_contexts(start, variables, units, data.images),
    }
    facts = {
        "batches": str(config.steps),
        "batch_size": str(config.batch_size),
        "seed": str(config.seed),
        "learning_rate": f"{config.learning_rate:g}",
        "global_steps": f"{config.low_step:g} to {config.high_step:g}",
        "slope": f"{config.slope:g}",
        "training_minutes": f"{curve.seconds / 60:.1f}",
        "reloads": str(int(state.reloads)),
        **{key: f"{value:.6g}" for key, value in metrics.items()},
        **data.facts,
        "simulated_micrographs": str(_simulated_count(config, start.config.domain)),
        "simulated_share": f"{config.simulated_share if config.data_dir else 1:g}",
        **provenance.facts(),
    }
    place = Path(config.workdir) / "streams" / name
    with checkpoint.replacing(place) as work:
        save: Any = np.savez_compressed  # its type takes one of its options for an array
        save(work / "weights.npz", **arrays)
        (work / "card.md").write_text(checkpoint.format_card(name, _prose(config), facts))
        (work / "learning_curve.csv").write_text(curve.thinned())
    print(f"saved {place}")
    return metrics


def _contexts(
    start: checkpoint.Model, variables: Any, units: np.ndarray, images: list[crops.Image]
) -> dict[str, np.ndarray]:
    """Return the context model of the numbers, whole numbers alone, by name."""
    drawn = []
    for domain in crops.domains_of(start.config.domain):
        key = jax.random.fold_in(jax.random.key(2), list(crops.DOMAINS).index(domain))
        size = {"count": latent_contexts.PER_SOURCE, "side_px": SIMULATED_SIDE_PX}
        drawn += crops.simulated(key, domain, **size)
    model = start._replace(variables=variables)
    latents = latent_contexts.training_latents([*images, *drawn], model, units)
    return weights.pack_knowledge(latent_contexts.fit(latents))


def _flat(tree: Any) -> dict[str, np.ndarray]:
    """Return a tree's arrays by their path, as `params/encoder/BatchNorm_0/scale`."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): np.asarray(x) for p, x in leaves}


def _prose(config: Config) -> str:
    """Return a card's prose."""
    return (
        f"The transform of lossy streams: {config.model} of the zoo, gone on with for "
        f"{config.steps} batches of {config.batch_size} crops with the rate of its latents in the "
        "loss. Immutable: streams name it by its fingerprint, and better weights get another "
        "version.\n\nReal crops were trained to themselves, simulated ones to their clean truth. "
        "Where the real ones are from, and under which licences, stands in "
        "[AUTOENCODERS.md](../../AUTOENCODERS.md). Rates below are by the training's own model of "
        "them; what files take is measured by `python -m experiments.rate_distortion`."
    )


def _simulated_count(config: Config, domain: str) -> int:
    """Return how many simulated micrographs were drawn from."""
    is_drawn = config.data_dir is None or config.simulated_share > 0
    return SIMULATED_COUNT * len(crops.domains_of(domain)) if is_drawn else 0


if __name__ == "__main__":
    configs.main(run, Config)

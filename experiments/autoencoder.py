"""Train one autoencoder: `python -m experiments.autoencoder --dataset=stem --latent=4`.

The full schedule is 60 000 batches of 32. On 2 CPU cores a batch of 8 takes about 0.4 s; try
`--steps=200 --batch_size=8` (2 minutes). Stopped at any point, the same command goes on from the
last checkpoint. The model lands in `<workdir>/<name>/`, its training state in `<workdir>/state/`.

Batches are spread over all devices of all processes: under srun or mpirun as it stands, elsewhere
with `--coordinator=host:port --processes=n --process_id=k` in each process.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from emd import checkpoint, zoo
from emd.data import crops
from emd.models.autoencoder import Autoencoder
from emd.training import autoencoder as training
from emd.training import devices, loss, objective
from experiments import autoencoder_card as cards
from experiments import config as configs
from experiments import curves, fitting, held_out, linear_code, provenance, training_data

SETTLE_BATCHES = 200
"""Batches that the final statistics are averaged over."""
YARDSTICK_CROPS = 512
"""Training crops that the linear code is fitted to."""
FREE = (
    *("workdir", "data_dir", "minutes", "checkpoint_every"),
    *("coordinator", "processes", "process_id"),
)
"""Settings that may differ when a run goes on."""


@dataclasses.dataclass(frozen=True)
class Config:
    """One autoencoder's training; the defaults are the paper's."""

    dataset: str = configs.option("stem", "micrographs to learn", choices=tuple(crops.DOMAINS))
    latent: int = configs.option(16, "latent depth: 1, 2, 4, 8, 16, 32 or 64")
    objective: str = configs.option(zoo.OBJECTIVES[0], zoo.TASKS, choices=zoo.OBJECTIVES)
    start: str | None = configs.option(
        None, "autoencoder of this depth whose weights to start from; random ones without it"
    )
    data_dir: str | None = configs.option(
        None, "folder with tem/ and stem/ inside; simulated micrographs without it"
    )
    simulated_share: float = configs.option(
        0.5, "fraction of draws from simulated micrographs when there are real ones"
    )
    whole_share: float = configs.option(
        0.0, "fraction of crops normalised by their whole micrograph; the paper's by themselves"
    )
    steps: int = configs.option(60_000, "batches of the whole schedule")
    batch_size: int = configs.option(32, "crops a batch")
    seed: int = configs.option(0, "seed of weights and batches")
    precision: str = configs.option(
        "float32",
        "arithmetic of the maps; weights, statistics and loss are float32 with either",
        choices=("float32", "bfloat16"),
    )
    workdir: str = configs.option("runs", "folder for the model and its training state")
    checkpoint_every: int = configs.option(5_000, "batches between checkpoints")
    minutes: float | None = configs.option(None, "stop after this long, to be gone on with later")
    coordinator: str | None = configs.option(
        None, "host:port of process 0, where several processes train one model"
    )
    processes: int | None = configs.option(None, "how many processes there are")
    process_id: int | None = configs.option(None, "which of them this is, from 0")


def run(config: Config) -> dict[str, float]:
    """Return the metrics of a model trained to its end; empty where stopped before.

    Where several processes train it, process 0 alone reads, writes and prints.

    Raises:
        ValueError: a setting or the data will not do.
        FileNotFoundError: the data folder is missing or empty.
    """
    configs.check_counts(config, "steps", "batch_size", "checkpoint_every")
    # before anything else of jax
    devices.start(config.coordinator, config.processes, config.process_id)
    mesh = devices.make_mesh(config.batch_size)
    if mesh.size > 1 and devices.is_first():
        print(f"training on {devices.describe()}")
    # from here on, since reading and simulating micrographs takes its share of the minutes
    deadline = None if config.minutes is None else time.monotonic() + 60 * config.minutes
    model_config = zoo.find_autoencoder(config.dataset, config.latent, config.objective)
    module = Autoencoder(config.latent)  # what is measured and shipped is float32
    folder = Path(config.workdir) / "state" / model_config.name
    step, state = _begin(config, mesh)
    data, on_device = _load(config, mesh)
    # only now: a first try that the data folder fails must not bind the next one
    also = {"data": data.facts["data_hash"]}
    devices.from_first(lambda: configs.keep(config, folder, free=FREE, also=also))
    curve = curves.Curve(folder / "learning_curve.csv")
    state = fitting.fit(
        step,
        state,
        on_device,
        steps=config.steps,
        folder=folder,
        checkpoint_every=config.checkpoint_every,
        curve=curve,
        deadline=deadline,
        runner=training.run,
    )
    if int(state.step) < config.steps:
        return {}

    stats = training.settle_batch_stats(
        module,
        state,
        on_device,
        batch_size=config.batch_size,
        batches=SETTLE_BATCHES,
        seed=config.seed,
        objective=objective.DRAWS[config.objective],
        mesh=mesh,
    )
    variables = {"params": devices.local(state.params), "batch_stats": stats}

    def finish() -> dict[str, float]:
        metrics = _measure(config, module, variables, data, devices.local(on_device))
        metrics["training_mse"] = float(curve.last().mean())
        _save(config, model_config, variables, metrics, data, curve, int(state.reloads))
        return metrics

    return devices.from_first(finish)


def compile_ahead(config: Config) -> None:
    """Read a run's data and compile its step, for jax's cache of programs, while another trains."""
    mesh = devices.make_mesh(config.batch_size)
    _, on_device = _load(config, mesh)
    step, state = _begin(config, mesh)
    training.run.lower(step, state, on_device, jnp.int32(1)).compile()


def _load(config: Config, mesh: Mesh) -> tuple[training_data.Data, Any]:
    """Return the data of a run, and what its objective draws from, on the devices."""
    common = config.dataset, config.data_dir, config.simulated_share

    def read() -> training_data.Data:
        if config.objective == zoo.OBJECTIVES[0]:
            return training_data.prepare(*common)
        return training_data.prepare_truths(*common, training_data.TRUTH_COUNT, config.objective)

    data = devices.from_first(read)
    if isinstance(data, training_data.TruthData):
        return data, devices.put_whole(data.training, mesh)
    images = crops.pack(
        data.images, simulated_share=config.simulated_share, whole_share=config.whole_share
    )
    return data, devices.put_whole(images, mesh)


def _begin(config: Config, mesh: Mesh) -> tuple[training.Step, training.TrainState]:
    """Return the step of a run, and the state before its first batch."""
    module = Autoencoder(config.latent, dtype=jnp.dtype(config.precision))
    optimiser = training.make_optimiser(config.steps)
    state = training.init_state(jax.random.key(config.seed), module, optimiser)
    if config.start is not None:
        state = state._replace(**devices.from_first(lambda: _weights(config)))
    step = training.make_step(
        module,
        optimiser,
        batch_size=config.batch_size,
        seed=config.seed,
        objective=objective.DRAWS[config.objective],
        loss=loss.batch_mse if config.objective == zoo.OBJECTIVES[0] else loss.remaining,
        mesh=mesh,
    )
    return step, devices.put_whole(state, mesh)


def _weights(config: Config) -> dict[str, Any]:
    """Return the weights and statistics of the model to start from."""
    model = checkpoint.load(str(config.start))
    if model.module != Autoencoder(config.latent):
        raise ValueError(
            f"start={config.start} is no autoencoder of latent depth {config.latent}: give one "
            f"such as {config.dataset}_latent{config.latent}, or another --latent"
        )
    return model.variables


def _measure(
    config: Config,
    module: Autoencoder,
    variables: Any,
    data: training_data.Data,
    on_device: Any,
) -> dict[str, float]:
    """Return held-out MSEs under both normalisations, beside the linear code of the same size.

    Where the truth is known, the gain towards it.
    """
    if isinstance(data, training_data.TruthData):
        restore = jax.jit(lambda seen: module.apply(variables, seen))
        return held_out.gains(restore, held_out.draw(data.held_out, side_px=crops.SIDE_PX))
    key = training.batch_key(config.seed + 2, jnp.int32(0))
    sample = jax.jit(crops.sample, static_argnames="batch")
    fitted = linear_code.fit(
        np.asarray(sample(key, on_device, batch=YARDSTICK_CROPS)), config.latent
    )
    metrics = {}
    for suffix, images in (("", data.held_out), ("_whole", data.held_out_whole)):
        mse = held_out.restoration_mse(module, variables, images)
        metrics[f"validation_mse{suffix}"] = float(mse.mean())
        metrics[f"linear_code_mse{suffix}"] = float(linear_code.mse(fitted, images).mean())
    return metrics


def _save(
    config: Config,
    model_config: zoo.ModelConfig,
    variables: Any,
    metrics: dict[str, float],
    data: training_data.Data,
    curve: curves.Curve,
    reloads: int,
) -> None:
    """Write the model, its card and its curve; the training state stays."""
    facts = {
        "batches": str(config.steps),
        "full_schedule": str(zoo.FULL_SCHEDULE["autoencoder"]),
        "batch_size": str(config.batch_size),
        "objective": config.objective,
        "seed": str(config.seed),
        "precision": config.precision,
        "whole_share": f"{config.whole_share:g}",
        "training_minutes": f"{curve.seconds / 60:.1f}",
        "reloads": str(reloads),
        "parameters": str(sum(p.size for p in jax.tree.leaves(variables["params"]))),
        **{name: f"{value:.6g}" for name, value in metrics.items()},
        **data.facts,
        **provenance.descent(config.start, data.facts["real_sources"]),
        **provenance.facts(),
        **({"devices": devices.describe()} if jax.device_count() > 1 else {}),
    }
    model = checkpoint.Model(model_config, Autoencoder(config.latent), variables, facts)
    text = cards.card_text(model_config, config.steps, config.batch_size, metrics)
    folder = checkpoint.save(model, config.workdir, text=text, curve=curve.thinned())
    try:
        window = max(1, min(5000, config.steps // 12))
        png = folder / "learning_curve.png"
        curves.draw(png, curve.lines([model_config.name]), window=window, title=model_config.name)
    except ValueError as error:
        print(error)
    print(f"saved {folder}")


if __name__ == "__main__":
    configs.main(run, Config)

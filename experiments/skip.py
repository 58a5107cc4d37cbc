"""Train a network with skip connections: `python -m experiments.skip --dataset=stem`.

It learns to give noise-free micrographs back, from simulated ones and, with `--data_dir`, real ones
of high counts, to which noise is added: `stem_skip48_clean`; with `--objective=columns` from
simulated atom columns alone: `stem_skip48_columns`; with `--objective=benchmark` from the two
lattices of the benchmark: `stem_skip48_benchmark`. On 2 CPU cores a batch of 8 takes about 0.1 s.
Stopped at any point, the same command goes on from the last checkpoint. The model lands in
`<workdir>/<name>/`, its training state in `<workdir>/state/`.
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
import optax
from optax import contrib

from emd import checkpoint, zoo
from emd.data import crops, truths
from emd.training import autoencoder as training
from emd.training import loss, objective
from emd.training.schedule import quadratic
from experiments import config as configs
from experiments import curves, fitting, held_out, provenance, training_data

SIDE_PX = 128
"""Of a training crop: the lowest level sees 8 places a side."""
WARM_UP = 200
"""Batches until then."""
CLIP = 1.0
"""Largest norm of a gradient."""
FREE = ("workdir", "data_dir", "minutes", "checkpoint_every")
"""Settings that may differ when a run goes on."""

_LESSONS = {
    "clean": "to take added noise away from simulated micrographs and real ones of high counts",
    "thin": "from noisy micrographs, to tell from a random part of their electrons the others",
    zoo.COLUMNS: "to take added noise away from simulated atom columns about 5 px wide, three in "
    "five of them on lattices near those of the benchmark that it is measured on, and is at home "
    "nowhere else",
    zoo.BENCHMARK: "to take added noise away from the benchmark's own two lattices, at its doses "
    "and readout noise, as the network that it is compared with there did for each dose anew, and "
    "is of no use elsewhere",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """One network's training."""

    dataset: str = configs.option("stem", "micrographs to learn", choices=tuple(crops.DOMAINS))
    data_dir: str | None = configs.option(
        None, "folder with tem/ and stem/ inside; simulated micrographs alone without it"
    )
    simulated_share: float = configs.option(
        0.7, "fraction of draws from simulated micrographs when there are real ones"
    )
    simulated_count: int = configs.option(1000, "simulated micrographs of each domain")
    objective: str = configs.option("clean", zoo.TASKS, choices=zoo.OBJECTIVES[1:])
    steps: int = configs.option(32_000, "batches of the whole schedule")
    batch_size: int = configs.option(8, "crops a batch")
    rate: float = configs.option(0.01, "Muon's learning rate at the start of the schedule")
    start: str | None = configs.option(
        None, "network of this family whose weights to start from; random ones without it"
    )
    seed: int = configs.option(0, "seed of weights and batches")
    workdir: str = configs.option("runs", "folder for the model and its training state")
    checkpoint_every: int = configs.option(1_000, "batches between checkpoints")
    minutes: float | None = configs.option(None, "stop after this long, to be gone on with later")


def run(config: Config) -> dict[str, float]:
    """Return the metrics of a network trained to its end; empty where stopped before.

    Raises:
        ValueError: a setting or the data will not do.
        FileNotFoundError: the data folder is missing or empty.
    """
    configs.check_counts(config, "steps", "batch_size", "checkpoint_every", "simulated_count")
    deadline = None if config.minutes is None else time.monotonic() + 60 * config.minutes
    model = zoo.find_skip(config.dataset, config.objective)
    data = training_data.prepare_truths(
        config.dataset,
        config.data_dir,
        config.simulated_share,
        config.simulated_count,
        config.objective,
    )
    folder = Path(config.workdir) / "state" / model.name
    configs.keep(config, folder, free=FREE, also={"data": data.facts["data_hash"]})
    curve = curves.Curve(folder / "learning_curve.csv")
    state = _train(config, model, data, folder, curve, deadline)
    if int(state.step) < config.steps:
        return {}
    variables = {"params": jax.tree.map(np.asarray, state.params)}
    metrics = _measure(model, variables, data.held_out)
    _save(config, model, variables, metrics, data.facts, curve)
    return metrics


def _train(
    config: Config,
    model: zoo.ModelConfig,
    data: training_data.TruthData,
    folder: Path,
    curve: curves.Curve,
    deadline: float | None,
) -> training.TrainState:
    """Return the state where training ended or was stopped."""
    module = zoo.make_module(model)
    optimiser = make_optimiser(_rate(config))
    state = training.init_state(jax.random.key(config.seed), module, optimiser)
    if config.start is not None:
        state = state._replace(params=_weights(config.start, model))
    step = training.make_step(
        module,
        optimiser,
        batch_size=config.batch_size,
        seed=config.seed,
        side_px=SIDE_PX,
        objective=objective.ending(objective.DRAWS[config.objective], cell=module.cell_px),
        loss=loss.remaining,
    )
    return fitting.fit(
        step,
        state,
        data.training,
        steps=config.steps,
        folder=folder,
        checkpoint_every=config.checkpoint_every,
        curve=curve,
        deadline=deadline,
        runner=training.run_singly if jax.default_backend() == "cpu" else training.run,
    )


def _measure(model: zoo.ModelConfig, variables: Any, truth: truths.Truths) -> dict[str, float]:
    """Return by how many decibels the network brings held-out crops closer to their truth."""
    apply = functools.partial(jax.jit(zoo.make_module(model).apply), variables)
    return held_out.gains(apply, held_out.draw(truth, side_px=SIDE_PX))


def _weights(name: str, model: zoo.ModelConfig) -> Any:
    """Return the weights of the network to start from."""
    found = checkpoint.load(name)
    if (found.config.family, found.config.size) != (model.family, model.size):
        raise ValueError(f"start={name} is no {model.name}: give a network of its family and size")
    # the state is donated, the model's own arrays are not to go
    return jax.tree.map(jnp.array, found.variables["params"])


def make_optimiser(rate: optax.Schedule) -> optax.GradientTransformation:
    """Return Muon, which learns from fewer batches than Adam.

    All weights are matrices, from what a place sees to what it makes of it. The scale makes its
    steps as long as Adam's usually are.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); Liu et
    al., "Muon is scalable for LLM training" (arXiv:2502.16982), for the scale.
    """

    def matrices(params: Any) -> Any:
        return jax.tree.map(
            lambda weights: contrib.MuonDimensionNumbers(
                tuple(range(weights.ndim - 1)), (weights.ndim - 1,)
            ),
            params,
        )

    return optax.chain(
        optax.clip_by_global_norm(CLIP),
        contrib.muon(rate, muon_weight_dimension_numbers=matrices, consistent_rms=0.2),
    )


def _rate(config: Config) -> optax.Schedule:
    """Return the quadratic schedule, slower at first, where few gradients are averaged yet."""
    falling = quadratic(config.steps, initial=config.rate)
    return lambda count: falling(count) * jnp.minimum(1.0, (count + 1) / WARM_UP)


def _save(
    config: Config,
    model: zoo.ModelConfig,
    variables: Any,
    metrics: dict[str, float],
    data: dict[str, str],
    curve: curves.Curve,
) -> None:
    """Write the model, its card and its curve; the training state stays."""
    facts = {
        "batches": str(config.steps),
        "full_schedule": str(zoo.FULL_SCHEDULE[model.family]),
        "batch_size": str(config.batch_size),
        "objective": model.objective,
        "seed": str(config.seed),
        "training_minutes": f"{curve.seconds / 60:.1f}",
        "parameters": str(sum(p.size for p in jax.tree.leaves(variables["params"]))),
        **{name: f"{value:.6g}" for name, value in metrics.items()},
        **data,
        **provenance.descent(config.start, data["real_sources"]),
        **provenance.facts(),
    }
    text = (
        f"Network with skip connections for {model.domain} micrographs. It learnt "
        f"{_LESSONS[model.objective]}. {held_out.gain_text(metrics)}"
    )
    made = checkpoint.Model(model, zoo.make_module(model), variables, facts)
    folder = checkpoint.save(made, config.workdir, text=text, curve=curve.thinned())
    print(f"saved {folder}")


if __name__ == "__main__":
    configs.main(run, Config)

"""Distil a set of kernels or MLPs in lockstep: `python -m experiments.distill --set=tem_mlp1`.

All members of a set see identical batches. The teacher, the paper's 16-deep autoencoder of the
same domain, is loaded by name; its restorations of the training crops are computed once. On 2
CPU cores a set takes one to two minutes. Stopped at any point, the same command goes on.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from tqdm import tqdm

from emd import checkpoint, zoo
from emd.data import crops
from emd.training import autoencoder, lockstep, yardsticks
from experiments import config as configs
from experiments import curves, provenance, training_data

TEACHER_BATCH = 8
"""Crops that the teacher restores at a time."""


@dataclasses.dataclass(frozen=True)
class Config:
    """One set's distillation; the defaults are the paper's."""

    set: str = configs.option("tem_mlp1", "set to train", choices=tuple(zoo.SETS))
    data_dir: str | None = configs.option(
        None, "folder with tem/ and stem/ inside; simulated micrographs without it"
    )
    simulated_share: float = configs.option(
        0.5, "fraction of draws from simulated micrographs when there are real ones"
    )
    steps: int = configs.option(10_000, "batches of the whole schedule")
    batch_size: int = configs.option(1, "crops a batch")
    pairs: int = configs.option(512, "training crops that the teacher restores")
    seed: int = configs.option(0, "seed of weights, crops and batches")
    teachers: str | None = configs.option(
        None, "folder with the teacher's checkpoint; the weights that come along without it"
    )
    workdir: str = configs.option("runs", "folder for the models and their training state")


class Pairs(NamedTuple):
    """Crops and what the teacher makes of them, both in units of the crop's mean."""

    noisy: Float[Array, "n s s"]
    restored: Float[Array, "n s s"]


def run(config: Config) -> dict[str, float]:
    """Return each member's MSE against the teacher on held-out crops, beside its yardsticks.

    Raises:
        ValueError: a setting or the data will not do.
        FileNotFoundError: the teacher or the data folder is missing.
    """
    configs.check_counts(config, "steps", "batch_size", "pairs")
    members = zoo.find_set(config.set)
    teacher = checkpoint.load(zoo.teacher_of(config.set), root=config.teachers)
    folder = Path(config.workdir) / "state" / config.set
    data = training_data.prepare(members[0].domain, config.data_dir, config.simulated_share)
    weights = checkpoint.fingerprint(teacher.variables)
    also = {"data": data.facts["data_hash"], "teacher's weights": weights}
    # only now: a first try that the data folder fails must not bind the next one
    configs.keep(config, folder, free=("workdir", "teachers", "data_dir"), also=also)
    pairs, held_out = _make_pairs(config, teacher, data)
    plan = lockstep.make_plan(
        [zoo.make_student(member) for member in members],
        steps=config.steps, seed=config.seed, batch=config.batch_size,
    )  # fmt: skip
    curve = curves.Curve(folder / "learning_curve.csv", [member.name for member in members])
    state = _train(plan, pairs, folder, curve)
    params = lockstep.unpad(plan, state)
    return _save(config, members, plan, params, (pairs, held_out), data, weights, curve)


def _make_pairs(
    config: Config, teacher: checkpoint.Model, data: training_data.TrainingData
) -> tuple[Pairs, Pairs]:
    """Return the training pairs and the held-out ones."""
    store = crops.pack(data.images, simulated_share=config.simulated_share)
    key = autoencoder.batch_key(config.seed + 3, jnp.int32(0))
    sample = jax.jit(crops.sample, static_argnames="batch")
    drawn = sample(key, store, batch=config.pairs)
    restore = jax.jit(teacher.module.apply)

    def restored(noisy: Any) -> Pairs:
        parts = [noisy[i : i + TEACHER_BATCH] for i in range(0, len(noisy), TEACHER_BATCH)]
        bar = tqdm(parts, desc=f"restoring crops by {teacher.config.name}", unit="batch")
        return Pairs(
            jnp.asarray(noisy), jnp.concatenate([restore(teacher.variables, part) for part in bar])
        )

    return restored(drawn), restored(data.held_out)


def _train(plan: lockstep.Plan, pairs: Pairs, folder: Path, curve: curves.Curve) -> lockstep.State:
    """Return the state at the schedule's end, going on from where a run stopped."""
    state = lockstep.init_state(plan)
    found = checkpoint.restore_state(folder, state)
    state, done = found or (state, 0)
    began = time.monotonic()
    with tqdm(total=plan.steps, initial=done, unit="batch") as bar:

        def note(state: lockstep.State, losses: Float[np.ndarray, "m i"]) -> None:
            if not np.isfinite(losses).all():
                raise autoencoder.DivergedError("a loss was not finite: try another --seed")
            first = int(state.step) - losses.shape[1] + 1
            curve.append(first, losses.T, time.monotonic() - began)
            checkpoint.save_state(folder, state, int(state.step))
            bar.set_postfix(mse=" ".join(f"{v:.4f}" for v in losses.mean(1)), refresh=False)
            bar.update(losses.shape[1])

        state, _ = lockstep.train(plan, state, *pairs, on_chunk=note)
    return state


def _save(
    config: Config,
    members: tuple[zoo.ModelConfig, ...],
    plan: lockstep.Plan,
    params: list[dict[str, Array]],
    pairs: tuple[Pairs, Pairs],
    data: training_data.TrainingData,
    weights: str,
    curve: curves.Curve,
) -> dict[str, float]:
    """Write each member under its name, print the table, and return the metrics."""
    moments = yardsticks.measure_moments(*pairs[0], max(member.size for member in members))
    closed = [
        {"weights": jnp.asarray(moments.best(member.size), jnp.float32)} for member in members
    ]
    trained_on = yardsticks.evaluate(plan.members, params, *pairs[0], closed_forms=closed)
    held_out = yardsticks.evaluate(plan.members, params, *pairs[1], closed_forms=closed)
    _print_table(members, trained_on, held_out)
    last = curve.last().mean(0)
    shared = {**data.facts, **provenance.facts()}
    metrics = {}
    for i, member in enumerate(members):
        facts = {
            "batches": str(config.steps),
            "full_schedule": str(zoo.FULL_SCHEDULE[member.family]),
            "batch_size": str(config.batch_size),
            "seed": str(config.seed),
            "pairs": str(config.pairs),
            "teacher": zoo.teacher_of(config.set),
            "teacher_weights": weights,
            "validation_mse": f"{held_out.members[i]:.6g}",
            "closed_form_kernel_mse": f"{held_out.closed_forms[i]:.6g}",
            "identity_mse": f"{held_out.identity:.6g}",
            "mean3_mse": f"{held_out.mean3:.6g}",
            "pairs_mse": f"{trained_on.members[i]:.6g}",
            "pairs_closed_form_kernel_mse": f"{trained_on.closed_forms[i]:.6g}",
            "training_mse": f"{last[i]:.6g}",
            "training_minutes": f"{curve.seconds / 60:.1f}",
            **shared,
        }
        variables = {"params": params[i]}
        model = checkpoint.Model(member, plan.members[i], variables, facts)
        checkpoint.save(
            model,
            config.workdir,
            text=card_text(member, facts),
            curve=curves.select(curve.thinned(), member.name),
        )
        metrics[f"{member.name}_validation_mse"] = held_out.members[i]
    _draw(config, members, curve)
    print(f"saved {len(members)} models in {config.workdir}")
    return metrics


def _print_table(
    members: tuple[zoo.ModelConfig, ...], trained_on: yardsticks.Errors, held_out: yardsticks.Errors
) -> None:
    """Print MSEs against the teacher, on the training pairs and on held-out ones."""
    print(f"{'MSE against the teacher':24} {'pairs':>10} {'closed form':>12} {'held out':>10} "
          f"{'closed form':>12}")  # fmt: skip
    for i, member in enumerate(members):
        print(
            f"{member.name:24} {trained_on.members[i]:10.6f} {trained_on.closed_forms[i]:12.6f} "
            f"{held_out.members[i]:10.6f} {held_out.closed_forms[i]:12.6f}"
        )
    for name, on_pairs, on_held_out in (
        ("identity", trained_on.identity, held_out.identity),
        ("3x3 mean", trained_on.mean3, held_out.mean3),
    ):
        print(f"{name:24} {on_pairs:10.6f} {'':12} {on_held_out:10.6f}")


def _draw(config: Config, members: tuple[zoo.ModelConfig, ...], curve: curves.Curve) -> None:
    lines = curve.lines([member.name for member in members])
    path = Path(config.workdir) / f"{config.set}_learning_curve.png"
    try:
        curves.draw(path, lines, window=max(1, min(500, config.steps // 12)), title=config.set)
    except ValueError as error:
        print(error)


def card_text(member: zoo.ModelConfig, facts: dict[str, str]) -> str:
    """Return a card's prose: what it is, and how it stands to its yardsticks."""
    kind = {
        "kernel": "Symmetric kernel",
        "mlp1": "Multilayer perceptron with one hidden layer",
        "mlp2": "Multilayer perceptron with two hidden layers",
    }[member.family]
    own = float(facts["validation_mse"])
    rivals = {
        "no change": float(facts["identity_mse"]),
        "a 3x3 mean": float(facts["mean3_mse"]),
        "the best symmetric kernel of its width": float(facts["closed_form_kernel_mse"]),
    }
    ratios = "; ".join(f"{own / value:.2f} times that of {name}" for name, value in rivals.items())
    worse = [name for name, value in rivals.items() if own > 1.02 * value]
    verdict = f"It is WORSE than {' and '.join(worse)}." if worse else "It loses to none of them."
    return (
        f"{kind} over {member.size}x{member.size} px for {member.domain} micrographs "
        f"(arXiv:1808.09916, section 3), distilled from {facts['teacher']}.\n\n"
        f"Trained for {facts['batches']} of the paper's {facts['full_schedule']} batches, "
        f"{facts['batch_size']} crop(s) each.\n\n"
        f"Its MSE against the teacher on held-out crops is {own:.4g}: {ratios}. {verdict}"
    )


if __name__ == "__main__":
    configs.main(run, Config)

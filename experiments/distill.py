"""Distil sets of kernels or MLPs in lockstep: `python -m experiments.distill --set=tem_mlp1`.

All members of a set see identical batches. The teacher, the paper's 16-deep autoencoder of the
same domain, is loaded by name; its restorations of the training crops are computed once for all
sets of a domain. `--set=all` distils all nine, side by side, in one to two minutes on 2 CPU
cores. With another `--objective` than the paper's there is no teacher, but a truth, or a second
look at each crop (see `emd.training.objective`). Stopped at any point, the same command goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from emd import checkpoint, threads, zoo
from emd.data import crops
from emd.training import autoencoder, lockstep, side_by_side
from experiments import config as configs
from experiments import curves, pairs, students, training_data

ALL = "all"
"""In place of sets' names: every one of them."""

TEACHER = "teacher's weights"
"""What a set's record of its settings calls the fingerprint of its teacher."""

SAVE_EVERY_S = 5
"""Seconds between checkpoints of a set, at least."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The distillation of one set or several; the defaults are the paper's."""

    set: str = configs.option(
        "tem_mlp1", f"set to train, several by commas, or {ALL}: {', '.join(zoo.SETS)}"
    )
    objective: str = configs.option(zoo.OBJECTIVES[0], zoo.TASKS, choices=zoo.OBJECTIVES)
    data_dir: str | None = configs.option(
        None, "folder with tem/ and stem/ inside; simulated micrographs without it"
    )
    simulated_share: float = configs.option(
        0.5, "fraction of draws from simulated micrographs when there are real ones"
    )
    steps: int = configs.option(10_000, "batches of the whole schedule")
    batch_size: int = configs.option(1, "crops a batch")
    pairs: int = configs.option(512, "training crops that have a restoration")
    seed: int = configs.option(0, "seed of weights, crops and batches")
    teachers: str | None = configs.option(
        None, "folder with the teacher's checkpoint; the weights that come along without it"
    )
    workdir: str = configs.option("runs", "folder for the models and their training state")


class Job(NamedTuple):
    """A set to train: its members, where it was left, in which folder, and its curve so far."""

    name: str
    members: tuple[zoo.ModelConfig, ...]
    plan: lockstep.Plan
    state: lockstep.State
    folder: Path
    curve: curves.Curve


def run(config: Config) -> dict[str, float]:
    """Return each member's MSE on held-out crops, against the teacher or the truth.

    Raises:
        ValueError: a setting or the data will not do.
        FileNotFoundError: a teacher or the data folder is missing.
        ArithmeticError: a set diverged.
    """
    configs.check_counts(config, "steps", "batch_size", "pairs")
    names = find_names(config.set)
    for name in names:
        zoo.check_objective(config.objective, _domain(name))
    sources = _prepare(config, names)
    for name in names:
        _bind(config, name, sources[_domain(name)])
    made = _make_pairs(config, sources)
    found: dict[str, students.Measured] = {}

    def finish(job: Job, done: side_by_side.Done) -> None:
        found[job.name] = done.measured
        _save(config, job, done, sources[job.members[0].domain])

    _train(_open(config, names), made, finish)
    metrics = {}
    for measured in (found[_label(config, name)] for name in names):
        students.print_table(measured)
        for member, mse in zip(measured.members, measured.held_out.members, strict=True):
            metrics[f"{member.name}_validation_mse"] = mse
    print(f"saved {len(metrics)} models in {config.workdir}")
    return metrics


def find_names(names: str) -> list[str]:
    """Return the sets that an option's value names.

    Raises:
        ValueError: there is no such set, or one is named twice.
    """
    if names == ALL:
        return list(zoo.SETS)
    found = names.split(",")
    for name in found:
        zoo.find_set(name)
    if len(set(found)) < len(found):
        raise ValueError(f"--set={names} names a set twice")
    return found


def _domain(name: str) -> str:
    return zoo.find_set(name)[0].domain


def _label(config: Config, name: str) -> str:
    """Return what a set's state, curve and picture are called."""
    return name if config.objective == zoo.OBJECTIVES[0] else f"{name}_{config.objective}"


def _prepare(config: Config, names: list[str]) -> dict[str, pairs.Source | pairs.TruthSource]:
    """Return the data of each domain that sets are in, and its teacher where there is one."""
    if config.objective != zoo.OBJECTIVES[0]:
        return {
            domain: pairs.TruthSource(
                config.objective,
                training_data.prepare_truths(
                    domain, config.data_dir, config.simulated_share, training_data.TRUTH_COUNT,
                    config.objective,
                ),
            )
            for domain in dict.fromkeys(map(_domain, names))
        }  # fmt: skip
    names_of = {_domain(name): zoo.teacher_of(name) for name in names}
    teachers = {d: checkpoint.load(name, root=config.teachers) for d, name in names_of.items()}

    def read(domain: str) -> training_data.TrainingData:
        return training_data.prepare(domain, config.data_dir, config.simulated_share)

    # those that have nothing in common at the same time, then the mixture of both
    single = [domain for domain in teachers if domain in crops.domains_of(domain)]
    data = dict(zip(single, threads.share(read, single), strict=True))
    return {
        domain: pairs.Source(
            teacher, checkpoint.fingerprint(teacher.variables), data.get(domain) or read(domain)
        )
        for domain, teacher in teachers.items()
    }


def _make_pairs(
    config: Config, sources: dict[str, pairs.Source | pairs.TruthSource]
) -> dict[str, tuple[pairs.Pairs, pairs.Pairs]]:
    """Return the training pairs and the held-out ones of each domain."""
    taught = {d: source for d, source in sources.items() if isinstance(source, pairs.Source)}
    made = pairs.make(
        list(taught.values()),
        count=config.pairs, seed=config.seed, simulated_share=config.simulated_share,
    )  # fmt: skip
    drawn = {
        domain: pairs.draw(source, count=config.pairs, seed=config.seed)
        for domain, source in sources.items()
        if isinstance(source, pairs.TruthSource)
    }
    return dict(zip(taught, made, strict=True)) | drawn


def _folder(config: Config, name: str) -> Path:
    return Path(config.workdir) / "state" / _label(config, name)


def _bind(config: Config, name: str, source: pairs.Source | pairs.TruthSource) -> None:
    """Refuse to go on with a set that began under other settings, data or teacher."""
    own = dataclasses.replace(config, set=name)
    also = {"data": source.data.facts["data_hash"]}
    if isinstance(source, pairs.Source):
        also[TEACHER] = source.weights
    free = ("workdir", "teachers", "data_dir")
    configs.keep(own, _folder(config, name), free=free, also=also)


def _open(config: Config, names: list[str]) -> list[Job]:
    """Return the sets as a run left them, or at their start."""
    plans = {
        name: lockstep.make_plan(
            [zoo.make_student(member) for member in zoo.find_set(name)],
            steps=config.steps, seed=config.seed, batch=config.batch_size,
        )
        for name in names
    }  # fmt: skip
    different = list(dict.fromkeys(plans.values()))
    starts = dict(zip(different, threads.share(lockstep.init_state, different), strict=True))
    jobs = []
    for name, plan in plans.items():
        folder = _folder(config, name)
        state, _ = checkpoint.restore_state(folder, starts[plan]) or (starts[plan], 0)
        members = zoo.find_set(name, config.objective)
        curve = curves.Curve(folder / "learning_curve.csv", [member.name for member in members])
        jobs.append(Job(_label(config, name), members, plan, state, folder, curve))
    return jobs


def _train(
    jobs: list[Job],
    made: dict[str, tuple[pairs.Pairs, pairs.Pairs]],
    finish: Callable[[Job, side_by_side.Done], None],
) -> None:
    """Train and measure all sets, each to be finished as soon as it is trained."""
    # for all domains once: what is on the device need not go there for each set
    on_device = {
        domain: (jnp.asarray(own.noisy), jnp.asarray(own.restored))
        for domain, (own, _) in made.items()
    }

    def make_task(job: Job, bar: tqdm[NoReturn]) -> side_by_side.Task:
        def measure(state: lockstep.State) -> students.Measured:
            params = lockstep.unpad(job.plan, state)
            return students.measure(job.members, job.plan, params, *made[job.members[0].domain])

        note = _make_note(job, bar)
        return side_by_side.Task(
            job.plan, *on_device[job.members[0].domain], job.state, note, measure
        )

    total = sum(job.plan.steps for job in jobs)
    with tqdm(total=total, initial=sum(int(job.state.step) for job in jobs), unit="batch") as bar:
        tasks = [make_task(job, bar) for job in jobs]
        side_by_side.train(tasks, on_done=lambda done: finish(jobs[done.number], done))


def _make_note(
    job: Job, bar: tqdm[NoReturn]
) -> Callable[[lockstep.State, side_by_side.Losses, float], None]:
    """Return what a set does after each dispatch: write its curve, and at times its state."""
    saved_s = 0.0

    def note(state: lockstep.State, losses: side_by_side.Losses, seconds: float) -> None:
        nonlocal saved_s
        if not np.isfinite(losses).all():
            raise autoencoder.DivergedError(
                f"{job.name}: a loss was not finite: try another --seed"
            )
        step = int(state.step)
        job.curve.append(step - losses.shape[1] + 1, losses.T, seconds)
        if step == job.plan.steps or seconds - saved_s >= SAVE_EVERY_S:
            checkpoint.save_state(job.folder, state, step)
            saved_s = seconds
        mses = " ".join(f"{mse:.4f}" for mse in losses.mean(1))
        bar.set_postfix_str(f"{job.name} mse={mses}", refresh=False)
        bar.update(losses.shape[1])

    return note


def _save(
    config: Config,
    job: Job,
    done: side_by_side.Done,
    source: pairs.Source | pairs.TruthSource,
) -> None:
    """Write a set's models and its picture."""
    facts = {"objective": config.objective, "pairs": str(config.pairs), **source.data.facts}
    if isinstance(source, pairs.Source):
        facts = {"teacher": source.teacher.config.name, "teacher_weights": source.weights, **facts}
    students.save(
        done.measured, job.plan, lockstep.unpad(job.plan, done.state),
        curve=job.curve, facts=facts, workdir=config.workdir,
    )  # fmt: skip
    picture = Path(config.workdir) / f"{job.name}_learning_curve.png"
    window = max(1, min(500, config.steps // 12))
    students.draw(done.measured, job.curve, picture, window=window)


if __name__ == "__main__":
    configs.main(run, Config)

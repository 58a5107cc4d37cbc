"""Train whatever of the zoo is missing: `python -m experiments.zoo --minutes=45`.

Teachers come first, then the nine sets distilled from them, side by side, then the other
autoencoders. Stopped at any point, or out of minutes, the same command goes on. A finished model
is copied from the working folder to the folder of checkpoints.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from emd import checkpoint, zoo
from experiments import autoencoder, distill
from experiments import config as configs

LATENT_ORDER = (16, 4, 64, 1, 8, 32, 2)
"""Autoencoders by latent depth: those that others need, or that say most, first."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How far to train each family, and for how long at a time."""

    minutes: float | None = configs.option(None, "stop after this long; until all is done without")
    only: str | None = configs.option(
        None, "names of autoencoders and sets, by commas; all without"
    )
    data_dir: str | None = configs.option(
        None, "folder with tem/ and stem/ inside; simulated micrographs without it"
    )
    simulated_share: float = configs.option(
        0.5, "fraction of draws from simulated micrographs when there are real ones"
    )
    steps: int = configs.option(60_000, "batches of an autoencoder's schedule")
    batch_size: int = configs.option(32, "crops a batch of an autoencoder")
    student_steps: int = configs.option(10_000, "batches of a set's schedule")
    student_batch_size: int = configs.option(1, "crops a batch of a set")
    seed: int = configs.option(0, "seed of all weights and batches")
    workdir: str = configs.option("runs", "folder for training states and models on their way")
    checkpoints: str | None = configs.option(
        None, "folder for finished models; the one that comes with the code without it"
    )


class Job(NamedTuple):
    """One autoencoder or one set: what it makes, under which settings, and how."""

    name: str
    makes: tuple[zoo.ModelConfig, ...]
    settings: dict[str, str]
    """Facts that the cards of its models must have."""
    run: Callable[[float | None], object] | None = None
    """Trains it for so many minutes; None for a set, which is trained with other sets."""


def jobs(config: Config) -> list[Job]:
    """Return all jobs in the order they are done: teachers, sets, other autoencoders.

    Raises:
        ValueError: ``only`` names something that is neither an autoencoder nor a set.
    """
    autoencoders = sorted(
        (model for model in zoo.PAPER_MODELS if model.family == "autoencoder"),
        key=lambda model: LATENT_ORDER.index(model.size),
    )
    coder, student = (
        {"batches": str(steps), "batch_size": str(batch_size), "seed": str(config.seed)}
        for steps, batch_size in (
            (config.steps, config.batch_size),
            (config.student_steps, config.student_batch_size),
        )
    )
    coders = [Job(m.name, (m,), coder, _autoencoder_job(config, m)) for m in autoencoders]
    teachers = {zoo.teacher_of(name) for name in zoo.SETS}
    sets = [Job(name, made, student) for name, made in zoo.SETS.items()]
    ordered = [
        *(job for job in coders if job.name in teachers),
        *sets,
        *(job for job in coders if job.name not in teachers),
    ]
    if config.only is None:
        return ordered
    wanted = config.only.split(",")
    names = [job.name for job in ordered]
    for name in wanted:
        if name not in names:
            raise ValueError(f"unknown name {name!r} in --only: use of {', '.join(names)}")
    return [job for job in ordered if job.name in wanted]


def run(config: Config) -> dict[str, float]:
    """Return how many of the models are there and how many are still missing.

    Raises:
        ValueError: a setting or the data will not do.
        FileNotFoundError: the data folder is missing.
    """
    root, workdir = Path(config.checkpoints or checkpoint.shipped()), Path(config.workdir)
    deadline = None if config.minutes is None else time.monotonic() + 60 * config.minutes
    planned = jobs(config)
    for job in planned:
        left = None if deadline is None else (deadline - time.monotonic()) / 60
        if left is not None and left <= 0:
            break
        if not _is_missing(job, root):
            continue
        if not _is_finished(job, workdir):
            if job.run is not None:
                print(f"== {job.name}", flush=True)
                job.run(left)
            else:
                sets = [one for one in planned if one.run is None and _is_missing(one, root)]
                _distil(config, [one.name for one in sets if not _is_finished(one, workdir)])
        if _is_finished(job, workdir):
            for model in job.makes:
                _promote(workdir / model.name, root)
    _print_status(planned, root)
    models = [model for job in planned for model in job.makes]
    there = sum(checkpoint.is_there(root / model.name) for model in models)
    return {"models": there, "missing": len(models) - there}


def _autoencoder_job(config: Config, model: zoo.ModelConfig) -> Callable[[float | None], object]:
    def train(minutes: float | None) -> object:
        return autoencoder.run(
            autoencoder.Config(
                dataset=model.domain,
                latent=model.size,
                **_shared(config),
                steps=config.steps,
                batch_size=config.batch_size,
                checkpoint_every=max(1, config.steps // 12),
                minutes=minutes,
            )
        )

    return train


def _distil(config: Config, names: list[str]) -> None:
    """Train these sets side by side."""
    print(f"== {', '.join(names)}", flush=True)
    distill.run(
        distill.Config(
            set=",".join(names),
            **_shared(config),
            steps=config.student_steps,
            batch_size=config.student_batch_size,
            teachers=config.checkpoints,
        )
    )


def _shared(config: Config) -> dict[str, Any]:
    """Return the settings that every job has in common."""
    names = ("data_dir", "simulated_share", "seed", "workdir")
    return {name: getattr(config, name) for name in names}


def _is_missing(job: Job, root: Path) -> bool:
    return not all(checkpoint.is_there(root / model.name) for model in job.makes)


def _is_finished(job: Job, workdir: Path) -> bool:
    """Return whether the working folder holds all that a job makes, trained as it would."""
    cards = [checkpoint.read_card(workdir / model.name / "card.md") for model in job.makes]
    return all(job.settings.items() <= card.items() for card in cards)


def _promote(folder: Path, root: Path) -> None:
    """Copy a finished model, without its picture, to the folder of checkpoints: whole or not."""
    with checkpoint.replacing(root / folder.name) as work:
        shutil.copytree(folder, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.png"))


def _print_status(planned: list[Job], root: Path) -> None:
    """Print a line a model: how far it is trained, and its held-out MSE."""
    print(f"{'model':20} {'batches':>8} {'validation MSE':>15} {'trained on':>11}")
    for model in (model for job in planned for model in job.makes):
        card = checkpoint.read_card(root / model.name / "card.md")
        if card:
            print(
                f"{model.name:20} {card.get('batches', '?'):>8} "
                f"{card.get('validation_mse', '?'):>15} {card.get('date', '?'):>11}"
            )
        else:
            print(f"{model.name:20} {'missing':>8}")


if __name__ == "__main__":
    configs.main(run, Config)

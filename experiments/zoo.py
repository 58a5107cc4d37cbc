"""Train whatever of the zoo is missing or old: `python -m experiments.zoo --minutes=45`.

Teachers come first, then the nine sets distilled from them, side by side, then the other
autoencoders. A model is old where it was trained on fewer crops than asked, on another share of
simulated ones, or where its teacher is another one by now. Stopped at any point, or out of minutes,
the same command goes on. A finished model goes from the working folder to the folder of checkpoints
unless a better one is there.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax

from emd import checkpoint, zoo
from experiments import autoencoder, distill, shelf
from experiments import config as configs

LATENT_ORDER = (16, 4, 64, 1, 8, 32, 2)
"""Autoencoders by latent depth: those that others need, or that say most, first."""


SIMULATED_SHARE = {"tem": 0.0, "stem": 0.4, "temstem": 0.0}
"""Fraction of an autoencoder's crops from simulated micrographs, where there are real ones: the
best of those compared on held-out real micrographs (README, "How the models were trained")."""

STUDENT_SHARE = 0.0
"""The same of the sets': what they learn is the teacher's doing, and real crops show it best."""


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
    """One autoencoder or one set: its name, and what it makes."""

    name: str
    makes: tuple[zoo.ModelConfig, ...]

    @property
    def is_set(self) -> bool:
        """Whether it is distilled from a teacher."""
        return self.name in zoo.SETS


def jobs(only: str | None = None) -> list[Job]:
    """Return all jobs in the order they are done: teachers, sets, other autoencoders.

    Raises:
        ValueError: ``only`` names something that is neither an autoencoder nor a set.
    """
    autoencoders = sorted(
        (model for model in zoo.PAPER_MODELS if model.family == "autoencoder"),
        key=lambda model: LATENT_ORDER.index(model.size),
    )
    teachers = {zoo.teacher_of(name) for name in zoo.SETS}
    ordered = [
        *(Job(model.name, (model,)) for model in autoencoders if model.name in teachers),
        *(Job(name, made) for name, made in zoo.SETS.items()),
        *(Job(model.name, (model,)) for model in autoencoders if model.name not in teachers),
    ]
    if only is None:
        return ordered
    wanted, names = only.split(","), [job.name for job in ordered]
    for name in wanted:
        if name not in names:
            raise ValueError(f"unknown name {name!r} in --only: use of {', '.join(names)}")
    return [job for job in ordered if job.name in wanted]


def run(config: Config) -> dict[str, float]:
    """Return how many models are new, how many are there, and how many still missing or old.

    Raises:
        ValueError: a setting or the data will not do.
        FileNotFoundError: the data folder is missing.
    """
    configs.check_counts(config, "steps", "batch_size", "student_steps", "student_batch_size")
    root, workdir = Path(config.checkpoints or checkpoint.shipped()), Path(config.workdir)
    deadline = None if config.minutes is None else time.monotonic() + 60 * config.minutes
    planned = jobs(config.only)
    _share_programs(workdir)
    new = 0
    with ThreadPoolExecutor(1) as aside:
        for number, job in enumerate(planned):
            left = None if deadline is None else (deadline - time.monotonic()) / 60
            if left is not None and left <= 0:
                break
            if not _wants(config, job, root):
                continue
            if _wants(config, job, workdir):
                _train(config, planned[number:], root, left, aside)
            if not _wants(config, job, workdir):
                told = [shelf.promote(workdir, root, model.name) for model in job.makes]
                print("\n".join(told), flush=True)
                new += sum(": new," in line for line in told)
    models = [model for job in planned for model in job.makes]
    shelf.print_status(models, root)
    there = sum(bool(shelf.read(root, model.name)) for model in models)
    old = sum(len(job.makes) for job in planned if _wants(config, job, root))
    return {"new": new, "models": there, "missing_or_old": old}


def _wants(config: Config, job: Job, folder: Path) -> bool:
    """Return whether a folder lacks something that a job makes, or holds an old one."""
    standard = shelf.Standard(
        config.steps * config.batch_size,
        _facts_share(config, SIMULATED_SHARE[job.makes[0].domain]),
    )
    if job.is_set:
        standard = shelf.Standard(
            config.student_steps * config.student_batch_size,
            _facts_share(config, STUDENT_SHARE),
            _teacher_weights(config, job.name),
        )
    return any(shelf.fault(shelf.read(folder, model.name), standard) for model in job.makes)


def _facts_share(config: Config, share: float) -> float:
    """Return the share that cards name: without real micrographs all are simulated."""
    return 1.0 if config.data_dir is None else share


def _teacher_weights(config: Config, name: str) -> str | None:
    """Return the fingerprint of a set's teacher on the shelf; None where it is missing."""
    teacher = zoo.teacher_of(name)
    try:
        place = (Path(config.checkpoints or checkpoint.shipped()) / teacher / "weights").stat()
    except FileNotFoundError:
        return None
    return _fingerprint(teacher, config.checkpoints, (place.st_ino, place.st_mtime_ns))


@functools.lru_cache(maxsize=16)
def _fingerprint(name: str, root: str | None, written: tuple[int, int]) -> str:
    """Return a model's fingerprint, read once: weights are replaced as a folder, never changed."""
    return checkpoint.fingerprint(checkpoint.load(name, root=root).variables)


def _train(
    config: Config,
    ahead: list[Job],
    root: Path,
    minutes: float | None,
    aside: ThreadPoolExecutor,
) -> None:
    """Train the first of the jobs ahead; of sets, all that are wanted, side by side.

    While an autoencoder trains, the data of the next one is read and its program compiled, or the
    device would be idle between them.
    """
    job = ahead[0]
    if not job.is_set:
        print(f"== {job.name}", flush=True)
        for other in ahead[1:]:
            if not other.is_set and _wants(config, other, root):
                settings = _autoencoder_config(config, other.makes[0], None)
                aside.submit(autoencoder.compile_ahead, settings)
                break
        autoencoder.run(_autoencoder_config(config, job.makes[0], minutes))
        return
    names = [
        other.name
        for other in ahead
        if other.is_set
        and _wants(config, other, root)
        and _wants(config, other, Path(config.workdir))
    ]
    print(f"== {', '.join(names)}", flush=True)
    for name in names:
        _forget_other_teacher(config, name)
    distill.run(_distill_config(config, names))


def _autoencoder_config(
    config: Config, model: zoo.ModelConfig, minutes: float | None
) -> autoencoder.Config:
    return autoencoder.Config(
        dataset=model.domain,
        latent=model.size,
        data_dir=config.data_dir,
        simulated_share=SIMULATED_SHARE[model.domain],
        steps=config.steps,
        batch_size=config.batch_size,
        seed=config.seed,
        workdir=config.workdir,
        checkpoint_every=max(1, config.steps // 12),
        minutes=minutes,
    )


def _distill_config(config: Config, names: list[str]) -> distill.Config:
    return distill.Config(
        set=",".join(names),
        data_dir=config.data_dir,
        simulated_share=STUDENT_SHARE,
        steps=config.student_steps,
        batch_size=config.student_batch_size,
        seed=config.seed,
        workdir=config.workdir,
        teachers=config.checkpoints,
    )


def _forget_other_teacher(config: Config, name: str) -> None:
    """Remove a set's training state where it began under a teacher that is no more."""
    state = Path(config.workdir) / "state" / name
    record = state / "config.json"
    if record.is_file():
        began = json.loads(record.read_text()).get(distill.TEACHER)
        if began != _teacher_weights(config, name):
            shutil.rmtree(state)


def _share_programs(workdir: Path) -> None:
    """Keep compiled programs in the working folder: for a run that goes on, and between threads."""
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        jax.config.update("jax_compilation_cache_dir", str((workdir / "programs").resolve()))


if __name__ == "__main__":
    configs.main(run, Config)

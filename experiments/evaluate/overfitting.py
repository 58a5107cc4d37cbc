"""How much worse models do on fields they have not seen, under conditions that are else the same.

Both sides are crops on the same grid of micrographs from the same sources, equally many of each
source where it has them, each normalised by itself. Fields differ, so a yardstick that has nothing
to overfit with is measured on both sides too, and models are held against it crop by crop.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from emd import checkpoint, zoo
from emd.checkpoint import Model
from emd.data import crops
from emd.models import pixelwise
from emd.models.pixelwise import Folded, Kernel, apply_folded
from emd.training import yardsticks
from experiments import held_out, linear_code, training_data
from experiments.evaluate.entries import standard_error

PER_SOURCE = 32
"""Crops of each source on either side."""

BLOCK = 16
"""Crops that a teacher restores at a time."""

MAX_DEPTH = 32
"""Of the linear code that is a yardstick: a deeper one leaves next to no error to compare."""


class Sides(NamedTuple):
    """Crops that models may have learnt from, and crops of fields that they have not."""

    seen: Float[np.ndarray, "n s s"]
    held_out: Float[np.ndarray, "_ s s"]


class Errors(NamedTuple):
    """MSEs of each crop of one side: a model's, and its yardstick's."""

    model: Float[np.ndarray, " n"]
    yardstick: Float[np.ndarray, " n"]

    def ratios(self) -> Float[np.ndarray, " n"]:
        """Return the logarithm of the one over the other, which no bright crop dominates."""
        # a constant crop leaves no error to either
        floor = np.finfo(np.float32).tiny
        return np.log(np.maximum(self.model, floor)) - np.log(np.maximum(self.yardstick, floor))


class Gap(NamedTuple):
    """A model's errors on both sides."""

    seen: Errors
    held_out: Errors

    def excess(self) -> tuple[float, float]:
        """Return how many times worse a model does on held-out crops, and its standard error.

        In units of the yardstick, geometric means over crops: above 1 the model overfits.
        """
        seen, held_out = self.seen.ratios(), self.held_out.ratios()
        excess = float(np.exp(held_out.mean() - seen.mean()))
        error = float(np.hypot(standard_error(seen), standard_error(held_out)))
        return excess, excess * error


def crop_sides(domain: str, data_dir: str | None) -> Sides:
    """Return both sides of a domain: real micrographs' of a folder, or simulated ones'.

    Raises:
        ValueError: the folder's micrographs will not do, or none of them can be held out.
        FileNotFoundError: the folder is missing or empty.
    """
    if data_dir is None:
        data = training_data.prepare(domain, None, 1.0)
        return Sides(crops.held_out_crops(data.images, per_source=PER_SOURCE)[0], data.held_out)
    seen, held = crops.split(crops.load(data_dir, domain)[0])
    common = {image.source for image in seen} & {image.source for image in held}
    if not common:
        raise ValueError(f"{data_dir}: no source of {domain} has two fields, so none can be held "
                         "out: add a second micrograph of one")  # fmt: skip
    one, other = ([i for i in images if i.source in common] for images in (seen, held))
    return Sides(
        crops.held_out_crops(one, per_source=PER_SOURCE)[0],
        crops.held_out_crops(other, per_source=PER_SOURCE)[0],
    )


def of_autoencoder(model: Model, sides: Sides) -> Gap:
    """Return the gap of an autoencoder; its yardstick is the linear code of its size."""
    fitted = linear_code.fit(sides.seen, min(model.config.size, MAX_DEPTH))
    errors = [
        Errors(
            held_out.restoration_mse(model.module, model.variables, side),
            linear_code.mse(fitted, side),
        )
        for side in sides
    ]
    return Gap(*errors)


def of_students(models: Sequence[Model], teacher: Model, sides: Sides) -> dict[str, Gap]:
    """Return, by name, the gap of each kernel and perceptron of a domain to what its teacher makes.

    Their yardstick is a 3x3 mean.
    """
    restored = [_restore(teacher, side) for side in sides]

    def errors(module: Any, params: Any) -> list[Float[np.ndarray, " n"]]:
        folded = pixelwise.fold(module, params)
        return [np.asarray(_errors(folded, *pair)) for pair in zip(sides, restored, strict=True)]

    mean3 = errors(Kernel(3), {"weights": jnp.full(3, 1 / 9)})
    found = {}
    for model in models:
        own = errors(model.module, model.variables["params"])
        found[model.config.name] = Gap(*map(Errors, own, mean3))
    return found


@jax.jit
def _errors(
    folded: Folded, noisy: Float[Array, "n s s"], restored: Float[Array, "n s s"]
) -> Float[Array, " n"]:
    """What a kernel or perceptron misses its teacher by, away from each crop's edge."""
    margin = yardsticks.MARGIN_PX
    reach = margin - folded.output.shape[-1] // 2

    def of_crop(pair: tuple[Float[Array, "s s"], Float[Array, "s s"]]) -> Float[Array, ""]:
        got = apply_folded(folded, pair[0][reach:-reach, reach:-reach])
        return jnp.mean((got - pair[1][margin:-margin, margin:-margin]) ** 2)

    return jax.lax.map(of_crop, (noisy, restored))


def has_its_teacher(student: Model, teacher: Model) -> bool:
    """Return whether a student was distilled from these very weights, as far as its card says."""
    known = student.card.get("teacher_weights")
    return known is None or known == checkpoint.fingerprint(teacher.variables)


def teacher_name(domain: str) -> str:
    """Return the name of the autoencoder that a domain's kernels and perceptrons approximate."""
    return zoo.teacher_of(f"{domain}_kernel")


def _restore(teacher: Model, side: Float[np.ndarray, "n s s"]) -> Float[np.ndarray, "n s s"]:
    apply = functools.partial(jax.jit(teacher.module.apply), teacher.variables)
    blocks = [side[i : i + BLOCK] for i in range(0, len(side), BLOCK)]
    return np.concatenate([np.asarray(apply(block)) for block in blocks])

"""What a distilled set leaves behind: its models with their cards and curves, table and picture."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from emd import checkpoint, zoo
from emd.training import lockstep, yardsticks
from emd.training.objective import Pair
from emd.training.padding import Params
from experiments import curves, held_out, provenance
from experiments.pairs import Pairs

_LESSONS = {
    "clean": "taught to take added noise away from simulated micrographs and real ones of high "
    "counts, where the paper's are distilled from an autoencoder",
    "thin": "taught by noisy micrographs alone, simulated and real, to tell from a random part of "
    "their electrons the others, where the paper's are distilled from an autoencoder",
    "columns": "taught to take added noise away from simulated atom columns, where the paper's are "
    "distilled from an autoencoder",
    "benchmark": "taught to take added noise away from the two simulated lattices of a benchmark, "
    "where the paper's are distilled from an autoencoder",
}


class Measured(NamedTuple):
    """The errors of a set's members and of their yardsticks against the teacher or the truth.

    Where there is a truth, each member's `experiments.held_out.gains` too; else they are empty.
    """

    members: tuple[zoo.ModelConfig, ...]
    pairs: yardsticks.Errors
    held_out: yardsticks.Errors
    gains: list[dict[str, float]]


def measure(
    members: tuple[zoo.ModelConfig, ...],
    plan: lockstep.Plan,
    params: list[Params],
    pairs: Pairs,
    held_pairs: Pairs,
) -> Measured:
    """Return a set's errors on the training pairs and on held-out ones.

    Closed forms are fitted to the training pairs.
    """
    closed = [pairs.moments.best(member.size).astype(np.float32) for member in members]
    on_pairs, on_held_out = (
        yardsticks.evaluate(
            plan.members,
            params,
            these.noisy,
            these.restored,
            closed_forms=closed,
            moments=these.moments,
        )
        for these in (pairs, held_pairs)
    )
    gains: list[dict[str, float]] = [{} for _ in members]
    if _judge(members[0]) == "truth":
        crops = Pair(jnp.asarray(held_pairs.noisy), jnp.asarray(held_pairs.restored))
        applied = (
            functools.partial(_apply, own, module)
            for module, own in zip(plan.members, params, strict=True)
        )
        gains = [held_out.gains(restore, crops) for restore in applied]
    return Measured(members, on_pairs, on_held_out, gains)


@functools.partial(jax.jit, static_argnames="module")
def _apply(params: Params, module: nn.Module, seen: Float[Array, "n h w"]) -> Array:
    """Return what a student makes of crops; those of one kind share the program."""
    restored: Array = module.apply({"params": params}, seen)  # type: ignore[assignment]
    return restored


def save(
    measured: Measured,
    plan: lockstep.Plan,
    params: list[Params],
    *,
    curve: curves.Curve,
    facts: dict[str, str],
    workdir: str,
) -> None:
    """Write each member under its name, its card with the facts that all members share."""
    last = curve.last().mean(0)
    thinned = curve.thinned()
    made_by = provenance.facts()
    for i, member in enumerate(measured.members):
        on_pairs, on_held_out = measured.pairs, measured.held_out
        own = {
            "batches": str(plan.steps),
            "full_schedule": str(zoo.FULL_SCHEDULE[member.family]),
            "batch_size": str(plan.batch),
            "seed": str(plan.seed),
            "validation_mse": f"{on_held_out.members[i]:.6g}",
            "closed_form_kernel_mse": f"{on_held_out.closed_forms[i]:.6g}",
            "identity_mse": f"{on_held_out.identity:.6g}",
            "mean3_mse": f"{on_held_out.mean3:.6g}",
            "pairs_mse": f"{on_pairs.members[i]:.6g}",
            "pairs_closed_form_kernel_mse": f"{on_pairs.closed_forms[i]:.6g}",
            "training_mse": f"{last[i]:.6g}",
            "training_minutes": f"{curve.seconds / 60:.1f}",
            **{name: f"{value:.6g}" for name, value in measured.gains[i].items()},
            **facts,
            **made_by,
        }
        checkpoint.save(
            checkpoint.Model(member, plan.members[i], {"params": params[i]}, own),
            workdir,
            text=card_text(member, own),
            curve=curves.select(thinned, member.name),
        )


def draw(measured: Measured, curve: curves.Curve, path: Path, *, window: int) -> None:
    """Draw the members' learning curves where matplotlib is installed; else say what brings it."""
    lines = curve.lines([member.name for member in measured.members])
    try:
        curves.draw(path, lines, window=window, title=measured.members[0].set_name)
    except ValueError as error:
        print(error)


def print_table(measured: Measured) -> None:
    """Print MSEs against the teacher or the truth, on the training pairs and on held-out ones."""
    members, trained_on, held_out, _ = measured
    title = f"MSE against the {_judge(members[0])}"
    print(f"{title:24} {'pairs':>10} {'closed form':>12} {'held out':>10} {'closed form':>12}")
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


def _judge(member: zoo.ModelConfig) -> str:
    """Return what a member's held-out error is an error against."""
    return "teacher" if member.objective == zoo.OBJECTIVES[0] else "truth"


def card_text(member: zoo.ModelConfig, facts: dict[str, str]) -> str:
    """Return a card's prose: what it is, and how it stands to its yardsticks."""
    kind = {
        "kernel": "Symmetric kernel",
        "mlp1": "Multilayer perceptron with one hidden layer",
        "mlp2": "Multilayer perceptron with two hidden layers",
    }[member.family]
    own, gains = float(facts["validation_mse"]), ""
    if _judge(member) == "truth":
        names = ("validation_gain_db", "validation_worst_db")
        gains = "\n\n" + held_out.gain_text({name: float(facts[name]) for name in names})
    lesson = _LESSONS.get(member.objective) or f"distilled from {facts['teacher']}"
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
        f"(arXiv:1808.09916, section 3), {lesson}.\n\n"
        f"Trained for {facts['batches']} of the paper's {facts['full_schedule']} batches, "
        f"{facts['batch_size']} crop(s) each.\n\n"
        f"Its MSE against the {_judge(member)} on held-out crops is {own:.4g}: {ratios}. {verdict}"
        f"{gains}"
    )

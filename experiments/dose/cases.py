"""What is compared: each protocol's conditions and doses, and who takes part."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from experiments.dose import contestants, fields, scores
from experiments.dose.contestants import Contestant, Image
from experiments.dose.samples import Sample
from experiments.dose.scores import Score

HAADF, OFF, SPACING = "haadf", "haadf-off", "haadf-spacing"
"""The lattices, variants of them, and the honeycomb from narrow to wide."""

TUNING_FIELDS = 2


class Case(NamedTuple):
    """Samples of one kind, on which contestants are compared.

    Attributes:
      protocol: one of the names above, of `experiments.dose.ede`, or that of repeated frames.
      condition: in tables.
      dose: in counts; None where it varies.
      domain: "tem" or "stem"; empty where it is not known.
      draw: gives the samples to tune on, and those to evaluate.
      fields: how many are evaluated.
      side_px: of each.
      takes_part: whether a contestant does.
      score: of restored images and their samples.
      digest: of the samples, where the names above do not say what they are.
    """

    protocol: str
    condition: str
    dose: float | None
    domain: str
    draw: Callable[[], tuple[list[Sample], list[Sample]]]
    fields: int
    side_px: int
    takes_part: Callable[[Contestant], bool]
    score: Callable[[Sequence[Image], Sequence[Sample]], Score] = scores.of_all
    digest: str = ""


def lattices(*, count: int, side_px: int) -> list[Case]:
    """Return the cases of lattices, with so many fields each."""
    wanted: Sequence[tuple[str, tuple[fields.Condition, ...], tuple[float, ...]]] = (
        (HAADF, fields.USUAL, fields.DOSES),
        (OFF, fields.OFF, fields.OFF_DOSES),
        (SPACING, fields.SWEEP, fields.SPACING_DOSES),
    )
    takes_part = {HAADF: _everyone_and_the_truth, OFF: _everyone, SPACING: _only_the_gaussian}
    return [
        Case(
            protocol, condition.name, dose, "stem",
            functools.partial(_draw, condition, dose, count, side_px), count, side_px,
            takes_part[protocol],
        )
        for protocol, conditions, all_doses in wanted
        for condition in conditions
        for dose in all_doses
    ]  # fmt: skip


def _draw(
    condition: fields.Condition, dose: float, count: int, side_px: int
) -> tuple[list[Sample], list[Sample]]:
    draw = functools.partial(fields.draw, condition, dose, side_px=side_px)
    return (
        draw(fields.TUNING, count=TUNING_FIELDS),
        draw(fields.EVALUATION, count=count),
    )


def _everyone_and_the_truth(contestant: Contestant) -> bool:
    return contestant.kind == contestants.LIMIT or _everyone(contestant)


def _everyone(contestant: Contestant) -> bool:
    is_tailored = contestant.kind == contestants.TAILORED
    return is_tailored or contestants.suits(contestant, "stem")


def _only_the_gaussian(contestant: Contestant) -> bool:
    """Of rivals the one that the requirement names: the others are slow, as are perceptrons."""
    is_there = contestant.kind in (contestants.NONE, contestants.OURS, contestants.TAILORED)
    is_there = is_there and contestant.name != contestants.PERCEPTRON
    return _everyone(contestant) and (is_there or contestant.name == "Gaussian")

"""The paper's claims, each with the rule that decides whether it holds for our models.

Every rule says `holds`, `does not hold`, or `cannot be told` where models are missing or numbers
too noisy, and gives the numbers that it went by.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.evaluate import entries, paper, ranks
from experiments.evaluate.markdown import DOMAINS
from experiments.evaluate.measured import Measured
from experiments.evaluate.overfitting import teacher_name

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"

LEVEL = 0.05
"""Chance below which a rank correlation counts."""

ERRORS = 2.0
"""Standard errors from which a difference counts."""


class Verdict(NamedTuple):
    """What became of a claim."""

    letter: str
    claim: str
    rule: str
    verdict: str
    numbers: str


Models = Sequence[Measured]


def all_verdicts(measured: Models) -> list[Verdict]:
    """Return the verdict on each claim."""
    return [
        overfits_less(measured),
        quicker(measured),
        fewer_grids(measured),
        not_plateaued(measured),
        *variances(measured),
    ]


def _is_student(one: Measured) -> bool:
    return one.entry.config.family != "autoencoder"


def overfits_less(measured: Models) -> Verdict:
    """Return whether models with more parameters overfit more."""
    groups, families = [], {}
    for domain in DOMAINS:
        own = [(m.parameters, m.gap.excess()[0]) for m in measured
               if m.entry.config.domain == domain and m.gap and m.parameters]  # fmt: skip
        if len(own) > 2:
            groups.append(([float(p) for p, _ in own], [e for _, e in own]))
    for words, is_student in (("autoencoders", False), ("kernels and perceptrons", True)):
        families[words] = [
            m.gap.excess()[0] for m in measured if m.gap and _is_student(m) == is_student
        ]
    verdict, numbers = OPEN, "too few models"
    if groups:
        rho = float(np.mean([ranks.correlation(*group) for group in groups]))
        chance = ranks.shuffled_chance(groups)
        verdict = OPEN if chance >= LEVEL else HOLDS if rho > 0 else FAILS
        medians = [f"{w} {np.median(values):.2f}" for w, values in families.items() if values]
        numbers = (
            f"mean rank correlation {rho:+.2f} (chance {_chance(chance)}); median gap: "
            f"{', '.join(medians)}"
        )
    return Verdict(
        "a",
        "lower capacity overfits less",
        "rank correlation of parameters with the gap to held-out crops, the mean over domains, is "
        f"above 0 at a chance below {LEVEL:g}; it does not hold where it is as surely below 0",
        verdict,
        numbers,
    )


def _chance(chance: float) -> str:
    least = 1 / ranks.SHUFFLES
    return f"below {least:g}" if chance < least else f"{chance:.2g}"


def quicker(measured: Models) -> Verdict:
    """Return whether most kernels and perceptrons take less time than the quickest autoencoder."""
    ours = [m.seconds for m in measured if _is_student(m) and m.seconds is not None]
    others = [m.seconds for m in measured if not _is_student(m) and m.seconds is not None]
    verdict, numbers = OPEN, "too few models"
    if ours and others:
        quick = sum(seconds < min(others) for seconds in ours)
        verdict = HOLDS if quick > len(ours) / 2 else FAILS
        numbers = (
            f"{quick} of {len(ours)} take less; they take {1e3 * min(ours):.1f} to "
            f"{1e3 * max(ours):.1f} ms, the autoencoders {1e3 * min(others):.0f} to "
            f"{1e3 * max(others):.0f} ms a megapixel"
        )
    return Verdict(
        "b",
        "kernels and perceptrons are more efficient",
        "more than half of them take less time a megapixel than the quickest autoencoder",
        verdict,
        numbers,
    )


def fewer_grids(measured: Models) -> Verdict:
    """Return whether kernels and perceptrons add less of a grid than the teacher they learnt of."""
    by_name = {m.entry.config.name: m for m in measured}
    less = more = 0
    for one in measured:
        teacher = by_name.get(teacher_name(one.entry.config.domain))
        if not _is_student(one) or one.grids is None or teacher is None or teacher.grids is None:
            continue
        apart = teacher.grids.added() - one.grids.added()
        error = entries.standard_error(apart)
        less += bool(apart.mean() > ERRORS * error)
        more += bool(apart.mean() < -ERRORS * error)
    count = sum(_is_student(m) and m.grids is not None for m in measured)
    added = {
        words: [float(m.grids.added().mean()) for m in measured
                if m.grids is not None and _is_student(m) == is_student]
        for words, is_student in (("autoencoders", False), ("kernels and perceptrons", True))
    }  # fmt: skip
    verdict, numbers = OPEN, "too few models"
    if less + more and count:
        verdict = HOLDS if less > count / 2 and not more else FAILS if more >= less else OPEN
        medians = [f"{w} {np.median(values):+.2f}" for w, values in added.items() if values]
        numbers = (
            f"{less} of {count} add less than their teacher, {more} more; median added: "
            f"{', '.join(medians)}"
        )
    return Verdict(
        "c",
        "kernels and perceptrons make fewer checkerboards",
        f"more than half add less of a grid than their teacher, by {ERRORS:g} standard errors "
        "over micrographs, and none adds more; it does not hold where as many add more as less",
        verdict,
        numbers,
    )


def not_plateaued(measured: Models) -> Verdict:
    """Return whether the MSEs of STEM autoencoders still fall at the end of their schedules."""
    falls = [(m.entry.config.name, m.trend) for m in measured
             if m.trend is not None and not _is_student(m)
             and m.entry.config.domain == "stem"]  # fmt: skip
    falling = [t.change < -ERRORS * t.error for _, t in falls]
    level = [abs(t.change) + ERRORS * t.error < 0.05 for _, t in falls]
    verdict = OPEN
    if falls:
        verdict = HOLDS if all(falling) else FAILS if all(level) else OPEN
    numbers = "; ".join(f"{name} {change_words(t.change, t.error)}" for name, t in falls)
    return Verdict(
        "d",
        "STEM autoencoders have not plateaued at the end",
        f"the MSE of each falls over the last tenth of its schedule by more than {ERRORS:g} "
        "standard errors; it does not hold where each is known to change by less than 5 %",
        verdict,
        numbers or "no models",
    )


def change_words(change: float, error: float) -> str:
    """Return a change and its standard error in per cent."""
    return f"{100 * change:+.1f} ± {100 * error:.1f} %"


def variances(measured: Models) -> list[Verdict]:
    """Return whether deviations fall with depth, width and hidden layers, a verdict each."""
    return [
        _falling("e1", "deviation falls with latent depth", measured, _depth),
        _falling("e2", "deviation falls with width", measured, _width),
        _falling("e3", "deviation falls with hidden layers", measured, _layers),
    ]


Place = tuple[tuple[object, ...], int]
"""The group a model is in, and where it stands in it."""


def _depth(m: Measured) -> Place | None:
    config = m.entry.config
    return None if _is_student(m) else ((config.domain,), config.size)


def _width(m: Measured) -> Place | None:
    config = m.entry.config
    return ((config.domain, config.family), config.size) if _is_student(m) else None


def _layers(m: Measured) -> Place | None:
    config, layers = m.entry.config, ("kernel", "mlp1", "mlp2")
    return ((config.domain, config.size), layers.index(config.family)) if _is_student(m) else None


def _falling(
    letter: str, claim: str, measured: Models, place: Callable[[Measured], Place | None]
) -> Verdict:
    """Whether raw deviations fall from each model of a group to the next."""
    falls = {"ours": [0, 0], "the paper's": [0, 0]}
    for whose, counts in falls.items():
        groups: dict[tuple[object, ...], list[tuple[int, float]]] = {}
        for one in measured:
            where, std = place(one), _std(one, whose)
            if where is not None and std is not None:
                groups.setdefault(where[0], []).append((where[1], std))
        for group in groups.values():
            for low, high in itertools.pairwise(sorted(group)):
                counts[0] += low[1] > high[1]
                counts[1] += 1
    fall, steps = falls["ours"]
    chance = ranks.sign_chance(fall, steps)
    verdict = OPEN
    if steps:
        verdict = FAILS if 2 * fall <= steps else HOLDS if chance < LEVEL else OPEN
    ours = f"falls at {fall} of {steps} steps (chance {_chance(chance)})" if steps else "no steps"
    fell, of = falls["the paper's"]
    return Verdict(
        letter,
        claim,
        "the deviation of the last 500 raw MSEs falls at so many of the steps from one model to "
        f"the next that a fair coin's chance of it is below {LEVEL:g}; it does not hold where it "
        "falls at half of them or fewer",
        verdict,
        f"{ours}; the paper's at {fell} of {of}",
    )


def _std(one: Measured, whose: str) -> float | None:
    if whose == "ours":
        return None if one.raw is None else float(np.std(one.raw))
    cell = paper.TABLE.get(one.entry.config.name)
    return None if cell is None else cell.std

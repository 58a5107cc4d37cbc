"""Each contestant on each case: what the table lacks is measured and kept at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tqdm import tqdm

from experiments.dose import contestants, published, seconds
from experiments.dose.cases import Case
from experiments.dose.contestants import Contestant, Image
from experiments.dose.records import Table
from experiments.dose.samples import Sample
from experiments.dose.scores import Score


def fill(kept: Table, cases: Sequence[Case], entrants: Sequence[Contestant]) -> None:
    """Measure what a table lacks of these contestants on these cases."""
    lacking = {
        k: [c for c in entrants if case.takes_part(c) and not kept.holds(case, c)]
        for k, case in enumerate(cases)
    }
    total = sum(map(len, lacking.values()))
    with tqdm(total=total, unit="row", disable=total == 0, mininterval=1) as bar:
        for k, case in enumerate(cases):
            if not lacking[k]:
                continue
            tuning, evaluation = case.draw()
            for contestant in lacking[k]:
                label = f"{case.protocol}, {case.condition}: {contestant.name}"
                bar.set_description(label, refresh=False)
                score, parameter = judge(contestant, tuning, evaluation, case.score)
                kept.add(case, contestant, score, parameter)
                bar.update()


def judge(
    contestant: Contestant,
    tuning: Sequence[Sample],
    evaluation: Sequence[Sample],
    score: Callable[[Sequence[Image], Sequence[Sample]], Score],
) -> tuple[Score, str]:
    """Return a contestant's score, and the parameter that was chosen for it."""
    ready = contestant.prepare(tuning)
    restored = [ready.restore(sample) for sample in evaluation]
    return score(restored, evaluation), ready.parameter


def clock(kept: Table, entrants: Sequence[Contestant], *, root: str | None, repeats: int) -> None:
    """Time those contestants whose time the table lacks, and the U-Net if PyTorch is there."""
    entrants = [c for c in entrants if c.kind not in (contestants.NONE, contestants.LIMIT)]
    kinds = {c.name: c.kind for c in entrants} | {published.U_NET: contestants.DEFAULT}
    stamps = {c.name: c.stamp for c in entrants} | {published.U_NET: "random weights"}
    lacking = [name for name in kinds if kept.seconds(name, stamps[name]) is None]
    for name, spent in seconds.measure(lacking, root=root, repeats=repeats).items():
        kept.add_seconds(name, kinds[name], stamps[name], spent)

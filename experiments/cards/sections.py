"""The parts that the families' cards share."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from emd import zoo
from emd.training import yardsticks
from experiments.benchmark import table as tables
from experiments.cards import measure, standing
from experiments.cards.standing import NONE, Entry, cell, number, ratio, times

Rows = list[tables.Row]

SPECIAL = "diffraction"
"""A kind of scene that means over kinds leave out: its beam outweighs all the rest."""

MADE = "*Written by `python -m experiments.cards` from the models' own cards: change those, or it.*"

CITE = """\
The models are rebuilt after

> J. M. Ede, *Autoencoders, Kernels, and Multilayer Perceptrons for Electron Micrograph
> Restoration and Compression*, [arXiv:1808.09916](https://arxiv.org/abs/1808.09916) (2018).

Cite it, and this software as [CITATION.cff](../CITATION.cff) says. In a methods section name the
model and its weights, such as *restored by tem_kernel_w7 of emd (weights 0123456789abcdef)*: both
are in the metadata of every TIFF that `emd denoise` writes. Code and weights are under
Apache-2.0."""

UNITS = """\
All errors are mean squared errors in units of a micrograph's mean above its minimum: 0.01 is a
root-mean-square error of 10 % of that mean."""

_GAINS = """\
By how much a restoration is closer to the truth than its input, in dB of squared error: 3 dB
halve it. **Negative: further from the truth than the noisy micrograph.** Simulated scenes with
Poisson noise at so many mean counts a pixel, mean of several of each kind. `tem_fit` and
`stem_fit` are no models of ours: there `emd fit` makes a kernel of each scene, from that alone.
In brackets with `--put-back`, which puts back what the residual shows beyond the noise."""

Gains = dict[tuple[str, str, str], tuple[float, float]]
"""By model, scene and dose: of the model's result, and of that with structure put back [dB]."""

_LEVELS = """\
*Contrast* is how much of a small difference in level about the mean a model passes on; the other
columns say what flat, noise-free levels come back as, in units of the mean above the minimum
([all levels](../results/cards/levels.csv)). Faithful would be a contrast of 1 and each level as
it is."""

_STUDENTS = f"""\
Errors are against the teacher's restorations of held-out crops, {yardsticks.MARGIN_PX} px off their
edge. The ratios are to the errors of the noisy crop itself, of its 3x3 mean, and of the symmetric
kernel of the same width with the least error on the training pairs, solved in closed form. A ratio
above {standing.TIE:g} (bold) means that the model loses to it. A student imitates its teacher,
faults included: see [its card](AUTOENCODERS.md) for those."""


def data(listed: Sequence[Entry]) -> str:
    """Return where the training micrographs are from, and under which licences."""
    return (
        "Real micrographs of the sources below, drawn evenly by source, and simulated ones (their\n"
        "share of the draws is in the table above). The micrographs are not part of the project.\n"
        "Held-out crops are of fields of view that training never saw, but of the same sources:\n"
        "other instruments, materials and doses may fare worse. Try a model on micrographs of\n"
        "your own before relying on it.\n\n"
        f"{standing.licences(listed)}"
    )


def gain_tables(rows: Rows, suffixes: Sequence[str], shown: str) -> str:
    """Return the gains of one model a domain by scene, then the mean over scenes of all sizes."""
    doses = [f"{dose:g}" for dose in measure.DOSES]
    gains = read_gains(rows)
    if not any(model.partition("_")[2] in suffixes for model, _, _ in gains):
        return "None of the models that are scored is trained yet."
    by_scene = [
        (f"`{domain}_{shown}`", kind, *(gain(gains.get((f"{domain}_{shown}", kind, dose)))
                                       for dose in doses))
        for domain in measure.SCORED_DOMAINS
        for kind in measure.kinds_of(domain)
    ]  # fmt: skip
    by_size = [
        (f"`{name}`", *(gain(mean_gain(gains, name, dose)) for dose in doses))
        for name in (
            f"{domain}_{s}" for domain in measure.SCORED_DOMAINS for s in (*suffixes, measure.OWN)
        )
        if any(model == name for model, _, _ in gains)
    ]
    heads = [f"{dose} counts" for dose in doses]
    return (
        f"{_GAINS}\n\n{standing.table(('model', 'scene', *heads), by_scene)}\n\n"
        f"Mean over the scenes but {SPECIAL}, for every size scored "
        f"([all numbers](../results/cards/gains.csv)):\n\n"
        f"{standing.table(('model', *heads), by_size)}"
    )


def read_gains(rows: Rows) -> Gains:
    """Return the gains of a table."""
    return {
        (r["model"], r["scene"], r["dose"]): (float(r["gain_db"]), float(r["put_back_db"]))
        for r in rows
    }


def mean_gain(gains: Gains, model: str, dose: str) -> tuple[float, float] | None:
    """Return a model's mean gain over the scenes but diffraction; None where it was not scored."""
    found = [
        one
        for (name, scene, counts), one in gains.items()
        if (name, counts) == (model, dose) and scene != SPECIAL
    ]
    if not found:
        return None
    plain, back = (statistics.mean(each) for each in zip(*found, strict=True))
    return plain, back


def gain(found: tuple[float, float] | None) -> str:
    """Return a gain as a cell, in bold where it is a loss, and in brackets with the put back."""
    if found is None:
        return NONE
    plain, back = (f"**{one:+.1f}**" if one < 0 else f"{one:+.1f}" for one in found)
    return f"{plain} ({back})"


def levels(rows: Rows, listed: Sequence[Entry]) -> str:
    """Return a table of what models make of flat levels."""
    shown = ("0", "0.5", "1", "2", "4", "10")
    found = _by_level(rows)
    lines = [
        (
            f"`{entry.config.name}`",
            f"{slope(found, entry.config.name):.2f}",
            *(f"{found[entry.config.name, level]:.2f}" for level in shown),
        )
        for entry in listed
        if (entry.config.name, "1") in found
    ]
    if not lines:
        return "None is trained yet."
    header = ("model", "contrast", *(f"level {level}" for level in shown))
    return f"{_LEVELS}\n\n{standing.table(header, lines)}"


def span(rows: Rows, listed: Sequence[Entry]) -> str:
    """Return the range of the contrasts that models pass on, in words."""
    found = _by_level(rows)
    there = {name for name, _ in found}
    slopes = [slope(found, entry.config.name) for entry in listed if entry.config.name in there]
    return f"{min(slopes):.2f} to {max(slopes):.2f}" if slopes else "an unknown share"


def slope(found: dict[tuple[str, str], float], name: str) -> float:
    """Return how much of a small difference in level about the mean a model passes on."""
    return (found[name, "1.25"] - found[name, "0.75"]) / 0.5


def _by_level(rows: Rows) -> dict[tuple[str, str], float]:
    return {(row["model"], row["level"]): float(row["response"]) for row in rows}


def students(listed: Sequence[Entry]) -> str:
    """Return how kernels or perceptrons stand to their yardsticks at the teacher's output."""
    rows = [
        (
            f"`{entry.config.name}`",
            cell(number(entry.card, "validation_mse")),
            *(times(ratio(entry.card, one)) for one in standing.yardsticks_of(entry.config)),
            standing.verdict(entry),
        )
        for entry in listed
        if entry.card is not None
    ]
    header = ("model", "held-out MSE", "/ no change", "/ 3x3 mean", "/ best kernel", "verdict")
    return f"{UNITS}\n{_STUDENTS}\n\n{standing.table(header, rows)}"


def facts_of_students(listed: list[Entry], family: str, licences: str = "") -> str:
    """Return the end of a page of kernels or perceptrons: metrics, schedule, data, citation."""
    return f"""\
## Metrics

{students(listed)}

## Schedule

The paper trained each set for {zoo.FULL_SCHEDULE[family]} batches of one crop. Learning
curves lie beside the weights.

{standing.schedule(listed)}

## Data and licences

{data(listed)}

{licences}## Cite

{CITE}
"""


def failures(pictures: str, family: str, shown: str) -> str:
    """Return a family's picture of failures and its caption."""
    return f"""\
![Simulated micrographs, their restorations, the truth and the difference]({pictures}/{family}.png)

*Of all scenes of {measure.COMMON_DOSE:g} counts a pixel, {SPECIAL} apart, those on which
{shown} do worst. Orange: too dark, violet: too bright.*"""

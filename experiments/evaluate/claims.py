"""The paper's other claims, tested on our models: `results/claims.csv` and `.md`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.evaluate import checkerboard, entries, markdown, measured, overfitting, verdicts
from experiments.evaluate.markdown import NONE
from experiments.evaluate.measured import Measured, Settings
from experiments.evaluate.rows import Row, write
from experiments.evaluate.verdicts import HOLDS, Verdict

COLUMNS = (
    "model", "family", "domain", "size", "parameters", "seen_mse", "held_out_mse",
    "yardstick_seen_mse", "yardstick_held_out_mse", "gap", "gap_error", "seconds_a_megapixel",
    "grid_input", "grid_output", "grid_added", "grid_added_error", "grid_share",
    "change_last_tenth", "change_error", "raw_mean", "raw_std", "note",
)  # fmt: skip


def make(settings: Settings, folder: Path, *, command: str) -> dict[str, float]:
    """Return which claims hold (1) or not (0), having written the table and its page.

    Raises:
        ValueError: a folder's micrographs will not do, or a model is damaged.
        FileNotFoundError: a folder of models or micrographs is missing or empty.
    """
    found = measured.measure(settings)
    rows = [row(one) for one in found.values()]
    write(folder / "claims.csv", COLUMNS, rows, command=command)
    judged = verdicts.all_verdicts(list(found.values()))
    markdown.write(folder / "claims.md", page(rows, judged, settings, command))
    for one in judged:
        print(f"({one.letter}) {one.claim}: {one.verdict}: {one.numbers}")
    return {f"{one.letter}_holds": float(one.verdict == HOLDS) for one in judged}


def row(one: Measured) -> Row:
    """Return a model's row; cells that nothing is known for are None."""
    config = one.entry.config
    made: Row = dict.fromkeys(COLUMNS)
    made |= {
        "model": config.name,
        "family": config.family,
        "domain": config.domain,
        "size": config.size,
        "parameters": one.parameters,
        "seconds_a_megapixel": one.seconds,
        "note": one.note,
    }
    if (gap := one.gap) is not None:
        for side, errors in (("seen", gap.seen), ("held_out", gap.held_out)):
            made[f"{side}_mse"] = float(errors.model.mean())
            made[f"yardstick_{side}_mse"] = float(errors.yardstick.mean())
        made["gap"], made["gap_error"] = gap.excess()
    if (grids := one.grids) is not None:
        added = grids.added()
        made |= {
            "grid_input": float(np.mean([grid.excess for grid in grids.inputs])),
            "grid_output": float(np.mean([grid.excess for grid in grids.outputs])),
            "grid_added": float(added.mean()),
            "grid_added_error": entries.standard_error(added),
            "grid_share": grids.share(),
        }
    if one.trend is not None:
        made |= {"change_last_tenth": one.trend.change, "change_error": one.trend.error}
    if one.raw is not None:
        made |= {"raw_mean": float(np.mean(one.raw)), "raw_std": float(np.std(one.raw))}
    return made


# --- the page --------------------------------------------------------------------------------


def page(
    rows: Sequence[Row], judged: Sequence[Verdict], settings: Settings, command: str
) -> list[str]:
    """Return the page's paragraphs: the verdicts, their rules, and what they rest on."""
    verdict_rows = [[f"({v.letter}) {v.claim}", f"**{v.verdict}**", v.numbers] for v in judged]
    real = [
        "simulated" if folder is None else "real"
        for folder in (settings.data_dir, settings.eval_dir)
    ]
    overfitting_words = _OVERFITTING_WORDS.format(data=real[0])
    grid_words = _GRID_WORDS.format(which=real[1])
    efficiency_words = _EFFICIENCY_WORDS.format(
        repeats=settings.repeats, side=settings.side_px, device=measured.device()
    )
    nets = [r for r in rows if r["family"] == "autoencoder"]
    sharing = {v.rule: [w.letter for w in judged if w.rule == v.rule] for v in judged}
    missing = [str(r["model"]) for r in rows if r["note"] == "missing"]
    return [
        "# The paper's claims, tested on our models",
        f"Made by `{command}`, as `claims.csv`, which has a row a model.",
        markdown.table(("claim", "verdict", "numbers"), verdict_rows, text=(0, 1, 2)),
        f"Missing, and so left out: {', '.join(f'`{name}`' for name in missing)}."
        if missing
        else "",
        "By these rules:",
        "\n".join(f"- ({', '.join(letters)}) {rule}." for rule, letters in sharing.items()),
        *_section("(a) Overfitting", overfitting_words, rows, _OVERFITTING),
        *_section("(b) Efficiency", efficiency_words, rows, _EFFICIENCY),
        *_section("(c) Checkerboards", grid_words, rows, _GRIDS),
        *_section("(d) The end of the autoencoders' learning curves", _END_WORDS, nets, _END),
        *_section("(e) Deviations", _DEVIATION_WORDS, rows, _DEVIATIONS),
    ]


def _section(
    heading: str, words: str, rows: Sequence[Row], columns: Mapping[str, Callable[[Row], str]]
) -> list[str]:
    """A heading, what the table under it holds, and a row of each model with something to show."""
    body = [[f"`{r['model']}`", *(cell(r) for cell in columns.values())] for r in rows]
    body = [line for line in body if any(cell != NONE for cell in line[1:])]
    shown = markdown.table(("model", *columns), body) if body else "No model to show."
    return [f"## {heading}", words, shown]


def _cell(name: str, style: str, scale: float = 1.0) -> Callable[[Row], str]:
    def show(row: Row) -> str:
        value = row[name]
        return NONE if value is None else format(float(value) * scale, style)

    return show


def _pair(name: str, error: str, style: str, scale: float = 1.0) -> Callable[[Row], str]:
    first, second = _cell(name, style, scale), _cell(error, style.lstrip("+"), scale)

    def show(row: Row) -> str:
        return NONE if row[name] is None else f"{first(row)} ± {second(row)}"

    return show


_OVERFITTING = {
    "parameters": _cell("parameters", ",.0f"),
    "MSE, seen": _cell("seen_mse", ".5f"),
    "held out": _cell("held_out_mse", ".5f"),
    "yardstick, seen": _cell("yardstick_seen_mse", ".5f"),
    "yardstick, held out": _cell("yardstick_held_out_mse", ".5f"),
    "gap": _pair("gap", "gap_error", ".2f"),
}
_EFFICIENCY = {
    "parameters": _cell("parameters", ",.0f"),
    "ms a megapixel": _cell("seconds_a_megapixel", ",.1f", 1e3),
}
_GRIDS = {
    "input": _cell("grid_input", ".2f"),
    "output": _cell("grid_output", ".2f"),
    "added": _pair("grid_added", "grid_added_error", "+.2f"),
    "rms, % of the mean": _cell("grid_share", ".3f", 100.0),
}
_END = {"change, %": _pair("change_last_tenth", "change_error", "+.1f", 100.0)}
_DEVIATIONS = {
    "raw mean": _cell("raw_mean", ".5f"),
    "raw deviation": _cell("raw_std", ".5f"),
    "of the mean": lambda row: (
        NONE
        if not row["raw_mean"]
        else f"{float(row['raw_std'] or 0) / float(row['raw_mean']):.2f}"
    ),
}


_OVERFITTING_WORDS = f"""\
MSE on {{data}} crops of fields that models may have learnt from, and of held-out ones of the same
sources, up to {overfitting.PER_SOURCE} a source on either side. An autoencoder's error is against
its input; its yardstick is the linear code of its size (at most depth {overfitting.MAX_DEPTH}). A
kernel's or a perceptron's is against its teacher's output; its yardstick is a 3x3 mean. Gap: how
many times worse a model does on held-out crops than on the others, in units of its yardstick on the
same crop, since fields differ; geometric means over crops, which no bright one dominates, with the
standard error. Above 1 is overfitting, as far as it exceeds the gap of the 3x3 kernel, whose three
numbers cannot overfit: that much is the fields' doing."""

_EFFICIENCY_WORDS = """\
Median of {repeats} repeats over {side}x{side} px, compiled before, on {device}."""

_GRID_WORDS = f"""\
Energy within one bin of the 63 multiples of 1/8 cycle a pixel over that in the ring of bins
{checkerboard.RING[0]} to {checkerboard.RING[1]} away from them, less 1 (0: no grid), the mean over
points and over {{which}} micrographs: of the input, of the output, and the difference with its
standard error over micrographs. Rms: what stands out of the output's spectrum there, the median of
micrographs. A filter makes no grid; zeros of its response at those frequencies take away what lies
there, and more than around them."""

_END_WORDS = """\
Straight line through the MSEs of the last tenth of the schedule, as a fraction of their mean, with
its standard error. The learning rate is a 144th of the first there, whatever is left to
learn."""

_DEVIATION_WORDS = """\
Of the MSEs of the last 500 batches. The paper's are of moving averages, which have less."""

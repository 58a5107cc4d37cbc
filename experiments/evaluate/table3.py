"""Table 3 of the paper, of our models beside the paper's: `results/table3.csv` and `.md`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emd import zoo
from experiments import linear_code
from experiments.evaluate import entries, markdown, ordering_page, paper
from experiments.evaluate.entries import Entry
from experiments.evaluate.markdown import DOMAINS, NONE, title
from experiments.evaluate.rows import Row, write

COLUMNS = (
    "model", "family", "domain", "size", "raw_mean", "raw_std", "smoothed_mean", "smoothed_std",
    "window", "paper_mean", "paper_std", "held_out_mse", "held_out_mse_whole", "linear_code_mse",
    "identity_mse", "mean3_mse", "closed_form_kernel_mse", "batches", "full_schedule",
    "batch_size", "note",
)  # fmt: skip

_AUTOENCODER = ("autoencoder",)
_STUDENTS = ("kernel", "mlp1", "mlp2")
_LOSES = "†"
_SLIP = "\\*"


def make(root: str | None, folder: Path, *, command: str) -> dict[str, float]:
    """Return the count of models and of each column's broken pairs, having written the table.

    Raises:
        FileNotFoundError: there is no such folder of models.
    """
    known = entries.read(root)
    rows = [row(entry) for entry in known.values()]
    write(folder / "table3.csv", COLUMNS, rows, command=command)
    columns = ordering_page.columns(rows)
    parts = [
        "# Table 3, ours beside the paper's",
        f"Made by `{command}`, as `table3.csv`, which has more columns.",
        _INTRODUCTION,
        *(part for domain in DOMAINS for part in _domain(domain, rows)),
        _NOTES,
        *ordering_page.parts(columns, known),
    ]
    markdown.write(folder / "table3.md", parts)
    found = sum(entry.is_there for entry in known.values())
    return {"models": float(found), **ordering_page.counts(columns)}


# --- rows ------------------------------------------------------------------------------------


def row(entry: Entry) -> Row:
    """Return a model's row; cells that nothing is known for are None."""
    config, cell = entry.config, paper.TABLE.get(entry.config.name)
    made: Row = dict.fromkeys(COLUMNS)
    made |= {
        "model": config.name,
        "family": config.family,
        "domain": config.domain,
        "size": config.size,
        "note": _note(entry),
    }
    if cell is not None:
        made |= {"paper_mean": cell.mean, "paper_std": cell.std}
    if entry.curve is not None:
        raw, window = entry.curve.raw(), entry.window()
        smoothed = entry.curve.smoothed(window)
        made |= {"raw_mean": float(np.mean(raw)), "raw_std": float(np.std(raw)), "window": window}
        made |= {"smoothed_mean": float(np.mean(smoothed)), "smoothed_std": float(np.std(smoothed))}
    made |= {
        "held_out_mse": entry.number("validation_mse"),
        "held_out_mse_whole": entry.number("validation_mse_whole"),
        **{name: entry.number(name) for name in COLUMNS[COLUMNS.index("linear_code_mse") : -1]},
    }
    return made


def _note(entry: Entry) -> str:
    notes = []
    if not entry.is_there:
        notes.append(f"missing: make it by {zoo.training_command(entry.config)}")
    elif entry.curve is None:
        notes.append("no learning curve")
    cell = paper.TABLE.get(entry.config.name)
    if cell is None:
        notes.append("an extension: not in the paper")
    elif cell.read_as is not None:
        notes.append(f"the paper's mean is likely a slip for {cell.read_as:g}")
    return "; ".join(notes)


# --- Markdown --------------------------------------------------------------------------------

_INTRODUCTION = """\
*Raw*: mean ± standard deviation of the MSE of the last 500 training batches, each by itself.
*Smoothed*: the same over the last 500 points of a moving average, as in the paper, whose windows
are 5000 batches for autoencoders and 500 for the rest. Of a shortened schedule the window is the
same share: a twelfth of an autoencoder's batches, a twentieth of the others'. The paper's deviation
is to be held against that one. *Held out*: MSE over crops of fields of view that no training crop
came from, which the paper lacks.

An autoencoder's MSE is against its input, normalised crops of 160x160 px, 32 a batch in the paper.
A kernel's or a perceptron's is against the output of the 16-deep autoencoder of its domain (latent
depth 16 in the same table), over crops 5 px wider than the widest member of its set, one a batch in
the paper, so that raw deviations show how much crops differ. Both are in units of the square of the
crop's mean. The last column gives our batches, and crops in each. The lowest of each column is in
bold, autoencoders apart from kernels and perceptrons."""

_NOTES = f"""\
{_LOSES} loses, held out, to its yardstick: for an autoencoder the best linear code of its size
(principal components of 8x8 blocks; of depth 64 it is lossless, and no yardstick), for the others
the image as it is. {_SLIP} printed so; it fits its neighbours ten times as large, as which the
orderings below take it and which the bold leaves out. {NONE} not in the paper, or no such model.
Data differ from the paper's, so absolute numbers do."""

_HEADER = ("ours, raw", "ours, smoothed", "paper", "ours, held out", "yardstick",
           "batches x crops")  # fmt: skip


def _domain(domain: str, rows: Sequence[Row]) -> list[str]:
    """A heading and the table of a domain."""
    body = []
    for families in (_AUTOENCODER, _STUDENTS):
        group = [r for r in rows if r["domain"] == domain and r["family"] in families]
        likely = [paper.TABLE.get(str(r["model"])) for r in group]
        printed = [None if c is None or c.read_as is not None else c.mean for c in likely]
        best = {
            name: markdown.lowest(values)
            for name, values in (
                *((name, [_number(r, name) for r in group])
                  for name in ("raw_mean", "smoothed_mean", "held_out_mse")),
                ("paper_mean", printed),
            )
        }  # fmt: skip
        body += [_line(r, {n for n, i in best.items() if i == k}) for k, r in enumerate(group)]
    return [f"## {DOMAINS[domain]}", markdown.table(("model", *_HEADER), body)]


def _line(row: Row, bold: set[str]) -> list[str]:
    config = zoo.find(str(row["model"]))
    cell = paper.TABLE.get(config.name)
    slip = _SLIP if cell is not None and cell.read_as is not None else ""
    if str(row["note"]).startswith("missing"):
        trained = "missing"
    else:
        trained = f"{_number(row, 'batches') or 0:.0f} x {_number(row, 'batch_size') or 0:.0f}"
    yardstick, own = _yardstick(row), _number(row, "held_out_mse")
    is_lossless = config.family == "autoencoder" and config.size >= linear_code.BLOCK_PX**2
    is_known = own is not None and yardstick is not None and not is_lossless
    loses = is_known and (own or 0) > (yardstick or 0)
    held_out = _bold(_fixed(own), "held_out_mse" in bold) + _LOSES * loses
    return [
        title(config),
        _spread(row, "raw", 5, bold),
        _spread(row, "smoothed", 5, bold),
        _spread(row, "paper", 6, bold, slip),
        held_out,
        "lossless" if is_lossless and yardstick is not None else _fixed(yardstick),
        trained,
    ]


def _spread(row: Row, name: str, digits: int, bold: set[str], mark: str = "") -> str:
    mean, std = _number(row, f"{name}_mean"), _number(row, f"{name}_std")
    if mean is None or std is None:
        return NONE
    text = _bold(f"{mean:.{digits}f}", f"{name}_mean" in bold)
    return f"{text}{mark} ± {std:.{digits}f}"


def _yardstick(row: Row) -> float | None:
    return _number(row, "linear_code_mse" if row["family"] == "autoencoder" else "identity_mse")


def _number(row: Row, name: str) -> float | None:
    value = row[name]
    return None if value is None else float(value)


def _fixed(value: float | None) -> str:
    return NONE if value is None else f"{value:.5f}"


def _bold(text: str, is_best: bool) -> str:
    return f"**{text}**" if is_best and text != NONE else text

"""How cost grows: `python -m experiments.growth` measures and draws it.

Time and peak memory against the side of an image, the batch of a training step, the number of
devices and the members of a lockstep set, each point in a process of its own. Writes
`growth_<machine>.csv` and `growth_<machine>.png`; with `--only`, other points that are there stay.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from experiments import config as configs
from experiments import provenance
from experiments.benchmark import machine, memory, table
from experiments.benchmark.jobs import LATENT, MEMORY_MODELS
from experiments.curves import figure_type, save_figure

SIDES = (512, 1024, 2048, 4096, 8192)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
DEVICES = (1, 2, 4, 8)
WIDTHS = (15, 13, 11, 9, 7, 5, 3)
"""Of the kernels of a set, in the order they join: all are padded to the first."""

DEVICES_BATCH = 8
"""Crops of the batch that is spread over the devices."""

ITERATIONS = 500
"""Of the lockstep set."""

COLUMNS = ("axis", "value", "first_s", "seconds", "peak_mib", "device_mib", "of", "device")

# Okabe and Ito's colours, which differ for colour-blind eyes as well.
_COLOURS = {"kernel": "#0072B2", "mlp1": "#E69F00", "autoencoder": "#009E73"}
_DARK = "#333333"
_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Config:
    """Which curves, how far, and where to."""

    only: str | None = configs.option(
        None, "curves by name or beginning of a name, by commas; all without"
    )
    max_side: int = configs.option(8192, "largest side of an image [px]")
    max_batch: int = configs.option(64, "largest batch of a training step")
    output: str = configs.option("results", "folder of table and plot")


class Point(NamedTuple):
    """One measurement: a task of `experiments.benchmark.memory`, and what it stands for."""

    axis: str
    value: int
    of: str
    task: str
    arguments: dict[str, Any]
    host_devices: int | None = None


def points(*, max_side: int, max_batch: int) -> list[Point]:
    """All measurements, curve by curve, each from its smallest on."""
    found = [
        Point(f"side_{name}", side, f"{model}, {side}x{side} float32", "restore",
              {"model": model, "side": side})
        for name, model in MEMORY_MODELS.items()
        for side in SIDES
        if side <= max_side
    ]  # fmt: skip
    found += [
        Point("batch", batch, f"training step, latent {LATENT}", "train",
              {"batch": batch, "data_parallel": False})
        for batch in BATCHES
        if batch <= max_batch
    ]  # fmt: skip
    # a CPU can pass for any number of devices, which then share its cores
    is_cpu = not machine.on_gpu()
    found += [
        Point("devices", count, f"training step of {DEVICES_BATCH} crops over devices", "train",
              {"batch": DEVICES_BATCH, "data_parallel": True}, count if is_cpu else None)
        for count in (DEVICES if is_cpu else (jax.device_count(),))
    ]  # fmt: skip
    found += [
        Point("members", count, f"{ITERATIONS} iterations of kernels in lockstep", "lockstep",
              {"widths": list(WIDTHS[:count]), "iterations": ITERATIONS})
        for count in range(1, len(WIDTHS) + 1)
    ]  # fmt: skip
    return found


def run(config: Config) -> dict[str, float]:
    """Return the seconds of each point, having written table and plot.

    Raises:
        ValueError: ``only`` names no curve; or matplotlib is not installed.
    """
    configs.check_counts(config, "max_side", "max_batch")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    figure_type()
    known = points(max_side=config.max_side, max_batch=config.max_batch)
    axes = list(dict.fromkeys(point.axis for point in known))
    wanted = table.pick(axes, config.only)
    path = Path(config.output) / f"growth_{machine.slug()}.csv"
    old = table.read(path, COLUMNS) if config.only is not None else []
    made: list[table.Row] = []
    with tqdm([point for point in known if point.axis in wanted], unit="point") as bar:
        for point in bar:
            bar.set_description(f"{point.axis} {point.value}")
            made.append(_measure(point))
            rows = table.merge(old, made, ("axis", "value"), axes)
            rows.sort(key=lambda row: (axes.index(row["axis"]), int(row["value"])))
            table.write(path, COLUMNS, rows, comment=_comment(partial=config.only is not None))
    draw(path.with_suffix(".png"), rows)
    print(table.aligned(made, COLUMNS[:-1]))
    print(f"\nwritten to {path} and {path.with_suffix('.png')}")
    return {f"{row['axis']}_{row['value']}": float(row["seconds"]) for row in made}


def _measure(point: Point) -> table.Row:
    cost = memory.measure(point.task, host_devices=point.host_devices, **point.arguments)
    return {
        "axis": point.axis,
        "value": str(point.value),
        "first_s": table.number(cost.first),
        "seconds": table.number(cost.seconds),
        "peak_mib": table.number(cost.peak_bytes / _MIB),
        "device_mib": table.number(cost.device_bytes / _MIB),
        "of": point.of,
        "device": machine.device_name(),
    }


def _comment(*, partial: bool) -> str:
    command = provenance.command(["experiments/growth.py", *sys.argv[1:]])
    others = "; other points by earlier runs" if partial else ""
    return f"{command}  ({machine.cpu_model()}; commit {provenance.commit()}{others})"


# --- the plot --------------------------------------------------------------------------------

_PANELS = (
    ("image side [px]", ("side_kernel", "side_mlp1", "side_autoencoder")),
    ("batch [crops of 160x160]", ("batch",)),
    ("devices", ("devices",)),
    ("lockstep members", ("members",)),
)


def draw(path: Path, rows: Sequence[table.Row]) -> None:
    """Draw time (above) and peak memory (below) against each axis, both logarithmic.

    Raises:
        ValueError: matplotlib is not installed.
    """
    figure = figure_type()(figsize=(11, 5.4), layout="constrained")
    axes = figure.subplots(2, len(_PANELS), sharex="col", squeeze=False)
    for column, (label, names) in enumerate(_PANELS):
        for line, cost in enumerate(("seconds", "peak_mib")):
            for name in names:
                _curve(axes[line, column], rows, name, cost)
        _finish(axes[:, column], label)
    axes[0, 0].set_ylabel("time [s]")
    axes[1, 0].set_ylabel("peak memory above idle [MiB]")
    sides = sorted({float(row["value"]) for row in rows if row["axis"].startswith("side_")})
    if sides:
        both = [2 * 4 * side**2 / _MIB for side in sides]
        line = axes[1, 0].plot(sides, both, color=_DARK, linestyle="--", label="input + output")
        axes[1, 0].legend(handles=line, fontsize=8, loc="lower right")
        axes[0, 0].legend(fontsize=8, loc="upper left")
        _fit(axes[1, 0])
    devices = sorted({row["device"] for row in rows})
    figure.suptitle(f"How cost grows, on {', '.join(devices)}", fontsize=11)
    save_figure(figure, path)


def _curve(axis: Any, rows: Sequence[table.Row], name: str, cost: str) -> None:
    found = [row for row in rows if row["axis"] == name]
    if not found:  # not measured yet
        return
    label = name.partition("_")[2]
    axis.plot(
        [float(row["value"]) for row in found],
        [float(row[cost]) for row in found],
        color=_COLOURS.get(label, _DARK),
        marker={"mlp1": "s", "autoencoder": "^"}.get(label, "o"),
        markersize=4,
        linewidth=1.4,
        label=label,
    )


def _finish(column: Sequence[Any], label: str) -> None:
    """Scales, ticks at the values measured, and the name of the axis below both panels."""
    for axis in column:
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.grid(visible=True, which="major", alpha=0.3)
        axis.tick_params(axis="y", which="minor", labelleft=False)
        _fit(axis)
    values = sorted({float(x) for line in column[0].lines for x in line.get_xdata()})
    column[1].set_xticks(values, [f"{value:g}" for value in values])
    column[1].minorticks_off()
    column[1].set_xlabel(label)


def _fit(axis: Any) -> None:
    """Whole decades, so that noise about a level looks like a level."""
    drawn = np.concatenate([np.ravel(line.get_ydata()) for line in axis.lines] or [np.ones(1)])
    low, high = np.log10(drawn.min() / 1.4), np.log10(drawn.max() * 1.4)
    axis.set_ylim(10 ** np.floor(low), 10 ** np.ceil(high))


if __name__ == "__main__":
    configs.main(run, Config)

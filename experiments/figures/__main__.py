"""Draw the paper's figures: `python -m experiments.figures`.

Architectures are drawn from the modules, learning curves from the files beside the weights, and
examples from the weights, so nothing is trained. A model that is not there is a panel that says so.
Without `--data_dir` examples are simulated micrographs; pictures of real ones go where `--output`
says, and are not to be committed.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from emd.data import micrograph
from experiments import config as configs
from experiments.benchmark import table
from experiments.curves import figure_type
from experiments.figures import architecture, examples, kernels, latents, learning, style

_ARCHITECTURES = {"fig1": architecture.fig1, "fig3": architecture.fig3}
_CURVES = {"fig2": learning.fig2, "fig4": learning.fig4}
NAMES = ("fig1", "fig2", "fig3", "fig4", *examples.FIGURES, "kernels", "latents")
OUTPUT = Path("results/figures")
"""Where figures without real micrographs go, if nothing else is said."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Which figures, of what, and where to."""

    only: str | None = configs.option(
        None, f"figures by name or beginning of a name, by commas, of {' '.join(NAMES)}"
    )
    data_dir: str | None = configs.option(
        None, "folder with tem/ and stem/ of real micrographs for the examples; needs --output"
    )
    checkpoints: str | None = configs.option(None, "folder of models; those shipped without it")
    output: str | None = configs.option(None, f"folder of the figures; {OUTPUT} without it")
    overwrite: bool = configs.option(False, "replace figures that exist")


def run(config: Config) -> dict[str, float]:
    """Return the kilobytes of each figure and the kernels' correlations, having drawn them all.

    Raises:
        ValueError: no figure has such a name; real micrographs without ``output``; examples or
            curves that will not do; or matplotlib is not installed.
        FileNotFoundError: a folder is missing.
        FileExistsError: a figure exists and ``overwrite`` is not set.
    """
    figure_type()
    wanted = table.pick(NAMES, config.only)
    output = OUTPUT if config.output is None else Path(config.output)
    if config.data_dir is not None and output.resolve() == OUTPUT.resolve():
        raise ValueError(
            f"--data_dir: pictures of your micrographs do not belong in {OUTPUT}, which is "
            "committed; name another folder with --output"
        )
    if config.checkpoints is not None and not Path(config.checkpoints).is_dir():
        raise FileNotFoundError(f"{config.checkpoints}: no such folder of models (--checkpoints)")
    output.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        for path in style.files(output, name):
            micrograph.check_output(path, overwrite=config.overwrite)
    numbers: dict[str, float] = {}
    for name in wanted:
        print(f"{name} ...", file=sys.stderr, flush=True)
        figure, found = _make(name, config)
        size = style.save(figure, output, name, exact=name == "kernels")
        numbers |= {f"{name} kB": size / 1000, **found}
    return numbers


def _make(name: str, config: Config) -> tuple[Any, dict[str, float]]:
    """A figure, and the numbers to tell of it."""
    if name in _ARCHITECTURES:
        return _ARCHITECTURES[name](), {}
    if name in _CURVES:
        return _CURVES[name](config.checkpoints), {}
    if name == "kernels":
        pairs = kernels.pairs(config.checkpoints)
        return kernels.draw(pairs), kernels.agreement(pairs)
    if name == "latents":
        found = latents.gather(config.data_dir, config.checkpoints)
        return latents.draw(found, is_real=config.data_dir is not None), {}
    return examples.draw(name, config.data_dir, config.checkpoints), {}


if __name__ == "__main__":
    configs.main(run, Config)

"""Models as files for other programs: Fiji, DigitalMicrograph, ONNX and StableHLO run-times.

Owns the list of targets, and the writing of their files. Each target is a function from a model to
bytes, in the module that the list names; importing this package alone loads none of them.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, NamedTuple

_ALL = ("kernel", "mlp1", "mlp2", "autoencoder", "skip")


class Target(NamedTuple):
    """A kind of file.

    Attributes:
      description: what it is for, in one line.
      suffix: what its files' names end in.
      families: the families of models that it can hold.
      module: where its function `render` is.
    """

    description: str
    suffix: str
    families: tuple[str, ...]
    module: str


TARGETS: dict[str, Target] = {
    "imagej": Target(
        "kernel for Process > Filters > Convolve... in Fiji or ImageJ (untick Normalize Kernel)",
        ".txt",
        ("kernel",),
        "emd.export.imagej",
    ),
    "csv": Target(
        "kernel as rows of numbers, comma separated",
        ".csv",
        ("kernel",),
        "emd.export.csv",
    ),
    "dm-script": Target(
        "DigitalMicrograph script that restores the front image, calibration and tags copied",
        ".s",
        ("kernel", "mlp1", "mlp2"),
        "emd.export.dm_script",
    ),
    "npz": Target(
        "all weights by name, and the configuration as JSON",
        ".npz",
        (*_ALL, "blindspot"),
        "emd.export.npz",
    ),
    "onnx": Target(
        "ONNX graph, counts in and counts out, of any size (needs the extra export)",
        ".onnx",
        _ALL,
        "emd.export.onnx_graph",
    ),
    "stablehlo": Target(
        "the same as StableHLO for jax.export.deserialize; JAX reads it for six months",
        ".stablehlo",
        _ALL,
        "emd.export.stablehlo",
    ),
}
"""Every target by name."""


def check_target(target: str, family: str) -> Target:
    """The target of a name, if it can hold a model of a family: to be told before any work.

    Raises:
      ValueError: no target has that name; it cannot hold such a model.
    """
    if target not in TARGETS:
        raise ValueError(f"unknown target {target!r}: use one of {', '.join(TARGETS)}")
    found = TARGETS[target]
    if family not in found.families:
        able = ", ".join(name for name, other in TARGETS.items() if family in other.families)
        raise ValueError(f"{target} cannot hold a model of family {family}: use one of {able}")
    return found


def export(
    model: Any, path: str | os.PathLike[str], target: str, *, overwrite: bool = False
) -> Path:
    """The file of a model for another program; after an error, what was there is as it was.

    Args:
      model: as `emd.checkpoint.load` gives it, or `emd.load`.
      path: the file to make; its folder must exist.
      target: one of `TARGETS`.
      overwrite: replace a file that is there.

    Raises:
      ValueError: no target has that name; it cannot hold the model.
      FileExistsError: the file is there and `overwrite` is false.
      FileNotFoundError: its folder is not there.
      IsADirectoryError: it is a folder.
      ImportError: the target needs an extra that is not installed.
      OSError: the disk is full or may not be written.
    """
    from emd.data import micrograph
    from emd.data.replacing import replacing

    model = getattr(model, "model", model)
    found = check_target(target, model.config.family)
    path = Path(path)
    micrograph.check_output(path, overwrite=overwrite)
    contents = importlib.import_module(found.module).render(model)
    with replacing(path) as temporary:
        temporary.write_bytes(contents)
    return path

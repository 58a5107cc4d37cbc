"""Owns micrographs' files as napari opens and saves them: calibration as scale and units.

Layers are layer data tuples, so that nothing here imports napari.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emd.data import micrograph
from emd.data.calibration import spell
from emd.data.micrograph import SUFFIXES, Micrograph
from emd.napari import LayerData

_NONE = "pixel"  # napari's word for no unit
_LENGTHS = ("m", "cm", "mm", "µm", "nm", "Å", "pm", "mrad", "rad")
_UNITS = frozenset((*_LENGTHS, *(f"1/{unit}" for unit in _LENGTHS), "s", "ms", "deg"))
"""Those that napari knows under our names; it refuses layers of any other."""


def get_reader(path: str | Sequence[str]) -> Callable[[str], list[LayerData]] | None:
    """What reads a file, or None where another plugin must."""
    if not isinstance(path, str) or not path.lower().endswith(SUFFIXES):
        return None
    return read


def read(path: str) -> list[LayerData]:
    """A layer for each micrograph in a file: all of its frames, with scale and units.

    Raises:
      OSError, ValueError: see `emd.data.micrograph.read`; one line that names the file.
    """
    names = [each.name for each in micrograph.signals(path) if not each.fault]
    title = Path(path).name.partition(".")[0]
    if len(names) < 2:
        return [_layer(micrograph.read(path), title)]
    return [_layer(micrograph.read(path, signal=n), f"{title} {n}") for n in names]


def _layer(given: Micrograph, title: str) -> LayerData:
    pixels, metadata = given.pixels, given.metadata
    shape = metadata.get("stack_shape")
    if isinstance(shape, list) and pixels.ndim == 3 and math.prod(shape) == len(pixels):
        pixels = pixels.reshape(*shape, *pixels.shape[-2:])
    state: dict[str, Any] = {"name": title, "metadata": metadata}
    if given.pixel_size is not None:
        moves = _frame_axes(metadata.get("frames"), pixels.ndim - 2)
        unit = given.unit if given.unit in _UNITS else _NONE
        state["scale"] = [*(size for size, _ in moves), *given.pixel_size]
        state["units"] = [*(unit for _, unit in moves), unit, unit]
    return pixels, state, "image"


def _frame_axes(known: Any, count: int) -> list[tuple[float, str]]:
    """Step and unit of each axis of frames; 1 pixel where the file does not say."""
    if not isinstance(known, list) or len(known) != count:
        return [(1.0, _NONE)] * count
    axes = []
    for axis in known:
        step, unit = axis.get("scale"), spell(str(axis.get("units") or ""))
        good = isinstance(step, int | float) and math.isfinite(step) and step > 0
        axes.append((float(step), unit if unit in _UNITS else _NONE) if good else (1.0, _NONE))
    return axes


def write(path: str, data: Any, state: dict[str, Any]) -> list[str]:
    """The path written: the layer's pixels, its scale and units as calibration, its metadata.

    A lazy layer is computed. A file that is there is replaced: napari has asked.

    Raises:
      OSError, ValueError: see `emd.data.micrograph.write`; one line that names the file.
    """
    if state.get("rgb"):
        raise ValueError(f"{path}: layer {state.get('name')} is in colour: split it into channels")
    pixels = np.asarray(data[0] if state.get("multiscale") else data)
    metadata = {k: v for k, v in (state.get("metadata") or {}).items() if _is_json(v)}
    if pixels.ndim > 3:
        metadata["stack_shape"] = list(pixels.shape[:-2])
        pixels = pixels.reshape(-1, *pixels.shape[-2:])
    size, unit = _calibration(state)
    micrograph.write(path, Micrograph(pixels, size, unit, metadata), overwrite=True)
    return [path]


def _calibration(state: dict[str, Any]) -> tuple[tuple[float, float] | None, str]:
    """Size of a pixel and its unit; none where the layer has no unit."""
    units = [_spelled(unit) for unit in (state.get("units") or [])][-2:]
    if len(units) != 2 or units[0] != units[1] or units[0] == _NONE:
        return None, ""
    height, width = (abs(float(side)) for side in state["scale"][-2:])
    return (height, width), units[0]


def _spelled(unit: Any) -> str:
    """Our name of a unit that napari holds as text or as pint's."""
    text = unit if isinstance(unit, str) else f"{unit:~C}"
    over, slash, under = text.rpartition("/")
    return f"{over}{slash}{spell(under)}"


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True

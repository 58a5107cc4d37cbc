"""Owns what is kept of a microscope's own metadata: what JSON holds, and how the image was made."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from emd.data import tiff
from emd.data.formats import units

_MAX_CHARACTERS = 20_000  # of one text: longer ones are thumbnails and copies of the rest
_MAX_NUMBERS = 64  # of one list: longer ones are lookup tables and spectra


def thin(tree: Mapping[Any, Any]) -> tuple[dict[str, Any], list[str]]:
    """What JSON can hold of a tree of metadata, and the paths of what was left out."""
    dropped: list[str] = []
    return _thin(tree, (), dropped), dropped


def _thin(tree: Mapping[Any, Any], path: tuple[str, ...], dropped: list[str]) -> dict[str, Any]:
    kept = {}
    for key, value in tree.items():
        here = (*path, str(key))
        if isinstance(value, Mapping):
            kept[str(key)] = _thin(value, here, dropped)
            continue
        try:
            kept[str(key)] = _plain(value)
        except ValueError:
            dropped.append(".".join(here))
    return kept


def _plain(value: Any) -> Any:
    """The value as JSON gives it back; infinities and NaN, which it does not know, as None.

    Raises:
      ValueError: JSON cannot hold it, or it is too long.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode().strip("\0")  # UnicodeDecodeError is a ValueError
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        if len(value) > _MAX_CHARACTERS:
            raise ValueError("too long")
        return value
    if isinstance(value, np.ndarray) and value.size <= _MAX_NUMBERS and value.dtype.kind in "biufU":
        value = value.tolist()
        return _plain(value)
    if isinstance(value, list | tuple) and len(value) <= _MAX_NUMBERS:
        return [_thin(v, (), []) if isinstance(v, Mapping) else _plain(v) for v in value]
    raise ValueError("not JSON")


def lookup(tree: Mapping[str, Any], path: str) -> Any:
    """The value at a path of names joined by dots, or None."""
    value: Any = tree
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return value


def acquisition(signal: Mapping[str, Any]) -> dict[str, Any]:
    """How the image was acquired, in rosettasciio's names: {"TEM": {"beam_energy": ...}}.

    HyperSpy's files state it; for others rosettasciio says where in the original it lies.
    """
    found: dict[str, Any] = dict(signal["metadata"].get("Acquisition_instrument", {}))
    for source, target in _mapping(signal):
        value = lookup(signal["original_metadata"], source)
        names = target[0].split(".")
        if names[0] != "Acquisition_instrument" or len(names) < 3:
            continue
        with contextlib.suppress(*tiff.DAMAGE):
            value = target[1](value) if target[1] and value is not None else value
            if value is None:
                continue
            place = found
            for name in names[1:-1]:
                place = place.setdefault(name, {})
            place.setdefault(names[-1], value)
    return thin(found)[0]


def frames(axes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the axes that count the frames stand for, such as tilt or time; none where unknown."""
    kept = [
        {name: _plain(axis.get(name)) for name in ("name", "scale", "offset", "units")}
        for axis in axes[:-2]
    ]
    return kept if any(units.spell(axis["units"]) for axis in kept) else []


def _mapping(signal: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, Any]]]:
    for source, target in (signal.get("mapping") or {}).items():
        yield source, (target, None) if isinstance(target, str) else tuple(target)


def mode(signal: Mapping[str, Any], acquired: Mapping[str, Any], unit: str) -> str:
    """How the image was formed, "STEM", "TEM" or "diffraction", or "" where the file is silent.

    A pattern is known by its unit; a camera in a scanning microscope counts as the microscope does.
    """
    if units.is_reciprocal(unit) or lookup(signal["metadata"], "Signal.signal_type") in (
        "diffraction",
        "electron_diffraction",
    ):
        return "diffraction"
    tags = signal["original_metadata"]
    tags = lookup(tags, "ImageList.TagGroup0.ImageTags.Microscope Info") or tags
    stated = [
        lookup(acquired, "TEM.acquisition_mode"),
        tags.get("Illumination Mode"),
        tags.get("Operation Mode"),
        {"1": "TEM", "2": "STEM"}.get(str(lookup(tags, "Optics.OperatingMode"))),  # Velox
    ]
    text = " ".join(str(value).upper() for value in stated if value)
    if "STEM" in text or "SCANNING" in text:
        return "STEM"
    return "TEM" if "TEM" in text or "IMAGING" in text else ""

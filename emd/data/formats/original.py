"""Owns what is kept of a microscope's own metadata: what JSON holds, and how the image was made."""

import contextlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from emd.data import tiff
from emd.data.calibration import Calibration
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


def origin(axes: Sequence[Mapping[str, Any]], known: Calibration) -> list[float]:
    """Where the first pixel lies, [y, x] in the pixel size's unit; empty at 0 or where unknown.

    Args:
      axes: the file's, with "scale" and "offset"; the last two are the image's.
      known: its calibration, whose unit need not be the axes' own.
    """
    found = []
    for axis, side in zip(axes[-2:], known[0] or (), strict=False):
        scale = abs(finite(axis.get("scale")))
        factor = side / scale if scale else 0.0
        offset = finite(axis.get("offset"))
        # To 15 digits where the unit changes, exactly where it does not; never -0.
        found.append(offset if factor == 1 else finite(float(f"{offset * factor:.15g}")))
    return [place + 0.0 for place in found] if any(found) else []


def finite(value: Any) -> float:
    """The value if it is a finite number, else 0."""
    if isinstance(value, np.generic):
        value = value.item()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) <= sys.float_info.max else 0.0


def stated_origin(metadata: Mapping[str, Any]) -> tuple[float, float]:
    """The metadata's "origin", or (0, 0) where it is not two finite numbers."""
    pair = metadata.get("origin")
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return 0.0, 0.0
    found = finite(pair[0]), finite(pair[1])
    # One bad number spoils both: a place known along one axis only is none.
    return found if found == tuple(pair) else (0.0, 0.0)


def settle_origin(
    metadata: dict[str, Any],
    axes: Sequence[Mapping[str, Any]],
    stated: Calibration,
    known: Calibration,
) -> dict[str, Any]:
    """A record's metadata, with the origin that the file states if that is another: a crop's.

    Args:
      metadata: the record's.
      axes: the file's.
      stated: the calibration that the file states; where it states none, the record's origin holds.
      known: what that and the record's amount to.
    """
    if stated[0] is None or known[0] is None:
        return metadata
    now = origin(axes, known)
    pairs = zip(now or (0.0, 0.0), stated_origin(metadata), known[0], strict=True)
    if all(math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-5 * side) for a, b, side in pairs):
        return metadata
    kept = {key: value for key, value in metadata.items() if key != "origin"}
    return kept | ({"origin": now} if now else {})


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

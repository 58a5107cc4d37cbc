"""Owns the spellings of units in microscopes' files, and the pixel size that they amount to."""

import math
from typing import Any

from emd.data import calibration
from emd.data.calibration import NONE, Calibration

_METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "µm": 1e-6, "nm": 1e-9, "Å": 1e-10, "pm": 1e-12}
_PER_METRE = {f"1/{unit}": 1 / metres for unit, metres in _METRES.items()}
_RADIANS = {"rad": 1.0, "mrad": 1e-3, "µrad": 1e-6}
_KINDS = (_METRES, _PER_METRE, _RADIANS)
_NO_UNITS = ("", "<undefined>", "none", "pixel", "pixels", "px", "[]")


def spell(unit: Any) -> str:
    """The unit as this package spells it: "1/nm" for "1 / nm" and "nm^-1", "Å" for "A"."""
    text = "" if unit is None else str(unit)
    # Berkeley's files write [n_m]; others μ (mu) for µ (micro), and spaces at will.
    text = "".join(text.strip("\0 []").replace("_", "").replace("\u03bc", "µ").split())
    for power in ("^-1", "**-1", "\u207b\u00b9"):
        if text.endswith(power):
            text = "1/" + text.removesuffix(power)
    over, slash, name = text.rpartition("/")
    name = "Å" if name in ("A", "Ang") else calibration.spell(name)
    name = {"urad": "µrad", "Rad": "rad"}.get(name, name)
    return over + slash + name


def pixel_size(rows: Any, columns: Any, row_unit: Any, unit: Any) -> Calibration:
    """Height and width of a pixel in the columns' unit; `NONE` where one is not known.

    Args:
      rows: height of a pixel in `row_unit`; not a positive number where the file does not know it.
      columns: its width in `unit`.
      row_unit: as the file spells it.
      unit: as the file spells it.
    """
    row_unit, unit = spell(row_unit), spell(unit)
    if rows is None or columns is None or unit.lower() in _NO_UNITS or not unit.isprintable():
        return NONE
    size = float(rows), float(columns)
    if row_unit != unit:
        kind = next((k for k in _KINDS if row_unit in k and unit in k), None)
        if kind is None:
            return NONE
        # To 15 digits: 2 Å are 0.2 nm, not a little less.
        size = float(f"{size[0] * kind[row_unit] / kind[unit]:.15g}"), size[1]
    if not all(math.isfinite(s) and s > 0 for s in size):
        return NONE
    return size, unit


def angstroms(known: Calibration) -> tuple[float, float] | None:
    """Height and width of a pixel in Å, or None where they are no lengths."""
    size, unit = known[0], spell(known[1])
    if size is None or unit not in _METRES:
        return None
    scale = _METRES[unit] / _METRES["Å"]
    return size[0] * scale, size[1] * scale


def is_reciprocal(unit: str) -> bool:
    """Whether pixels of this unit lie in a diffraction pattern: a frequency or an angle."""
    return spell(unit) in (*_PER_METRE, *_RADIANS)

"""Owns the scale of a micrograph in TIFF: which tags and texts hold it, and what they mean.

OME holds a physical size, ImageJ pixels per unit and the unit's name, DigitalMicrograph a size in
tags of its own, and plain TIFF pixels per inch or cm.
"""

import math
from typing import Any
from xml.etree import ElementTree

import tifffile

Calibration = tuple[tuple[float, float] | None, str]  # (height, width) of a pixel, and their unit
NONE: Calibration = (None, "")

_METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "µm": 1e-6, "nm": 1e-9, "Å": 1e-10, "pm": 1e-12}
_SPELLINGS = {
    "micron": "µm", "microns": "µm", "um": "µm", "\u03bcm": "µm", "micrometer": "µm",
    "micrometre": "µm", "angstrom": "Å", "angstroms": "Å", "\u212b": "Å", "nanometer": "nm",
    "nanometre": "nm", "picometer": "pm", "centimeter": "cm", "millimeter": "mm", "meter": "m",
}  # fmt: skip
_NO_UNITS = ("", "pixel", "pixels", "px", "reference frame", "none")
_INCH, _CENTIMETRE = 2, 3  # values of the tag ResolutionUnit
# Densities that programs and scanners put in unasked: they say nothing about the specimen.
_PRINT_DPI = (72, 75, 96, 100, 120, 144, 150, 180, 200, 240, 300, 360, 400, 600, 1200, 2400)
_SIS_TAG = 33560  # Olympus Soft Imaging Solutions: a table, with pixel sizes in metres
_DM_TAGS = (65010, 65009, 65004, 65003)  # DigitalMicrograph: size y, size x, unit y, unit x


def of_file(tiff: tifffile.TiffFile, index: int) -> Calibration:
    """The calibration that a file states of its series `index`, or `NONE`."""
    if tiff.is_ome:
        return _of_ome(tiff.ome_metadata or "", index)
    tags = tiff.pages.first.tags
    if all(tag in tags for tag in _DM_TAGS):
        rows, columns, row_unit, unit = (tags.valueof(tag) for tag in _DM_TAGS)
        return _checked(rows, columns, str(row_unit), str(unit))
    sis = tiff.series[index].keyframe.tags.valueof(_SIS_TAG)
    if isinstance(sis, dict) and {"pixelsizex", "pixelsizey"} <= sis.keys():
        return _of_metres(sis["pixelsizey"], sis["pixelsizex"])
    across, down = tags.valueof("XResolution"), tags.valueof("YResolution")
    if across is None or down is None or 0 in (*across, *down):
        return NONE
    rows, columns = down[1] / down[0], across[1] / across[0]
    imagej = (tiff.imagej_metadata or {}) if tiff.is_imagej else {}
    unit = spell(str(imagej.get("unit", "")))
    if unit not in (*_NO_UNITS, "inch", "cm"):
        return _checked(rows, columns, str(imagej.get("yunit", unit)), unit)
    named = {"inch": _INCH, "cm": _CENTIMETRE}.get(unit, tags.valueof("ResolutionUnit", _INCH))
    return _of_density(rows, columns, int(named))


def _of_ome(xml: str, index: int) -> Calibration:
    images = ElementTree.fromstring(xml).findall("{*}Image")
    pixels = images[index if index < len(images) else 0].find("{*}Pixels")
    if pixels is None:
        return NONE
    rows, columns = pixels.get("PhysicalSizeY"), pixels.get("PhysicalSizeX")
    # OME's schema: micrometres where no unit is given.
    row_unit, unit = (pixels.get(f"PhysicalSize{axis}Unit", "µm") for axis in "YX")
    if rows is None or columns is None:
        rows, columns = rows or columns, columns or rows
        row_unit = unit = row_unit if pixels.get("PhysicalSizeY") else unit
    return _checked(rows, columns, row_unit, unit)


def _of_density(rows: float, columns: float, resolution_unit: int) -> Calibration:
    """None for a ratio of sides only, or a density for print."""
    if resolution_unit not in (_INCH, _CENTIMETRE) or rows == columns == 1:
        return NONE
    metres = 0.0254 if resolution_unit == _INCH else 0.01
    if any(math.isclose(0.0254 / dpi, columns * metres, rel_tol=0.015) for dpi in _PRINT_DPI):
        return NONE
    return _of_metres(rows * metres, columns * metres)


def _of_metres(rows: float, columns: float) -> Calibration:
    """In nm, or from 1 µm up in µm."""
    unit = "nm" if columns < 1e-6 else "µm"
    return _checked(rows / _METRES[unit], columns / _METRES[unit], unit, unit)


def spell(unit: str) -> str:
    """The unit as this package spells it: "µm" for "micron", "um" and ImageJ's escape of it."""
    for escape, letter in (("\\u00b5", "µ"), ("\\u00B5", "µ"), ("\\u00c5", "Å"), ("\\u00C5", "Å")):
        unit = unit.replace(escape, letter)
    unit = unit.strip("\0 ")
    return _SPELLINGS.get(unit.lower(), unit)


def _checked(rows: Any, columns: Any, row_unit: str, unit: str) -> Calibration:
    """Both sizes in the columns' unit, or none where one is no positive length."""
    row_unit, unit = spell(row_unit), spell(unit)
    if rows is None or columns is None or unit.lower() in _NO_UNITS or not unit.isprintable():
        return NONE
    size = float(rows), float(columns)
    if row_unit != unit:
        if not {row_unit, unit} <= _METRES.keys():
            return NONE
        size = size[0] * _METRES[row_unit] / _METRES[unit], size[1]
    if not all(math.isfinite(s) and s > 0 for s in size):
        return NONE
    return size, unit


def is_same(one: Calibration, other: Calibration) -> bool:
    """Whether two calibrations agree to what a ratio of two 32-bit integers may lose."""
    (size, unit), (other_size, other_unit) = one, other
    unit, other_unit = spell(unit), spell(other_unit)
    if size is None or other_size is None or not _comparable(unit, other_unit):
        return size == other_size and unit == other_unit
    scale = _METRES.get(unit, 1.0) / _METRES.get(other_unit, 1.0)
    pairs = zip(size, other_size, strict=True)
    return all(math.isclose(a * scale, b, rel_tol=1e-5) for a, b in pairs)


def _comparable(unit: str, other: str) -> bool:
    return unit == other or {unit, other} <= _METRES.keys()


def ome_keywords(calibration: Calibration) -> dict[str, Any]:
    """The metadata for `tifffile.imwrite(ome=True)`; none for a unit that OME does not list."""
    size, unit = calibration[0], spell(calibration[1])
    if size is None or unit not in _METRES:
        return {}
    sizes = {f"PhysicalSize{axis}": value for axis, value in zip("YX", size, strict=True)}
    return sizes | {"PhysicalSizeYUnit": unit, "PhysicalSizeXUnit": unit}


def imagej_keywords(calibration: Calibration) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options and the metadata for `tifffile.imwrite(imagej=True)`: pixels per unit."""
    size, unit = calibration[0], spell(calibration[1])
    # Its text is ASCII, with ImageJ's own escapes for the two letters that lengths need.
    unit = unit.replace("µ", "\\u00B5").replace("Å", "\\u00C5")
    if size is None or not unit or not unit.isascii():
        return {}, {}
    options = _density(size, 1)
    return options, {"unit": unit} if options else {}


def plain_keywords(calibration: Calibration) -> dict[str, Any]:
    """The options for `tifffile.imwrite` of plain TIFF: pixels per cm, for lengths only."""
    size, unit = calibration[0], spell(calibration[1])
    if size is None or unit not in _METRES:
        return {}
    per_cm = _METRES[unit] * 100
    return _density((size[0] * per_cm, size[1] * per_cm), _CENTIMETRE)


def _density(size: tuple[float, float], resolution_unit: int) -> dict[str, Any]:
    """Resolution tags, or none where a ratio of two 32-bit integers cannot say it well."""
    density = 1 / size[1], 1 / size[0]
    if not all(1e-4 < d < 1e9 for d in density):
        return {}
    return {"resolution": density, "resolutionunit": resolution_unit}

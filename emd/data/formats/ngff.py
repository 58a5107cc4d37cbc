"""Owns what NGFF, the metadata of OME-Zarr, says of an image: 0.5 and before read, 0.5 written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emd.data.calibration import NONE, Calibration
from emd.data.contents import Contents
from emd.data.formats import original, record, units

LEVEL = "0"
"""Where the pixels of what we write lie."""

_WORDS = {
    "nm": "nanometer", "Å": "angstrom", "µm": "micrometer", "pm": "picometer", "mm": "millimeter",
    "cm": "centimeter", "m": "meter",
}  # fmt: skip


def placed(image: Mapping[str, Any], dimensions: int) -> dict[str, Any]:
    """The axes, scale and offset of the full resolution; empty where NGFF says none.

    Before 0.4 it had no scale, and axes, if at all, as letters.
    """
    axes = image.get("axes") or []
    if len(axes) != dimensions or not all(isinstance(axis, dict) for axis in axes):
        return {}
    scale, offset = [1.0] * dimensions, [0.0] * dimensions
    for change in (
        *image["datasets"][0].get("coordinateTransformations", []),
        *image.get("coordinateTransformations", []),
    ):
        if change.get("type") == "scale":
            scale = [a * float(b) for a, b in zip(scale, change["scale"], strict=True)]
            offset = [a * float(b) for a, b in zip(offset, change["scale"], strict=True)]
        elif change.get("type") == "translation":
            offset = [a + float(b) for a, b in zip(offset, change["translation"], strict=True)]
    return {"axes": axes, "scale": scale, "offset": offset}


def calibration_of(placed: Mapping[str, Any]) -> tuple[Calibration, str]:
    """Size of a pixel and its unit, and why the array holds no images, if it does not."""
    if not placed:
        return NONE, ""
    rows, columns = placed["axes"][-2:]
    if "channel" in (rows.get("type"), columns.get("type")):
        return NONE, f"ends in the axes {rows.get('name')}, {columns.get('name')}: want y, x"
    high, wide = placed["scale"][-2:]
    return units.pixel_size(high, wide, rows.get("unit"), columns.get("unit")), ""


def axes_of(placed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The axes as the other formats have them: "name", "scale", "offset", "units"."""
    return [
        {"name": a.get("name"), "scale": s, "offset": o, "units": a.get("unit")}
        for a, s, o in zip(*(placed.get(k, []) for k in ("axes", "scale", "offset")), strict=True)
    ]


def metadata_of(
    title: str, attributes: dict[str, Any], placed: Mapping[str, Any], known: Calibration
) -> dict[str, Any]:
    """What a micrograph's metadata are of an image that is not ours."""
    kept, dropped = original.thin(attributes)
    axes = axes_of(placed)
    trees: dict[str, dict[str, Any]] = {"metadata": {}, "original_metadata": kept}
    metadata = {
        "title": title,
        "mode": original.mode(trees, {}, known[1]),
        "frames": original.frames(axes),
        "origin": original.origin(axes, known),
        "original": kept,
        "dropped": dropped,
    }
    return {key: value for key, value in metadata.items() if value}


def placing(shape: tuple[int, ...], contents: Contents) -> dict[str, Any]:
    """Axes, scale and offset of pixels of a shape, as NGFF has them (it allows five axes).

    A stack runs along z where its step is known as a length, else along t: NGFF knows no other.
    """
    high, wide = contents.pixel_size or (1.0, 1.0)
    count = len(shape) - 2
    names = ["t", "c", "z"][:count] if count <= 3 else [f"axis{k}" for k in range(count)]
    kinds = {"t": "time", "c": "channel", "z": "space"}
    axes: list[dict[str, Any]] = [{"name": n, "type": kinds.get(n, "custom")} for n in names]
    scale, offset = [1.0] * len(names), [0.0] * len(names)
    known = contents.metadata.get("frames")
    if len(names) == 1 and isinstance(known, list) and len(known) == 1:
        step, unit = known[0].get("scale"), units.spell(known[0].get("units"))
        if unit in _WORDS and isinstance(step, int | float) and step > 0:
            axes = [{"name": "z", "type": "space", "unit": _WORDS[unit]}]
            scale, offset = [float(step)], [original.finite(known[0].get("offset"))]
    for name in "yx":
        axes.append({"name": name, "type": "space"})
        if contents.pixel_size and contents.unit:
            unit = units.spell(contents.unit)
            axes[-1]["unit"] = _WORDS.get(unit, contents.unit)
    # Without a pixel size its unit is not known.
    first = original.stated_origin(contents.metadata) if contents.pixel_size else (0.0, 0.0)
    return {"axes": axes, "scale": [*scale, high, wide], "offset": [*offset, *first]}


def describe(
    folder: Path,
    contents: Contents,
    place: Mapping[str, Any],
    more: Mapping[str, Any] | None = None,
) -> None:
    """Nothing; the folder is then an OME-Zarr image of the array in it, with our record.

    Raises:
      ValueError: the metadata is not JSON.
    """
    text = record.text(contents)
    title = contents.metadata.get("title")
    changes: list[dict[str, Any]] = [{"type": "scale", "scale": place["scale"]}]
    if any(place["offset"]):
        changes.append({"type": "translation", "translation": place["offset"]})
    image = {
        "name": title if isinstance(title, str) and title else "image",
        "axes": place["axes"],
        "datasets": [{"path": LEVEL, "coordinateTransformations": changes}],
    }
    group = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {
            "ome": {"version": "0.5", "multiscales": [image], **(more or {})},
            record.NAME: text,
        },
    }
    (folder / "zarr.json").write_text(json.dumps(group, indent=2), encoding="ascii")

"""Owns the facts of a file that `emd info` tells: of its images, as JSON holds them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from emd.codec.container import Header
    from emd.data.micrograph import Micrograph

_FORMATS = {
    "tiff": "TIFF",
    "mrc": "MRC",
    "dm": "DigitalMicrograph",
    "emd": "EMD",
    "tia": "SER/EMI",
    "blo": "BLO",
    "hspy": "HyperSpy hspy",
    "zspy": "HyperSpy zspy",
    "npy": "NumPy npy",
    "npz": "NumPy npz",
    "zarr": "Zarr",
}
_MEDIAN_PX = 2**22  # of larger images the median is that of about as many pixels, evenly spaced


def describe(
    path: Path, *, signal: str | None = None, frame: int = 0, black: float | None = None
) -> dict[str, Any]:
    """What there is to say of a file, as JSON holds it; of a stack one frame is read.

    Args:
      path: the file.
      signal: by name or number; all without.
      frame: of a stack.
      black: counts that no electron makes.

    Raises:
      OSError, ValueError: what `emd.data.micrograph.read` raises.
    """
    from emd.data import micrograph
    from emd.data.formats import registry

    if _is_stream(path):
        return _stream(path)
    found = micrograph.signals(path)
    kind = registry.kind_of(path)
    told = []
    for place, summary in enumerate(found):
        if signal not in (None, summary.name, str(place)):
            continue
        facts: dict[str, Any] = {
            "signal": place,
            "name": summary.name,
            "shape": list(summary.shape),
            "dtype": summary.dtype,
        }
        is_stack = len(summary.shape) > 2
        if summary.fault:
            facts["fault"] = summary.fault
        else:
            image = micrograph.read(path, signal=place, frame=frame if is_stack else None)
            facts |= {"frame": frame} if is_stack else {}
            facts |= _calibration(image, image.pixels.shape) | _counts(image, black)
        told.append(facts)
    if not told:
        micrograph.read(path, signal=signal)  # says which signals there are
    return {
        "file": str(path),
        "format": _FORMATS.get(kind, kind),
        "signals_in_file": len(found),
        "signals": told,
    }


def _is_stream(path: Path) -> bool:
    """Whether a file is to be read as an .emdz stream, by its first bytes or its name."""
    from emd.cli.outputs import STREAM_SUFFIX
    from emd.codec.container import MAGIC

    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC or path.suffix.lower() == STREAM_SUFFIX


def _stream(path: Path) -> dict[str, Any]:
    """What an .emdz stream says of itself; no pixel is decoded."""
    from emd import codec
    from emd.codec.container import Reader
    from emd.data.source import one_line

    with one_line(path), path.open("rb") as file:
        header = Reader(file).header
        told = codec.describe(file)
    names = ("coder", "weights", "settings", "bytes", "bits_per_pixel", "ratio", "software")
    stream = {name: told[name] for name in names if name in told}
    facts: dict[str, Any] = {
        "signal": 0,
        "name": "0",
        "shape": list(header.shape),
        "dtype": header.dtype,
        **_calibration(header, header.shape),
        "stream": {**stream, "coder_version": header.coder_version},
    }
    return {"file": str(path), "format": "emd stream", "signals_in_file": 1, "signals": [facts]}


def _calibration(image: Micrograph | Header, shape: tuple[int, ...]) -> dict[str, Any]:
    """What the file says of the image."""
    height, width = shape[-2:]
    facts: dict[str, Any] = {}
    if image.pixel_size is not None:
        high, wide = image.pixel_size
        facts = {
            "pixel_size": [high, wide],
            "unit": image.unit,
            "field_of_view": [high * height, wide * width],
        }
    kept = {name: image.metadata.get(name) for name in ("mode", "title", "acquisition", "emd")}
    return facts | {name: value for name, value in kept.items() if value}


def _counts(image: Micrograph, black: float | None) -> dict[str, Any]:
    """What the pixels say."""
    from emd import noise
    from emd.data.suspicions import suspicions

    pixels = image.pixels.reshape(image.pixels.shape[-2:])
    sums = noise.measure(pixels)
    estimate = noise.estimate(pixels, black=black)
    facts: dict[str, Any] = {
        "nonfinite_pixels": pixels.size - sums.finite,
        "saturated_pixels": round(sums.saturated * sums.finite),
        "noise": {name: value for name, value in estimate._asdict().items() if name != "saturated"},
    }
    if sums.finite == pixels.size:  # the estimate itself tells of saturation
        found = suspicions(pixels, sums.low, sums.high)
        others = tuple(each.text for each in found if each.name != "saturated")
        facts["noise"]["warnings"] = (*estimate.warnings, *others)
    area = _square_angstroms(image)
    if estimate.dose is not None and area is not None:
        facts["noise"]["dose_per_square_angstrom"] = estimate.dose / area
    if sums.finite:
        middle = _median(pixels)
        facts["counts"] = {"min": sums.low, "median": middle, "mean": sums.mean, "max": sums.high}
    return facts


def _median(pixels: np.ndarray) -> float:
    import numpy as np

    step = math.ceil(math.sqrt(pixels.size / _MEDIAN_PX))
    some = pixels[::step, ::step]
    some = some[np.isfinite(some)]
    # an image whose few finite pixels all lie between the places
    return float(np.median(some)) if some.size else float(np.median(pixels[np.isfinite(pixels)]))


def _square_angstroms(image: Micrograph) -> float | None:
    """The area of a pixel on the specimen, where its size is one there."""
    from emd.data.formats import units

    size = units.angstroms((image.pixel_size, image.unit))
    if size is None or image.metadata.get("mode") == "diffraction":
        return None
    return size[0] * size[1]

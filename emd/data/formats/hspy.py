"""Owns HyperSpy's files as they are written: .hspy through rosettasciio, and what .zspy shares.

HyperSpy finds the calibration in the axes, the acquisition in its own tree, and our record in the
original metadata, from which it all comes back exactly.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from emd.data.contents import Contents
from emd.data.formats import extras, original, record

# rosettasciio asks what wrote the signal, to read versions before 1.0 in their own way.
PACKAGE = {"package": "emd", "package_version": "2"}


def layout(contents: Contents) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The pixels and their axes as HyperSpy has them: frames navigate, images are the signal.

    A stack that was read of 4-D data takes its former shape again.
    """
    pixels, size, unit, metadata = contents
    shape = metadata.get("stack_shape")
    if pixels.ndim == 3 and isinstance(shape, list) and math.prod(shape) == len(pixels):
        pixels = pixels.reshape(*shape, *pixels.shape[-2:])
    known = metadata.get("frames")
    if not isinstance(known, list) or len(known) != pixels.ndim - 2:
        known = [{"name": "frame"}] * (pixels.ndim - 2)
    high, wide = size or (1.0, 1.0)
    units = unit if size else ""
    # Without a pixel size its unit is not known.
    top, left = original.stated_origin(metadata) if size else (0.0, 0.0)
    rows = {"name": "y", "scale": high, "offset": top, "units": units}
    columns = {"name": "x", "scale": wide, "offset": left, "units": units}
    first = {
        "_type": "UniformDataAxis",
        "is_binned": False,
        "units": "",
        "scale": 1.0,
        "offset": 0.0,
    }
    axes = [
        first
        | {k: v for k, v in axis.items() if v is not None}
        | {"size": count, "navigate": moves}
        for axis, count, moves in zip(
            [*known, rows, columns],
            pixels.shape,
            [*[True] * len(known), False, False],
            strict=True,
        )
    ]
    return pixels, axes


def metadata(contents: Contents) -> dict[str, Any]:
    """HyperSpy's tree: the title and the acquisition where they are known."""
    known = contents.metadata
    title, acquired = known.get("title"), known.get("acquisition")
    tree = {
        "General": {"title": title.replace("/", "-") if isinstance(title, str) else ""},
        "Signal": {"signal_type": ""},
        "_HyperSpy": {"Folding": {"unfolded": False, "signal_unfolded": False}},
    }
    return tree | ({"Acquisition_instrument": acquired} if isinstance(acquired, dict) else {})


def write(path: Path, contents: Contents) -> None:
    """Nothing; the file then holds the micrograph, compressed without loss.

    Raises:
      FormatError: rosettasciio or h5py is not installed.
      ValueError: the metadata is not JSON.
    """
    text = record.text(contents).encode("ascii")
    # As an array: HDF5 takes no text of over 64 kB as an attribute.
    tags = {record.NAME: np.frombuffer(text, np.uint8)}
    pixels, axes = layout(contents)
    described = {
        "data": pixels,
        "axes": axes,
        "metadata": metadata(contents),
        "original_metadata": tags,
        "learning_results": {},
        "models": {},
        "attributes": {"_lazy": False, "ragged": False},
        "package_info": PACKAGE,
        "tmp_parameters": {},
    }
    writer = extras.load("rsciio.hspy")
    with extras.quiet():
        # The lowest level: noise does not shrink further, it only takes longer.
        writer.file_writer(
            str(path), described, compression="gzip", compression_opts=1, show_progressbar=False
        )

"""Owns the JSON record that `write` leaves in a file, so that nothing of a micrograph is lost."""

import contextlib
import json
from typing import Any

import numpy as np

from emd.data import calibration
from emd.data.calibration import Calibration
from emd.data.contents import Contents

NAME = "emd_micrograph"


def text(contents: Contents) -> str:
    """The record of everything but the pixels: JSON, ASCII only.

    Raises:
      ValueError: the metadata is not JSON.
    """
    pixels, size, unit, metadata = contents
    record = {"format": NAME, "pixel_size": size, "unit": unit, "shape": pixels.shape}
    try:
        return json.dumps({**record, "metadata": metadata})
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata is not JSON ({error}): keep text and numbers") from None


def parse(found: Any) -> dict[str, Any] | None:
    """The record in a text, bytes or a (lazy) array of bytes; None where it is none of ours."""
    if hasattr(found, "dtype"):
        found = np.asarray(found).tobytes()
    with contextlib.suppress(ValueError, TypeError):
        record = json.loads(found)
        if isinstance(record, dict) and record.get("format") == NAME:
            return record
    return None


def settle(stated: Calibration, record: dict[str, Any]) -> Calibration:
    """What the file states; the record's exact numbers where it states the same or nothing."""
    size = record["pixel_size"]
    exact = (None if size is None else (float(size[0]), float(size[1])), str(record["unit"]))
    return exact if stated[0] is None or calibration.is_same(stated, exact) else stated

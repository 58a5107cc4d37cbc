"""Owns the record of what was done to a micrograph, which its metadata keeps."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any, NamedTuple


class Report(NamedTuple):
    """What was done to a micrograph: the entry that goes into its metadata, under "emd".

    Attributes:
      model: name of the model.
      weights: the first 16 hexadecimal digits of the SHA-256 of its variables.
      version: of this package.
      time: when it was restored, in UTC by ISO 8601. SOURCE_DATE_EPOCH in the environment [s since
        1970] replaces the clock, so that a repeated run gives the same bytes.
      minimum: of each frame, in counts.
      mean: of each frame above its minimum, in counts.
      mean_correction: added to each frame so that its mean stays, in counts; 0 for published
        kernels, which are applied as printed.
      clipped_pixels: results outside the range of the type, brought to its ends.
      nonfinite_pixels: NaN and infinities, kept as they were.
      despiked_pixels: isolated spikes replaced before restoration.
      put_back: share of the power that the model had taken away which was put back, of each frame;
        empty where nothing was, and of archives with more frames than are listed.
      gain: counts that an electron makes, where that was told; else the image told of its noise.
      black: counts of no electron, likewise.
      warnings: one line each.
    """

    model: str
    weights: str
    version: str
    time: str
    minimum: list[float]
    mean: list[float]
    mean_correction: list[float]
    clipped_pixels: int
    nonfinite_pixels: int
    despiked_pixels: int
    put_back: list[float]
    gain: float | None
    black: float | None
    warnings: list[str]


def with_history(metadata: dict[str, Any], report: Report) -> dict[str, Any]:
    """The metadata with a report as the last step under "emd"."""
    return {**metadata, "emd": [*metadata.get("emd", []), report._asdict()]}


def now() -> str:
    """The time for a report: the clock's, or the one that SOURCE_DATE_EPOCH sets."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.now(UTC) if not epoch else datetime.fromtimestamp(int(epoch), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

"""Owns `--model auto` and `fit`: which model suits a micrograph, by its file or by its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

AUTO = "auto"
FIT = "fit"
PER_FILE = (AUTO, FIT)
"""What stands for a model that each file decides on."""

_MODELS = {
    "STEM": ("stem_skip48_clean", "the file says STEM"),
    "TEM": ("tem_skip48_clean", "the file says TEM"),
}
# on TEM, too, no worse than that for TEM where structure is put back (results/dose.md)
OTHERWISE = ("stem_skip48_clean", "the file does not say whether TEM or STEM")
"""The model of all other files, and why."""
_NO_MODEL = "no model was trained on diffraction: name one with --model to insist"


class Choice(NamedTuple):
    """A model's name, and why it was chosen, to follow "as"; no reason where somebody named it."""

    model: str
    reason: str = ""


def choose(metadata: Mapping[str, Any], unit: str) -> Choice:
    """The model for a micrograph of these metadata.

    Args:
      metadata: as `emd.data.micrograph.read` gives it: "mode" is "STEM", "TEM", "diffraction".
      unit: of its pixel size; a reciprocal one, as in "1/nm", is a diffraction pattern's.

    Raises:
      ValueError: it is a diffraction pattern.
    """
    mode = metadata.get("mode")
    if mode == "diffraction":
        raise ValueError(f"the file says diffraction, and {_NO_MODEL}")
    if unit.startswith("1/") or unit.endswith(("^-1", "⁻¹")):
        raise ValueError(f"pixels are measured in {unit}, and {_NO_MODEL}")
    return Choice(*_MODELS.get(str(mode), OTHERWISE))

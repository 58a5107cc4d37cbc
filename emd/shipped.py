"""Owns where the weights lie that come with the code."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped() -> Path:
    """Return the folder of the weights that come with the code."""
    inside = _PACKAGE / "_checkpoints"  # an installed wheel's; a checkout has none
    return inside if inside.is_dir() else _PACKAGE.parent / "checkpoints"

"""Where a command finds its models."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_option(parser: argparse.ArgumentParser) -> None:
    """Nothing; the parser then knows `--checkpoints`."""
    parser.add_argument(
        "--checkpoints", metavar="DIR", help="where trained models lie (default: those shipped)"
    )


def root(arguments: argparse.Namespace) -> Path | None:
    """The folder that `--checkpoints` names; None for the models that are shipped.

    Raises:
      FileNotFoundError: there is no such folder.
    """
    folder = arguments.checkpoints
    if folder is None:
        return None
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder}: no such folder: --checkpoints names one of models")
    return Path(folder)

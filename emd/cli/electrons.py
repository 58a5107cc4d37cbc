"""Owns the options that tell how a detector counts."""

from __future__ import annotations

import argparse

from emd.cli import ranges


def add_options(parser: argparse.ArgumentParser) -> None:
    """Nothing; the parser then knows `gain` and `black`."""
    parser.add_argument(
        "--gain",
        metavar="COUNTS",
        type=ranges.number(0.0, above=True),
        help="counts that an electron makes, where the detector adds no noise of its own: 1 for a "
        "counting camera. Asks for --put-back, which then leaves out the noise of electrons and "
        "nothing else (default: the noise that the image tells)",
    )
    parser.add_argument(
        "--black",
        metavar="COUNTS",
        type=ranges.number(-float("inf")),
        help="counts of no electron, with --gain (default: 0)",
    )

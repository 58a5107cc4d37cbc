"""The `emd` command. Owns its exit codes, and how errors are told; a module a command has the rest.

0: done. 1: an error, told in one line. 2: the arguments make no sense. 130: interrupted.
jax and the models are imported only where a command needs them, so that help comes at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import emd
from emd.cli import compare, compress, decompress, denoise, export, fit, info, models, preview
from emd.cli.errors import one_line


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the command with these arguments; by default, the program's."""
    for name in ("stdout", "stderr"):  # closed by the caller, who does not want to be told
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  as long as the process
    arguments = _make_parser().parse_args(argv)
    output = getattr(arguments, "output", None)
    before = _identity(output)
    try:
        code = arguments.run(arguments)  # None is 0
        sys.stdout.flush()
    except BrokenPipeError:  # as under `| head`: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ValueError, MemoryError, ImportError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"error: interrupted; {_left(output, before)}", file=sys.stderr)
        return 130
    return int(code or 0)


def _left(output: str | None, before: tuple[int, int] | None) -> str:
    part = Path(f"{output}.part")  # of an archive
    if part.is_dir():
        return f"{part} holds what is done: the same command goes on from there"
    if _identity(output) not in (None, before):
        return f"{output} is written, what was to follow it is not"
    return "nothing was written"


def _identity(output: str | None) -> tuple[int, int] | None:
    """What changes when a result takes its place, which it does whole; None where nothing is."""
    try:
        found = os.stat(output or "")
    except (OSError, ValueError):
        return None
    return found.st_ino, found.st_mtime_ns


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="emd",
        description="Denoise and compress electron micrographs, with weights that come along.",
    )
    parser.add_argument("--version", action="version", version=f"emd {emd.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (
        *(denoise, fit, info, preview, compare),
        *(compress, decompress, models, export),
    ):
        command.add(commands)
    return parser

"""Owns which files a command works on: those named, those in folders, those that patterns match."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from emd.cli import ledger
from emd.data import micrograph
from emd.data.formats.ome_zarr import is_zarr


class Input(NamedTuple):
    """A file to work on: where it lies, and its place below the output folder."""

    path: Path
    place: PurePath


class Fault(NamedTuple):
    """What was named or found, but is not worked on, and why."""

    name: str
    reason: str


class Gathered(NamedTuple):
    """What the arguments of a command stand for.

    Attributes:
      inputs: what to work on, each file once.
      faults: what cannot be worked on.
      is_single: one file was named, by its own name.
    """

    inputs: list[Input]
    faults: list[Fault]
    is_single: bool


def is_file(path: Path) -> bool:
    """Whether a path is a file, or a folder that stands for one, as Zarr's do."""
    if not path.is_dir():
        return path.exists()
    is_named = path.name.lower().endswith(micrograph.FOLDER_SUFFIXES)
    return is_named or is_zarr(path)


def gather(
    names: Sequence[str], output: Path, suffixes: tuple[str, ...] = micrograph.SUFFIXES
) -> Gathered:
    """The files that names, folders and patterns stand for, in that order, sorted within each.

    A file that is named is worked on whatever its suffix says. Of folders and of what patterns
    match the others are faults, hidden ones are passed over, and so is all that lies in `output`.

    Args:
      names: files, folders (searched with all that is in them), patterns with * ? [] and **.
      output: where results go.
      suffixes: of the files that are wanted of folders and of what patterns match.

    Raises:
      ValueError: it is one of the folders that are searched.
    """
    inputs: dict[Path, Input] = {}
    faults: dict[str, Fault] = {}
    for name in names:
        for found in _stands_for(name, output, suffixes):
            if isinstance(found, Fault):
                faults.setdefault(found.name, found)
            else:
                inputs.setdefault(found.path.resolve(), found)
    # what was also named itself is worked on, whatever a folder's search thought of it
    paths = {str(found.path) for found in inputs.values()}
    kept = [fault for fault in faults.values() if fault.name not in paths]
    return Gathered(list(inputs.values()), kept, len(names) == 1 and _is_one(names[0]))


def _is_one(name: str) -> bool:
    path = Path(name)
    return is_file(path) or not (path.is_dir() or glob.has_magic(name))


def _stands_for(name: str, output: Path, suffixes: tuple[str, ...]) -> Iterator[Input | Fault]:
    path = Path(name)
    if not name:  # an unset variable of the shell is not the folder that it runs in
        yield Fault("''", "is empty: give the name of a file or folder")
    elif is_file(path):
        yield Input(path, PurePath(Path(os.path.abspath(path)).name))
    elif path.is_dir():
        yield from _search(path, [path], output, suffixes)
    elif glob.has_magic(name):
        yield from _match(name, output, suffixes)
    else:
        yield Fault(name, "no such file: check the name")


def _match(pattern: str, output: Path, suffixes: tuple[str, ...]) -> Iterator[Input | Fault]:
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    if not matches:
        yield Fault(pattern, "no file matches: check the pattern")
        return
    parts = Path(pattern).parts
    fixed = next(k for k, part in enumerate(parts) if glob.has_magic(part))
    yield from _search(Path(*parts[:fixed]), matches, output, suffixes)


def _search(
    base: Path, starts: Sequence[Path], output: Path, suffixes: tuple[str, ...]
) -> Iterator[Input | Fault]:
    """What lies below `starts`, placed as it lies below `base`."""
    if output.resolve() == base.resolve():
        raise ValueError(f"{base}: is searched, so it cannot take the results: name another OUT")
    is_empty, results = True, output.resolve()
    for start in starts:
        if base.resolve() in results.parents and results in start.resolve().parents:
            continue  # a pattern matches what an earlier run made
        for found in _files_below(start, results):
            is_empty = False
            if isinstance(found, Fault):
                yield found
            elif found.name.lower().endswith(suffixes):
                yield Input(found, found.relative_to(base))
            else:
                wanted = "a micrograph's format" if len(suffixes) > 1 else suffixes[0]
                suffix = f" ({found.suffix})" if found.suffix else ""
                yield Fault(str(found), f"not {wanted}{suffix}: passed over")
    if is_empty:
        yield Fault(str(base), "holds no micrograph: put files in it")


def _files_below(start: Path, output: Path) -> Iterator[Path | Fault]:
    """The files in a folder and those below it, or the file itself, but for hidden ones."""
    if start.name == ledger.NAME or start.resolve() == output:
        return
    if is_file(start):
        yield start
        return
    try:
        within = sorted(os.listdir(start))
    except OSError as error:
        yield Fault(str(start), error.strerror or str(error))
        return
    for path in (start / name for name in within if not name.startswith(".")):
        if not (path.is_symlink() and path.is_dir()):  # it may lead back here
            yield from _files_below(path, output)

"""Owns where results go: what each file is called, and which may not be written."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from emd.data import micrograph
from emd.data.formats import registry

STREAM_SUFFIX = ".emdz"
"""Of compressed files."""

_LONGEST_SIGNAL = 80  # letters of a signal's name; a file's may have 255 bytes


def is_folder(output: str, *, is_single: bool) -> bool:
    """Whether OUT is a folder, not the file to make.

    Args:
      output: as it was given.
      is_single: one file goes in.

    Raises:
      ValueError: it has to be a folder, but is a file or named like one.
    """
    if not output:
        raise ValueError("OUT is empty: name a file or folder")
    path = Path(output)
    separators = (os.sep, os.altsep) if os.altsep else (os.sep,)
    if path.is_dir() and not path.name.lower().endswith(micrograph.FOLDER_SUFFIXES):
        return True
    if output.endswith(separators):
        return True
    if is_single:
        return False
    if path.is_file():
        raise ValueError(f"{output}: is a file: several results need a folder")
    if path.name.lower().endswith((*micrograph.SUFFIXES, STREAM_SUFFIX)):
        raise ValueError(
            f"{output}: is named like a file, but results need a folder: end it with {os.sep}"
        )
    return True


def check_single(source: Path, output: Path, signal: str | None, *, overwrite: bool) -> None:
    """Nothing: to be told before anything slow.

    Raises:
      OSError, ValueError: the file is damaged, holds several images of which none is
        chosen, or the output could not be written.
    """
    check_other(source, output, overwrite=overwrite)
    if signal is not None:
        return
    images = [each.name for each in micrograph.signals(source) if not each.fault]
    if len(images) > 1:
        raise ValueError(
            f"{source}: holds {len(images)} images ({', '.join(images)}): choose one with "
            "--signal, or name a folder for all with -o"
        )


def check_other(source: Path, output: Path, *, overwrite: bool) -> None:
    """Nothing.

    Raises:
      OSError, ValueError: the output could not be written, or would replace its source.
    """
    if output.resolve() == source.resolve():
        raise ValueError(f"{source}: the result would replace it: name another OUT")
    micrograph.check_output(output, overwrite=overwrite)


def place_of(place: PurePath, signal: str = "", *, otherwise: str = ".tif") -> PurePath:
    """The place of a result: the input's own where its format can be written.

    Elsewhere a suffix is added, not exchanged: a.dm3 and a.dm4 become a.dm3.tif and a.dm4.tif.

    Args:
      place: of the input, below the output folder.
      signal: which of a file's images it is, made safe; empty for an only one.
      otherwise: the suffix to add.
    """
    own = place.suffix if place.suffix.lower() in registry.WRITABLE else ""
    stem = place.name.removesuffix(own)
    return place.with_name(".".join(filter(None, (stem, signal))) + (own or otherwise))


def safe(names: Sequence[str]) -> list[str]:
    """The names of signals as parts of file names, each its own on every system."""
    made: list[str] = []
    for number, name in enumerate(names):
        text = re.sub(r"[^\w+-]+", "_", name).strip("_")[:_LONGEST_SIGNAL] or str(number)
        is_taken = text.casefold() in (other.casefold() for other in made)
        made.append(f"{text}_{number}" if is_taken else text)
    return made


class Claims:
    """Which outputs are spoken for: no result may replace another, or anything that goes in."""

    def __init__(self, inputs: Sequence[Path]) -> None:
        """Nothing is spoken for but the inputs."""
        self._inputs = {path.resolve() for path in inputs}
        self._taken: dict[str, Path] = {}

    def claim(self, output: Path, source: Path) -> None:
        """Nothing; the output is then this input's.

        Raises:
          ValueError: it is an input, or another's.
        """
        target = output.resolve()
        if target == source.resolve():
            raise ValueError("the result would replace it: name another OUT")
        if target in self._inputs:
            raise ValueError(f"the result would replace {output}, which is to be read")
        other = self._taken.setdefault(os.path.normcase(target), source)
        if other is not source:
            raise ValueError(f"the result would be {output}, and so is that of {other}")

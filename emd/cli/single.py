"""Owns a single file's restoration into a file: no folder, no record.

Imports jax: to be imported where a command runs, not where its arguments are read.
"""

from __future__ import annotations

from pathlib import Path

from emd.cli.ledger import stamp
from emd.cli.progress import Bar
from emd.cli.restoring import Restorer
from emd.data import micrograph


def check(source: Path, output: Path, signal: str | None, *, overwrite: bool) -> None:
    """Nothing: to be told before any model is loaded.

    Raises:
      OSError, ValueError: the file is damaged, holds several images of which none is
        chosen, or the output could not be written.
    """
    if output.resolve() == source.resolve():
        raise ValueError(f"{source}: the result would replace it: name another OUT")
    micrograph.check_output(output, overwrite=overwrite)
    if signal is not None:
        return
    images = [each.name for each in micrograph.signals(source) if not each.fault]
    if len(images) > 1:
        raise ValueError(
            f"{source}: holds {len(images)} images ({', '.join(images)}): choose one with "
            "--signal, or name a folder for all with -o"
        )


def restore(restorer: Restorer, source: Path, output: Path, device: str, *, overwrite: bool) -> str:
    """The line about what was done; the output then holds the restored file.

    Raises:
      OSError, ValueError, MemoryError: what `Restorer.restore` raises.
    """
    with Bar(size := stamp(source).size, source.name) as bar:
        bar.begin(size)
        signal = restorer.options.signal
        outcome = restorer.restore(
            source, output, signal=signal, overwrite=overwrite, progress=bar.at
        )
    return outcome.line(output, device.split()[0])

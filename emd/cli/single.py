"""Owns a single file's restoration into a file: no folder, no record.

Imports jax: to be imported where a command runs, not where its arguments are read.
"""

from __future__ import annotations

from pathlib import Path

from emd.cli.ledger import stamp
from emd.cli.progress import Bar
from emd.cli.restoring import Restorer


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
        page = restorer.report(source, output, signal=signal, overwrite=overwrite)
    return outcome.line(output, device.split()[0]) + (f"; report: {page}" if page else "")

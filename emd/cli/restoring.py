"""Owns one restoration: which model, what came of it, and how that is told.

Imports jax: to be imported where a command runs, not where its arguments are read.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from emd import checkpoint, job
from emd.checkpoint import Model
from emd.cli import choice
from emd.cli import report as page
from emd.cli.choice import Choice
from emd.cli.options import Options
from emd.data import micrograph
from emd.data.formats import registry
from emd.ensemble import ensemble
from emd.fit import fit
from emd.history import Report

_TILE_PX = 512


class Outcome(NamedTuple):
    """What was done to one micrograph: its shape and type, how, by which model, in what time.

    Attributes:
      shape: of its pixels.
      dtype: of its pixels.
      report: see `emd.history.Report`.
      choice: which model, and why.
      seconds: that it took.
      note: what else there is to tell.
    """

    shape: tuple[int, ...]
    dtype: str
    report: Report
    choice: Choice
    seconds: float
    note: str = ""

    def line(self, output: Path, device: str) -> str:
        """The same in a line."""
        report = self.report
        why = f", as {self.choice.reason}," if self.choice.reason else ""
        parts = [
            f"{output}: {'x'.join(map(str, self.shape))} {self.dtype}",
            f"{report.model}{why} on {device}",
            f"{self.seconds:.1f} s",
            f"{report.clipped_pixels} pixels clipped",
        ]
        if report.nonfinite_pixels:
            parts.append(f"{report.nonfinite_pixels} not finite, kept")
        if report.despiked_pixels:
            parts.append(f"{report.despiked_pixels} spikes replaced")
        if report.put_back:
            share = 100 * sum(report.put_back) / len(report.put_back)
            parts.append(f"{share:.1f} % of what it took away put back")
        if self.note:
            parts.append(self.note)
        return ", ".join(parts) + "".join(f"; warning: {warning}" for warning in report.warnings)

    def facts(self) -> dict[str, Any]:
        """The same for a record."""
        names = ("model", "weights", "version", "clipped_pixels", "nonfinite_pixels")
        told = {
            name: getattr(self.report, name) for name in (*names, "despiked_pixels", "warnings")
        }
        return {
            **told,
            "why": self.choice.reason,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "seconds": round(self.seconds, 3),
        }


def check_archives(sources: Sequence[Path]) -> None:
    """Nothing: a scheduler shares out the chunks of archives, and no other work.

    Raises:
      OSError: one of the sources cannot be read.
      ValueError: one of them is no archive.
    """
    for source in sources:
        if registry.kind_of(source) != "zarr":
            raise ValueError(f"{source}: --scheduler is for Zarr archives: leave it out")


def _archives() -> ModuleType:
    try:
        return importlib.import_module("emd.archive")
    except ModuleNotFoundError as error:
        needs = "pip install 'emd-micrograph[scale]' lets Zarr be restored chunk by chunk"
        raise ImportError(f"{error.name} is not installed: {needs}") from None


def fitted(source: Path, pixels: np.ndarray) -> tuple[Choice, Model]:
    """A kernel fitted to an image, and why it may be used.

    Raises:
      ValueError: it may not.
    """
    try:
        found = fit(pixels, name=choice.FIT)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    if found.verdict == "do not use":
        raise ValueError(f"{source}: do not use a kernel: {found.reason}")
    return Choice(choice.FIT, found.reason), found.model


class Restorer:
    """Restores one file after another; each model is loaded once."""

    def __init__(self, options: Options) -> None:
        """Knows the options; no model is loaded yet.

        Raises:
          ValueError: no model has that name.
        """
        self.options = options
        if options.model not in choice.PER_FILE:
            checkpoint.find(options.model)
        self._models: dict[str, tuple[Model, str]] = {}
        self._made: dict[Path, tuple[Choice, Model]] = {}  # the last result, and what made it

    def load(self, name: str) -> tuple[Model, str]:
        """A model, or its ensemble if asked for, and the fingerprint of its weights.

        Raises:
          OSError, ValueError: what `emd.checkpoint.load` raises.
        """
        if name not in self._models:
            model = checkpoint.load(name, root=self.options.root)
            model = ensemble(model) if self.options.ensemble else model
            self._models[name] = model, checkpoint.fingerprint(model.variables)
        return self._models[name]

    def choose(self, source: Path, signal: str | None) -> tuple[Choice, Model]:
        """The model for a file: the one named, or the one that suits it or is fitted to it.

        Raises:
          OSError, ValueError: it cannot be read, or none suits it.
        """
        asked = self.options.model
        if asked not in choice.PER_FILE:
            return Choice(asked), self.load(asked)[0]
        with micrograph.opened(source, signal=signal, frame=self.options.frame) as given:
            if asked == choice.FIT:
                return fitted(source, given[:1][0])  # of a stack, the first frame
            _, unit = given.calibration
            chosen = choice.choose(given.metadata, unit)
        try:
            return chosen, self.load(chosen.model)[0]
        except ValueError as error:
            raise ValueError(f"{source}: {chosen.reason}, and {error}") from None

    def restore(
        self,
        source: Path,
        output: Path,
        *,
        signal: str | None,
        overwrite: bool,
        progress: Callable[[float], None],
    ) -> Outcome:
        """What was done; the output then holds the restored file.

        Raises:
          OSError, ValueError: what `emd.job.restore_file` raises.
          MemoryError: there is too little of it, here or on the device; the message has a remedy.
        """
        start = time.perf_counter()
        chosen, model = self.choose(source, signal)
        with self._device_memory(source):
            made = self._restored(source, output, model, signal, overwrite, progress)
        self._made = {output: (chosen, model)}
        shape, dtype, report, note = made
        return Outcome(shape, dtype, report, chosen, time.perf_counter() - start, note)

    def report(
        self, source: Path, output: Path, *, signal: str | None, overwrite: bool
    ) -> Path | None:
        """The page beside a result, which is then there; None where none was asked for.

        Raises:
          OSError, ValueError, MemoryError: it could not be made; the result stays.
        """
        if not self.options.report:
            return None
        chosen, model = self._made.get(output) or self.choose(source, signal)
        with self._device_memory(source):
            return page.write(
                *(source, output, model, chosen),
                signal=signal,
                frame=self.options.frame,
                tile_px=self.options.tile_px,
                despike=self.options.despike,
                put_back=self.options.puts_back,
                overwrite=overwrite,
            )

    @contextlib.contextmanager
    def _device_memory(self, source: Path) -> Iterator[None]:
        """A context in which a device without memory left raises MemoryError, with a remedy."""
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            remedy = f"use a --tile smaller than {self.options.tile_px or _TILE_PX}"
            raise MemoryError(f"{source}: out of memory on the device: {remedy}") from None

    def _restored(
        self,
        source: Path,
        output: Path,
        model: Model,
        signal: str | None,
        overwrite: bool,
        progress: Callable[[float], None],
    ) -> tuple[tuple[int, ...], str, Report, str]:
        asked = self.options
        is_archive = output.suffix.lower() == ".zarr" and registry.kind_of(source) == "zarr"
        if is_archive and asked.frame is None:
            archive = _archives()
            done = archive.restore_archive(
                source,
                output,
                model,
                signal=signal,
                scheduler=asked.scheduler,
                tile_px=asked.tile_px,
                despike=asked.despike,
                put_back=asked.puts_back,
                overwrite=overwrite,
                progress=progress,
            )
            note = f"{done.found} of {done.units} pieces were done before" if done.found else ""
            return done.shape, done.dtype, done.report, note
        whole = job.restore_file(
            source,
            output,
            model,
            signal=signal,
            frame=asked.frame,
            tile_px=asked.tile_px,
            despike=asked.despike,
            put_back=asked.puts_back is None or asked.puts_back,
            overwrite=overwrite,
            progress=progress,
        )
        return whole.shape, whole.dtype, whole.report, ""

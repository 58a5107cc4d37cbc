"""Owns a job: many files into a folder, past the bad ones, and on from where one was stopped.

Imports jax: to be imported where a command runs, not where its arguments are read.
"""

from __future__ import annotations

import datetime
import functools
import sys
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import emd
from emd.cli import choice, errors, outputs, report
from emd.cli.inputs import Fault, Gathered, Input
from emd.cli.ledger import Ledger, Stamp, stamp
from emd.cli.progress import Bar
from emd.cli.restoring import Restorer
from emd.data import micrograph
from emd.ensemble import SUFFIX


class Piece(NamedTuple):
    """One image to restore: of which input, which of its signals, and where the result goes."""

    source: Input
    stamp: Stamp
    signal: str | None
    place: PurePath


class Job:
    """Restores files into a folder, and counts what became of them."""

    def __init__(self, folder: Path, restorer: Restorer, device: str, *, overwrite: bool) -> None:
        """Reads what the folder's record says is done."""
        self._folder = folder
        self._restorer = restorer
        self._device = device
        self._overwrite = overwrite
        self._ledger = Ledger(folder)
        self._done = self._skipped = 0
        self._failed: list[Fault] = []

    def run(self, gathered: Gathered) -> int:
        """The exit code: 0, 1 where anything failed, 130 where it was interrupted.

        Raises:
          OSError: the record cannot be written.
        """
        sizes = [_size(each.path) for each in gathered.inputs]
        claims = outputs.Claims([each.path for each in gathered.inputs])
        count = 0
        try:
            with Bar(sum(sizes)) as bar:
                for fault in gathered.faults:
                    self._fail(bar, fault)
                for each, size in zip(gathered.inputs, sizes, strict=True):
                    bar.name = f"{count + 1} of {len(sizes)}: {each.path.name}"
                    self._file(bar, claims, each, size)
                    count += 1
        except KeyboardInterrupt:
            rerun = "" if self._overwrite else "; the same command goes on from here"
            counts = f"{self._counts()}, {len(sizes) - count} left"
            print(f"interrupted: {counts}{rerun}", file=sys.stderr)
            return 130
        self._summarise()
        return 1 if self._failed else 0

    def _counts(self) -> str:
        failed = len(self._failed)
        skipped = f"{self._skipped} skipped" + " (done before)" * bool(self._skipped)
        return f"{self._done} done, {skipped}, {failed} failed"

    def _summarise(self) -> None:
        print(self._counts(), file=sys.stderr)
        for name, reason in self._failed:
            print(f"  failed: {name}: {reason}", file=sys.stderr)
        if self._ledger.path.exists():
            print(f"record: {self._ledger.path}", file=sys.stderr)

    def _fail(self, bar: Bar, fault: Fault, **facts: Any) -> None:
        self._failed.append(fault)
        bar.complain(f"error: {fault.name}: {fault.reason}")
        self._ledger.add("failed", input=fault.name, error=fault.reason, time=_now(), **facts)

    def _file(self, bar: Bar, claims: outputs.Claims, each: Input, size: int) -> None:
        """Restores all that is wanted of a file; what goes wrong is told and noted."""
        name = str(each.path)
        try:
            pieces = self._pieces(each)
        except Exception as error:  # noqa: BLE001  one file's fault must not end the night's job
            bar.leave_out(size)
            self._fail(bar, Fault(name, errors.reason(error, name)))
            return
        for piece in pieces:
            share = size / len(pieces)
            bar.begin(share)
            place = piece.place.as_posix()
            try:
                output = self._folder / piece.place
                claims.claim(output, each.path)
                if self._restorer.options.report:
                    claims.claim(report.place_of(output), each.path)
                if not self._overwrite and self._is_done(piece):
                    self._report_missing(piece)
                    self._skipped += 1
                    bar.leave_out(share)
                    continue
                line = self._restore(bar, piece)
            except Exception as error:  # noqa: BLE001  as above
                bar.at(0)
                bar.leave_out(share)
                which = f" (signal {piece.signal})" if piece.signal is not None else ""
                fault = Fault(name + which, errors.reason(error, name))
                self._fail(bar, fault, output=place)
                continue
            bar.at(1)
            self._done += 1
            bar.say(line)

    def _pieces(self, each: Input) -> list[Piece]:
        """What is to be restored of a file: the signal asked for, else every image in it."""
        signals = micrograph.signals(each.path)
        wanted, known = self._restorer.options.signal, stamp(each.path)
        images = [s.name for s in signals if not s.fault]
        place_of = functools.partial(
            outputs.place_of, each.place, otherwise=".zarr" if each.path.is_dir() else ".tif"
        )
        if len(images) < 2:  # a spectrum beside it needs no choice; none at all, a reason
            return [Piece(each, known, wanted, place_of())]
        pieces = [
            Piece(each, known, name, place_of(safe))
            for name, safe in zip(images, outputs.safe(images), strict=True)
        ]
        if wanted is None:
            return pieces
        numbers = {str(k): s.name for k, s in enumerate(signals)}
        name = wanted if wanted in images else numbers.get(wanted, wanted)
        chosen = [piece for piece in pieces if piece.signal == name]
        # that there is none of this name, reading it will say
        return chosen or [Piece(each, known, wanted, pieces[0].place)]

    def _is_done(self, piece: Piece) -> bool:
        """Whether the record says that just this was made of just this file, and it is there."""
        options, entry = self._restorer.options, self._ledger.last(piece.place.as_posix())
        if entry.get("status") != "done":
            return False
        due = {**self._key(piece), "asked": options.model, "version": emd.__version__}
        if any(entry.get(name) != value for name, value in due.items()):
            return False
        if options.model == choice.FIT:  # the same image gives the same kernel
            weights = entry.get("weights")
        else:
            name = options.model
            if name == choice.AUTO:  # of others the record has a folder's last name alone
                name = str(entry["model"]).removesuffix(SUFFIX)
            _, weights = self._restorer.load(name)
        output = self._folder / piece.place
        is_there = output.exists() and stamp(output).size == entry.get("output_size")
        return is_there and entry.get("weights") == weights

    def _report_missing(self, piece: Piece) -> None:
        """Nothing; a result that was there before then has its page, too, where one is wanted."""
        output = self._folder / piece.place
        if not report.place_of(output).exists():
            self._restorer.report(piece.source.path, output, signal=piece.signal, overwrite=False)

    def _key(self, piece: Piece) -> dict[str, Any]:
        return {
            "input": piece.source.place.as_posix(),
            "size": piece.stamp.size,
            "mtime_ns": piece.stamp.mtime_ns,
            "options": self._restorer.options.shaping,
        }

    def _restore(self, bar: Bar, piece: Piece) -> str:
        """The line about a result that now is there."""
        output, place = self._folder / piece.place, piece.place.as_posix()
        # killed after the output was in place, before the record said so: it is ours to replace
        is_ours = self._ledger.last(place).get("status") == "begun"
        may_replace = self._overwrite or is_ours
        if output.exists() and not may_replace:
            raise FileExistsError(
                f"{output}: exists already, and the record does not say that it was made of this "
                "file in this way: give --overwrite to replace it"
            )
        output.parent.mkdir(parents=True, exist_ok=True)
        if self._restorer.options.report:
            report.check(output, overwrite=may_replace)
        self._ledger.add("begun", output=place, input=piece.source.place.as_posix(), time=_now())
        outcome = self._restorer.restore(
            piece.source.path,
            output,
            signal=piece.signal,
            overwrite=may_replace,
            progress=bar.at,
        )
        self._ledger.add(
            "done",
            **self._key(piece),
            signal=piece.signal,
            output=place,
            output_size=stamp(output).size,
            asked=self._restorer.options.model,
            device=self._device,
            time=_now(),
            tile=self._restorer.options.tile_px,
            **outcome.facts(),
        )
        # last, so that a page that fails is made by the same command again, and nothing else
        page = self._restorer.report(
            piece.source.path, output, signal=piece.signal, overwrite=may_replace
        )
        line = outcome.line(output, self._device.split()[0])
        return line + (f"; report: {page}" if page else "")


def _size(path: Path) -> int:
    try:
        return stamp(path).size
    except OSError:
        return 0  # told when its turn comes


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

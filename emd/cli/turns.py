"""Owns files worked on one after another: past the bad ones, with a line about each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from emd.cli import errors, outputs
from emd.cli.inputs import Fault, Gathered, Input
from emd.cli.ledger import stamp
from emd.cli.progress import Bar


class Task(NamedTuple):
    """One image: of which file, which of its signals (None: its only one), and where it goes."""

    source: Path
    signal: str | None
    output: Path


def run(
    gathered: Gathered,
    tasks: Callable[[Input], Sequence[Task]],
    work: Callable[[Task], str],
) -> int:
    """The exit code: 0, 1 where anything failed, 130 where it was interrupted.

    Args:
      gathered: what to work on.
      tasks: what is to be made of a file.
      work: makes it, and gives the line to tell of it.
    """
    claims = outputs.Claims([each.path for each in gathered.inputs])
    failed = list(gathered.faults)
    done = count = 0
    sizes = [_size(each.path) for each in gathered.inputs]
    try:
        with Bar(sum(sizes)) as bar:
            for fault in gathered.faults:
                bar.complain(f"error: {fault.name}: {fault.reason}")
            for each, size in zip(gathered.inputs, sizes, strict=True):
                bar.name = f"{count + 1} of {len(sizes)}: {each.path.name}"
                bar.begin(size)
                made, faults = _turn(bar, claims, each, tasks, work)
                done += made
                failed += faults
                count += 1
                bar.at(1)
    except KeyboardInterrupt:
        left = len(sizes) - count
        print(f"interrupted: {done} done, {len(failed)} failed, {left} left", file=sys.stderr)
        return 130
    print(f"{done} done, {len(failed)} failed", file=sys.stderr)
    for name, reason in failed:
        print(f"  failed: {name}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _turn(
    bar: Bar,
    claims: outputs.Claims,
    each: Input,
    tasks: Callable[[Input], Sequence[Task]],
    work: Callable[[Task], str],
) -> tuple[int, list[Fault]]:
    """How many images of a file were made, and what went wrong, which is told."""
    name, done, failed = str(each.path), 0, []

    def fail(error: Exception, which: str = "") -> None:
        fault = Fault(name + which, errors.reason(error, name))
        failed.append(fault)
        bar.complain(f"error: {fault.name}: {fault.reason}")

    try:
        found = tasks(each)
    except Exception as error:  # noqa: BLE001  one file's fault must not end the night's job
        fail(error)
        return 0, failed
    for task in found:
        try:
            claims.claim(task.output, each.path)
            task.output.parent.mkdir(parents=True, exist_ok=True)
            line = work(task)
        except Exception as error:  # noqa: BLE001  as above
            fail(error, f" (signal {task.signal})" if task.signal is not None else "")
            continue
        done += 1
        bar.say(line)
    return done, failed


def _size(path: Path) -> int:
    try:
        return stamp(path).size
    except OSError:
        return 0  # told when its turn comes

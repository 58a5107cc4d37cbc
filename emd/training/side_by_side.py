"""Several sets trained at once, each in lockstep: all nine of the paper in one go.

Owns the threads and the order. A set's program is small, so that one fills little more than a
core: two or more run side by side. Sets of one shape follow one another, and share a program.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from emd import threads
from emd.training import lockstep
from emd.training.lockstep import Plan, State

Losses = Float[np.ndarray, "m i"]


class Done(NamedTuple):
    """A trained set.

    Attributes:
        number: of its task.
        state: after the last iteration.
        losses: of the iterations run.
        measured: what the task's `measure` made of the state, if it has one.
    """

    number: int
    state: State
    losses: Losses
    measured: Any = None


class Task(NamedTuple):
    """A set to train: its plan, where to start, and its pairs (see `lockstep.train`).

    Attributes:
        plan: from `lockstep.make_plan`.
        noisy: crops, normalised.
        restored: the teacher's output for each.
        state: where to start from; the plan's own start without it.
        on_chunk: called after each dispatch with the state, its losses and the seconds since
            this set's start; by one set at a time.
        measure: called with the last state, while other sets train.
    """

    plan: Plan
    noisy: Float[Array | np.ndarray, "n h w"]
    restored: Float[Array | np.ndarray, "_ _ _"]
    state: State | None = None
    on_chunk: Callable[[State, Losses, float], None] | None = None
    measure: Callable[[State], Any] | None = None


def train(
    tasks: Sequence[Task],
    *,
    chunk: int = 1000,
    workers: int | None = None,
    on_done: Callable[[Done], None] | None = None,
) -> list[Done]:
    """Each task's result, in the tasks' order; none depends on the other tasks.

    Ended early, by an error or an interrupt, training stops after the chunks that are under way.

    Args:
        tasks: sets to train.
        chunk: iterations in one dispatch.
        workers: sets that train at a time; as many as there are cores without it.
        on_done: called with each result as soon as it is there, while others still train, by the
            thread that waits.

    Raises:
        ValueError: as `lockstep.train`.
    """
    results: queue.SimpleQueue[Done | Exception] = queue.SimpleQueue()
    gate = _Gate()

    def work(numbers: list[int]) -> None:
        try:
            for number in numbers:
                results.put(_train_one(tasks[number], number, chunk, gate))
        except Exception as error:  # noqa: BLE001  raised below, by the thread that waits
            results.put(error)

    done = []
    with ThreadPoolExecutor(workers or threads.cores()) as pool:
        try:
            for numbers in _by_plan(tasks):
                pool.submit(work, numbers)
            for _ in tasks:
                result = results.get()
                if isinstance(result, Exception):
                    raise result
                done.append(result)
                if on_done is not None:
                    on_done(result)
        finally:
            gate.is_shut.set()
            pool.shutdown(wait=False, cancel_futures=True)
    return sorted(done, key=lambda result: result.number)


class _Gate:
    """Lets one set at a time report, and none once it is shut."""

    def __init__(self) -> None:
        self.is_shut = threading.Event()
        self._lock = threading.Lock()

    @contextmanager
    def passed(self) -> Iterator[None]:
        with self._lock:
            if self.is_shut.is_set():
                raise _StoppedError
            yield


class _StoppedError(Exception):
    """Another set failed, or nobody waits any more."""


def _train_one(task: Task, number: int, chunk: int, gate: _Gate) -> Done:
    began = time.monotonic()

    def note(state: State, losses: Losses) -> None:
        with gate.passed():
            if task.on_chunk is not None:
                task.on_chunk(state, losses, time.monotonic() - began)

    state = lockstep.init_state(task.plan) if task.state is None else task.state
    pairs = task.noisy, task.restored
    state, losses = lockstep.train(task.plan, state, *pairs, chunk=chunk, on_chunk=note)
    return Done(number, state, losses, task.measure(state) if task.measure is not None else None)


def _by_plan(tasks: Sequence[Task]) -> list[list[int]]:
    """The tasks' numbers in groups of one plan, those that take longest first.

    One worker trains a group, set by set: two that began at once would both compile its program.
    """
    groups: dict[Plan, list[int]] = {}
    for number, task in enumerate(tasks):
        groups.setdefault(task.plan, []).append(number)

    def cost(plan: Plan) -> int:
        places = max(member.width for member in plan.members) ** 2
        return len(groups[plan]) * plan.batch * len(plan.members) * plan.crop_px**2 * places

    return [groups[plan] for plan in sorted(groups, key=cost, reverse=True)]

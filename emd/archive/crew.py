"""Owns who does the units: dask, in this process or on the machines of a scheduler."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any

from dask.base import compute
from dask.delayed import delayed

_LOCAL_WORKERS = 2
"""One reads and writes while the other restores, which takes all cores by itself."""

_BATCH_SECONDS = 5.0  # between news; short against a job, long against handing out a batch
_MOST_UNITS = 4096


class Crew:
    """Does units batch by batch, and tells how far it has come.

    Attributes:
      total: how many units the job has.
      before: how many of them had been done before.
    """

    def __init__(
        self, get: Any, workers: int, total: int, progress: Callable[[float], None] | None
    ) -> None:
        """Nothing is done yet.

        Args:
          get: a dask scheduler, as `dask.compute` takes it.
          workers: how many units it does at once.
          total: how many units the job has.
          progress: called with the share that is done, from 0 to 1.
        """
        self._get, self._workers, self._progress = get, workers, progress
        self._batch, self._done = 2 * workers, 0
        self.total, self.before = total, 0

    def found(self, units: int) -> None:
        """Counts units that had been done before."""
        self.before += units
        self._count(units)

    def do(self, units: Sequence[Callable[[], Any]], *, count: bool = True) -> list[Any]:
        """What the units give, in their order; they may be done in any.

        Raises what the first that fails raises; others may go on for a while.
        """
        results: list[Any] = []
        while len(results) < len(units):
            start = time.perf_counter()
            batch = units[len(results) : len(results) + self._batch]
            lazily = [delayed(unit, pure=False, traverse=False)() for unit in batch]
            results += compute(*lazily, scheduler=self._get, num_workers=self._workers)
            if time.perf_counter() - start < _BATCH_SECONDS / 2:
                self._batch = min(2 * self._batch, _MOST_UNITS)
            if count:
                self._count(len(batch))
        return results

    def _count(self, units: int) -> None:
        self._done += units
        if self._progress is not None and units:
            self._progress(min(self._done / self.total, 1.0))


@contextlib.contextmanager
def hired(scheduler: str | None) -> Iterator[tuple[Any, int]]:
    """A dask scheduler, for `Crew`, and how many units it does at once.

    Args:
      scheduler: address of a `dask.distributed` one; None for this process.

    Raises:
      ImportError: distributed is not installed.
      OSError: no scheduler answers, or it has no workers.
    """
    if scheduler is None:
        yield "threads", _LOCAL_WORKERS
        return
    try:
        import distributed
    except ImportError:
        raise ImportError(
            "--scheduler needs the package distributed: pip install 'emd-micrograph[scale]'"
        ) from None
    make: Any = distributed.Client
    try:
        client: Any = make(scheduler, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        reason = " ".join(str(error).split())[:200]
        raise OSError(f"{scheduler}: no dask scheduler answers ({reason})") from None
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise OSError(f"{scheduler}: has no workers: start some with `dask worker {scheduler}`")
        try:
            yield client.get, threads
        except (distributed.KilledWorker, CancelledError) as error:
            reason = " ".join(str(error).split())[:200]
            raise OSError(
                f"{scheduler}: its workers died ({reason}): give them more memory, and run again: "
                "what is done is kept"
            ) from None

"""Owns the sharing of work between the cores: threads, for work that lets go of Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share(
    work: Callable[[_In], _Out], items: Iterable[_In], *, workers: int | None = None
) -> list[_Out]:
    """What `work` makes of each item, in their order, made by several threads at once.

    After an error what is not yet begun is left, and the error comes out.

    Args:
      work: NumPy's, jax's and OpenCV's functions run at the same time as one another.
      items: what to work on.
      workers: threads at most; one a core if not given.
    """
    todo = list(items)
    workers = min(workers or cores(), len(todo))
    if workers < 2:
        return [work(item) for item in todo]
    with ThreadPoolExecutor(workers) as pool:
        try:
            return list(pool.map(work, todo))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise

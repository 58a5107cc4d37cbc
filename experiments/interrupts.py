"""Ctrl-C and termination signals, noted for a loop that wants to end in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noted() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether Ctrl-C or a termination signal has come.

    A second one ends the program at once. Afterwards signals mean what they did before.
    """
    came = threading.Event()
    before = {}

    def note(number: int, _: FrameType | None) -> None:
        came.set()
        signal.signal(number, signal.SIG_DFL)

    # only the main thread of a program may handle signals
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    try:
        yield came.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

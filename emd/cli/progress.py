"""Owns the progress bar: bytes of input, rate and time left, and lines told while it is there."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TextIO, cast

from tqdm import tqdm

_DELAY_S = 0.5  # what is done sooner needs no bar


class _Patient:
    """A stream that nobody may be reading any more."""

    def __init__(self, stream: Any) -> None:
        """Passes on what it is told."""
        self._stream = stream

    def write(self, text: str) -> int:
        """How much was told, or would have been."""
        with self._unless_closed():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""
        with self._unless_closed():
            self._stream.flush()

    @contextlib.contextmanager
    def _unless_closed(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:  # what is told from now on goes nowhere, at the end as well
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """Lets a job go on when nobody reads what it tells, as under `| head`: its record has all."""
    out, errors = (cast(TextIO, _Patient(stream)) for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        yield


class Bar:
    """A progress bar on stderr; nothing where that is no terminal.

    Attributes:
      name: of what is worked on, to stand beside the bar from the next `begin` on.
    """

    def __init__(self, size: int, name: str = "") -> None:
        """Stands at 0 of `size` bytes."""
        self.name = name
        self._bar: tqdm[Any] = tqdm(
            total=size,
            unit="B",
            unit_scale=True,
            dynamic_ncols=True,
            disable=None,
            leave=False,
            delay=_DELAY_S,
            smoothing=0.1,  # files differ: the rate of the last one says little
        )
        self._start = 0.0
        self._size = 0.0

    def __enter__(self) -> Bar:
        """The bar."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Takes it off the terminal."""
        self._bar.close()

    def begin(self, size: int | float) -> None:
        """Nothing; `at` then counts within a piece of `size` bytes."""
        self._start, self._size = float(self._bar.n), size
        self._bar.set_postfix_str(self.name, refresh=False)

    def at(self, share: int | float) -> None:
        """Nothing; the bar then stands at a share of the piece, from 0 to 1."""
        self._bar.update(self._start + share * self._size - self._bar.n)

    def leave_out(self, size: int | float) -> None:
        """Nothing; bytes that are not worked on then count neither as done nor as to do."""
        if self._bar.total is not None:
            self._bar.total -= size
            self._bar.refresh()

    def say(self, line: str) -> None:
        """Nothing; a line then stands above the bar, on stdout."""
        self._bar.write(line, file=sys.stdout)
        sys.stdout.flush()

    def complain(self, line: str) -> None:
        """The same on stderr."""
        self._bar.write(line, file=sys.stderr)

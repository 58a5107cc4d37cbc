"""Seconds a megapixel of each contestant, on one core.

In a process of its own that may use one core only, so that no library spreads its work, and by the
time that the core gave to it, so that what else runs on the machine does not count.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from experiments.benchmark import peers
from experiments.dose import contestants, fields, published, unet

SIDE_PX = 512
_DOSE = 10.0
_TUNING_PX = 64  # what a parameter is does not change the time much


def measure(names: Sequence[str], *, root: str | None, repeats: int) -> dict[str, float]:
    """Return the seconds a megapixel of contestants by name, and of the U-Net if asked for.

    Those whose library is not installed are left out.
    """
    if not names:
        return {}
    context = multiprocessing.get_context("spawn")
    with one_core(), context.Pool(1) as pool:
        return pool.apply(_measure, (list(names), root, repeats))


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this thread, and processes that begin meanwhile, on one of the cores it may use."""
    if not hasattr(os, "sched_setaffinity"):  # macOS and Windows
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _measure(names: list[str], root: str | None, repeats: int) -> dict[str, float]:
    (tuning,) = fields.draw(fields.HEXAGONAL, _DOSE, fields.TUNING, count=1, side_px=_TUNING_PX)
    (sample,) = fields.draw(fields.HEXAGONAL, _DOSE, fields.EVALUATION, count=1, side_px=SIDE_PX)
    found = {}
    for name in names:
        if name == published.U_NET:
            try:
                apply = unet.restore()
            except peers.MissingLibraryError:
                continue
            spent = _least(lambda apply=apply: apply(sample.noisy), repeats)  # type: ignore[misc]
        else:
            ready = contestants.named(name, root).prepare([tuning])
            spent = _least(lambda ready=ready: ready.restore(sample), repeats)  # type: ignore[misc]
        found[name] = spent / (SIDE_PX**2 / 1e6)
        print(f"{name}: {found[name]:.3g} s a megapixel", file=sys.stderr, flush=True)
    return found


def _least(run: Callable[[], object], repeats: int) -> float:
    run()  # what is compiled or loaded at first use is no part of it
    times = []
    for _ in range(repeats):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return min(times)

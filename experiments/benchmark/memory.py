"""What one job costs in a process of its own: seconds, and peak memory above the idle process.

`measure` starts the process: this module run as a program, a task and its arguments as JSON in,
the cost as JSON out. Idle is the process that has imported everything and loaded the model.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from emd import checkpoint
from emd.models.pixelwise import Kernel
from emd.restore import denoise
from emd.training import devices, lockstep
from experiments.benchmark import distillation, training

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESULT = "cost: "
_LONG_S = 30.0  # what takes longer is done once: compilation is a small part of it
_ENOUGH_S = 1.5  # all else is repeated until it has taken so long, five times at most

ResultT = TypeVar("ResultT")


class Cost(NamedTuple):
    """What a job costs.

    Attributes:
      first: seconds of the first time, compilation included.
      seconds: of the fastest time after the first; of the first where that is longer than 30.
      peak_bytes: resident memory above the idle process, at most.
      device_bytes: memory of the GPU in use at most; 0 on a CPU.
    """

    first: float
    seconds: float
    peak_bytes: int
    device_bytes: int


def resident_peak(work: Callable[[], ResultT]) -> tuple[ResultT, int]:
    """What `work` gives, and by how many bytes at most it raised this process's resident memory.

    Where the kernel keeps no peak that can be reset, the rise of the peak over the whole life.
    """
    try:
        _CLEAR.write_text("5")
        before, peak = _status_bytes("VmRSS"), functools.partial(_status_bytes, "VmHWM")
    except OSError:
        before, peak = _life_peak(), functools.partial(_life_peak)
    result = work()
    return result, peak() - before


def _status_bytes(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no {name}")


def _life_peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure(task: str, *, host_devices: int | None = None, **arguments: Any) -> Cost:
    """The cost of a task in a new process.

    Args:
      task: a name in `TASKS`.
      host_devices: how many devices a CPU is to pass for.
      arguments: of the task.

    Raises:
        RuntimeError: the process failed; the message ends with its last line.
    """
    environment = dict(os.environ)
    if host_devices is not None:
        flag = f"--xla_force_host_platform_device_count={host_devices}"
        environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {flag}".strip()
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(
        part for part in (root, environment.get("PYTHONPATH", "")) if part
    )
    command = [sys.executable, "-m", __spec__.name, json.dumps({"task": task, **arguments})]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith(_RESULT):
            return Cost(**json.loads(line.removeprefix(_RESULT)))
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    raise RuntimeError(f"{task} {arguments}: {last}")


def _repeat(prepare: Callable[[], Callable[[], object]]) -> Cost:
    """The cost of a job, made ready by `prepare`: its data counts as memory, not as time."""

    def work() -> tuple[float, float]:
        job = prepare()
        first = _clock(job)
        later: list[float] = []
        while first < _LONG_S and len(later) < 5 and sum(later) < _ENOUGH_S:
            later.append(_clock(job))
        return first, min(later, default=first)

    (first, best), peak = resident_peak(work)
    statistics = jax.local_devices()[0].memory_stats() or {}
    return Cost(first, best, peak, int(statistics.get("peak_bytes_in_use", 0)))


def _clock(job: Callable[[], object]) -> float:
    began = time.perf_counter()
    job()
    return time.perf_counter() - began


def _restore(model: str, side: int) -> Cost:
    """`emd.restore.denoise` of one float32 image."""
    loaded = checkpoint.load(model)
    jax.block_until_ready(loaded.variables)

    def prepare() -> Callable[[], object]:
        image = np.empty((side, side), np.float32)
        ramp = 100 + np.arange(side, dtype=np.float32) % 61
        for row in range(side):  # row by row, so that nothing but the image is held
            np.add(ramp, row % 53, out=image[row])
        return lambda: denoise(image, loaded)

    return _repeat(prepare)


def _train(batch: int, data_parallel: bool) -> Cost:
    """A training step of the 16-deep autoencoder; with `data_parallel` over all devices."""
    mesh = devices.make_mesh(batch) if data_parallel else None
    side = training.ours(batch, mesh=mesh)
    cost = _repeat(lambda: side.run)
    return cost._replace(seconds=cost.seconds * side.scale)  # a run is several steps


def _lockstep(widths: list[int], iterations: int) -> Cost:
    """So many iterations of kernels of these widths in lockstep."""
    plan = lockstep.make_plan([Kernel(width) for width in widths], steps=10**6)
    pairs = [jax.device_put(half) for half in distillation.make_pairs()]

    def prepare() -> Callable[[], object]:
        state = [lockstep.init_state(plan)]

        def job() -> None:
            until = int(state[0].step) + iterations
            state[0], _ = lockstep.train(plan, state[0], *pairs, until=until)

        return job

    return _repeat(prepare)


TASKS: Mapping[str, Callable[..., Cost]] = {
    "restore": _restore,
    "train": _train,
    "lockstep": _lockstep,
}


def main(text: str) -> None:
    """Prints the cost of the task that `text` describes."""
    arguments = json.loads(text)
    cost = TASKS[arguments.pop("task")](**arguments)
    print(_RESULT + json.dumps(cost._asdict()))


if __name__ == "__main__":
    main(sys.argv[1])

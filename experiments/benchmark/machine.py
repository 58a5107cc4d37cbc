"""The machine: its name for files and rows, and the rates that its limits are computed from."""

from __future__ import annotations

import concurrent.futures
import functools
import importlib.util
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

CACHED_BYTES = 64 * 2**20
"""Jobs that move less are held against the rate of copies that stay in a cache."""

_GEMM_SIDE = {"cpu": 2048, "gpu": 8192}
_TRY_S = 0.7
_SMALL, _LARGE = 2**22, 2**27  # float32 values: 16 MiB, one image of 2048x2048, and 512 MiB


class Rates(NamedTuple):
    """What the machine reached just now: its best over several tries and libraries.

    Attributes:
      gemm: float32 matrix products [FLOP/s], by precision: "float32", and "tf32" and "bfloat16"
        where the machine has them.
      copy_small: bytes read and written by copies of 16 MiB [byte/s].
      copy_large: the same for 512 MiB, which fit no cache of one core.
    """

    gemm: dict[str, float]
    copy_small: float
    copy_large: float

    def copy(self, moved: float) -> float:
        """The rate for a job that moves so many bytes."""
        return self.copy_small if moved < CACHED_BYTES else self.copy_large


def on_gpu() -> bool:
    """Whether jax runs on a GPU."""
    return jax.default_backend() == "gpu"


def device_name() -> str:
    """What the rows call the device."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return f"{os.cpu_count()} CPU cores"
    count = jax.device_count()
    return device.device_kind + (f" x{count}" if count > 1 else "")


def slug() -> str:
    """The machine's name in file names: `cpu-2core`, `nvidia-h200`."""
    if not on_gpu():
        return f"cpu-{os.cpu_count()}core"
    return re.sub(r"[^a-z0-9]+", "-", device_name().lower()).strip("-")


def cpu_model() -> str:
    """The processor as /proc names it, and its widest vectors; empty where there is no /proc."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return ""
    fields = dict(
        re.split(r"\s*:\s*", line, maxsplit=1)
        for line in path.read_text().splitlines()
        if ":" in line
    )
    flags = fields.get("flags", "").split()
    vectors = [name for name in ("amx_tile", "avx512f", "avx2") if name in flags]
    return " ".join([fields.get("model name", ""), *vectors]).strip()


def measure_rates() -> Rates:
    """The machine's rates, measured now; takes a few seconds."""
    if on_gpu():
        names = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}
        gemm = {name: _gemm_jax(precision) for name, precision in names.items()}
        return Rates(gemm, _copy_jax(_SMALL), _copy_jax(_LARGE))
    plain = max(_gemm_numpy(), _gemm_jax("highest"), _gemm_torch())
    return Rates({"float32": plain}, _copy_threads(_SMALL), _copy_threads(_LARGE))


def _best(call: Callable[[], object]) -> float:
    """Seconds of the fastest of as many calls as fit a moment, after a first one."""
    call()
    times: list[float] = []
    while sum(times) < _TRY_S:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def _square() -> Any:
    side = _GEMM_SIDE["gpu" if on_gpu() else "cpu"]
    return np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)


def _gemm_numpy() -> float:
    a = _square()
    out = np.empty_like(a)
    return 2 * len(a) ** 3 / _best(lambda: np.matmul(a, a, out=out))


def _gemm_jax(precision: str) -> float:
    a = jnp.asarray(_square())
    if precision == "bfloat16":
        a = a.astype(jnp.bfloat16)
    with jax.default_matmul_precision(precision):
        product = jax.jit(lambda x: x @ x)
        return 2 * len(a) ** 3 / _best(lambda: product(a).block_until_ready())


def _gemm_torch() -> float:
    if importlib.util.find_spec("torch") is None:
        return 0.0
    torch = importlib.import_module("torch")
    a = torch.from_numpy(_square())
    out = torch.empty_like(a)
    return 2 * len(a) ** 3 / _best(lambda: torch.matmul(a, a, out=out))


def _copy_jax(values: int) -> float:
    x = jnp.zeros(values, jnp.float32)
    move = jax.jit(lambda x: x + 1)
    return 8 * values / _best(lambda: move(x).block_until_ready())


def _copy_threads(values: int) -> float:
    """NumPy copies without the interpreter's lock, so one thread a core does."""
    count = os.cpu_count() or 1
    source, target = np.ones(values, np.float32), np.ones(values, np.float32)
    parts = list(zip(np.array_split(target, count), np.array_split(source, count), strict=True))
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        copy = functools.partial(pool.map, lambda part: np.copyto(*part), parts)
        return 8 * values / _best(lambda: list(copy()))

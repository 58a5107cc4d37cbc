"""Owns the device that a command runs on: chosen before jax starts any, and told aloud.

Imports jax: to be imported where a command runs, not where its arguments are read.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from pathlib import Path

import jax

from emd.threads import cores

_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")


def select(wanted: str | None) -> jax.Device:
    """The device that everything then runs on: the one wanted, or jax's own choice for None.

    Args:
      wanted: a platform ("cpu", "gpu", "cuda", "rocm", "tpu"), with ":NUMBER" for one of several.

    Raises:
      ValueError: there is no such device; the message lists those there.
    """
    if wanted is None:
        return _devices()[0]
    found = re.fullmatch(r"([a-z]+)(?::(\d+))?", wanted.lower())
    if found is None:
        raise ValueError(f"--device {wanted}: write it as cpu, gpu, tpu or cuda:1")
    platform, number = found[1], int(found[2] or 0)
    # JAX_PLATFORMS in the environment is a habit, the option a wish
    jax.config.update("jax_platforms", "cpu" if platform == "cpu" else None)
    if found[2] is not None:
        # jax would take most of the memory of every GPU, those of other people's jobs included
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        device = jax.devices(platform)[number]
    except (RuntimeError, IndexError):
        there = ", ".join(_names(_devices()))
        raise ValueError(f"--device {wanted}: there is none: use one of {there}") from None
    jax.config.update("jax_default_device", device)
    return device


def _devices() -> list[jax.Device]:
    """Those of the fastest kind, then the CPU's."""
    fastest = jax.devices()
    return fastest if fastest[0].platform == "cpu" else [*fastest, *jax.devices("cpu")]


def _names(devices: list[jax.Device]) -> list[str]:
    platforms = [device.platform for device in devices]
    numbers = [platforms[:k].count(platform) for k, platform in enumerate(platforms)]
    return [
        f"{platform}:{number}" if platforms.count(platform) > 1 else platform
        for platform, number in zip(platforms, numbers, strict=True)
    ]


def describe(device: jax.Device) -> str:
    """A device in words: "cpu (2 cores)", "gpu (NVIDIA H100, 75 GiB)", "gpu:1 of 4 (...)"."""
    if device.platform == "cpu":
        count = cores()
        return f"cpu ({count} core{'s' * (count != 1)})"
    alike = jax.devices(device.platform)
    name = device.platform
    if len(alike) > 1:
        name = f"{name}:{alike.index(device)} of {len(alike)}"
    free = (device.memory_stats() or {}).get("bytes_limit", 0)
    memory = f", {free / 2**30:.0f} GiB" if free else ""
    return f"{name} ({device.device_kind}{memory})"


def warning(device: jax.Device, wanted: str | None) -> str | None:
    """A line about a GPU that lies idle though nobody asked for the CPU; None where all is well."""
    if device.platform != "cpu" or wanted is not None or not _has_nvidia():
        return None
    if os.environ.get("JAX_PLATFORMS"):
        remedy = f"JAX_PLATFORMS={os.environ['JAX_PLATFORMS']} forbids it: give --device gpu"
    elif any(importlib.util.find_spec(name) for name in _PLUGINS):
        remedy = "jax has its CUDA plugin, yet finds none: is the driver recent enough?"
    else:
        remedy = "pip install 'emd-micrograph[cuda12]' makes use of it"
    return f"an NVIDIA GPU is here, but jax runs on the CPU: {remedy}"


def _has_nvidia() -> bool:
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()

"""Facts about a run that go into a model's card: command, commit, device, versions, date."""

from __future__ import annotations

import datetime
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jax


def facts() -> dict[str, str]:
    """Return what identifies this run and the machine it runs on."""
    device = jax.devices()[0]
    versions = [f"{name} {metadata.version(name)}" for name in ("jax", "flax", "optax")]
    module = Path(sys.argv[0])
    program = f"python -m {module.parent.name}.{module.stem}"
    return {
        "command": " ".join([program, *sys.argv[1:]]),
        "commit": commit(),
        "device": f"{device.platform} {device.device_kind}, {platform.machine()}",
        "versions": ", ".join([f"python {platform.python_version()}", *versions]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def commit() -> str:
    """Return the checkout's commit, marked where files differ from it; unknown outside one."""
    git = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
    ]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"

"""Facts about a run that go into a model's card: command, commit, device, versions, date."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import jax

from emd import checkpoint
from experiments.cards.sources import of_card


def facts() -> dict[str, str]:
    """Return what identifies this run and the machine it runs on."""
    device = jax.devices()[0]
    kind = f"{os.cpu_count()} CPU cores" if device.platform == "cpu" else device.device_kind
    versions = [f"{name} {metadata.version(name)}" for name in ("jax", "flax", "optax")]
    return {
        "command": command(sys.argv),
        "commit": commit(),
        "device": f"{kind}, {platform.machine()}",
        "versions": ", ".join([f"python {platform.python_version()}", *versions]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def descent(start: str | None, sources: str) -> dict[str, str]:
    """Return a card's facts of where a run's weights come from.

    Args:
        start: the model whose weights it started from; None for random ones.
        sources: ``real_sources`` of this run.

    Returns:
        ``start``; ``before``, the runs that made the start, the first one first; ``real_sources``
        of all these runs.
    """
    if start is None:
        return {"start": "random", "real_sources": sources}
    card = checkpoint.load(start).card
    run = (
        f"{card.get('batches', '?')}x{card.get('batch_size', '?')} "
        f"{card.get('dataset', '?')} {card.get('objective', 'reproduce')}"
    )
    named = {*of_card(card), *of_card({"real_sources": sources})}
    return {
        "start": Path(start).name,
        "before": f"{card['before']}, {run}" if "before" in card else run,
        "real_sources": ", ".join(sorted(named)) or "none",
    }


def command(argv: Sequence[str]) -> str:
    """Return the command that a program was run by.

    Of absolute paths and those that lead out of the folder, which say nothing elsewhere, the last
    part.
    """
    program = Path(argv[0])
    words = [f"python -m {program.parent.name}.{program.stem}"]
    for word in argv[1:]:
        name, equals, value = word.rpartition("=")
        leads_out = Path(value).is_absolute() or value.startswith("..")
        words.append(name + equals + (Path(value).name if leads_out else value))
    return " ".join(words)


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
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return "unknown"
    return done.stdout.strip() or "unknown"

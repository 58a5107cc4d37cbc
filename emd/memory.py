"""Owns how much memory is left: of the machine, of its container and of the process."""

import os
from collections.abc import Iterator
from pathlib import Path

_UNKNOWN = 2**32  # where the system does not tell
_ROOT = Path("/")


def free_bytes() -> int:
    """Memory that this process may still take, by the tightest limit that is known [bytes].

    Linux tells what is available; a container (cgroup) and `ulimit -v` may leave less. Elsewhere
    half of the memory that is built in counts as free.
    """
    return max(0, min(_limits(), default=_UNKNOWN))


def _limits() -> Iterator[int]:
    available = _table(_ROOT / "proc/meminfo").get("MemAvailable")
    if available is not None:
        yield available
    elif hasattr(os, "sysconf"):
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    yield from _container()
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    taken = _table(_ROOT / "proc/self/status").get("VmSize")
    if limit != resource.RLIM_INFINITY and taken is not None:
        yield limit - taken


def _container() -> Iterator[int]:
    """What the groups of processes that this one is in may still take, from it up to the root."""
    try:
        lines = (_ROOT / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, inside = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = _ROOT / "sys/fs/cgroup" / ("memory" if controllers else "")
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        names = names if controllers else ("memory.max", "memory.current", "inactive_file")
        group = top / inside.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(top):
                break
            limit, used = (_number(folder / name) for name in names[:2])
            if limit is not None and used is not None:
                # copies of files count as used, and make room as soon as it is asked for
                yield limit - used + _table(folder / "memory.stat").get(names[2], 0)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" is no limit
        return None


def _table(path: Path) -> dict[str, int]:
    """The numbers in a file with a name and a number, of kB in /proc, a line [bytes]."""
    found = {}
    try:
        for line in path.read_text().splitlines():
            match line.replace(":", " ").split():
                case [name, value, "kB"]:
                    found[name] = int(value) * 1024
                case [name, value] if value.isdecimal():
                    found[name] = int(value)
    except OSError:
        pass
    return found

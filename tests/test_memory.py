"""Limits of the machine, of containers old and new, and of the process; the tightest counts."""

import pathlib
import subprocess
import sys

import pytest

from emd import memory

KIB = 1024


@pytest.fixture
def system(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A root folder of which the memory's files can be set, without any limit yet."""
    monkeypatch.setattr(memory, "_ROOT", tmp_path)
    put(tmp_path / "proc/meminfo", "MemTotal: 999999 kB\nMemAvailable:    5000 kB\nOther: 3\n")
    return tmp_path


def put(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_what_the_machine_has_available(system: pathlib.Path) -> None:
    assert memory.free_bytes() == 5000 * KIB


@pytest.mark.parametrize(
    ("line", "folder", "limit", "used"),
    [
        ("0::/user/job", "sys/fs/cgroup/user/job", "memory.max", "memory.current"),
        ("0::/user/job", "sys/fs/cgroup/user", "memory.max", "memory.current"),
        ("0::/", "sys/fs/cgroup", "memory.max", "memory.current"),
        (
            "9:memory:/docker/1",
            "sys/fs/cgroup/memory/docker/1",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
        ),
        (
            "9:memory:/docker/1",
            "sys/fs/cgroup/memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
        ),
    ],
)
def test_a_container_and_those_around_it(
    system: pathlib.Path, line: str, folder: str, limit: str, used: str
) -> None:
    put(system / "proc/self/cgroup", f"3:cpu:/elsewhere\n{line}\n")
    put(system / folder / limit, "max\n")
    put(system / folder / used, "1000\n")
    assert memory.free_bytes() == 5000 * KIB
    put(system / folder / limit, "4000\n")
    assert memory.free_bytes() == 3000
    put(system / folder / used, "9000\n")
    assert memory.free_bytes() == 0


@pytest.mark.parametrize(
    ("line", "folder", "limit", "used", "cache"),
    [
        ("0::/", "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        (
            "9:memory:/",
            "sys/fs/cgroup/memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ],
)
def test_copies_of_files_make_room_in_a_container(
    system: pathlib.Path, line: str, folder: str, limit: str, used: str, cache: str
) -> None:
    put(system / "proc/self/cgroup", f"{line}\n")
    put(system / folder / limit, "4000\n")
    put(system / folder / used, "3900\n")
    put(system / folder / "memory.stat", f"active_file 50\n{cache} 2500\nunevictable 9\n")
    assert memory.free_bytes() == 2600


def test_a_limit_of_the_process() -> None:
    code = "from emd.memory import free_bytes; print(free_bytes())"
    limited = f"ulimit -v 2000000; exec {sys.executable} -c '{code}'"
    root = pathlib.Path(memory.__file__).parents[1]
    told = subprocess.run(
        ["bash", "-c", limited], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert 0 < int(told) < 2_000_000 * KIB


def test_a_system_that_tells_nothing(tmp_path: pathlib.Path, monkeypatch) -> None:
    monkeypatch.setattr(memory, "_ROOT", tmp_path)
    monkeypatch.setattr(memory.os, "sysconf", {"SC_PHYS_PAGES": 50, "SC_PAGE_SIZE": 10}.get)
    assert memory.free_bytes() == 250
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory.free_bytes() == memory._UNKNOWN

"""Owns how a file comes to its place: whole, or not at all."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write a file or folder to, which takes its place when all went well.

    After an error `path` is what it was, and nothing is left beside it.

    Args:
      path: the file to make or replace; its folder must exist.

    Raises:
      OSError: the disk is full or may not be written: one line that names `path`.
    """
    target = path.resolve()  # a link stays a link
    temporary = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield temporary
        for file in [temporary] if temporary.is_file() else temporary.rglob("*"):
            if file.is_file():
                with file.open("rb+") as written:
                    os.fsync(written.fileno())
        if temporary.is_dir():
            replace_folder(temporary, target)
        else:
            temporary.replace(target)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise OSError(error.errno, f"not written ({reason})", str(path)) from error
    finally:
        _remove(temporary)


def replace_folder(new: Path, place: Path) -> None:
    """Nothing; `new` is then in `place`, and what was there is gone, or all is as it was."""
    old = place.with_name(f".{place.name}-old")
    if old.exists() and not place.exists():
        os.rename(old, place)  # a kill came between the two renames below
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        os.rename(place, old)
    try:
        os.rename(new, place)
    except OSError:
        if old.exists():
            os.rename(old, place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

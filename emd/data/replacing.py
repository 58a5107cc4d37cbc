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
        if target.is_dir():  # no system replaces a folder that is not empty
            _remove(target)
        temporary.replace(target)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise OSError(error.errno, f"not written ({reason})", str(path)) from error
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

"""Owns how what went wrong is told: in one line."""

from __future__ import annotations


def one_line(error: BaseException) -> str:
    """What an error says, the file's name before an operating system's own words."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


def reason(error: BaseException, name: str) -> str:
    """The same without the name of the file that it is about, where it begins with that."""
    text = one_line(error).removeprefix(f"{name}: ")
    is_ours = isinstance(error, OSError | ValueError | MemoryError | ImportError)
    return text if is_ours else f"unexpected {type(error).__name__}: {text}"

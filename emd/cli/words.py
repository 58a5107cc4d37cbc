"""Owns how numbers and tables are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def number(value: float) -> str:
    """A number in four digits, or in all before the point up to a billion."""
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def size(shape: Sequence[int]) -> str:
    """The sides of an image or stack: "3x512x512"."""
    return "x".join(map(str, shape))


def settings(named: Mapping[str, Any]) -> str:
    """What something was set to: "lossless", "step 2.5"."""
    told = []
    for name, value in named.items():
        text = number(value) if isinstance(value, float) else str(value)
        told.append(" ".join([*name.split("_"), *([] if value is True else [text])]))
    return ", ".join(told)


def table(rows: Iterable[tuple[str, str]], indent: str = "") -> str:
    """Lines of names and what they stand for, in two columns."""
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{indent}{name:{width}}  {text}".rstrip() for name, text in rows)

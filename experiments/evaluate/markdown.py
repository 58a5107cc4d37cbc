"""Markdown: tables whose best cells stand out, and the names that readers know models by."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from emd.zoo import ModelConfig

DOMAINS = {"tem": "TEM", "stem": "STEM", "temstem": "TEM+STEM"}
"""The paper's names of the domains."""

NONE = "-"
"""What stands in a cell without a value."""

_FAMILIES = {
    "autoencoder": "Autoencoder, latent depth {}",
    "kernel": "Kernel, width {}",
    "mlp1": "MLP, 1 hidden layer, width {}",
    "mlp2": "MLP, 2 hidden layers, width {}",
}


def title(config: ModelConfig) -> str:
    """Return what the paper calls a model, without its domain."""
    return _FAMILIES[config.family].format(config.size)


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, text: Collection[int] = (0,)
) -> str:
    """Return a table, padded so that it reads as text; columns ``text`` left, the others right.

    Raises:
        ValueError: a row has more or fewer cells than the header.
    """
    if any(len(row) != len(header) for row in rows):
        raise ValueError(f"a row without {len(header)} cells: give one for each of {header}")
    widths = [max(3, *(len(line[k]) for line in (header, *rows))) for k in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if k in text else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * (width - 1) + ("-" if k in text else ":") for k, width in enumerate(widths)]
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])


def lowest(values: Sequence[float | None]) -> int | None:
    """Return where the lowest of these values is; None where none is known."""
    known = [(value, i) for i, value in enumerate(values) if value is not None]
    return min(known)[1] if known else None


def write(path: Path, parts: Sequence[str]) -> None:
    """Write paragraphs and tables to a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    partial.write_text("\n\n".join(part for part in parts if part) + "\n")
    partial.replace(path)

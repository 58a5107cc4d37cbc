"""`emd models`: what there is, and how far each is trained."""

from __future__ import annotations

import argparse

from emd.cli import shelf


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Nothing; the parser then knows the command."""
    parser = commands.add_parser(
        "models",
        help="list all models, and what is there of each",
        description="List all models by name, and how far each is trained.",
    )
    shelf.add_option(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    root = shelf.root(arguments)

    from emd import checkpoint, zoo

    cards = checkpoint.available(root=root)
    rows = [("model", "batches trained", "crops each", "size [kB]", "validation MSE")]
    others = (name for name in cards if name not in zoo.MODELS)
    for name in (*zoo.MODELS, *others):
        config = zoo.find(name)
        if name not in cards:
            rows.append((name, f"not trained ({zoo.training_command(config)})", "", "", ""))
            continue
        card = cards[name]
        if config.published:
            rows.append((name, "as printed", "-", "-", _mse(card)))
            continue
        size = f"{checkpoint.size_bytes(name, root=root) / 1000:.0f}"
        full = card.get("full_schedule", zoo.FULL_SCHEDULE[config.family])
        trained = f"{card.get('batches', '?')} of {full}"
        rows.append((name, trained, card.get("batch_size", "?"), size, _mse(card)))
    widths = [max(len(row[k]) for row in rows if row[2]) for k in range(5)]
    widths[0] = max(len(row[0]) for row in rows)
    for name, trained, *numbers in rows:
        line = f"{name:{widths[0]}}  {trained:{widths[1]}}"
        cells = (f"{text:>{width}}" for text, width in zip(numbers, widths[2:], strict=True))
        print("  ".join((line, *cells)).rstrip())


def _mse(card: dict[str, str]) -> str:
    try:
        return f"{float(card['validation_mse']):.5f}"
    except (KeyError, ValueError):
        return "-"

"""How models stand to their yardsticks, how far they were trained and on what: from their cards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from emd import checkpoint, zoo
from experiments.autoencoder_card import PAPER_BATCH
from experiments.cards import sources
from experiments.linear_code import BLOCK_PX

Card = dict[str, str]

TIE = 1.02
"""Up to this ratio to a yardstick a model that is above it counts as level with it."""

NONE = "-"

_UNTRAINED = ("not trained", *(6 * [NONE]))
_NUMBER = re.compile(rf"[-+*]*[\d.]+( %)?\**|{NONE}")


class Entry(NamedTuple):
    """A model, and its card; None where it is not there."""

    config: zoo.ModelConfig
    card: Card | None


class Yardstick(NamedTuple):
    """What a model is held against: its name, the card's key, and the key of the model's own."""

    name: str
    key: str
    own: str = "validation_mse"


LINEAR = Yardstick("the linear code", "linear_code_mse")
LINEAR_WHOLE = Yardstick(
    "the linear code on whole micrographs", "linear_code_mse_whole", "validation_mse_whole"
)
IDENTITY = Yardstick("no change", "identity_mse")
MEAN3 = Yardstick("the 3x3 mean", "mean3_mse")
CLOSED_FORM = Yardstick("the best kernel", "closed_form_kernel_mse")


def entries(root: Path, *families: str) -> list[Entry]:
    """Return models of these families with the cards that are there, the paper's in its order."""
    return [
        Entry(
            config,
            checkpoint.read_card(root / config.name / "card.md")
            if checkpoint.is_there(root / config.name)
            else None,
        )
        # others taught otherwise than the paper's have their own cards alone
        for config in (*zoo.PAPER_MODELS, *zoo.SKIP_MODELS)
        if config.family in families
    ]


def yardsticks_of(config: zoo.ModelConfig) -> tuple[Yardstick, ...]:
    """Return what a model is held against.

    A linear code of 64 numbers for 64 pixels loses nothing, so it is no yardstick.
    """
    if config.family != "autoencoder":
        return IDENTITY, MEAN3, CLOSED_FORM
    return (LINEAR, LINEAR_WHOLE) if config.size < BLOCK_PX**2 else ()


def ratio(card: Card | None, yardstick: Yardstick) -> float | None:
    """Return a model's error over its yardstick's; None where its card lacks one of them."""
    own, other = number(card, yardstick.own), number(card, yardstick.key)
    return own / other if own is not None and other else None


def number(card: Card | None, fact: str) -> float | None:
    """Return a fact of a card as a number; None where it has none."""
    try:
        return float((card or {})[fact])
    except (KeyError, ValueError):
        return None


def verdict(entry: Entry) -> str:
    """Return whether a model beats its yardsticks, as a cell of a table."""
    if entry.card is None:
        return NONE
    held = yardsticks_of(entry.config)
    if not held:
        return "no yardstick"
    ratios = {one.name: ratio(entry.card, one) for one in held}
    if unknown := [name for name, value in ratios.items() if value is None]:
        return f"not measured against {', '.join(unknown)}"
    found = [(name, value) for name, value in ratios.items() if value is not None]
    lost = [f"{name} ({value:.2f})" for name, value in found if value > TIE]
    level = [f"{name} ({value:.3f})" for name, value in found if 1 < value <= TIE]
    parts = [f"**loses to {', '.join(lost)}**"] if lost else []
    parts += [f"level with {', '.join(level)}"] if level else []
    return "; ".join(parts) or "beats all"


def losers(listed: Sequence[Entry]) -> list[str]:
    """Return the names of the models that lose to a yardstick."""
    return [entry.config.name for entry in listed if "loses" in verdict(entry)]


def summary(listed: Sequence[Entry]) -> str:
    """Return a sentence on which models are there, and one on those that lose to a yardstick."""
    there = [entry for entry in listed if entry.card is not None]
    missing = [entry.config.name for entry in listed if entry.card is None]
    held = [entry for entry in there if yardsticks_of(entry.config)]
    lost = losers(held)
    text = f"{len(there)} of {len(listed)} are here"
    text += f"; not trained yet: {_code(missing)}." if missing else "."
    if not held:
        return text
    if not lost:
        return f"{text} None loses to its yardsticks."
    return f"{text} **{len(lost)} of {len(held)} lose to a yardstick:** {_code(lost)}."


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; columns of numbers are aligned to the right."""
    columns = zip(*rows, strict=True)
    rule = ["--:" if all(map(_NUMBER.fullmatch, column)) else ":--" for column in columns]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *rows))


def cell(value: float | None, digits: int = 4) -> str:
    """Return a number to so many digits, or a dash."""
    return NONE if value is None else f"{value:#.{digits}g}".rstrip(".")


def times(value: float | None) -> str:
    """Return a ratio as a cell, in bold where the model loses."""
    if value is None:
        return NONE
    text = f"{value:.2f}" if not 0.995 <= value < 1.005 else f"{value:.3f}"
    return f"**{text}**" if value > TIE else text


def schedule(listed: Sequence[Entry]) -> str:
    """Return a table of how far models were trained, on what and by what; alike ones share a row.

    What a card does not say is a dash.
    """
    rows: dict[tuple[str, ...], list[str]] = {}
    for config, card in listed:
        facts = _UNTRAINED if card is None else _facts(config, card)
        rows.setdefault(facts, []).append(config.name)
    header = (
        "models", "batches (of)", "crops a batch", "paper's crops", "real frames (fields)",
        "simulated share", "held out", "trained on",
    )  # fmt: skip
    last = rows.pop(_UNTRAINED, None)
    if last is not None:
        rows[_UNTRAINED] = last
    return table(header, [[_code(names), *facts] for facts, names in rows.items()])


def _facts(config: zoo.ModelConfig, card: Card) -> tuple[str, ...]:
    batches, crops = number(card, "batches"), number(card, "batch_size")
    full = zoo.FULL_SCHEDULE[config.family]
    paper = full * (PAPER_BATCH if config.family == "autoencoder" else 1)
    share = NONE if batches is None or crops is None else f"{batches * crops / paper:.3g}"
    frames = f"{card.get('real_frames', '?')} ({card.get('real_fields', '?')})"
    return (
        f"{card.get('batches', '?')} ({full})",
        card.get("batch_size", NONE),
        share if share == NONE else f"{100 * float(share):.3g} %",
        frames,
        card.get("simulated_share", NONE),
        card.get("held_out_crops", NONE),
        f"{card.get('device', '?')}, {card.get('date', '?')}",
    )


def licences(listed: Sequence[Entry]) -> str:
    """Return a table of the sources that cards name, with their licences."""
    domains: dict[str, set[str]] = {}
    for entry in listed:
        for named in sources.of_card(entry.card or {}):
            domain, source = sources.split(named)
            domains.setdefault(source, set()).add(domain.upper())
    if not domains:
        return "No card names a source of real micrographs."
    rows = []
    for source, found in sorted(domains.items(), key=lambda item: item[0].lower()):
        known = sources.SOURCES.get(source, sources.UNKNOWN)
        rows.append((f"`{source}`", known.shows, ", ".join(sorted(found)), known.licence))
    return table(("source (GitHub)", "shows", "used for", "licence"), rows)


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)

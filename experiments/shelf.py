"""The folder of finished models: what is missing there or old, and what may replace it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from emd import checkpoint, zoo

Card = dict[str, str]
"""The facts of a model's card; none where there is no model."""


class Standard(NamedTuple):
    """What a model must come from to be left as it is.

    Attributes:
      crops: that it was trained on, at least: batches times crops a batch.
      simulated_share: fraction of them from simulated micrographs.
      teacher: fingerprint of its teacher's weights; None for an autoencoder.
    """

    crops: int
    simulated_share: float
    teacher: str | None = None


def read(root: Path, name: str) -> Card:
    """Return a model's card; no facts where its weights or the card are missing."""
    return checkpoint.read_card(root / name / "card.md") if checkpoint.is_there(root / name) else {}


def fault(card: Card, standard: Standard) -> str | None:
    """Return why a model is to be trained again, in a few words; None where it is not."""
    if not card:
        return "missing"
    if standard.teacher is not None and card.get("teacher_weights") != standard.teacher:
        return "of another teacher"
    if float(card.get("simulated_share", -1)) != standard.simulated_share:
        return f"trained on simulated micrographs by {card.get('simulated_share')}"
    crops = int(card.get("batches", 0)) * int(card.get("batch_size", 0))
    if crops < standard.crops:
        return f"trained on {crops} of {standard.crops} crops"
    return None


def promote(work: Path, root: Path, name: str) -> str:
    """Return what became of a finished model, in a line: it is on the shelf, or the old one stays.

    It replaces a model of a higher MSE on the same held-out crops, and a student of another
    teacher, since their errors do not compare. Its picture stays behind.
    """
    new, old = read(work, name), read(root, name)
    same_teacher = new.get("teacher_weights") == old.get("teacher_weights")
    if old and same_teacher:
        if new.get("held_out_crops") != old.get("held_out_crops"):
            return f"{name}: the old one stays, it was measured on other held-out crops"
        after, before = float(new["validation_mse"]), float(old["validation_mse"])
        if not after < before:
            return f"{name}: the old one stays, held-out MSE {before:.4g} against {after:.4g}"
    with checkpoint.replacing(root / name) as folder:
        pictures = shutil.ignore_patterns("*.png")
        shutil.copytree(work / name, folder, dirs_exist_ok=True, ignore=pictures)
    was = f", before {old['validation_mse']}" if old and same_teacher else ""
    return f"{name}: new, held-out MSE {new['validation_mse']}{was}"


def print_status(models: Iterable[zoo.ModelConfig], root: Path) -> None:
    """Print a line a model: how far it is trained, its held-out MSE, and what it stands against.

    That is, for an autoencoder, the linear code of its size, else leaving the image as it is.
    """
    print(
        f"{'model':20} {'batches':>8} {'crops each':>10} {'held-out MSE':>13} {'of rival':>9}  date"
    )
    for model in models:
        card = read(root, model.name)
        if not card:
            print(f"{model.name:20} {'missing':>8}")
            continue
        mse = float(card["validation_mse"])
        rival = float(card.get("linear_code_mse") or card.get("identity_mse") or 0)
        # a code of 64 numbers a block is lossless
        ratio = f"{mse / rival:.2f}" if rival > 1e-9 else "-"
        print(
            f"{model.name:20} {card.get('batches', '?'):>8} {card.get('batch_size', '?'):>10} "
            f"{mse:13.4g} {ratio:>9}  {card.get('date', '?')}"
        )

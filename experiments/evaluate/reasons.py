"""Why a pair of models may break an ordering: what their cards and curves say of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from emd import zoo
from experiments.evaluate import paper
from experiments.evaluate.entries import Entry
from experiments.evaluate.orderings import Pair

TIE = 2.0
"""Standard errors (of the paper's, deviations) below which two means are a tie."""

LEGEND = """\
*A tie*: the means are less than two standard errors apart (of the paper's, two standard
deviations, since its points are not independent); held out, where each model has one number, *in
training* says what the training batches tell of the same pair. *Batches*: the schedules differ.
*Data*: held out, the yardstick of both breaks the ordering as well, a linear code (of depth 16 for
64, which loses nothing) or the image as it is, which no training touches. *Best kernels*: the best
kernels of both widths, by least squares, break it as well. *Not learnt out*: over all its training
pairs the model with the first number has so many times the error of the best kernel of its
width."""

_LOSSLESS, _DEEP = 64, 16
"""Latent depth at which a linear code loses nothing, and that whose code stands in for it."""

UNDERFITTED = 1.1
"""Times the error of the best kernel of its width from which a member counts as not learnt out."""


def of_paper(pair: Pair) -> list[str]:
    """Return what may be the reason for a pair of the paper's."""
    low, high = paper.TABLE[pair.lower.name], paper.TABLE[pair.higher.name]
    apart = abs(low.likely - high.likely) / float(np.hypot(low.std, high.std))
    reasons = [_verdict(apart, "s.d.")]
    for config in pair:
        cell = paper.TABLE[config.name]
        if cell.read_as is not None:
            reasons.append(f"w{config.size} is printed as {cell.mean:.6f}")
    return reasons


def of_ours(pair: Pair, column: str, known: Mapping[str, Entry]) -> list[str]:
    """Return what may be the reason for a pair of ours in a column, ``raw`` or ``held_out``."""
    low, high = known[pair.lower.name], known[pair.higher.name]
    found = [
        _tie(low, high) if column == "raw" else _tie_in_training(low, high),
        _schedules(low, high),
        _data(low, high, known),
        _closed_form(low, high, "pairs_closed_form_kernel_mse" if column == "raw" else
                     "closed_form_kernel_mse"),
        _underfitted(low),
    ]  # fmt: skip
    return [reason for reason in found if reason is not None]


def standard_errors(low: Entry, high: Entry) -> float | None:
    """Return how far the raw means of two models are apart, in standard errors.

    Members of a set saw the same batches: their error is that of the paired differences.
    """
    if low.curve is None or high.curve is None:
        return None
    one, other = low.curve.raw(), high.curve.raw()
    gap = abs(float(np.mean(one) - np.mean(other)))
    is_student = low.config.family != "autoencoder"
    if is_student and low.config.set_name == high.config.set_name and len(one) == len(other):
        error = float(np.std(one - other)) / len(one) ** 0.5
    else:
        error = float(np.hypot(np.std(one) / len(one) ** 0.5, np.std(other) / len(other) ** 0.5))
    return gap / error if error > 0 else None


def _verdict(apart: float, unit: str) -> str:
    return f"{'a tie' if apart < TIE else 'no tie'}, {apart:.1f} {unit}"


def _tie(low: Entry, high: Entry) -> str | None:
    apart = standard_errors(low, high)
    return None if apart is None else _verdict(apart, "s.e.")


def _tie_in_training(low: Entry, high: Entry) -> str | None:
    """Of held-out errors, of which there is one a model: what training says of the same pair."""
    apart = standard_errors(low, high)
    return None if apart is None or apart >= TIE else f"in training a tie, {apart:.1f} s.e."


def _schedules(low: Entry, high: Entry) -> str | None:
    (one, size), (other, other_size) = (
        (entry.number("batches") or 0, entry.number("batch_size") or 0) for entry in (low, high)
    )
    if (one, size) == (other, other_size):
        return None
    return f"batches {one:.0f} x {size:.0f} against {other:.0f} x {other_size:.0f}"


def _data(low: Entry, high: Entry, known: Mapping[str, Entry]) -> str | None:
    """Of two domains: a yardstick breaks the ordering as well, and it is not trained."""
    if low.config.domain == high.config.domain:
        return None
    if low.config.family != "autoencoder":
        return _broken(low, high, "identity_mse", "data")
    found = _broken(low, high, "linear_code_mse", "data")
    if found is None and low.config.size == _LOSSLESS:
        fewer = [zoo.ModelConfig("autoencoder", e.config.domain, _DEEP) for e in (low, high)]
        entries = [known.get(config.name) for config in fewer]
        if entries[0] is not None and entries[1] is not None:
            return _broken(entries[0], entries[1], "linear_code_mse", f"data, depth {_DEEP}")
    return found


def _broken(low: Entry, high: Entry, name: str, what: str) -> str | None:
    one, other = low.number(name), high.number(name)
    # a linear code of as many numbers as pixels leaves rounding errors, which have no order
    if one is None or other is None or one <= other or one < 1e-9:
        return None
    return f"{what}: {one:.4f} and {other:.4f}"


def _closed_form(low: Entry, high: Entry, name: str) -> str | None:
    """Of two kernels: the best ones of their widths break the ordering as well."""
    if {low.config.family, high.config.family} != {"kernel"}:
        return None
    if low.config.domain != high.config.domain:
        return None
    one, other = low.number(name), high.number(name)
    if one is None or other is None or one < other:
        return None
    return f"best kernels: {one:.6f} and {other:.6f}"


def _underfitted(low: Entry) -> str | None:
    """Of a kernel or perceptron: it has not learnt even what a kernel of its width could."""
    own, best = low.number("pairs_mse"), low.number("pairs_closed_form_kernel_mse")
    if own is None or best is None or own < UNDERFITTED * best:
        return None
    return f"not learnt out, {own / best:.1f} times"

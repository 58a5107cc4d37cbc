"""Owns the weights of the coder `lapped`: what its contexts are made of, fitted to micrographs."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from emd.codec import contexts, lapped, weights
from emd.codec.bands import Knowledge

NEWEST = "lapped-v1"
"""The weights that new streams are written with."""

_MODELS = ("smooth", "other")


class LappedWeights(NamedTuple):
    """What coder and decoder have in common beside the code.

    Attributes:
      name: version included.
      fingerprint: see `emd.codec.weights.digest`.
      known: by side of the transform's blocks.
    """

    name: str
    fingerprint: str
    known: dict[int, Knowledge]


def find(name: str = NEWEST, fingerprint: str | None = None) -> LappedWeights:
    """The weights of a name.

    Raises:
      FormatError: they are not here, damaged, or others than those asked for.
    """
    found = _load(name)
    weights.check(name, found.fingerprint, fingerprint)
    return found


@functools.lru_cache(maxsize=2)
def _load(name: str) -> LappedWeights:
    with weights.reading(name) as arrays:
        return unpack(name, arrays)


def unpack(name: str, arrays: dict[str, np.ndarray]) -> LappedWeights:
    """The weights that a file's arrays hold.

    Raises:
      KeyError: one is missing.
      ValueError: one is damaged.
    """
    smooth, other = (contexts.from_bytes(arrays[f"model_{m}"].tobytes())[0] for m in _MODELS)
    known = {
        side: Knowledge(arrays[f"weights_{side}"].astype(np.int64), (smooth, other))
        for side in lapped.SIDES
    }
    return LappedWeights(name, weights.digest(arrays), known)


def pack(known: dict[int, Knowledge]) -> dict[str, np.ndarray]:
    """The arrays that `unpack` takes."""
    models = next(iter(known.values())).models
    packed = {
        f"model_{name}": np.frombuffer(model.to_bytes(), np.uint8)
        for name, model in zip(_MODELS, models, strict=True)
    }
    return packed | {
        f"weights_{side}": each.weights.astype(np.int32) for side, each in known.items()
    }

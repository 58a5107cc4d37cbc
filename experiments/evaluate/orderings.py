"""The orderings that the paper's Table 3 shows, checked on any column of numbers.

Each ordering is a list of pairs of models, of which the first is to have the lower MSE.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import NamedTuple

from emd import zoo
from emd.zoo import ModelConfig


class Pair(NamedTuple):
    """Two models of which the paper says that the first has the lower MSE."""

    lower: ModelConfig
    higher: ModelConfig


class Violation(NamedTuple):
    """A pair that does not keep its ordering, and its two values."""

    pair: Pair
    lower: float
    higher: float


class Checked(NamedTuple):
    """How one column keeps one ordering."""

    kept: int
    violations: tuple[Violation, ...]

    @property
    def total(self) -> int:
        """Pairs that have both values."""
        return self.kept + len(self.violations)


_DOMAINS = ("tem", "temstem", "stem")
"""As the paper orders them."""


def _by_size(families: tuple[str, ...]) -> list[Pair]:
    """Each model below the next smaller one of its family and domain."""
    ladders: dict[tuple[str, str], list[ModelConfig]] = {}
    for config in zoo.PAPER_MODELS:
        if config.family in families:
            ladders.setdefault((config.family, config.domain), []).append(config)
    return [
        Pair(larger, smaller)
        for ladder in ladders.values()
        for smaller, larger in itertools.pairwise(sorted(ladder, key=lambda c: c.size))
    ]


def _by_domain() -> list[Pair]:
    """TEM below TEM+STEM below STEM, of equal models; TEM below STEM where no model is between."""
    pairs = []
    for family, size in dict.fromkeys((c.family, c.size) for c in zoo.PAPER_MODELS):
        there = [ModelConfig(family, domain, size) for domain in _DOMAINS]
        there = [config for config in there if config in zoo.PAPER_MODELS]
        pairs += [Pair(*two) for two in itertools.pairwise(there)]
    return pairs


def _by_family(lower: tuple[str, ...], higher: tuple[str, ...]) -> list[Pair]:
    """Models of some families, each below that of another family of its width and domain."""
    pairs = [
        Pair(config, ModelConfig(other, config.domain, config.size))
        for config in zoo.PAPER_MODELS
        for other in higher
        if config.family in lower
    ]
    return [pair for pair in pairs if pair.higher in zoo.PAPER_MODELS]


ORDERINGS: dict[str, list[Pair]] = {
    "MSE falls with latent depth": _by_size(("autoencoder",)),
    "TEM < TEM+STEM < STEM": _by_domain(),
    "every MLP below the kernel of its width": _by_family(("mlp1", "mlp2"), ("kernel",)),
    "two hidden layers below one": _by_family(("mlp2",), ("mlp1",)),
    "MSE falls with width": _by_size(("kernel", "mlp1", "mlp2")),
}
"""What the paper's section 4 says of its table, each as the pairs that it is about."""


def check(pairs: list[Pair], values: Mapping[str, float | None]) -> Checked:
    """Return how values by model name keep an ordering; pairs without both values do not count.

    Equal values break it.
    """
    kept, violations = 0, []
    for pair in pairs:
        lower, higher = values.get(pair.lower.name), values.get(pair.higher.name)
        if lower is None or higher is None:
            continue
        if lower < higher:
            kept += 1
        else:
            violations.append(Violation(pair, lower, higher))
    return Checked(kept, tuple(violations))

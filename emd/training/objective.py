"""What a network sees and what it should make of it: the training objectives.

`reproduce` is the paper's; `clean` adds noise to images that stand for the truth; `thin` needs no
truth, and tells one part of a micrograph's electrons from the other; `columns` is `clean` of atom
columns, most of them at low doses; `benchmark` of the lattices, doses and readout noise that
denoisers are compared on. Each draws a batch of pairs, inside jit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from emd.data import crops, truths
from emd.data.normalise import measure, normalise
from emd.data.simulate import poisson

READOUT = 1.0
"""Most counts of readout noise that `clean` shows, as a standard deviation."""

LEAN = 1.5
"""Of the doses of `columns` and `benchmark`: where little is seen there is the most to learn."""

_BENCHMARK_DOSES = (0.35, 130.0)  # mean counts a pixel where lone columns peak at 2 to 500

MOST_SHOWN = 0.9
"""Largest share of a micrograph's electrons that `thin` shows."""

_EXACT_BELOW = 24.0  # mean of the rarer outcome: below it the binomial law is inverted

# Next number, its probability, what is left of the uniform, the number so far.
_Search = tuple[Array, Array, Array, Array]


class Pair(NamedTuple):
    """Images as a network sees them, and what it should make of them, in the same units."""

    seen: Float[Array, "n s s"]
    wanted: Float[Array, "n s s"]


Objective = Callable[..., Pair]
"""A function (key, data, *, batch, side) of a batch of pairs."""


def reproduce(key: Key[Array, ""], data: crops.Store, *, batch: int, side: int) -> Pair:
    """Return crops twice: what is seen is wanted.

    Source: paper section 2.2.
    """
    drawn = crops.sample(key, data, batch=batch, side=side)
    return Pair(drawn, drawn)


def clean(
    key: Key[Array, ""],
    data: truths.Truths,
    *,
    batch: int,
    side: int,
    lean: float = 1.0,
    doses: tuple[float, float] | None = None,
    readout: float | None = None,
) -> Pair:
    """Return crops as a detector counts them at a random dose, and their expected counts.

    Doses are low (high / low)^(u^lean), of `truths.DOSES` unless given, u uniform: log-uniform, but
    for a lean above 1, which favours low ones. Readout noise is of the standard deviation given;
    without one, two thirds of the crops have some. Both images are in units of what is seen: its
    minimum taken off, divided by its mean.

    Source: Zhang et al., "Beyond a Gaussian denoiser" (IEEE Transactions on Image Processing 26,
    2017), for one network over all levels of noise.
    """
    place, dose_key, readout_key, some, shot, normal = jax.random.split(key, 6)
    drawn, image = crops.windows(place, data.store, batch=batch, side=side)
    each = (batch, 1, 1)
    low, high = doses or truths.DOSES
    expected = _exposed(dose_key, drawn, (low, jnp.minimum(data.most[image], high)), lean)
    if readout is None:
        added = jax.random.uniform(readout_key, each, maxval=READOUT)
        added = added * jax.random.bernoulli(some, 2 / 3, each)
    else:
        added = jnp.full(each, readout)
    counts = poisson(shot, expected) + added * jax.random.normal(normal, expected.shape)
    scale = measure(counts)
    return Pair(normalise(counts, scale), normalise(expected, scale))


def thin(key: Key[Array, ""], data: truths.Counted, *, batch: int, side: int) -> Pair:
    """Return crops of a share of their electrons, and what the others make of the same scene.

    Every electron is seen with one chance p, log-uniform from what leaves `truths.DOSES[0]` of them
    a pixel (at most 0.5) up to `MOST_SHOWN`; wanted is what is left, times p / (1 - p). Both are
    in units of what is seen: its minimum taken off, divided by its mean. Truths are counted first,
    at a dose as in `clean`, without readout noise.

    Where counts follow Poisson's law, mean and variance m, the two parts are independent, of means
    p m and (1 - p) m: noise that is seen says nothing of what is wanted, and the best answer is the
    truth. With another variance v their covariance is p (1 - p) (v - m). So noise beyond that of
    electrons, or a gain taken too small, is in both parts, and will be kept; with a gain taken too
    large the parts oppose each other, and more than the noise is taken away.

    Source: Lehtinen et al., "Noise2Noise" (ICML 2018), for a noisy target; Neufeld et al., "Data
    thinning for convolution-closed distributions" (Journal of Machine Learning Research 25, 2024),
    for the two parts.
    """
    place, dose_key, shot, share_key, part_key = jax.random.split(key, 5)
    drawn, image = crops.windows(place, data.store, batch=batch, side=side)
    low, high = truths.DOSES
    exposed = _exposed(dose_key, drawn, (low, jnp.full(batch, high)), 1.0)
    counts = jnp.where(data.is_counted[image][:, None, None], drawn, poisson(shot, exposed))
    dose = jnp.maximum(counts.mean((1, 2), keepdims=True), truths.DOSES[0])
    least = jnp.minimum(truths.DOSES[0] / dose, 0.5)
    p = least * (MOST_SHOWN / least) ** jax.random.uniform(share_key, (batch, 1, 1))
    part = binomial(part_key, counts, p)
    scale = measure(part)
    return Pair(normalise(part, scale), normalise((counts - part) * p / (1 - p), scale))


DRAWS: dict[str, Objective] = {
    "reproduce": reproduce,
    "clean": clean,
    "thin": thin,
    "columns": functools.partial(clean, lean=LEAN),
    "benchmark": functools.partial(clean, lean=LEAN, doses=_BENCHMARK_DOSES, readout=0.5),
}
"""The objectives by the names that `emd.zoo.OBJECTIVES` gives them."""


def ending(draw: Objective, *, cell: int) -> Objective:
    """Return an objective whose images end before the crop does, at random places.

    In half of the crops up to ``cell`` - 1 of the first or last rows, and of the columns, are those
    beside them, mirrored: as an image whose sides are no multiples of a network's cell is filled up
    in use, and may be turned then.
    """

    def ended(key: Key[Array, ""], data: Any, *, batch: int, side: int) -> Pair:
        pairs_key, some_key, place_key, turn_key = jax.random.split(key, 4)
        pair = draw(pairs_key, data, batch=batch, side=side)
        beyond = jax.random.randint(place_key, (2, batch, 1), 0, cell)
        end = side - beyond * jax.random.bernoulli(some_key, 0.5, (1, batch, 1))
        index = jnp.arange(side)[None, None]
        last = jnp.where(index < end, index, 2 * end - 1 - index)
        is_first = jax.random.bernoulli(turn_key, 0.5, (2, batch, 1))
        rows, columns = jnp.where(is_first, side - 1 - last[..., ::-1], last)
        each = jnp.arange(batch)[:, None, None]
        return Pair(*(images[each, rows[:, :, None], columns[:, None]] for images in pair))

    return ended


def _exposed(
    key: Key[Array, ""],
    drawn: Float[Array, "n s s"],
    doses: tuple[float, Float[Array, " n"]],
    lean: float,
) -> Float[Array, "n s s"]:
    """Return counts to expect of truths, at doses from a lowest to the highest of each: `clean`."""
    low, most = doses
    chance = jax.random.uniform(key, (len(drawn), 1, 1)) ** lean
    dose = low * (most[:, None, None] / low) ** chance
    return drawn * dose / jnp.maximum(drawn.mean((1, 2), keepdims=True), 1.0)


def binomial(
    key: Key[Array, ""], count: Float[Array, "*s"], p: Float[Array, "*#s"]
) -> Float[Array, "*s"]:
    """Return how many of so many electrons a chance p, above 0 and below 1, picks.

    Deviation: where either outcome is expected 24 times or more, a rounded quadratic of a normal
    variate with the right mean, variance and skewness stands in for the binomial law, as in
    `emd.data.simulate.poisson`. For 8 crops of 160x160 px with up to 100 electrons a pixel
    `jax.random.binomial` takes 0.4 s on a CPU, this about a fortieth of that.
    """
    normal = jax.random.normal(key, count.shape)
    rare = jnp.broadcast_to(jnp.minimum(p, 1 - p), count.shape)
    mean = count * rare
    # in the branch that is not taken nothing may grow without bound
    exact = _inverted(
        jax.scipy.stats.norm.cdf(normal), jnp.where(mean < _EXACT_BELOW, count, 0), rare
    )
    bend = (1 - 2 * rare) / 6
    # rounding adds 1/12 to the variance, and the quadratic term twice its factor's square
    width = jnp.sqrt(jnp.maximum(mean * (1 - rare) - 1 / 12 - 2 * bend**2, 0.0))
    matched = jnp.round(mean + width * normal + bend * (normal**2 - 1))
    rarer = jnp.clip(jnp.where(mean < _EXACT_BELOW, exact, matched), 0.0, count)
    return jnp.where(p < 0.5, rarer, count - rarer)


def _inverted(
    uniform: Float[Array, "*s"], count: Float[Array, "*s"], rare: Float[Array, "*s"]
) -> Float[Array, "*s"]:
    """Return the smallest number at which the cumulative binomial law reaches ``uniform``."""
    last = _EXACT_BELOW + 10 * _EXACT_BELOW**0.5  # beyond this the tail is lost to float32
    odds = rare / (1 - rare)

    def is_unfinished(state: _Search) -> Array:
        k, _, left, _ = state
        return (k < last) & jnp.any(left > 0)

    def advance(state: _Search) -> _Search:
        k, probability, left, found = state
        probability = probability * odds * jnp.maximum(count - k, 0.0) / (k + 1)
        return k + 1, probability, left - probability, found + (left > 0)

    first = jnp.exp(count * jnp.log1p(-rare))
    state = (jnp.float32(0), first, uniform - first, jnp.zeros_like(uniform))
    return jax.lax.while_loop(is_unfinished, advance, state)[3]

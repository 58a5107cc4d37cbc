"""What a set's members are measured against: the best kernel there is, a mean, and no change.

All errors here are plain MSEs against the teacher's restorations, over the same pixels for every
member, so that they can be compared with one another.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from emd.models import pixelwise
from emd.models.pixelwise import MLP, Kernel

MARGIN_PX = 20
"""Pixels nearer than this to a pair's edge are not scored: restorations are poorer there."""


class Errors(NamedTuple):
    """Mean squared errors against the restorations, each over all scored pixels.

    Attributes:
        members: of each member, in the order given.
        closed_forms: of the best symmetric kernel of each member's width.
        identity: of the noisy crops as they are.
        mean3: of their 3x3 mean.
    """

    members: list[float]
    closed_forms: list[float]
    identity: float
    mean3: float


def closed_form_kernel(
    noisy: Float[Array | np.ndarray, "n h w"],
    restored: Float[Array | np.ndarray, "n h w"],
    width: int,
    *,
    margin: int = MARGIN_PX,
) -> dict[str, Float[Array, "k"]]:
    """The parameters of the symmetric kernel with the least squared error on these pairs.

    Least squares over the tied weights by normal equations in float64. Where windows do not tell
    some weights apart (constant crops), the smallest of the best weights.

    Args:
        noisy: normalised crops.
        restored: the teacher's output for each.
        width: of the kernel [px], odd, 3 to 15.
        margin: pixels nearer than this to the edge do not count [px], at least `width` // 2.

    Raises:
        ValueError: for a bad width, pairs that differ in shape, or a margin that leaves no pixel
            or is narrower than half a window.
    """
    pixelwise.check_width(width)
    _check(noisy, restored, width, margin)
    free = int(pixelwise.orbits(width).max()) + 1
    gram, moment = np.zeros((free, free)), np.zeros(free)
    for image, truth in zip(noisy, restored, strict=True):
        sums = _orbit_sums(np.asarray(image, np.float64), width, margin).reshape(free, -1)
        gram += sums @ sums.T
        moment += sums @ np.asarray(truth, np.float64)[_scored(margin)].reshape(-1)
    weights = np.linalg.lstsq(gram, moment, rcond=None)[0]
    return {"weights": jnp.asarray(weights, jnp.float32)}


def evaluate(
    members: Sequence[Kernel | MLP],
    params: Sequence[pixelwise.Params],
    noisy: Float[Array | np.ndarray, "n h w"],
    restored: Float[Array | np.ndarray, "n h w"],
    *,
    closed_forms: Sequence[pixelwise.Params] | None = None,
    margin: int = MARGIN_PX,
) -> Errors:
    """The errors on these pairs of members, of the best kernels of their widths, and of neither.

    Args:
        members: modules of any family.
        params: of each member, unpadded.
        noisy: normalised crops.
        restored: the teacher's output for each.
        closed_forms: kernels from `closed_form_kernel`, one a member, where they were fitted to
            other pairs; without them they are fitted to these.
        margin: pixels nearer than this to the edge do not count [px].

    Raises:
        ValueError: as `closed_form_kernel`.
    """
    _check(noisy, restored, max(member.width for member in members), margin)
    widths = [member.width for member in members]
    if closed_forms is None:
        closed_forms = [closed_form_kernel(noisy, restored, w, margin=margin) for w in widths]
    mean3 = {"weights": jnp.full(3, 1 / 9)}
    identity = {"weights": jnp.asarray([1.0, 0.0, 0.0])}
    folded = [pixelwise.fold(m, p) for m, p in zip(members, params, strict=True)]
    folded += [pixelwise.fold_params(p) for p in (*closed_forms, identity, mean3)]
    found = [_mse(each, noisy, restored, margin) for each in folded]
    return Errors(found[: len(members)], found[len(members) : -2], found[-2], found[-1])


def _mse(
    folded: pixelwise.Folded,
    noisy: Float[Array | np.ndarray, "n h w"],
    restored: Float[Array | np.ndarray, "n h w"],
    margin: int,
) -> float:
    reach = margin - folded.output.shape[-1] // 2

    @jax.jit
    def one(image: Array, truth: Array) -> Array:
        got = pixelwise.apply_folded(folded, image[_scored(reach)])
        return jnp.mean((got - truth[_scored(margin)]) ** 2)

    pairs = zip(noisy, restored, strict=True)
    return float(np.mean([one(image, truth) for image, truth in pairs], dtype=np.float64))


def _orbit_sums(
    image: Float[np.ndarray, "h w"], width: int, margin: int
) -> Float[np.ndarray, "k i j"]:
    """For each tied weight and scored pixel, the sum of the pixels that the weight multiplies."""
    height, span = (side - 2 * margin for side in image.shape)
    start = margin - width // 2
    sums = np.zeros((int(pixelwise.orbits(width).max()) + 1, height, span))
    for (row, column), orbit in np.ndenumerate(pixelwise.orbits(width)):
        top, left = start + row, start + column
        sums[orbit] += image[top : top + height, left : left + span]
    return sums


def _scored(margin: int) -> tuple[slice, slice]:
    inner = slice(margin, -margin or None)
    return inner, inner


def _check(
    noisy: Float[Array | np.ndarray, "..."],
    restored: Float[Array | np.ndarray, "..."],
    width: int,
    margin: int,
) -> None:
    if noisy.shape != restored.shape or not len(noisy):
        raise ValueError(
            f"noisy is {noisy.shape}, restored {restored.shape}: give pairs of equal shape"
        )
    if margin < width // 2 or min(noisy.shape[1:]) <= 2 * margin:
        raise ValueError(
            f"margin is {margin} px for width {width} and crops of {noisy.shape[1:]} px: give at "
            f"least {width // 2} and less than half a side"
        )

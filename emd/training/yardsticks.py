"""What a set's members are measured against: the best kernel there is, a mean, and no change.

All errors here are plain MSEs against the teacher's restorations, over the same pixels for every
member, so that they can be compared with one another.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from emd.models import pixelwise, symmetry
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


class Moments(NamedTuple):
    """What decides the squared error of every symmetric kernel up to a width, in float64.

    Attributes:
        gram: mean products of the sums that two weights multiply.
        moment: mean products of such a sum and the restoration.
        power: mean square of the restoration.
    """

    gram: Float[np.ndarray, "k k"]
    moment: Float[np.ndarray, "k"]
    power: float

    def best(self, width: int) -> Float[np.ndarray, "s"]:
        """The tied weights of the kernel of this width with the least error.

        Where windows do not tell some weights apart (constant crops), the smallest of the best.
        """
        free = symmetry.free_count(width)
        # A narrower window's weights are the first of a wider one's.
        return np.asarray(np.linalg.lstsq(self.gram[:free, :free], self.moment[:free])[0])

    def error(self, weights: Float[Array | np.ndarray, "s"]) -> float:
        """The mean squared error of a kernel with these tied weights."""
        kernel = np.asarray(weights, np.float64)
        free = len(kernel)
        square = kernel @ self.gram[:free, :free] @ kernel
        return float(square - 2 * (kernel @ self.moment[:free]) + self.power)


def measure_moments(
    noisy: Float[Array | np.ndarray, "n h w"],
    restored: Float[Array | np.ndarray, "_ _ _"],
    width: int,
    *,
    margin: int = MARGIN_PX,
) -> Moments:
    """The moments of these pairs for kernels up to `width`: normal equations in float64.

    Args:
        noisy: normalised crops.
        restored: the teacher's output for each.
        width: of the widest kernel [px], odd, 3 to 15.
        margin: pixels nearer than this to the edge do not count [px], at least `width` // 2.

    Raises:
        ValueError: for a bad width, pairs that differ in shape, or a margin that leaves no pixel
            or is narrower than half a window.
    """
    symmetry.check_width(width)
    _check(noisy, restored, width, margin)
    pairs = zip(np.asarray(noisy), np.asarray(restored), strict=True)
    with jax.enable_x64():
        each = jax.device_get([_crop_moments(width, margin, *pair) for pair in pairs])
    gram, moment, power = (np.mean(parts, axis=0) for parts in zip(*each, strict=True))
    return Moments(gram, moment, float(power))


def evaluate(
    members: Sequence[Kernel | MLP],
    params: Sequence[pixelwise.Params],
    noisy: Float[Array | np.ndarray, "n h w"],
    restored: Float[Array | np.ndarray, "_ _ _"],
    *,
    closed_forms: Sequence[Float[Array | np.ndarray, "_"]],
    moments: Moments,
) -> Errors:
    """The errors on these pairs of members, of the best kernels of their widths, and of neither.

    Args:
        members: modules of any family.
        params: of each member, unpadded.
        noisy: normalised crops.
        restored: the teacher's output for each.
        closed_forms: tied weights of the best kernel of each member's width, of whichever pairs.
        moments: from `measure_moments` of these pairs, for the widest member or wider.
    """
    # As NumPy's, so that a crop is taken out without a program of its own.
    noisy, restored = np.asarray(noisy), np.asarray(restored)
    best = [moments.error(weights) for weights in closed_forms]
    found = []
    for member, free in zip(members, params, strict=True):
        if isinstance(member, Kernel):
            found.append(moments.error(free["weights"]))
        else:
            folded = pixelwise.fold(member, free)
            errors = [_crop_error(folded, *pair) for pair in zip(noisy, restored, strict=True)]
            found.append(float(np.mean(errors)))
    identity, mean3 = np.eye(3)[0], np.full(3, 1 / 9)
    return Errors(found, best, moments.error(identity), moments.error(mean3))


@jax.jit
def _crop_error(
    folded: pixelwise.Folded, noisy: Float[Array, "h w"], restored: Float[Array, "h w"]
) -> Float[Array, ""]:
    reach = MARGIN_PX - folded.output.shape[-1] // 2
    got = pixelwise.apply_folded(folded, noisy[_scored(reach)])
    return jnp.mean((got - restored[_scored(MARGIN_PX)]) ** 2)


@functools.partial(jax.jit, static_argnames=("width", "margin"))
def _crop_moments(
    width: int, margin: int, noisy: Float[Array, "h w"], restored: Float[Array, "h w"]
) -> tuple[Float[Array, "k k"], Float[Array, "k"], Float[Array, ""]]:
    """What one pair adds to each of the moments, in float64."""
    truth = restored.astype(jnp.float64)[_scored(margin)].reshape(-1)
    sums = _orbit_sums(noisy.astype(jnp.float64), width, margin)
    return sums @ sums.T / truth.size, sums @ truth / truth.size, truth @ truth / truth.size


def _orbit_sums(image: Float[Array, "h w"], width: int, margin: int) -> Float[Array, "k n"]:
    """For each tied weight and scored pixel, the sum of the pixels that the weight multiplies."""
    half = width // 2
    height, span = (side - 2 * margin for side in image.shape)
    image = image[_scored(margin - half)]

    def ends(start: Array, axis: int, size: int) -> list[Array]:
        """Sums of the planes so many pixels before and after, each once."""
        planes = [jax.lax.slice_in_dim(start, i, i + size, axis=axis) for i in range(width)]
        return [planes[half], *(planes[half - i] + planes[half + i] for i in range(1, half + 1))]

    # Without the barriers XLA sums anew for each of the places that use a sum.
    rows = jax.lax.optimization_barrier(jnp.stack(ends(image, 0, height)))
    both = jax.lax.optimization_barrier(jnp.stack(ends(rows, 2, span), axis=1))
    both = both.reshape(half + 1, half + 1, height * span)
    far, near = np.tril_indices(half + 1)
    mirrored = both[far, near] + both[near, far]
    return jnp.where((far != near)[:, None], mirrored, both[far, near])


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

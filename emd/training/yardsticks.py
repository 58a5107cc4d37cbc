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
    """The moments of these pairs for kernels up to `width`; arguments as `closed_form_kernel`."""
    symmetry.check_width(width)
    _check(noisy, restored, width, margin)
    free = symmetry.free_count(width)
    gram, moment, power = np.zeros((free, free)), np.zeros(free), 0.0
    for image, restoration in zip(noisy, restored, strict=True):
        sums = _orbit_sums(np.asarray(image, np.float64), width, margin).reshape(free, -1)
        truth = np.asarray(restoration, np.float64)[_scored(margin)].reshape(-1)
        gram += sums @ sums.T / truth.size
        moment += sums @ truth / truth.size
        power += float(truth @ truth) / truth.size
    return Moments(gram / len(noisy), moment / len(noisy), power / len(noisy))


def closed_form_kernel(
    noisy: Float[Array | np.ndarray, "n h w"],
    restored: Float[Array | np.ndarray, "_ _ _"],
    width: int,
    *,
    margin: int = MARGIN_PX,
) -> dict[str, Float[Array, "k"]]:
    """The parameters of the symmetric kernel with the least squared error on these pairs.

    Least squares over the tied weights, by normal equations in float64. For several widths,
    measure the moments once, of the widest, and ask them for each width's best weights.

    Args:
        noisy: normalised crops.
        restored: the teacher's output for each.
        width: of the kernel [px], odd, 3 to 15.
        margin: pixels nearer than this to the edge do not count [px], at least `width` // 2.

    Raises:
        ValueError: for a bad width, pairs that differ in shape, or a margin that leaves no pixel
            or is narrower than half a window.
    """
    moments = measure_moments(noisy, restored, width, margin=margin)
    return {"weights": jnp.asarray(moments.best(width), jnp.float32)}


def evaluate(
    members: Sequence[Kernel | MLP],
    params: Sequence[pixelwise.Params],
    noisy: Float[Array | np.ndarray, "n h w"],
    restored: Float[Array | np.ndarray, "_ _ _"],
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
    widths = [member.width for member in members]
    moments = measure_moments(noisy, restored, max(widths), margin=margin)
    if closed_forms is None:
        best = [moments.error(moments.best(width)) for width in widths]
    else:
        best = [moments.error(kernel["weights"]) for kernel in closed_forms]
    found = []
    for member, free in zip(members, params, strict=True):
        if isinstance(member, Kernel):
            found.append(moments.error(free["weights"]))
        else:
            folded = pixelwise.fold(member, free)
            found.append(float(np.mean(_crop_errors(margin, folded, noisy, restored))))
    identity, mean3 = np.eye(3)[0], np.full(3, 1 / 9)
    return Errors(found, best, moments.error(identity), moments.error(mean3))


@functools.partial(jax.jit, static_argnames="margin")
def _crop_errors(
    margin: int, folded: pixelwise.Folded, noisy: Array, restored: Array
) -> Float[Array, "n"]:
    reach = margin - folded.output.shape[-1] // 2

    def one(pair: tuple[Array, Array]) -> Array:
        got = pixelwise.apply_folded(folded, pair[0][_scored(reach)])
        return jnp.mean((got - pair[1][_scored(margin)]) ** 2)

    errors: Array = jax.lax.map(one, (noisy, restored))
    return errors


def _orbit_sums(
    image: Float[np.ndarray, "h w"], width: int, margin: int
) -> Float[np.ndarray, "k i j"]:
    """For each tied weight and scored pixel, the sum of the pixels that the weight multiplies."""
    height, span = (side - 2 * margin for side in image.shape)
    half, reach = width // 2, margin - width // 2
    image = image[_scored(reach)]
    # The pixels a rows above and below, each once.
    above = [image[half - a : half - a + height] for a in range(half + 1)]
    below = [image[half + a : half + a + height] for a in range(half + 1)]
    rows: list[np.ndarray] = [
        above[0],
        *(up + down for up, down in zip(above[1:], below[1:], strict=True)),
    ]

    def pair(rows_away: int, columns_away: int) -> Float[np.ndarray, "i j"]:
        left, right = half - columns_away, half + columns_away
        found: np.ndarray = rows[rows_away][:, left : left + span]
        if columns_away:
            found = found + rows[rows_away][:, right : right + span]
        return found

    sums = [
        pair(far, near) + pair(near, far) if far != near else pair(far, far)
        for far in range(half + 1)
        for near in range(far + 1)
    ]
    return np.stack(sums)


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

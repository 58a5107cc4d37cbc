"""Kernels and perceptrons in the folded forms that training and inference share.

Owns what a window's parameters reduce to, and the forms that are fast over a whole image: on CPU
in strips that stay in a core's cache, elsewhere in one fused sum. All equal the plain modules.
"""

import functools
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from emd.models.symmetry import orbits, pair_orbits, width_of

# An accelerator holds at most this many elements of stacked windows at a time (16 MiB).
_STACK_LIMIT = 2**22
# What one core works on at a time, 1 MiB, stays in its cache.
_CACHE_LIMIT = 2**18
LINE_PX = 16
"""A cache line. Tiles of such widths need no copy: loads of whole vectors never cross one."""

Params = Mapping[str, Float[Array, "..."]]


class Folded(NamedTuple):
    """A kernel or an MLP with l hidden layers, reduced to what inference needs; p = w^2.

    `scale` and `biases` (of the first hidden layer) stay tied, since a window's places in one
    orbit then share their sigmoids. `connections` has the weights of the layer after it in it.
    The last connection, its weights and the sum are the one matrix `output`; a kernel's has the
    square's symmetries.
    """

    scale: Float[Array, "k"]
    biases: Float[Array, "l k"]
    connections: Float[Array, "l-1 p p"] | None
    output: Float[Array, "w w"]


@jax.jit
def fold_params(params: Params) -> Folded:
    """The folded form of a kernel's or an MLP's parameters, whose shapes say what they are."""
    free = params["weights"].reshape(-1, params["weights"].shape[-1])
    width = width_of(free.shape[-1])
    weights = _untie(free, width)
    if "biases" not in params:
        return Folded(free[0], free[:0], None, weights[0].reshape(width, width))
    connections = params["connections"]
    if connections.ndim == 2:
        connections = connections[:, pair_orbits(width)]
    output = _dot(connections[-1], weights[-1]).reshape(width, width)
    inner = connections[:-1] * weights[1:-1, None, :] if len(connections) > 1 else None
    return Folded(free[0], params["biases"], inner, output)


def respond(folded: Folded, windows: Float[Array, "n p"]) -> Float[Array, "n"]:
    """The output of a folded kernel or MLP for each window, its places numbered row by row."""
    width = folded.output.shape[-1]
    if not len(folded.biases):
        return _dot(windows, folded.output.reshape(-1))
    biases = _untie(folded.biases, width)
    activity = jax.nn.sigmoid(windows * _untie(folded.scale[None], width) + biases[:1])
    if folded.connections is not None:
        for connection, bias in zip(folded.connections, biases[1:], strict=True):
            activity = jax.nn.sigmoid(_dot(activity, connection) + bias[None])
    return _dot(activity, folded.output.reshape(-1))


@jax.jit
def apply_folded(folded: Folded, tile: Float[Array, "h w"]) -> Float[Array, "i j"]:
    """What the plain module gives for one tile, faster, in memory of a few tiles.

    i = h - w_kernel + 1 and likewise j: pad the tile by half a window first. On CPU it runs on
    one core: give the others tiles of their own.
    """
    width = folded.output.shape[-1]
    span = tile.shape[1] - width + 1
    on_cpu = jax.default_backend() == "cpu"
    if folded.connections is None and not on_cpu:
        return _sum_of_shifts(folded, tile)
    if on_cpu:
        tile = jnp.pad(tile, ((0, 0), (0, -tile.shape[1] % LINE_PX)))
    form = _sum_of_columns if folded.connections is None else _mix_shifts
    rows = _strip_rows(folded, tile.shape[1], on_cpu=on_cpu)
    return by_strips(lambda strip: form(folded, strip, span), tile, width, rows)


def _strip_rows(folded: Folded, columns: int, *, on_cpu: bool) -> int:
    """How many rows of pixels to work out at a time."""
    width = folded.output.shape[-1]
    if folded.connections is not None:  # a stack of maps
        limit = _CACHE_LIMIT if on_cpu else _STACK_LIMIT
        return max(1, limit // (width**2 * columns))
    if not len(folded.biases):  # the sums over rows, and those over columns
        return max(8, _CACHE_LIMIT // ((width + 1) * columns))
    # the maps, which reach beyond the strip, and the sums over columns
    free = len(folded.scale)
    return max(16, (_CACHE_LIMIT // columns - free * (width - 1)) // (free + width))


def _sum_of_shifts(folded: Folded, tile: Float[Array, "h w"]) -> Float[Array, "i j"]:
    """A kernel or a one-hidden-layer MLP: each orbit's map, shifted to its 1, 4 or 8 places."""
    numbers = orbits(folded.output.shape[-1])
    height, width = (side - len(numbers) + 1 for side in tile.shape)
    maps = [tile] * (numbers.max() + 1) if not len(folded.biases) else _first_maps(folded, tile)
    total = jnp.zeros((height, width), tile.dtype)
    for orbit, plane in enumerate(maps):
        for row, column in np.argwhere(numbers == orbit):
            shifted = plane[row : row + height, column : column + width]
            total = total + shifted * folded.output[row, column]
    return total


def _sum_of_columns(folded: Folded, strip: Float[Array, "h w"], span: int) -> Float[Array, "i j"]:
    """The same, down each column of the window first: only these few sums are shifted sideways.

    A kernel is symmetric: rows, then columns, at equal distance from its centre are added before
    they are weighted, which takes 86 operations a pixel in place of 225 at width 15.
    """
    matrix, size = folded.output, folded.output.shape[-1]
    height, half = strip.shape[0] - size + 1, size // 2
    if len(folded.biases):
        maps, numbers = _first_maps(folded, strip), orbits(size)
        columns = [
            _sum(matrix[i, j] * maps[numbers[i, j]][i : i + height] for i in range(size))
            for j in range(size)
        ]
        return _sum(_kept(column)[:, j : j + span] for j, column in enumerate(columns))
    middle = strip[half : half + height]
    rows = [
        _kept(strip[half - i : half - i + height] + strip[half + i : half + i + height])
        for i in range(1, half + 1)
    ]
    quarter = matrix[half:, half:]
    columns = [
        _kept(_sum(w * row for w, row in zip(quarter[:, j], [middle, *rows], strict=True)))
        for j in range(half + 1)
    ]
    total = columns[0][:, half : half + span]
    for j, column in enumerate(columns[1:], 1):
        left, right = column[:, half - j :], column[:, half + j :]
        total = total + (left[:, :span] + right[:, :span])
    return total


def _sum(planes: Iterable[Float[Array, "h w"]]) -> Float[Array, "h w"]:
    return functools.reduce(operator.add, planes)


def _mix_shifts(folded: Folded, strip: Float[Array, "h w"], span: int) -> Float[Array, "i j"]:
    """An MLP with two or more hidden layers: shifted maps stacked, then matrix products."""
    numbers = orbits(folded.output.shape[-1])
    height = strip.shape[0] - len(numbers) + 1
    maps = _first_maps(folded, strip)
    places = [
        maps[orbit][None, row : row + height, column : column + span]
        for (row, column), orbit in np.ndenumerate(numbers)
    ]
    activity = _kept(jnp.concatenate(places)).reshape(numbers.size, -1)
    connections = () if folded.connections is None else folded.connections
    for connection, biases in zip(connections, folded.biases[1:], strict=True):
        free = _untie(biases[None], len(numbers)).reshape(-1, 1)
        mixed = _kept(_dot(connection.T, activity))
        activity = _kept(jax.nn.sigmoid(mixed + free))
    return _dot(folded.output.reshape(-1), activity).reshape(height, span)


def _first_maps(folded: Folded, tile: Float[Array, "h w"]) -> list[Float[Array, "h w"]]:
    """The first hidden layer's sigmoid over the whole tile, one map an orbit."""
    return [
        _kept(jax.nn.sigmoid(tile * scale + bias))
        for scale, bias in zip(folded.scale, folded.biases[0], strict=True)
    ]


def _kept(plane: Float[Array, "..."]) -> Float[Array, "..."]:
    # Without the barrier XLA computes a plane anew for each place that it is used in.
    return jax.lax.optimization_barrier(plane)


def by_strips(
    function: Callable[[Array], Array], image: Float[Array, "h w"], width: int, rows: int
) -> Float[Array, "i j"]:
    """`function` (whole windows in, pixels out) over an image, about `rows` rows at a time."""
    height = image.shape[0] - width + 1
    count = -(-height // rows)
    if count == 1:
        return function(image)
    # The last strip starts early enough to be whole; the rows it repeats are dropped.
    rows = -(-height // count)
    starts = np.minimum(np.arange(count) * rows, height - rows)

    def one(start: Int[Array, ""]) -> Float[Array, "r j"]:
        return function(jax.lax.dynamic_slice_in_dim(image, start, rows + width - 1))

    pieces = jax.lax.map(one, jnp.asarray(starts))
    if count * rows == height:
        return pieces.reshape(height, -1)
    head = pieces[:-1].reshape((count - 1) * rows, -1)
    return jnp.concatenate([head, pieces[-1, count * rows - height :]])


def _untie(free: Float[Array, "l k"], width: int) -> Float[Array, "l p"]:
    # A product with a constant: the gradient of a gather would be a slow scatter.
    numbers = orbits(width).reshape(1, -1)
    return _dot(free, (numbers == np.arange(free.shape[-1])[:, None]).astype(np.float32))


def _dot(left: Float[Array, "..."], right: Float[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
    # The highest precision keeps GPUs from rounding the factors to 10 bits.
    product: Array = jnp.dot(left, right, precision=jax.lax.Precision.HIGHEST)
    return product

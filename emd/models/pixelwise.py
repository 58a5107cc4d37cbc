"""Symmetric kernels and multilayer perceptrons: one output pixel per w x w window.

Owns their parameters, their tying over the eight symmetries of the square, and the folded forms
that training and inference share. Knows nothing of data, normalisation, training or files.

The parameters of a member of width w, with h = w // 2, k = (h + 1)(h + 2) / 2 and p = w^2:

* kernel: `weights` (k,)
* MLP with l hidden layers: `weights` (l + 1, k), `biases` (l, k), `connections` (l, p, p), or
  (l, q) with the q pair orbits of `pair_orbits` where the connection is tied as well.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from emd.models.symmetry import check_width, free_count, orbits, pair_orbits, width_of

# The plain modules gather at most this many elements of windows at a time (16 MiB).
_GATHER_LIMIT = 2**22

Params = Mapping[str, Float[Array, "..."]]


class Folded(NamedTuple):
    """A kernel or an MLP with l hidden layers, reduced to what inference needs; p = w^2.

    `scale` and `biases` (of the first hidden layer) stay tied, since a window's places in one
    orbit then share their sigmoids. `connections` has the weights of the layer after it in it.
    The last connection, its weights and the sum are the one matrix `output`.
    """

    scale: Float[Array, "k"]
    biases: Float[Array, "l k"]
    connections: Float[Array, "l-1 p p"] | None
    output: Float[Array, "w w"]


def fold(module: "Kernel | MLP", params: Params) -> Folded:
    """The folded form of `params` (the tree under "params") of `module`, for `apply_folded`.

    Raises:
        ValueError: if the parameters belong to another width or number of hidden layers.
    """
    hidden = module.hidden if isinstance(module, MLP) else 0
    found = len(params["biases"]) if "biases" in params else 0
    width = width_of(params["weights"].shape[-1])
    if (width, found) != (module.width, hidden):
        raise ValueError(
            f"parameters are of width {width} with {found} hidden layers: the module has width "
            f"{module.width} and {hidden}"
        )
    return fold_params(params)


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


def gather_windows(x: Float[Array, "n h w"], width: int) -> Float[Array, "n i j p"]:
    """Every whole `width` x `width` window of each image, places numbered row by row."""
    rows = np.arange(x.shape[1] - width + 1)[:, None] + np.arange(width)
    columns = np.arange(x.shape[2] - width + 1)[:, None] + np.arange(width)
    windows = x.at[:, rows[:, None, :, None], columns[None, :, None, :]].get(
        mode="promise_in_bounds"
    )
    return windows.reshape(*windows.shape[:3], width**2)


class Kernel(nn.Module):
    """A kernel with one weight for each orbit of its window under the square's symmetries.

    Weights start at 1 / width^2.

    Raises:
        ValueError: on construction, for a width that is even or not from 3 to 15.

    Source: paper, section 3.1; tied weights and their start as in the published program.
    """

    width: int

    def __post_init__(self) -> None:  # noqa: D105
        check_width(self.width)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "n h w"]) -> Float[Array, "n i j"]:
        """The weighted sum over each whole window: i = h - width + 1, j = w - width + 1."""
        params = {"weights": _tied_weights(self, (free_count(self.width),))}
        return _slide(fold_params(params), x)


class MLP(nn.Module):
    """A perceptron over w^2 inputs with one or two hidden layers of w^2 sigmoid nodes.

    The input is weighted (w^2); each hidden layer adds biases, takes the sigmoid, connects all
    w^2 nodes to w^2 nodes and weights them (w^2); the last weighted nodes sum to the output.
    Weights and biases are tied like a kernel's. With `equivariant` the connections are tied too,
    so that a rotated or mirrored input gives the rotated or mirrored output.

    Tied weights start at 1 / width^2, biases at 0, connections Xavier (Glorot) uniform.

    Raises:
        ValueError: on construction, for a width that is even or not from 3 to 15, or a number of
            hidden layers other than 1 and 2.

    Source: paper, section 3.1 and figure 3.
    Deviation: the paper's initialisation is Xavier throughout; a vector of w^2 weights has no
        fan, so tied weights start as in the published program. There the connection is a single
        scalar; here it is the w^2 x w^2 one that the paper describes.
    """

    width: int
    hidden: int
    equivariant: bool = False

    def __post_init__(self) -> None:  # noqa: D105
        check_width(self.width)
        if self.hidden not in (1, 2):
            raise ValueError(f"hidden is {self.hidden}: give 1 or 2 hidden layers")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "n h w"]) -> Float[Array, "n i j"]:
        """The output for each whole window: i = h - width + 1, j = w - width + 1."""
        free, places = free_count(self.width), self.width**2
        shape: tuple[int, ...] = (self.hidden, places, places)
        if self.equivariant:
            shape = (self.hidden, int(pair_orbits(self.width).max()) + 1)
        params = {
            "weights": _tied_weights(self, (self.hidden + 1, free)),
            "biases": self.param("biases", nn.initializers.zeros, (self.hidden, free)),
            "connections": self.param("connections", _xavier(places), shape),
        }
        return _slide(fold_params(params), x)


def kernel_matrix(params: Params) -> Float[Array, "w w"]:
    """The w x w matrix of a kernel's parameters.

    Raises:
        ValueError: for the parameters of an MLP.
    """
    if set(params) != {"weights"}:
        raise ValueError(
            f"parameters are {sorted(params)}: give a kernel's, which has weights only"
        )
    return fold_params(params).output


@jax.jit
def apply_folded(folded: Folded, tile: Float[Array, "h w"]) -> Float[Array, "i j"]:
    """What the plain module gives for one tile, faster, in memory of a few tiles.

    i = h - w_kernel + 1 and likewise j: pad the tile by half a window first.
    """
    if folded.connections is None:
        return _sum_of_shifts(folded, tile)
    width = folded.output.shape[-1]
    rows = max(1, _GATHER_LIMIT // (width**2 * tile.shape[1]))
    return _by_strips(lambda strip: _mix_shifts(folded, strip), tile, width, rows)


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


def _mix_shifts(folded: Folded, tile: Float[Array, "h w"]) -> Float[Array, "i j"]:
    """An MLP with two or more hidden layers: shifted maps stacked, then matrix products."""
    numbers = orbits(folded.output.shape[-1])
    height, width = (side - len(numbers) + 1 for side in tile.shape)
    maps = _first_maps(folded, tile)
    activity = jnp.stack(
        [
            maps[orbit][row : row + height, column : column + width].reshape(-1)
            for (row, column), orbit in np.ndenumerate(numbers)
        ]
    )
    connections = () if folded.connections is None else folded.connections
    for connection, biases in zip(connections, folded.biases[1:], strict=True):
        free = _untie(biases[None], len(numbers)).reshape(-1, 1)
        activity = jax.nn.sigmoid(_dot(connection.T, activity) + free)
    return _dot(folded.output.reshape(-1), activity).reshape(height, width)


def _first_maps(folded: Folded, tile: Float[Array, "h w"]) -> list[Float[Array, "h w"]]:
    """The first hidden layer's sigmoid over the whole tile, one map an orbit."""
    maps = [
        jax.nn.sigmoid(tile * scale + bias)
        for scale, bias in zip(folded.scale, folded.biases[0], strict=True)
    ]
    # Without the barrier XLA computes each sigmoid anew for each place of the window.
    return [jax.lax.optimization_barrier(plane) for plane in maps]


def _slide(folded: Folded, x: Float[Array, "n h w"]) -> Float[Array, "n i j"]:
    """`respond` at every whole window, a strip of rows at a time where images are large."""
    width = folded.output.shape[-1]

    def whole(images: Float[Array, "m r w"]) -> Float[Array, "m s j"]:
        windows = gather_windows(images, width)
        return respond(folded, windows.reshape(-1, width**2)).reshape(windows.shape[:3])

    if x.size * width**2 <= _GATHER_LIMIT:
        return whole(x)
    rows = max(1, _GATHER_LIMIT // (width**2 * x.shape[2]))

    def one(image: Float[Array, "h w"]) -> Float[Array, "i j"]:
        return _by_strips(lambda strip: whole(strip[None])[0], image, width, rows)

    out: Array = jax.lax.map(one, x)
    return out


def _by_strips(
    function: Callable[[Array], Array], image: Float[Array, "h w"], width: int, rows: int
) -> Float[Array, "i j"]:
    """`function` (whole windows in, pixels out) over an image, `rows` output rows at a time."""
    height, span = (side - width + 1 for side in image.shape)
    if rows >= height:
        return function(image)
    # The last strip starts early enough to be whole; the rows it repeats are dropped.
    count = -(-height // rows)
    starts = np.minimum(np.arange(count) * rows, height - rows)

    def one(start: Int[Array, ""]) -> Float[Array, "r j"]:
        return function(jax.lax.dynamic_slice_in_dim(image, start, rows + width - 1))

    pieces = jax.lax.map(one, jnp.asarray(starts))
    head = pieces[:-1].reshape(-1, span)
    return jnp.concatenate([head, pieces[-1, len(head) + rows - height :]])


def _untie(free: Float[Array, "l k"], width: int) -> Float[Array, "l p"]:
    # A product with a constant: the gradient of a gather would be a slow scatter.
    numbers = orbits(width).reshape(1, -1)
    return _dot(free, (numbers == np.arange(free.shape[-1])[:, None]).astype(np.float32))


def _dot(left: Float[Array, "..."], right: Float[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
    # The highest precision keeps GPUs from rounding the factors to 10 bits.
    product: Array = jnp.dot(left, right, precision=jax.lax.Precision.HIGHEST)
    return product


def _tied_weights(module: nn.Module, shape: tuple[int, ...]) -> Float[Array, "..."]:
    start = nn.initializers.constant(1 / width_of(shape[-1]) ** 2)
    weights: Array = module.param("weights", start, shape)
    return weights


def _xavier(places: int) -> Callable[..., Float[Array, "..."]]:
    """Glorot uniform for a places x places connection, tied or not."""
    limit = (3 / places) ** 0.5  # sqrt(6 / (fan in + fan out))

    def init(key: Array, shape: tuple[int, ...]) -> Float[Array, "..."]:
        return jax.random.uniform(key, shape, minval=-limit, maxval=limit)

    return init

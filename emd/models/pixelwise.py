"""Symmetric kernels and multilayer perceptrons: one output pixel per w x w window.

Owns their parameters and their tying over the eight symmetries of the square. Knows nothing of
data, normalisation, training or files.

The parameters of a member of width w, with h = w // 2, k = (h + 1)(h + 2) / 2 and p = w^2:

* kernel: `weights` (k,)
* MLP with l hidden layers: `weights` (l + 1, k), `biases` (l, k), `connections` (l, p, p), or
  (l, q) with the q pair orbits of `pair_orbits` where the connection is tied as well.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from emd.models.folded import Folded as Folded
from emd.models.folded import Params as Params
from emd.models.folded import apply_folded as apply_folded
from emd.models.folded import by_strips
from emd.models.folded import fold_params as fold_params
from emd.models.folded import respond as respond
from emd.models.symmetry import check_width, free_count, pair_orbits, width_of

# The plain modules gather at most this many elements of windows at a time (16 MiB).
_GATHER_LIMIT = 2**22


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


def gather_windows(x: Float[Array, "n h w"], width: int) -> Float[Array, "n i j p"]:
    """Every whole `width` x `width` window of each image, places numbered row by row."""
    rows, columns = (side - width + 1 for side in x.shape[1:])
    # Copied in runs: an indexed gather copies number by number.
    across = jnp.stack([x[:, :, k : k + columns] for k in range(width)], axis=-1)
    # Without the barrier XLA takes each number from the image by itself after all.
    across = jax.lax.optimization_barrier(across)
    down = jnp.stack([across[:, k : k + rows] for k in range(width)], axis=3)
    return down.reshape(len(x), rows, columns, width**2)


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
        return by_strips(lambda strip: whole(strip[None])[0], image, width, rows)

    out: Array = jax.lax.map(one, x)
    return out


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

"""A narrow member's parameters in the middle of the widest member's, with zeros around them."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from emd.models import symmetry
from emd.models.pixelwise import MLP, Kernel

Member = Kernel | MLP
Params = dict[str, Array]
Leaves = Mapping[str, Array | np.ndarray]


def pad(member: Member, widest: Member, params: Leaves) -> Params:
    """A member's parameters in the shapes of the widest member's, zero where it has none.

    The widest module computes the same with them as the member's own with its own: the places
    around the narrow window have weight 0, and no connection leaves them.
    """
    shapes = _shapes(widest)
    padded = {}
    # By NumPy: each step of it on the device would be a program to compile.
    for name, leaf in params.items():
        flat = np.zeros(int(np.prod(shapes[name])), leaf.dtype)
        flat[_places(member, widest, name)] = np.asarray(leaf).reshape(-1)
        padded[name] = jnp.asarray(flat.reshape(shapes[name]))
    return padded


def unpad(member: Member, widest: Member, params: Leaves) -> Params:
    """A member's parameters in its own shapes, taken out of the widest member's."""
    shapes = _shapes(member)
    taken = {
        name: np.asarray(leaf).reshape(-1)[_places(member, widest, name)]
        for name, leaf in params.items()
    }
    return {name: jnp.asarray(leaf.reshape(shapes[name])) for name, leaf in taken.items()}


def mask(member: Member, widest: Member) -> Params:
    """1 where a padded member has a parameter, 0 where it has none."""
    ones = {name: np.ones(shape, np.float32) for name, shape in _shapes(member).items()}
    return pad(member, widest, ones)


@functools.cache
def _shapes(member: Member) -> dict[str, tuple[int, ...]]:
    window = jnp.zeros((1, member.width, member.width))
    tree = jax.eval_shape(member.init, jax.random.key(0), window)["params"]
    return {name: tuple(leaf.shape) for name, leaf in tree.items()}


@functools.cache
def _places(member: Member, widest: Member, name: str) -> Int[np.ndarray, "s"]:
    """Where each entry of a member's leaf lies in the widest member's, both flattened."""
    small, large = _shapes(member)[name], _shapes(widest)[name]
    columns = np.arange(small[-1])
    if name == "connections":
        start = (widest.width - member.width) // 2
        window = np.arange(widest.width**2).reshape(widest.width, widest.width)
        inner = slice(start, start + member.width)
        places = window[inner, inner].reshape(-1)
        if len(small) == 3:
            columns = np.add.outer(places * widest.width**2, places).reshape(-1)
        else:
            pairs = np.ix_(places, places)
            tied = np.unique(symmetry.pair_orbits(member.width), return_index=True)[1]
            columns = symmetry.pair_orbits(widest.width)[pairs].reshape(-1)[tied]
    layers = small[0] if len(small) > 1 else 1
    size = int(np.prod(large)) // layers
    return np.add.outer(np.arange(layers) * size, columns).reshape(-1)

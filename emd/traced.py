"""A model as one pure JAX function from counts to counts, for `jit`, `grad`, `vmap` and export.

Owns the plain form of `emd.restore`: normalisation, border, network and mean in one program that
any backend compiles, for images of any size, symbolic ones included. For finite float32 alone, and
without tiles, so that memory grows with the image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from emd.checkpoint import Model
from emd.data.normalise import denormalise, measure, normalise
from emd.models.autoencoder import Autoencoder
from emd.models.folded import Folded
from emd.models.layers import EPSILON, depthwise_plain, to_image_plain, upsample_plain
from emd.models.pixelwise import MLP, Kernel, fold
from emd.models.symmetry import orbits

Restoring = Callable[[Float[Array, "n h w"]], Float[Array, "n h w"]]


class Separable(NamedTuple):
    """A separable convolution with the batch normalisation after it; a ReLU follows."""

    depthwise: Float[np.ndarray, "3 3 1 c"]
    pointwise: Float[np.ndarray, "c f"]
    bias: Float[np.ndarray, " f"]
    stride: int


class Transposed(NamedTuple):
    """A transposed convolution of stride 2 with what normalises after it; a ReLU follows."""

    kernel: Float[np.ndarray, "3 3 c f"]
    bias: Float[np.ndarray, " f"]


class Layers(NamedTuple):
    """An autoencoder with its batch normalisations folded into its convolutions."""

    encoder: list[Separable]
    decoder: list[Transposed]
    image: Float[np.ndarray, "3 3 c 1"]


def fold_autoencoder(variables: Mapping[str, Any]) -> Layers:
    """The layers of an autoencoder's variables."""
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), dict(variables))

    def norm(half: str, number: int) -> tuple[np.ndarray, np.ndarray]:
        name = f"BatchNorm_{number}"
        params, stats = weights["params"][half][name], weights["batch_stats"][half][name]
        factor = params["scale"] / np.sqrt(stats["var"] + EPSILON)
        return factor, (params["bias"] - stats["mean"] * factor).astype(np.float32)

    encoder, decoder = [], []
    for number, stride in enumerate((2, 2, 2, 1)):
        layer = weights["params"]["encoder"][f"SeparableConv_{number}"]
        factor, bias = norm("encoder", number)
        mixing = (layer["pointwise"] * factor).astype(np.float32)
        encoder.append(Separable(layer["depthwise"].astype(np.float32), mixing, bias, stride))
    last = weights["params"]["decoder"]
    for number in range(2):
        factor, bias = norm("decoder", number)
        kernel = last[f"Upsample_{number}"]["kernel"] * factor
        decoder.append(Transposed(kernel.astype(np.float32), bias))
    biased = {name: leaf.astype(np.float32) for name, leaf in last["Upsample_2"].items()}
    decoder.append(Transposed(biased["kernel"], biased["bias"]))
    return Layers(encoder, decoder, last["ToImage_0"]["kernel"].astype(np.float32))


def trace(model: Model) -> Restoring:
    """The function of finite images in counts that `emd.restore.restore` is for float32.

    Traces with symbolic sides. Constant images come back as they are.
    """
    if isinstance(model.module, Kernel | MLP):
        with jax.ensure_compile_time_eval():  # numbers even where the caller is being traced
            folded = fold(model.module, model.variables["params"])
            network = _pixelwise(jax.tree.map(np.asarray, folded))
    else:
        network = _network(model)
    halo, multiple = border(model)

    def restoring(x: Float[Array, "n h w"]) -> Float[Array, "n h w"]:
        scale = measure(x)
        with jax.default_matmul_precision("highest"):
            y = network(_padded(normalise(x, scale), halo, multiple))
        y = y[:, : x.shape[1], : x.shape[2]]
        if not model.config.published:
            y = y + (1 - y.mean((1, 2), keepdims=True))
        return jnp.asarray(denormalise(y, scale))

    return restoring


def border(model: Model) -> tuple[int, int]:
    """By how much a model's images are reflected beyond their border; what sides are multiples of.

    In pixels; nothing is reflected for networks that pad themselves.
    """
    module = model.module
    if isinstance(module, Kernel | MLP):
        return module.width // 2, 1
    return 0 if module.pads_itself else module.halo_px, module.cell_px


def _padded(x: Float[Array, "n h w"], halo: int, multiple: int) -> Float[Array, "n h2 w2"]:
    """Images reflected by `halo` on each side, and beyond the end up to a multiple of a side.

    Without halo they are mirrored at their end, the last pixel repeated, as by `Engine.around`.
    """
    for axis in (1, 2):
        side = x.shape[axis]
        last = 2 * (side - 1) if halo else 2 * side - 1
        # written so that a side not known yet is seen to be a multiple
        index = jnp.arange((side + multiple - 1) // multiple * multiple + 2 * halo) - halo
        # of reflection a single pixel has no period of its own: any will do
        folded = index % (jnp.maximum(last, 1) if halo else 2 * side)
        x = jnp.take(x, jnp.minimum(folded, last - folded), axis, mode="clip")
    return x


def _network(model: Model) -> Restoring:
    """The network of padded images, less the halo before them."""
    if isinstance(model.module, Autoencoder):
        return _autoencoder(fold_autoencoder(model.variables))
    halo, _ = border(model)

    def network(x: Float[Array, "n h w"]) -> Float[Array, "n i j"]:
        return jnp.asarray(model.module.apply(model.variables, x))[:, halo:, halo:]

    return network


def _autoencoder(layers: Layers) -> Restoring:
    def network(x: Float[Array, "n h w"]) -> Float[Array, "n i j"]:
        y = x[..., None]
        for one in layers.encoder:
            y = depthwise_plain(y, jnp.asarray(one.depthwise), stride=one.stride)
            y = jax.nn.relu(y @ one.pointwise + one.bias[None, None, None])
        for up in layers.decoder:
            y = upsample_plain(y, jnp.asarray(up.kernel))
            y = jax.nn.relu(y + up.bias[None, None, None])
        halo = Autoencoder.halo_px
        return to_image_plain(y, jnp.asarray(layers.image))[:, halo:, halo:]

    return network


def _pixelwise(folded: Folded) -> Restoring:
    numbers = orbits(folded.output.shape[-1])
    places = list(np.ndindex(numbers.shape))

    def first(x: Float[Array, "n h w"]) -> list[Float[Array, "n h w"]]:
        if not len(folded.biases):
            return [x] * (int(numbers.max()) + 1)
        pairs = zip(folded.scale, folded.biases[0], strict=True)
        return [jax.nn.sigmoid(x * scale + bias) for scale, bias in pairs]

    def add(x: Float[Array, "n h w"]) -> Float[Array, "n i j"]:
        maps = first(x)
        height, width = (side - len(numbers) + 1 for side in x.shape[1:])
        total = jnp.zeros((x.shape[0], height, width), x.dtype)
        for i, j in places:
            part = maps[numbers[i, j]][:, i : i + height, j : j + width]
            total = total + part * folded.output[i, j]
        return total

    def mix(x: Float[Array, "n h w"]) -> Float[Array, "n i j"]:
        # row by row: what all windows take at a time is w^2 times the image
        maps = jnp.stack(first(x))
        height, width = (side - len(numbers) + 1 for side in x.shape[1:])
        connections = () if folded.connections is None else folded.connections
        biases = [layer[numbers.reshape(-1)] for layer in folded.biases[1:]]

        def row(start: Array) -> Float[Array, "n j"]:
            band = lax.dynamic_slice_in_dim(maps, start, len(numbers), 2)
            activity = jnp.stack([band[numbers[i, j], :, i, j : j + width] for i, j in places], -1)
            for connection, bias in zip(connections, biases, strict=True):
                activity = jax.nn.sigmoid(activity @ connection + bias[None, None])
            return activity @ folded.output.reshape(-1)

        return lax.map(row, jnp.arange(height)).swapaxes(0, 1)

    return add if folded.connections is None else mix

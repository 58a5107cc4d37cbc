"""The autoencoder as a PyTorch user would write it, with the weights of ours.

Our strided convolutions pad at the end (SAME), where PyTorch's modules pad both ends alike. On the
mirrored image, with mirrored kernels, its plain modules are the same network. So images go in and
come out mirrored, and the peer pays for no padding or cropping of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from emd.models.layers import DECAY, EPSILON
from experiments.benchmark import peers


class _Weight(NamedTuple):
    """One parameter or statistic: where it is on either side, and the way between."""

    collection: str
    path: tuple[str, str, str]
    name: str
    kind: str


def _mirror(kernel: np.ndarray) -> np.ndarray:
    return kernel[:, :, ::-1, ::-1]


# Flax's shape to PyTorch's, and back.
_WAYS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "vector": (lambda a: a, lambda a: a),
    "matrix": (lambda a: a.T[:, :, None, None], lambda a: a[:, :, 0, 0].T),
    "kernel": (
        lambda a: _mirror(a.transpose(3, 2, 0, 1)),
        lambda a: _mirror(a).transpose(2, 3, 1, 0),
    ),
    "transposed": (
        lambda a: _mirror(a.transpose(2, 3, 0, 1)),
        lambda a: _mirror(a).transpose(2, 3, 0, 1),
    ),
}


def _norm(half: str, index: int, name: str) -> list[_Weight]:
    path = (half, f"BatchNorm_{index}")
    return [
        _Weight("params", (*path, "scale"), f"{name}.weight", "vector"),
        _Weight("params", (*path, "bias"), f"{name}.bias", "vector"),
        _Weight("batch_stats", (*path, "mean"), f"{name}.running_mean", "vector"),
        _Weight("batch_stats", (*path, "var"), f"{name}.running_var", "vector"),
    ]


def _weights() -> list[_Weight]:
    found = []
    for i in range(4):
        path = ("encoder", f"SeparableConv_{i}")
        found += [
            _Weight("params", (*path, "depthwise"), f"depthwise{i}.weight", "kernel"),
            _Weight("params", (*path, "pointwise"), f"pointwise{i}.weight", "matrix"),
            *_norm("encoder", i, f"encoder_norm{i}"),
        ]
    for i in range(3):
        path = ("decoder", f"Upsample_{i}")
        found.append(_Weight("params", (*path, "kernel"), f"upsample{i}.weight", "transposed"))
        if i < 2:
            found += _norm("decoder", i, f"decoder_norm{i}")
    found.append(_Weight("params", ("decoder", "Upsample_2", "bias"), "upsample2.bias", "vector"))
    found.append(_Weight("params", ("decoder", "ToImage_0", "kernel"), "image.weight", "kernel"))
    return found


def make_network(variables: Mapping[str, Any]) -> Any:
    """A PyTorch module with the same weights, in channels_last on the device; (n 1 h w) both ends.

    Args:
      variables: of `emd.models.autoencoder.Autoencoder`, of any latent depth.

    Raises:
        MissingLibraryError: PyTorch is missing.
    """
    torch, device = peers.torch_on_device()
    nn = torch.nn
    latent = np.shape(variables["params"]["encoder"]["SeparableConv_3"]["pointwise"])[-1]
    layers: OrderedDict[str, Any] = OrderedDict()

    def normalise(name: str, features: int) -> None:
        layers[name] = nn.BatchNorm2d(features, eps=EPSILON, momentum=1 - DECAY)
        layers[f"{name}_relu"] = nn.ReLU(inplace=True)

    channels = 1
    for i, (features, stride) in enumerate(((64, 2), (128, 2), (256, 2), (latent, 1))):
        layers[f"depthwise{i}"] = nn.Conv2d(
            channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False
        )
        layers[f"pointwise{i}"] = nn.Conv2d(channels, features, 1, bias=False)
        normalise(f"encoder_norm{i}", features)
        channels = features
    for i, features in enumerate((256, 128, 64)):
        layers[f"upsample{i}"] = nn.ConvTranspose2d(
            channels, features, 3, stride=2, padding=1, output_padding=1, bias=i == 2
        )
        if i < 2:
            normalise(f"decoder_norm{i}", features)
        channels = features
    layers["upsample2_relu"] = nn.ReLU(inplace=True)
    layers["image"] = nn.Conv2d(64, 1, 3, padding=1, bias=False)
    network = nn.Sequential(layers)
    network.load_state_dict(_state(torch, variables), strict=False)  # it counts batches besides
    return network.to(device, memory_format=torch.channels_last)


def _state(torch: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
    state = {}
    for collection, (half, layer, leaf), name, kind in _weights():
        array = np.asarray(variables[collection][half][layer][leaf])
        state[name] = torch.tensor(np.ascontiguousarray(_WAYS[kind][0](array)))
    return state


def parameters(network: Any) -> Float[np.ndarray, " p"]:
    """All trained weights in our shapes, one after the other as `jax.tree.leaves` has ours."""
    return _flat(network, lambda parameter: parameter)


def gradients(network: Any) -> Float[np.ndarray, " p"]:
    """Their gradients, likewise."""
    return _flat(network, lambda parameter: parameter.grad)


def _flat(network: Any, part: Callable[[Any], Any]) -> Float[np.ndarray, " p"]:
    found = dict(network.named_parameters())
    weights = sorted((w for w in _weights() if w.collection == "params"), key=lambda w: w.path)
    arrays = [_WAYS[w.kind][1](peers.to_numpy(part(found[w.name]))) for w in weights]
    return np.concatenate([array.ravel() for array in arrays])


def mirrored(images: np.ndarray) -> np.ndarray:
    """Images (n h w) turned by half a turn, as the network takes and gives them."""
    return np.ascontiguousarray(images[:, ::-1, ::-1])

"""Kernels and perceptrons over a normalised image, by folded models and by their peers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from emd import checkpoint
from emd.apply import over_image
from emd.models import pixelwise
from emd.models.symmetry import orbits
from experiments.benchmark import machine, peers
from experiments.benchmark.timing import Side

STRIP_VALUES = 2**22
"""Values of unfolded windows that the peer holds at a time: 16 MiB, which a cache may hold."""


@functools.lru_cache(maxsize=4)
def counts(side: int) -> Float[np.ndarray, "h w"]:
    """A micrograph of waves under shot noise, in counts from 0 to some 60 000."""
    rows, columns = np.arange(side)[:, None], np.arange(side)[None]
    wave = np.sin(rows * 0.05) * np.sin(columns * 0.11) + 1.5
    noisy = np.random.default_rng(0).poisson(100 * wave) * 160.0
    return np.clip(noisy, 0, 65535).astype(np.float32)


def normalised(side: int) -> Float[np.ndarray, "h w"]:
    """The same with minimum 0 and mean 1."""
    above = counts(side) - counts(side).min()
    return above / above.mean()


def padded(side: int, width: int) -> Float[np.ndarray, "h w"]:
    """The same, reflected beyond its border by half a window, so that the output has its size."""
    return np.ascontiguousarray(np.pad(normalised(side), width // 2, mode="reflect"))


def ours(name: str, side: int) -> Side:
    """A model by name over a whole image: on a CPU as `emd.restore` applies it.

    On a GPU folded, over an image that lies there and is reflected beyond its border, as for the
    peer.
    """
    model = checkpoint.load(name)
    call: Callable[[], Any]
    if machine.on_gpu():
        folded = jax.device_put(pixelwise.fold(model.module, model.variables["params"]))  # type: ignore[arg-type]
        tile = jnp.asarray(padded(side, folded.output.shape[-1]))
        call = functools.partial(pixelwise.apply_folded, folded, tile)
    else:
        call = functools.partial(over_image, model, normalised(side))

    def run() -> Any:
        return jax.block_until_ready(call())

    return Side(run, lambda: [np.asarray(run())])


def kernel_of(name: str) -> Float[np.ndarray, "w w"]:
    """The matrix of a kernel by name."""
    return np.asarray(pixelwise.kernel_matrix(checkpoint.load(name).variables["params"]))


def _opencv(image: np.ndarray, kernel: np.ndarray) -> Callable[[], np.ndarray]:
    cv2 = peers.library("cv2")
    return lambda: cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


def _scipy(image: np.ndarray, kernel: np.ndarray) -> Callable[[], np.ndarray]:
    ndimage = peers.library("scipy.ndimage")
    return lambda: ndimage.correlate(image, kernel, mode="mirror")


def _skimage(image: np.ndarray, kernel: np.ndarray) -> Callable[[], np.ndarray]:
    filters = peers.library("skimage.filters")
    return lambda: filters.correlate_sparse(image, kernel, mode="mirror")


def _torch(image: np.ndarray, kernel: np.ndarray) -> Callable[[], Any]:
    torch, device = peers.torch_on_device()
    width = len(kernel)
    weights = torch.from_numpy(kernel.copy()).to(device)[None, None]
    x = torch.from_numpy(np.pad(image, width // 2, mode="reflect")).to(device)[None, None]

    def run() -> Any:
        with torch.no_grad():
            out = torch.nn.functional.conv2d(x, weights)[0, 0]
        peers.wait(torch)
        return out

    return run


KERNEL_PEERS: dict[str, Callable[[np.ndarray, np.ndarray], Callable[[], Any]]] = {
    "opencv": _opencv,
    "scipy": _scipy,
    "skimage": _skimage,
    "torch": _torch,
}


def kernel_peer(library: str, name: str, side: int) -> Side:
    """Another library's correlation with a kernel, reflecting at the border."""
    call = KERNEL_PEERS[library](normalised(side), kernel_of(name))

    def answer() -> list[np.ndarray]:
        out = call()
        return [out if isinstance(out, np.ndarray) else peers.to_numpy(out)]

    return Side(call, answer)


def untied(free: Any, width: int) -> np.ndarray:
    """Tied numbers at each place of the window, row by row."""
    return np.asarray(free, np.float32)[..., orbits(width).reshape(-1)]


def torch_mlp(params: Mapping[str, Any]) -> Callable[[Any], Any]:
    """What a perceptron gives for each whole window of a tensor (h w): straight unfold and GEMM.

    As the paper has the network, a layer after the other; the windows of a strip of rows at a
    time.
    """
    torch, device = peers.torch_on_device()
    unfold = torch.nn.functional.unfold
    width = int(np.sqrt(np.shape(params["connections"])[-1]))

    def load(array: np.ndarray) -> Any:
        return torch.from_numpy(np.array(array, np.float32)).to(device)

    weights = load(untied(params["weights"], width))[:, :, None]
    biases = load(untied(params["biases"], width))[:, :, None]
    connections = [load(matrix.T) for matrix in np.asarray(params["connections"])]

    def strip(x: Any) -> Any:
        activity = unfold(x[None, None], width)[0]
        activity.mul_(weights[0]).add_(biases[0]).sigmoid_()
        for matrix, bias, weight in zip(connections[:-1], biases[1:], weights[1:-1], strict=True):
            activity = (matrix @ activity).mul_(weight).add_(bias).sigmoid_()
        return (weights[-1].T @ (connections[-1] @ activity))[0]

    def whole(x: Any) -> Any:
        height, columns = x.shape[0] - width + 1, x.shape[1] - width + 1
        rows = max(1, STRIP_VALUES // (width**2 * columns))
        if machine.on_gpu():
            rows *= 16  # wide enough to fill the device
        parts = [
            strip(x[start : min(start + rows, height) + width - 1]).reshape(-1, columns)
            for start in range(0, height, rows)
        ]
        return torch.cat(parts)

    return whole


def mlp_peer(name: str, side: int) -> Side:
    """A perceptron by name in PyTorch, without gradients."""
    torch, device = peers.torch_on_device()
    params = checkpoint.load(name).variables["params"]
    call = torch_mlp(params)
    width = int(np.sqrt(np.shape(params["connections"])[-1]))
    x = torch.from_numpy(padded(side, width)).to(device)

    def run() -> Any:
        with torch.no_grad():
            out = call(x)
        peers.wait(torch)
        return out

    return Side(run, lambda: [peers.to_numpy(run())])

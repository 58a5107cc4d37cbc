"""Whole micrographs from counts to counts, as users restore them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from emd import checkpoint
from emd.apply import HALO_PX
from emd.restore import denoise
from experiments.benchmark import network, peers, windows
from experiments.benchmark.timing import Side


def _image(side: int, dtype: type) -> np.ndarray:
    return windows.counts(side).astype(dtype)


def ours(name: str, side: int, dtype: type) -> Side:
    """`emd.restore.denoise` of an array."""
    model, image = checkpoint.load(name), _image(side, dtype)

    def run() -> Any:
        return denoise(image, model)

    return Side(run, lambda: [run()])


def torch_peer(name: str, side: int, dtype: type) -> Side:
    """The same in PyTorch: normalised, reflected, restored whole, its mean kept, rounded."""
    torch, device = peers.torch_on_device()
    model = checkpoint.load(name)
    image = _image(side, dtype)
    if model.config.family == "autoencoder":
        margin, apply = HALO_PX, _whole_network(torch, model.variables)
    else:
        margin, apply = model.config.size // 2, windows.torch_mlp(model.variables["params"])

    def run() -> np.ndarray:
        with torch.no_grad():
            x = torch.from_numpy(image).to(device).float()
            low = x.min()
            mean = (x - low).mean()
            x = (x - low).div_(mean)
            y = apply(torch.nn.functional.pad(x[None, None], (margin,) * 4, "reflect")[0, 0])
            y = (y + (1 - y.mean())).mul_(mean).add_(low)
            if image.dtype == np.uint16:
                y = y.round_().clamp_(0, 65535).to(torch.uint16)
            return peers.to_numpy(y)

    return Side(run, lambda: [run()])


def _whole_network(torch: Any, variables: Any) -> Callable[[Any], Any]:
    """The autoencoder over one whole image (h w), the border that ours sees too left out."""
    model = network.make_network(variables).eval()

    def apply(x: Any) -> Any:
        turned = x.flip(0, 1)[None, None].contiguous(memory_format=torch.channels_last)
        inner = slice(HALO_PX, -HALO_PX)
        return model(turned)[0, 0].flip(0, 1)[inner, inner]

    return apply


def opencv_peer(name: str, side: int, dtype: type) -> Side:
    """A kernel by OpenCV between NumPy's normalisation and rounding."""
    cv2 = peers.library("cv2")
    kernel, image = windows.kernel_of(name), _image(side, dtype)
    highest = np.iinfo(image.dtype).max if image.dtype.kind == "u" else np.inf

    def run() -> np.ndarray:
        x = image.astype(np.float32)
        low = x.min()
        x -= low
        mean = x.mean(dtype=np.float64)
        x /= np.float32(mean)
        y = cv2.filter2D(x, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        y += np.float32(1 - y.mean(dtype=np.float64))
        y *= np.float32(mean)
        y += low
        if image.dtype.kind == "u":
            np.rint(y, out=y)
            np.clip(y, 0, highest, out=y)
        return y.astype(image.dtype)

    return Side(run, lambda: [run()])

"""Whole micrographs from counts to counts, as users restore them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from emd import checkpoint
from emd.job import restore_file
from emd.models.autoencoder import Autoencoder
from emd.restore import denoise
from experiments.benchmark import network, peers, windows
from experiments.benchmark.timing import Side

Restorer = Callable[[np.ndarray], np.ndarray]


def _image(side: int, dtype: type) -> np.ndarray:
    return windows.counts(side).astype(dtype)


def ours(name: str, side: int, dtype: type) -> Side:
    """`emd.restore.denoise` of an array."""
    model, image = checkpoint.load(name), _image(side, dtype)

    def run() -> Any:
        return denoise(image, model)

    return Side(run, lambda: [run()])


def stack_ours(name: str, frames: int, side: int) -> Side:
    """`emd.job.restore_file` of a stack of uint16, file to file."""
    model, folder = checkpoint.load(name), _folder_of_stack(frames, side)

    def run() -> None:
        source, output = (Path(folder.name, file) for file in ("stack.tif", "restored.tif"))
        restore_file(source, output, model, overwrite=True)

    def answer() -> list[np.ndarray]:
        run()
        return [tifffile.imread(Path(folder.name, "restored.tif"))]

    return Side(run, answer, scale=1 / frames)


def stack_peer(restorer: Callable[[str], Restorer], name: str, frames: int, side: int) -> Side:
    """The same by tifffile and another library, frame after frame."""
    apply, folder = restorer(name), _folder_of_stack(frames, side)

    def run() -> np.ndarray:
        stack = tifffile.imread(Path(folder.name, "stack.tif"))
        restored = np.stack([apply(frame) for frame in stack])
        tifffile.imwrite(Path(folder.name, "restored.tif"), restored, imagej=True)
        return restored

    return Side(run, lambda: [run()], scale=1 / frames)


def _folder_of_stack(frames: int, side: int) -> tempfile.TemporaryDirectory[str]:
    """A folder, there as long as this is kept, with a stack of unlike frames in it."""
    folder = tempfile.TemporaryDirectory()
    image = _image(side, np.uint16)
    stack = np.stack([np.roll(image, shift, 1) for shift in range(frames)])
    tifffile.imwrite(Path(folder.name, "stack.tif"), stack, imagej=True)
    return folder


def torch_peer(name: str, side: int, dtype: type) -> Side:
    """`torch_restorer` over an array."""
    apply, image = torch_restorer(name), _image(side, dtype)
    return Side(lambda: apply(image), lambda: [apply(image)])


def torch_restorer(name: str) -> Restorer:
    """A model in PyTorch: normalised, reflected, restored whole, its mean kept, rounded."""
    torch, device = peers.torch_on_device()
    model = checkpoint.load(name)
    if model.config.family == "autoencoder":
        margin, apply = Autoencoder.halo_px, _whole_network(torch, model.variables)
    else:
        margin, apply = model.config.size // 2, windows.torch_mlp(model.variables["params"])

    def restore(image: np.ndarray) -> np.ndarray:
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

    return restore


def _whole_network(torch: Any, variables: Any) -> Callable[[Any], Any]:
    """The autoencoder over one whole image (h w), the border that ours sees too left out."""
    model = network.make_network(variables).eval()

    def apply(x: Any) -> Any:
        turned = x.flip(0, 1)[None, None].contiguous(memory_format=torch.channels_last)
        inner = slice(Autoencoder.halo_px, -Autoencoder.halo_px)
        return model(turned)[0, 0].flip(0, 1)[inner, inner]

    return apply


def opencv_peer(name: str, side: int, dtype: type) -> Side:
    """`opencv_restorer` over an array."""
    apply, image = opencv_restorer(name), _image(side, dtype)
    return Side(lambda: apply(image), lambda: [apply(image)])


def opencv_restorer(name: str) -> Restorer:
    """A kernel by OpenCV between NumPy's normalisation and rounding."""
    cv2 = peers.library("cv2")
    kernel = windows.kernel_of(name)

    def restore(image: np.ndarray) -> np.ndarray:
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
            np.clip(y, 0, np.iinfo(image.dtype).max, out=y)
        return y.astype(image.dtype)

    return restore

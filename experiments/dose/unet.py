"""A U-Net of the size of the published one, to be timed: its weights are random.

Three levels of 24, 48 and 96 maps, two convolutions each, in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.benchmark import peers

_MAPS = (24, 48, 96)


def network(torch: Any) -> Any:
    """Return the network, as a module of PyTorch; of images (n, 1, h, w), sides multiples of 4."""
    nn = torch.nn

    def twice(inward: int, outward: int) -> Any:
        return nn.Sequential(
            nn.Conv2d(inward, outward, 3, padding=1), nn.ReLU(),
            nn.Conv2d(outward, outward, 3, padding=1), nn.ReLU(),
        )  # fmt: skip

    first, second, third = _MAPS

    class UNet(nn.Module):  # type: ignore[misc, name-defined]  # torch has no types here
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.ModuleList([twice(1, first), twice(first, second)])
            self.bottom = twice(second, third)
            self.grow = nn.ModuleList(
                [nn.ConvTranspose2d(third, second, 2, 2), nn.ConvTranspose2d(second, first, 2, 2)]
            )
            self.up = nn.ModuleList([twice(2 * second, second), twice(2 * first, first)])
            self.last = nn.Conv2d(first, 1, 1)

        def forward(self, x: Any) -> Any:
            beside = []
            for level in self.down:
                x = level(x)
                beside.append(x)
                x = nn.functional.max_pool2d(x, 2)
            x = self.bottom(x)
            for grow, level in zip(self.grow, self.up, strict=True):
                x = level(torch.cat([beside.pop(), grow(x)], dim=1))
            return self.last(x)

    return UNet()


def restore() -> Callable[[Float[np.ndarray, "h w"]], Float[np.ndarray, "h w"]]:
    """Return what applies it to an image on one thread.

    Raises:
        MissingLibraryError: PyTorch is not installed.
    """
    torch = peers.library("torch")
    torch.set_num_threads(1)
    made = network(torch).eval()

    def apply(image: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        with torch.no_grad():
            given = torch.from_numpy(np.array(image, np.float32))  # a copy: PyTorch wants to write
            return np.asarray(made(given[None, None])[0, 0].numpy())

    return apply

"""The mean of what a network makes of an image under the eight symmetries of the square.

Owns the wrapper that makes it a model like any other. Strided convolutions see a turned image
otherwise; the mean does not, and what they get wrong by chance partly cancels.

Source: Timofte, Rothe and Van Gool, "Seven ways to improve example-based single image super
resolution" (CVPR 2016), section 3.4.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from emd.checkpoint import Model
from emd.models.pixelwise import Kernel

SUFFIX = "_ensemble"
"""Of the model's name."""


class Ensemble(nn.Module):
    """A network over all eight flips and turns: eight times its work, in the memory of one."""

    network: Any

    @property
    def cell_px(self) -> int:
        """What tiles begin at multiples of."""
        return int(self.network.cell_px)

    @property
    def pads_itself(self) -> bool:
        """Whether an image's border is its own affair."""
        return bool(self.network.pads_itself)

    @property
    def halo_px(self) -> int:
        """What tiles need around them."""
        return int(self.network.halo_px)

    @property
    def tiles_px(self) -> tuple[int, int]:
        """The narrowest and the widest tile on a CPU."""
        least, most = self.network.tiles_px
        return int(least), int(most)

    @property
    def map_bytes(self) -> int:
        """What the maps of a tile take, for each pixel."""
        return int(self.network.map_bytes)

    def __call__(self, x: Float[Array, "n h w"], **options: int) -> Float[Array, "n h2 w2"]:
        """Return the mean of the restored images, turned back; ``options`` are the network's."""
        total: Any = 0.0
        for quarter in range(4):
            turned = jnp.rot90(x, quarter, axes=(1, 2))
            for flipped in (False, True):
                seen = turned[:, ::-1] if flipped else turned
                made = self.network(seen, **options)
                made = made[:, ::-1] if flipped else made
                total = total + jnp.rot90(made, -quarter, axes=(1, 2))
        return jnp.asarray(total / 8)


def ensemble(model: Model) -> Model:
    """The model whose result is the mean over the eight symmetries; a kernel has them already.

    Its name is the model's with ``SUFFIX``.

    Raises:
      ValueError: a perceptron, which is applied pixel by pixel another way.
    """
    if isinstance(model.module, Kernel):
        return model
    if not hasattr(model.module, "halo_px"):
        raise ValueError(
            f"{model.config.name} is a perceptron: the ensemble is of networks alone, so name one "
            "with --model, such as stem_skip48_clean"
        )
    config = dataclasses.replace(model.config, label=model.config.name + SUFFIX)
    variables = {kind: {"network": tree} for kind, tree in model.variables.items()}
    return model._replace(config=config, module=Ensemble(model.module), variables=variables)


def one_pass(model: Model) -> Model:
    """The network whose passes an ensemble is the mean of; any other model itself."""
    if not isinstance(model.module, Ensemble):
        return model
    config = dataclasses.replace(model.config, label=model.config.label.removesuffix(SUFFIX))
    variables = {kind: tree["network"] for kind, tree in model.variables.items()}
    return model._replace(config=config, module=model.module.network, variables=variables)

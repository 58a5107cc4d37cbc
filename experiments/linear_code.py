"""The best linear code of an autoencoder's size, the yardstick it is held against."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

BLOCK_PX = 8


class LinearCode(NamedTuple):
    """Principal components of 8x8 blocks: ``d`` numbers a block, as a latent of depth d has."""

    mean: Float[np.ndarray, " p"]
    components: Float[np.ndarray, "p d"]


def _blocks(images: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, "k p"]:
    n, h, w = images.shape
    cut = images.reshape(n, h // BLOCK_PX, BLOCK_PX, w // BLOCK_PX, BLOCK_PX)
    return cut.transpose(0, 1, 3, 2, 4).reshape(-1, BLOCK_PX**2)


def fit(images: Float[np.ndarray, "n h w"], depth: int) -> LinearCode:
    """Return the linear code of ``depth`` numbers a block with least squared error on images."""
    blocks = _blocks(images).astype(np.float64)
    mean = blocks.mean(0)
    _, vectors = np.linalg.eigh((blocks - mean).T @ (blocks - mean))
    return LinearCode(mean, vectors[:, ::-1][:, :depth])


def mse(code: LinearCode, images: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, " n"]:
    """Return each image's mean squared error after its blocks were coded."""
    blocks = _blocks(images).astype(np.float64) - code.mean
    residual = blocks - (blocks @ code.components) @ code.components.T
    return (residual**2).reshape(len(images), -1).mean(1)

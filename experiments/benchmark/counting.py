"""Operations and bytes that a job cannot do without, and the least time for them on a machine.

A multiplication with an addition counts as 2 operations. Bytes are what must pass between memory
and processor however well the parts are fused: each array is read once by all that read it at the
same time, and written once.
"""

from __future__ import annotations

from typing import NamedTuple

from emd.models.symmetry import free_count
from experiments.benchmark.machine import Rates

SIGMOID_FLOPS = 20
"""A sigmoid: range reduction, a polynomial of degree 5, an addition and a division."""

TRAINING_PASSES = 6
"""How often a training step must read or write each feature map: it is written and read forwards;
read once for the sums of batch norm's gradient; backwards its gradient is written, and read along
with the map."""

ADAM_PASSES = 8
"""Adam reads parameter, gradient and two moments and writes three of them; backwards wrote one."""

_ENCODER = ((1, 64), (64, 128), (128, 256))  # channels in and out of layers of stride 2
_DECODER = (256, 128, 64)


class Work(NamedTuple):
    """What a job cannot do without."""

    flops: float
    bytes: float


class Limit(NamedTuple):
    """The least time for some work on a machine, and what sets it."""

    seconds: float
    kind: str
    text: str


def limit(work: Work, rates: Rates, precision: str) -> Limit:
    """The least time for `work`: the longer of arithmetic and traffic, each at its measured rate.

    Args:
      work: counted by the functions below.
      rates: of the machine.
      precision: of its products, a key of `rates.gemm`.
    """
    gemm = rates.gemm[precision]
    copy = rates.copy(work.bytes)
    arithmetic, traffic = work.flops / gemm, work.bytes / copy
    if arithmetic >= traffic:
        text = f"{work.flops / 1e9:.3g} GFLOP at the {gemm / 1e9:.3g} GFLOP/s of a large GEMM"
        return Limit(arithmetic, "arithmetic", text)
    text = f"{work.bytes / 1e6:.4g} MB at the {copy / 1e9:.3g} GB/s of a copy"
    return Limit(traffic, "bandwidth", text)


def autoencoder_flops(pixels: int, latent: int) -> float:
    """Operations of one application to images of so many pixels in all."""
    total, area = 0.0, float(pixels)
    for channels, features in _ENCODER:
        area /= 4
        total += 2 * area * channels * (9 + features)
    total += 2 * area * 256 * (9 + latent)
    channels = latent
    for features in _DECODER:
        total += 2 * 9 * area * channels * features  # nine taps from each pixel that goes in
        area, channels = area * 4, features
    return total + 2 * 9 * area * channels


def feature_values(pixels: int, latent: int) -> float:
    """Values of all feature maps between the layers, the depthwise convolutions' left out."""
    encoder = sum(pixels / 4**k * features for k, features in ((1, 64), (2, 128), (3, 256)))
    decoder = sum(pixels / 4**k * features for k, features in ((2, 256), (1, 128), (0, 64)))
    return encoder + pixels / 64 * latent + decoder


def autoencoder_parameters(latent: int) -> int:
    """Trained numbers of an autoencoder: weights, and two a map that is normalised."""
    encoder = sum(c * (9 + f) + 2 * f for c, f in (*_ENCODER, (256, latent)))
    decoder = 9 * (latent * 256 + 256 * 128 + 128 * 64) + 2 * (256 + 128) + 64
    return encoder + decoder + 9 * 64


def autoencoder_work(pixels: int, latent: int, *, pixel_bytes: int) -> Work:
    """One application, where `pixel_bytes` go in and come out for each pixel together."""
    traffic = 2 * 4 * feature_values(pixels, latent) + pixel_bytes * pixels
    return Work(autoencoder_flops(pixels, latent), traffic)


def training_work(batch: int, side: int, latent: int, *, value_bytes: int = 4) -> Work:
    """One training step: forwards, twice as much backwards, and Adam.

    The image needs no gradient, so the first depthwise layer has only that of its weights.
    """
    pixels = batch * side**2
    first_depthwise = 2 * 9 * pixels / 4
    maps = value_bytes * TRAINING_PASSES * feature_values(pixels, latent)
    adam = 4 * ADAM_PASSES * autoencoder_parameters(latent)
    return Work(3 * autoencoder_flops(pixels, latent) - first_depthwise, maps + adam)


def kernel_work(pixels: int, width: int, *, pixel_bytes: int = 8) -> Work:
    """A kernel over an image. Tied weights save products, but a sum costs as much as both."""
    return Work(2 * width**2 * pixels, pixel_bytes * pixels)


def mlp_work(pixels: int, width: int, hidden: int, *, pixel_bytes: int = 8) -> Work:
    """A folded MLP over an image.

    The first sigmoids are one for each free weight and pixel. A second layer has a matrix product
    and a sigmoid for each place of the window. The last connection and the sum are one vector.
    """
    places = width**2
    first = free_count(width) * (SIGMOID_FLOPS + 2)
    inner = (hidden - 1) * places * (2 * places + SIGMOID_FLOPS)
    return Work((first + inner + 2 * places) * pixels, pixel_bytes * pixels)


def distillation_work(width: int, hidden: int, crop_px: int, iterations: int) -> Work:
    """One member's training with single crops, its own windows alone counted.

    A kernel's windows need no gradient, so it costs its sums twice; an MLP's first connection and
    those after it cost their products three times.
    """
    windows = (crop_px - width + 1) ** 2
    places = width**2
    if hidden == 0:
        per_window = 2 * 2 * places
    else:
        products = (hidden - 1) * 2 * places**2 + 2 * places
        per_window = 3 * (products + hidden * places * SIGMOID_FLOPS)
    traffic = 2 * 4 * crop_px**2  # the parameters are small enough to stay in a cache
    # the last connection meets its weights before any window, and its gradient likewise
    fold = 3 * 2 * places**2 if hidden else 0
    return Work((windows * per_window + fold) * iterations, traffic * iterations)

"""Images that stand for the truth, for training with noise of a known kind: simulated or real.

And real ones as counts of electrons, for training without a truth. Stored as `emd.data.crops`
stores micrographs, but from zero counts up, since the noise of electrons grows with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, UInt16

from emd.data import crops, simulate
from emd.data.simulate import haadf
from emd.noise import estimate

DOSES = (0.3, 1000.0)
"""Mean counts a pixel that truths are shown at."""

REAL_DOSE = 100.0
"""The most of them where a real micrograph stands for the truth: it has noise of its own."""

HIGH_COUNT = 0.05
"""A real micrograph may, where its noise is at most this fraction of its mean, by `emd.noise`.

Most published micrographs were interpolated or filtered, and hide noise that way: of the 80 that
the shipped networks learnt from, 76 have correlated pixels. What noise they hide is part of the
truth.
"""


class Truths(NamedTuple):
    """Truths on the device, and the highest dose that each is shown at, in mean counts a pixel."""

    store: crops.Store
    most: Float[Array, " i"]


class Counted(NamedTuple):
    """Micrographs on the device, and which of them are electrons counted; the others are truths."""

    store: crops.Store
    is_counted: Bool[Array, " i"]


@partial(jax.jit, static_argnames=("side_px", "kind"))
def _lattice(
    key: Key[Array, ""], side_px: int, kind: Callable[..., haadf.Lattice] = haadf.drawn
) -> Float[Array, "h w"]:
    lattice_key, field_key = jax.random.split(key)
    cells = haadf.most_cells(side_px)
    return haadf.draw(field_key, kind(lattice_key), side_px=side_px, cells=cells).clean


def simulated(key: Key[Array, ""], dataset: str, *, count: int, side_px: int) -> list[crops.Image]:
    """Return ``count`` noise-free simulated micrographs of each domain of a dataset.

    Those of `emd.data.simulate.KINDS` without diffraction patterns, as one outweighs hundreds; for
    STEM every second one is a lattice of `emd.data.simulate.haadf`.
    """
    images = []
    for domain in crops.domains_of(dataset):
        own = jax.random.fold_in(key, list(crops.DOMAINS).index(domain))
        lattices = count // 2 if domain == "stem" else 0
        drawn = simulate.micrographs(own, domain, count=count - lattices, side_px=side_px).clean
        kinds = simulate.KINDS[domain]
        clean = [
            np.asarray(each)
            for i, each in enumerate(drawn)
            if kinds[i % len(kinds)][0] is not simulate.diffraction
        ]
        more = jax.random.fold_in(own, count)
        clean += [
            np.asarray(_lattice(jax.random.fold_in(more, i), side_px)) for i in range(lattices)
        ]
        images += [
            crops.Image(to_stored(c), f"{domain}-{i}", f"{domain}/{crops.SIMULATED}", domain)
            for i, c in enumerate(clean)
        ]
    return images


def lattices(
    key: Key[Array, ""],
    *,
    count: int,
    side_px: int,
    kind: Callable[..., haadf.Lattice] = haadf.sampled_alike,
) -> list[crops.Image]:
    """Return ``count`` noise-free lattices of atom columns, of a kind that `haadf` draws."""
    drawn = (np.asarray(_lattice(jax.random.fold_in(key, i), side_px, kind)) for i in range(count))
    return [
        crops.Image(to_stored(clean), f"stem-{i}", f"stem/{crops.SIMULATED}", "stem")
        for i, clean in enumerate(drawn)
    ]


def to_stored(clean: Float[np.ndarray, "h w"]) -> UInt16[np.ndarray, "h w"]:
    """Return expected counts as 16-bit integers that reach to 65 535; 0 stays 0."""
    return np.rint(clean.astype(np.float64) * (65535 / (float(clean.max()) or 1))).astype(np.uint16)


def high_count(images: Sequence[crops.Image]) -> list[crops.Image]:
    """Return the real micrographs that may stand for the truth: see ``HIGH_COUNT``."""
    return [image for image in images if _is_high_count(image)]


def _is_high_count(image: crops.Image) -> bool:
    std, mean = estimate(image.pixels).std, float(image.pixels.mean(dtype=np.float64))
    return std is not None and std <= HIGH_COUNT * mean


def counted(images: Sequence[crops.Image]) -> list[crops.Image]:
    """Return the real micrographs that tell of their electrons, as whole numbers of electrons.

    Those of known gain and independent, unsaturated pixels, by `emd.noise.estimate`. It sets the
    black level where the variance vanishes, so that readout noise counts as electrons without
    contrast, and mean equals variance.
    """
    found = []
    for image in images:
        noise = estimate(image.pixels)
        if noise.gain is not None and noise.offset is not None and not noise.warnings:
            electrons = np.rint((image.pixels - noise.offset) / noise.gain)
            found.append(image._replace(pixels=np.clip(electrons, 0, 65535).astype(np.uint16)))
    return found


def pack(images: Sequence[crops.Image], *, simulated_share: float) -> Truths:
    """Return truths on the device.

    Raises:
        ValueError: what `emd.data.crops.pack` raises.
    """
    most = jnp.asarray([DOSES[1] if is_simulated(i) else REAL_DOSE for i in images], jnp.float32)
    return Truths(crops.pack(images, simulated_share=simulated_share), most)


def pack_counted(images: Sequence[crops.Image], *, simulated_share: float) -> Counted:
    """Return simulated truths and real micrographs, as ``counted`` gives them, on the device.

    Raises:
        ValueError: what `emd.data.crops.pack` raises.
    """
    is_counted = jnp.asarray([not is_simulated(image) for image in images])
    return Counted(crops.pack(images, simulated_share=simulated_share), is_counted)


def is_simulated(image: crops.Image) -> bool:
    """Return whether an image is a simulated one."""
    return image.source.endswith(f"/{crops.SIMULATED}")

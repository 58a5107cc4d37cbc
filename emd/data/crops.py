"""Training crops: micrographs split by field, held on the device, and sampled inside jit.

Micrographs stay whole on the device as 16-bit integers, one after another in a flat array; a
crop is any window of any of them, so no window is stored twice and none is left out.

Deviation: the paper's program stores 171x171 crops and draws a 160x160 window of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt16

from emd.data import manifest, micrograph, normalise, simulate

SIDE_PX = 160
"""Side of a training crop (paper section 2.2)."""

DOMAINS = {"tem": ("tem",), "stem": ("stem",), "temstem": ("tem", "stem")}
"""Dataset name to the domains it draws from, evenly."""

SIMULATED = "simulated"
"""The source name of simulated micrographs."""


class Image(NamedTuple):
    """One frame for training: pixels above their minimum, and where it is from."""

    pixels: UInt16[np.ndarray, "h w"]
    field: str
    source: str
    domain: str


class Store(NamedTuple):
    """Micrographs on the device: ``i`` images, flat pixels, and how crops of them are drawn."""

    pixels: UInt16[Array, " total"]
    start: Int[Array, " i"]
    rows: Int[Array, " i"]
    columns: Int[Array, " i"]
    mean: Float[Array, " i"]
    """Of each whole image, as stored."""
    cumulative: Float[Array, " i"]
    """How likely each image or one before it is drawn."""
    whole_share: Float[Array, ""]
    """Fraction of crops that are normalised by their whole image."""


def to_stored(pixels: np.ndarray) -> UInt16[np.ndarray, "h w"]:
    """Return a frame as 16-bit integers above its minimum.

    Integers that span 65 535 or less keep their values; others are scaled to that span, which
    normalisation undoes. Non-finite pixels take the median of the finite ones.
    """
    if pixels.dtype.kind == "f":
        finite = np.isfinite(pixels)
        pixels = pixels.astype(np.float64)
        pixels = np.where(finite, pixels, np.median(pixels[finite]) if finite.any() else 0)
    low, high = pixels.min(), pixels.max()
    if pixels.dtype.kind in "iu" and int(high) - int(low) <= 65535:
        return (pixels.astype(np.int64) - int(low)).astype(np.uint16)
    above = pixels.astype(np.float64) - float(low)
    return np.rint(above * (65535 / (above.max() or 1))).astype(np.uint16)


def load(data_dir: str | Path, dataset: str) -> tuple[list[Image], int]:
    """Return the frames of a dataset in a folder, and how many were too small to use.

    The folder holds ``tem/`` and ``stem/``, searched recursively. Field and source of a file come
    from a MANIFEST.csv beside or above them, else each file is a field of its own, known by its
    content, and each subfolder a source.

    Raises:
        ValueError: unknown dataset; a file that is no micrograph; a damaged manifest; or a domain
            without a frame of at least 160x160 px.
        FileNotFoundError: a folder is missing or empty.
    """
    images, small = [], 0
    for domain in domains_of(dataset):
        folder = Path(data_dir) / domain
        known = manifest.read(folder)
        for path in micrograph.find(folder):
            pixels = micrograph.read(path).pixels
            if min(pixels.shape[-2:]) < SIDE_PX:
                small += 1
                continue
            content = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
            own = (content, str(path.parent.relative_to(folder)))
            field, source = known.get(str(path.resolve())) or known.get(path.name) or own
            frames = pixels if pixels.ndim == 3 else pixels[None]
            images += [Image(to_stored(f), field, f"{domain}/{source}", domain) for f in frames]
        if not any(image.domain == domain for image in images):
            raise ValueError(
                f"no micrograph of at least {SIDE_PX}x{SIDE_PX} px in {folder} "
                f"({small} smaller ones skipped): add larger ones"
            )
    return images, small


def domains_of(dataset: str) -> tuple[str, ...]:
    """Return the domains that a dataset draws from.

    Raises:
        ValueError: unknown dataset.
    """
    if dataset not in DOMAINS:
        raise ValueError(f"unknown dataset {dataset!r}: use one of {', '.join(DOMAINS)}")
    return DOMAINS[dataset]


def simulated(key: Key[Array, ""], dataset: str, *, count: int, side_px: int) -> list[Image]:
    """Return ``count`` simulated micrographs of each domain of a dataset, noise included."""
    images = []
    for domain in domains_of(dataset):
        domain_key = jax.random.fold_in(key, list(DOMAINS).index(domain))
        counts = simulate.micrographs(domain_key, domain, count=count, side_px=side_px).counts
        images += [
            Image(to_stored(np.asarray(c)), f"{domain}-{i}", f"{domain}/{SIMULATED}", domain)
            for i, c in enumerate(counts)
        ]
    return images


def split(images: Sequence[Image], *, fraction: float = 0.1) -> tuple[list[Image], list[Image]]:
    """Return (training, held-out) images, split by field: no field is in both.

    A field is held out where the hash of its name falls in the lowest ``fraction``; of each source
    with several fields at least one is.
    """
    held: set[str] = set()
    for source in sorted({image.source for image in images}):
        fields = {image.field for image in images if image.source == source}
        ranks = {f: int(hashlib.sha256(f.encode()).hexdigest()[:15], 16) / 16**15 for f in fields}
        if len(fields) > 1:
            held.add(min(ranks, key=lambda f: (ranks[f], f)))
            # never all of them, however small the source
            low = sorted(ranks, key=lambda f: (ranks[f], f))[:-1]
            held |= {f for f in low if ranks[f] < fraction}
    # by field alone: one that lies in two sources (a copied file) is on one side
    train = [i for i in images if i.field not in held]
    return train, [i for i in images if i.field in held]


def draw_probabilities(
    images: Sequence[Image], *, simulated_share: float
) -> Float[np.ndarray, " i"]:
    """Return how likely each image is drawn: domains evenly, real sources of one evenly.

    Within a source the chance goes by area. Simulated micrographs have ``simulated_share`` of a
    domain, or all of it where it has no others.
    """
    chance = np.zeros(len(images))
    domains = sorted({image.domain for image in images})
    for domain in domains:
        sources = sorted({i.source for i in images if i.domain == domain})
        real = [s for s in sources if not s.endswith(f"/{SIMULATED}")]
        share = dict.fromkeys(real, 1 / max(len(real), 1))
        if len(real) < len(sources):
            made = simulated_share if real else 1.0
            share = {s: (1 - made) / len(real) for s in real} | {f"{domain}/{SIMULATED}": made}
        for source in sources:
            area = np.array([i.pixels.size if i.source == source else 0 for i in images])
            chance += share[source] / len(domains) * area / area.sum()
    return chance


def pack(
    images: Sequence[Image], *, simulated_share: float = 0.5, whole_share: float = 0.0
) -> Store:
    """Return images as a store on the device.

    Args:
        images: at least one, each of 160x160 px or more.
        simulated_share: fraction of draws from simulated images where there are real ones.
        whole_share: fraction of crops that are normalised by their whole image, as a model meets
            them in use; the others by themselves, as the paper's are.

    Raises:
        ValueError: no image, one smaller than a crop, more than 2^31 pixels, or a share outside
            [0, 1].
    """
    if not 0 <= whole_share <= 1:
        raise ValueError(f"whole_share {whole_share}: give a fraction from 0 to 1")
    if not images:
        raise ValueError("no images to train on: give at least one of 160x160 px or more")
    shapes = np.array([image.pixels.shape for image in images], np.int64)
    if shapes.min() < SIDE_PX:
        raise ValueError(f"an image of side {shapes.min()} px: at least {SIDE_PX} px are needed")
    sizes = shapes.prod(1)
    if sizes.sum() >= 2**31:
        raise ValueError(f"{sizes.sum()} pixels: a store holds under 2^31; use fewer files")
    chance = draw_probabilities(images, simulated_share=simulated_share)
    return Store(
        pixels=jnp.asarray(np.concatenate([image.pixels.ravel() for image in images])),
        start=jnp.asarray(np.cumsum(sizes) - sizes, jnp.int32),
        rows=jnp.asarray(shapes[:, 0], jnp.int32),
        columns=jnp.asarray(shapes[:, 1], jnp.int32),
        mean=jnp.asarray([image.pixels.mean(dtype=np.float64) for image in images], jnp.float32),
        cumulative=jnp.asarray(np.cumsum(chance), jnp.float32),
        whole_share=jnp.float32(whole_share),
    )


def _window(
    key: Key[Array, ""], store: Store, side: int
) -> tuple[Float[Array, "s s"], Int[Array, ""]]:
    """Return a random window of a random image under a random symmetry, and which image it is."""
    pick, place, turn = jax.random.split(key, 3)
    point = jax.random.uniform(pick) * store.cumulative[-1]
    # from the right, or a point of exactly 0 would draw a first image of no chance
    image = jnp.searchsorted(store.cumulative, point, side="right")
    image = jnp.minimum(image, store.start.size - 1)
    room = jnp.stack([store.rows[image], store.columns[image]]) - side + 1
    top, left = jax.random.randint(place, (2,), 0, room)
    # the symmetry acts on the indices, so that the gather does all the moving
    transpose, flip_rows, flip_columns = jax.random.bernoulli(turn, 0.5, (3,))
    ramp = jnp.arange(side)
    i, j = jnp.meshgrid(ramp, ramp, indexing="ij")
    row = jnp.where(transpose, j, i)
    column = jnp.where(transpose, i, j)
    row = jnp.where(flip_rows, side - 1 - row, row)
    column = jnp.where(flip_columns, side - 1 - column, column)
    index = store.start[image] + (top + row) * store.columns[image] + left + column
    return store.pixels[index].astype(jnp.float32), image


def windows(
    key: Key[Array, ""], store: Store, *, batch: int, side: int
) -> tuple[Float[Array, "n s s"], Int[Array, " n"]]:
    """Return a batch of random windows as stored, and the number of the image that each is from."""
    return jax.vmap(lambda k: _window(k, store, side))(jax.random.split(key, batch))


def sample(
    key: Key[Array, ""], store: Store, *, batch: int, side: int = SIDE_PX
) -> Float[Array, "n s s"]:
    """Return a batch of random normalised crops; to be called inside jit.

    Source: paper section 2.2; the eight symmetries are its program's augmentation.
    Deviation: ``store.whole_share`` of the crops are normalised by their whole image.
    """
    drawn, image = windows(key, store, batch=batch, side=side)
    own = normalise.measure(drawn)
    by_whole = jax.random.bernoulli(jax.random.fold_in(key, batch), store.whole_share, (batch,))
    # stored pixels begin at their image's minimum
    minimum = jnp.where(by_whole, 0, own.minimum)
    scale = normalise.Scale(minimum, jnp.where(by_whole, store.mean[image], own.mean))
    return normalise.normalise(drawn, scale)


def held_out_crops(
    images: Sequence[Image], *, per_source: int = 32
) -> tuple[Float[np.ndarray, "n s s"], Float[np.ndarray, "n s s"]]:
    """Return fixed crops of images: normalised by themselves, and by their whole micrograph.

    The crops lie on a grid without overlap; of each source ``per_source`` evenly spaced ones are
    taken (or all, where it has fewer), so that no source dominates a mean over them.
    """
    own, whole = [], []
    for source in sorted({image.source for image in images}):
        found = [
            (image.pixels[r : r + SIDE_PX, c : c + SIDE_PX], image.pixels.mean(dtype=np.float64))
            for image in images
            if image.source == source
            for r in range(0, image.pixels.shape[0] - SIDE_PX + 1, SIDE_PX)
            for c in range(0, image.pixels.shape[1] - SIDE_PX + 1, SIDE_PX)
        ]
        keep = np.unique(np.linspace(0, len(found) - 1, min(per_source, len(found))).astype(int))
        for crop, mean in (found[k] for k in keep):
            floats = crop.astype(np.float32)
            own.append(normalise.normalise(floats, normalise.measure(floats)).astype(np.float32))
            of_whole = normalise.Scale(np.float32(0), np.float32(mean))
            whole.append(normalise.normalise(floats, of_whole).astype(np.float32))
    return np.stack(own), np.stack(whole)

"""Ede's low-dose test (arXiv:1807.11234): crops of micrographs of many counts, and simulated ones.

A crop is taken for the truth if the noise left in it is at most a hundredth, as a variance, of what
the test's brightest exposure adds (his micrographs had 2500 counts a pixel and more, his test 25 to
100 at the brightest), and if its darkest exposure has a count a pixel in the mean, which leaves out
sparse diffraction. `emd.noise.estimate` measures that noise; it tells too little of micrographs
that were filtered, so of these the rule only says that no noise is seen. Of the eval folder pass

- TEM: two of ten nearly equal LACBED patterns of GaAs (assembled and symmetrised, 336 px). No image
  does: those there are of low dose, or noisy frames of a video.
- STEM: a boundary in Fe [100] (8 bits), Re-doped MoS2 (8 bits, upsampled), a particle's edge (8
  bits, deconvolved, 316 px), and phase contrast, which is filtered: iDPC of ZnO, of PMN and of one
  unnamed, dDPC of ZnO, and DPC of BSSN.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from emd.data import micrograph, simulate
from emd.data.simulate.low_dose import TEST_RANGE, low_dose, protocol_units, scale_in_test
from emd.noise import estimate
from experiments.rate_distortion import images

SIDE_PX = 512
_LEAST_SIDE_PX = 256
_MOST = 3  # of one micrograph
_NOISE_SHARE = 0.01
_LEAST_COUNTS = 1.0
_SCENES = 300_007  # of no training run
_expose = jax.jit(low_dose)  # compiled once for each size


class Crop(NamedTuple):
    """A crop at low dose, and what it was made of, both in counts.

    Attributes:
      name: of its file below the data's folder and its number there, or of its scene.
      domain: "tem" or "stem".
      noisy: Poisson counts.
      truth: expected counts, from 0 to `scale`.
      scale: expected counts of the brightest pixel.
    """

    name: str
    domain: str
    noisy: Float[np.ndarray, "h w"]
    truth: Float[np.ndarray, "h w"]
    scale: float

    def in_protocol_units(self) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
        """Return input and truth as Ede has them: the input in [0, 1], the truth of its mean."""
        noisy, truth = protocol_units(jnp.asarray(self.noisy), jnp.asarray(self.truth))
        return np.asarray(noisy), np.asarray(truth)


def crops(data_dir: Path, *, seed: int) -> list[Crop]:
    """Return the low-dose crops of the micrographs below ``eval/tem`` and ``eval/stem``.

    One to three a micrograph, side by side, of 512 px or the whole of a shorter side of at least
    256. Places, scales and noise depend on the seed and the file's name alone.

    Raises:
        FileNotFoundError: there are no micrographs.
        FormatError: one of them cannot be read.
    """
    found = []
    for domain in images.DOMAINS:
        for path in images.thinned(micrograph.find(data_dir / "eval" / domain)):
            given = micrograph.read(path).pixels
            frame = given if given.ndim == 2 else given[0]
            name = path.relative_to(data_dir).as_posix()
            key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
            place_key, expose_key = jax.random.split(key)
            for number, piece in enumerate(_pieces(place_key, frame)):
                if is_of_many_counts(piece):
                    piece_key = jax.random.fold_in(expose_key, number)
                    found.append(_exposed(piece_key, f"{name} {number}", domain, piece))
    return found


def simulated(*, seed: int, count: int, side_px: int = SIDE_PX) -> list[Crop]:
    """Return low-dose crops of so many simulated scenes of each domain, whose truth has no noise.

    Kinds of scene take turns; diffraction is left out.
    """
    found = []
    for number, domain in enumerate(images.DOMAINS):
        kinds = {kind.__name__: kind for kind, _, _ in simulate.KINDS[domain]}
        names = [name for name in kinds if name != "diffraction"]
        for turn in range(count):
            key = jax.random.fold_in(jax.random.key(seed), _SCENES + number)
            scene_key, expose_key = jax.random.split(jax.random.fold_in(key, turn))
            name = names[turn % len(names)]
            made = simulate.compiled(kinds[name])(scene_key, side_px=side_px, dose=1000.0)
            label = f"simulated {name} {turn}"
            found.append(_exposed(expose_key, label, domain, np.asarray(made.clean[0])))
    return found


def is_of_many_counts(piece: Shaped[np.ndarray, "h w"]) -> bool:
    """Return whether a crop may be the truth, by the rule that heads this module."""
    low, high = float(piece.min()), float(piece.max())
    if high <= low:
        return False
    std = estimate(piece).std
    mean = (float(piece.mean(dtype=np.float64)) - low) / (high - low)
    darkest, brightest = TEST_RANGE
    if std is None or mean * darkest < _LEAST_COUNTS:
        return False
    return (std / (high - low)) ** 2 <= _NOISE_SHARE * mean / brightest


def _pieces(key: jax.Array, frame: Shaped[np.ndarray, "h w"]) -> list[Shaped[np.ndarray, "s s"]]:
    """The squares that fit side by side, at most three, the room that is left drawn by lot."""
    side = min(SIDE_PX, *frame.shape)
    if side < _LEAST_SIDE_PX:
        return []
    rows, columns = (size // side for size in frame.shape)
    room = np.asarray(frame.shape) - side * np.array([rows, columns])
    down, right = (np.asarray(jax.random.uniform(key, (2,))) * (room + 1)).astype(int)
    pieces = [
        frame[down + side * i : down + side * (i + 1), right + side * j : right + side * (j + 1)]
        for i in range(rows)
        for j in range(columns)
    ]
    return pieces[:_MOST]


def _exposed(key: jax.Array, name: str, domain: str, piece: Shaped[np.ndarray, "h w"]) -> Crop:
    scale_key, noise_key = jax.random.split(key)
    scale = float(scale_in_test(scale_key))
    # In float64: a level far above the contrast would take float32's digits.
    pixels = piece.astype(np.float64)
    unit = (pixels - pixels.min()) / max(np.ptp(pixels), 1e-300)
    drawn = _expose(noise_key, jnp.asarray(unit, jnp.float32), scale=scale)
    return Crop(name, domain, np.asarray(drawn.counts[0]), np.asarray(drawn.clean[0]), scale)

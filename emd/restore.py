"""A model over a whole micrograph or stack of any size: seam-free, in memory bounded by the tile.

Owns the intensity contract: one normalisation for a whole micrograph, undone on the way out; type,
calibration and metadata kept, and what was done recorded.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Shaped

import emd
from emd.checkpoint import Model, fingerprint
from emd.data.intensity import Frame, Outcome, finish, for_device, prepare
from emd.data.micrograph import Micrograph
from emd.data.normalise import Scale, denormalise, normalise
from emd.data.pixels import bands, reflected
from emd.models.autoencoder import REACH_PX, STRIDE
from emd.models.pixelwise import MLP, Folded, Kernel, apply_folded, fold
from emd.tiling import Tile, Tiling, gather, make_tiling, paste, stream

TILE_PX = 512
_HALO_PX = -(-REACH_PX // STRIDE) * STRIDE


class Report(NamedTuple):
    """What was done to a micrograph: the entry that goes into its metadata, under "emd".

    Attributes:
      model: name of the model.
      weights: the first 16 hexadecimal digits of the SHA-256 of its variables.
      version: of this package.
      minimum: of each frame, in counts.
      mean: of each frame above its minimum, in counts.
      mean_correction: added to each frame so that its mean stays, in counts; 0 for published
        kernels, which are applied as printed.
      clipped_pixels: results outside the range of the type, brought to its ends.
      nonfinite_pixels: NaN and infinities, kept as they were.
      despiked_pixels: isolated spikes replaced before restoration.
      warnings: one line each.
    """

    model: str
    weights: str
    version: str
    minimum: list[float]
    mean: list[float]
    mean_correction: list[float]
    clipped_pixels: int
    nonfinite_pixels: int
    despiked_pixels: int
    warnings: list[str]


class Restored(NamedTuple):
    """A restored micrograph and what was done to it."""

    micrograph: Micrograph
    report: Report


class Encoded(NamedTuple):
    """A micrograph as latents, with what decoding needs.

    Attributes:
      latent: >= 0. Cell (i, j) stands for the 8x8 pixels from (8 (i - 1), 8 (j - 1)): the first
        row and column, and the last, lie outside the image and shape the pixels along its border.
      shape: height and width of the micrograph [px].
      scale: its minimum and mean above it, in counts.
    """

    latent: Float[np.ndarray, "hl wl d"]
    shape: tuple[int, int]
    scale: Scale


@overload
def denoise(
    micrograph: Micrograph, model: Model, *, tile_px: int = ..., despike: bool = ...
) -> Micrograph: ...
@overload
def denoise(
    micrograph: np.ndarray, model: Model, *, tile_px: int = ..., despike: bool = ...
) -> np.ndarray: ...
def denoise(
    micrograph: Micrograph | np.ndarray,
    model: Model,
    *,
    tile_px: int = TILE_PX,
    despike: bool = False,
) -> Micrograph | np.ndarray:
    """The restored micrograph or array, of the same size and type: see `restore`."""
    whole = restore(_as_micrograph(micrograph), model, tile_px=tile_px, despike=despike).micrograph
    return whole if isinstance(micrograph, Micrograph) else whole.pixels


def restore(
    micrograph: Micrograph, model: Model, *, tile_px: int = TILE_PX, despike: bool = False
) -> Restored:
    """The restored micrograph, of the same size, type and calibration, and what was done to it.

    Each frame is normalised as a whole, so f(a x + b) = a f(x) + b for a > 0 and a constant frame
    comes back constant. A trained model's result is shifted to the mean of its input. Results are
    rounded and brought into the range of the type. Non-finite pixels go in as the median of the
    finite ones and come out as they were. The metadata gains the report, last in the list under
    "emd".

    Args:
      micrograph: of any size from one pixel up; each frame of a stack is restored by itself.
      model: as `emd.checkpoint.load` gives it.
      tile_px: side of the pieces that are restored at a time, rounded up to a multiple of 8.
        Bounds the memory and changes no pixel by more than rounding.
      despike: replace isolated spikes first, by the rule of `emd.data.pixels.despike`.

    Raises:
      ValueError: `tile_px` below 1; counts so far apart that their sum overflows; a model whose
        result is not finite.

    Source: paper, section 2.2 (normalisation); reflect padding as in the published program.
    Deviation: that program normalises every tile by itself, which leaves seams.
    """
    stack = micrograph.pixels.reshape(-1, *micrograph.pixels.shape[-2:])
    restored = np.empty(stack.shape, stack.dtype)
    tiling = make_tiling(stack.shape[1:], frames=len(stack), tile_px=tile_px)
    halo, call = _make_call(model)
    outcomes: list[Outcome] = []
    for start in range(0, len(stack), tiling.frames):
        part = slice(start, start + tiling.frames)
        frames = [prepare(pixels, spikes=despike) for pixels in stack[part]]
        out = restored[part]
        raw = out if out.dtype == np.float32 else np.empty(out.shape, np.float32)
        read = functools.partial(_read_tile, frames, tiling, halo, 0)
        for tile, piece in stream(tiling.tiles(len(frames)), read, call, tiling.batch):
            paste(raw[tile.frame], piece, tile.row, tile.column)
        outcomes += [
            finish(*images, keep_mean=not model.config.published)
            for images in zip(frames, raw, stack[part], out, strict=True)
        ]
    report = _make_report(model, outcomes)
    history = [*micrograph.metadata.get("emd", []), report._asdict()]
    result = dataclasses.replace(
        micrograph,
        pixels=restored.reshape(micrograph.pixels.shape),
        metadata={**micrograph.metadata, "emd": history},
    )
    return Restored(result, report)


def encode(micrograph: Micrograph | np.ndarray, model: Model, *, tile_px: int = TILE_PX) -> Encoded:
    """The latents of a whole micrograph, reflected beyond its border, each cell once.

    Raises:
      ValueError: a model that is no autoencoder; a stack; pixels that `Micrograph` refuses.
    """
    _check_autoencoder(model)
    pixels = _as_micrograph(micrograph).pixels
    if pixels.ndim != 2:
        raise ValueError(f"pixels of shape {pixels.shape} are a stack: encode each frame by itself")
    frame = prepare(pixels, spikes=False)
    latent = np.empty(_latent_shape(pixels.shape, model), np.float32)
    padded = (latent.shape[0] * STRIDE, latent.shape[1] * STRIDE)
    tiling = make_tiling(padded, frames=1, tile_px=tile_px)
    read = functools.partial(_read_tile, [frame], tiling, _HALO_PX, -STRIDE)
    call = _make_network(model, "encode", _HALO_PX // STRIDE)
    for tile, piece in stream(tiling.tiles(1), read, call, tiling.batch):
        paste(latent, piece, tile.row // STRIDE, tile.column // STRIDE)
    return Encoded(latent, (pixels.shape[0], pixels.shape[1]), frame.scale)


def decode(encoded: Encoded, model: Model, *, tile_px: int = TILE_PX) -> Float[np.ndarray, "h w"]:
    """The micrograph of latents, in counts: what `denoise` gives before it restores the mean.

    Raises:
      ValueError: a model that is no autoencoder; latents that do not fit it or their shape.
    """
    _check_autoencoder(model)
    due = _latent_shape(encoded.shape, model)
    if encoded.latent.shape != due:
        raise ValueError(
            f"latents of shape {encoded.latent.shape} do not fit: those of {model.config.name} "
            f"for {encoded.shape[0]}x{encoded.shape[1]} pixels have {due}"
        )

    def read(tile: Tile) -> tuple[np.ndarray]:
        # tiles at the end reach beyond what is stored, where no pixel of the image depends on it
        places = [
            np.minimum(start // STRIDE + np.arange(side // STRIDE + 2), stored - 1)
            for start, side, stored in zip(tile[1:], tiling.tile, due, strict=False)
        ]
        return (gather(encoded.latent, *places),)

    tiling = make_tiling(encoded.shape, frames=1, tile_px=tile_px)
    raw = np.empty(encoded.shape, np.float32)
    call = _make_network(model, "decode", STRIDE)
    for tile, piece in stream(tiling.tiles(1), read, call, tiling.batch):
        paste(raw, piece, tile.row, tile.column)
    for band in bands(*raw.shape):
        raw[band] = denormalise(raw[band].astype(np.float64), encoded.scale)
    return raw


def _as_micrograph(given: Micrograph | np.ndarray) -> Micrograph:
    return given if isinstance(given, Micrograph) else Micrograph(np.asarray(given))


def _make_report(model: Model, outcomes: list[Outcome]) -> Report:
    warnings = [
        f"frame {number}: {outcome.warning}" if len(outcomes) > 1 else outcome.warning
        for number, outcome in enumerate(outcomes)
        if outcome.warning is not None
    ]
    return Report(
        model=model.config.name,
        weights=fingerprint(model.variables),
        version=emd.__version__,
        minimum=[outcome.minimum for outcome in outcomes],
        mean=[outcome.mean for outcome in outcomes],
        mean_correction=[outcome.mean_correction for outcome in outcomes],
        clipped_pixels=sum(outcome.clipped for outcome in outcomes),
        nonfinite_pixels=sum(outcome.nonfinite for outcome in outcomes),
        despiked_pixels=sum(outcome.spikes for outcome in outcomes),
        warnings=warnings,
    )


def _check_autoencoder(model: Model) -> None:
    if model.config.family != "autoencoder":
        raise ValueError(f"{model.config.name} has no latents: give an autoencoder")


def _latent_shape(shape: tuple[int, ...], model: Model) -> tuple[int, int, int]:
    # a pixel needs its own cell, the one before and, at the end of a cell, the one after
    return shape[0] // STRIDE + 2, shape[1] // STRIDE + 2, model.config.size


# --- tiles on their way to the device --------------------------------------------------------


def _read_tile(
    frames: list[Frame], tiling: Tiling, halo: int, offset: int, tile: Tile
) -> tuple[np.ndarray, np.float32, np.float32]:
    """A tile with its halo, reflected at the border, and the scale for the device to take out.

    `offset` is where in the frame the tiling begins.
    """
    frame = frames[tile.frame]
    places = [
        reflected(start + offset + np.arange(-halo, side + halo), length)
        for start, side, length in zip(tile[1:], tiling.tile, frame.pixels.shape, strict=True)
    ]
    return for_device(gather(frame.pixels, *places), frame.scale)


# --- on the device ---------------------------------------------------------------------------


def _make_call(model: Model) -> tuple[int, Callable[..., Any]]:
    """The halo that a model's tiles need, and what turns them into normalised restored tiles."""
    if isinstance(model.module, Kernel | MLP):
        folded = fold(model.module, jax.device_put(model.variables["params"]))
        return folded.output.shape[-1] // 2, functools.partial(_slide_tiles, folded)
    return _HALO_PX, _make_network(model, "__call__", _HALO_PX)


def _make_network(model: Model, method: str, margin: int) -> Callable[..., Any]:
    variables = jax.device_put(model.variables)  # once, not with every batch
    return functools.partial(_apply_tiles, model.module, method, margin, variables)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _apply_tiles(
    module: nn.Module,
    method: str,
    margin: int,
    variables: Any,
    x: Shaped[Array, "n h w ..."],
    *scale: Float[Array, " n"],
) -> Float[Array, "n i j ..."]:
    """What a module's method makes of tiles, normalised first by `scale` if any, less `margin`."""
    ready = normalise(x.astype(jnp.float32), Scale(*scale)) if scale else x
    y: Float[Array, "n h w ..."] = jnp.asarray(module.apply(variables, ready, method=method))
    return y[:, margin : y.shape[1] - margin, margin : y.shape[2] - margin]


@jax.jit
def _slide_tiles(
    folded: Folded, x: Shaped[Array, "n h w"], *scale: Float[Array, " n"]
) -> Float[Array, "n i j"]:
    """What a kernel or an MLP makes of tiles, normalised first; its reach is lost on each side."""
    tiles = normalise(x.astype(jnp.float32), Scale(*scale))
    # one after the other: what a tile needs at a time is many times its size
    return jnp.asarray(jax.lax.map(lambda tile: apply_folded(folded, tile), tiles))

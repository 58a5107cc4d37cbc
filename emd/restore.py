"""A model over a whole micrograph or stack of any size: seam-free, in memory bounded by the tile.

Owns the intensity contract: one normalisation for a whole micrograph, undone on the way out; type,
calibration and metadata kept, and what was done recorded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Protocol, overload, runtime_checkable

import numpy as np
from jaxtyping import Float, Shaped

import emd
from emd.apply import network, over_frames, reader, restoring, run, tiling_of
from emd.checkpoint import Model, fingerprint
from emd.data.intensity import Outcome, finish, prepare
from emd.data.micrograph import Micrograph
from emd.data.normalise import Scale, denormalise
from emd.data.pixels import bands
from emd.data.suspicions import told
from emd.history import Report, now, with_history
from emd.models.autoencoder import STRIDE, Autoencoder
from emd.putback import Electrons, PutBack, into_frame
from emd.tiling import Tile, gather, paste, stream


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
    micrograph: Micrograph,
    model: Model,
    *,
    tile_px: int | None = ...,
    despike: bool = ...,
    put_back: bool | Electrons = ...,
) -> Micrograph: ...
@overload
def denoise(
    micrograph: np.ndarray,
    model: Model,
    *,
    tile_px: int | None = ...,
    despike: bool = ...,
    put_back: bool | Electrons = ...,
) -> np.ndarray: ...
def denoise(
    micrograph: Micrograph | np.ndarray,
    model: Model,
    *,
    tile_px: int | None = None,
    despike: bool = False,
    put_back: bool | Electrons = False,
) -> Micrograph | np.ndarray:
    """The restored micrograph or array, of the same size and type: see `restore`."""
    given = _as_micrograph(micrograph)
    whole = restore(given, model, tile_px=tile_px, despike=despike, put_back=put_back).micrograph
    return whole if isinstance(micrograph, Micrograph) else whole.pixels


def restore(
    micrograph: Micrograph,
    model: Model,
    *,
    tile_px: int | None = None,
    despike: bool = False,
    put_back: bool | Electrons = False,
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
      tile_px: side of the pieces that are restored at a time, rounded up to whole cells (8 or 16
        px); by default what suits model and device. Bounds the memory and changes no pixel by more
        than rounding.
      despike: replace isolated spikes first, by the rule of `emd.data.pixels.despike`.
      put_back: add what the residual still shows beyond the noise, see `emd.putback`: the noise
        that the image tells or, where that is known, of `emd.putback.Electrons`.

    Raises:
      ValueError: `tile_px` below 1; electrons of a gain that there is not; counts so far apart that
        their sum overflows; a model whose result is not finite.

    Source: paper, section 2.2 (normalisation); reflect padding as in the published program.
    Deviation: that program normalises every tile by itself, which leaves seams. Networks with skip
    connections see nothing beyond the border, as when they learnt, but what fills up a last cell.
    """
    stack = micrograph.pixels.reshape(-1, *micrograph.pixels.shape[-2:])
    restored = np.empty(stack.shape, stack.dtype)
    report = restore_frames(
        stack, restored, model, tile_px=tile_px, despike=despike, put_back=put_back
    )
    result = dataclasses.replace(
        micrograph,
        pixels=restored.reshape(micrograph.pixels.shape),
        metadata=with_history(micrograph.metadata, report),
    )
    return Restored(result, report)


@runtime_checkable
class Frames(Protocol):
    """Frames in a row: an array of them, or a file's `Source`, which reads them as asked for."""

    def __getitem__(self, part: slice, /) -> np.ndarray:
        """The pixels of some, (n, h, w)."""


def restore_frames(
    stack: Frames,
    out: Shaped[np.ndarray, "n h w"],
    model: Model,
    *,
    tile_px: int | None = None,
    despike: bool = False,
    put_back: bool | Electrons = False,
    progress: Callable[[float], None] | None = None,
) -> Report:
    """What was done to frames that are read, restored and written to `out` a few at a time.

    Args:
      stack: as many frames as `out` has, of its shape and type; each is asked for once, in order.
      out: gets the restored frames.
      model: as of `restore`, as are `tile_px`, `despike` and `put_back`.
      tile_px: see above.
      despike: see above.
      put_back: see above.
      progress: called with the share of frames done, from 0 to 1.

    Raises:
      ValueError: as of `restore`.
    """
    electrons = put_back if isinstance(put_back, Electrons) else None
    if electrons is not None:
        electrons.check()
    count, height, width = out.shape
    engine = restoring(
        model, beside=height * width * (out.dtype.itemsize + (12 if put_back else 4))
    )
    tiling = tiling_of(engine, (height, width), count, tile_px)
    outcomes: list[Outcome] = []
    put: list[PutBack] = []
    for start in range(0, count, tiling.frames):
        part = slice(start, start + tiling.frames)
        given, place = stack[part], out[part]
        frames = [prepare(pixels, spikes=despike) for pixels in given]
        raw = place if out.dtype == np.float32 else np.empty(place.shape, np.float32)
        over_frames(engine, tiling, frames, raw)
        if put_back:
            put += [into_frame(*images, electrons) for images in zip(frames, raw, strict=True)]
        outcomes += [
            finish(*images, keep_mean=not model.config.published)
            for images in zip(frames, raw, given, place, strict=True)
        ]
        if progress is not None:
            progress(len(outcomes) / count)
    return _make_report(model, outcomes, put, electrons)


def encode(
    micrograph: Micrograph | np.ndarray, model: Model, *, tile_px: int | None = None
) -> Encoded:
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
    engine = network(model, "encode", Autoencoder.halo_px // STRIDE)
    tiling = tiling_of(engine, padded, 1, tile_px)
    read = reader(engine, tiling, [frame], offset=-STRIDE)
    run(engine, tiling, read, latent[None], pixels.dtype, cell=STRIDE)
    return Encoded(latent, (pixels.shape[0], pixels.shape[1]), frame.scale)


def decode(
    encoded: Encoded, model: Model, *, tile_px: int | None = None
) -> Float[np.ndarray, "h w"]:
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

    engine = network(model, "decode", 1)
    tiling = tiling_of(engine, encoded.shape, 1, tile_px)
    cells = [side // STRIDE + 2 for side in tiling.tile]
    raw = np.empty(encoded.shape, np.float32)

    def read(tile: Tile, out: np.ndarray) -> tuple[()]:
        # tiles at the end reach beyond what is stored, where no pixel of the image depends on it
        rows, columns = (
            np.minimum(start // STRIDE + np.arange(count), stored - 1)
            for start, count, stored in zip(tile[1:], cells, due, strict=False)
        )
        gather(encoded.latent, rows, columns, lambda part, place: np.copyto(place, part), out)
        return ()

    def write(tile: Tile, piece: np.ndarray) -> None:
        paste(raw, piece, tile.row, tile.column)

    inputs = np.empty((tiling.batch, *cells, due[-1]), np.float32)
    stream(tiling.tiles(1), read, engine.call, write, inputs, workers=engine.workers)
    for band in bands(*raw.shape):
        raw[band] = denormalise(raw[band].astype(np.float64), encoded.scale)
    return raw


def _as_micrograph(given: Micrograph | np.ndarray) -> Micrograph:
    return given if isinstance(given, Micrograph) else Micrograph(np.asarray(given))


def _make_report(
    model: Model, outcomes: list[Outcome], put: list[PutBack], electrons: Electrons | None
) -> Report:
    warnings = [
        f"frame {number}: {text}" if len(outcomes) > 1 else text
        for number, text in enumerate(outcome.warning for outcome in outcomes)
        if text is not None
    ]
    warnings += told([outcome.suspicions for outcome in outcomes])
    warnings += told([() if s is None else (s,) for _, _, s in put])
    return Report(
        model=model.config.name,
        weights=fingerprint(model.variables),
        version=emd.__version__,
        time=now(),
        minimum=[outcome.minimum for outcome in outcomes],
        mean=[outcome.mean for outcome in outcomes],
        mean_correction=[outcome.mean_correction for outcome in outcomes],
        clipped_pixels=sum(outcome.clipped for outcome in outcomes),
        nonfinite_pixels=sum(outcome.nonfinite for outcome in outcomes),
        despiked_pixels=sum(outcome.spikes for outcome in outcomes),
        put_back=[round(each.share, 4) for each in put],
        gain=None if electrons is None else electrons.gain,
        black=None if electrons is None else electrons.black,
        warnings=warnings,
    )


def _check_autoencoder(model: Model) -> None:
    if model.config.family != "autoencoder":
        raise ValueError(f"{model.config.name} has no latents: give an autoencoder")


def _latent_shape(shape: tuple[int, ...], model: Model) -> tuple[int, int, int]:
    # a pixel needs its own cell, the one before and, at the end of a cell, the one after
    return shape[0] // STRIDE + 2, shape[1] // STRIDE + 2, model.config.size

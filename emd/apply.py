"""A model as a function of tiles: what runs on the device, and tiles of the size that suits it.

Owns the choice of engine: on CPU OpenCV for narrow kernels where it is installed, XLA for
everything else.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, Shaped

from emd import opencv
from emd.checkpoint import Model
from emd.data.intensity import Frame, device_type, for_device
from emd.data.normalise import Scale, normalise
from emd.data.pixels import mirrored, reflected
from emd.memory import free_bytes
from emd.models.autoencoder import STRIDE
from emd.models.folded import LINE_PX, Folded, apply_folded
from emd.models.pixelwise import MLP, Kernel, fold
from emd.threads import cores
from emd.tiling import Tile, Tiling, gather, make_tiling, paste, stacked, stream


def on_host() -> bool:
    """Whether the device is the CPU, so that nothing is gained by sending it small types."""
    return jax.default_backend() == "cpu"


class Engine(NamedTuple):
    """What turns tiles into results.

    Attributes:
      call: of stacked tiles and, unless they are latents, their minima and means still to be
        taken out; gives normalised restored tiles, or latents.
      halo: what tiles need around them [px].
      tile: height and width of the tiles that suit the device [px].
      workers: how many calls to have on their way at once.
      cell: tiles begin at multiples of this [px].
      line: inputs' width is rounded up to a multiple of this [px].
      whole: fills an array from a frame without tiles, where that is quicker.
      pads_itself: whether tiles end where images do, and come back as large as they went in. Else
        images are reflected beyond their border, and tiles lose their halo.
    """

    call: Callable[..., Any]
    halo: int
    tile: tuple[int, int]
    workers: int
    cell: int = STRIDE
    line: int = 1
    whole: Callable[[Frame, np.ndarray], None] | None = None
    pads_itself: bool = False

    def around(self, part: slice, length: int) -> tuple[Int[np.ndarray, " k"], slice]:
        """The places of an axis that a part of it is made from, and which of them are its own.

        Parts of one length get as many places, so that they fit one batch. For a network that pads
        itself a part begins with a cell; the last cell, where it is not whole, is filled up with
        mirrored places.
        """
        start, stop = part.start - self.halo, part.stop + self.halo
        if self.pads_itself:
            filled, stop = (-(-end // self.cell) * self.cell for end in (length, stop))
            span = min(stop - start, filled)
            start = min(max(start, 0), filled - span)
            places = mirrored(np.arange(start, start + span), length)
        else:
            places = reflected(np.arange(start, stop), length)
        return places, slice(part.start - start, part.stop - start)


def restoring(model: Model, *, beside: int = 0) -> Engine:
    """The engine that restores; `beside` is the memory that will be taken by others [bytes]."""
    if not isinstance(model.module, Kernel | MLP):
        module = model.module
        margin = 0 if module.pads_itself else module.halo_px // module.cell_px
        return network(model, "__call__", margin, beside=beside)
    folded = fold(model.module, jax.device_put(model.variables["params"]))
    halo = model.module.width // 2
    if not on_host():
        return Engine(functools.partial(_slide_tiles, folded), halo, (2048, 2048), 2)
    whole = None
    if isinstance(model.module, Kernel) and opencv.is_quicker(model.module.width):
        whole = functools.partial(opencv.correlate, np.asarray(folded.output))
    each = functools.partial(_each_tile, folded)
    return Engine(each, halo, (256, 2048), cores(), line=LINE_PX, whole=whole)


def network(model: Model, method: str, margin: int, *, beside: int = 0) -> Engine:
    """The engine of one of a network's methods, which loses `margin` cells a side."""
    variables = jax.device_put(model.variables)  # once, not with every batch
    module = model.module
    call = functools.partial(_apply_tiles, module, method, margin, variables)
    tile, workers = _network_tile(module, beside)
    return Engine(
        call, module.halo_px, tile, workers, module.cell_px, pads_itself=module.pads_itself
    )


def _network_tile(module: Any, beside: int) -> tuple[tuple[int, int], int]:
    """The tile whose maps fit the device, and how many at once."""
    workers = 2  # one fills the gaps of the other
    if on_host():
        free = max(0, free_bytes() - beside)
        side = int((free / 2 / workers / module.map_bytes) ** 0.5)
        side = min(max(side, module.tiles_px[0]), module.tiles_px[1])
    else:
        chosen = getattr(jax.config, "jax_default_device", None)
        device = chosen if isinstance(chosen, jax.Device) else jax.devices()[0]
        free = (device.memory_stats() or {}).get("bytes_limit", 2**33)
        side = int((free / 8 / module.map_bytes) ** 0.5)
        side = min(max(side, 256), 2048)
    return (side, side), workers


# --- tiles on their way through the device ---------------------------------------------------


def tiling_of(engine: Engine, shape: tuple[int, int], frames: int, tile_px: int | None) -> Tiling:
    """The tiles of frames of a shape [px]: of side `tile_px`, or as suits the engine.

    Raises:
      ValueError: `tile_px` below 1.
    """
    largest = engine.tile if tile_px is None else (tile_px, tile_px)
    return make_tiling(
        shape, frames=frames, largest=largest, workers=engine.workers, cell=engine.cell
    )


def reader(
    engine: Engine, tiling: Tiling, frames: list[Frame], *, offset: int = 0
) -> Callable[[Tile, np.ndarray], tuple[np.float32, np.float32]]:
    """What fills a tile with what lies around it, and gives the scale to take out.

    `offset` is where in the frame the tiling begins.
    """
    ways = [for_device(frame.pixels.dtype, frame.scale, host=on_host()) for frame in frames]

    def read(tile: Tile, out: np.ndarray) -> tuple[np.float32, np.float32]:
        frame, way = frames[tile.frame], ways[tile.frame]
        (rows, _), (columns, _) = (
            engine.around(slice(start + offset, start + offset + side), length)
            for start, side, length in zip(tile[1:], tiling.tile, frame.pixels.shape, strict=True)
        )
        gather(frame.pixels, rows, columns, way.put, out[:, : len(columns)])
        return way.minimum, way.mean

    return read


def run(
    engine: Engine,
    tiling: Tiling,
    read: Callable[[Tile, np.ndarray], tuple[np.float32, np.float32]],
    out: Float[np.ndarray, "n h w ..."],
    dtype: np.dtype,
    *,
    cell: int = 1,
) -> None:
    """Fills `out`, which has one place for each cell of `cell` pixels a side, from pixels."""
    height, width = tiling.tile

    def around(tile: Tile, axis: int) -> tuple[Int[np.ndarray, " k"], slice]:
        start = tile[1 + axis]
        return engine.around(slice(start, start + tiling.tile[axis]), tiling.shape[axis])

    def write(tile: Tile, piece: Float[np.ndarray, "i j ..."]) -> None:
        row, column = 0, 0  # where the halo is lost
        if engine.pads_itself:
            row, column = (around(tile, axis)[1].start for axis in (0, 1))
        own = piece[row : row + height // cell, column : column + width // cell]
        paste(out[tile.frame], own, tile.row // cell, tile.column // cell)

    rows, columns = (len(around(Tile(0, 0, 0), axis)[0]) for axis in (0, 1))
    shape = (tiling.batch, rows, columns + -columns % engine.line)
    inputs = np.empty(shape, device_type(dtype, host=on_host()))
    stream(tiling.tiles(len(out)), read, engine.call, write, inputs, workers=engine.workers)


def over_frames(
    engine: Engine, tiling: Tiling, frames: list[Frame], out: Float[np.ndarray, "n h w"]
) -> None:
    """Fills `out` with what an engine that restores makes of frames, normalised by their scales."""
    if engine.whole is None:
        run(engine, tiling, reader(engine, tiling, frames), out, frames[0].pixels.dtype)
        return
    for frame, place in zip(frames, out, strict=True):
        engine.whole(frame, place)


def over_image(
    model: Model, x: Float[np.ndarray, "h w"], *, tile_px: int | None = None
) -> Float[np.ndarray, "h w"]:
    """What a model makes of a whole normalised image.

    The step of `emd.restore.restore` between its normalisation and the inverse; `tile_px` as there.
    """
    engine = restoring(model)
    out = np.empty(x.shape, np.float32)
    as_it_is = Frame(x, None, 0, Scale(0.0, 1.0), None)
    over_frames(engine, tiling_of(engine, x.shape, 1, tile_px), [as_it_is], out[None])
    return out


# --- on the device ---------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _apply_tiles(
    module: nn.Module,
    method: str,
    margin: int,
    variables: Any,
    x: Shaped[Array, "n h w ..."],
    *scale: Float[Array, " n"],
) -> Float[Array, "n i j ..."]:
    """What a module's method makes of tiles, normalised first by `scale` if any, less a margin."""
    options: dict[str, Any] = {"margin": margin} if margin else {}
    ready = normalise(x.astype(jnp.float32), Scale(*scale)) if scale else x
    # else GPUs round the factors of products to 10 bits, and tiles would differ from the whole
    with jax.default_matmul_precision("highest"):
        y = module.apply(variables, ready, method=method, **options)
    return jnp.asarray(y)


@jax.jit
def _slide_tiles(
    folded: Folded, x: Shaped[Array, "n h w"], *scale: Float[Array, " n"]
) -> Float[Array, "n i j"]:
    """What a kernel or an MLP makes of tiles, normalised first; its reach is lost on each side."""
    tiles = normalise(x.astype(jnp.float32), Scale(*scale))
    # one after the other: what a tile needs at a time is many times its size
    return jnp.asarray(jax.lax.map(lambda tile: apply_folded(folded, tile), tiles))


def _each_tile(
    folded: Folded, x: Float[np.ndarray, "n h w"], *_: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n i j"]:
    """What a kernel or an MLP makes of tiles on the host, where they come normalised."""
    return stacked([np.asarray(apply_folded(folded, tile)) for tile in x])

"""Owns what becomes of an image layer: its data and state go in, new layers come out.

Layers are layer data tuples, so that nothing here imports napari.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

import emd
from emd.checkpoint import available, fingerprint
from emd.cli import choice
from emd.data.micrograph import Micrograph
from emd.napari import LayerData
from emd.restore import restore
from emd.restorer import Restorer

AUTO = choice.AUTO
_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
_LOOK = ("contrast_limits", "colormap", "gamma", "interpolation2d", "interpolation3d")
_DIVERGING = "coolwarm"
_TAIL = 0.001  # of the residual's pixels may lie beyond the ends of its colours
_LIMIT_PX = 2**20  # as many pixels of a residual tell where its colours end


class Result(NamedTuple):
    """New layers, the restored one first, and lines that the user should see."""

    layers: list[LayerData]
    notes: list[str]


def models() -> dict[str, str]:
    """What can be chosen, and a line or two on each: "auto", then the models that are there."""
    auto = "Chosen by what the layer's metadata say, TEM or STEM; what it loses is put back."
    return {AUTO: auto} | {name: _facts(card) for name, card in available().items()}


def _facts(card: dict[str, str]) -> str:
    if "source" in card:
        return f"As printed in {card['source']}."
    taught = f", taught by {card['teacher']}" if "teacher" in card else ""
    batches, full = card.get("batches", "?"), card.get("full_schedule", "?")
    trained = f"Trained for {batches} of {full} batches{taught}."
    if "validation_mse" not in card:
        gain = float(card["validation_gain_db"])
        return f"{trained} On held-out crops the squared error falls by {gain:.1f} dB."
    score = f" Squared error on held-out crops {card['validation_mse']}"
    against = f", of no change {card['identity_mse']}" if "identity_mse" in card else ""
    return f"{trained}{score}{against}."


def denoise(layer: LayerData, model: str, *, residual: bool = False) -> Result:
    """The restored layer, and if asked its residual, and what to tell the user.

    Place, units and look are those of the layer; the metadata gain what was done, last in the list
    under "emd". The last two axes are height and width. Data of dask, zarr and HDF5 stay lazy.

    Args:
      layer: an image; of a multiscale one the finest level is restored.
      model: a model's name, or "auto" to choose by the metadata; then structure in the residual is
        put back, too, but where data are lazy.
      residual: add what was taken out: the layer less the restored one.

    Raises:
      ValueError: no image of one channel, or pixels that cannot be restored; one line.
      TypeError: data of a kind that cannot be restored.
    """
    data, state, kind = layer
    name = str(state.get("name") or "image")
    try:
        _check(data, state, kind)
        chosen = _choose(state, model)
        restorer = _load(chosen.model)
        pixels = _pixels(data[0] if state.get("multiscale") else data)
        metadata = dict(state.get("metadata") or {})
        restored, record = _restore(pixels, restorer, metadata, put_back=model == AUTO)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{name}: {' '.join(str(error).split())}") from None
    place = {key: state[key] for key in _PLACE if key in state}
    look = {key: state[key] for key in _LOOK if key in state}
    shown = {"name": f"{name} {restorer.name}", **place, **look, "metadata": record}
    layers: list[LayerData] = [(restored, shown, "image")]
    if residual:
        layers.append(_residual(pixels, restored, shown, place))
    notes = [f"{name}: {line}" for line in record["emd"][-1].get("warnings", [])]
    if chosen.reason:
        notes.insert(0, f"{name}: {restorer.name}, as {chosen.reason}")
    return Result(layers, notes)


def _check(data: Any, state: dict[str, Any], kind: str) -> None:
    if kind != "image":
        raise ValueError(f"is a layer of {kind}, not of counts: choose an image layer")
    if state.get("rgb"):
        raise ValueError("is in colour: split it into channels and choose one")
    shape = (data[0] if state.get("multiscale") else data).shape
    if len(shape) < 2:
        raise ValueError(f"of shape {tuple(shape)} is no image: choose one of height and width")


def _choose(state: dict[str, Any], model: str) -> choice.Choice:
    if model != AUTO:
        return choice.Choice(model)
    unit = f"{(state.get('units') or [''])[-1]:}"
    # pint spells 1/nm as 1 / nanometer
    return choice.choose(state.get("metadata") or {}, unit.replace(" ", ""))


@functools.lru_cache(maxsize=8)
def _load(name: str) -> Restorer:
    restorer: Restorer = emd.load(name)
    return restorer


def _pixels(data: Any) -> Any:
    """The data as a NumPy array, or as a dask array where they are lazy."""
    if type(data).__module__.startswith("xarray"):
        data = data.data
    if isinstance(data, np.ndarray) or type(data).__module__.startswith("dask.array"):
        return data
    if hasattr(data, "chunks") and hasattr(data, "shape"):
        import dask.array as da

        steps = (data.chunks or (1,) * data.ndim)[:-2]  # h5py has None where it has no chunks
        return da.from_array(data, chunks=(*steps, "auto", "auto"))
    return np.asarray(data)


def _restore(
    pixels: Any, restorer: Restorer, metadata: dict[str, Any], *, put_back: bool
) -> tuple[Any, dict[str, Any]]:
    """The restored pixels, lazy if they came so, and the metadata with what was done."""
    if not isinstance(pixels, np.ndarray):
        facts: dict[str, Any] = {
            "model": restorer.name,
            "weights": fingerprint(restorer.model.variables),
            "version": emd.__version__,
            "lazy": True,  # the rest is known only once every pixel is
        }
        if put_back:
            facts["warnings"] = ["nothing is put back: the layer is lazy"]
        return restorer(pixels), {**metadata, "emd": [*metadata.get("emd", []), facts]}
    shape = pixels.shape
    stack = pixels if pixels.ndim < 4 else pixels.reshape(-1, *shape[-2:])
    given = Micrograph(stack, metadata=metadata)
    done = restore(given, restorer.model, put_back=put_back).micrograph
    return done.pixels.reshape(shape), done.metadata


# --- the residual ----------------------------------------------------------------------------


def _residual(
    pixels: Any, restored: Any, shown: dict[str, Any], place: dict[str, Any]
) -> LayerData:
    dtype = np.result_type(pixels.dtype, np.float32)
    difference = functools.partial(_difference, dtype=dtype)
    if isinstance(pixels, np.ndarray):
        taken = sample = difference(pixels, restored)
    else:
        import dask.array as da

        taken = da.map_blocks(difference, pixels, restored, dtype=dtype, meta=pixels._meta)
        sample = np.asarray(taken[(0,) * (taken.ndim - 2)])  # one image, not the whole stack
    limit = _limit(sample)
    state = {
        **{"name": f"{shown['name']} residual", **place, "metadata": shown["metadata"]},
        **{"colormap": _DIVERGING, "contrast_limits": [-limit, limit]},
    }
    return taken, state, "image"


def _difference(
    before: Shaped[np.ndarray, "*s"], after: Shaped[np.ndarray, "*s"], *, dtype: np.dtype[Any]
) -> Shaped[np.ndarray, "*s"]:
    with np.errstate(invalid="ignore"):  # infinities stay infinities: their difference is NaN
        return np.subtract(before, after, dtype=dtype)


def _limit(sample: Shaped[np.ndarray, "*s"]) -> float:
    """Where the colours of a residual end, either side of zero; positive."""
    flat = sample.ravel()
    flat = np.abs(flat[:: max(1, flat.size // _LIMIT_PX)])
    finite = flat[np.isfinite(flat)]
    limit = float(np.quantile(finite, 1 - _TAIL)) if finite.size else 0.0
    return limit or 1.0

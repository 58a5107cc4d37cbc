"""A model as one callable: what `emd.load` gives."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emd import checkpoint
from emd.checkpoint import Model, fingerprint
from emd.data.contents import check_pixels
from emd.data.micrograph import Micrograph
from emd.models import autoencoder, skip
from emd.restore import denoise
from emd.traced import trace

_REACHES = {"autoencoder": autoencoder.REACH_PX, "skip": skip.REACH_PX}
_KINDS = {
    "kernel": "kernel",
    "mlp1": "perceptron with one hidden layer",
    "mlp2": "perceptron with two hidden layers",
    "blindspot": "blind-spot perceptron",
}
_NETWORKS = {
    "autoencoder": "autoencoder of {} latents",
    "skip": "network with skip connections, {} maps",
}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Restorer:
    """A model that restores arrays of images: counts in, counts out.

    The last two axes are height and width; each image of those before is restored by itself, as
    `emd.restore.restore` says. What comes out is of the kind, shape and type that went in:

    * NumPy arrays, and `emd.data.micrograph.Micrograph`, at once.
    * JAX arrays at once, where they lie; inside `jit`, `grad` or `vmap` as part of the program,
      which takes pixels for finite and needs memory for the whole image.
    * dask arrays lazily, in their own chunks, which may cut images: see `emd.lazy`. Needs dask.

    A HyperSpy signal, lazy or not, is restored image by image, calibration kept::

        restored = signal.map(emd.load("tem_mlp1_w7"), inplace=False)

    >>> import numpy as np
    >>> import emd
    >>> model = emd.load("tem_kernel_w3_published")
    >>> model
    <tem_kernel_w3_published: 3x3 kernel; reach 1 px; weights 63dc190c70bfc4b6>
    >>> noisy = np.random.default_rng(0).poisson(100.0, (64, 64)).astype("uint16")
    >>> restored = model(noisy)
    >>> restored.shape, restored.dtype, bool(restored.std() < noisy.std() / 2)
    ((64, 64), dtype('uint16'), True)

    Attributes:
      model: configuration, module, variables and card, for `emd.restore` and `emd.export`.
    """

    model: Model

    @property
    def name(self) -> str:
        """The name that it is loaded by."""
        return self.model.config.name

    @property
    def card(self) -> dict[str, str]:
        """Facts about its training: command, data, device, scores."""
        return self.model.card

    @property
    def reach_px(self) -> int:
        """How far, on either side, the pixels lie that one restored pixel depends on."""
        config = self.model.config
        return _REACHES.get(config.family, config.size // 2)

    def __call__(self, array: Any) -> Any:
        """The restored images, as what they came as.

        Raises:
          TypeError: neither a NumPy, JAX or dask array nor a micrograph.
          ValueError: pixels that `Micrograph` refuses; counts so far apart that their sum
            overflows; a masked array.
          ImportError: a dask array without dask's arrays installed.
        """
        if isinstance(array, Micrograph):
            return denoise(array, self.model)
        if isinstance(array, np.ma.MaskedArray):
            raise ValueError("masked arrays lose their mask: give array.filled(nan), of floats")
        if isinstance(array, np.ndarray):
            _check(array)
            return self._whole(array)
        if isinstance(array, jax.core.Tracer):
            _check(array)
            return self._traced(array)
        if isinstance(array, jax.Array):
            _check(array)
            return jax.device_put(self._whole(np.asarray(array)), array.sharding)
        if type(array).__module__.startswith("dask.array"):
            from emd.lazy import over_chunks

            _check(array)
            native = array.astype(array.dtype.newbyteorder("="))
            return over_chunks(native, self.model, self._whole).astype(array.dtype)
        raise TypeError(
            f"{type(array).__name__} is no array that a model takes: give a NumPy, JAX or dask "
            "array, or signal.map(model) of a HyperSpy signal"
        )

    def _whole(self, array: np.ndarray) -> np.ndarray:
        stack = array if array.ndim == 2 else array.reshape(-1, *array.shape[-2:])
        out = denoise(np.asarray(stack), self.model)
        return out.reshape(array.shape).astype(array.dtype, copy=False)

    def _traced(self, array: Any) -> Any:
        stack = array.reshape(-1, *array.shape[-2:]).astype(jnp.float32)
        out = trace(self.model)(stack).reshape(array.shape)
        if array.dtype.kind == "f":
            return out.astype(array.dtype)
        bounds = np.iinfo(array.dtype)
        # float32 may not hold the largest value: it comes next below it
        top = (
            np.nextafter(np.float32(bounds.max), np.float32(0)) if bounds.bits > 24 else bounds.max
        )
        return jnp.rint(out).clip(bounds.min, top).astype(array.dtype)

    def __repr__(self) -> str:
        """What the model is, in one line."""
        config = self.model.config
        if config.family in _NETWORKS:
            kind = _NETWORKS[config.family].format(config.size)
        else:
            kind = f"{config.size}x{config.size} {_KINDS[config.family]}"
        weights = fingerprint(self.model.variables)
        return f"<{config.name}: {kind}; reach {self.reach_px} px; weights {weights}>"

    def __dask_tokenize__(self) -> tuple[str, str]:
        """What names results in dask's graphs: equal for equal weights, in any process."""
        return self.name, fingerprint(self.model.variables)


def load(name: str, *, root: str | Path | None = None) -> Restorer:
    """The model of a name as a callable: see `emd.load`."""
    return Restorer(checkpoint.load(name, root=root))


def _check(array: Any) -> None:
    """Refuses arrays that are no images, before any work and whatever they lie in.

    Raises:
      ValueError: too few axes, unknown sides, or what `Micrograph` refuses.
    """
    if array.ndim < 2:
        raise ValueError(
            f"array of shape {array.shape} is no image: give one with height and width"
        )
    if any(math.isnan(side) for side in array.shape):
        raise ValueError("sides of the dask array are not known: call compute_chunk_sizes first")
    shape = array.shape if array.ndim < 4 else (1, *array.shape[-2:])
    check_pixels(np.broadcast_to(np.zeros((), array.dtype), shape))

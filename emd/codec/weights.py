"""Owns the weights of streams: what coder and decoder have in common beside the code.

They lie beside the zoo's, are named by streams with a fingerprint, and never change: better ones
get another name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from emd.codec import contexts, latent_numbers
from emd.codec.latent_numbers import Knowledge
from emd.data.contents import FormatError
from emd.shipped import shipped

if TYPE_CHECKING:
    from emd.checkpoint import Model

NEWEST = {"temstem_latent16": "temstem_latent16-v1"}
"""The weights that new streams of a model are written with."""

_LONGEST = 80  # of a name


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """What coder and decoder of a stream have in common beside the code.

    Attributes:
      name: of the weights, version included.
      fingerprint: the first 16 hexadecimal digits of the SHA-256 of all arrays.
      variables: of the autoencoder, as paths to arrays.
      channel_steps: steps of the channels at a global step of 1, in units of their latents.
      knowledge: how numbers are coded.
    """

    name: str
    fingerprint: str
    variables: dict[str, np.ndarray]
    channel_steps: Float[np.ndarray, " c"]
    knowledge: Knowledge

    @property
    def depth(self) -> int:
        """How many latents a cell has."""
        return len(self.channel_steps)

    @functools.cached_property
    def network(self) -> Model:
        """The autoencoder, ready to apply."""
        import jax.numpy as jnp

        from emd import zoo
        from emd.checkpoint import Model

        config = zoo.find(self.name.rpartition("-v")[0])
        tree: dict[str, Any] = {}
        for path, value in self.variables.items():
            *folders, last = path.split("/")
            place = tree
            for folder in folders:
                place = place.setdefault(folder, {})
            place[last] = jnp.asarray(value)
        return Model(config, zoo.make_module(config), tree, {})


def find(name: str, fingerprint: str | None = None) -> Weights:
    """The weights of a name, or the newest of a model.

    Args:
      name: of weights, as a stream's header gives it, or of a model.
      fingerprint: what it has to be.

    Raises:
      FormatError: they are not here, damaged, or others than those asked for.
    """
    name = NEWEST.get(name, name)
    found = _load(name)
    check(name, found.fingerprint, fingerprint)
    return found


def check(name: str, found: str, due: str | None) -> None:
    """Nothing; raises FormatError where a fingerprint is another than is due."""
    if due is not None and found != due:
        raise FormatError(
            f"was written with weights {name} of fingerprint {due}, and those here have "
            f"{found}: {_remedy(name)}"
        )


def _remedy(name: str) -> str:
    return (
        f"install the version of emd-micrograph that brings checkpoints/streams/{name}, "
        "or copy that folder from its repository"
    )


@functools.lru_cache(maxsize=2)
def _load(name: str) -> Weights:
    with reading(name) as arrays:
        return unpack(name, arrays)


@contextlib.contextmanager
def reading(name: str) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of weights of a name, while they are taken apart.

    Raises:
      FormatError: there are none, or they are damaged.
    """
    # a name comes from a file: it must not lead anywhere else
    is_plain = name.replace("_", "").replace("-", "").isalnum() and name.isascii()
    path = shipped() / "streams" / name / "weights.npz"
    if not is_plain or len(name) > _LONGEST or not path.is_file():
        raise FormatError(
            f"needs weights {name[:_LONGEST]!r}, which are not here: {_remedy(name[:_LONGEST])}"
        )
    try:
        yield read(path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise FormatError(f"needs weights {name}, which are damaged: {_remedy(name)}") from None


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file.

    Raises:
      ValueError, EOFError, zipfile.BadZipFile: it is damaged.
      OSError: it cannot be read.
    """
    # not by its path, which numpy leaves open where it is damaged
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def unpack(name: str, arrays: dict[str, np.ndarray]) -> Weights:
    """The weights that a file's arrays hold.

    Raises:
      KeyError: one is missing.
      ValueError: one is damaged.
    """
    variables = {k: v for k, v in arrays.items() if k.split("/")[0] in ("params", "batch_stats")}
    return Weights(
        name, digest(arrays), variables, arrays["channel_steps"], unpack_knowledge(arrays)
    )


def digest(arrays: dict[str, np.ndarray]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of named arrays, in the order of names.

    Of each: name, type, shape as text, a line end after each, then its bytes in C order.
    """
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        shape = ",".join(map(str, array.shape))
        found.update(f"{name}\n{array.dtype.name}\n{shape}\n".encode() + little.tobytes())
    return found.hexdigest()[:16]


def pack_knowledge(knowledge: Knowledge) -> dict[str, np.ndarray]:
    """The arrays that `unpack_knowledge` takes."""
    plain = {
        f"contexts/{key}": np.asarray(value, np.int32)
        for key, value in knowledge._asdict().items()
        if key != "models"
    }
    models = (np.frombuffer(model.to_bytes(), np.uint8) for model in knowledge.models)
    return plain | {f"contexts/model{number}": model for number, model in enumerate(models)}


def unpack_knowledge(arrays: dict[str, np.ndarray]) -> Knowledge:
    """How numbers are coded, from the arrays of a file.

    Raises:
      KeyError: one is missing.
      ValueError: one is damaged.
    """
    names = [name for name in Knowledge._fields if name != "models"]
    plain = {name: arrays[f"contexts/{name}"].astype(np.int64) for name in names}
    count = len(latent_numbers.RANGES) + 1
    packed = (arrays[f"contexts/model{number}"].tobytes() for number in range(count))
    return Knowledge(**plain, models=tuple(contexts.from_bytes(data)[0] for data in packed))

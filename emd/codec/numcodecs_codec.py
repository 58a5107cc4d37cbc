"""The codec of numcodecs, and so of Zarr version 2: found where this package is installed.

zarr.create_array(..., zarr_format=2, compressors=Emdz(max_error=2))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numcodecs.abc import Codec  # type: ignore[import-untyped]
from numcodecs.compat import ensure_bytes, ndarray_copy  # type: ignore[import-untyped]

from emd.codec import arrays

if TYPE_CHECKING:
    from typing import Self


class Emdz(Codec):  # type: ignore[misc]
    """Arrays, whose last two axes are images, as streams, and back.

    Attributes:
      settings: how arrays are encoded; what is decoded says itself how it was.
    """

    codec_id = "emdz"

    def __init__(self, **settings: Any) -> None:
        """Takes the fields of `emd.codec.Settings`; without any, nothing is lost.

        Raises:
          ValueError: there is no such setting.
        """
        self.settings = arrays.settings_of(settings)

    def encode(self, buf: Any) -> bytes:
        """The stream of an array of two axes or more.

        Raises:
          ValueError: emdz holds no such arrays.
        """
        return arrays.compress(np.asarray(buf), self.settings, keeps_form=True)

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The array: shape, type and order in memory are those of the one that was encoded.

        Args:
          buf: a stream.
          out: an array or buffer to put it in, where one is given.

        Raises:
          FormatError: it is no stream, or damaged.
        """
        return ndarray_copy(arrays.decompress(ensure_bytes(buf)), out)

    def get_config(self) -> dict[str, Any]:
        """What an array's metadata say of the codec."""
        return {"id": self.codec_id, **arrays.configuration(self.settings)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The codec that an array's metadata name."""
        return cls(**config)

    def __repr__(self) -> str:
        """How it is made."""
        told = ", ".join(f"{k}={v!r}" for k, v in arrays.configuration(self.settings).items())
        return f"Emdz({told})"

"""The codec of Zarr version 3: each chunk a stream, found by zarr where this package is installed.

zarr.create_array(..., serializer=EmdzCodec(max_error=2), compressors=None)
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zarr.abc.codec import ArrayBytesCodec

from emd.codec import arrays
from emd.codec.settings import Settings

if TYPE_CHECKING:
    from typing import Self

    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer

NAME = "emdz"


@dataclass(frozen=True, init=False)
class EmdzCodec(ArrayBytesCodec):
    """Chunks of arrays, whose last two axes are images, as streams.

    Attributes:
      settings: how chunks are written; what is read says itself how it was.
    """

    settings: Settings = field()
    is_fixed_size = False

    def __init__(self, **settings: Any) -> None:
        """Takes the fields of `emd.codec.Settings`; without any, nothing is lost.

        Raises:
          ValueError: there is no such setting.
        """
        object.__setattr__(self, "settings", arrays.settings_of(settings))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The codec that an array's metadata name."""
        return cls(**(data.get("configuration") or {}))

    def to_dict(self) -> dict[str, Any]:
        """What an array's metadata say of the codec."""
        return {"name": NAME, "configuration": arrays.configuration(self.settings)}

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """Nothing.

        Raises:
          ValueError: emdz holds no such arrays.
        """
        arrays.check(shape, dtype.to_native_dtype())

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: ArraySpec) -> int:
        """Nothing that is known before; raises NotImplementedError, as zarr asks for."""
        raise NotImplementedError

    def _encode_sync(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        array = chunk_data.as_numpy_array()
        return chunk_spec.prototype.buffer.from_bytes(arrays.compress(array, self.settings))

    def _decode_sync(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        dtype = chunk_spec.dtype.to_native_dtype()
        array = arrays.shaped(chunk_data.to_bytes(), chunk_spec.shape, dtype)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(array)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)

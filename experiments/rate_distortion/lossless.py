"""Sizes of files that give an image back exactly, ours and others'.

Others get whole numbers in the narrowest type that holds them, which only helps them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tifffile
from jaxtyping import Shaped

from experiments.rate_distortion import ours
from experiments.rate_distortion.images import Image
from experiments.rate_distortion.rivals import imagecodecs

Pixels = Shaped[np.ndarray, "h w"]


class Codec(NamedTuple):
    """A codec without loss.

    Attributes:
      name: in tables and files.
      how: its settings, in a line.
      holds_floats: whether it knows float32.
      is_ours: whether it is ours, which gets the pixels as they are.
      encode: a file of pixels.
      decode: the pixels of a file that was made of such pixels.
      version: of the codec's library.
    """

    name: str
    how: str
    holds_floats: bool
    is_ours: bool
    encode: Callable[[Pixels], bytes]
    decode: Callable[[bytes, Pixels], Pixels]
    version: str = ""


def size(codec: Codec, image: Image) -> float | None:
    """Return the bits a pixel of an image's file; None of floats where a codec knows none.

    Raises:
        ArithmeticError: what is decoded is not the image.
    """
    if image.pixels.dtype.kind == "f" and not codec.holds_floats:
        return None
    pixels = image.pixels if codec.is_ours else narrowest(image.pixels)
    file = codec.encode(pixels)
    decoded = codec.decode(file, pixels)
    if not np.array_equal(np.asarray(decoded).reshape(pixels.shape), pixels):
        raise ArithmeticError(f"{image.name}: {codec.name} does not give it back exactly")
    return 8 * len(file) / pixels.size


def narrowest(pixels: Pixels) -> Pixels:
    """Return the image in 8 bits if they hold it; floats as they are."""
    fits = pixels.dtype.kind == "u" and int(pixels.max()) < 256
    return pixels.astype(np.uint8) if fits else pixels


def everyone() -> list[Codec]:
    """Return the codecs, ours last.

    Raises:
        ValueError: `imagecodecs` is not installed.
    """
    codecs = imagecodecs()
    return [
        _tiff(codecs),
        _zstd(codecs),
        _blosc2(codecs),
        _png(codecs),
        _jpegls(codecs),
        _jpeg2000(codecs),
        _htj2k(codecs),
        _jpegxl(codecs, 7),
        _jpegxl(codecs, 9),
        _zfp(codecs),
        _ours(),
    ]


def _ours() -> Codec:
    def decode(file: bytes, like: Pixels) -> Pixels:
        return ours.decode(file)

    how = "`emd compress --lossless`"
    return Codec(ours.LOSSLESS, how, True, True, ours.encode_lossless, decode)


def _tiff(codecs: Any) -> Codec:
    def encode(pixels: Pixels) -> bytes:
        file = io.BytesIO()
        predictor = 3 if pixels.dtype.kind == "f" else 2
        tifffile.imwrite(
            file, pixels, compression="deflate", compressionargs={"level": 9},
            predictor=predictor, rowsperstrip=len(pixels), metadata=None,
        )  # fmt: skip
        return file.getvalue()

    def decode(file: bytes, like: Pixels) -> Pixels:
        return tifffile.imread(io.BytesIO(file))

    how = "level 9, predictor, one strip"
    version = codecs.deflate_version()
    return Codec("TIFF deflate", how, True, False, encode, decode, version)


def _zstd(codecs: Any) -> Codec:
    def encode(pixels: Pixels) -> bytes:
        return codecs.zstd_encode(pixels.tobytes(), level=19, numthreads=1)

    def decode(file: bytes, like: Pixels) -> Pixels:
        return np.frombuffer(codecs.zstd_decode(file), like.dtype).reshape(like.shape)

    return Codec("zstd", "level 19", True, False, encode, decode, codecs.zstd_version())


def _blosc2(codecs: Any) -> Codec:
    def encode(pixels: Pixels) -> bytes:
        return codecs.blosc2_encode(
            pixels.tobytes(), level=9, compressor="zstd", shuffle="shuffle",
            typesize=pixels.dtype.itemsize, numthreads=1,
        )  # fmt: skip

    def decode(file: bytes, like: Pixels) -> Pixels:
        decoded = codecs.blosc2_decode(file, numthreads=1)
        return np.frombuffer(decoded, like.dtype).reshape(like.shape)

    how = "shuffled bytes, zstd, level 9"
    return Codec("Blosc2", how, True, False, encode, decode, codecs.blosc2_version())


def _png(codecs: Any) -> Codec:
    def encode(pixels: Pixels) -> bytes:
        return codecs.png_encode(pixels, level=9)

    def decode(file: bytes, like: Pixels) -> Pixels:
        return codecs.png_decode(file)

    return Codec("PNG", "level 9", False, False, encode, decode, codecs.png_version())


def _jpegls(codecs: Any) -> Codec:
    def encode(pixels: Pixels) -> bytes:
        bits = max(int(pixels.max()).bit_length(), 2)  # what the image takes, not its type
        return codecs.jpegls_encode(pixels, bitspersample=bits)

    def decode(file: bytes, like: Pixels) -> Pixels:
        return codecs.jpegls_decode(file)

    how = "CharLS, with the bits that the image takes"
    return Codec("JPEG-LS", how, False, False, encode, decode, codecs.jpegls_version())


def _jpeg2000(codecs: Any) -> Codec:
    def encode(pixels: Pixels) -> bytes:
        return codecs.jpeg2k_encode(
            pixels, level=0, codecformat="j2k", reversible=True, resolutions=6, mct=False,
            numthreads=1,
        )  # fmt: skip

    def decode(file: bytes, like: Pixels) -> Pixels:
        return codecs.jpeg2k_decode(file, numthreads=1)

    how = "OpenJPEG, 5/3 wavelet, bare codestream"
    return Codec("JPEG 2000", how, False, False, encode, decode, codecs.jpeg2k_version())


def _htj2k(codecs: Any) -> Codec:
    def encode(pixels: Pixels) -> bytes:
        return codecs.htj2k_encode(pixels, reversible=True, resolutions=6)

    def decode(file: bytes, like: Pixels) -> Pixels:
        return codecs.htj2k_decode(file)

    how = "OpenJPH, 5/3 wavelet"
    return Codec("HTJ2K", how, False, False, encode, decode, codecs.htj2k_version())


def _jpegxl(codecs: Any, effort: int) -> Codec:
    def encode(pixels: Pixels) -> bytes:
        return codecs.jpegxl_encode(
            pixels, lossless=True, effort=effort, usecontainer=False, numthreads=1
        )

    def decode(file: bytes, like: Pixels) -> Pixels:
        return codecs.jpegxl_decode(file, numthreads=1)

    name, how = f"JPEG XL effort {effort}", "libjxl, modular, bare codestream"
    return Codec(name, how, True, False, encode, decode, codecs.jpegxl_version())


def _zfp(codecs: Any) -> Codec:
    def encode(pixels: Pixels) -> bytes:
        # it has no integers of 8 and 16 bits
        wide = pixels if pixels.dtype.kind == "f" else pixels.astype(np.int32)
        return codecs.zfp_encode(wide, mode=codecs.ZFP.MODE.REVERSIBLE, numthreads=1)

    def decode(file: bytes, like: Pixels) -> Pixels:
        return codecs.zfp_decode(file, numthreads=1)

    return Codec("zfp", "reversible", True, False, encode, decode, codecs.zfp_version())

"""Other people's lossy codecs, from `imagecodecs`, each tuned for the least squared error.

Every image is scaled linearly to the largest range of integers that serves a codec best (floats in
[0, 1] for those of floating point) and scaled back; neither the two numbers of that scaling nor the
container's boxes, where a bare codestream will do, are counted. One thread each.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from experiments.rate_distortion.images import Image
from experiments.rate_distortion.scaling import onto
from experiments.rate_distortion.scores import Point, score
from experiments.rate_distortion.sweep import Span, sweep

Pixels = Shaped[np.ndarray, "h w"]

# The first that has grey AVIF with loss and knows the transfer function of JPEG XL.
_LEAST_VERSION = (2026, 10, 10)


class Rival(NamedTuple):
    """A codec.

    Attributes:
      name: in tables and files.
      how: its settings, in a line.
      top: what the greatest intensity is scaled to.
      dtype: of scaled pixels.
      spans: of its control; each becomes a curve, the best points of which count.
      encode: a file of scaled pixels, for a control.
      decode: the pixels of a file of an image of that shape.
      version: of the codec's library.
    """

    name: str
    how: str
    top: float
    dtype: str
    spans: tuple[Span, ...]
    encode: Callable[[Pixels, float], bytes]
    decode: Callable[[bytes, tuple[int, ...]], Pixels]
    version: str


def imagecodecs() -> Any:
    """Return the package.

    Raises:
        ValueError: it is not installed, or too old.
    """
    try:
        package = importlib.import_module("imagecodecs")
    except ModuleNotFoundError:
        raise ValueError(
            "imagecodecs is not installed: pip install 'emd-micrograph[bench]' brings the codecs "
            "to compare with"
        ) from None
    version = package.__version__
    if tuple(int(part) for part in version.split(".")[:3]) < _LEAST_VERSION:
        least = ".".join(map(str, _LEAST_VERSION))
        raise ValueError(
            f"imagecodecs {version} is too old to compare with: use {least} or newer, which is for "
            "Python 3.12 and newer"
        )
    return package


def curve(rival: Rival, image: Image, given: Pixels, *, points: int) -> list[Point]:
    """Return about so many points of a codec on an image, of which it is given ``given``.

    That is the image itself, or one made from it; the points tell how far from the image they are.
    """
    scaling = onto(given, rival.top, rival.dtype)
    scaled = scaling.forth(given)
    count = max(points // len(rival.spans), 2)

    def measure(control: float) -> Point:
        file = rival.encode(scaled, control)
        decoded = scaling.back(rival.decode(file, scaled.shape))
        return score(decoded, image.pixels, image.clean, control=control, size=len(file))

    return [point for span in rival.spans for point in sweep(measure, span, count=count)]


def rivals() -> list[Rival]:
    """Return the codecs.

    Raises:
        ValueError: `imagecodecs` is not installed, or too old.
    """
    codecs = imagecodecs()
    return [
        _jpeg2000(codecs),
        _htj2k(codecs),
        _jpegxl(codecs),
        _avif(codecs),
        _webp(codecs),
        _zfp(codecs),
        _sz3(codecs),
        _sperr(codecs),
    ]


def _jpeg2000(codecs: Any) -> Rival:
    def encode(pixels: Pixels, control: float) -> bytes:
        # one quality layer, cut where distortion falls equally fast in every block
        return codecs.jpeg2k_encode(
            pixels, level=control, codecformat="j2k", reversible=False, resolutions=6, mct=False,
            numthreads=1,
        )  # fmt: skip

    def decode(file: bytes, shape: tuple[int, ...]) -> Pixels:
        return codecs.jpeg2k_decode(file, numthreads=1)

    how = "OpenJPEG, 9/7 wavelet, 6 resolutions, blocks of 64x64, no tiles, bare codestream"
    version = codecs.jpeg2k_version()
    return Rival("JPEG 2000", how, 65535, "uint16", (Span(8, 80),), encode, decode, version)


def _htj2k(codecs: Any) -> Rival:
    def encode(pixels: Pixels, control: float) -> bytes:
        return codecs.htj2k_encode(pixels, level=control, reversible=False, resolutions=6)

    def decode(file: bytes, shape: tuple[int, ...]) -> Pixels:
        return codecs.htj2k_decode(file)

    how = "OpenJPH, 9/7 wavelet, 6 resolutions, blocks of 64x64, no tiles, by quantiser step"
    spans = (Span(2e-4, 0.7, is_log=True),)
    version = codecs.htj2k_version()
    return Rival("HTJ2K", how, 65535, "uint16", spans, encode, decode, version)


def _jpegxl(codecs: Any) -> Rival:
    def encode(pixels: Pixels, control: float) -> bytes:
        # Without a transfer function 16 bits would count as linear light, which costs up to 0.6 dB.
        return codecs.jpegxl_encode(
            pixels, distance=control, effort=7, transfer="bt709", usecontainer=False, numthreads=1
        )

    def decode(file: bytes, shape: tuple[int, ...]) -> Pixels:
        return codecs.jpegxl_decode(file, numthreads=1)

    how = "libjxl, lossy (VarDCT), effort 7, transfer BT.709, bare codestream"
    # from a distance of 10 on it codes at half the resolution: another curve
    spans = (Span(0.1, 9.99, is_log=True), Span(10, 25, is_log=True))
    version = codecs.jpegxl_version()
    return Rival("JPEG XL", how, 65535, "uint16", spans, encode, decode, version)


def _avif(codecs: Any) -> Rival:
    def encode(pixels: Pixels, control: float) -> bytes:
        return codecs.avif_encode(
            pixels, level=int(control), speed=6, bitspersample=10, pixelformat="yuv400",
            numthreads=1,
        )  # fmt: skip

    def decode(file: bytes, shape: tuple[int, ...]) -> Pixels:
        return codecs.avif_decode(file, numthreads=1)

    how = "libavif with aom, grey, 10 bits (12 do worse at low rates), speed 6"
    spans = (Span(0, 95, whole=True),)
    version = codecs.avif_version()
    return Rival("AVIF", how, 1023, "uint16", spans, encode, decode, version)


def _webp(codecs: Any) -> Rival:
    def encode(pixels: Pixels, control: float) -> bytes:
        grey = np.repeat(pixels[..., None], 3, axis=2)
        return codecs.webp_encode(grey, level=control, method=6, lossless=False, numthreads=1)

    def decode(file: bytes, shape: tuple[int, ...]) -> Pixels:
        return codecs.webp_decode(file, hasalpha=False)[..., 1]

    how = "libwebp, grey as three equal channels, 8 bits (it has no more), method 6"
    version = codecs.webp_version()
    return Rival("WebP", how, 255, "uint8", (Span(0, 100),), encode, decode, version)


def _zfp(codecs: Any) -> Rival:
    def encode(pixels: Pixels, control: float) -> bytes:
        # below 0 the control is a rate, above it a bound of the error: two modes, one curve
        mode = codecs.ZFP.MODE.FIXED_RATE if control < 0 else codecs.ZFP.MODE.FIXED_ACCURACY
        return codecs.zfp_encode(pixels, level=abs(control), mode=mode, numthreads=1)

    def decode(file: bytes, shape: tuple[int, ...]) -> Pixels:
        return codecs.zfp_decode(file, numthreads=1)

    how = "zfp, fixed rate and fixed accuracy"
    spans = (Span(-3, -0.5), Span(1e-3, 2, is_log=True))
    return Rival("zfp", how, 1, "float32", spans, encode, decode, codecs.zfp_version())


def _sz3(codecs: Any) -> Rival:
    def encode(pixels: Pixels, control: float) -> bytes:
        return codecs.sz3_encode(pixels, mode="abs", abs=control)

    def decode(file: bytes, shape: tuple[int, ...]) -> Pixels:
        return codecs.sz3_decode(file, shape, np.float32)

    how = "SZ3, bounded absolute error"
    spans = (Span(1e-3, 1, is_log=True),)
    return Rival("SZ3", how, 1, "float32", spans, encode, decode, codecs.sz3_version())


def _sperr(codecs: Any) -> Rival:
    def encode(pixels: Pixels, control: float) -> bytes:
        return codecs.sperr_encode(pixels, control, "bpp", numthreads=1)

    def decode(file: bytes, shape: tuple[int, ...]) -> Pixels:
        return codecs.sperr_decode(file, numthreads=1)

    how = "SPERR, by bits a pixel (its aims of PSNR and of a bounded error do worse)"
    spans = (Span(0.008, 2.2, is_log=True),)
    return Rival("SPERR", how, 1, "float32", spans, encode, decode, codecs.sperr_version())

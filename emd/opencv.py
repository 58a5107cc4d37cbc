"""Kernels by OpenCV, the quickest for narrow ones on a CPU: optional, it is the extra `fast`."""

import importlib
import importlib.util
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from emd.data.intensity import Frame, for_device
from emd.data.pixels import bands
from emd.threads import share

_DIRECT_PX = 9
"""Widths up to which every build sums directly; wider ones may go through a Fourier transform,
which spreads the rounding of a bright pixel over the image."""
_DIRECT_WITH_IPP_PX = 11
"""With Intel's library it sums directly at any width, but folded kernels are faster beyond."""
_STRIP_PX = 2**20  # as much as the cache may hold, and enough to share out among the cores


def is_quicker(width: int) -> bool:
    """Whether OpenCV is there, and both exact and faster than XLA for kernels of a width [px]."""
    if width > _DIRECT_WITH_IPP_PX or not _is_there():
        return False
    return width <= _DIRECT_PX or bool(_opencv().ipp.useIPP())


def correlate(
    matrix: Float[np.ndarray, "k k"], frame: Frame, out: Float[np.ndarray, "h w"]
) -> None:
    """Fills `out` with a kernel over a frame normalised by its scale, reflected at its border.

    Strip by strip, from the top; OpenCV takes all cores for each.
    """
    opencv = _opencv()
    reach, (height, width) = len(matrix) // 2, out.shape
    rows = max(_STRIP_PX // width, 4 * reach)
    ready_made = frame.pixels.dtype == np.float32 and frame.scale == (0, 1)
    buffer = np.empty((0 if ready_made else min(rows + 2 * reach, height), width), np.float32)
    for start in range(0, height, rows):
        above = max(start - reach, 0)
        part = slice(above, min(start + rows + reach, height))
        strip = frame.pixels[part]
        if not ready_made:
            strip = _normalise(strip, frame, buffer[: len(strip)])
        # at a cut OpenCV reflects, so it spoils what is there already, and what comes next
        done = out[above:start].copy()
        opencv.filter2D(strip, -1, matrix, dst=out[part], borderType=opencv.BORDER_REFLECT_101)
        out[above:start] = done


def _normalise(
    strip: Shaped[np.ndarray, "i w"], frame: Frame, out: Float[np.ndarray, "i w"]
) -> Float[np.ndarray, "i w"]:
    """`out`, filled with part of a frame."""
    put = for_device(strip.dtype, frame.scale, host=True).put
    share(lambda band: put(strip[band], out[band]), bands(*strip.shape))
    return out


def _is_there() -> bool:
    try:
        return importlib.util.find_spec("cv2") is not None
    except ValueError:  # another thread is just importing it
        return True


def _opencv() -> Any:
    return importlib.import_module("cv2")

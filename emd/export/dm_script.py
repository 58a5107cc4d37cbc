"""Kernels and perceptrons as scripts for DigitalMicrograph, in plain DM scripting.

The script restores the front image as `emd.restore` does: the same normalisation, border and mean.
The result is a new real image with the calibration and tags of the first. Its language is kept
small on purpose: whole-image arithmetic over slices, `for`, and no feature newer than GMS 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Array, Float

import emd
from emd.checkpoint import Model, fingerprint
from emd.models.folded import Folded
from emd.models.pixelwise import MLP, Kernel, fold
from emd.models.symmetry import orbits

_START = """\
image source := GetFrontImage()
if (ImageGetNumDimensions(source) != 2) Throw("emd: bring a 2-D image to the front")
number across, down
GetSize(source, across, down)
number size = {size}
number half = {half}
if (across <= half || down <= half) Throw("emd: each side must be longer than {half} pixels")

// minimum and mean above it: undone at the end
number low = min(source)
number gain = mean(source) - low
if (gain == 0) gain = 1

// the image, normalised, and reflected beyond its border
number wide = across + 2 * half
number tall = down + 2 * half
image padded := RealImage("padded", 4, wide, tall)
padded[half, half, half + down, half + across] = (source - low) / gain
for (number i = 1; i <= half; i++) {{
  padded[half - i, 0, half - i + 1, wide] = padded[half + i, 0, half + i + 1, wide]
  padded[half + down - 1 + i, 0, half + down + i, wide] = \
padded[half + down - 1 - i, 0, half + down - i, wide]
}}
for (number j = 1; j <= half; j++) {{
  padded[0, half - j, tall, half - j + 1] = padded[0, half + j, tall, half + j + 1]
  padded[0, half + across - 1 + j, tall, half + across + j] = \
padded[0, half + across - 1 - j, tall, half + across - j]
}}
"""

_KERNEL = """
image restored := RealImage("restored", 4, across, down)
restored = 0
for (number y = 0; y < size; y++) {
  for (number x = 0; x < size; x++) {
    restored += GetPixel(weights, x, y) * padded[y, x, y + down, x + across]
  }
}
"""

_MAPS = """
// the first hidden layer's sigmoids, one map below the other: one for each set of tied places
number count = {count}
image maps := RealImage("maps", 4, wide, tall * count)
for (number m = 0; m < count; m++) {{
  maps[m * tall, 0, (m + 1) * tall, wide] = \
1 / (1 + exp(-1 * (padded * GetPixel(scale, m, 0) + GetPixel(bias, m, 0))))
}}
"""

_ONE_LAYER = """
image restored := RealImage("restored", 4, across, down)
restored = 0
number top
for (number y = 0; y < size; y++) {
  for (number x = 0; x < size; x++) {
    top = GetPixel(orbit, x, y) * tall + y
    restored += GetPixel(weights, x, y) * maps[top, x, top + down, x + across]
  }
}
"""

_TWO_LAYERS = """
// the second hidden layer, node by node: a row of connection holds what leads to one
image restored := RealImage("restored", 4, across, down)
image mixed := RealImage("mixed", 4, across, down)
restored = 0
number top
number node
for (number row = 0; row < size; row++) {
  for (number column = 0; column < size; column++) {
    node = row * size + column
    mixed = GetPixel(inner, node, 0)
    for (number y = 0; y < size; y++) {
      for (number x = 0; x < size; x++) {
        top = GetPixel(orbit, x, y) * tall + y
        mixed += GetPixel(connection, y * size + x, node) * maps[top, x, top + down, x + across]
      }
    }
    restored += GetPixel(weights, column, row) / (1 + exp(-1 * mixed))
  }
}
"""

_KEEP_MEAN = """
// the mean stays what it was
number shift = (mean(source) - low) / gain - mean(restored)
restored = restored + shift
"""

_END = """
restored = restored * gain + low
ImageCopyCalibrationFrom(restored, source)
TagGroupCopyTagsFrom(ImageGetTagGroup(restored), ImageGetTagGroup(source))
TagGroupSetTagAsString(ImageGetTagGroup(restored), "emd:model", "{name}")
TagGroupSetTagAsString(ImageGetTagGroup(restored), "emd:weights", "{weights}")
TagGroupSetTagAsString(ImageGetTagGroup(restored), "emd:version", "{version}")
SetName(restored, GetName(source) + " {name}")
ShowImage(restored)
"""


def render(model: Model) -> bytes:
    """The script's text.

    Raises:
      ValueError: a model that is neither kernel nor perceptron.
    """
    if not isinstance(model.module, Kernel | MLP):
        raise ValueError(f"{model.config.name}: a script holds kernels and perceptrons alone")
    given = fold(model.module, model.variables["params"])
    folded = jax.tree.map(np.asarray, given)
    size = len(folded.output)
    facts = {
        "name": model.config.name,
        "weights": fingerprint(model.variables),
        "version": emd.__version__,
    }
    parts = [
        "// {name}, by emd {version}: restores the front image\n".format(**facts),
        _START.format(size=size, half=size // 2),
        *_image("weights", folded.output),
        *(_perceptron(folded) if len(folded.biases) else [_KERNEL]),
        "" if model.config.published else _KEEP_MEAN,
        _END.format(**facts),
    ]
    return "".join(parts).encode("ascii")


def _perceptron(folded: Folded) -> Iterator[str]:
    numbers = orbits(len(folded.output))
    yield from _image("orbit", numbers.astype(np.float32))
    yield from _image("scale", folded.scale[None])
    yield from _image("bias", folded.biases[:1])
    yield _MAPS.format(count=len(folded.scale))
    if folded.connections is None:
        yield _ONE_LAYER
        return
    yield from _image("inner", folded.biases[1:, numbers.reshape(-1)])
    yield from _image("connection", folded.connections[0].T)
    yield _TWO_LAYERS


def _image(name: str, matrix: Float[Array | np.ndarray, "h w"]) -> Iterator[str]:
    """The lines that make an image of numbers, pixel by pixel: every version understands them."""
    height, width = matrix.shape
    yield f'\nimage {name} := RealImage("{name}", 4, {width}, {height})\n'
    for (row, column), value in np.ndenumerate(np.asarray(matrix)):
        number = np.format_float_positional(value, trim="0")
        yield f"SetPixel({name}, {column}, {row}, {number})\n"

"""A model as an ONNX graph from counts to counts, for onnxruntime and whatever else reads ONNX.

Normalisation, border and mean are in the graph, so a program gives it float32 images (n, h, w) of
any size and gets restored ones. The graph works whole: memory grows with the image (for a
perceptron with two hidden layers 3 w^2 times its size).
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Float

import emd
from emd.checkpoint import Model, fingerprint
from emd.models.autoencoder import Autoencoder
from emd.models.folded import Folded
from emd.models.pixelwise import MLP, Kernel, fold
from emd.models.symmetry import orbits
from emd.traced import Layers, border, fold_autoencoder

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    raise ImportError("onnx needs the extra export: pip install 'emd-micrograph[export]'") from None

OPSET = 17
"""Of ONNX 1.12, 2022: its operators are all that the graph uses."""

_IR_VERSION = 8  # of the same release: newer ones shut out older run-times
_TO_END = np.iinfo(np.int64).max


def render(model: Model) -> bytes:
    """The serialised graph: input `counts` (n, h, w), output `restored`, both float32."""
    graph = _Graph()
    halo, multiple = border(model)
    low, mean, x = _normalised(graph, "counts")
    padded = graph.add("Unsqueeze", _padded(graph, x, halo, multiple), graph.axes(1))
    if isinstance(model.module, Kernel | MLP):
        y = _pixelwise(graph, fold(model.module, model.variables["params"]), padded)
    else:
        y = _cropped(graph, _network(graph, model, padded), halo)
    y = graph.add("Squeeze", y, graph.axes(1))
    if not model.config.published:
        mean_of = graph.add("ReduceMean", y, axes=[1, 2], keepdims=1)
        y = graph.add("Add", y, graph.add("Sub", graph.constant(1.0), mean_of))
    graph.add("Add", graph.add("Mul", y, mean), low, outputs=["restored"])
    return graph.serialised(model)


class _Graph:
    """Nodes and constants as they are made; every value has a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, outputs: list[str] | None = None, **options: Any) -> str:
        """The name of the first output of a new node."""
        names = outputs or [f"{kind}_{len(self.nodes)}"]
        self.nodes.append(helper.make_node(kind, list(inputs), names, names[0], **options))
        return names[0]

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """The name of a new constant."""
        name = f"constant_{len(self.constants)}"
        array = np.ascontiguousarray(np.asarray(value, dtype))
        # ascontiguousarray makes a vector of a number
        array = array.reshape(np.shape(value))
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def axes(self, *axes: int) -> str:
        """The name of a new constant that lists axes or places."""
        return self.constant(axes, np.int64)

    def serialised(self, model: Model) -> bytes:
        shape = ["n", "h", "w"]
        images = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name in ("counts", "restored")
        ]
        graph = helper.make_graph(
            self.nodes, model.config.name, images[:1], images[1:], self.constants
        )
        file = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
            producer_name="emd",
            producer_version=emd.__version__,
            doc_string="Restores electron micrographs: float32 counts in, float32 counts out.",
        )
        facts = {"model": model.config.name, "weights": fingerprint(model.variables)}
        helper.set_model_props(file, facts)
        onnx.checker.check_model(file, full_check=True)
        return bytes(file.SerializeToString())


# --- either side of the model ----------------------------------------------------------------


def _normalised(graph: _Graph, x: str) -> tuple[str, str, str]:
    """Minimum, mean above it, and the images normalised by them; all ones where that mean is 0."""
    low = graph.add("ReduceMin", x, axes=[1, 2], keepdims=1)
    above = graph.add("Sub", x, low)
    mean = graph.add("ReduceMean", above, axes=[1, 2], keepdims=1)
    constant = graph.add("Equal", mean, graph.constant(0.0))
    safe = graph.add("Where", constant, graph.constant(1.0), mean)
    ones = graph.add("Cast", constant, to=TensorProto.FLOAT)
    return low, mean, graph.add("Add", graph.add("Div", above, safe), ones)


def _padded(graph: _Graph, x: str, halo: int, multiple: int) -> str:
    """Images reflected by `halo` on each side, and beyond the end up to a multiple of a side.

    Without halo they are mirrored at their end, the last pixel repeated. By index, since ONNX's own
    reflection ends where the image is smaller than the border.
    """
    for axis in (1, 2):
        side = graph.add("Gather", graph.add("Shape", x), graph.constant(axis, np.int64))
        whole, one = graph.constant(multiple, np.int64), graph.constant(1, np.int64)
        rest = graph.add("Mod", graph.add("Neg", side), whole)
        end = graph.add("Add", graph.add("Add", side, rest), graph.constant(halo, np.int64))
        index = graph.add("Range", graph.constant(-halo, np.int64), end, one)
        twice = graph.add("Mul", side, graph.constant(2, np.int64))
        last = graph.add("Sub", twice, graph.constant(2 if halo else 1, np.int64))
        # of reflection a single pixel has no period of its own: any will do
        period = graph.add("Max", last, one) if halo else twice
        folded = graph.add("Mod", index, period)
        place = graph.add("Min", folded, graph.add("Sub", last, folded))
        x = graph.add("Gather", x, place, axis=axis)
    return x


def _cropped(graph: _Graph, y: str, halo: int) -> str:
    """Maps without the border, as large as the graph's input."""
    shape = graph.add("Shape", "counts", start=1, end=3)
    end = graph.add("Add", shape, graph.axes(halo, halo))
    return graph.add("Slice", y, graph.axes(halo, halo), end, graph.axes(2, 3))


# --- the models ------------------------------------------------------------------------------


def _pixelwise(graph: _Graph, given: Folded, x: str) -> str:
    folded = jax.tree.map(np.asarray, given)
    numbers = orbits(folded.output.shape[-1])
    if not len(folded.biases):
        return graph.add("Conv", x, graph.constant(folded.output[None, None]))
    scale = folded.scale[:, None, None, None]
    maps = graph.add("Conv", x, graph.constant(scale), graph.constant(folded.biases[0]))
    maps = graph.add("Sigmoid", maps)
    if folded.connections is None:
        # each place of the window has the map of its orbit
        own = numbers[None] == np.arange(len(folded.scale))[:, None, None]
        return graph.add("Conv", maps, graph.constant((own * folded.output)[None]))
    y = _stacked(graph, maps, numbers)
    biases = folded.biases[1:, numbers.reshape(-1)]
    for connection, bias in zip(folded.connections, biases, strict=True):
        mixing = graph.constant(connection.T[:, :, None, None])
        y = graph.add("Sigmoid", graph.add("Conv", y, mixing, graph.constant(bias)))
    return graph.add("Conv", y, graph.constant(folded.output.reshape(1, -1, 1, 1)))


def _stacked(graph: _Graph, maps: str, numbers: np.ndarray) -> str:
    """For each place of the window the map of its orbit, shifted to it."""
    spatial, parts = graph.axes(2, 3), []
    planes = [
        graph.add("Slice", maps, graph.axes(i), graph.axes(i + 1), graph.axes(1))
        for i in range(numbers.max() + 1)
    ]
    for place, orbit in np.ndenumerate(numbers):
        ends = [row + 1 - len(numbers) or _TO_END for row in place]
        parts.append(
            graph.add("Slice", planes[orbit], graph.axes(*place), graph.axes(*ends), spatial)
        )
    return graph.add("Concat", *parts, axis=1)


def _network(graph: _Graph, model: Model, x: str) -> str:
    if isinstance(model.module, Autoencoder):
        return _autoencoder(graph, fold_autoencoder(model.variables), x)
    return _skip(graph, model.variables["params"], x)


def _autoencoder(graph: _Graph, layers: Layers, y: str) -> str:
    for one in layers.encoder:
        filters = one.depthwise.transpose(3, 2, 0, 1)
        # SAME puts the odd pixel of padding at the end
        pads = [0, 0, 1, 1] if one.stride == 2 else [1, 1, 1, 1]
        strides = [one.stride, one.stride]
        weights = graph.constant(filters)
        y = graph.add("Conv", y, weights, group=len(filters), strides=strides, pads=pads)
        mixing = graph.constant(one.pointwise.T[:, :, None, None])
        y = graph.add("Relu", graph.add("Conv", y, mixing, graph.constant(one.bias)))
    for up in layers.decoder:
        weights = graph.constant(up.kernel.transpose(2, 3, 0, 1))
        bias = graph.constant(up.bias)
        y = graph.add("ConvTranspose", y, weights, bias, strides=[2, 2], pads=[0, 0, 1, 1])
        y = graph.add("Relu", y)
    return graph.add("Conv", y, graph.constant(_image_filter(layers)), pads=[1, 1, 1, 1])


def _image_filter(layers: Layers) -> Float[np.ndarray, "1 c 3 3"]:
    return layers.image.transpose(3, 2, 0, 1)


def _skip(graph: _Graph, params: Any, x: str) -> str:
    """The network of `emd.models.skip`, its layers numbered in the order in which it makes them."""

    def conv(y: str, layer: Any) -> str:
        kernel = np.asarray(layer["Conv_0"]["kernel"]).transpose(3, 2, 0, 1)
        return graph.add("Conv", y, graph.constant(kernel), pads=[1, 1, 1, 1])

    def mix(number: int, y: str) -> str:
        kernel = np.asarray(params[f"_Mix_{number}"]["Dense_0"]["kernel"])
        return graph.add("Conv", y, graph.constant(kernel.T[:, :, None, None]))

    def residual(number: int, y: str) -> str:
        layer = params[f"_Residual_{number}"]
        inner = conv(graph.add("Relu", y), layer["_Conv_0"])
        return graph.add("Add", y, conv(graph.add("Relu", inner), layer["_Conv_1"]))

    def maps(y: str, side: int) -> str:
        return graph.add("SpaceToDepth", y, blocksize=side)

    def pixels(y: str, side: int) -> str:
        return graph.add("DepthToSpace", y, blocksize=side)

    y = graph.add("Sub", x, graph.constant(1.0))
    first = residual(0, conv(maps(y, 4), params["_Conv_0"]))
    second = residual(1, mix(0, maps(first, 2)))
    third = residual(2, residual(3, mix(1, maps(second, 2))))
    second = residual(4, graph.add("Add", second, pixels(mix(2, third), 2)))
    first = residual(5, graph.add("Add", first, pixels(mix(3, second), 2)))
    return graph.add("Sub", x, pixels(conv(first, params["_Conv_1"]), 4))

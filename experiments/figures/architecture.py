"""Figs. 1 and 3: the architectures, drawn from what tracing the modules finds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emd import zoo
from emd.data.crops import SIDE_PX
from emd.models.symmetry import free_count
from experiments.figures import layers, style

_NAMES = {
    "SeparableConv": "separable\nconv.",
    "Upsample": "transposed\nconv.",
    "ToImage": "conv.",
    "BatchNorm": "batch norm",
    "relu": "ReLU",
}
_FILLS = {"encoder": "#CFE6F5", "decoder": "#F8DDC4"}
_LATENT = "#BFE5D8"


def fig1() -> Any:
    """Return the figure of the autoencoder; the depths that exist are read from the zoo."""
    depths = sorted({c.size for c in zoo.PAPER_MODELS if c.family == "autoencoder"})
    depth = zoo.TEACHER_LATENT
    modules = [zoo.make_module(zoo.find_autoencoder("temstem", d)) for d in (depth, max(depths))]
    shape = (1, SIDE_PX, SIDE_PX)
    found = [layers.stages(layers.trace(module, shape)) for module in modules]
    sizes = [shape_label(stage.after, other.after) for stage, other in zip(*found, strict=True)]
    count = layers.count_params(modules[0], shape)
    with style.settings():
        figure = style.new(3.1)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, style.WIDTH_IN), ylim=(0, 3.1))
        axes.set_axis_off()
        _draw_stages(axes, found[0], [shape_label(shape[1:], shape[1:]), *sizes])
        latent = found[0][_narrowest(found[0])].after
        caption = f"""Boxes are images or stacks of maps, with their side and number of maps below,
        for a crop of {SIDE_PX}{style.TIMES}{SIDE_PX} px; arrows are layers, with what they consist
        of above. d, the latent depth, is {", ".join(map(str, depths))}; with d = {depth} the model
        has {count:,} trained numbers, and the latent holds {SIDE_PX**2 // math.prod(latent)} times
        fewer numbers than the image."""
        style.frame(figure, "Fig. 1. The denoising, compressing autoencoder", caption)
    return figure


def shape_label(shape: layers.Shape, other: layers.Shape) -> str:
    """Return a shape as text; a length that differs in another depth's module is d."""
    sides = [str(n) if n == m else "d" for n, m in zip(shape, other, strict=True)]
    return f"{sides[0]}{style.TIMES}{sides[1]}\n{style.TIMES}{sides[2] if len(sides) > 2 else 1}"


def stage_label(stage: layers.Stage) -> str:
    """Return what a stage consists of, a line a thing."""
    lines = []
    for layer in stage.layers:
        lines.append(_NAMES.get(layer.kind, layer.kind))
        spatial = [shape[:2] for shape in layer.params.values() if len(shape) == 4]
        if spatial:
            lines[-1] += f" {spatial[0][0]}{style.TIMES}{spatial[0][1]}"
            stride = max(layer.before[0] / layer.after[0], layer.after[0] / layer.before[0])
            lines.append(f"stride {stride:g}")
            if "bias" in layer.params:
                lines.append("+ bias")
    return "\n".join(lines)


def _narrowest(stages: Sequence[layers.Stage]) -> int:
    """The stage whose result holds the fewest numbers: the latent."""
    return min(range(len(stages)), key=lambda i: math.prod(stages[i].after))


def _draw_stages(axes: Any, stages: Sequence[layers.Stage], sizes: Sequence[str]) -> None:
    shapes = [stages[0].before, *(stage.after for stage in stages)]
    # what a result comes from; the image itself belongs to none
    parts = ["", *(stage.layers[0].path[0] for stage in stages)]
    pitch = style.WIDTH_IN / len(shapes)
    latent = 1 + _narrowest(stages)
    middle = 1.36
    edges = []
    for i, (shape, size, part) in enumerate(zip(shapes, sizes, parts, strict=True)):
        fill = _LATENT if i == latent else _FILLS.get(part, "white")
        edges.append(_box(axes, (i + 0.5) * pitch, middle, shape, fill))
        axes.text((i + 0.5) * pitch, 0.88, size, ha="center", va="top", fontsize=style.POINTS)
    axes.text(0.5 * pitch, 0.64, "image in", ha="center", va="top")
    axes.text((len(shapes) - 0.5) * pitch, 0.64, "image out", ha="center", va="top")
    axes.text((latent + 0.5) * pitch, 0.64, "latent", ha="center", va="top", weight="bold")
    for i, stage in enumerate(stages):
        begin, end = edges[i][1] + 0.02, edges[i + 1][0] - 0.02
        axes.annotate(
            "", (end, middle), (begin, middle),
            arrowprops={"arrowstyle": "-|>", "color": style.DARK, "linewidth": 0.8,
                        "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7},
        )  # fmt: skip
        axes.text((i + 1) * pitch, 1.9, stage_label(stage), ha="center", va="bottom",
                  fontsize=style.POINTS, linespacing=1.05)  # fmt: skip
    for part in dict.fromkeys(parts[1:]):
        own = [i for i, name in enumerate(parts) if name == part]
        left, right = (own[0] - 0.35) * pitch, (own[-1] + 0.35) * pitch
        axes.plot([left, right], [2.64, 2.64], color=style.DARK, linewidth=0.8)
        axes.text((left + right) / 2, 2.66, part, ha="center", va="bottom", fontsize=8)


def _box(axes: Any, x: float, y: float, shape: layers.Shape, fill: str) -> tuple[float, float]:
    """A stack of maps as a box: its height the side, its thickness the logarithm of the maps."""
    height = 0.12 + 0.6 * shape[0] / SIDE_PX
    skew = 0.28 * height
    maps = shape[2] if len(shape) > 2 else 1
    thick = 0.04 + 0.03 * math.log2(maps)
    left, low = x - (thick + skew) / 2, y - (height + skew) / 2
    right, high = left + thick, low + height
    faces = (
        [(left, low), (right, low), (right, high), (left, high)],
        [(left, high), (right, high), (right + skew, high + skew), (left + skew, high + skew)],
        [(right, low), (right + skew, low + skew), (right + skew, high + skew), (right, high)],
    )
    for face, shade in zip(faces, (1.0, 0.75, 0.55), strict=True):
        axes.fill(*zip(*face, strict=True), facecolor=fill, edgecolor=style.DARK,
                  linewidth=0.6, alpha=shade)  # fmt: skip
    return left, right + skew


# --- kernels and perceptrons -----------------------------------------------------------------

_STEP_FILLS = {
    "weights": "#CFE6F5",
    "biases": "#F8DDC4",
    "connections": "#BFE5D8",
    "sum": "#EFD3E3",
}


def fig3() -> Any:
    """Return the figure of kernels and perceptrons, for any width."""
    families = ("kernel", "mlp1", "mlp2")
    chains = [student_chain(family) for family in families]
    height = 1.5 + 0.33 * max(map(len, chains))
    with style.settings():
        figure = style.new(height)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, style.WIDTH_IN), ylim=(0, height))
        axes.set_axis_off()
        pitch = style.WIDTH_IN / len(families)
        for i, (family, chain) in enumerate(zip(families, chains, strict=True)):
            x = (i + 0.5) * pitch
            axes.text(x, height - 0.38, style.FAMILIES[family], ha="center", fontsize=8)
            _draw_chain(axes, x, height - 0.6, chain)
            sizes = trained_numbers(family)
            text = f"w = {', '.join(map(str, sizes))}:\n"
            text += f"{', '.join(map(str, sizes.values()))}\nnumbers trained"
            axes.text(x, 0.86, text, ha="center", va="top", color=style.DARK)
        caption = f"""One output pixel is made of the w{style.TIMES}w input pixels around it.
        k = (h + 1)(h + 2)/2 with h = (w - 1)/2 is how many of w² numbers are free: places that
        rotations and reflections of the square carry into one another share one number."""
        style.frame(figure, "Fig. 3. Kernels and perceptrons (MLPs)", caption)
    return figure


def student_chain(family: str) -> list[tuple[str, str]]:
    """Return the steps of a kernel or perceptron as (kind, text), with sizes in terms of w."""
    traced = {width: _trace_student(family, width) for width in trained_numbers(family)}
    first = next(iter(traced.values()))
    names = layers.steps(first[0], first[1])

    def size(array: str, axis: int) -> str:
        return in_terms_of_width({width: found[0][array][axis] for width, found in traced.items()})

    def text(name: str) -> str:
        if name == "weights":
            return f"{style.TIMES} weights: w², of them {size(name, -1)} free"
        if name == "biases":
            return f"+ biases: w², of them {size(name, -1)} free"
        if name == "connections":
            return f"fully connected: {size(name, -2)} to {size(name, -1)} nodes"
        return "sum: one node" if name == "sum" else _NAMES.get(name, name)

    ends = ("input", f"w{style.TIMES}w input pixels"), ("output", "one output pixel")
    return [ends[0], *((name, text(name)) for name in names), ends[1]]


def _trace_student(family: str, width: int) -> tuple[Mapping[str, layers.Shape], list[str]]:
    """The shapes of a kernel's or perceptron's arrays, and its activations."""
    module = zoo.make_student(zoo.ModelConfig(family, "temstem", width))
    found = layers.trace(module, (1, width, width))
    return found[0].params, [layer.kind for layer in found if not layer.params]


def trained_numbers(family: str) -> dict[int, int]:
    """Return width to trained numbers of all widths that a family has in the zoo."""
    widths = sorted({c.size for c in zoo.PAPER_MODELS if c.family == family})
    modules = {w: zoo.make_student(zoo.ModelConfig(family, "temstem", w)) for w in widths}
    return {w: layers.count_params(module, (1, w, w)) for w, module in modules.items()}


def in_terms_of_width(lengths: Mapping[int, int]) -> str:
    """Return the length of an axis as text, from what it is at each width."""
    known: dict[str, Callable[[int], int]] = {"w²": lambda w: w * w, "k": free_count}
    for name, law in known.items():
        if all(length == law(width) for width, length in lengths.items()):
            return name
    return "/".join(map(str, lengths.values()))


def _draw_chain(axes: Any, x: float, top: float, chain: Sequence[tuple[str, str]]) -> None:
    box, gap = 0.22, 0.11
    for i, (kind, text) in enumerate(chain):
        y = top - i * (box + gap) - box / 2
        fill = _STEP_FILLS.get(kind, "white")
        axes.fill_between([x - 1.05, x + 1.05], y - box / 2, y + box / 2, facecolor=fill,
                          edgecolor=style.DARK, linewidth=0.6)  # fmt: skip
        axes.text(x, y, text, ha="center", va="center_baseline", fontsize=style.POINTS)
        if i:
            axes.annotate(
                "", (x, y + box / 2), (x, y + box / 2 + gap),
                arrowprops={"arrowstyle": "-|>", "color": style.DARK, "linewidth": 0.8,
                            "shrinkA": 0, "shrinkB": 0, "mutation_scale": 6},
            )  # fmt: skip

"""What a Flax module consists of, found by tracing it: layers, shapes, weights, activations.

Nothing is computed and nothing is known of the module beforehand, so a changed module gives
another list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

Shape = tuple[int, ...]

_CALL = "traced_call_"
_PRIMITIVES = {"logistic": "sigmoid", "tanh": "tanh"}
"""Activations that jax traces as one operation; of `jax.nn` it names `relu` and its like only."""


class Layer(NamedTuple):
    """One step from input to output: a module without modules in it, or an activation.

    Attributes:
      kind: name of the module's class, or of the function of `jax.nn`.
      path: names of the modules it lies in, and its own.
      before: shape that goes in, without the batch.
      after: shape that comes out, without the batch.
      params: shape of each trained array.
    """

    kind: str
    path: tuple[str, ...]
    before: Shape
    after: Shape
    params: Mapping[str, Shape]


class Stage(NamedTuple):
    """A layer that mixes its inputs by weights, and what follows up to the next such layer."""

    layers: tuple[Layer, ...]

    @property
    def before(self) -> Shape:
        """Shape that goes in."""
        return self.layers[0].before

    @property
    def after(self) -> Shape:
        """Shape that comes out."""
        return self.layers[-1].after


def variables(module: nn.Module, shape: Shape) -> Any:
    """Return the shapes of a module's variables for an input of that shape, batch included."""
    probe = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), probe)


def count_params(module: nn.Module, shape: Shape) -> int:
    """Return how many numbers of a module are trained."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables(module, shape)["params"]))


def trace(module: nn.Module, shape: Shape) -> list[Layer]:
    """Return the layers of a module in the order in which an input of that shape meets them.

    The shape includes the batch.
    """
    shapes = variables(module, shape)
    calls: list[Layer | None] = []

    def watch(following: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name != "__call__":
            return following(*args, **kwargs)
        number = len(calls)
        calls.append(None)
        # the name of this scope stays with every operation in it
        with jax.named_scope(f"{_CALL}{number}"):
            result = following(*args, **kwargs)
        if len(calls) == number + 1:  # no module in it was called
            path = tuple(context.module.path)
            own = shapes["params"]
            for name in path:
                own = own.get(name, {})
            params = {name: tuple(leaf.shape) for name, leaf in own.items()}
            kind = type(context.module).__name__
            calls[number] = Layer(kind, path, args[0].shape[1:], result.shape[1:], params)
        return result

    with nn.intercept_methods(watch):
        traced = jax.make_jaxpr(module.apply)(shapes, jax.ShapeDtypeStruct(shape, jnp.float32))
    return list(_in_order(traced.jaxpr.eqns, calls))


def _in_order(equations: Sequence[Any], calls: Sequence[Layer | None]) -> Iterator[Layer]:
    """Layers where their first operation stands, activations where they stand, in or outside."""
    seen: set[int] = set()
    around: tuple[str, ...] = ()
    for equation in equations:
        inside = re.findall(rf"{_CALL}(\d+)", str(equation.source_info.name_stack))
        number = int(inside[-1]) if inside else -1
        layer = calls[number] if inside else None
        if layer is not None:
            around = layer.path[:-1]
            if number not in seen:
                seen.add(number)
                yield layer
        name = _activation(equation)
        if name is not None:
            before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            yield Layer(name, (*around, name), before[1:], after[1:], {})


def _activation(equation: Any) -> str | None:
    """The activation that an operation is, if it is one."""
    kind, name = equation.primitive.name, equation.params.get("name")
    if kind in _PRIMITIVES:
        return _PRIMITIVES[kind]
    if isinstance(name, str) and hasattr(jax.nn, name):
        return name
    if kind == "custom_jvp_call":
        inner = [_activation(e) for e in equation.params["call_jaxpr"].jaxpr.eqns]
        return next((found for found in inner if found is not None), None)
    return None


def stages(layers: Sequence[Layer]) -> list[Stage]:
    """Return layers grouped by the one with a matrix or convolution that begins each group."""
    groups: list[list[Layer]] = []
    for layer in layers:
        if not groups or any(len(shape) > 1 for shape in layer.params.values()):
            groups.append([])
        groups[-1].append(layer)
    return [Stage(tuple(group)) for group in groups]


def steps(params: Mapping[str, Shape], activations: Sequence[str]) -> list[str]:
    """Return what a kernel or a perceptron does, step by step, from its arrays' first axes.

    A kernel has one row of weights. A perceptron with l hidden layers has l + 1 rows of weights,
    l of biases, l activations and l connections.

    Raises:
        ValueError: the numbers of rows do not fit one another.
    """
    weights = params["weights"]
    rows = weights[0] if len(weights) > 1 else 1
    counts = {
        "biases": params.get("biases", (0,))[0],
        "connections": params.get("connections", (0,))[0],
        "activations": len(activations),
    }
    if set(counts.values()) != {rows - 1}:
        raise ValueError(f"{rows} rows of weights with {counts}: expected {rows - 1} of each")
    found = ["weights"]
    for activation in activations:
        found += ["biases", activation, "connections", "weights"]
    return [*found, "sum"]

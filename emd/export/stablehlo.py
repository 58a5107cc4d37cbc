"""A model as StableHLO: `jax.export.deserialize` makes a function of it without any of our code."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import export

from emd.checkpoint import Model
from emd.traced import trace

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""What the file can be called on."""


def render(model: Model) -> bytes:
    """The serialised program, from float32 counts (n, h, w) to restored ones, of any n, h and w.

    Call it as `jax.export.deserialize(bytearray(contents)).call(x)`. JAX reads such files for six
    months after the version that wrote them: keep weights as `npz`, too.
    """
    shape = export.symbolic_shape("n, h, w", constraints=["n >= 1", "h >= 1", "w >= 1"])
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    program = export.export(jax.jit(trace(model)), platforms=PLATFORMS)(images)
    return bytes(program.serialize())

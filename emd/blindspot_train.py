"""How a blind-spot perceptron learns of one micrograph: owns its training, of seconds.

Programs are compiled once for all images of one size.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from emd.models.blindspot import BlindSpot

_BATCH = 4096
_STEPS, _ROUND = 600, 50
_PATIENCE = 3  # rounds without progress
_RATE = 3e-3
_JITTER = 0.25  # of the noise in the features: more of it, drawn anew each time

_OPTIMISER = optax.adam(optax.schedules.cosine_decay_schedule(_RATE, _STEPS), b2=0.99)


class Examples(NamedTuple):
    """Pixels, and what their windows look like.

    Attributes:
      linear: the linear prediction.
      even: features of sums.
      odd: features of differences.
      pixel: what is to be predicted.
    """

    linear: Float[Array, "*s"]
    even: Float[Array, "*s f"]
    odd: Float[Array, "*s f"]
    pixel: Float[Array, "*s"]


def trained(
    module: BlindSpot,
    params: dict[str, Any],
    jitter: Float[np.ndarray, "2 f"],
    train: Examples,
    stop: Examples,
) -> dict[str, Any]:
    """The parameters under which held out pixels were likeliest.

    Args:
      module: what is trained; of its parameters the `prediction` alone learns.
      params: those it begins with.
      jitter: standard deviation of the noise in the features, even and odd.
      train: pixels to learn from.
      stop: pixels that say when to stop.

    Source: Laine, Karras, Lehtinen and Aila (NeurIPS 2019), for the likelihood.
    """
    rest = {name: value for name, value in params.items() if name != "prediction"}
    amount = jnp.asarray(_JITTER * jitter, jnp.float32)
    own = params["prediction"]
    best, found, since = float(_missed(module, rest, own, stop, "predict")), own, 0
    state = own, _OPTIMISER.init(own)
    for key in jax.random.split(jax.random.key(1, impl="unsafe_rbg"), _STEPS // _ROUND):
        state = _learnt(key, module, rest, amount, train, state)
        missed = _missed(module, rest, state[0], stop, "predict")
        since += 1
        if float(missed) < best:
            best, found, since = float(missed), state[0], 0
        if since == _PATIENCE:
            break
    return {**rest, "prediction": found}


@functools.partial(jax.jit, static_argnums=1)
def _learnt(
    key: Any,
    module: BlindSpot,
    rest: dict[str, Any],
    amount: Float[Array, "2 f"],
    train: Examples,
    state: tuple[Any, Any],
) -> tuple[Any, Any]:
    """The prediction and the optimiser's memory after a round of batches."""

    def step(state: Any, draw: Any) -> tuple[Any, None]:
        own, memory = state
        drawn, noise = jax.random.split(draw)
        chosen = jax.random.randint(drawn, (_BATCH,), 0, len(train.pixel))
        some = Examples(*(part[chosen] for part in train))
        blur = jax.random.normal(noise, (2, *some.even.shape)) * amount[:, None]
        way = jnp.where(jnp.arange(_BATCH) % 2 == 0, 1.0, -1.0)[:, None]
        some = some._replace(even=some.even + blur[0], odd=way * some.odd + blur[1])
        slope = jax.grad(_missed, argnums=2)(module, rest, own, some, "glimpse")
        change, memory = _OPTIMISER.update(slope, memory)
        return (optax.apply_updates(own, change), memory), None

    return jax.lax.scan(step, state, jax.random.split(key, _ROUND))[0]


@functools.partial(jax.jit, static_argnums=(0, 4))
def _missed(
    module: BlindSpot, rest: dict[str, Any], own: Any, some: Examples, method: str
) -> Float[Array, ""]:
    """How unlikely pixels are by a prediction, in the mean."""
    mean, variance = ask(module, {**rest, "prediction": own}, method, *some[:3])
    return surprise(some.pixel, mean, variance).mean()


@functools.partial(jax.jit, static_argnums=(0, 2))
def ask(module: BlindSpot, params: dict[str, Any], method: str, *given: Any) -> Any:
    """What one of the module's methods says."""
    return module.apply({"params": params}, *given, method=method)


def surprise(
    pixel: Float[Array, " n"], mean: Float[Array, " n"], variance: Float[Array, "*s"]
) -> Float[Array, " n"]:
    """Less the logarithm of a Gaussian's density, but for a constant."""
    return 0.5 * (jnp.log(variance) + (pixel - mean) ** 2 / variance)

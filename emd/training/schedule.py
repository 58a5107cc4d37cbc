"""The learning-rate schedules of the paper, as optax schedules."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


def quadratic(steps: int, *, initial: float = 0.01) -> optax.Schedule:
    """A schedule that falls as `initial` * (1 - iteration / `steps`)^2 each iteration.

    Used for kernels and MLPs. From iteration `steps` on the rate is 0.

    Args:
        steps: iterations of the whole training, at least 1.
        initial: rate of iteration 0, above 0.

    Raises:
        ValueError: for `steps` below 1 or a rate that is not above 0.

    Source: paper, section 3.2 (optimization).
    """
    _check(steps, initial)

    def schedule(count: Int[Array, ""] | int) -> Float[Array, ""]:
        progress = jnp.minimum(count, steps) / steps
        return initial * (1.0 - progress) ** 2

    return schedule


def stepped_quadratic(steps: int, *, initial: float = 0.01, plateaus: int = 12) -> optax.Schedule:
    """A schedule of `plateaus` levels: `initial` * (1 - floor(it * plateaus / steps) / plateaus)^2.

    Used for autoencoders: 60 000 iterations fall every 5 000. Iterations are counted from 0, so
    the rate is above 0 in every one of them; from iteration `steps` on it is 0.

    Args:
        steps: iterations of the whole training, at least 1.
        initial: rate of the first plateau, above 0.
        plateaus: number of levels, at least 1. `plateaus * steps` stays below 2^31.

    Raises:
        ValueError: for `steps` or `plateaus` below 1, a rate that is not above 0, or a product
            of the two that a 32-bit iteration counter cannot hold.

    Source: paper, section 2.2 (optimization), and the published program (12 plateaus).
    """
    _check(steps, initial)
    if plateaus < 1:
        raise ValueError(f"plateaus is {plateaus}, below 1: give at least one level")
    if steps * plateaus >= 2**31:
        raise ValueError(f"steps * plateaus is {steps * plateaus}, not below 2^31: give fewer")

    def schedule(count: Int[Array, ""] | int) -> Float[Array, ""]:
        # Integer arithmetic: a floating quotient can land just below a whole number.
        level = jnp.minimum(jnp.asarray(count, jnp.int32), steps) * plateaus // steps
        return initial * (1.0 - level / plateaus) ** 2

    return schedule


def _check(steps: int, initial: float) -> None:
    if steps < 1:
        raise ValueError(f"steps is {steps}, below 1: give the number of iterations")
    if not initial > 0:
        raise ValueError(f"initial learning rate is {initial}, not above 0: try 0.01")

"""Training of convolutional networks: state, jitted step, and the loop that resumes by itself."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from emd import checkpoint
from emd.data import crops
from emd.models.autoencoder import Autoencoder
from emd.training import devices
from emd.training.loss import Loss, batch_mse
from emd.training.objective import Objective, Pair, reproduce
from emd.training.schedule import stepped_quadratic

MAX_RELOADS = 5
"""How often a run may go back to its last checkpoint after a loss that is not finite."""

MAX_CHUNK = 1000
"""Most batches in one dispatch."""
DISPATCH_S = 4.0
"""How long a dispatch lasts, about: on a CPU the working memory is mapped anew for each."""


class TrainState(NamedTuple):
    """All that training changes: arrays only, so that it donates and saves as it stands."""

    params: Any
    batch_stats: Any
    opt_state: Any
    step: Int[Array, ""]
    reloads: Int[Array, ""]
    """Non-finite losses so far; folded into the random key, or the same batch would return."""


Step = Callable[[TrainState, Any], tuple[TrainState, Float[Array, ""]]]


class DivergedError(ArithmeticError):
    """Training met non-finite losses more often than it may reload."""


def make_optimiser(steps: int) -> optax.GradientTransformation:
    """Return Adam with the paper's parameters and stepped quadratic schedule (section 2.2)."""
    return optax.adam(stepped_quadratic(steps), b1=0.9, b2=0.999, eps=1e-8)


def init_state(
    key: Key[Array, ""], module: nn.Module, optimiser: optax.GradientTransformation
) -> TrainState:
    """Return the state before the first batch; no batch statistics where a module has none."""
    variables = _init(key, module)
    opt_state = optimiser.init(variables["params"])
    # two buffers, since the state is donated to the step, and of no weak type, or it would be
    # compiled again for a state that comes from disk
    step, reloads = (jnp.zeros((), jnp.int32) for _ in range(2))
    stats = variables.get("batch_stats", {})
    return TrainState(variables["params"], stats, opt_state, step, reloads)


@functools.partial(jax.jit, static_argnames="module")
def _init(key: Key[Array, ""], module: nn.Module) -> Any:
    """Return a module's variables; modules that are equal share the program."""
    return module.init(key, jnp.zeros((1, 16, 16)))


def batch_key(seed: int, step: Int[Array, ""], reloads: Int[Array, ""] | int = 0) -> Key[Array, ""]:
    """Return the key of a step's batch, a function of these three numbers alone."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), reloads), step)


def make_step(
    module: nn.Module,
    optimiser: optax.GradientTransformation,
    *,
    batch_size: int,
    seed: int,
    side_px: int = crops.SIDE_PX,
    objective: Objective = reproduce,
    loss: Loss = batch_mse,
    mesh: Mesh | None = None,
) -> Step:
    """Return the jitted step: state and the objective's data in, next state and batch's MSE out.

    With a mesh the batch is spread over its devices, from the drawing of crops on; XLA then sums
    gradients and the statistics of batch normalisation over all of them.
    """

    def step(state: TrainState, data: Any) -> tuple[TrainState, Float[Array, ""]]:
        key = batch_key(seed, state.step, state.reloads)
        drawn = objective(key, data, batch=batch_size, side=side_px)
        batch = Pair(*(devices.spread(images, mesh) for images in drawn))

        def loss_fn(params: Any) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Any]]:
            restored, new = module.apply(
                {"params": params, "batch_stats": state.batch_stats},
                batch.seen,
                train=True,
                mutable=["batch_stats"],
            )
            mse = jnp.mean((restored - batch.wanted) ** 2)
            return loss(restored, batch), (mse, new.get("batch_stats", {}))

        (_, (mse, stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        after = TrainState(params, stats, opt_state, state.step + 1, state.reloads)
        return devices.whole((after, mse), mesh)

    return jax.jit(step, donate_argnums=0)


# The number of batches is an argument, not a length of a scan: one program, and so the same
# rounding, wherever a run is cut into dispatches.
@functools.partial(jax.jit, static_argnames="step", donate_argnames="state")
def run(
    step: Step, state: TrainState, data: Any, count: Int[Array, ""]
) -> tuple[TrainState, Float[Array, " k"]]:
    """Return the state after ``count`` steps in one program, and ``MAX_CHUNK`` losses.

    The losses after the first ``count`` are zeros.
    """

    def body(i: Array, carry: tuple[TrainState, Array]) -> tuple[TrainState, Array]:
        state, losses = carry
        state, loss = step(state, data)
        return state, losses.at[i].set(loss)

    done: tuple[TrainState, Array] = jax.lax.fori_loop(
        0, count, body, (state, jnp.zeros(MAX_CHUNK))
    )
    return done


def run_singly(
    step: Step, state: TrainState, data: Any, count: Int[Array, ""]
) -> tuple[TrainState, Float[np.ndarray, " k"]]:
    """Return what ``run`` does, each step in a program of its own.

    In a loop XLA takes convolutions to a path of the CPU that is 30 times slower.
    """
    losses = []
    for _ in range(int(count)):
        state, loss = step(state, data)
        losses.append(loss)
    return state, np.asarray(losses, np.float32)


def fit(
    step: Step,
    state: TrainState,
    data: Any,
    *,
    steps: int,
    folder: str | Path,
    checkpoint_every: int,
    deadline: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    dispatch_s: float = DISPATCH_S,
    runner: Callable[..., tuple[TrainState, Any]] = run,
) -> Iterator[tuple[TrainState, Float[np.ndarray, " k"], int]]:
    """Yield (state, losses of the batches just done, first batch's number) until done or stopped.

    Starts from the newest checkpoint of ``folder`` if there is one: the first yield says where,
    without losses. Then as many batches as last ``dispatch_s`` seconds go in one program, nothing
    read in between. A checkpoint is written every ``checkpoint_every`` batches, at the end, when
    ``stop()`` says so in any process, and at ``deadline`` (``time.monotonic`` seconds). After a
    loss that is not finite it goes on from the last checkpoint, logging it; first batch numbers
    then go back.

    State and data stay on the devices where they lie.

    Raises:
        DivergedError: after more than ``MAX_RELOADS`` such losses.
    """
    initial = jax.tree.map(np.asarray, state)  # survives donation
    sharding = state.step.sharding
    found = devices.from_first(lambda: checkpoint.restore_state(folder, initial))
    # the initial one, too: a state that is committed to no device has a program of its own
    state = devices.put(found[0] if found else initial, sharding)
    reloads = int(state.reloads)
    yield state, np.zeros(0, np.float32), int(state.step) + 1
    pace = 1
    while (done := int(state.step)) < steps:
        began = time.monotonic()
        count = min(pace, steps - done, checkpoint_every - done % checkpoint_every)
        state, losses = runner(step, state, data, jnp.int32(count))
        values = np.asarray(losses)[:count]
        last, now = done + count, time.monotonic()
        # clocks and signals differ between processes, what they do next must not
        over, fitting = deadline is not None and now > deadline, count * dispatch_s / (now - began)
        agreed = devices.gathered(over or stop(), int(np.clip(fitting, 1, MAX_CHUNK)))
        over, pace = bool(agreed[:, 0].any()), int(agreed[0, 1])
        at_checkpoint = last % checkpoint_every == 0 or last == steps or over
        bad = ~np.isfinite(values)
        # the last update may have spoilt the state after a loss that was still finite
        if bad.any() or (at_checkpoint and not _is_finite(state)):
            reloads += 1
            batch = done + 1 + int(np.argmax(bad)) if bad.any() else last
            state = devices.put(_reload(folder, initial, reloads, batch), sharding)
            continue
        # before the checkpoint, so that what is written of these losses never lags behind it
        yield state, values, done + 1
        if at_checkpoint:
            devices.from_first(functools.partial(checkpoint.save_state, folder, state, last))
        if over:
            return


def _is_finite(state: TrainState) -> bool:
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(state))


def _reload(folder: str | Path, initial: TrainState, reloads: int, batch: int) -> TrainState:
    """Return the last checkpoint's state (or the initial one) with the count of reloads raised."""
    if reloads > MAX_RELOADS:
        raise DivergedError(
            f"the loss was not finite {reloads} times (last at batch {batch}): "
            "look at the training data, or try another --seed"
        )
    found = devices.from_first(lambda: checkpoint.restore_state(folder, initial))
    state: TrainState = found[0] if found else initial
    logging.getLogger(__name__).warning(
        "loss not finite at batch %d: back to batch %d (%d of at most %d times)",
        batch,
        int(state.step),
        reloads,
        MAX_RELOADS,
    )
    return state._replace(reloads=jnp.asarray(reloads, jnp.int32))


def settle_batch_stats(
    module: Autoencoder,
    state: TrainState,
    data: Any,
    *,
    batch_size: int,
    batches: int,
    seed: int,
    objective: Objective = reproduce,
    mesh: Mesh | None = None,
) -> Any:
    """Return batch statistics averaged over what training shows, under the final weights.

    Running ones of decay 0.999 lag behind (63 % settled after 1 000 batches) in short schedules.

    Deviation: the paper's program normalises by the batch even at inference.
    """
    # with no decay the statistics that come back are the batch's own
    of_batch = module.clone(decay=0.0)

    # arguments, not constants of the program, which cannot lie on another process's devices
    @jax.jit
    def statistics(state: TrainState, data: Any, number: Int[Array, ""]) -> Any:
        key = batch_key(seed + 1, number)
        drawn = objective(key, data, batch=batch_size, side=crops.SIDE_PX)
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        batch = devices.spread(drawn.seen, mesh)
        new = of_batch.apply(variables, batch, train=True, mutable=["batch_stats"])[1]
        return devices.whole(_moments(new["batch_stats"]), mesh)

    sums = jax.tree.map(np.asarray, statistics(state, data, jnp.int32(0)))
    for number in range(1, batches):
        sums = jax.tree.map(np.add, sums, statistics(state, data, jnp.int32(number)))
    return _from_moments(jax.tree.map(lambda s: s / batches, sums))


def _is_norm(tree: Any) -> bool:
    return isinstance(tree, dict) and set(tree) == {"mean", "var"}


def _moments(stats: Any) -> Any:
    """Return statistics with E[x^2] in place of the variance, since moments average."""
    return jax.tree.map(
        lambda s: {"mean": s["mean"], "var": s["var"] + s["mean"] ** 2}, stats, is_leaf=_is_norm
    )


def _from_moments(moments: Any) -> Any:
    return jax.tree.map(
        lambda s: {"mean": s["mean"], "var": np.maximum(s["var"] - s["mean"] ** 2, 0)},
        moments,
        is_leaf=_is_norm,
    )

"""Distillation of a whole set of kernels or MLPs at once.

Owns the padding of a set's members to the widest, the shared draws, the loss and the compiled
training loop. The pairs (noisy crops and the teacher's restorations) come from the caller.

Padding changes no member's arithmetic: a narrow member's parameters sit in the middle of the
widest window with zeros around them, and zeros are held there by masking the gradient.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from emd.models import pixelwise
from emd.models.pixelwise import MLP
from emd.training import padding, schedule
from emd.training.loss import huberised
from emd.training.padding import Member, Params

EDGE_PX = 20
"""Training crops keep this far from the edge of a pair: restorations are poorer there."""


class State(NamedTuple):
    """Everything that training changes: arrays only, `m` members stacked, padded to the widest."""

    params: Params
    opt_state: optax.OptState
    step: Int[Array, ""]


class Plan(NamedTuple):
    """What stays fixed while a set trains; hashable, so that each plan is compiled once.

    Attributes:
        members: modules of one family in any order, of differing widths.
        steps: iterations of the whole training, over which the learning rate falls.
        seed: of the initial parameters and of every draw.
        batch: crops an iteration; the paper has 1.
        initial: learning rate of iteration 0.
        crop_px: side of the crops [px]; 0 stands for the widest member's width + 5.
    """

    members: tuple[Member, ...]
    steps: int = 10_000
    seed: int = 0
    batch: int = 1
    initial: float = 0.01
    crop_px: int = 0


def make_plan(members: Sequence[Member], **options: int | float) -> Plan:
    """A checked `Plan` for training `members` together, with the options of `Plan`.

    Raises:
        ValueError: for no members, members of several families or equal widths, and for
            options that cannot be trained with.

    Source: paper, section 3.2: 10 000 single crops, of the widest input size + 5 pixels.
    """
    plan = Plan(tuple(members), **options)  # type: ignore[arg-type]
    if not plan.members:
        raise ValueError("no members: give at least one kernel or MLP")
    if len({_family(member) for member in plan.members}) > 1:
        raise ValueError(
            "members are of several families: train kernels, and MLPs of each "
            "number of hidden layers, in sets of their own"
        )
    widths = [member.width for member in plan.members]
    if len(set(widths)) < len(widths):
        raise ValueError(f"widths are {widths}: give each width once")
    plan = plan._replace(crop_px=plan.crop_px or max(widths) + 5)
    for name, least in (("steps", 1), ("batch", 1), ("crop_px", max(widths))):
        if getattr(plan, name) < least:
            raise ValueError(f"{name} is {getattr(plan, name)}: give at least {least}")
    schedule.quadratic(plan.steps, initial=plan.initial)
    return plan


def init_state(plan: Plan) -> State:
    """The state before the first iteration.

    A member's parameters depend on the seed and on its width, not on the rest of the set.
    """
    padded = [
        padding.pad(member, _widest(plan), params)
        for member, params in zip(plan.members, _init(plan), strict=True)
    ]
    params = {name: jnp.asarray(np.stack([one[name] for one in padded])) for name in padded[0]}
    return State(params, _optimiser(plan).init(params), jnp.zeros((), jnp.int32))


def unpad(plan: Plan, state: State) -> list[Params]:
    """Each member's parameters, as its own module takes them."""
    stacked = {name: np.asarray(leaf) for name, leaf in state.params.items()}
    return [
        padding.unpad(member, _widest(plan), {name: leaf[i] for name, leaf in stacked.items()})
        for i, member in enumerate(plan.members)
    ]


def train(
    plan: Plan,
    state: State,
    noisy: Float[Array | np.ndarray, "n h w"],
    restored: Float[Array | np.ndarray, "_ _ _"],
    *,
    until: int | None = None,
    chunk: int = 1000,
    on_chunk: Callable[[State, Float[np.ndarray, "m i"]], None] | None = None,
) -> tuple[State, Float[np.ndarray, "m i"]]:
    """The state after iteration `until` (the plan's last), and the MSE of each one run.

    All members see the same crops. Iteration i draws with `fold_in(key(seed), i)`, so that a run
    that stops and goes on from its state equals one that does not, bit for bit.

    Args:
        plan: from `make_plan`.
        state: from `init_state`, or one that `train` returned or handed to `on_chunk`.
        noisy: crops, normalised, at least 40 px larger than the plan's crops.
        restored: the teacher's output for each, under the scale of its noisy crop.
        until: iteration to stop before.
        chunk: iterations in one dispatch.
        on_chunk: called after each dispatch with the state and its losses, to save or report.

    Raises:
        ValueError: for pairs that differ in shape, or too small or too few to draw from.

    Source: paper, section 3.2. Losses are plain MSEs; what is minimised is Huberised.
    """
    _check_pairs(plan, noisy, restored)
    noisy, restored = jnp.asarray(noisy), jnp.asarray(restored)
    stop = plan.steps if until is None else min(until, plan.steps)
    losses = [np.zeros((len(plan.members), 0), np.float32)]
    for start in range(int(state.step), stop, chunk):
        count = min(chunk, stop - start)
        state, curve = _run(plan, chunk, state, jnp.asarray(count), noisy, restored)
        losses.append(np.asarray(curve)[:count].T)
        if on_chunk is not None:
            on_chunk(state, losses[-1])
    return state, np.concatenate(losses, axis=1)


# The number of iterations is an argument, not a length of a scan: one program, and so the same
# rounding, for every chunk however short.
@functools.partial(jax.jit, static_argnames=("plan", "chunk"))
def _run(
    plan: Plan, chunk: int, state: State, count: Int[Array, ""], noisy: Array, restored: Array
) -> tuple[State, Float[Array, "chunk m"]]:
    # All draws in one go, before the loop: one by one they would be its smallest and most numerous
    # operations.
    steps = state.step + jnp.arange(chunk)
    keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(plan.seed)))(steps)
    corners = jax.vmap(lambda key: _draw_corners(key, plan, noisy.shape))(keys)

    def body(i: Array, carry: tuple[State, Array]) -> tuple[State, Array]:
        state, losses = carry
        state, loss = _step(plan, state, *_cut(plan, corners[i], noisy, restored))
        return state, losses.at[i].set(loss)

    losses = jnp.zeros((chunk, len(plan.members)))
    done: tuple[State, Array] = jax.lax.fori_loop(0, count, body, (state, losses))
    return done


def _check_pairs(plan: Plan, noisy: Array | np.ndarray, restored: Array | np.ndarray) -> None:
    least = plan.crop_px + 2 * EDGE_PX
    if noisy.shape != restored.shape:
        raise ValueError(f"noisy is {noisy.shape}, restored {restored.shape}: give equal shapes")
    if not len(noisy) or min(noisy.shape[1:]) < least:
        raise ValueError(f"pairs are {noisy.shape}: give one or more of at least {least} px")


def draw_crops(
    key: Array, plan: Plan, noisy: Float[Array, "n h w"], restored: Float[Array, "n h w"]
) -> tuple[Float[Array, "b d d"], Float[Array, "b d d"]]:
    """Crops at random places of random noisy images, and of the restorations there."""
    return _cut(plan, _draw_corners(key, plan, noisy.shape), noisy, restored)


def _draw_corners(key: Array, plan: Plan, shape: tuple[int, ...]) -> Int[Array, "b 3"]:
    """Number of an image, row and column of a corner in it, for each crop of an iteration."""
    first = np.asarray([[0, EDGE_PX, EDGE_PX]])
    beyond = np.asarray([shape]) - first - np.asarray([[0, plan.crop_px - 1, plan.crop_px - 1]])
    return jax.random.randint(key, (plan.batch, 3), first, beyond)


def _cut(plan: Plan, corners: Int[Array, "b 3"], *images: Array) -> tuple[Array, Array]:
    size = (1, plan.crop_px, plan.crop_px)
    noisy, restored = (
        jnp.concatenate([jax.lax.dynamic_slice(stack, corner, size) for corner in corners])
        for stack in images
    )
    return noisy, restored


def _step(plan: Plan, state: State, noisy: Array, restored: Array) -> tuple[State, Array]:
    """The state after one iteration on crops (b d d), and each member's MSE before it."""
    windows, targets, masks = _windows(plan, noisy, restored)

    def total(params: Params) -> tuple[Array, Array]:
        errors = jax.vmap(_member_mse, in_axes=(0, None, None, 0))(params, windows, targets, masks)
        return huberised(errors).sum(), errors

    gradient, errors = jax.grad(total, has_aux=True)(state.params)
    gradient = jax.tree.map(jnp.multiply, gradient, _masks(plan))
    updates, opt_state = _optimiser(plan).update(gradient, state.opt_state)
    params = optax.apply_updates(state.params, updates)
    return State(params, opt_state, state.step + 1), errors


def _member_mse(
    params: Params,
    windows: Float[Array, "n p"],
    targets: Float[Array, "n"],
    mask: Float[Array, "n"],
) -> Float[Array, ""]:
    error = pixelwise.respond(pixelwise.fold_params(params), windows) - targets
    return (mask * error**2).sum() / mask.sum()


def _windows(plan: Plan, noisy: Array, restored: Array) -> tuple[Array, Array, Array]:
    """The widest windows, their targets, and which of them each member is scored on (m n).

    The narrowest member's pixels reach nearer to the crop's edge than the widest window does: it
    is padded with zeros there, which only masked weights see.
    """
    widths = [member.width for member in plan.members]
    near = min(widths) // 2
    pad = max(widths) // 2 - near
    padded = jnp.pad(noisy, ((0, 0), (pad, pad), (pad, pad)))
    windows = pixelwise.gather_windows(padded, max(widths))
    side = windows.shape[1]
    depth = near + np.minimum(np.arange(side), np.arange(side)[::-1])
    depths = np.broadcast_to(np.minimum.outer(depth, depth), (plan.batch, side, side))
    masks = depths.reshape(1, -1) >= np.asarray(widths)[:, None] // 2
    inner = slice(near, near + side)
    return (
        windows.reshape(-1, windows.shape[-1]),
        restored[:, inner, inner].reshape(-1),
        jnp.asarray(masks, jnp.float32),
    )


@functools.partial(jax.jit, static_argnames="plan")
def _init(plan: Plan) -> list[Params]:
    def start(member: Member) -> Params:
        key = jax.random.fold_in(jax.random.key(plan.seed), member.width)
        return dict(member.init(key, jnp.zeros((1, member.width, member.width)))["params"])

    return [start(member) for member in plan.members]


def _optimiser(plan: Plan) -> optax.GradientTransformation:
    return optax.adam(schedule.quadratic(plan.steps, initial=plan.initial))


def _masks(plan: Plan) -> Params:
    """1 where a member has a parameter, 0 where it is padded, stacked like the parameters."""
    masks = [padding.mask(member, _widest(plan)) for member in plan.members]
    return {name: jnp.stack([mask[name] for mask in masks]) for name in masks[0]}


def _widest(plan: Plan) -> Member:
    return max(plan.members, key=lambda member: member.width)


def _family(member: Member) -> tuple[int, bool]:
    return (member.hidden, member.equivariant) if isinstance(member, MLP) else (0, False)

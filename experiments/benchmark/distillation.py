"""All nine sets of kernels and perceptrons distilled, from pairs that are ready."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from emd import zoo
from emd.models.pixelwise import MLP
from emd.models.symmetry import orbits
from emd.training import lockstep, schedule, side_by_side
from experiments.benchmark import peers
from experiments.benchmark.timing import Side

COMPARED = 3
"""Iterations whose losses both sides must agree on, in every set."""

_PAIRS, _SIDE = 512, 160


@functools.cache
def make_pairs() -> tuple[Float[np.ndarray, "n s s"], Float[np.ndarray, "n s s"]]:
    """Crops of waves under noise, normalised, and smooth ones in place of a teacher's."""
    draws = np.random.default_rng(0)
    places = np.arange(_SIDE) * 0.05
    phases = draws.uniform(0, 6, (2, _PAIRS, 1))
    wave = np.sin(places + phases[0])[:, :, None] * np.sin(2 * places + phases[1])[:, None]
    clean = 1 + 0.5 * wave
    noisy = np.maximum(clean + draws.normal(0, 0.3, clean.shape), 0)
    return np.asarray(noisy, np.float32), np.asarray(clean, np.float32)


def make_plans(steps: int) -> list[lockstep.Plan]:
    """The plan of each set, as `experiments.distill` makes it."""
    return [
        lockstep.make_plan([zoo.make_student(member) for member in members], steps=steps)
        for members in zoo.SETS.values()
    ]


def ours(steps: int) -> Side:
    """Every set trained as `experiments` does, its programs compiled anew each time."""
    plans, pairs = make_plans(steps), make_pairs()

    def run() -> None:
        jax.clear_caches()
        on_device = [jax.device_put(half) for half in pairs]
        for done in side_by_side.train([side_by_side.Task(plan, *on_device) for plan in plans]):
            jax.block_until_ready(done.state.params)

    def answer() -> list[np.ndarray]:
        found = []
        for plan in plans:
            _, losses = lockstep.train(plan, lockstep.init_state(plan), *pairs, until=COMPARED)
            found.append(losses)
        return found

    return Side(run, answer)


def peer(steps: int, measured: int) -> Side:
    """A PyTorch loop a model, `measured` iterations of each, projected to all of them."""
    torch, device = peers.torch_on_device()
    pairs = [torch.from_numpy(half).to(device) for half in make_pairs()]
    plans = make_plans(steps)

    # their making is left out of the time, as it is done once in 10 000 iterations
    loops = [_make_loops(torch, device, plan) for plan in plans]

    def run() -> None:
        draws = np.random.default_rng(0)
        for plan, members in zip(plans, loops, strict=True):
            for step in members:
                for _ in range(measured):
                    step(*_cut(pairs, draws, plan.crop_px))
        peers.wait(torch)

    def answer() -> list[np.ndarray]:
        found = []
        for plan in plans:
            crops = [[torch.from_numpy(half).to(device) for half in pair] for pair in _crops(plan)]
            members = _make_loops(torch, device, plan)
            found.append(np.array([[float(step(*pair)) for pair in crops] for step in members]))
        return found

    return Side(run, answer, scale=steps / measured)


def _crops(plan: lockstep.Plan) -> Iterator[list[np.ndarray]]:
    """The crops (d d) of the first iterations, as `lockstep` draws them."""
    noisy, restored = (jax.device_put(half) for half in make_pairs())
    for iteration in range(COMPARED):
        key = jax.random.fold_in(jax.random.key(plan.seed), iteration)
        drawn = lockstep.draw_crops(key, plan, noisy, restored)
        yield [np.array(half[0]) for half in drawn]


def _cut(pairs: list[Any], draws: np.random.Generator, side: int) -> list[Any]:
    """A random crop of a random pair, away from its edge."""
    count, rows, _ = pairs[0].shape
    image = int(draws.integers(count))
    top, left = draws.integers(lockstep.EDGE_PX, rows - lockstep.EDGE_PX - side + 1, 2)
    return [half[image, top : top + side, left : left + side] for half in pairs]


def _make_loops(torch: Any, device: Any, plan: lockstep.Plan) -> list[Callable[..., Any]]:
    """A function for each member of a set that trains it by one iteration."""
    initial = lockstep.unpad(plan, lockstep.init_state(plan))
    return [_make_loop(torch, device, plan, k, params) for k, params in enumerate(initial)]


def _make_loop(
    torch: Any, device: Any, plan: lockstep.Plan, member: int, initial: Mapping[str, Any]
) -> Callable[..., Any]:
    """One iteration of one model: crops (d d) in, their MSE before the update out."""
    width = plan.members[member].width
    functional = torch.nn.functional
    params = {
        name: torch.tensor(np.asarray(leaf), device=device, requires_grad=True)
        for name, leaf in initial.items()
    }
    tied = torch.tensor(orbits(width).reshape(-1), device=device)
    rate = schedule.quadratic(plan.steps, initial=plan.initial)
    rates = np.asarray(jax.vmap(rate)(jnp.arange(plan.steps)))
    adam = torch.optim.Adam(params.values(), lr=plan.initial, fused=True)
    hidden = plan.members[member].hidden if isinstance(plan.members[member], MLP) else 0
    near = width // 2
    done = 0

    def respond(noisy: Any) -> Any:
        if hidden == 0:
            kernel = params["weights"].index_select(-1, tied).reshape(1, 1, width, width)
            return functional.conv2d(noisy[None, None], kernel).reshape(-1)
        weights = params["weights"].index_select(-1, tied)
        biases = params["biases"].index_select(-1, tied)
        windows = functional.unfold(noisy[None, None], width)[0].T
        activity = torch.sigmoid(torch.addcmul(biases[0], windows, weights[0]))
        for layer in range(1, hidden):
            mixed = (activity @ params["connections"][layer - 1]) * weights[layer]
            activity = torch.sigmoid(mixed + biases[layer])
        return (activity @ params["connections"][-1]) @ weights[-1]

    def step(noisy: Any, restored: Any) -> Any:
        nonlocal done
        adam.param_groups[0]["lr"] = float(rates[done % plan.steps])
        adam.zero_grad(set_to_none=True)
        target = restored[near : restored.shape[0] - near, near : restored.shape[1] - near]
        mse = functional.mse_loss(respond(noisy), target.reshape(-1))
        torch.where(mse < 1, mse, torch.sqrt(torch.clamp(mse, min=1))).backward()
        adam.step()
        done += 1
        return mse.detach()

    return step

"""The autoencoder's training step: sampling, network, loss, gradient and Adam."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Float

from emd.data import crops
from emd.models.autoencoder import Autoencoder
from emd.training import autoencoder, devices
from experiments.benchmark import machine, network, peers
from experiments.benchmark.timing import Side

LATENT = 16
STEPS = 60_000


@functools.cache
def make_store() -> crops.Store:
    """Micrographs to train on: waves under shot noise."""
    draws = np.random.default_rng(0)
    rows, columns = np.mgrid[:256, :256]
    images = []
    for k in range(8):
        wave = np.sin(rows * 0.1 * (k + 1)) * np.sin(columns * 0.07 * (k + 1))
        pixels = draws.poisson(40 * (1.5 + wave)).astype(np.uint16)
        images.append(crops.Image(crops.to_stored(pixels), str(k), "tem/waves", "tem"))
    return crops.pack(images)


def ours(batch: int, *, mesh: Mesh | None = None, bfloat16: bool = False) -> Side:
    """The steps of `emd.training.autoencoder`, their crops drawn on the device.

    With a mesh the batch is spread over its devices.
    """
    module = Autoencoder(LATENT, dtype=jnp.bfloat16 if bfloat16 else jnp.float32)
    optimiser = autoencoder.make_optimiser(STEPS)
    step = autoencoder.make_step(module, optimiser, batch_size=batch, seed=0, mesh=mesh)
    store, state = make_store(), [_initial(module, optimiser)]
    if mesh is not None:
        store, state[0] = devices.put_whole((store, state[0]), mesh)
    count = jnp.int32(_dispatched(batch))

    def run() -> None:
        state[0], losses = autoencoder.run(step, state[0], store, count)
        jax.block_until_ready((state[0], losses))

    def answer() -> list[np.ndarray]:
        begun = _initial(module, optimiser)
        before = _flat(begun.params)  # the step takes its state's memory
        after, losses = autoencoder.run(step, begun, store, jnp.int32(1))
        # Adam's first moment begins at 0, so after a step it is 0.1 times the gradient
        moment = optax.tree_utils.tree_get(after.opt_state, "mu")
        return _answer(float(losses[0]), before, _flat(after.params), 10 * _flat(moment))

    return Side(run, answer, scale=1 / _dispatched(batch))


def _dispatched(batch: int) -> int:
    """Steps between two waits for the device: seconds of them on a CPU, as `fit` has it."""
    return 20 if machine.on_gpu() else max(1, min(8, 64 // batch))


def _initial(
    module: Autoencoder, optimiser: optax.GradientTransformation
) -> autoencoder.TrainState:
    return autoencoder.init_state(jax.random.key(0), module, optimiser)


def _flat(tree: Any) -> Float[np.ndarray, " p"]:
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)])


def _answer(loss: float, before: Any, after: Any, gradient: Any) -> list[np.ndarray]:
    """What both sides must agree on: loss, size of Adam's update, and the gradient of all weights.

    Adam's first update goes by the sign of each gradient, which is rounding where that is all but
    0: hence its size.
    """
    return [np.asarray([loss]), np.abs(after - before).mean(keepdims=True), gradient]


def _first_batch(batch: int) -> Float[np.ndarray, "n h w"]:
    """The crops of the first step, as our step draws them."""
    draw = jax.jit(crops.sample, static_argnames="batch")
    return np.asarray(draw(autoencoder.batch_key(0, jnp.int32(0)), make_store(), batch=batch))


def peer(batch: int, *, bfloat16: bool = False) -> Side:
    """PyTorch's step on crops that lie on the device; compiled on a GPU."""
    torch, device = peers.torch_on_device()
    module = Autoencoder(LATENT)
    start = _initial(module, autoencoder.make_optimiser(STEPS))
    variables = {"params": start.params, "batch_stats": start.batch_stats}
    images = (
        torch.from_numpy(network.mirrored(_first_batch(batch))[:, None])
        .to(device)
        .contiguous(memory_format=torch.channels_last)
    )

    def begin() -> tuple[Any, Any]:
        model = network.make_network(variables).train()
        adam = torch.optim.Adam(
            model.parameters(), lr=0.01, betas=(0.9, 0.999), eps=1e-8, fused=True
        )

        def loss_of(images: Any) -> Any:
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                restored = model(images)
            mse = torch.nn.functional.mse_loss(restored.float(), images)
            return torch.where(mse < 1, mse, torch.sqrt(torch.clamp(mse, min=1))), mse

        forward = torch.compile(loss_of) if device.type == "cuda" else loss_of

        def step(images: Any) -> Any:
            adam.zero_grad(set_to_none=True)
            loss, mse = forward(images)
            loss.backward()
            adam.step()
            return mse

        return model, step

    _, timed = begin()

    def run() -> None:
        for _ in range(_dispatched(batch)):
            timed(images)
        peers.wait(torch)

    def answer() -> list[np.ndarray]:
        model, step = begin()
        loss = float(step(images).detach())
        return _answer(
            loss, _flat(start.params), network.parameters(model), network.gradients(model)
        )

    return Side(run, answer, scale=1 / _dispatched(batch))

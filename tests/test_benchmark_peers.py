"""The peers do the same job as ours: each job's answers agree, on small data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd import checkpoint
from emd.models.autoencoder import Autoencoder
from experiments.benchmark import (
    distillation,
    machine,
    network,
    peers,
    restoration,
    rows,
    timing,
    training,
    windows,
)
from experiments.benchmark.counting import Work
from experiments.benchmark.jobs import Job

SIDE = 40


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(windows, "STRIP_VALUES", 9 * SIDE * 7)  # several strips, the last shorter


def agree(ours, peer, gap=timing.difference):
    assert gap(ours.answer(), peer.answer()) < timing.TOLERANCE
    ours.run()
    peer.run()


@pytest.mark.parametrize("latent", [1, 16])
@pytest.mark.parametrize("train", [False, True])
def test_the_pytorch_network_is_ours(key, latent, train):
    torch = pytest.importorskip("torch")
    module = Autoencoder(latent)
    draws = np.random.default_rng(0)
    shapes = jax.eval_shape(module.init, key, jnp.zeros((1, 16, 16)))
    variables = jax.tree.map(
        lambda leaf: (
            draws.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
            if len(leaf.shape) == 1
            else draws.normal(0, 0.1, leaf.shape).astype(np.float32)
        ),
        shapes,
    )
    images = draws.normal(size=(2, 24, 32)).astype(np.float32)
    variables = jax.tree.map(jnp.asarray, variables)
    expected, _ = module.apply(variables, jnp.asarray(images), train=train, mutable=["batch_stats"])
    made = network.make_network(variables).train(train)
    with torch.no_grad():
        found = made(torch.from_numpy(network.mirrored(images)[:, None]))[:, 0]
    found = network.mirrored(peers.to_numpy(found))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    flat = [np.ravel(leaf) for leaf in jax.tree.leaves(variables["params"])]
    np.testing.assert_array_equal(network.parameters(made), np.concatenate(flat))


def test_the_training_steps_agree():
    pytest.importorskip("torch")
    agree(training.ours(1), training.peer(1), timing.distance)


@pytest.mark.slow
def test_training_in_bfloat16_agrees_as_far_as_that_rounds():
    pytest.importorskip("torch")
    ours, peer = training.ours(1, bfloat16=True), training.peer(1, bfloat16=True)
    assert (
        timing.TOLERANCE
        < timing.distance(ours.answer(), peer.answer())
        < rows.tolerance("bfloat16")
    )


def test_distillation_agrees_in_every_set(monkeypatch):
    pytest.importorskip("torch")
    plans = distillation.make_plans(10)
    smallest = sorted(plans, key=lambda plan: plan.crop_px)[:2]
    kernels = next(plan for plan in plans if plan.crop_px == 20)
    monkeypatch.setattr(distillation, "make_plans", lambda steps: [*smallest, kernels])
    ours, peer = distillation.ours(10), distillation.peer(10, 5)
    assert timing.difference(ours.answer(), peer.answer()) < timing.TOLERANCE
    assert peer.scale == 2
    peer.run()


@pytest.mark.parametrize(
    ("library", "module"),
    [("opencv", "cv2"), ("scipy", "scipy"), ("skimage", "skimage"), ("torch", "torch")],
)
def test_kernels_agree(library, module):
    pytest.importorskip(module)
    name = "temstem_kernel_w7"
    agree(windows.ours(name, SIDE), windows.kernel_peer(library, name, SIDE))


@pytest.mark.parametrize("name", ["temstem_mlp1_w3", "temstem_mlp2_w3"])
def test_perceptrons_agree(name):
    pytest.importorskip("torch")
    agree(windows.ours(name, SIDE), windows.mlp_peer(name, SIDE))


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
@pytest.mark.parametrize("name", ["tem_mlp1_w3", "tem_latent16"])
def test_restorations_agree(name, dtype):
    pytest.importorskip("torch")
    agree(restoration.ours(name, SIDE, dtype), restoration.torch_peer(name, SIDE, dtype))


def test_restorations_by_opencv_agree():
    pytest.importorskip("cv2")
    name = "tem_kernel_w5"
    agree(restoration.ours(name, SIDE, np.uint16), restoration.opencv_peer(name, SIDE, np.uint16))


def test_another_kernel_is_refused(monkeypatch):
    """The gate, from end to end, on a peer with slightly other weights."""
    pytest.importorskip("cv2")
    name = "temstem_kernel_w3"
    ours = windows.ours(name, SIDE)
    weights = checkpoint.load(name).variables["params"]["weights"] * 1.001
    monkeypatch.setattr(windows, "kernel_of", lambda name: np.asarray(weights)[windows.orbits(3)])
    peer = windows.kernel_peer("opencv", name, SIDE)
    job = Job("kernel", "", "ms", lambda: ours, lambda: peer, "", Work(1, 1))
    rates = machine.Rates({"float32": 1.0}, 1.0, 1.0)
    row = rows.make_row(job, rows.Session(rates, repeats=1, seconds=1))
    assert row["status"] == "failed"
    assert row["ours"] == ""


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
def test_stacks_agree_from_file_to_file():
    peer = restoration.stack_peer(restoration.opencv_restorer, "tem_kernel_w7", 3, SIDE)
    ours = restoration.stack_ours("tem_kernel_w7", 3, SIDE)
    assert ours.scale == peer.scale == 1 / 3
    assert ours.answer()[0].shape == (3, SIDE, SIDE)
    agree(ours, peer)

"""Data-parallel training: 8 forced host devices, 2 processes over loopback, and one device alone.

Each run is a child process, since a process has the devices that it started with.
"""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from emd.training import devices

TIMEOUT_S = 300
STEPS = 10

CHILD = """
import json, sys
from pathlib import Path
job = json.loads(sys.argv[1])
from emd.training import devices
devices.start(*job["where"])
import jax, numpy as np, optax
from emd.data import crops
from emd.models.autoencoder import Autoencoder
from emd.training import autoencoder as training

rows, columns = np.mgrid[0:168, 0:176]
pixels = (rows * rows + 7 * columns * rows + 13 * columns) % 251
images = [crops.Image(pixels.astype(np.uint16), "f", "tem/a", "tem")]
# the paper's first ten steps magnify rounding ten thousandfold, on one device as on many, since
# Adam's first move is by the sign of each gradient: here a larger eps, and a lower rate
module, optimiser = Autoencoder(1), optax.adam(1e-4, eps=1e-3)
mesh = devices.make_mesh(8)
store = devices.put_whole(crops.pack(images), mesh)
state = devices.put_whole(training.init_state(jax.random.key(0), module, optimiser), mesh)
step = training.make_step(module, optimiser, batch_size=8, seed=0, side_px=32, mesh=mesh)
# equal numbers alone would not show it: each device might do all of the batch
constraints = str(jax.make_jaxpr(step)(state, store))
calls = iter(range(1, 1000))
losses = []
for state, values, first in training.fit(
    step, state, store, steps=job["steps"], folder=job["folder"], checkpoint_every=4,
    stop=lambda: next(calls) == job["stop_after"], dispatch_s=job["dispatch_s"],
):
    losses += values.tolist()
settled = training.settle_batch_stats(
    module, state, store, batch_size=8, batches=2, seed=0, mesh=mesh
) if job["settle"] else {}

def fail():
    raise OSError("disk full")

try:
    devices.from_first(fail)
except (ValueError, OSError) as error:
    failure = f"{type(error).__name__}: {error}"
flat = lambda tree: [np.asarray(leaf).ravel().tolist() for leaf in jax.tree.leaves(tree)]
Path(job["report"]).write_text(json.dumps({
    "losses": losses, "step": int(state.step), "stats": flat(state.batch_stats),
    "settled": flat(settled), "devices": devices.describe(), "failure": failure,
    "first": devices.is_first(), "spread": "spec=P('batch',)" in constraints,
    "sent": devices.from_first(lambda: {"a": np.arange(3)})["a"].tolist(),
    "gathered": devices.gathered(jax.process_index(), 7).tolist(),
}))
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(folder, *, count=1, processes=1, code=CHILD, stops=None, **changes):
    """What each process of a run reported; process k works in `folder/k`."""
    where = [f"127.0.0.1:{free_port()}", processes]
    children = []
    for k in range(processes):
        own = folder / str(k)
        own.mkdir(parents=True, exist_ok=True)
        job = {"folder": str(own / "state"), "report": str(own / "report"), "steps": STEPS}
        job |= {"dispatch_s": 1.0, "settle": False, "stop_after": (stops or {}).get(k)}
        job |= {"where": [*where, k] if processes > 1 else []} | changes
        env = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
            "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
        }
        command = [sys.executable, "-c", code, json.dumps(job)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        children.append(subprocess.Popen(command, env=env, text=True, **pipes))
    try:
        said = [child.communicate(timeout=TIMEOUT_S)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    for child, text in zip(children, said, strict=True):
        assert child.returncode == 0, text
    return [json.loads((folder / str(k) / "report").read_text()) for k in range(processes)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Ten batches on one device."""
    return run(tmp_path_factory.mktemp("alone"), settle=True)[0]


def check_close(found, expected):
    np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-4)
    for name, atol in (("stats", 1e-6), ("settled", 1e-4)):
        for one, other in zip(found[name], expected[name], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=atol)


def test_eight_devices_train_as_one(alone, tmp_path):
    (many,) = run(tmp_path, count=8, settle=True)
    assert many["devices"] == "8 devices in 1 process"
    assert len(many["losses"]) == STEPS
    assert many["spread"]
    check_close(many, alone)


def test_two_processes_train_as_one_and_stop_together(alone, tmp_path):
    """Process 1 alone is told to stop; one device goes on from what process 0 wrote."""
    both = run(tmp_path, processes=2, stops={1: 6}, dispatch_s=0.0)
    for report in both:
        assert report["devices"] == "2 devices in 2 processes"
        assert report["step"] == len(report["losses"]) == 6
        assert report["sent"] == [0, 1, 2]
        assert report["gathered"] == [[0, 7], [1, 7]]
    assert both[0]["losses"] == both[1]["losses"]
    assert both[0]["stats"] == both[1]["stats"]
    assert [report["first"] for report in both] == [True, False]
    assert both[0]["failure"] == "OSError: disk full"
    assert both[1]["failure"] == "ValueError: process 0 failed: disk full"
    assert sorted(p.name for p in (tmp_path / "0" / "state").iterdir()) == ["4", "6"]
    assert not (tmp_path / "1" / "state").exists()
    (rest,) = run(tmp_path, settle=True)
    check_close(rest | {"losses": both[0]["losses"] + rest["losses"]}, alone)


@pytest.mark.slow
def test_eight_devices_then_one_then_two_processes(alone, tmp_path):
    losses = []
    for steps, where in ((3, {"count": 8}), (6, {}), (STEPS, {"processes": 2, "count": 2})):
        last = run(tmp_path, steps=steps, settle=steps == STEPS, **where)[0]
        losses += last["losses"]
    check_close(last | {"losses": losses}, alone)


# --- in this process: one device ---------------------------------------------------------------


def test_a_batch_that_does_not_spread_names_the_remedy(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    with pytest.raises(
        ValueError, match=r"batch_size 12 does not spread evenly over 8.*multiple of"
    ):
        devices.make_mesh(12)


@pytest.fixture
def started(monkeypatch):
    """The arguments that jax.distributed would have been started with."""
    calls = []
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args: calls.append(args))
    service = jax.config.jax_enable_preemption_service
    yield calls
    jax.config.update("jax_enable_preemption_service", service)


def test_nothing_starts_unless_something_says_so(started, monkeypatch):
    devices.start()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    devices.start()
    assert started == []


@pytest.mark.parametrize(
    ("env", "arguments", "expected"),
    [
        ({}, ("host:1", 2, 0), ("host:1", 2, 0)),
        (
            {
                "JAX_COORDINATOR_ADDRESS": "h:9",
                "JAX_NUM_PROCESSES": "4",
                "JAX_PROCESS_ID": "3",
            },
            (),
            ("h:9", 4, 3),
        ),
        ({"JAX_NUM_PROCESSES": "4"}, ("h:9", None, 0), ("h:9", 4, 0)),
        ({"SLURM_STEP_NUM_TASKS": "2"}, (), (None, None, None)),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, (), (None, None, None)),
    ],
)
def test_processes_join_where_flags_or_the_environment_say_so(
    started, monkeypatch, env, arguments, expected
):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    devices.start(*arguments)
    assert started == [expected]


@pytest.mark.parametrize("arguments", [("h:9",), (None, 2), (None, None, 0), ("h:9", 2)])
def test_half_a_description_is_refused(started, arguments):
    with pytest.raises(ValueError, match="give coordinator, processes and process_id, or none"):
        devices.start(*arguments)
    assert started == []


def test_one_process_needs_no_others():
    assert devices.is_first()
    assert devices.gathered(3, 4).tolist() == [[3, 4]]
    made = object()  # which does not pickle
    assert devices.from_first(lambda: made) is made
    with pytest.raises(KeyError), devices.ending_together():
        raise KeyError

"""Many devices, in one process or several: how they find each other, share work and agree.

The batch is spread over all devices of all processes; all else (weights, statistics, optimiser,
crops) lies whole on each of them. Every process runs the same program on the same numbers, so
whatever a process knows alone (a clock, a signal, a file) is agreed on before it decides anything.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array, Float, Int

AXIS = "batch"
"""Name of the mesh's only axis."""

FAREWELL_S = 5
"""How long a process that failed waits for the others to end with it."""

_LAUNCHERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
"""Set by srun and mpirun to the number of processes; jax finds the rest by itself there."""

T = TypeVar("T")


# --- processes -------------------------------------------------------------------------------


def start(
    coordinator: str | None = None, processes: int | None = None, process_id: int | None = None
) -> None:
    """Join a run's other processes where arguments or the environment name any.

    Arguments that are absent are read from JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
    JAX_PROCESS_ID; under srun and mpirun jax finds all three. To be called before anything else
    of jax. A process that dies is noticed by the others, which end with an error within 2 minutes.

    Args:
        coordinator: host:port of process 0.
        processes: how many there are.
        process_id: which one this is, from 0.

    Raises:
        ValueError: some of the three are given and some not, or do not fit together.
    """
    if jax.distributed.is_initialized():
        return
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    processes = _number("JAX_NUM_PROCESSES") if processes is None else processes
    process_id = _number("JAX_PROCESS_ID") if process_id is None else process_id
    launched = any((_number(name) or 1) > 1 for name in _LAUNCHERS)
    given = [value is not None for value in (coordinator, processes, process_id)]
    if any(given) and not all(given) and not launched:
        raise ValueError("give coordinator, processes and process_id, or none of them")
    if any(given) or launched:
        # its handler would swallow a termination signal
        jax.config.update("jax_enable_preemption_service", False)
        jax.distributed.initialize(coordinator, processes, process_id)


def _number(name: str) -> int | None:
    """Return a number from the environment, None where it is not there."""
    return int(os.environ[name]) if name in os.environ else None


@contextmanager
def ending_together() -> Iterator[None]:
    """End a process that is one of several once the block raises, whatever the others do.

    At its exit jax would wait for the others, and they might be waiting for this one.
    """
    try:
        yield
    except BaseException as error:
        if not jax.distributed.is_initialized():
            raise
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        farewell = threading.Thread(target=jax.distributed.shutdown, daemon=True)
        farewell.start()
        farewell.join(FAREWELL_S)
        os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)


def is_first() -> bool:
    """Return whether this is process 0, the only one that reads, writes and prints."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def gathered(*numbers: int) -> Int[np.ndarray, "p n"]:
    """Return the numbers that each process called this with."""
    table = multihost_utils.process_allgather(np.array(numbers, np.int32))
    return np.asarray(table).reshape(-1, len(numbers))


def from_first(action: Callable[[], T]) -> T:
    """Return what ``action`` returns on process 0, the only one to call it; it must pickle.

    Raises:
        ValueError: it raised an error there: every process raises one.
    """
    if jax.process_count() == 1:
        return action()
    parcel, failure = b"", None
    if is_first():
        try:
            parcel = pickle.dumps((action(), None))
        except (ValueError, OSError, ArithmeticError) as error:
            parcel, failure = pickle.dumps((None, str(error))), error
    # two numbers, since one of 32 bits ends at 2 GiB
    high, low = multihost_utils.broadcast_one_to_all(np.array(divmod(len(parcel), 2**20), np.int32))
    size = int(high) * 2**20 + int(low)
    sent = np.frombuffer(parcel, np.uint8) if is_first() else np.zeros(size, np.uint8)
    received = np.asarray(multihost_utils.broadcast_one_to_all(sent))
    if failure is not None:
        raise failure
    result, message = pickle.loads(received.tobytes())
    if message is not None:
        raise ValueError(f"process 0 failed: {message}")
    return result


# --- devices ---------------------------------------------------------------------------------


def make_mesh(batch_size: int) -> Mesh:
    """Return the mesh of all devices of all processes, over which batches of that size spread.

    Raises:
        ValueError: the devices cannot have equal parts of a batch.
    """
    count = jax.device_count()
    if batch_size % count:
        raise ValueError(
            f"batch_size {batch_size} does not spread evenly over {count} devices: give a "
            f"multiple of {count}, or hide some devices (CUDA_VISIBLE_DEVICES)"
        )
    return jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,))


def describe() -> str:
    """Return how many devices and processes there are, in words."""
    count = jax.process_count()
    return f"{jax.device_count()} devices in {count} process{'es' if count > 1 else ''}"


def spread(batch: Float[Array, "n ..."], mesh: Mesh | None) -> Float[Array, "n ..."]:
    """Return a batch with equal parts on each device; to be called inside jit."""
    if mesh is None:
        return batch
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, PartitionSpec(AXIS)))


def whole(tree: Any, mesh: Mesh | None) -> Any:
    """Return arrays that lie whole on each device; to be called inside jit."""
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec()))


def put(tree: Any, sharding: Sharding) -> Any:
    """Return arrays that every process has alike as they lie on a sharding's devices."""

    def place(leaf: Any) -> Array:
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(place, tree)


def put_whole(tree: Any, mesh: Mesh) -> Any:
    """Return arrays that every process has alike, whole on each device of a mesh."""
    return put(tree, NamedSharding(mesh, PartitionSpec()))


def local(tree: Any) -> Any:
    """Return this process's copy of arrays that lie whole on each device."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)

"""Sets trained side by side against each trained alone, and how a run of several ends early."""

import threading

import jax
import numpy as np
import pytest

from emd.models.pixelwise import MLP, Kernel
from emd.training import lockstep, side_by_side


def make_pairs(seed):
    draws = np.random.default_rng(seed)
    noisy = np.float32(1 + 0.3 * draws.standard_normal((3, 56, 56)))
    return noisy, np.float32(0.5 + 0.5 * noisy)


def make_tasks(steps=30, **options):
    """Two sets of one plan on pairs of their own, and one of another plan between them."""
    kernels = lockstep.make_plan([Kernel(3), Kernel(5)], steps=steps)
    perceptrons = lockstep.make_plan([MLP(3, 1)], steps=steps)
    return [
        side_by_side.Task(plan, *make_pairs(seed), **options)
        for seed, plan in enumerate((kernels, perceptrons, kernels))
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_set_among_others_equals_it_alone(workers):
    tasks = make_tasks()
    done = side_by_side.train(tasks, chunk=20, workers=workers)
    assert [one.number for one in done] == [0, 1, 2]
    for task, one in zip(tasks, done, strict=True):
        state = lockstep.init_state(task.plan)
        state, losses = lockstep.train(task.plan, state, task.noisy, task.restored, chunk=20)
        jax.tree.map(np.testing.assert_array_equal, one.state, state)
        np.testing.assert_array_equal(one.losses, losses)
    assert not np.array_equal(done[0].losses, done[2].losses)  # their own pairs


def test_sets_of_one_plan_share_a_program():
    before = lockstep._run._cache_size()
    side_by_side.train(make_tasks(steps=31), workers=3)
    assert lockstep._run._cache_size() == before + 2


def test_reports_come_one_at_a_time_and_results_as_they_are_ready():
    inside, seen, ready = threading.Lock(), [], []

    def note(state, losses, seconds):
        assert inside.acquire(blocking=False)
        seen.append((int(state.step), losses.shape[1], seconds))
        inside.release()

    done = side_by_side.train(
        make_tasks(on_chunk=note, measure=lambda state: int(state.step)),
        chunk=20,
        workers=2,
        on_done=lambda one: ready.append((one.number, threading.current_thread())),
    )
    assert sorted(step for step, _, _ in seen) == [20, 20, 20, 30, 30, 30]
    assert sorted(count for _, count, _ in seen) == [10, 10, 10, 20, 20, 20]
    assert all(seconds > 0 for _, _, seconds in seen)
    assert sorted(number for number, _ in ready) == [0, 1, 2]
    assert {thread for _, thread in ready} == {threading.main_thread()}
    assert [one.measured for one in done] == [30, 30, 30]


def test_a_set_goes_on_from_its_state():
    task = make_tasks()[0]
    half, first = lockstep.train(
        task.plan, lockstep.init_state(task.plan), task.noisy, task.restored, until=15
    )
    (rest,) = side_by_side.train([task._replace(state=half)])
    (whole,) = side_by_side.train([task])
    jax.tree.map(np.testing.assert_array_equal, rest.state, whole.state)
    np.testing.assert_array_equal(np.concatenate([first, rest.losses], 1), whole.losses)


def test_one_set_that_fails_stops_the_others():
    seen = []

    def fail(*_):
        raise ArithmeticError("diverged")

    tasks = make_tasks(steps=100_000, on_chunk=lambda state, *_: seen.append(int(state.step)))
    tasks[1] = tasks[1]._replace(on_chunk=fail)
    with pytest.raises(ArithmeticError, match="diverged"):
        side_by_side.train(tasks, chunk=50, workers=2)
    assert max(seen, default=0) < 100_000


def test_an_interrupt_stops_all_sets():
    seen = []

    def interrupt(_):
        raise KeyboardInterrupt

    # more steps than are done while the other set's program is compiled
    tasks = make_tasks(steps=1_000_000, on_chunk=lambda state, *_: seen.append(int(state.step)))
    short = tasks[1].plan._replace(steps=10)
    tasks[1] = tasks[1]._replace(plan=short)
    with pytest.raises(KeyboardInterrupt):
        side_by_side.train(tasks, chunk=50, workers=2, on_done=interrupt)
    assert max(seen, default=0) < 1_000_000


def test_bad_pairs_are_an_error():
    tasks = make_tasks()
    tasks[2] = tasks[2]._replace(noisy=tasks[2].noisy[:, :40])
    with pytest.raises(ValueError, match="give equal shapes"):
        side_by_side.train(tasks)

"""The schedules against plain Python, at every iteration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd.training import schedule


def _all(rule, steps):
    return np.asarray(jax.vmap(rule)(jnp.arange(steps + 1)))


@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_quadratic_equals_the_formula_at_every_iteration(steps):
    expected = [0.01 * (1 - it / steps) ** 2 for it in range(steps + 1)]
    np.testing.assert_allclose(_all(schedule.quadratic(steps), steps), expected, atol=2e-9)


@pytest.mark.parametrize("steps", [12, 90, 1001, 60_000])
def test_stepped_equals_the_formula_at_every_iteration(steps):
    expected = [0.01 * (1 - (it * 12 // steps) / 12) ** 2 for it in range(steps + 1)]
    np.testing.assert_allclose(_all(schedule.stepped_quadratic(steps), steps), expected, atol=2e-9)


def test_stepped_falls_every_5000_iterations_of_60000():
    rates = _all(schedule.stepped_quadratic(60_000), 60_000)
    falls = np.flatnonzero(np.diff(rates)) + 1
    np.testing.assert_array_equal(falls, np.arange(5_000, 60_001, 5_000))
    assert len(np.unique(rates[:-1])) == 12


@pytest.mark.parametrize("make", [schedule.quadratic, schedule.stepped_quadratic])
def test_starts_at_the_initial_rate_and_ends_at_zero(make):
    rule = make(100, initial=0.5)
    assert float(rule(0)) == 0.5
    assert float(rule(99)) > 0
    assert float(rule(100)) == float(rule(250)) == 0


def test_plateaus_are_equal_in_length_whatever_their_number():
    rates = _all(schedule.stepped_quadratic(30, plateaus=3), 29)
    np.testing.assert_allclose(rates, np.repeat([0.01, 0.01 * 4 / 9, 0.01 / 9], 10), rtol=1e-6)


@pytest.mark.parametrize("make", [schedule.quadratic, schedule.stepped_quadratic])
@pytest.mark.parametrize(("steps", "initial"), [(0, 0.01), (-5, 0.01), (10, 0.0), (10, np.nan)])
def test_bad_steps_or_rate_is_an_error(make, steps, initial):
    with pytest.raises(ValueError, match=r"steps is|rate is"):
        make(steps, initial=initial)


def test_bad_plateaus_is_an_error():
    with pytest.raises(ValueError, match="plateaus is 0"):
        schedule.stepped_quadratic(10, plateaus=0)
    with pytest.raises(ValueError, match="not below"):
        schedule.stepped_quadratic(10**9)

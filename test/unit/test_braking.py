"""How a joint brakes: closed forms against the stop that they speak of."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdd_ros.control.braking import (
    braking_acceleration,
    greatest_acceleration,
    stopping_extent,
    velocity_at_ease,
    velocity_to_come,
)

# In units of the jerk limit: all formulas are homogeneous in it.
JERK = 1.0


def stop(velocity: float, acceleration: float, limit: float) -> np.ndarray:
    """Return positions of the quickest stop from 0, and assert that it keeps its limits and ends at rest."""
    positions = [0.0]
    while velocity or acceleration:
        following = braking_acceleration(velocity, acceleration, limit, JERK)
        assert abs(following - acceleration) <= JERK * (1 + 1e-12)
        assert abs(following) <= limit * (1 + 1e-12)
        acceleration = following
        velocity += acceleration
        positions.append(positions[-1] + velocity)
        if abs(velocity) < 1e-12 * limit and abs(acceleration) < 1e-12 * limit:
            break
        assert len(positions) < 100_000
    return np.array(positions)


@pytest.mark.parametrize(('ramp', 'hold'), [(1, 0), (3, 0), (3, 1), (10, 40)])
def test_a_stop_takes_the_time_and_distance_of_its_closed_form(ramp, hold):
    """From the velocity of whole steps: jerk down for `ramp` steps, hold, jerk up for `ramp`: a trapezoid."""
    limit = ramp * JERK
    velocity = JERK * ramp * (ramp + hold)
    positions = stop(velocity, 0.0, limit)
    duration = 2 * ramp + hold
    # In continuous time it is the mean velocity for so long; the first command is a step closer to the end of it.
    assert len(positions) - 1 == duration
    np.testing.assert_allclose(positions[-1], velocity * duration / 2 - velocity, rtol=1e-12)


@settings(max_examples=300, deadline=None)
@given(st.floats(0, 1e4))
def test_greatest_acceleration_is_the_inverse_of_the_velocity_to_come(headroom):
    acceleration = greatest_acceleration(headroom, JERK)
    gained = acceleration + velocity_to_come(acceleration, JERK)
    np.testing.assert_allclose(gained, headroom, rtol=1e-9, atol=1e-12)
    more = acceleration * (1 + 1e-6) + 1e-6
    assert more + velocity_to_come(more, JERK) > headroom


@given(st.floats(-50, 50), st.floats(-20, 20))
def test_the_velocity_at_ease_is_what_is_left_after_taking_back_the_acceleration(velocity, acceleration):
    expected = velocity_at_ease(velocity, acceleration, JERK)
    while acceleration:
        acceleration -= np.copysign(min(JERK, abs(acceleration)), acceleration)
        velocity += acceleration
    np.testing.assert_allclose(velocity, expected, atol=1e-9)


# Velocities from far below to far above what one jerk makes, and accelerations up to the limit.
_states = st.tuples(st.floats(0.05, 60), st.floats(-1, 1), st.floats(-1, 1), st.sampled_from([0.01, 1.0, 30.0]))


@settings(max_examples=1500, deadline=None)
@given(_states)
def test_a_stop_stays_within_its_extent(state):
    limit, acceleration, velocity, scale = state
    acceleration, velocity = acceleration * limit, velocity * limit * scale
    positions = stop(velocity, acceleration, limit)
    back, forth = stopping_extent(velocity, acceleration, limit, JERK)
    assert -back - 1e-9 * limit <= positions.min() and positions.max() <= forth + 1e-9 * limit


@settings(max_examples=300, deadline=None)
@given(_states)
def test_the_extent_is_that_of_the_stop_and_at_most_one_delayed_step_more(state):
    limit, _, velocity, scale = state
    velocity = abs(velocity) * limit * scale
    positions = stop(velocity, 0.0, limit)
    _, forth = stopping_extent(velocity, 0.0, limit, JERK)
    assert forth <= positions.max() + velocity + JERK / 8 + 1e-9


def test_without_a_limit_of_acceleration_jerk_alone_shapes_the_stop():
    positions = stop(100.0, 0.0, inf)
    np.testing.assert_array_equal(np.diff(positions) >= 0, True)
    _, forth = stopping_extent(100.0, 0.0, inf, JERK)
    assert positions[-1] <= forth

"""The tracker: limits that no target breaks, and targets that it follows where they break none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import assert_limits_hold

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.control.joint_tracker import SmoothJoint
from vdd_ros.control.limits import Limits
from vdd_ros.control.tracker import Tracker

SECONDS = 1e-3
ARM = Limits(
    np.array([-2.8, -1.0]),
    np.array([2.8, 1.5]),
    np.array([2.2, 1.0]),
    0.5,
    acceleration=np.array([10.0, 3.0]),
    jerk=np.array([5000.0, 300.0]),
)


@st.composite
def _arms(draw) -> Limits:
    """Any arm: slow, fast, stiff, with or without limits, with next to no room to move in."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lower = generator.uniform(-3, 0, 2)
    velocity = np.exp(generator.uniform(np.log(0.1), np.log(5), 2))
    acceleration = velocity * np.exp(generator.uniform(np.log(0.5), np.log(50), 2))
    jerk = acceleration * np.exp(generator.uniform(0, np.log(1000), 2))
    absent = draw(st.sampled_from(['none', 'jerk', 'acceleration', 'both', 'position']))
    if absent in ('jerk', 'both'):
        jerk[0] = np.inf
    if absent in ('acceleration', 'both'):
        acceleration[0] = np.inf
    upper = lower + np.exp(generator.uniform(np.log(0.01), np.log(5), 2))
    if absent == 'position':
        lower[0], upper[0] = -np.inf, np.inf
    return Limits(lower, upper, velocity, 0.5, acceleration=acceleration, jerk=jerk)


@settings(max_examples=150, deadline=None)
@given(_arms(), st.sampled_from([1e-3, 5e-3, 35e-3]), st.integers(0, 2**32 - 1), st.booleans())
def test_whatever_the_targets_no_limit_is_ever_exceeded(limits, seconds, seed, outside):
    """Each example is 70 targets of one of six kinds, each for some steps; 150 of them make more than 10 000."""
    generator = np.random.default_rng(seed)
    tracker = Tracker(limits, seconds)
    room = np.clip(limits.lower, -3, 3), np.clip(limits.upper, -3, 3)
    start = generator.uniform(*room) + outside * generator.uniform(-0.3, 0.3, 2)
    tracker.reset(start)
    commands, target = [start], start
    for _ in range(70):
        kind = generator.integers(6)
        for step in range(generator.integers(1, 12)):
            if kind == 0:
                target = generator.uniform(-5, 5, 2)
            elif kind == 1:
                target = target if step else generator.uniform(room[0] - 0.5, room[1] + 0.5)
            elif kind == 2:
                target = target + generator.normal(0, 1, 2) * limits.velocity * seconds
            elif kind == 3:
                target = target + limits.velocity * seconds * [1, -1]
            elif kind == 4:
                target = generator.choice([np.nan, np.inf, -np.inf, 1e300, -1e300, 0.0], 2)
            measured = tracker.position + generator.normal(0, 0.3, 2) if generator.random() < 0.1 else None
            commands.append(tracker.brake() if kind == 5 else tracker.step(target, measured))
            target = np.clip(np.nan_to_num(target), -5, 5)
    assert_limits_hold(np.array(commands), limits, seconds)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 4e-3, 35e-3]), st.booleans())
def test_a_target_that_is_hit_at_once_leads_to_the_last_bit_where_the_whole_step_leads(seed, seconds, outside):
    """From states of all kinds, up to every limit and a little beyond, with walls that have moved."""
    generator = np.random.default_rng(seed)
    bounds = -1.0, 1.5, 2.0 * seconds, 10.0 * seconds**2, 500.0 * seconds**3, 0.05 * seconds
    quick, whole = SmoothJoint(*bounds), SmoothJoint(*bounds)
    hits = 0
    for _ in range(300):
        place = generator.uniform(-1.0, 1.5)
        if outside:  # by a step or two
            place = generator.choice([-1.0, 1.5]) + 2 * quick.greatest * generator.uniform(-1, 1)
        size = 1.1 * np.exp(generator.uniform(-4, 0, 6)) * generator.uniform(-1, 1, 6)
        velocity, bend = size[0] * quick.greatest, size[1] * quick.bend
        if generator.random() < 0.3:  # next to the velocity limit
            velocity = np.sign(bend) * quick.greatest * (1 - 0.1 * generator.random())
        walls = place + np.sort(generator.normal(0, 0.2, 2)) if generator.random() < 0.2 else (-9.0, 9.0)
        for joint in (quick, whole):
            joint.reset(float(place))
            joint.velocity, joint.acceleration = velocity, bend
            joint.target, joint.pace = place + size[2] * joint.jerk, velocity + size[3] * joint.jerk
            joint.confine(*map(float, walls))
        target = float(place + velocity + bend + size[4] * quick.jerk)
        before = dict(vars(quick), clamps=list(quick.clamps))
        if quick.hit(target):
            hits += 1
            assert whole.approach(target)
        else:
            assert dict(vars(quick)) == before
            assert quick.approach(target) == whole.approach(target)
        assert vars(quick) == vars(whole)
    assert hits > 5


def test_targets_of_a_smooth_motion_are_hit_at_once():
    joint = SmoothJoint(-2.0, 2.0, 2.0 * SECONDS, 10.0 * SECONDS**2, 500.0 * SECONDS**3, 0.05 * SECONDS)
    joint.reset(0.0)
    # From rest, without a jump of acceleration; at most half of the limits.
    share = np.linspace(0, 1, 1500)
    targets = 0.3 * (share - np.sin(2 * np.pi * share) / (2 * np.pi))
    assert np.mean([joint.hit(target) or joint.approach(target) is None for target in targets.tolist()]) > 0.98


def test_a_target_that_keeps_the_limits_is_followed_exactly():
    tracker = Tracker(ARM, SECONDS)
    time = np.arange(4000) * SECONDS
    # Starts from rest without a jump in acceleration.
    targets = np.stack([0.4 * np.sin(time) ** 4, 0.5 * np.sin(time / 2) ** 4], axis=1)
    tracker.reset(targets[0])
    for target in targets:
        np.testing.assert_array_equal(tracker.step(target, target), target)
        assert not tracker.clamped
    assert not any(sum(counts) for counts in tracker.clamps.values())


@pytest.mark.parametrize('distance', [1e-4, 1e-2, 1.0])
def test_a_jump_is_made_good_without_overshoot_in_less_than_thrice_the_least_time(distance):
    tracker = Tracker(ARM, SECONDS)
    tracker.reset(np.zeros(2))
    commands = np.array([tracker.step(np.full(2, distance)) for _ in range(6000)])
    assert (commands <= distance + 1e-15).all()
    np.testing.assert_array_equal(commands[-1], distance)
    assert not tracker.moving
    settled = (np.abs(commands - distance) > 0.01 * distance).sum(axis=0) * SECONDS
    # Least times of a move from rest to rest if jerk, acceleration or velocity were the only limit: none is shorter.
    jerk_bound = (32 * distance / ARM.jerk) ** (1 / 3)
    acceleration_bound = 2 * np.sqrt(distance / ARM.acceleration)
    velocity_bound = distance / ARM.velocity
    assert (settled < 3 * np.maximum(np.maximum(jerk_bound, acceleration_bound), velocity_bound)).all()


def test_a_moving_target_is_caught_up_with():
    tracker = Tracker(ARM, SECONDS)
    tracker.reset(np.zeros(2))
    for step in range(1500):
        target = np.full(2, 0.5 * step * SECONDS)
        command = tracker.step(target)
    np.testing.assert_array_equal(command, target)


def test_a_target_beyond_the_position_limits_is_met_by_braking_in_time_and_smoothly():
    tracker = Tracker(ARM, SECONDS)
    tracker.reset(np.zeros(2))
    commands = np.array([tracker.step(np.full(2, step * SECONDS)) for step in range(4000)])
    assert_limits_hold(commands, ARM, SECONDS)
    np.testing.assert_allclose(commands[-1], ARM.upper, atol=1e-5)
    assert tracker.clamps['position'][0] > 0
    # From the first to the last moment of braking it only brakes: nothing dithers at the edge of what is allowed.
    bend = np.diff(commands[:, 0], 2) / SECONDS**2
    braking = np.flatnonzero(bend < -0.5)
    assert (bend[braking[0] : braking[-1]] < 0.05).all()


def test_braking_ends_at_rest_within_the_limits_from_any_motion():
    tracker = Tracker(ARM, SECONDS)
    tracker.reset(np.zeros(2))
    commands = [tracker.step(np.array([2.8, -1.0])) for _ in range(400)]
    assert tracker.moving
    while tracker.moving:
        commands.append(tracker.brake())
    assert_limits_hold(np.array(commands), ARM, SECONDS)
    stopped = tracker.brake()
    np.testing.assert_array_equal(stopped, commands[-1])
    assert not tracker.velocity.any() and not tracker.acceleration.any()


def test_a_joint_outside_its_limits_is_led_back_slowly():
    tracker = Tracker(ARM, SECONDS)
    tracker.reset(np.array([3.0, 0.0]))
    commands = np.array([tracker.step(np.zeros(2)) for _ in range(8000)])
    outside = commands[:, 0] > ARM.upper[0]
    assert outside[0] and outside.sum() * SECONDS > 0.9 * 0.2 / ARM.recovery
    assert (np.diff(commands[:, 0]) <= 0).all()
    np.testing.assert_allclose(commands[-1], 0, atol=1e-9)


def test_a_blocked_arm_is_not_pushed_beyond_the_lag():
    tracker = Tracker(ARM, SECONDS)
    tracker.reset(np.zeros(2))
    for step in range(4000):
        tracker.step(np.full(2, 0.5 * step * SECONDS), np.zeros(2))
        assert (tracker.position <= ARM.lag + 1e-12).all()
    np.testing.assert_allclose(tracker.position, ARM.lag, atol=1e-5)
    assert min(tracker.clamps['lag']) > 1000


def test_each_kind_of_limit_is_counted_where_it_is_felt():
    still = np.zeros(2)
    for kind, target in {
        'position': np.array([9.0, 0.0]),
        'velocity': np.array([2.0, 0.0]),
        'jerk': np.array([1.5 * 5000 * SECONDS**3, 0.0]),
    }.items():
        tracker = Tracker(ARM, SECONDS)
        tracker.reset(still)
        tracker.step(target)
        assert tracker.clamps[kind] == (1, 0)
        assert tracker.clamped


def test_where_only_speed_is_limited_a_command_is_the_nearest_to_the_target():
    limits = Limits(ARM.lower, ARM.upper, ARM.velocity, 0.5)
    tracker = Tracker(limits, SECONDS)
    tracker.reset(np.zeros(2))
    np.testing.assert_array_equal(tracker.step(np.array([0.001, 0.001])), [0.001, 0.001])
    np.testing.assert_allclose(tracker.step(np.array([1.0, -1.0])), [0.001 + 2.2e-3, 0.0], atol=1e-15)
    np.testing.assert_array_equal(tracker.brake(), tracker.position)
    assert not tracker.moving


def test_of_two_sources_the_stricter_limit_wins():
    merged = ARM.tightened(velocity=np.array([3.0, 0.5]), jerk=100.0, lower=np.array([-1.0, -9.0]))
    np.testing.assert_array_equal(merged.velocity, [2.2, 0.5])
    np.testing.assert_array_equal(merged.jerk, [100.0, 100.0])
    np.testing.assert_array_equal(merged.lower, [-1.0, -1.0])
    np.testing.assert_array_equal(merged.acceleration, ARM.acceleration)


@pytest.mark.parametrize(
    'change', [{'lower': np.full(2, 9.0)}, {'jerk': np.zeros(2)}, {'velocity': np.full(2, np.nan)}, {'mode': 'ignore'}]
)
def test_limits_that_nothing_can_meet_are_refused(change):
    values = {name: getattr(ARM, name) for name in ('lower', 'upper', 'velocity', 'lag', 'acceleration', 'jerk')}
    with pytest.raises(ConfigurationError):
        Limits(**{**values, **change})

"""Plans as motions: continuous, through their waypoints, to rest."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from vdd_ros.control.limits import Limits
from vdd_ros.control.plan_clock import PlanClock
from vdd_ros.control.plan_follower import InterpolatingFollower
from vdd_ros.control.planner import Proposal
from vdd_ros.control.tracker import Tracker
from vdd_ros.control.trajectory import State, Trajectory, Waypoints

PERIOD = 0.035
REST = State(np.zeros(2), np.zeros(2), np.zeros(2))


LIMITS = Limits(
    np.full(2, -3.0), np.full(2, 3.0), np.full(2, 2.0), 0.5, acceleration=np.full(2, 10.0), jerk=np.full(2, 5000.0)
)


def _waypoints(steps: np.ndarray, start: State = REST, time: float = 0.0, smoothing: float = 0.0) -> Waypoints:
    return Waypoints(start, steps, time=time, period=PERIOD, limits=LIMITS, smoothing=smoothing)


def _steps(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.01, (count, 2)).cumsum(axis=0)


def _assert_continuous(state_at, knots: list[float]) -> None:
    """Assert that nothing jumps at knots, and that between them velocity and acceleration are what they are called."""
    for knot in knots:
        left, right = state_at(knot - 1e-9), state_at(knot + 1e-9)
        for name in ('position', 'velocity', 'acceleration'):
            # In 2 ns an acceleration changes by no more than jerk times that; jerk is below 5e4 here.
            np.testing.assert_allclose(getattr(left, name), getattr(right, name), atol=1e-4)
    for first, last in pairwise(knots):
        for time in np.linspace(first, last, 7)[1:-1]:
            step = 1e-6
            before, here, after = state_at(time - step), state_at(time), state_at(time + step)
            np.testing.assert_allclose((after.position - before.position) / (2 * step), here.velocity, atol=1e-7)
            np.testing.assert_allclose((after.velocity - before.velocity) / (2 * step), here.acceleration, atol=1e-5)


@pytest.mark.parametrize('count', [1, 2, 8])
def test_a_plan_hits_its_waypoints_at_their_ticks_and_is_continuous_to_its_rest(count):
    steps = _steps(0, count)
    plan = _waypoints(steps, time=2.0)
    for index, step in enumerate(steps):
        np.testing.assert_allclose(plan.state(2.0 + (index + 1) * PERIOD).position, step, atol=1e-7)
    _assert_continuous(plan.state, [2.0 + PERIOD * index for index in range(1, count + 2)] + [plan.rest])
    rest = plan.state(plan.rest)
    np.testing.assert_allclose([rest.velocity, rest.acceleration], 0, atol=1e-9)
    np.testing.assert_allclose(plan.state(plan.rest + 9).position, rest.position, atol=1e-15)


@pytest.mark.parametrize('smoothing', [0.0, 1.0])
@pytest.mark.parametrize('count', [1, 3])
def test_motions_of_constant_acceleration_are_reproduced(count, smoothing):
    start = State(np.array([0.1, 0.0]), np.array([0.2, -0.3]), np.array([1.0, -2.0]))

    def exact(time: float) -> np.ndarray:
        return start.position + start.velocity * time + start.acceleration * time**2 / 2

    steps = np.array([exact((index + 1) * PERIOD) for index in range(count)])
    plan = _waypoints(steps, start, smoothing=smoothing)
    for time in np.linspace(0, count * PERIOD, 50):
        np.testing.assert_allclose(plan.state(time).position, exact(time), atol=1e-12)


def test_smoothing_takes_away_what_alternates_and_keeps_what_lasts():
    """A sine of angular frequency w passes with the gain 1 / (1 + (w smoothing)^6), but for the ends of the plan."""
    ticks = np.arange(1, 41)
    for frequency, gain in ((0.2, 1.0), (1.0, 0.5), (np.pi, 1 / (1 + np.pi**6))):
        steps = 0.01 * np.cos(frequency * ticks)[:, None] * [1.0, 0.5]
        plan = _waypoints(steps, smoothing=1.0)
        inner = [plan.state((tick + 1) * PERIOD).position[0] for tick in range(10, 30)]
        np.testing.assert_allclose(inner, gain * steps[10:30, 0], atol=3e-4)


@pytest.mark.parametrize(('count', 'smoothing', 'overshoot'), [(4, 1.5, 0.148), (9, 3.0, 0.131), (4, 0.0, 0.0)])
def test_a_step_of_the_waypoints_is_overshot_by_what_the_smoothing_and_the_length_of_plans_give(
    count, smoothing, overshoot
):
    state, reached = REST, []
    for _ in range(150):  # a plan at every tick, each to where the one before led, too
        state = _waypoints(np.ones((count, 2)), state, smoothing=smoothing).state(PERIOD)
        reached.append(state.position[0])
    assert max(reached) - 1 == pytest.approx(overshoot, abs=1e-3)
    assert reached[-1] == pytest.approx(1, abs=1e-6)


def test_followed_at_the_pace_a_plan_keeps_the_limits_and_its_path():
    steps = _steps(4, 8)
    plan = _waypoints(steps, smoothing=1.0)
    clock, times, seconds = PlanClock(1e-3), [], 1e-3
    while clock.time < plan.rest:
        pace = plan.pace(clock.time)
        clock.advance(seconds, pace.speed, pace.rate, pace.turn)
        times.append(clock.time)
    positions = np.array([plan.state(time).position for time in times])
    velocity = np.abs(np.diff(positions, axis=0)).max(axis=0) / seconds
    assert (velocity < LIMITS.velocity).all() and len(times) * seconds > plan.rest


def test_where_a_plan_ends_it_continues_for_a_period_and_then_brakes_at_half_of_the_limit():
    steps = np.arange(1, 4)[:, None] * [0.02, 0.05]
    plan = _waypoints(steps, State(np.zeros(2), np.array([0.02, 0.05]) / PERIOD, np.zeros(2)))
    np.testing.assert_allclose(plan.state(plan.end + PERIOD).position, [0.08, 0.2], atol=1e-12)
    bends = [plan.state(time).acceleration for time in np.linspace(plan.end + PERIOD, plan.rest, 200)]
    assert np.abs(bends).max() <= 5.0 + 1e-9
    np.testing.assert_allclose(np.abs(bends).max(), 5.0, rtol=1e-3)


def test_a_seam_leads_over_continuously_and_then_the_plan_is_followed_exactly():
    under_way = _waypoints(_steps(1, 4))
    seam = 2.3 * PERIOD
    state = under_way.state(seam)
    following = _waypoints(_steps(2, 6) + state.position, under_way.state(2 * PERIOD), time=2 * PERIOD)
    motion = Trajectory(state, seam, following, blend=PERIOD / 2)
    np.testing.assert_allclose(motion.position(seam), state.position, atol=1e-15)
    _assert_continuous(motion.state, [seam + PERIOD / 2, *(PERIOD * index for index in range(3, 10)), following.rest])
    for time in (seam + PERIOD / 2, 4 * PERIOD, following.end, following.rest):
        np.testing.assert_allclose(motion.position(time), following.state(time).position, atol=1e-15)


def test_steps_that_time_has_passed_are_counted():
    plan = _waypoints(_steps(3, 4), time=1.0)
    passed = [plan.passed(1.0 + PERIOD * periods) for periods in (-1, 0, 0.99, 1, 2.5, 4, 99)]
    assert passed == [0, 0, 0, 1, 2, 4, 4]


def test_the_plans_clock_is_even_under_jitter_and_keeps_up_with_time():
    clock, generator = PlanClock(1e-3), np.random.default_rng(0)
    deadlines = np.arange(1, 20_001) * 1e-3
    wakes = deadlines + generator.exponential(1e-4, len(deadlines))
    before, times = 0.0, [0.0]
    for wake in wakes:
        clock.advance(wake - before, 1.0)
        before = wake
        times.append(clock.time)
    # Read directly, steps would differ by the jitter itself: some 10 percent.
    assert np.abs(np.diff(times[2000:], 2)).max() < 1e-3 * 1e-3
    assert abs(clock.time - wakes[-1]) < 1e-3


def test_a_delay_is_made_good_gently_and_a_long_one_is_given_up():
    clock = PlanClock(1e-3)
    clock.advance(0.1, 1.0)
    times = [clock.time]
    for _ in range(8000):
        clock.advance(1e-3, 1.0)
        times.append(clock.time)
    assert np.diff(times).max() <= 1e-3 * (1 + 0.05 + 1e-9)
    np.testing.assert_allclose(clock.time, 8.1, atol=2e-3)
    clock.advance(5.0, 1.0)
    np.testing.assert_allclose(clock.time, 8.1, atol=4e-3)


def test_a_plan_never_runs_faster_than_is_requested_though_its_limits_become_narrow():
    """At rest the pace may change at will, and in motion hardly: a change under way must not lead beyond."""
    clock, speeds = PlanClock(4e-3), []
    limits = [(0.5, 700.0, 7000.0)] * 3 + [(1.0, 700.0, 7000.0)] * 2 + [(1.0, 10.0, 100.0)] * 100
    for wanted, rate, turn in limits:
        clock.advance(4e-3, wanted, rate, turn, most=1.0)
        speeds.append(clock.speed)
    assert min(speeds) < 0.6 and max(speeds) == 1.0 and speeds[-1] == pytest.approx(1.0, abs=0.02)


def test_speed_changes_gradually_and_scales_the_plans_time():
    clock = PlanClock(1e-3)
    speeds = []
    for _ in range(1000):
        clock.advance(1e-3, 0.25)
        speeds.append(clock.speed)
    assert speeds[0] > 0.99 and speeds[-1] == 0.25
    before = clock.time
    for _ in range(1000):
        clock.advance(1e-3, 0.25)
    np.testing.assert_allclose(clock.time - before, 0.25, rtol=1e-6)


def test_a_plan_to_where_no_command_comes_ends_all_the_same_and_policy_ticks_continue():
    # The second joint is to go half a radian beyond its position limit: the clock of the plan must not wait for it.
    limits = Limits(
        np.full(2, -3.0),
        np.array([3.0, 0.1]),
        np.full(2, 2.0),
        0.5,
        acceleration=np.full(2, 10.0),
        jerk=np.full(2, 5e3),
    )
    tracker, follower = Tracker(limits, 0.004), InterpolatingFollower(4_000_000, 35_000_000, PERIOD)
    tracker.reset(np.zeros(2))
    steps = np.linspace([0.0, 0.0], [0.0, 0.6], 13)[1:]
    waypoints = Waypoints(REST, steps, time=0.0, period=PERIOD, limits=limits, smoothing=0.0)
    assert follower.accept(Proposal(None, 0, steps, waypoints), tracker)
    ticks = 0
    for command in range(1, 15_000):
        target = follower.next(4_000_000, 1.0, tracker)
        if target is None:
            break
        assert tracker.step(target)[1] <= 0.1
        ticks += follower.tick(4_000_000 * command)
    assert target is None and ticks > len(steps)

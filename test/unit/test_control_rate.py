"""The control loop where commands leave faster than plans: plans become motions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from loops import (
    EXACT,
    LIMITS,
    MILLISECOND,
    ONE_STEP,
    SHORT,
    AnsweringPolicy,
    assert_limits_hold,
    from_rest,
    gentle,
    gentle_ahead,
    new_loop,
    positions_of,
    run,
    run_beside,
    started_loop,
)

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import load_contract
from vdd_ros.control.control_loop import Command, ControlLoop, Hold
from vdd_ros.control.execution import Execution
from vdd_ros.control.freshness import Freshness
from vdd_ros.control.limits import Limits
from vdd_ros.policy.routing import Routing
from vdd_ros.robot.kinematics import POSITION_TOLERANCE, Kinematics


def test_each_waypoint_is_reached_by_the_next_tick_and_between_them_the_motion_is_smooth():
    loop = started_loop(AnsweringPolicy(gentle_ahead))
    outcomes = run(loop, 0, 4000)
    positions = positions_of(outcomes)
    expected = np.cumsum([gentle(call, None)[0] for call in range(200)], axis=0)
    np.testing.assert_allclose(positions[19::20], expected, atol=1e-8)
    assert_limits_hold(from_rest(outcomes), LIMITS, 1e-3)
    assert all(isinstance(outcome, Command) and not outcome.clamped for outcome in outcomes)
    # What interpolation adds to the motion's own jerk of 1 rad/s^3 is little beside what the arm is allowed.
    assert (np.abs(np.diff(positions, 3, axis=0)).max(axis=0) / 1e-9 < LIMITS.jerk / 50).all()


@pytest.mark.parametrize('milliseconds', [20, 5, 1])
def test_what_the_policy_sees_does_not_depend_on_how_many_commands_lead_to_a_waypoint(milliseconds):
    policy = AnsweringPolicy(gentle_ahead)
    loop = started_loop(policy, rules={'control_period': milliseconds * MILLISECOND}, observation_horizon=2)
    for now in range(0, 2000, milliseconds):
        loop.observe(now * MILLISECOND, loop.commanded)
        loop.advance(now * MILLISECOND)
    reached = np.cumsum([gentle(call, None)[0] for call in range(99)], axis=0)
    np.testing.assert_allclose([window[-1, 2:] for window in policy.windows[1:]], reached, atol=1e-8)


@pytest.mark.parametrize('milliseconds', [10, 4, 1])
def test_a_policy_of_noisy_steps_does_not_run_away_where_limits_hold_its_commands_back(milliseconds):
    """Every step of .4 rad/s is off by a third of that. Limits slow the arm down; what it is behind must not add up."""
    generator, mean = np.random.default_rng(0), np.array([0.008, -0.004])
    strict = replace(LIMITS, acceleration=np.array([5.0, 5.0]), jerk=np.array([50.0, 50.0]))
    loop = started_loop(
        AnsweringPolicy(lambda call, seen: mean * (1 + generator.normal(0, 0.3, (12, 1)))),
        rules={
            'limits': strict,
            'control_period': milliseconds * MILLISECOND,
            'execution': Execution(),
        },
        prediction_horizon=12,
        action_horizon=4,
    )
    outcomes = []
    for now in range(0, 4000, milliseconds):
        loop.observe(now * MILLISECOND, loop.commanded)
        outcomes.append(loop.advance(now * MILLISECOND))
    path = from_rest(outcomes)
    assert_limits_hold(path, strict, milliseconds * 1e-3)
    steps = np.diff(path[:: 20 // milliseconds], axis=0)[50:]
    assert (steps.mean(axis=0) / mean > 0.5).all() and (steps.mean(axis=0) / mean < 1.1).all()
    assert (np.abs(steps) < 2 * np.abs(mean)).all()


def test_single_steps_are_refused_at_control_rate_with_the_reason_and_accepted_at_the_policy_rate():
    policy = AnsweringPolicy(lambda call, seen: [[0.001, 0.001]])
    usual = {'execution': Execution()}
    with pytest.raises(ConfigurationError, match=r'two steps beyond the next plan.*multiplied by 2\.\d+ from plan'):
        new_loop(policy, rules=usual, **ONE_STEP)
    assert new_loop(policy, rules={**usual, 'control_period': 20 * MILLISECOND}, **ONE_STEP).is_lockstep


def test_a_plan_in_tool_space_moves_the_tool_and_holds_what_it_does_not_command():
    contract = load_contract('avoiding_cartesian').model_copy(update=SHORT)
    kinematics = Kinematics.from_contract(contract)
    home = np.array([-0.4, 0.3, 0.0, -2.2, 0.0, 2.5, 0.4])
    limits = Limits(
        kinematics.lower,
        kinematics.upper,
        kinematics.velocity_limits,
        0.5,
        kinematics.acceleration_limits,
        np.full(7, 5000.0),
    )
    loop = ControlLoop(
        contract,
        AnsweringPolicy(lambda call, seen: [[0.0, 1e-4 * min(call, 20)]]),
        kinematics,
        limits=limits,
        freshness=Freshness(100 * MILLISECOND),
        routing=Routing(),
        generator=np.random.default_rng(0),
        control_period=5 * MILLISECOND,
        execution=EXACT,
    )
    loop.start(0, home)
    commands = [home]
    for tick in range(7 * 40):
        loop.observe(tick * 5 * MILLISECOND, loop.commanded)
        commands.append(loop.advance(tick * 5 * MILLISECOND).position)
    moved = kinematics.tool_position(np.array(commands)) - kinematics.tool_position(home)
    planned = np.cumsum([1e-4 * min(call, 20) for call in range(40)])
    # Each step is solved to a tolerance, and goes out from the one before.
    np.testing.assert_allclose(moved[7::7, 1], planned, atol=40 * POSITION_TOLERANCE)
    np.testing.assert_allclose(moved[:, [0, 2]], 0, atol=40 * POSITION_TOLERANCE)
    assert_limits_hold(np.array(commands), limits, 5e-3)


@pytest.mark.parametrize('latency', [1, 5, 12])
def test_late_plans_are_joined_smoothly_and_the_motion_keeps_its_pace(latency):
    loop, outcomes = run_beside(AnsweringPolicy(gentle_ahead), 4000, latency)
    assert_limits_hold(from_rest(outcomes), LIMITS, 1e-3)
    expected = np.sum([gentle(call, None)[0] for call in range(200)], axis=0)
    np.testing.assert_allclose(outcomes[-1].position, expected, rtol=0.03)
    assert loop.counters().late_steps == loop.counters().missed == 0
    # The motion's own acceleration is at most 0.5 rad/s^2.
    assert np.abs(np.diff(positions_of(outcomes), 2, axis=0)).max() / 1e-6 < 2.0


@pytest.mark.parametrize('late', [0, 1, 2, 3])
@pytest.mark.parametrize('jitter', [0.0, 0.4])
def test_a_policy_that_requests_full_speed_at_once_gets_as_much_as_the_limits_allow_however_late_its_plans(
    late, jitter
):
    """An arm with the limits of the FR3, commanded at 250 Hz by a policy that knows no beginning."""
    tight = replace(LIMITS, velocity=np.full(2, 2.6), acceleration=np.full(2, 5.0), jerk=np.full(2, 50.0))
    wanted = np.array([0.03, -0.02])
    policy = AnsweringPolicy(lambda call, seen: [[wanted] * 12])
    rules = {'limits': tight, 'control_period': 4 * MILLISECOND, 'execution': Execution()}
    chunk = {'prediction_horizon': 12, 'action_horizon': 4, 'policy_rate': 1 / 0.035}
    loop, generator = started_loop(policy, rules=rules, **chunk), np.random.default_rng(0)
    commands, speeds, due = [np.zeros(2)], [], None
    for tick in range(400):
        if due is not None and tick >= due:
            loop.plan()
            due = None
        now = (4 * tick + 4 * jitter * generator.random()) * MILLISECOND
        commands.append(loop.decide(int(now)).position)
        loop.observe(4 * tick * MILLISECOND, loop.commanded)
        speeds.append(loop.counters().speed)
        due = tick + late if loop.wants_plan and due is None else due
    assert_limits_hold(np.array(commands), tight, 4e-3)
    assert max(speeds) <= 1.0
    # To the full speed of .86 rad/s it takes a quarter of a second; from then on nothing is in the way.
    pace = np.diff(commands, axis=0)[-200:].sum(axis=0) / 0.8
    np.testing.assert_allclose(pace, wanted / 0.035, rtol=0.1)


def test_steps_that_time_has_passed_are_dropped_and_the_others_come_at_their_time():
    policy = AnsweringPolicy(lambda call, seen: np.arange(1, 9)[:, None] * [2e-5, 1e-5])
    loop, outcomes = run_beside(policy, 125, 50, action_mode='absolute', prediction_horizon=8, action_horizon=8)
    assert loop.counters().late_steps == 2
    positions = positions_of(outcomes)
    np.testing.assert_allclose(positions[[79, 99, 119]], np.array([4, 5, 6])[:, None] * [2e-5, 1e-5], atol=1e-9)
    assert isinstance(outcomes[49], Hold) and outcomes[49].reason == 'no plan'


def test_ticks_that_find_the_planner_busy_are_counted_and_seen_all_the_same():
    loop, _ = run_beside(AnsweringPolicy(lambda call, seen: [[2e-5, 0.0]]), 400, 45)
    counters = loop.counters()
    # Of 20 ticks every third one or so finds the planner free; the newest of those that wait is answered then.
    assert 5 < counters.plans < 10 and counters.missed >= 10
    assert counters.plans + counters.missed >= 19


def test_while_a_plan_is_late_the_rest_of_the_chunk_is_done_and_then_the_arm_comes_to_rest():
    policy = AnsweringPolicy(lambda call, seen: np.full((6, 2), 0.0004))
    loop = started_loop(
        policy, prediction_horizon=6, action_horizon=2, rules={'execution': replace(EXACT, coast_steps=3)}
    )
    outcomes = run(loop, 0, 1) + run(loop, 1, 600, plans=False)
    positions = positions_of(outcomes)
    # Two steps are due and three more are there to coast on; the sixth is not looked at.
    np.testing.assert_allclose(positions[99], 5 * 0.0004, atol=1e-12)
    assert all(isinstance(outcome, Command) for outcome in outcomes[:100])
    assert outcomes[105].reason == 'the plan is late'
    assert isinstance(outcomes[-1], Hold) and not outcomes[-1].moving
    assert_limits_hold(from_rest(outcomes), LIMITS, 1e-3)


def test_another_policy_takes_over_without_a_jump():
    loop = started_loop(AnsweringPolicy(lambda call, seen: [[0.004, 0.002]]))
    before = run(loop, 0, 500)
    loop.replace_policy(AnsweringPolicy(lambda call, seen: [[-0.004, 0.002]]))
    after = run(loop, 500, 500)
    assert_limits_hold(from_rest(before + after), LIMITS, 1e-3)
    assert after[-1].velocity[0] < -0.15 and before[-1].velocity[0] > 0.15


def test_an_expert_acts_with_a_share_of_its_own_spread():
    policy = AnsweringPolicy(lambda call, seen: [[0.0, 0.0]])
    loop = started_loop(
        policy, rules={'execution': replace(EXACT, action_noise_scale=1e-4), 'generator': np.random.default_rng(5)}
    )
    run(loop, 0, 1)
    same = np.random.default_rng(5)
    same.random()  # draws the expert
    np.testing.assert_allclose(loop.last_plan.waypoints, 1e-4 * same.standard_normal((3, 2)).cumsum(axis=0), rtol=1e-12)


def test_an_expert_that_keeps_its_direction_continues_and_the_arm_does_not_dither():
    motions = np.array([[[0.002, 0.001]], [[-0.002, 0.001]]])
    policy = AnsweringPolicy(lambda call, seen: motions)
    experts = {
        _expert_changes(policy, Routing(direction_hysteresis=0.9)),
        _expert_changes(policy, Routing(expert_hysteresis=0.5)),
    }
    assert experts == {0}
    assert _expert_changes(policy, Routing()) > 5


def _expert_changes(policy: AnsweringPolicy, routing: Routing) -> int:
    loop = started_loop(policy, rules={'routing': routing})
    acting = [outcome.expert for outcome in run(loop, 0, 600)]
    return int((np.diff(acting) != 0).sum())


def test_a_plan_has_its_tick():
    policy = AnsweringPolicy(gentle_ahead)
    loop = started_loop(policy, observation_horizon=2)
    run(loop, 0, 61)
    plan = loop.last_plan
    assert plan.stamp == 60 * MILLISECOND and plan.expert == 0
    np.testing.assert_array_equal(plan.window, policy.windows[-1])
    np.testing.assert_allclose(plan.waypoints[0] - plan.commanded, gentle(3, None)[0], atol=1e-15)


def test_in_the_shadow_of_another_commander_the_loop_continues_from_what_that_one_sent():
    loop = started_loop(AnsweringPolicy(lambda call, seen: [[0.01, 0.0]]))
    other = np.zeros(2)
    for tick in range(1000):
        loop.observe(tick * MILLISECOND, other)
        outcome = loop.advance(tick * MILLISECOND)
        other = other + [0.5e-3, 0.1e-3] if tick > 500 else other
        loop.follow(other)
    np.testing.assert_allclose(outcome.position, other, atol=5e-3)

"""The control loop at control rate: what is sent, whatever the network, the arm and the clock do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import (
    EXACT,
    LIMITS,
    MILLISECOND,
    AnsweringPolicy,
    assert_limits_hold,
    from_rest,
    gentle,
    new_loop,
    positions_of,
    run,
    started_loop,
)

from vdd_ros.control.control_loop import STALL, Command, Hold, Stop
from vdd_ros.control.execution import Execution
from vdd_ros.control.freshness import Freshness
from vdd_ros.control.limits import Limits
from vdd_ros.control.ood import OodRules, Threshold
from vdd_ros.control.start_gate import StartGate
from vdd_ros.policy.routing import Routing


def test_a_thread_that_hurries_does_not_hurry_the_arm():
    loop = started_loop(AnsweringPolicy(gentle))
    run(loop, 0, 500)
    late = 510 * MILLISECOND
    loop.observe(late, loop.commanded)
    burst = [loop.decide(late + nanoseconds) for nanoseconds in range(0, 100_000, 10_000)]
    assert all(outcome.position is burst[0].position for outcome in burst)


def test_a_clock_that_is_set_back_a_little_does_not_make_the_arm_wait():
    loop = started_loop(AnsweringPolicy(lambda call, seen: [[0.01, 0.005]]))
    before = run(loop, 0, 1000)
    after = run(loop, 960, 60)
    np.testing.assert_allclose(after[-1].position - before[-1].position, [0.03, 0.015], atol=2e-3)
    assert loop.counters().resets == 0
    assert_limits_hold(from_rest(before + after[1:]), LIMITS, 1e-3)


def test_jitter_of_the_deadlines_does_not_reach_the_arm():
    generator = np.random.default_rng(0)
    loop = started_loop(AnsweringPolicy(lambda call, seen: [[0.01, 0.005]]))
    positions = []
    for tick in range(3000):
        now = tick * MILLISECOND + int(min(generator.exponential(60_000), 400_000))
        loop.observe(now, loop.commanded)
        positions.append(loop.advance(now).position)
    # Constant velocity: a command per deadline, each as long as the others to a few thousandths.
    steps = np.diff(np.array(positions)[1000:], axis=0)
    np.testing.assert_allclose(steps, np.tile([0.5e-3, 0.25e-3], (len(steps), 1)), rtol=5e-3)


def test_age_warns_then_coasts_then_stops_under_control_and_continues_when_measurements_are_back():
    freshness = Freshness(60 * MILLISECOND, warn_age=30 * MILLISECOND, coast=30 * MILLISECOND)
    policy = AnsweringPolicy(lambda call, seen: np.full((8, 2), 0.006))
    rules = {'freshness': freshness, 'execution': replace(EXACT, coast_steps=7)}
    loop = started_loop(policy, rules=rules, prediction_horizon=8)
    before = run(loop, 0, 500)
    silent = run(loop, 500, 300, received=False)
    assert before[-1].reason == '' and silent[20].reason == ''
    assert 'joint state 0.0' in silent[40].reason
    assert isinstance(silent[80], Command) and 'no joint state for' in silent[80].reason
    assert all(isinstance(outcome, Hold) for outcome in silent[91:])
    assert silent[92].moving and not silent[-1].moving
    # What was planned before is void: the arm waits for a plan, and goes on from where it has stopped.
    after = run(loop, 800, 1, plans=False)
    assert isinstance(after[0], Hold) and after[0].reason == 'no plan'
    after += run(loop, 801, 1)
    np.testing.assert_array_equal(loop.last_plan.commanded, silent[-1].position)
    after += run(loop, 802, 300)
    assert isinstance(after[-1], Command)
    assert_limits_hold(from_rest(before + silent + after), LIMITS, 1e-3)


def test_a_stop_for_want_of_measurements_waits_for_a_person_if_it_should():
    loop = started_loop(AnsweringPolicy(gentle), rules={'freshness': Freshness(60 * MILLISECOND, latched=True)})
    run(loop, 0, 300)
    assert isinstance(run(loop, 300, 100, received=False)[-1], Stop)
    assert isinstance(run(loop, 400, 50)[-1], Stop)
    assert loop.resume(449 * MILLISECOND) is None
    assert isinstance(run(loop, 450, 50)[-1], Command)


def test_a_plan_that_was_being_made_when_the_arm_was_stopped_is_not_carried_out_after_it():
    def answer(call: int, seen: np.ndarray) -> list:
        if call == 5:
            loop.stop('asked to')
            run(loop, 101, 50, plans=False)
            assert loop.resume(150 * MILLISECOND) is None
        return [[0.0, 0.0]] if call > 5 else [[0.0001, 0.00005]]

    loop = started_loop(AnsweringPolicy(answer))
    run(loop, 0, 101)
    stopped = loop.commanded
    assert isinstance(loop.decide(151 * MILLISECOND), Hold)
    assert isinstance(run(loop, 152, 100)[-1], Command)
    np.testing.assert_allclose(loop.commanded, stopped, atol=1e-9)


@pytest.mark.parametrize('bad', [np.nan, np.inf, 1e308])
def test_one_bad_number_of_any_expert_or_of_its_spread_stops_the_arm(bad):
    policy = AnsweringPolicy(lambda call, seen: [[[0.002, 0.001]], [[0.002, bad if call == 20 else 0.001]]])
    outcomes = run(started_loop(policy, rules={'routing': Routing(pinned=0)}), 0, 500)
    assert isinstance(outcomes[-1], Stop) and 'not finite' in outcomes[-1].reason
    assert_limits_hold(from_rest(outcomes), LIMITS, 1e-3)
    spread = AnsweringPolicy(lambda call, seen: [[0.002, 0.001]])
    spread.deviation = lambda experts, expert, generator: np.full((3, 2), bad)
    outcomes = run(started_loop(spread, rules={'execution': replace(EXACT, action_noise_scale=1.0)}), 0, 50)
    assert isinstance(outcomes[-1], Stop)
    np.testing.assert_array_equal(positions_of(outcomes), 0)


def test_a_stop_is_a_motion_and_resuming_continues_from_there():
    loop = started_loop(AnsweringPolicy(lambda call, seen: [[0.02, 0.01]]))
    before = run(loop, 0, 800)
    loop.stop('asked to')
    stopped = run(loop, 800, 400)
    assert all(isinstance(outcome, Stop) and outcome.reason == 'asked to' for outcome in stopped)
    assert stopped[0].moving and not stopped[-1].moving
    assert loop.resume(1199 * MILLISECOND) is None
    after = run(loop, 1200, 300)
    assert isinstance(after[-1], Command)
    assert_limits_hold(from_rest(before + stopped + after), LIMITS, 1e-3)
    # The quickest stop: speed over acceleration, and acceleration over jerk, to within a few steps of rounding up.
    moving = sum(outcome.moving for outcome in stopped) * 1e-3
    speed = np.abs(before[-1].velocity)
    np.testing.assert_allclose(
        moving, (speed / LIMITS.acceleration + LIMITS.acceleration / LIMITS.jerk).max(), atol=4e-3
    )


def test_resuming_is_refused_without_measurements_and_far_from_the_command():
    loop = started_loop(AnsweringPolicy(gentle))
    assert new_loop(AnsweringPolicy(gentle)).resume(0) == 'not started'
    run(loop, 0, 100)
    loop.stop('asked to')
    assert 'no joint state for' in loop.resume(900 * MILLISECOND)
    loop.observe(900 * MILLISECOND, np.full(2, 0.9))
    assert 'from the command' in loop.resume(900 * MILLISECOND)
    assert isinstance(loop.decide(900 * MILLISECOND), Stop)


def test_time_set_back_is_a_reset_that_continues_from_the_command():
    policy = AnsweringPolicy(gentle)
    loop = started_loop(policy, observation_horizon=2)
    before = run(loop, 5000, 700)
    calls = policy.calls
    loop.observe(100 * MILLISECOND, loop.commanded)
    after = run(loop, 100, 400)
    assert loop.counters().resets == 1
    assert isinstance(after[-1], Command)
    assert_limits_hold(from_rest(before + after), LIMITS, 1e-3)
    first = policy.windows[calls]
    np.testing.assert_array_equal(first[0], first[1])  # the history begins anew


def test_a_first_waypoint_far_away_is_refused():
    loop = started_loop(AnsweringPolicy(lambda call, seen: [[1.0, 0.0]]), action_mode='absolute')
    outcomes = run(loop, 0, 50)
    assert isinstance(outcomes[-1], Stop) and '1 rad away on joint 0' in outcomes[-1].reason
    np.testing.assert_array_equal(positions_of(outcomes), 0)


def test_or_approached_slowly_before_the_policy_acts():
    gate = StartGate(threshold=0.2, mode='approach', speed=0.5)
    policy = AnsweringPolicy(lambda call, seen: [[1.0, -0.5]])
    loop = started_loop(policy, action_mode='absolute', rules={'start_gate': gate})
    outcomes = run(loop, 0, 4000)
    positions = positions_of(outcomes)
    assert outcomes[500].reason == 'approaching the first waypoint' and policy.calls > 1
    assert np.abs(np.diff(positions, axis=0)).max() <= 0.5e-3 * 1.02
    np.testing.assert_allclose(positions[-1], [1.0, -0.5], atol=1e-9)
    np.testing.assert_allclose(positions[:, 1], -0.5 * positions[:, 0], atol=1e-9)


def test_a_plan_that_breaks_a_limit_is_refused_as_a_whole_if_it_should_be():
    limits = Limits(LIMITS.lower, LIMITS.upper, LIMITS.velocity, 0.5, LIMITS.acceleration, LIMITS.jerk, mode='reject')
    wild = {30: [[0.2, 0.0]]}
    policy = AnsweringPolicy(lambda call, seen: wild.get(call, gentle(call, seen)))
    loop = started_loop(policy, rules={'limits': limits})
    outcomes = run(loop, 0, 1000)
    assert loop.counters().rejected == 1
    reasons = {outcome.reason for outcome in outcomes}
    assert 'plan refused: velocity 10 rad/s of joint 0, which has -2.2 to 2.2' in reasons
    assert outcomes[-1].reason == ''
    assert_limits_hold(from_rest(outcomes), LIMITS, 1e-3)


def test_an_observation_out_of_distribution_slows_the_arm_down_then_stops_it_and_reports_it():
    ood_rules = OodRules({'density': Threshold(-1.0, -2.0, -4.0)}, plans=0.1, least_speed=0.25)
    policy = AnsweringPolicy(lambda call, seen: [[0.01, 0.005]])
    loop = started_loop(policy, rules={'ood_rules': ood_rules})
    fine = run(loop, 0, 600)
    policy.density = -3.999
    slow = run(loop, 600, 2000)
    np.testing.assert_allclose(slow[-1].velocity, fine[-1].velocity * 0.25, rtol=0.02)
    assert slow[-1].reason.startswith('out of distribution, slow: density -4')
    assert loop.counters().level == 'slow'
    policy.density = -5.0
    stopped = run(loop, 2600, 600)
    assert isinstance(stopped[-1], Stop) and 'out of distribution, stop' in stopped[-1].reason
    assert_limits_hold(from_rest(fine + slow + stopped), LIMITS, 1e-3)
    # What was done in a step is judged by the plan before it: at any speed, the policy sees its own steps.
    np.testing.assert_allclose(policy.done[20:], np.tile([0.01, 0.005], (len(policy.done) - 20, 1)), rtol=0.1)


def test_a_plan_is_carried_out_while_it_is_still_judged():
    ood_rules = OodRules({'density': Threshold(-1.0, -2.0, -4.0)}, plans=0.1)
    policy, meanwhile = AnsweringPolicy(gentle), []
    loop = started_loop(policy, rules={'ood_rules': ood_rules})

    def signals(window: np.ndarray, experts: object, at_full_speed: object) -> dict[str, float]:
        meanwhile.append(loop.decide(MILLISECOND))
        return {'density': -9.0}

    policy.signals = signals
    loop.observe(0, np.zeros(2))
    assert isinstance(loop.decide(0), Hold) and loop.plan()
    assert isinstance(meanwhile[0], Command)
    assert isinstance(loop.decide(2 * MILLISECOND), Stop)  # what the judgement says goes for the next command


def test_or_is_only_reported_if_that_is_what_is_wanted():
    ood_rules = OodRules({'density': Threshold(-1.0, -2.0, -4.0)}, plans=0.1, acts=False)
    policy = AnsweringPolicy(lambda call, seen: [[0.002, 0.001]])
    policy.density = -9.0
    outcome = run(started_loop(policy, rules={'ood_rules': ood_rules}), 0, 500)[-1]
    assert isinstance(outcome, Command) and outcome.reason.startswith('out of distribution, stop')
    np.testing.assert_allclose(outcome.velocity, [0.1, 0.05], rtol=1e-3)


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(['delta', 'absolute', 'velocity']), st.sampled_from([3, 6]))
def test_no_fault_of_policy_arm_or_clock_breaks_a_limit(seed, mode, horizon):
    """Some 10 000 random chunks over all examples: NaN, jumps, late plans, silence, bursts, stops, resets of time."""
    generator = np.random.default_rng(seed)
    scale = {'delta': 0.01, 'absolute': 1.0, 'velocity': 0.5}[mode]

    def answer(call: int, seen: np.ndarray) -> np.ndarray:
        chunk = generator.normal(0, scale, (3, horizon, 2)) * generator.choice([0.1, 1, 1, 100])
        if generator.random() < 0.02:
            chunk[generator.integers(3), -1, generator.integers(2)] = generator.choice([np.nan, np.inf, 1e308])
        return chunk

    loop = started_loop(
        AnsweringPolicy(answer),
        action_mode=mode,
        prediction_horizon=horizon,
        rules={
            'control_period': 4 * MILLISECOND,
            'start_gate': StartGate(threshold=9.0),
            'execution': Execution(replan_steps=1, action_noise_scale=generator.choice([0.0, 0.1]) * scale),
        },
    )
    start = generator.uniform(LIMITS.lower, LIMITS.upper)
    loop.start(0, start)
    now, decided, commands, planned, count = 0, 0, [start], 0, 0
    while planned < 90 and count < 1500:
        fault = generator.choice(['none', 'silence', 'nan', 'back', 'burst', 'late', 'stop'], p=[0.9] + [0.1 / 6] * 6)
        if fault == 'back':
            now -= int(generator.integers(0, 500)) * MILLISECOND
        elif fault == 'late':
            now += int(generator.integers(0, 300)) * MILLISECOND
        elif fault == 'stop':
            loop.stop('asked to')
        for _ in range(generator.integers(1, 12)):
            measured = loop.commanded + generator.normal(0, 0.01, 2)
            if fault != 'silence':
                loop.observe(now, np.full(2, np.nan) if fault == 'nan' else measured)
            planned += generator.random() < 0.7 and loop.plan()
            if now - decided > STALL:  # commands ceased for so long that the arm has come to rest
                assert_limits_hold(np.array(commands), LIMITS, 4e-3)
                commands = commands[-1:]
            outcome, decided = loop.decide(now), now
            # A repeated command is the very same array.
            if outcome.position is not commands[-1]:
                commands.append(outcome.position)
                count += 1
            now += 4 * MILLISECOND if fault != 'burst' else 10_000
        if isinstance(outcome, Stop):
            loop.resume(now)
    assert_limits_hold(np.array(commands), LIMITS, 4e-3)


def test_joint_states_of_an_hour_ago_brake_the_arm_within_its_limits():
    """They set the time of the measurements back, not that of the commands: the arm has not stood still meanwhile."""
    loop = started_loop(AnsweringPolicy(lambda call, seen: [[0.002, 0.001]]))
    outcomes = run(loop, 0, 400)
    assert outcomes[-1].velocity[0] > 0.09
    for tick in range(400, 800):
        loop.observe((tick - 3_600_000) * MILLISECOND, loop.commanded)
        outcomes.append(loop.decide(tick * MILLISECOND))
    assert not outcomes[-1].moving
    assert_limits_hold(from_rest(outcomes), LIMITS, 1e-3)

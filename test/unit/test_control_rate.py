"""The control loop where commands leave faster than plans: what is sent, whatever network, arm and clock do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tracker import assert_limits_hold

from vdd_ros.contract import Contract, load_contract
from vdd_ros.control.control_loop import Command, ControlLoop, Hold, Stop
from vdd_ros.control.execution import Execution
from vdd_ros.control.freshness import Freshness
from vdd_ros.control.limits import Limits
from vdd_ros.control.novelty import Novelty, Threshold
from vdd_ros.control.routing import Routing
from vdd_ros.control.start_gate import StartGate
from vdd_ros.kinematics import POSITION_TOLERANCE, Kinematics

MILLISECOND = 1_000_000
POLICY_PERIOD = 20 * MILLISECOND
LIMITS = Limits(
    np.array([-2.8, -1.0]),
    np.array([2.8, 1.5]),
    np.array([2.2, 1.0]),
    0.5,
    acceleration=np.array([10.0, 6.0]),
    jerk=np.array([5000.0, 2000.0]),
)


@dataclass(frozen=True)
class _Answer:
    log_gating: np.ndarray
    mean: np.ndarray


class _Policy:
    """Answers with what a function makes of the number of the call and the newest observation, shape (expert, ...)."""

    def __init__(self, answer) -> None:
        self.calls = 0
        self.windows: list[np.ndarray] = []
        self.familiarity = 0.0
        self.done: list[np.ndarray] = []
        self._answer = answer

    def experts(self, observation: np.ndarray) -> _Answer:
        self.windows.append(observation[0])
        mean = np.asarray(self._answer(self.calls, observation[0, -1]), dtype=float)
        self.calls += 1
        mean = mean.reshape(-1, *mean.shape[-2:])
        return _Answer(np.full((1, len(mean)), -np.log(len(mean))), mean[None])

    def deviation(self, experts: _Answer, expert: int, generator: np.random.Generator) -> np.ndarray:
        return generator.standard_normal(experts.mean.shape[2:])

    def signals(self, observation: np.ndarray, experts: _Answer) -> dict[str, float]:
        return {'familiarity': self.familiarity}

    def likelihood(self, experts: _Answer, done: np.ndarray) -> float:
        self.done.append(done)
        return 0.0


def _contract(**change) -> Contract:
    values = load_contract('avoiding_joint').model_dump(mode='json')
    values['robot']['joints'] = ['a', 'b']
    return Contract.model_validate(
        {**values, 'schema_version': 2, 'policy_rate': 50.0, 'observation_horizon': 1, **change}
    )


def _loop(policy: _Policy, *, rules: dict | None = None, **change) -> ControlLoop:
    return ControlLoop(
        _contract(**change),
        policy,
        None,
        **{
            'limits': LIMITS,
            'freshness': Freshness(100 * MILLISECOND),
            'routing': Routing(),
            'generator': np.random.default_rng(0),
            'control_period': MILLISECOND,
            'execution': Execution(spread=0.0),
            **(rules or {}),
        },
    )


def _run(loop: ControlLoop, first: int, count: int, *, heard: bool = True, plans: bool = True) -> list:
    """Tick by tick [ms]: hear the arm where it was commanded, plan at once if a plan is wanted, and decide."""
    outcomes = []
    for tick in range(first, first + count):
        if heard:
            loop.observe(tick * MILLISECOND, loop.commanded)
        outcomes.append(loop.advance(tick * MILLISECOND) if plans else loop.decide(tick * MILLISECOND))
    return outcomes


def _run_beside(policy: _Policy, count: int, latency: int, **change) -> tuple[ControlLoop, list]:
    """Let inference take so long [ms]: the loop goes on ticking within it, as another thread would let it."""
    outcomes = []

    def infer(call: int, seen: np.ndarray) -> list:
        answer = policy.experts(seen[None, None]).mean[0]
        for _ in range(min(latency, count - len(outcomes))):
            tick()
        return answer

    def tick() -> None:
        now = len(outcomes) * MILLISECOND
        loop.observe(now, loop.commanded)
        outcomes.append(loop.decide(now))

    loop = _started(_Policy(infer), **change)
    while len(outcomes) < count:
        tick()
        loop.plan()
    return loop, outcomes


def _started(policy: _Policy, position: float = 0.0, **change) -> ControlLoop:
    loop = _loop(policy, **change)
    loop.start(0, np.full(2, position))
    return loop


def _positions(outcomes: list) -> np.ndarray:
    return np.array([outcome.position for outcome in outcomes])


def _from_rest(outcomes: list) -> np.ndarray:
    """Put the anchor, at which nearly all tests begin, before the commands."""
    return np.concatenate([np.zeros((1, 2)), _positions(outcomes)])


def _sine(call: int, _: np.ndarray) -> list:
    """Ask for steps of a motion that begins gently."""
    time = call * 0.02
    return [[0.01 * np.sin(time) ** 2, -0.005 * np.sin(time) ** 2]]


def test_each_waypoint_is_reached_by_the_next_tick_and_between_them_the_motion_is_smooth():
    loop = _started(_Policy(_sine))
    outcomes = _run(loop, 0, 4000)
    positions = _positions(outcomes)
    expected = np.cumsum([_sine(call, None)[0] for call in range(200)], axis=0)
    np.testing.assert_allclose(positions[19::20], expected, atol=1e-12)
    assert_limits_hold(_from_rest(outcomes), LIMITS, 1e-3)
    assert all(isinstance(outcome, Command) and not outcome.clamped for outcome in outcomes)
    # What interpolation adds to the motion's own jerk of 1 rad/s^3 is little beside what the arm is allowed.
    assert (np.abs(np.diff(positions, 3, axis=0)).max(axis=0) / 1e-9 < LIMITS.jerk / 50).all()


@pytest.mark.parametrize('milliseconds', [20, 5, 1])
def test_what_the_policy_sees_does_not_depend_on_how_many_commands_lead_to_a_waypoint(milliseconds):
    policy = _Policy(_sine)
    loop = _started(policy, rules={'control_period': milliseconds * MILLISECOND}, observation_horizon=2)
    for now in range(0, 2000, milliseconds):
        loop.observe(now * MILLISECOND, loop.commanded)
        loop.advance(now * MILLISECOND)
    reached = np.cumsum([_sine(call, None)[0] for call in range(99)], axis=0)
    np.testing.assert_allclose([window[-1, 2:] for window in policy.windows[1:]], reached, atol=1e-12)


def test_a_plan_in_tool_space_moves_the_tool_and_holds_what_it_does_not_command():
    contract = load_contract('avoiding_cartesian')
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
        _Policy(lambda call, seen: [[0.0, 1e-4 * min(call, 20)]]),
        kinematics,
        limits=limits,
        freshness=Freshness(100 * MILLISECOND),
        routing=Routing(),
        generator=np.random.default_rng(0),
        control_period=5 * MILLISECOND,
        execution=Execution(spread=0.0),
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
    loop, outcomes = _run_beside(_Policy(_sine), 4000, latency)
    assert_limits_hold(_from_rest(outcomes), LIMITS, 1e-3)
    expected = np.sum([_sine(call, None)[0] for call in range(200)], axis=0)
    np.testing.assert_allclose(outcomes[-1].position, expected, rtol=0.03)
    assert loop.counters().late_steps == loop.counters().missed == 0
    # The motion's own acceleration is at most 0.5 rad/s^2.
    assert np.abs(np.diff(_positions(outcomes), 2, axis=0)).max() / 1e-6 < 2.0


def test_steps_that_time_has_passed_are_dropped_and_the_others_come_at_their_time():
    policy = _Policy(lambda call, seen: np.arange(1, 9)[:, None] * [2e-5, 1e-5])
    loop, outcomes = _run_beside(policy, 125, 50, action_mode='absolute', prediction_horizon=8, action_horizon=8)
    assert loop.counters().late_steps == 2
    positions = _positions(outcomes)
    np.testing.assert_allclose(positions[[79, 99, 119]], np.array([4, 5, 6])[:, None] * [2e-5, 1e-5], atol=1e-9)
    assert isinstance(outcomes[49], Hold) and outcomes[49].reason == 'no plan'


def test_ticks_that_find_the_planner_busy_are_counted_and_seen_all_the_same():
    loop, _ = _run_beside(_Policy(lambda call, seen: [[2e-5, 0.0]]), 400, 45)
    counters = loop.counters()
    # Of 20 ticks every third one or so finds the planner free; the newest of those that wait is answered then.
    assert 5 < counters.plans < 10 and counters.missed >= 10
    assert counters.plans + counters.missed >= 19


def test_while_a_plan_is_late_the_rest_of_the_chunk_is_done_and_then_the_arm_comes_to_rest():
    policy = _Policy(lambda call, seen: np.full((6, 2), 0.0004))
    loop = _started(
        policy, prediction_horizon=6, action_horizon=2, rules={'execution': Execution(coast_steps=3, spread=0.0)}
    )
    outcomes = _run(loop, 0, 1) + _run(loop, 1, 600, plans=False)
    positions = _positions(outcomes)
    # Two steps are due and three more are there to coast on; the sixth is not looked at.
    np.testing.assert_allclose(positions[99], 5 * 0.0004, atol=1e-12)
    assert all(isinstance(outcome, Command) for outcome in outcomes[:100])
    assert outcomes[105].reason == 'the plan is late'
    assert isinstance(outcomes[-1], Hold) and not outcomes[-1].moving
    assert_limits_hold(_from_rest(outcomes), LIMITS, 1e-3)


def test_a_thread_that_hurries_does_not_hurry_the_arm():
    loop = _started(_Policy(_sine))
    _run(loop, 0, 500)
    late = 510 * MILLISECOND
    loop.observe(late, loop.commanded)
    burst = [loop.decide(late + nanoseconds) for nanoseconds in range(0, 100_000, 10_000)]
    assert all(outcome.position is burst[0].position for outcome in burst)


def test_a_clock_that_is_set_back_a_little_does_not_make_the_arm_wait():
    loop = _started(_Policy(lambda call, seen: [[0.01, 0.005]]))
    before = _run(loop, 0, 1000)
    after = _run(loop, 960, 60)
    np.testing.assert_allclose(after[-1].position - before[-1].position, [0.03, 0.015], atol=2e-3)
    assert loop.counters().resets == 0
    assert_limits_hold(_from_rest(before + after[1:]), LIMITS, 1e-3)


def test_jitter_of_the_deadlines_does_not_reach_the_arm():
    generator = np.random.default_rng(0)
    loop = _started(_Policy(lambda call, seen: [[0.01, 0.005]]))
    positions = []
    for tick in range(3000):
        now = tick * MILLISECOND + int(min(generator.exponential(60_000), 400_000))
        loop.observe(now, loop.commanded)
        positions.append(loop.advance(now).position)
    # Constant velocity: a command per deadline, each as long as the others to a few thousandths.
    steps = np.diff(np.array(positions)[1000:], axis=0)
    np.testing.assert_allclose(steps, np.tile([0.5e-3, 0.25e-3], (len(steps), 1)), rtol=5e-3)


def test_age_warns_then_coasts_then_stops_under_control_and_goes_on_when_measurements_are_back():
    freshness = Freshness(60 * MILLISECOND, warn_age=30 * MILLISECOND, coast=30 * MILLISECOND)
    policy = _Policy(lambda call, seen: np.full((8, 2), 0.006))
    rules = {'freshness': freshness, 'execution': Execution(coast_steps=7, spread=0.0)}
    loop = _started(policy, rules=rules, prediction_horizon=8)
    before = _run(loop, 0, 500)
    silent = _run(loop, 500, 300, heard=False)
    assert before[-1].reason == '' and silent[20].reason == ''
    assert 'joint state 0.0' in silent[40].reason
    assert isinstance(silent[80], Command) and 'no joint state for' in silent[80].reason
    assert all(isinstance(outcome, Hold) for outcome in silent[91:])
    assert silent[92].moving and not silent[-1].moving
    # What was planned before is void: the arm waits for a plan, and goes on from where it has stopped.
    after = _run(loop, 800, 1, plans=False)
    assert isinstance(after[0], Hold) and after[0].reason == 'no plan'
    after += _run(loop, 801, 1)
    np.testing.assert_array_equal(loop.last_plan.commanded, silent[-1].position)
    after += _run(loop, 802, 300)
    assert isinstance(after[-1], Command)
    assert_limits_hold(_from_rest(before + silent + after), LIMITS, 1e-3)


def test_a_stop_for_want_of_measurements_waits_for_a_person_if_it_should():
    loop = _started(_Policy(_sine), rules={'freshness': Freshness(60 * MILLISECOND, latched=True)})
    _run(loop, 0, 300)
    assert isinstance(_run(loop, 300, 100, heard=False)[-1], Stop)
    assert isinstance(_run(loop, 400, 50)[-1], Stop)
    assert loop.resume(449 * MILLISECOND) is None
    assert isinstance(_run(loop, 450, 50)[-1], Command)


def test_a_plan_that_was_being_made_when_the_arm_was_stopped_is_not_carried_out_after_it():
    def answer(call: int, seen: np.ndarray) -> list:
        if call == 5:
            loop.stop('asked to')
            _run(loop, 101, 50, plans=False)
            assert loop.resume(150 * MILLISECOND) is None
        return [[0.0, 0.0]] if call > 5 else [[0.002, 0.001]]

    loop = _started(_Policy(answer))
    _run(loop, 0, 101)
    stopped = loop.commanded
    assert isinstance(loop.decide(151 * MILLISECOND), Hold)
    assert isinstance(_run(loop, 152, 100)[-1], Command)
    np.testing.assert_allclose(loop.commanded, stopped, atol=1e-9)


@pytest.mark.parametrize('bad', [np.nan, np.inf, 1e308])
def test_one_bad_number_of_any_expert_or_of_its_spread_stops_the_arm(bad):
    policy = _Policy(lambda call, seen: [[[0.002, 0.001]], [[0.002, bad if call == 20 else 0.001]]])
    outcomes = _run(_started(policy, rules={'routing': Routing(pinned=0)}), 0, 500)
    assert isinstance(outcomes[-1], Stop) and 'not finite' in outcomes[-1].reason
    assert_limits_hold(_from_rest(outcomes), LIMITS, 1e-3)
    spread = _Policy(lambda call, seen: [[0.002, 0.001]])
    spread.deviation = lambda experts, expert, generator: np.full((1, 2), bad)
    outcomes = _run(_started(spread, rules={'execution': Execution(spread=1.0)}), 0, 50)
    assert isinstance(outcomes[-1], Stop)
    np.testing.assert_array_equal(_positions(outcomes), 0)


def test_a_stop_is_a_motion_and_resuming_goes_on_from_there():
    loop = _started(_Policy(lambda call, seen: [[0.02, 0.01]]))
    before = _run(loop, 0, 800)
    loop.stop('asked to')
    stopped = _run(loop, 800, 400)
    assert all(isinstance(outcome, Stop) and outcome.reason == 'asked to' for outcome in stopped)
    assert stopped[0].moving and not stopped[-1].moving
    assert loop.resume(1199 * MILLISECOND) is None
    after = _run(loop, 1200, 300)
    assert isinstance(after[-1], Command)
    assert_limits_hold(_from_rest(before + stopped + after), LIMITS, 1e-3)
    # The quickest stop: speed over acceleration, and acceleration over jerk, to within a few steps of rounding up.
    moving = sum(outcome.moving for outcome in stopped) * 1e-3
    speed = np.abs(before[-1].velocity)
    np.testing.assert_allclose(
        moving, (speed / LIMITS.acceleration + LIMITS.acceleration / LIMITS.jerk).max(), atol=4e-3
    )


def test_resuming_is_refused_without_measurements_and_far_from_the_command():
    loop = _started(_Policy(_sine))
    assert _loop(_Policy(_sine)).resume(0) == 'not started'
    _run(loop, 0, 100)
    loop.stop('asked to')
    assert 'no joint state for' in loop.resume(900 * MILLISECOND)
    loop.observe(900 * MILLISECOND, np.full(2, 0.9))
    assert 'from the command' in loop.resume(900 * MILLISECOND)
    assert isinstance(loop.decide(900 * MILLISECOND), Stop)


def test_time_set_back_is_a_reset_that_goes_on_from_the_command():
    policy = _Policy(_sine)
    loop = _started(policy, observation_horizon=2)
    before = _run(loop, 5000, 700)
    calls = policy.calls
    loop.observe(100 * MILLISECOND, loop.commanded)
    after = _run(loop, 100, 400)
    assert loop.counters().resets == 1
    assert isinstance(after[-1], Command)
    assert_limits_hold(_from_rest(before + after), LIMITS, 1e-3)
    first = policy.windows[calls]
    np.testing.assert_array_equal(first[0], first[1])  # the history begins anew


def test_a_first_waypoint_far_away_is_refused():
    loop = _started(_Policy(lambda call, seen: [[1.0, 0.0]]), action_mode='absolute')
    outcomes = _run(loop, 0, 50)
    assert isinstance(outcomes[-1], Stop) and '1 rad away on joint 0' in outcomes[-1].reason
    np.testing.assert_array_equal(_positions(outcomes), 0)


def test_or_approached_slowly_before_the_policy_acts():
    gate = StartGate(threshold=0.2, mode='approach', speed=0.5)
    policy = _Policy(lambda call, seen: [[1.0, -0.5]])
    loop = _started(policy, action_mode='absolute', rules={'start_gate': gate})
    outcomes = _run(loop, 0, 4000)
    positions = _positions(outcomes)
    assert outcomes[500].reason == 'approaching the first waypoint' and policy.calls > 1
    assert np.abs(np.diff(positions, axis=0)).max() <= 0.5e-3 * 1.02
    np.testing.assert_allclose(positions[-1], [1.0, -0.5], atol=1e-9)
    np.testing.assert_allclose(positions[:, 1], -0.5 * positions[:, 0], atol=1e-9)


def test_a_plan_that_breaks_a_limit_is_refused_as_a_whole_if_it_should_be():
    limits = Limits(LIMITS.lower, LIMITS.upper, LIMITS.velocity, 0.5, LIMITS.acceleration, LIMITS.jerk, mode='reject')
    wild = {30: [[0.2, 0.0]]}
    policy = _Policy(lambda call, seen: wild.get(call, _sine(call, seen)))
    loop = _started(policy, rules={'limits': limits})
    outcomes = _run(loop, 0, 1000)
    assert loop.counters().rejected == 1
    reasons = {outcome.reason for outcome in outcomes}
    assert 'plan refused: velocity 10 rad/s of joint 0, which has -2.2 to 2.2' in reasons
    assert outcomes[-1].reason == ''
    assert_limits_hold(_from_rest(outcomes), LIMITS, 1e-3)


def test_another_policy_takes_over_without_a_jump():
    loop = _started(_Policy(lambda call, seen: [[0.004, 0.002]]))
    before = _run(loop, 0, 500)
    loop.replace_policy(_Policy(lambda call, seen: [[-0.004, 0.002]]))
    after = _run(loop, 500, 500)
    assert_limits_hold(_from_rest(before + after), LIMITS, 1e-3)
    assert after[-1].velocity[0] < -0.15 and before[-1].velocity[0] > 0.15


def test_an_unfamiliar_place_slows_the_arm_down_then_stops_it_and_tells():
    novelty = Novelty({'familiarity': Threshold(-1.0, -2.0, -4.0)}, plans=0.1, least_speed=0.25)
    policy = _Policy(lambda call, seen: [[0.01, 0.005]])
    loop = _started(policy, rules={'novelty': novelty})
    fine = _run(loop, 0, 600)
    policy.familiarity = -3.999
    slow = _run(loop, 600, 2000)
    np.testing.assert_allclose(slow[-1].velocity, fine[-1].velocity * 0.25, rtol=0.02)
    assert slow[-1].reason.startswith('out of distribution, slow: familiarity -4')
    assert loop.counters().level == 'slow'
    policy.familiarity = -5.0
    stopped = _run(loop, 2600, 600)
    assert isinstance(stopped[-1], Stop) and 'out of distribution, stop' in stopped[-1].reason
    assert_limits_hold(_from_rest(fine + slow + stopped), LIMITS, 1e-3)
    # What was done in a step is judged by the plan before it: at any speed, the policy sees its own steps.
    np.testing.assert_allclose(policy.done[20:], np.tile([0.01, 0.005], (len(policy.done) - 20, 1)), rtol=0.1)


def test_or_is_only_told_of_if_that_is_what_is_wanted():
    novelty = Novelty({'familiarity': Threshold(-1.0, -2.0, -4.0)}, plans=0.1, acts=False)
    policy = _Policy(lambda call, seen: [[0.002, 0.001]])
    policy.familiarity = -9.0
    outcome = _run(_started(policy, rules={'novelty': novelty}), 0, 500)[-1]
    assert isinstance(outcome, Command) and outcome.reason.startswith('out of distribution, stop')
    np.testing.assert_allclose(outcome.velocity, [0.1, 0.05], rtol=1e-3)


def test_an_expert_acts_with_a_share_of_its_own_spread():
    policy = _Policy(lambda call, seen: [[0.0, 0.0]])
    loop = _started(policy, rules={'execution': Execution(spread=1e-4), 'generator': np.random.default_rng(5)})
    _run(loop, 0, 1)
    same = np.random.default_rng(5)
    same.random()  # draws the expert
    np.testing.assert_array_equal(loop.last_plan.waypoints, 1e-4 * same.standard_normal((1, 2)))


def test_an_expert_that_leads_the_same_way_goes_on_and_the_arm_does_not_dither():
    ways = np.array([[[0.002, 0.001]], [[-0.002, 0.001]]])
    policy = _Policy(lambda call, seen: ways)
    experts = {_expert_changes(policy, Routing(same_way=0.9)), _expert_changes(policy, Routing(keep_above=0.5))}
    assert experts == {0}
    assert _expert_changes(policy, Routing()) > 5


def _expert_changes(policy: _Policy, routing: Routing) -> int:
    loop = _started(policy, rules={'routing': routing})
    acting = [outcome.expert for outcome in _run(loop, 0, 600)]
    return int((np.diff(acting) != 0).sum())


def test_a_plan_says_what_it_answers():
    policy = _Policy(_sine)
    loop = _started(policy, observation_horizon=2)
    _run(loop, 0, 61)
    plan = loop.last_plan
    assert plan.stamp == 60 * MILLISECOND and plan.expert == 0
    np.testing.assert_array_equal(plan.window, policy.windows[-1])
    np.testing.assert_allclose(plan.waypoints[0] - plan.commanded, _sine(3, None)[0], atol=1e-15)


def test_in_the_shadow_of_another_commander_the_loop_goes_on_from_what_that_one_sent():
    loop = _started(_Policy(lambda call, seen: [[0.01, 0.0]]))
    other = np.zeros(2)
    for tick in range(1000):
        loop.observe(tick * MILLISECOND, other)
        outcome = loop.advance(tick * MILLISECOND)
        other = other + [0.5e-3, 0.1e-3] if tick > 500 else other
        loop.follow(other)
    np.testing.assert_allclose(outcome.position, other, atol=5e-3)


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(['delta', 'absolute', 'velocity']), st.sampled_from([1, 4]))
def test_no_fault_of_policy_arm_or_clock_breaks_a_limit(seed, mode, horizon):
    """Some 10 000 random chunks over all examples: NaN, jumps, late plans, silence, bursts, stops, resets of time."""
    generator = np.random.default_rng(seed)
    scale = {'delta': 0.01, 'absolute': 1.0, 'velocity': 0.5}[mode]

    def answer(call: int, seen: np.ndarray) -> np.ndarray:
        chunk = generator.normal(0, scale, (3, horizon, 2)) * generator.choice([0.1, 1, 1, 100])
        if generator.random() < 0.02:
            chunk[generator.integers(3), -1, generator.integers(2)] = generator.choice([np.nan, np.inf, 1e308])
        return chunk

    loop = _started(
        _Policy(answer),
        action_mode=mode,
        prediction_horizon=horizon,
        rules={
            'control_period': 4 * MILLISECOND,
            'start_gate': StartGate(threshold=9.0),
            'execution': Execution(replan_steps=1, spread=generator.choice([0.0, 0.1]) * scale),
        },
    )
    start = generator.uniform(LIMITS.lower, LIMITS.upper)
    loop.start(0, start)
    now, commands, planned = 0, [start], 0
    while planned < 90 and len(commands) < 1500:
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
            outcome = loop.decide(now)
            # A repeated command is the very same array.
            if outcome.position is not commands[-1]:
                commands.append(outcome.position)
            now += 4 * MILLISECOND if fault != 'burst' else 10_000
        if isinstance(outcome, Stop):
            loop.resume(now)
    assert_limits_hold(np.array(commands), LIMITS, 4e-3)

"""The control loop: what leaves, whatever the network, the arm and the clock do."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import EXACT, ONE_STEP

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.control.control_loop import Command, ControlLoop, Hold, Stop
from vdd_ros.control.execution import Execution
from vdd_ros.control.freshness import Freshness
from vdd_ros.control.limits import Limits
from vdd_ros.policy.routing import Routing

PERIOD = 35_000_000
SECONDS = PERIOD / 1e9
LIMITS = Limits(np.array([-1.0, -2.0]), np.array([1.0, 2.0]), np.array([1.0, 3.0]), lag=0.4)


@dataclass(frozen=True)
class _Answer:
    log_gating: np.ndarray
    mean: np.ndarray


class _Scripted:
    """A policy that gives one answer after the other, then the last for ever."""

    def __init__(self, *steps: object) -> None:
        self.calls = 0
        self._steps = steps

    def experts(self, observation: np.ndarray) -> _Answer:
        step = self._steps[min(self.calls, len(self._steps) - 1)]
        self.calls += 1
        chunk = np.atleast_2d(np.broadcast_to(np.asarray(step, dtype=float), np.broadcast_shapes(np.shape(step), (2,))))
        return _Answer(np.zeros((1, 1)), chunk[None, None])


def _contract(**change) -> Contract:
    values = load_contract('avoiding_joint').model_dump(mode='json')
    values['robot']['joints'] = ['a', 'b']
    return Contract.model_validate({**values, **ONE_STEP, **change})


def _loop(policy: object, execution: Execution = EXACT, **change) -> ControlLoop:
    return ControlLoop(
        _contract(**change),
        policy,
        None,
        limits=LIMITS,
        freshness=Freshness(3 * PERIOD),
        routing=Routing(),
        generator=np.random.default_rng(0),
        execution=execution,
    )


def test_before_start_nothing_moves():
    assert isinstance(_loop(_Scripted(1.0)).decide(0), Stop)


def test_the_first_command_is_anchored_at_the_measured_position():
    loop = _loop(_Scripted([0.01, 0.02]))
    loop.start(0, np.array([0.3, -0.4]))
    outcome = loop.advance(0)
    assert isinstance(outcome, Command) and not outcome.clamped
    np.testing.assert_allclose(outcome.position, [0.31, -0.38])


def test_slowed_down_in_lockstep_the_arm_passes_the_same_waypoints_with_more_commands():
    steps = [[0.01, 0.02], [0.02, -0.01], [-0.03, 0.0]]
    paths = {}
    for speed in (1.0, 0.25):
        policy = _Scripted(*steps)
        loop = _loop(policy, execution=replace(EXACT, speed=speed))
        loop.start(0, np.zeros(2))
        paths[speed] = []
        for tick in range(round(3 / speed)):
            loop.observe(tick * PERIOD, loop.commanded)
            outcome = loop.advance(tick * PERIOD)
            assert isinstance(outcome, Command) and not outcome.clamped and not outcome.reason
            paths[speed].append(outcome.position)
        # The policy is called once for each of its steps, whatever the speed.
        assert policy.calls == 3
    np.testing.assert_array_equal(paths[0.25][3::4], paths[1.0])
    np.testing.assert_allclose(np.diff(paths[0.25], axis=0)[3:7], np.tile([0.005, -0.0025], (4, 1)), atol=1e-12)


def test_between_policy_ticks_the_command_is_repeated_and_the_policy_is_not_called():
    policy = _Scripted(0.01)
    loop = _loop(policy)
    loop.start(0, np.zeros(2))
    first = loop.advance(0)
    again = loop.advance(PERIOD - 1)
    np.testing.assert_array_equal(first.position, again.position)
    assert policy.calls == 1


def test_a_chunk_is_planned_once_and_consumed_step_by_step():
    policy = _Scripted([[0.01, 0.0], [0.02, 0.0], [0.03, 0.0]])
    loop = _loop(policy, prediction_horizon=3, action_horizon=2)
    loop.start(0, np.zeros(2))
    reached = []
    for tick in range(4):
        loop.observe(tick * PERIOD, np.zeros(2))
        reached.append(loop.advance(tick * PERIOD).position[0])
    np.testing.assert_allclose(reached, [0.01, 0.03, 0.04, 0.06])
    assert policy.calls == 2


def test_a_stale_state_holds_and_a_fresh_one_continues_without_a_jump():
    loop = _loop(_Scripted(0.01))
    loop.start(0, np.zeros(2))
    loop.advance(0)
    held = loop.advance(10 * PERIOD)
    assert isinstance(held, Hold) and 'no joint state' in held.reason
    loop.observe(10 * PERIOD, np.zeros(2))
    resumed = loop.advance(10 * PERIOD)
    assert isinstance(resumed, Command)
    np.testing.assert_allclose(resumed.position - held.position, 0.01)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_finite_stops_the_arm_for_good(bad):
    loop = _loop(_Scripted(0.01, [bad, 0.0], 0.01))
    loop.start(0, np.zeros(2))
    before = loop.advance(0)
    loop.observe(PERIOD, np.zeros(2))
    stopped = loop.advance(PERIOD)
    assert isinstance(stopped, Stop) and 'finite' in stopped.reason
    np.testing.assert_array_equal(stopped.position, before.position)
    loop.observe(2 * PERIOD, np.zeros(2))
    assert isinstance(loop.advance(2 * PERIOD), Stop)


def test_a_measurement_that_is_not_finite_counts_as_none():
    loop = _loop(_Scripted(0.01))
    loop.start(0, np.zeros(2))
    loop.advance(0)
    loop.observe(10 * PERIOD, np.array([np.nan, 0.0]))
    assert isinstance(loop.advance(10 * PERIOD), Hold)


def test_stop_holds_the_last_command():
    loop = _loop(_Scripted(0.01))
    loop.start(0, np.zeros(2))
    last = loop.advance(0)
    loop.stop('asked to')
    outcome = loop.advance(PERIOD)
    assert isinstance(outcome, Stop) and outcome.reason == 'asked to'
    np.testing.assert_array_equal(outcome.position, last.position)


_wild = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.floats(-2, 2))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(_wild, _wild, st.floats(-1, 1), st.floats(-2, 2), st.integers(0, 8 * PERIOD), st.booleans()),
        min_size=1,
        max_size=12,
    ),
    st.floats(-1, 1),
    st.floats(-2, 2),
)
def test_whatever_happens_commands_are_finite_and_within_limits(events, first, second):
    now = 0
    policy = _Scripted(*[[a, b] for a, b, *_ in events])
    loop = _loop(policy)
    loop.start(0, np.array([first, second]))
    previous = np.array([first, second])
    for _, _, one, two, wait, received in events:
        if received:
            loop.observe(now, np.array([one, two]))
        outcome = loop.advance(now)
        assert np.isfinite(outcome.position).all()
        assert (LIMITS.lower - 1e-12 <= outcome.position).all() and (outcome.position <= LIMITS.upper + 1e-12).all()
        assert (np.abs(outcome.position - previous) <= LIMITS.velocity * SECONDS + 1e-9).all()
        previous, now = outcome.position, now + wait


def test_limits_that_nothing_can_meet_are_refused():
    with pytest.raises(ConfigurationError):
        Limits(np.ones(1), np.zeros(1), np.ones(1), lag=1.0)


def test_a_command_does_not_run_away_from_a_blocked_arm():
    loop = _loop(_Scripted(0.02))
    loop.start(0, np.zeros(2))
    for tick in range(200):
        loop.observe(tick * PERIOD, np.zeros(2))
        outcome = loop.advance(tick * PERIOD)
    np.testing.assert_allclose(outcome.position, 0.4)
    assert loop.counters().clamps['lag'][0] > 100


def test_a_caller_may_query_the_policy_for_many_arms_at_once():
    chunks = [[0.01, 0.02], [0.03, 0.04]], [[0.02, 0.01], [0.0, 0.01]]
    alone, together = (_loop(_Scripted(*chunks), prediction_horizon=2, action_horizon=2) for _ in range(2))
    policy = _Scripted(*chunks)
    position, requested = np.array([0.1, 0.2]), 0
    for loop in (alone, together):
        loop.start(0, position)
    for step in range(4):
        advancing = together.advancing(step * PERIOD)
        try:
            question = next(advancing)
            requested += 1
            assert question.window.shape == (1, 2, 4) and question.before is None
            advancing.send(policy.experts(question.window))
        except StopIteration as end:
            np.testing.assert_array_equal(end.value.position, alone.advance(step * PERIOD).position)
    assert requested == 2

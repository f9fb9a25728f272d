"""Faulty measurements, an arm that does not follow, a process that was suspended: what the control loop commands."""

from __future__ import annotations

import numpy as np
import pytest
from loops import LIMITS, MILLISECOND, AnsweringPolicy, new_loop

from vdd_ros.control.control_output import Command, Hold, Stop
from vdd_ros.control.measurement_guard import MeasurementGuard

VELOCITY = np.full(2, 2.0)


def guard(continuous=(False, False)) -> MeasurementGuard:
    """Guard two joints of 2 rad/s."""
    return MeasurementGuard(VELOCITY, np.array(continuous))


class Arm:
    """An arm at 1 kHz that is where it is commanded to be, as far as it is not held; and a loop that moves it."""

    def __init__(self, continuous=(False, False), speed: float = 0.004) -> None:
        """Stand at zero; ``speed`` is how far the policy leads in its period of 20 ms [rad]."""
        policy = AnsweringPolicy(lambda call, seen: [[speed, -speed / 2]] * 4)
        change = {'prediction_horizon': 4, 'action_horizon': 1}
        self.loop = new_loop(policy, rules={'guard': guard(continuous)}, **change)
        self.position, self.now = np.zeros(2), 0
        self.loop.start(0, self.position)

    def run(self, count: int, lie=lambda position, number: position, held: bool = False) -> list:
        """Tick so often; ``lie`` makes what is measured of where the arm is."""
        outcomes = []
        for number in range(count):
            self.now += MILLISECOND
            self.loop.observe(self.now, lie(self.position.copy(), number))
            outcomes.append(self.loop.advance(self.now))
            if not held:
                self.position = outcomes[-1].position
        return outcomes


def travel(outcomes: list) -> float:
    """Return how far the commands went [rad]."""
    positions = np.array([outcome.position for outcome in outcomes])
    return float(np.abs(positions - positions[0]).max())


@pytest.mark.parametrize(
    'lie',
    [
        lambda position, number: position + [0.3, 0.0],
        lambda position, number: position + [0.0, 2 * np.pi],
        lambda position, number: np.degrees(position),
        lambda position, number: np.array([position[0], 1e300]),
        lambda position, number: position + (number % 2) * np.array([0.4, 0.4]),
    ],
)
def test_a_position_that_no_arm_can_have_reached_stops_it_with_the_reason(lie):
    arm = Arm()
    before = arm.run(600)
    assert all(isinstance(outcome, Command) for outcome in before[100:])
    # The quickest stop from here, by a loop that is told to stop.
    twin = Arm()
    twin.run(600)
    twin.loop.stop('enough')
    braking = travel(twin.run(400))
    outcomes = arm.run(400, lie)
    assert isinstance(outcomes[-1], Stop) and 'no arm moves so fast' in outcomes[-1].reason
    assert not outcomes[-1].moving
    assert travel(outcomes) < braking + 5e-3


def test_what_is_not_finite_holds_the_arm_at_once_and_only_while_it_lasts():
    arm = Arm()
    arm.run(600)
    outcomes = arm.run(300, lambda position, number: np.array([np.nan, 0.0]))
    assert isinstance(outcomes[0], Hold) and 'joint 0 is measured at nan' in outcomes[0].reason
    assert not outcomes[-1].moving
    assert all(isinstance(outcome, Command) for outcome in arm.run(300)[100:])


def test_noise_and_motion_at_full_speed_are_plausible():
    watch, stamps = guard(), 4_000_000 * np.arange(1, 500)
    generator = np.random.default_rng(0)
    watch.anchor(0, np.zeros(2))
    for stamp in stamps.tolist():
        assert not watch.judge(stamp, 2.0 * stamp / 1e9 + generator.normal(0, 0.004, 2))


def test_a_joint_that_turns_without_end_may_wrap():
    arm = Arm(continuous=(True, False))
    arm.run(600)
    outcomes = arm.run(300, lambda position, number: position - [2 * np.pi, 0.0])
    assert all(isinstance(outcome, Command) for outcome in outcomes)
    np.testing.assert_allclose(arm.loop.commanded, arm.position)


def test_an_arm_that_does_not_follow_is_stopped_met_where_it_is_and_moves_on_when_resumed():
    arm = Arm()
    arm.run(600)
    stuck = arm.position.copy()
    outcomes = arm.run(3000, held=True)
    assert isinstance(outcomes[-1], Stop) and 'does not follow' in outcomes[-1].reason
    assert travel(outcomes) < 0.12
    # Nothing leaps when the arm is released.
    np.testing.assert_allclose(outcomes[-1].position, stuck, atol=2e-3)
    assert arm.loop.resume(arm.now) is None
    assert all(isinstance(outcome, Command) for outcome in arm.run(300)[100:])


def test_an_arm_that_lags_behind_its_commands_follows():
    arm, delayed = Arm(), []

    def lagging(position: np.ndarray, number: int) -> np.ndarray:
        delayed.append(position)
        return delayed[max(0, len(delayed) - 100)] + 0.015  # it sags, and is a tenth of a second late

    assert all(isinstance(outcome, Command) for outcome in arm.run(1500, lagging)[100:])


@pytest.mark.parametrize('delay', [0, 60, 125, 200])
def test_an_arm_that_follows_late_through_stops_and_starts_follows(delay):
    """A joint at 1 kHz that goes at 1 rad/s and pauses, again and again; the other one is not commanded."""
    speed = np.clip(8 * np.abs((np.arange(8000) / 1000 + 0.35) % 0.7 - 0.35) - 0.6, 0, 1)
    commands = np.stack([np.cumsum(speed) / 1000, np.zeros(8000)], axis=1)
    watch = guard()
    for tick in range(8000):
        stamp = tick * MILLISECOND
        assert not watch.follow(stamp, commands[tick], stamp, commands[max(tick - delay, 0)])
    here, there, found = commands[-1], commands[-1 - delay], []
    for tick in range(8000, 8700):
        stamp = tick * MILLISECOND
        found.append(watch.follow(stamp, here + [0, 1e-4 * (tick - 8000)], stamp, there))
    assert 'joint 1 does not follow' in next(filter(None, found))


@pytest.mark.parametrize('gap', [21, 50, 100, 250, 1000, 5000])
def test_after_a_stall_motion_begins_from_rest_within_the_limits(gap):
    arm = Arm()
    before = arm.run(600)[-1].position
    arm.now += gap * MILLISECOND
    first = arm.loop.advance(arm.now)  # before any joint state arrives
    commands = np.array([before, before, before, first.position, *(each.position for each in arm.run(600))])
    acceleration = np.abs(np.diff(commands, 2, axis=0)) / 1e-6
    assert (acceleration <= LIMITS.acceleration + 1e-6).all()
    assert np.abs(commands[-1] - before).max() > 0.02

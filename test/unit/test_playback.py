"""Playing commands onto an arm, tick by tick: what is sent, whatever the arm and the recording do."""

from __future__ import annotations

import numpy as np
import pytest

from vdd_ros.control.freshness import Freshness
from vdd_ros.control.limits import Limits
from vdd_ros.errors import ConfigurationError
from vdd_ros.nodes.playback import Playback, Track

PERIOD = 10_000_000
STAMPS = PERIOD * np.arange(101)
TRACK = Track(STAMPS, np.stack([0.5 * np.sin(STAMPS / 1e9), 0.2 * np.cos(STAMPS / 1e9)], axis=1))
HOME = TRACK.positions[0]
LIMITS = Limits(np.full(2, -1.0), np.full(2, 1.0), np.full(2, 2.0), 0.5)


def player(speed: float = 1.0, limits: Limits = LIMITS, track: Track = TRACK, approach: float = 0.2) -> Playback:
    """Make a player at 100 Hz."""
    return Playback(track, limits, Freshness(50_000_000), period=PERIOD, speed=speed, approach=approach)


class Arm:
    """An arm that is where it was told to be, and a clock."""

    def __init__(self, playback: Playback, position: np.ndarray) -> None:
        """Stand somewhere."""
        self.playback, self.position, self.now = playback, position, 1_000_000_000
        playback.start(self.now, position)

    def tick(self, heard: bool = True):
        """Let one period pass."""
        told = self.playback.decide(self.now)
        self.position, self.now = told.position, self.now + PERIOD
        if heard:
            self.playback.observe(self.now, self.position)
        return told

    def play(self, until: str = 'done', most: int = 5000) -> list:
        """Tick until a phase is reached."""
        told = [self.tick()]
        while told[-1].phase != until or self.playback.moving:
            assert len(told) < most
            told.append(self.tick())
        return told


def played(told) -> np.ndarray:
    """Return the commands that are of the episode."""
    return np.array([item.position for item in told if item.phase in ('playing', 'done')])


def test_from_where_it_begins_an_episode_is_played_command_for_command():
    arm = Arm(player(), HOME)
    told = arm.play()
    np.testing.assert_array_equal(played(told)[:101], TRACK.positions)
    assert [item.phase for item in told[:2]] == ['approaching', 'playing']
    assert arm.playback.share == 1 and arm.playback.clamped == 0


@pytest.mark.parametrize('speed', [0.25, 3.0])
def test_a_speed_factor_stretches_time_and_not_the_way(speed):
    told = Arm(player(speed, Limits(np.full(2, -1.0), np.full(2, 1.0), np.full(2, 9.0), 5.0)), HOME).play()
    commands = played(told)
    assert len(commands) == pytest.approx(100 / speed, abs=5)
    times = np.minimum(np.arange(len(commands)) * speed * PERIOD, STAMPS[-1])
    wanted = np.stack([np.interp(times, STAMPS, column) for column in TRACK.positions.T], axis=1)
    np.testing.assert_allclose(commands, wanted, atol=1e-12)


def test_the_way_to_the_first_command_is_slow_and_straight():
    start = HOME + [0.3, -0.6]
    told = Arm(player(approach=0.2), start).play('playing')
    way = np.array([start, *(item.position for item in told[:-1])])
    steps = np.abs(np.diff(way, axis=0)).max(axis=1)
    assert steps.max() <= 0.2 * 0.01 + 1e-12
    assert len(steps) == pytest.approx(0.6 / (0.2 * 0.01), abs=3)
    np.testing.assert_allclose(np.diff(way, axis=0)[:200, 0] / np.diff(way, axis=0)[:200, 1], -0.5, atol=1e-9)
    np.testing.assert_allclose(way[-1], HOME, atol=1e-3)


def test_limits_hold_whatever_was_recorded():
    jump = Track(STAMPS, np.where(STAMPS[:, None] < 50 * PERIOD, 0.0, [0.8, 0.1]))
    arm = Arm(player(track=jump), np.zeros(2))
    told = arm.play()
    assert np.abs(np.diff([item.position for item in told], axis=0)).max() <= 2.0 * 0.01 + 1e-12
    assert arm.playback.clamped > 10
    np.testing.assert_allclose(told[-1].position, [0.8, 0.1])


def test_commands_of_another_arm_are_refused_before_anything_moves():
    with pytest.raises(ConfigurationError, match='commands from -1.000 to 1.000 rad for joint 1; found 1.081 to 2.000'):
        player(track=Track(STAMPS, TRACK.positions * [1.0, 10.0]))


def test_while_the_arm_is_not_heard_it_holds_and_time_stands_still_and_then_goes_on_slowly():
    arm = Arm(player(), HOME)
    for _ in range(40):
        arm.tick()
    phases = [arm.tick(heard=False).phase for _ in range(30)]
    assert phases == ['playing'] * 6 + ['holding'] * 24
    time = arm.playback.time
    arm.playback.observe(arm.now, arm.position)
    again = arm.tick()
    assert again.phase == 'approaching' and 'no joint state' not in again.reason
    assert arm.playback.time == time
    told = arm.play()
    np.testing.assert_allclose(told[-1].position, TRACK.positions[-1])
    assert arm.playback.share == 1


def test_a_stop_brakes_within_the_limits_and_stays():
    limits = LIMITS.tightened(acceleration=np.array(1.0))
    arm = Arm(player(limits=limits), HOME)
    for _ in range(60):
        arm.tick()
    arm.playback.stop('enough')
    told = arm.play('stopped')
    assert told[0].phase == 'stopping' and told[-1].reason == 'enough'
    commands = np.array([item.position for item in told])
    assert np.abs(np.diff(commands, n=2, axis=0)).max() <= 1.0 * 0.01**2 + 1e-12
    np.testing.assert_array_equal(arm.tick().position, told[-1].position)


def test_what_is_not_finite_is_not_heard():
    arm = Arm(player(), HOME)
    for _ in range(5):
        arm.tick()
    for _ in range(7):
        arm.tick(heard=False)
        arm.playback.observe(arm.now, np.array([np.nan, 0.0]))
    assert arm.tick(heard=False).phase == 'holding'

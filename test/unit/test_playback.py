"""An episode as a source of plans: what the control loop sends, whatever the arm and the recording do."""

from __future__ import annotations

import numpy as np
import pytest
from loops import two_joint_contract

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.common.share import share_path
from vdd_ros.contract.contract import load_contract
from vdd_ros.control.control_loop import ControlLoop
from vdd_ros.control.control_output import Command, Hold, Stop
from vdd_ros.control.deployment import Deployment
from vdd_ros.control.freshness import Freshness
from vdd_ros.control.limits import Limits
from vdd_ros.control.playback import NEAR, PathFollower, Playback, Track
from vdd_ros.control.start_gate import StartGate
from vdd_ros.robot.kinematics import Kinematics

PERIOD = 4_000_000
STAMPS = 10_000_000 * np.arange(101)
SHARE = 1 - np.abs(2 * STAMPS / STAMPS[-1] - 1)  # up and down
LIFT = SHARE**3 * (10 - 15 * SHARE + 6 * SHARE**2)
TRACK = Track(STAMPS, np.stack([0.2 * LIFT, -0.1 * LIFT], axis=1))
HOME = TRACK.positions[0]
LIMITS = Limits(np.full(2, -1.0), np.full(2, 1.0), np.full(2, 2.0), 0.5, np.full(2, 10.0), np.full(2, 500.0))


class Arm:
    """An arm that is where it was commanded to be, and a clock."""

    def __init__(self, position=HOME, *, track=TRACK, limits=LIMITS, speed=1.0, approach=0.2, period=PERIOD) -> None:
        """Stand somewhere, under a loop that is started."""
        contract = two_joint_contract()
        lockstep = period >= contract.period
        self.playback = Playback(track, limits, speed)
        self.loop = ControlLoop(
            contract,
            None,
            None,
            limits=limits,
            freshness=Freshness(50_000_000),
            control_period=period,
            start_gate=StartGate(NEAR, 'approach', approach),
            source=self.playback,
            plan_follower=PathFollower(self.playback, limits, period, lockstep=lockstep),
        )
        self.period, self.now, self.position = period, 1_000_000_000, np.array(position, dtype=float)
        self.loop.start(self.now, self.position)

    def tick(self, received: bool = True):
        """Let one period pass."""
        self.now += self.period
        if received:
            self.loop.observe(self.now, self.position)
        outcome = self.loop.advance(self.now)
        self.position = outcome.position
        return outcome

    def play(self, most: int = 5000) -> np.ndarray:
        """Tick until all is played and the arm rests; return the commands, shape (tick, joint)."""
        commands = []
        while not commands or self.playback.share < 1 or self.loop.moving:
            assert len(commands) < most
            commands.append(self.tick().position)
        return np.array(commands)


def assert_within(commands: np.ndarray, limits: Limits = LIMITS, period: int = PERIOD) -> None:
    """See that no difference of the commands exceeds a limit."""
    for order, most in ((1, limits.velocity), (2, limits.acceleration), (3, limits.jerk)):
        assert (np.abs(np.diff(commands, order, axis=0)) / (period / 1e9) ** order <= most * (1 + 1e-6) + 1e-6).all()


def distance_from(track: Track, commands: np.ndarray) -> float:
    """Return how far commands get from the line through a track [rad]."""
    return max(np.abs(track.positions - command).max(axis=1).min() for command in commands)


def test_an_episode_within_the_limits_is_played_as_it_was_recorded():
    arm = Arm()
    commands = arm.play()
    assert len(commands) == pytest.approx(STAMPS[-1] / PERIOD, rel=0.15)
    np.testing.assert_allclose(commands[-1], TRACK.positions[-1], atol=1e-9)
    assert commands[:, 0].max() == pytest.approx(0.2, abs=1e-4)
    np.testing.assert_allclose(commands[:, 1], -0.5 * commands[:, 0], atol=1e-6)
    assert not any(any(joints) for kind, joints in arm.loop.counters().clamps.items())


def test_in_lockstep_commands_are_those_of_the_track_one_by_one():
    slow = Track(20_000_000 * np.arange(51), np.random.default_rng(0).uniform(-0.01, 0.01, (51, 2)))
    free = Limits(np.full(2, -1.0), np.full(2, 1.0), np.full(2, 9.0), 0.5)
    arm = Arm(slow.positions[0], track=slow, limits=free, period=20_000_000)
    np.testing.assert_array_equal(arm.play()[:51], slow.positions)


@pytest.mark.parametrize('speed', [0.25, 1.2])
def test_a_speed_factor_stretches_time_and_not_the_path(speed):
    commands = Arm(speed=speed).play()
    assert len(commands) == pytest.approx(STAMPS[-1] / PERIOD / speed, rel=0.15)
    np.testing.assert_allclose(commands[:, 1], -0.5 * commands[:, 0], atol=1e-4)
    assert_within(commands)


def test_the_approach_is_slow_and_straight():
    start = HOME + [0.3, -0.6]
    arm = Arm(start)
    path = [start]
    while not arm.playback.is_playing:
        outcome = arm.tick()
        path.append(outcome.position)
        assert isinstance(outcome, Command) and outcome.expert == -1
    path = np.array(path)
    assert np.abs(np.diff(path, axis=0)).max() <= 0.2 * PERIOD / 1e9 + 1e-12
    assert_within(path)
    np.testing.assert_allclose((path - start)[:, 0] * 2, -(path - start)[:, 1], atol=2e-3)
    np.testing.assert_allclose(path[-1], HOME, atol=NEAR)


def test_what_is_too_fast_is_played_slower_on_the_same_path():
    stamps = 20_000_000 * np.arange(26)
    lift = 0.5 - 0.5 * np.cos(2 * np.pi * stamps / stamps[-1])
    fast = Track(stamps, np.stack([0.8 * lift, 0.4 * np.sin(np.pi * lift)], axis=1))
    commands = Arm(track=fast).play()
    assert_within(commands)
    dense = np.linspace(0, 1, 2000)
    line = np.stack([0.8 * dense, 0.4 * np.sin(np.pi * dense)], axis=1)
    assert max(np.linalg.norm(line - command, axis=1).min() for command in commands) < 5e-3
    assert len(commands) > 2 * stamps[-1] / PERIOD


def test_an_episode_that_ends_in_motion_comes_to_rest_at_its_last_command():
    moving = Track(STAMPS, np.stack([0.4 * STAMPS / 1e9 * np.minimum(STAMPS / 3e8, 1), 0 * STAMPS], axis=1))
    commands = Arm(track=moving).play()
    assert_within(commands)
    assert commands[:, 0].max() <= moving.positions[-1, 0] + 1e-3
    np.testing.assert_allclose(commands[-1], moving.positions[-1], atol=1e-9)


def test_a_jump_in_the_recording_is_no_jump_of_the_arm():
    jump = Track(STAMPS, np.where(STAMPS[:, None] < 500_000_000, 0.0, [0.8, 0.1]))
    commands = Arm(np.zeros(2), track=jump).play()
    assert_within(commands)
    np.testing.assert_allclose(commands[-1], [0.8, 0.1], atol=1e-9)


def test_commands_of_another_arm_are_refused_before_anything_moves():
    with pytest.raises(ConfigurationError, match='commands from -1.000 to 1.000 .rad or m. for joint 1; found -1.200'):
        Arm(track=Track(STAMPS, TRACK.positions * [1.0, 12.0]))


def test_without_joint_states_it_holds_and_then_continues_from_there():
    arm = Arm()
    commands = [arm.tick().position for _ in range(65)]
    held = [arm.tick(received=False) for _ in range(60)]
    assert isinstance(held[-1], Hold) and not held[-1].moving and 'no joint state' in held[-1].reason
    time = arm.playback.played
    assert 0 < arm.playback.share < 1
    outcome = arm.tick()
    assert arm.playback.played == time and not arm.playback.is_playing
    commands += [*(each.position for each in held), outcome.position, *arm.play()]
    assert_within(np.array(commands))
    np.testing.assert_allclose(commands[-1], TRACK.positions[-1], atol=1e-9)
    assert distance_from(TRACK, commands) < 0.02


def test_a_stop_brakes_within_the_limits_and_stays_until_it_is_resumed():
    arm = Arm()
    commands = [arm.tick().position for _ in range(125)]
    arm.loop.stop('enough')
    stopped = [arm.tick() for _ in range(100)]
    assert all(isinstance(each, Stop) and each.reason == 'enough' for each in stopped) and not stopped[-1].moving
    commands += [each.position for each in stopped]
    assert arm.loop.resume(arm.now) is None
    commands += [*arm.play()]
    assert_within(np.array(commands))
    np.testing.assert_allclose(commands[-1], TRACK.positions[-1], atol=1e-9)


def test_a_coarse_smooth_recording_keeps_the_limits_that_ship_for_a_robot():
    contract = load_contract('fr3_joint')
    kinematics = Kinematics.from_contract(contract)
    stamps = np.arange(0, 5_000_000_001, 50_000_000)  # 20 Hz
    positions = np.tile(0.5 * (kinematics.lower + kinematics.upper), (len(stamps), 1))
    positions[:, 0] += 0.25 * (1 - np.cos(2 * np.pi * 0.2 * stamps / 1e9))
    limits_file = str(share_path('config', 'robots', 'fr3_joint_limits.yaml'))
    for speed in (0.3, 1.0):
        loop, playback = Deployment(joint_limits=limits_file).build_playback(
            contract, Track(stamps, positions), kinematics, period=1_000_000, speed=speed
        )
        loop.start(0, positions[0])
        commands, now = [], 0
        while playback.share < 1 or loop.moving:
            now += 1_000_000
            loop.observe(now, loop.commanded)
            commands.append(loop.advance(now).position[0])
        acceleration = np.abs(np.diff(commands, 2)).max() / 1e-6
        jerk = np.abs(np.diff(commands, 3)).max() / 1e-9
        # The recorded motion itself has .39 rad/s^2.
        assert acceleration < 1.3 * 0.25 * (2 * np.pi * 0.2 * speed) ** 2 + 0.2
        assert jerk <= 50 + 1e-6
        assert len(commands) == pytest.approx(5000 / speed, rel=0.1)

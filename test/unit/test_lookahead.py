"""Commands beyond now: what a trajectory controller is sent, and what it makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from loops import MILLISECOND, AnsweringPolicy, new_loop, two_joint_contract

from vdd_ros.control.control_loop import ControlLoop
from vdd_ros.control.control_output import Command, Hold, Stop
from vdd_ros.control.freshness import Freshness
from vdd_ros.control.limits import Limits
from vdd_ros.control.lookahead import LEAD, CommandWindow
from vdd_ros.control.playback import NEAR, PathFollower, Playback, Track
from vdd_ros.control.start_gate import StartGate
from vdd_ros.sim.trajectory import Trajectory, Waypoint

PERIOD = 10 * MILLISECOND
HORIZON = 0.15
STEPS = 15
LIMITS = Limits(np.full(2, -1.0), np.full(2, 1.0), np.full(2, 2.0), 0.5, np.full(2, 8.0), np.full(2, 80.0))
TIMES = 20 * MILLISECOND * np.arange(150)
TRACK = Track(TIMES, 0.3 * np.stack([1 - np.cos(2e-9 * TIMES), np.sin(1e-9 * TIMES) ** 2], axis=1))


class Arm:
    """An arm that is where it was commanded to be, a loop that plays an episode, and a clock."""

    def __init__(self, track: Track = TRACK) -> None:
        """Stand where the episode begins."""
        playback = Playback(track, LIMITS, 1.0)
        self.loop = ControlLoop(
            two_joint_contract(),
            None,
            None,
            limits=LIMITS,
            freshness=Freshness(50 * MILLISECOND),
            control_period=PERIOD,
            start_gate=StartGate(NEAR, 'approach', 0.3),
            source=playback,
            plan_follower=PathFollower(playback, LIMITS, PERIOD, lockstep=False),
            horizon=HORIZON,
        )
        self.now = 0
        self.loop.start(0, track.positions[0])

    def tick(self, after: int = PERIOD, received: bool = True):
        """Let some time pass."""
        self.now += after
        if received:
            self.loop.observe(self.now, self.loop.commanded)
        return self.loop.advance(self.now)


def trajectory_of(window: CommandWindow) -> Trajectory:
    """Return what a controller carries out, by the rules of joint_trajectory_controller."""
    points = [Waypoint(int(stamp), *row) for stamp, *row in zip(*window.points())]
    return Trajectory(Waypoint(-1, points[0].position), points)


def test_cubics_through_the_points_are_the_spline_of_the_commands_and_keep_their_limits():
    generator = np.random.default_rng(0)
    commands = np.cumsum(np.cumsum(generator.normal(0, 1e-3, (40, 2)), axis=0), axis=0)
    trajectory = trajectory_of(CommandWindow(commands, 0, PERIOD, 0, is_smooth=True))
    stamps = np.arange(LEAD + 1, LEAD + 37, 0.125)
    found = np.array([trajectory.at(round(stamp * PERIOD))[0] for stamp in stamps])
    # The uniform cubic B-spline, by its basis.
    place, share = np.divmod(stamps - LEAD, 1.0)
    share = share[:, None]
    around = commands[place.astype(int)[:, None] + np.arange(-1, 3)]
    basis = [(1 - share) ** 3, 3 * share**3 - 6 * share**2 + 4, 1 + 3 * share * (1 + share - share**2), share**3]
    np.testing.assert_allclose(found, sum(b * around[:, i] for i, b in enumerate(basis)) / 6, atol=1e-12)
    for order in (1, 2, 3):
        greatest = np.abs(np.diff(commands, order, axis=0)).max()
        assert np.abs(np.diff(found, order, axis=0)).max() * 8**order <= greatest * (1 + 1e-6)


def test_what_is_foreseen_is_what_is_commanded_then_and_every_window_keeps_the_limits_and_ends_at_rest():
    arm = Arm()
    outputs = [arm.tick() for _ in range(200)]
    sent = np.array([output.position for output in outputs])
    assert np.abs(np.diff(sent, axis=0)).max() / 0.01 > 0.5
    for place, output in enumerate(outputs[20:170], start=20):
        window = output.window
        assert window.stamp == (place + 1) * PERIOD
        np.testing.assert_array_equal(window.commands[: window.newest + 1], sent[place - window.newest : place + 1])
        ahead = window.commands[window.newest + 1 :]
        np.testing.assert_allclose(ahead[:STEPS], sent[place + 1 : place + 1 + STEPS], atol=1e-12)
        for order, limit in ((1, LIMITS.velocity), (2, LIMITS.acceleration), (3, LIMITS.jerk)):
            assert (np.abs(np.diff(window.commands, order, axis=0)) <= limit * 0.01**order + 1e-12).all()
        np.testing.assert_array_equal(window.commands[-1], window.commands[-3])


def test_a_stop_is_a_short_trajectory_that_decelerates_at_once():
    arm = Arm()
    for _ in range(80):
        before = arm.tick()
    arm.loop.stop('enough')
    output = arm.tick()
    assert isinstance(output, Stop)
    window = output.window
    ahead = window.commands[window.newest :]
    speed = np.abs(np.diff(ahead, axis=0)).max(axis=1)
    assert (np.diff(speed) <= 1e-12).all() and len(ahead) < 40
    rest = ahead[-1]
    while output.moving:
        output = arm.tick()
    np.testing.assert_allclose(output.position, rest, atol=1e-12)
    assert np.abs(before.velocity).max() > 0.3


@pytest.mark.parametrize('missed', [1, 4, 10, 40, 500])
def test_after_missed_ticks_commands_continue_from_where_the_last_trajectory_has_led(missed):
    arm = Arm()
    for _ in range(80):
        before = arm.tick().window
    output = arm.tick((missed + 1) * PERIOD, received=missed < 10)
    led = before.commands[min(before.newest + missed, len(before.commands) - 1)]
    window = output.window
    assert window.stamp == before.stamp + (missed + 1) * PERIOD
    np.testing.assert_allclose(window.commands[window.newest - 1], led, atol=1e-12)
    path = [window.commands, np.array([arm.tick().position for _ in range(60)])]
    path = np.concatenate([path[0][: window.newest + 1], path[1]])
    for order, limit in ((1, LIMITS.velocity), (2, LIMITS.acceleration), (3, LIMITS.jerk)):
        assert (np.abs(np.diff(path, order, axis=0)) <= limit * 0.01**order + 1e-12).all()
    assert isinstance(arm.tick(), Command)


def test_deadlines_that_jitter_do_not_move_the_points():
    arm, generator = Arm(), np.random.default_rng(1)
    points = {}
    for tick in range(1, 150):
        output = arm.tick(tick * PERIOD + int(generator.uniform(0, 0.45) * PERIOD) - arm.now)
        stamps, positions, _ = output.window.points()
        fixed = stamps <= output.window.stamp + PERIOD
        for stamp, position in zip(stamps[fixed].tolist(), positions[fixed]):
            np.testing.assert_allclose(points.setdefault(stamp, position), position, atol=1e-12)
    assert len(points) > 150


def test_without_measurements_it_decelerates_and_in_lockstep_two_waypoints_are_sent():
    arm = Arm()
    for _ in range(80):
        arm.tick()
    held = [arm.tick(received=False) for _ in range(30)]
    assert isinstance(held[-1], Hold) and not held[-1].moving
    loop = new_loop(
        AnsweringPolicy(lambda call, seen: [[0.01, 0.0]]), rules={'control_period': 20 * MILLISECOND, 'horizon': 0.1}
    )
    loop.start(0, np.zeros(2))
    outputs = []
    for tick in range(1, 4):
        loop.observe(tick * 20 * MILLISECOND, loop.commanded)
        outputs.append(loop.advance(tick * 20 * MILLISECOND))
    stamps, positions, velocities = outputs[-1].window.points()
    assert stamps.tolist() == [60 * MILLISECOND, 80 * MILLISECOND] and velocities is None
    np.testing.assert_array_equal(positions, [outputs[-2].position, outputs[-1].position])


@pytest.mark.parametrize('seed', range(6))
def test_whatever_happens_the_commands_of_every_window_keep_the_limits_and_continue_from_those_before(seed):
    """Bursts, missed ticks, silence, stops and an arm that is somewhere else."""
    arm, generator = Arm(), np.random.default_rng(seed)
    path: dict[int, np.ndarray] = {}
    for _ in range(400):
        fault = generator.choice(
            ['none', 'burst', 'late', 'silence', 'stop', 'resume'], p=[0.78, 0.03, 0.03, 0.02, 0.02, 0.12]
        )
        if fault == 'stop':
            arm.loop.stop('asked to')
        elif fault == 'resume':
            arm.loop.resume(arm.now)
        gap = {'burst': 1000, 'late': int(generator.integers(1, 60) * 5 * MILLISECOND)}.get(fault, PERIOD)
        window = arm.tick(gap, received=fault != 'silence').window
        for order, limit in ((1, LIMITS.velocity), (2, LIMITS.acceleration), (3, LIMITS.jerk)):
            assert (np.abs(np.diff(window.commands, order, axis=0)) <= limit * 0.01**order + 1e-12).all()
        for place in range(window.newest + 1):
            stamp = window.stamp + (place - window.newest) * PERIOD
            np.testing.assert_array_equal(path.setdefault(stamp, window.commands[place]), window.commands[place])
    assert np.ptp(list(path.values()), axis=0).max() > 0.05

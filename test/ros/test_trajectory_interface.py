"""A motion through a trajectory controller: the setpoint of its servos beside the motion that was asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vdd_ros.contract.contract import load_contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.control.playback import Track
from vdd_ros.nodes.arm.output import Output
from vdd_ros.nodes.bridge.sensor_messages import from_trajectory
from vdd_ros.nodes.bridge.world import World
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.stage import open_stage

JOINTS = [f'joint{number}' for number in range(1, 8)]
RATE = 100
SECOND = 1_000_000_000
SPEED = 0.4
"""The greatest of the motion [rad/s]."""


class Run:
    """A sine that is played to the controller of a simulated Panda whose messages arrive late."""

    def __init__(self, folder, *, from_desired: bool, latency: float, clock_error: float = 0.0) -> None:
        """Open the scene; messages take up to ``latency`` [s], and stamps are off by ``clock_error`` [s]."""
        settings = {'type': 'trajectory', 'joints': JOINTS, 'interpolate_from_desired_state': from_desired}
        scene = folder / 'scene.yaml'
        model = {'model': 'panda', 'timestep': 0.001, 'keyframe': 'home', 'controllers': {'arm': settings}}
        scene.write_text(json.dumps(model))
        stage = open_stage('', scene, 'arm', 'trajectory')
        self.world, self.controller, self.simulation = World(stage, 1000.0), stage.controllers['arm'], stage.simulation
        contract = load_contract('avoiding_joint')
        kinematics = Kinematics.from_contract(contract)
        stamps = 20_000_000 * np.arange(200)
        sine = 0.2 * (1 - np.cos(2e-9 * stamps))
        track = Track(stamps, self.simulation.position + np.outer(sine, [1, 0.5, -1, 1, 1, -1, 1]))
        self.loop, _ = Deployment(control_rate=RATE, joint_limits='fr3').build_playback(
            contract, track, kinematics, period=SECOND // RATE, guarded=False, horizon=0.15
        )
        self.limits = Deployment(joint_limits='fr3').limits_of(contract, kinematics, lockstep=False)
        (self.channel,) = Output(contract, interface='trajectory', controller='arm', period=SECOND // RATE).channels
        self._latency, self._error = latency, round(clock_error * SECOND)
        self._generator = np.random.default_rng(0)
        self._under_way: list = []
        self.commands, self.setpoints, self.velocities = [], [], []

    def run(self, seconds: float, silent: bool = False) -> None:
        """Let time pass; ``silent`` is a node that has died."""
        world, simulation = self.world, self.simulation
        if not self.setpoints:
            self.loop.start(world.stamp + self._error, simulation.position)
        for _ in range(round(seconds * 1000)):
            now = world.stamp + self._error
            if now % (SECOND // RATE) < simulation.timestep and not silent:
                self.loop.observe(now, simulation.position)
                decided = self.loop.advance(now)
                self.commands.append(decided.position)
                message = self.channel.message(decided, now)
                delay = round(self._generator.uniform(0, self._latency) * SECOND)
                self._under_way.append((world.stamp + delay, from_trajectory(message)))
            while self._under_way and self._under_way[0][0] <= world.stamp:
                self.controller.accept(self._under_way.pop(0)[1], world.stamp)
            world.advance()
            self.setpoints.append(simulation.command.copy())
            self.velocities.append(simulation.velocity.copy())


def greatest(path: list[np.ndarray], order: int, rate: float) -> np.ndarray:
    """Return the greatest derivative of a path, shape (joint,), in rad/s^order."""
    return np.abs(np.diff(path, order, axis=0)).max(axis=0) * rate**order


@pytest.mark.parametrize('from_desired', [False, True])
@pytest.mark.parametrize('clock_error', [0.0, -0.01, 0.01])
def test_the_setpoint_is_as_smooth_as_the_motion_whatever_the_controller_starts_from(
    tmp_path, from_desired, clock_error
):
    run = Run(tmp_path, from_desired=from_desired, latency=0.008, clock_error=clock_error)
    run.run(3.0)
    assert np.ptp(np.array(run.setpoints)[:, 0]) > 0.39
    assert greatest(run.setpoints, 1, 1000)[0] == pytest.approx(SPEED, rel=0.01)
    commands = [run.setpoints[0]] * 3 + run.commands
    # A stamp that is late by a period lets a change of the plan be seen: not in the acceleration, but in the jerk.
    for order in (1, 2, 3) if clock_error >= 0 else (1, 2):
        assert (greatest(run.setpoints, order, 1000) <= greatest(commands, order, RATE) * 1.001 + 1e-6).all()
    assert (greatest(run.velocities, 1, 1000) <= greatest(commands, 2, RATE) * 1.3).all()


def test_a_stop_decelerates_the_setpoint_within_the_limits_and_a_dead_node_leaves_it_at_rest(tmp_path):
    run = Run(tmp_path, from_desired=False, latency=0.008)
    run.run(0.8)
    run.loop.stop('enough')
    run.run(0.7)
    assert (greatest(run.setpoints, 2, 1000) <= run.limits.acceleration * 1.001).all()
    np.testing.assert_allclose(np.ptp(run.setpoints[-100:], axis=0), 0, atol=1e-9)
    assert run.loop.resume(run.world.stamp) is None
    run.run(0.8)
    moving = np.abs(run.setpoints[-1] - run.setpoints[-2]).max() * 1000
    run.run(0.7, silent=True)
    assert moving > 0.05 and (greatest(run.setpoints, 2, 1000) <= run.limits.acceleration * 1.001).all()
    np.testing.assert_allclose(np.ptp(run.setpoints[-100:], axis=0), 0, atol=1e-9)

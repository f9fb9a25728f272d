"""The robots that ship: contract, limits and parameters of each go together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from vdd_ros.contract.contract import NANOSECONDS, load_contract
from vdd_ros.control.control_output import Command
from vdd_ros.control.deployment import Deployment
from vdd_ros.control.lookahead import CommandWindow
from vdd_ros.nodes import messages
from vdd_ros.nodes.arm.output import Output
from vdd_ros.nodes.policy.policy_parameters import PARAMETERS
from vdd_ros.robot.kinematics import Kinematics

ROOT = Path(__file__).parents[2]
ROBOTS = {'ur5e': 'shoulder_pan_joint', 'fr3': 'fr3_joint1'}
DEFAULTS = {row.name: row.default for row in PARAMETERS}


@pytest.fixture(params=ROBOTS)
def robot(request):
    """Name, contract and parameters of a robot."""
    document = yaml.safe_load((ROOT / 'config' / 'robots' / f'{request.param}.yaml').read_text())
    (entry,) = document.values()
    return request.param, load_contract(f'{request.param}_joint'), entry['ros__parameters']


def test_every_parameter_is_one_of_the_node_and_of_its_type(robot):
    _, _, values = robot
    for name, value in values.items():
        default = DEFAULTS[name]
        assert isinstance(value, (list, type(default))), name


def test_limits_are_finite_and_no_wider_than_those_of_the_model(robot):
    _, contract, values = robot
    rules = {key: value for key, value in values.items() if key in Deployment.model_fields}
    kinematics = Kinematics.from_contract(contract)
    limits = Deployment.parse(rules).limits_of(contract, kinematics, lockstep=False)
    for bound in (limits.lower, limits.upper, limits.velocity, limits.acceleration, limits.jerk):
        assert np.isfinite(bound).all() and len(bound) == len(contract.robot.joints)
    assert (limits.velocity <= kinematics.velocity_limits).all()
    assert (limits.lower >= kinematics.lower).all() and (limits.upper <= kinematics.upper).all()
    # What the policy asks for in one period must be possible within the lag that is allowed.
    assert (limits.velocity * contract.period / NANOSECONDS < values['max_lag']).all()


def test_commands_go_to_the_joints_by_the_names_that_the_robot_has(robot):
    name, contract, values = robot
    period, now = 10_000_000, 7 * NANOSECONDS
    joints = {'controller_joints': values['controller_joints']}
    output = Output(contract, **joints, interface='trajectory', controller='c', period=period)
    position = np.arange(1.0, len(contract.robot.joints) + 1)
    still = np.zeros_like(position)
    window = CommandWindow(np.outer(np.arange(10), position), now, period, 6, is_smooth=True)
    (channel,) = output.channels
    message = channel.message(Command(position, still, still, 0, clamped=False, window=window), now)
    assert message.joint_names[0] == ROBOTS[name]
    np.testing.assert_allclose(message.points[0].positions, position)
    np.testing.assert_allclose(message.points[0].velocities, position / 0.01)
    # Command 4 is that of two periods ago, and due in one.
    np.testing.assert_allclose(channel.position(message, now), 4 * position)


def test_joint_states_are_read_by_the_names_that_the_robot_has(robot):
    _, contract, values = robot
    names = sorted(values['controller_joints'])
    position = np.array([values['controller_joints'].index(joint) for joint in names], dtype=float)
    reader = messages.JointReader(contract.robot.joints, contract.measured)
    reading = reader.read(messages.to_joint_state(7, names, position, position, position))
    np.testing.assert_array_equal(reading.position, np.arange(len(names)))


def test_a_controller_with_other_joints_is_refused(robot):
    _, contract, values = robot
    with pytest.raises(ValueError, match='controller_joints'):
        Output(contract, controller_joints=[*values['controller_joints'][1:], 'another'])

"""A policy whose contract names no model, on a robot that publishes its description."""

from __future__ import annotations

import numpy as np
import pytest
from arms import Arm
from lifecycle_msgs.msg import Transition
from std_msgs.msg import String
from students import save_student

from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.nodes import qos
from vdd_ros.nodes.arm.description import DescriptionMissing, kinematics_of

PERIOD = 35_000_000
SPEED = 0.4
JOINTS = ['base_joint', 'elbow_joint']
JOINT = """
<joint name="{name}" type="revolute"><parent link="{parent}"/><child link="{child}"/><axis xyz="0 0 1"/>
<origin xyz="0.3 0 0"/><limit lower="-2" upper="2" effort="9" velocity="{speed}"/></joint>"""
URDF = (
    '<robot name="arm"><link name="world"/><link name="upper"/><link name="tool0"/>'
    + JOINT.format(name=JOINTS[0], parent='world', child='upper', speed=SPEED)
    + JOINT.format(name=JOINTS[1], parent='upper', child='tool0', speed=SPEED)
    + '</robot>'
)
CHANGE = {'robot': {'tool': 'tool0', 'joints': JOINTS}, 'prediction_horizon': 1, 'action_horizon': 1}


def test_the_description_gives_the_limits_and_the_tool_and_a_model_of_the_contract_comes_first():
    contract = Contract.model_validate({**load_contract('avoiding_joint').model_dump(mode='json'), **CHANGE})
    assert not contract.needs_model and contract.robot.model == ''
    kinematics = kinematics_of(contract, URDF)
    np.testing.assert_array_equal(kinematics.velocity_limits, [SPEED] * 2)
    np.testing.assert_allclose(kinematics.tool_position(np.array([np.pi / 2, 0.0])), [0.3, 0.3, 0.0], atol=1e-12)
    with pytest.raises(DescriptionMissing, match='expected a URDF on robot_description'):
        kinematics_of(contract, '')
    shipped = load_contract('avoiding_joint')
    assert len(kinematics_of(shipped, URDF).joints) == 7


def test_a_node_waits_for_the_description_of_its_robot_and_keeps_its_limits(graph, tmp_path):
    student = save_student(tmp_path / 'student', [[0.2, -0.2]], 'avoiding_joint', change=CHANGE)
    node = graph.start('policy_node', artifact=student)
    arm = Arm(graph)
    assert not arm.change(Transition.TRANSITION_CONFIGURE)
    graph.until(lambda: 'expected a URDF on /robot_description, since the contract avoiding_joint names' in node.text)
    description = graph.node('robot_state_publisher').create_publisher(String, 'robot_description', qos.DESCRIPTION)
    description.publish(String(data=URDF))
    graph.until(lambda: arm.change(Transition.TRANSITION_CONFIGURE))
    arm.configured = True
    here = np.array([0.1, 0.2])
    graph.until(lambda: arm.say(PERIOD, here, JOINTS) or arm.change(Transition.TRANSITION_ACTIVATE))
    graph.until(lambda: arm.commands)
    # The policy asks for 0.2 rad in a period, and the description allows less.
    np.testing.assert_allclose(arm.commands[0] - here, [SPEED * PERIOD / 1e9, -SPEED * PERIOD / 1e9], atol=1e-9)
    assert node.stop() == 0, node.text

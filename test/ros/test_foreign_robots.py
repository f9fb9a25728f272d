"""Robots of other makers, by YAML alone: those of robosuite, whose models have torque motors and no gripper."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from commander import Commander
from std_msgs.msg import Float64MultiArray

from vdd_ros.nodes import messages, qos
from vdd_ros.sim.stage import open_stage

_PANDA = """
model: {models}/robots/panda/robot.xml
timestep: 0.002
attachments: [{{model: {models}/grippers/panda_gripper.xml, to: right_hand, prefix: gripper_}}]
servos:
  - {{joints: [joint1, joint2, joint3, joint4], stiffness: 4500, damping: 350, force: 87}}
  - {{joints: [joint5, joint6, joint7], stiffness: 2000, damping: 100, force: 12}}
compensate_gravity: ['*']
start: {{joint2: 0.2, joint4: -2.4, joint6: 2.6, joint7: 0.785}}
joint_states: [gripper_finger_joint1, gripper_finger_joint2]
controllers:
  arm_controller: {{type: position, joints: [joint1, joint2, joint3, joint4, joint5, joint6, joint7]}}
  gripper_controller:
    type: gripper
    stroke: 0.08
    actuators: {{gripper_gripper_finger_joint1: [0.0, 0.04], gripper_gripper_finger_joint2: [0.0, -0.04]}}
"""

_UR5E = """
model: {models}/robots/ur5e/robot.xml
timestep: 0.002
servos:
  - {{joints: [shoulder_pan_joint, shoulder_lift_joint, elbow_joint], stiffness: 2000, damping: 400, force: 150}}
  - {{joints: [wrist_1_joint, wrist_2_joint, wrist_3_joint], stiffness: 500, damping: 100, force: 28, armature: 0.1}}
compensate_gravity: ['*']
start: {{shoulder_lift_joint: -1.6, elbow_joint: 1.8, wrist_1_joint: -1.7, wrist_2_joint: -1.57}}
controllers:
  arm_controller:
    type: position
    joints: [shoulder_pan_joint, shoulder_lift_joint, elbow_joint, wrist_1_joint, wrist_2_joint, wrist_3_joint]
sensors: {{wrist: {{type: force_torque, site: ft_frame}}}}
"""


def scene(folder: Path, text: str) -> Path:
    """Write a scene file around the models of robosuite, which are looked up without importing it."""
    found = importlib.util.find_spec('robosuite')
    assert found is not None, 'make test installs it: pip install --no-deps robosuite==1.5.2'
    file = folder / 'scene.yaml'
    file.write_text(text.format(models=Path(found.origin).parent / 'models' / 'assets'), encoding='utf-8')
    return file


def test_the_panda_of_robosuite_moves_and_grips_behind_the_bridge(graph, tmp_path):
    graph.start('mujoco_bridge', scene=scene(tmp_path, _PANDA), mode='fast')
    commander = Commander(graph)
    node = graph.node('hand')
    hand = node.create_publisher(Float64MultiArray, 'gripper_controller/commands', qos.COMMANDS)
    graph.until(hand.get_subscription_count)
    target = commander.position[:7] + 0.1
    commander.send(target)
    hand.publish(messages.to_command(np.array([0.06])))
    fingers = np.array([0.03, -0.03])
    graph.until(lambda: np.abs(commander.position[:7] - target).max() < 0.01)
    graph.until(lambda: np.abs(commander.position[7:] - fingers).max() < 0.002)
    assert list(commander.states[-1].name[7:]) == ['gripper_finger_joint1', 'gripper_finger_joint2']


def test_the_ur5e_of_robosuite_holds_its_pose_and_goes_where_it_is_commanded(tmp_path):
    stage = open_stage('', scene(tmp_path, _UR5E), 'arm_controller', 'position')
    simulation, controller = stage.simulation, stage.controllers['arm_controller']
    start = simulation.position
    assert start[1] == pytest.approx(-1.6)
    simulation.step(1_000_000_000)
    np.testing.assert_allclose(simulation.position, start, atol=0.01)
    controller.start()
    controller.accept(controller.check(start + 0.2), simulation.stamp)
    controller.update(simulation.stamp)
    simulation.step(3_000_000_000)
    np.testing.assert_allclose(simulation.position, start + 0.2, atol=0.01)

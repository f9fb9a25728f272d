"""One policy node, an arm and a gripper under their own controllers, over real DDS: what each controller receives."""

from __future__ import annotations

from time import time_ns

import numpy as np
import pytest
from arms import ANSWERED, HOME, Arm, tool
from lifecycle_msgs.msg import Transition
from rclpy.duration import Duration
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64
from students import save_student

from vdd_ros.nodes import messages, qos

pytestmark = pytest.mark.realtime

RATE = 100
SPEED = 0.02
GRIPPER = {
    'name': 'grip',
    'topic': 'gripper/command',
    'type': 'Float64',
    'scale': 0.001,  # the controller counts in millimetres
    'joints': ['finger'],
    'mode': 'absolute',
}
HORIZONS = {'schema_version': 2, 'prediction_horizon': 4, 'action_horizon': 1}


class Gripper:
    """A gripper that goes where it is told, says so in messages of its own, and remembers the commands [mm]."""

    def __init__(self, graph, position: float) -> None:
        """Take part in the test's graph, and stand somewhere [m]."""
        node = graph.node('gripper')
        self.position = position
        self.commands: list[float] = []
        self._states = node.create_publisher(JointState, 'joint_states', qos.JOINT_STATES_OFFERED)
        node.create_subscription(Float64, 'gripper/command', self._on_command, qos.COMMANDS)

    def _on_command(self, message: Float64) -> None:
        self.commands.append(message.data)
        self.position = message.data / 1000

    def live(self, age: int = 0) -> bool:
        """Say where it is; always true."""
        zero = np.zeros(1)
        stamp = time_ns() - age
        self._states.publish(messages.to_joint_state(stamp, ['finger'], np.array([self.position]), zero, zero))
        return True


def test_each_controller_gets_its_commands_within_its_limits_and_all_stop_together(graph, tmp_path):
    limits = tmp_path / 'limits.yaml'
    limits.write_text(f'joint_limits: {{finger: {{max_velocity: {SPEED}, min_position: 0.0, max_position: 0.05}}}}')
    student = save_student(
        tmp_path / 'student', [[0.0, 0.001, 0.03]], change={**HORIZONS, 'further_actions': [GRIPPER]}
    )
    node = graph.start(
        'policy_node', use_sim_time=False, artifact=student, control_rate=RATE, joint_limits=limits, **ANSWERED
    )
    arm, gripper = Arm(graph), Gripper(graph, 0.01)
    assert arm.change(Transition.TRANSITION_CONFIGURE)
    arm.configured = True
    # The arm alone is not enough, and neither is a gripper that was measured long ago.
    graph.until(lambda: arm.live() and 'expected finger on /joint_states' in arm.ask('preflight').message)
    assert not arm.change(Transition.TRANSITION_ACTIVATE)
    graph.until(lambda: gripper.live(10**9) and arm.live() and 's older' in arm.ask('preflight').message)
    assert not arm.change(Transition.TRANSITION_ACTIVATE)
    assert not arm.commands and not gripper.commands

    def both() -> bool:
        return gripper.live() and arm.live()

    graph.until(lambda: both() and arm.change(Transition.TRANSITION_ACTIVATE))
    graph.until(lambda: both() and len(gripper.commands) > 50 and np.ptp(gripper.commands[-20:]) < 1e-3)  # [mm]
    path = np.array(gripper.commands) / 1000
    assert path[0] < 0.01 + 2 * SPEED / RATE and path[-1] == pytest.approx(0.03, abs=1e-6)
    assert 0.03 < path.max() <= 0.05  # the smoothing of plans overshoots a step (docs/control.md), never the limit
    assert (np.abs(np.diff(path)) <= SPEED / RATE + 1e-9).all()
    assert tool(arm.commands[-1])[1] > tool(HOME)[1]
    # One command for each controller at every tick.
    assert abs(len(arm.commands) - len(gripper.commands)) <= 2

    # The gripper's states cease: nobody knows what it does, and the arm holds.
    graph.until(lambda: arm.live() and 'holding: expected finger on /joint_states' in node.text)
    arm.keeps_resting()
    graph.until(lambda: both() and len(arm.commands) > 1 and not np.array_equal(arm.commands[-1], arm.commands[-2]))

    # Another one commands the gripper: both controllers are left to him.
    rival = graph.node('rival')
    meddler = rival.create_publisher(Float64, 'gripper/command', qos.COMMANDS)
    graph.until(lambda: both() and 'giving way: /rival commands on gripper/command, too' in node.text)
    graph.until(lambda: both() and arm.silence() > 0.5)
    seen = len(gripper.commands)
    meddler.publish(Float64(data=5.0))
    graph.until(lambda: both() and len(gripper.commands) > seen)
    assert gripper.commands[-1] == 5.0
    graph.drop(rival)
    assert node.stop() == 0, node.text


def test_a_gripper_that_nobody_measures_goes_on_from_the_newest_command_on_its_topic(graph, tmp_path):
    limits = tmp_path / 'limits.yaml'
    limits.write_text('joint_limits: {grip: {max_velocity: 0.02}}')
    grip = {key: value for key, value in GRIPPER.items() if key != 'joints'} | {'mode': 'delta'}
    student = save_student(tmp_path / 'student', [[0.0, 0.001, 0.0001]], change={**HORIZONS, 'further_actions': [grip]})
    node = graph.start(
        'policy_node', use_sim_time=False, artifact=student, control_rate=RATE, joint_limits=limits, **ANSWERED
    )
    arm, gripper = Arm(graph), Gripper(graph, 0.0)
    assert arm.change(Transition.TRANSITION_CONFIGURE)
    arm.configured = True
    unknown = 'no command on gripper/command yet, and nothing measures it'
    graph.until(lambda: arm.live() and not arm.change(Transition.TRANSITION_ACTIVATE) and unknown in node.text)
    assert not arm.commands
    other = graph.node('other')
    person = other.create_publisher(Float64, 'gripper/command', qos.COMMANDS)
    graph.until(lambda: arm.live() and person.get_subscription_count() == 2)
    person.publish(Float64(data=12.0))
    graph.until(lambda: arm.live() and gripper.commands == [12.0])
    assert person.wait_for_all_acked(Duration(seconds=30))  # the node has it, too
    graph.drop(other)  # who stays would be a second commander
    graph.until(lambda: arm.live() and arm.change(Transition.TRANSITION_ACTIVATE))
    graph.until(lambda: arm.live() and len(gripper.commands) > 100)
    path = np.array(gripper.commands[1:])
    assert 12.0 <= path[0] < 12.1 and (np.diff(path) >= 0).all() and path[-1] > 12.5
    # Deactivated and activated anew, it goes on from its own last command.
    assert arm.change(Transition.TRANSITION_DEACTIVATE)
    graph.until(lambda: arm.live() and arm.silence() > 0.2)
    seen, last = len(gripper.commands), gripper.commands[-1]
    graph.until(lambda: arm.live() and arm.change(Transition.TRANSITION_ACTIVATE))
    graph.until(lambda: arm.live() and len(gripper.commands) > seen)
    assert last <= gripper.commands[seen] < last + 0.1
    assert node.stop() == 0, node.text

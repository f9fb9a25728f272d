"""FollowJointTrajectory and GripperCommand: of the simulated controllers, and as output of the policy node."""

from __future__ import annotations

import json

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from arms import ANSWERED, Arm
from builtin_interfaces.msg import Duration
from lifecycle_msgs.msg import Transition
from rclpy.action import ActionClient
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool
from students import save_student
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import load_contract
from vdd_ros.nodes import qos
from vdd_ros.nodes.arm.action_types import action_class

try:
    from control_msgs import action as actions
    from control_msgs import msg as control_msgs
except ModuleNotFoundError:  # missing in the ROS wheels; test/installation/control_msgs builds it
    actions = control_msgs = None

needs_control_msgs = pytest.mark.skipif(actions is None, reason='control_msgs is part of a ROS installation')
ARM = load_contract('placing_two_controllers').joints[:6]
CONTROLLERS = {
    'arm_controller': {'type': 'trajectory', 'joints': list(ARM)},
    'hand': {'type': 'position', 'joints': ['gripper']},
}
GRIPPER = {
    'name': 'gripper',
    'topic': 'hand/gripper_cmd',
    'type': 'control_msgs/msg/GripperCommand',
    'stamp': 'receive',
    'fields': ['position'],
    'joints': ['gripper'],
    'mode': 'absolute',
}
COMMANDED = {'name': 'commanded', 'source': 'commanded', 'space': 'tool', 'axes': ['x', 'y', 'z']}


class Robot:
    """The simulated arm and gripper of Placing, and clients of their actions."""

    def __init__(self, graph, folder) -> None:
        """Start the bridge in wall time."""
        scene = folder / 'scene.yaml'
        scene.write_text(json.dumps({'controllers': CONTROLLERS}), encoding='utf-8')
        self._graph = graph
        self.bridge = graph.start(
            'mujoco_bridge', use_sim_time=False, task='placing', scene=scene, mode='realtime', clock='wall'
        )
        self.node = graph.node('client')
        self.state: dict[str, float] = {}
        self.node.create_subscription(JointState, 'joint_states', self._on_state, qos.JOINT_STATES)
        self._clients = {
            name: ActionClient(self.node, kind, name)
            for name, kind in (
                ('arm_controller/follow_joint_trajectory', actions.FollowJointTrajectory),
                ('hand/gripper_cmd', actions.GripperCommand),
            )
        }
        graph.until(lambda: self.state and all(client.server_is_ready() for client in self._clients.values()))

    def _on_state(self, message: JointState) -> None:
        self.state = dict(zip(message.name, message.position))

    @property
    def position(self) -> np.ndarray:
        """Position of the arm, shape (joint,) [rad]."""
        return np.array([self.state[joint] for joint in ARM])

    def trajectory(self, step: float, seconds: float, joints: tuple[str, ...] = ARM) -> JointTrajectory:
        """Return a motion of all joints by a step [rad]."""
        time_from_start = Duration(sec=int(seconds), nanosec=round(seconds % 1 * 1e9))
        point = JointTrajectoryPoint(positions=(self.position + step).tolist(), time_from_start=time_from_start)
        return JointTrajectory(joint_names=list(joints), points=[point])

    def follow(self, trajectory: JointTrajectory, feedback: list | None = None, **tolerances: object):
        """Send a trajectory; return the handle of its goal."""
        goal = actions.FollowJointTrajectory.Goal(trajectory=trajectory, **tolerances)
        take = (lambda message: feedback.append(message.feedback)) if feedback is not None else None
        return self._send('arm_controller/follow_joint_trajectory', goal, take)

    def open(self, position: float):
        """Command the gripper; return the handle of the goal."""
        command = control_msgs.GripperCommand(position=position)
        return self._send('hand/gripper_cmd', actions.GripperCommand.Goal(command=command))

    def _send(self, name: str, goal: object, feedback: object = None):
        future = self._clients[name].send_goal_async(goal, feedback_callback=feedback)
        self._graph.until(future.done)
        return future.result()

    def end(self, handle):
        """Wait for the end of a goal; return its status and result."""
        future = handle.get_result_async()
        self._graph.until(future.done)
        return future.result().status, future.result().result


@needs_control_msgs
def test_goals_of_simulated_controllers_end_as_those_of_ros2_control(graph, tmp_path):
    robot, codes = Robot(graph, tmp_path), actions.FollowJointTrajectory.Result
    start, feedback = robot.position, []
    handle = robot.follow(robot.trajectory(0.1, 0.5), feedback)
    status, result = robot.end(handle)
    assert (handle.accepted, status, result.error_code) == (True, GoalStatus.STATUS_SUCCEEDED, codes.SUCCESSFUL)
    np.testing.assert_allclose(robot.position, start + 0.1, atol=0.01)
    assert len(feedback) > 3 and list(feedback[0].joint_names) == list(ARM)
    assert feedback[-1].desired.positions[0] > feedback[0].desired.positions[0]

    # Another goal, and then a message on the topic, replace the one before.
    slow, fast = robot.follow(robot.trajectory(0.5, 20.0)), robot.follow(robot.trajectory(0.0, 5.0))
    status, result = robot.end(slow)
    assert status == GoalStatus.STATUS_ABORTED and 'replaced' in result.error_string
    publisher = robot.node.create_publisher(JointTrajectory, 'arm_controller/joint_trajectory', qos.COMMANDS)
    graph.until(publisher.get_subscription_count)
    publisher.publish(robot.trajectory(0.0, 0.1))
    assert robot.end(fast)[0] == GoalStatus.STATUS_ABORTED

    # A cancelled goal leaves the arm where it is.
    handle = robot.follow(robot.trajectory(1.0, 10.0))
    begin = robot.position
    graph.until(lambda: robot.position[0] > begin[0] + 0.02)
    future = handle.cancel_goal_async()
    graph.until(future.done)
    assert robot.end(handle)[0] == GoalStatus.STATUS_CANCELED
    held = robot.position
    assert robot.end(robot.open(0.01))[0] == GoalStatus.STATUS_SUCCEEDED
    np.testing.assert_allclose(robot.position, held, atol=0.01)

    # A joint too few, and a path that the servos cannot follow within its tolerance.
    assert not robot.follow(robot.trajectory(0.0, 1.0, ARM[:5])).accepted
    tolerance = [control_msgs.JointTolerance(name=ARM[0], position=1e-4)]
    status, result = robot.end(robot.follow(robot.trajectory(0.3, 0.3), path_tolerance=tolerance))
    assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, codes.PATH_TOLERANCE_VIOLATED)
    assert ARM[0] in result.error_string
    assert robot.bridge.stop() == 0, robot.bridge.text


@needs_control_msgs
def test_a_gripper_reports_where_it_arrived_and_that_it_stalled(graph, tmp_path):
    robot = Robot(graph, tmp_path)
    status, result = robot.end(robot.open(0.02))
    assert (status, result.reached_goal, result.stalled) == (GoalStatus.STATUS_SUCCEEDED, True, False)
    assert abs(result.position - 0.02) < 0.002
    # Beyond its range no command brings it.
    status, result = robot.end(robot.open(0.5))
    assert (status, result.reached_goal, result.stalled) == (GoalStatus.STATUS_SUCCEEDED, False, True)
    assert robot.bridge.stop() == 0, robot.bridge.text


@needs_control_msgs
def test_a_policy_commands_arm_and_gripper_by_actions_and_stops_when_a_goal_fails(graph, tmp_path):
    robot = Robot(graph, tmp_path)
    student = save_student(
        tmp_path / 'student',
        [[0.0, 0.002, 0.0, 0.015]],
        'placing_two_controllers',
        change={'observation': [COMMANDED], 'action': [{**COMMANDED, 'name': 'step'}, GRIPPER]},
    )
    policy = graph.start(
        'policy_node',
        use_sim_time=False,
        artifact=student,
        controller='arm_controller',
        interface='follow_joint_trajectory',
        gripper_interface='action',
        control_rate=100.0,
        joint_limits='ur5e',
        **ANSWERED,
    )
    ask = Arm(graph)
    assert ask.change(Transition.TRANSITION_CONFIGURE), policy.text
    start = robot.position
    graph.until(lambda: ask.change(Transition.TRANSITION_ACTIVATE))
    graph.until(lambda: np.abs(robot.position - start).max() > 0.05)
    graph.until(lambda: abs(robot.state['gripper'] - 0.015) < 0.002)
    assert not any(word in policy.text for word in ('rejects', 'aborts', 'giving way'))

    # A controller that is switched off rejects the goals.
    client = robot.node.create_client(SetBool, 'mujoco_bridge/arm_controller/activate')
    future = client.call_async(SetBool.Request(data=False))
    graph.until(future.done)
    graph.until(lambda: 'arm_controller/follow_joint_trajectory rejects the goal' in policy.text)
    future = client.call_async(SetBool.Request(data=True))
    graph.until(future.done)
    assert ask.ask('resume', live=False).success
    moved = robot.position
    graph.until(lambda: np.abs(robot.position - moved).max() > 0.02)

    # Another client moves the arm: the policy gives way.
    robot.follow(robot.trajectory(0.0, 30.0))
    graph.until(
        lambda: (
            'giving way: another client commands by the action arm_controller/follow_joint_trajectory' in policy.text
        )
    )
    assert not ask.ask('resume', live=False).success
    assert policy.stop() == 0, policy.text


@needs_control_msgs
def test_a_configuration_that_fails_leaves_nothing_behind(graph, tmp_path):
    student = save_student(tmp_path / 'student', [[0.0, 0.01]])
    policy = graph.start(
        'policy_node',
        use_sim_time=False,
        artifact=student,
        operating_mode='shadow',
        controller='arm_controller',
        interface='follow_joint_trajectory',
        control_rate=100.0,
        **ANSWERED,
    )
    ask, node = Arm(graph), graph.node('person')
    for _ in range(2):
        assert not ask.change(Transition.TRANSITION_CONFIGURE)
        graph.until(lambda: not node.count_subscribers('joint_states'))
    assert policy.text.count('expected command topics in the operating mode shadow') == 2
    assert policy.stop() == 0 and 'Traceback' not in policy.text, policy.text


def test_an_action_whose_package_is_missing_is_named_with_the_remedy():
    with pytest.raises(
        ConfigurationError, match='the action type absent_msgs/action/Wave; .*install the ROS package absent_msgs'
    ):
        action_class('absent_msgs/action/Wave')


def test_without_a_controller_there_is_no_action_to_command(graph, tmp_path):
    student = save_student(tmp_path / 'student', [[0.0, 0.01]])
    node = graph.start(
        'policy_node',
        use_sim_time=False,
        artifact=student,
        interface='follow_joint_trajectory',
        control_rate=100.0,
        **ANSWERED,
    )
    arm = Arm(graph)
    assert not arm.change(Transition.TRANSITION_CONFIGURE)
    graph.until(lambda: 'expected the name of a controller with interface follow_joint_trajectory' in node.text)

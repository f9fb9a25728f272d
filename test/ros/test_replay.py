"""The replay node over real DDS: an episode on the simulated arm, and on one that is only just there."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from arms import Received, assert_smooth, limits_of
from bags import read
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray
from std_srvs.srv import Trigger
from students import save_student

from vdd_ros.contract.contract import load_contract
from vdd_ros.data.bag import bag_messages
from vdd_ros.data.bag.bag_writer import BagWriter
from vdd_ros.nodes import messages, qos
from vdd_ros.robot.kinematics import Kinematics

JOINTS = [f'joint{number}' for number in range(1, 8)]
PER_TICK = 7
"""Recorded commands in a policy period."""


def commands_of(bag: Path, episode: int) -> np.ndarray:
    """Return the commands of an episode, shape (command, joint)."""
    events = [(topic, message) for topic, _, message in read(bag) if topic != '/joint_states']
    starts = [place for place, (topic, message) in enumerate(events) if topic == '/episode'][2 * episode :]
    return np.array([message.data for topic, message in events[starts[0] : starts[1]] if topic != '/episode'])


def changer(graph, node):
    """Return what asks the replay node for a transition, once or until it succeeds."""
    client = node.create_client(ChangeState, 'replay/change_state')

    def change(transition: int, insistently: bool = False) -> None:
        future = None

        def succeeded() -> bool:
            nonlocal future
            if future is None and client.service_is_ready():
                future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
            if future is None or not future.done():
                return False
            success, future = future.result().success, None
            assert success or insistently
            return success

        graph.until(succeeded)

    return change


def test_an_episode_in_lockstep_is_the_one_that_was_recorded(graph, bag):
    graph.start('mujoco_bridge')
    node = graph.node('witness')
    received: list[np.ndarray] = []
    outcomes: list[messages.EpisodeEvent] = []
    commands = node.create_subscription(
        Float64MultiArray,
        'arm_controller/commands',
        lambda message: received.append(np.array(message.data)),
        qos.COMMANDS,
    )
    node.create_subscription(
        DiagnosticArray, 'episode', lambda m: outcomes.append(messages.from_episode(m)), qos.EPISODE
    )
    reset = node.create_client(Trigger, 'mujoco_bridge/reset')
    replay = graph.start('replay', bag=bag, episode=2)
    change = changer(graph, node)
    change(Transition.TRANSITION_CONFIGURE)
    graph.until(lambda: commands.get_publisher_count() and reset.service_is_ready())
    future = reset.call_async(Trigger.Request())
    graph.until(lambda: future.done() and outcomes)
    change(Transition.TRANSITION_ACTIVATE, insistently=True)  # until a joint state has arrived
    graph.until(lambda: outcomes[-1].kind == 'end')
    assert outcomes[-1].outcome == 'success'
    assert replay.stop() == 0
    recorded = commands_of(bag, 2)[::PER_TICK]  # the simulation waits for a command once per policy period
    moving = int((recorded != recorded[0]).any(axis=1).argmax())
    recorded = recorded[moving:]  # it begins at rest, for a while that cannot be told apart
    begin = next(place for place, command in enumerate(received) if np.array_equal(command, recorded[0]))
    unlimited = np.abs(np.diff(recorded, axis=0)).max(axis=1) < 0.05  # a limit may change what is faster
    last = len(recorded) if unlimited.all() else int((~unlimited).argmax())
    assert last > 20
    np.testing.assert_array_equal(received[begin : begin + last], recorded[:last])


def test_by_itself_it_puts_the_scene_back_plays_and_reports_the_result(graph, bag):
    graph.start('mujoco_bridge')
    replay = graph.start('replay', bag=bag, episode=-1, autostart=True, reset='mujoco_bridge/reset')
    graph.until(lambda: not replay.alive)
    assert replay.wait() == 0, replay.text
    assert '100% of' in replay.text and 'outcome: success' in replay.text


class Follower:
    """An arm in wall time that goes where it is told, and says so while it is not mute."""

    def __init__(self, graph, position: np.ndarray, read=lambda reported: reported) -> None:
        """Stand somewhere; ``read`` makes joints in the order of the contract [rad] of what the controller is told."""
        node = graph.node('arm')
        self.position, self.mute, self._read = position, False, read
        self.commands: list[np.ndarray] = []
        self._states = node.create_publisher(JointState, 'joint_states', qos.JOINT_STATES_OFFERED)
        node.create_subscription(Float64MultiArray, 'my_controller/commands', self._on_command, qos.COMMANDS)
        node.create_timer(0.01, self._say)
        self.change = changer(graph, node)

    def _on_command(self, message: Float64MultiArray, info: dict[str, int]) -> None:
        self.position = self._read(np.array(message.data))
        self.commands.append(Received.of(self.position, info['source_timestamp']))

    def _say(self) -> None:
        if not self.mute:
            zeros = np.zeros(7)
            self._states.publish(messages.to_joint_state(time.time_ns(), JOINTS, self.position, zeros, zeros))


@pytest.mark.realtime
def test_through_its_lifecycle_it_approaches_plays_holds_and_brakes(graph, bag):
    strict = {'joint_limits': 'fr3'}
    settings = {'controller': 'my_controller', 'episode': -1, 'speed': 2.0, 'start_speed': 0.5, 'control_rate': 100.0}
    settings |= strict
    replay = graph.start('replay', use_sim_time=False, bag=bag, **settings)
    recorded = commands_of(bag, 5)
    arm = Follower(graph, recorded[0] + 0.05)
    arm.change(Transition.TRANSITION_CONFIGURE)
    arm.change(Transition.TRANSITION_ACTIVATE, insistently=True)  # until a joint state has arrived
    third = recorded[len(recorded) // 3]
    graph.until(lambda: any(np.abs(command - third).max() < 0.02 for command in arm.commands[-100:]))
    steps = np.abs(np.diff(arm.commands, axis=0))
    assert steps.max() < 2.2 * 0.01
    near = [place for place, command in enumerate(arm.commands) if np.abs(command - recorded[0]).max() < 2e-3]
    assert near and steps[: near[0]].max() <= 0.5 * 0.01 + 1e-9

    arm.mute = True
    graph.until(lambda: 'holding: no joint state' in replay.text)
    graph.until(lambda: np.array_equal(arm.commands[-1], arm.commands[-10]))
    arm.mute = False
    held = arm.commands[-1]
    graph.until(lambda: np.abs(arm.position - held).max() > 0.02)

    arm.change(Transition.TRANSITION_DEACTIVATE)
    graph.until(lambda: np.array_equal(arm.commands[-1], arm.commands[-2]))
    limits = limits_of(**strict)
    requested = np.diff(recorded, 2, axis=0) * (2 * PER_TICK / 0.035) ** 2
    assert (np.abs(requested).max(axis=0) > limits.acceleration).any()
    assert_smooth(arm.commands, 100, limits)
    arm.change(Transition.TRANSITION_CLEANUP)
    assert replay.stop(signal.SIGTERM) == 0


def test_what_cannot_be_played_ends_in_one_line(graph, bag):
    reported = {
        'expected a bag to play; found none': {},
        'expected a rosbag2 at nowhere; found nothing there': {'bag': 'nowhere'},
        'expected episode 6 in': {'bag': bag, 'episode': 6},
        'expected joint states on /joint_states; found none; start the arm': {'bag': bag, 'startup_timeout': 0.2},
    }
    players = {
        text: graph.start('replay', use_sim_time=False, autostart=True, **given) for text, given in reported.items()
    }
    for text, replay in players.items():
        assert replay.wait() == 2
        fatal = [line for line in replay.text.splitlines() if 'FATAL' in line]
        assert len(fatal) == 1 and text in fatal[0]


def test_in_the_shadow_a_policy_is_shown_every_tick_and_compared_with_what_was_done(graph, bag, tmp_path):
    student = save_student(tmp_path / 'student', [[0.0, 0.01]])
    policy = graph.start(
        'policy_node', artifact=student, operating_mode='shadow', action_noise_scale=0.0, autostart=True
    )
    target = tmp_path / 'differences.json'
    settings = {'mode': 'shadow', 'episode': 1, 'speed': 10.0, 'output': target, 'autostart': True}
    replay = graph.start('replay', use_sim_time=False, bag=bag, **settings)
    graph.until(lambda: not replay.alive)
    assert replay.wait() == 0, replay.text + policy.text
    found = json.loads(target.read_text())
    recorded = commands_of(bag, 1)
    ticks = -(-len(recorded) // PER_TICK)
    assert (found['ticks'], found['unanswered']) == (ticks, 0)
    # What was done from one tick to the next is where its last command led. Commands carry no stamp and come on a topic
    # of their own: at a tick, the policy may know the last one or the one before it.
    last = np.minimum(np.arange(1, ticks + 1) * PER_TICK - 1, len(recorded) - 1)
    done, earlier = recorded[last], recorded[np.maximum(last - 1, 0)]
    assert [item['expert'] for item in found['experts']] == [0]

    kinematics = Kinematics.from_contract(load_contract('avoiding_cartesian'))
    messages_of_episode = read(bag)
    marks = [place for place, (topic, _, _) in enumerate(messages_of_episode) if topic == '/episode']
    state = next(message for topic, _, message in messages_of_episode[marks[2] :] if topic == '/joint_states')
    # Before its first command an arm counts as commanded to be where it is; then to be where the demonstrator said.
    start = np.array([dict(zip(state.name, state.position))[joint] for joint in JOINTS])
    height, upright = kinematics.tool_position(start)[2], kinematics.tool_orientation(start)
    bounds = []
    for known in ([start, *done[:-1]], [start, *earlier[:-1]]):
        goals = [kinematics.tool_position(before) + [0.0, 0.01, 0.0] for before in known]
        answers = [
            kinematics.solve(np.array([*goal[:2], height]), upright, before) for goal, before in zip(goals, known)
        ]
        bounds.append(np.abs(np.array(answers) - done))
    least, most = np.minimum(*bounds).T, np.maximum(*bounds).T
    for row, low, high in zip(found['numbers'], least, most):
        assert np.median(low) - 2e-5 < row['median'] < np.median(high) + 2e-5, row
        assert np.quantile(low, 0.95) - 2e-5 < row['p95'] < np.quantile(high, 0.95) + 2e-5, row
    assert f'{ticks} ticks: commands differ by' in replay.text
    assert policy.stop() == 0


def test_a_gripper_on_a_topic_of_its_own_is_commanded_along_in_the_units_and_order_of_the_controller(graph, tmp_path):
    contract = tmp_path / 'contract.yaml'
    values = load_contract('avoiding_joint').model_dump(mode='json', exclude_defaults=True)
    gripper = {'name': 'gripper', 'topic': 'gripper/command', 'type': 'Float64', 'stamp': 'receive', 'mode': 'absolute'}
    values |= {'schema_version': 2, 'further_actions': [gripper], 'commanded': {'unit': 'degree'}}
    values['topics'] = {'commands': 'arm_controller/commands'}
    contract.write_text(yaml.safe_dump(values))
    home = np.array([-0.4, 0.3, 0.0, -2.2, 0.0, 2.5, 0.4])
    topics = {'/joint_states': bag_messages.JOINT_STATE, '/arm_controller/commands': bag_messages.NUMBERS}
    topics |= {'/gripper/command': 'std_msgs/msg/Float64', '/episode': bag_messages.MARK}
    with BagWriter(tmp_path / 'bag', topics) as writer:
        writer.write('/episode', 1, bag_messages.mark(1, 'start', index=0))
        for tick in range(30):
            stamp = 1 + tick * 10_000_000
            writer.write('/joint_states', stamp, bag_messages.joint_state(stamp, JOINTS, home))
            writer.write('/arm_controller/commands', stamp, bag_messages.numbers(np.degrees(home + 0.001 * tick)))
            if tick % 10 == 0:
                writer.write('/gripper/command', stamp, serialize_message(Float64(data=float(tick))))
        writer.write('/episode', 300_000_001, bag_messages.mark(300_000_001, 'end', index=0))
    backwards = {'controller': 'my_controller', 'controller_joints': f'[{",".join(reversed(JOINTS))}]'}
    replay = graph.start(
        'replay', use_sim_time=False, bag=tmp_path / 'bag', contract=contract, autostart=True, **backwards
    )
    arm = Follower(graph, home, read=lambda reported: np.radians(reported[::-1]))
    grips: list[float] = []
    graph.node('gripper').create_subscription(Float64, 'gripper/command', lambda m: grips.append(m.data), qos.COMMANDS)
    graph.until(lambda: not replay.alive)
    assert replay.wait() == 0, replay.text
    np.testing.assert_allclose(arm.position, home + 0.029, atol=1e-9)
    assert grips == [0.0, 10.0, 20.0]

"""The recorder over real DDS."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest
from bags import read
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.causal_order import CausalOrder

JOINTS = [f'joint{number}' for number in range(1, 8)]
PERIOD = 35_000_000


class Robot:
    """An arm and its commander in one node, with stamps of the test's choice."""

    def __init__(self, graph) -> None:
        """Offer states and commands."""
        node = graph.node('robot')
        self.states = node.create_publisher(JointState, 'joint_states', qos.JOINT_STATES_OFFERED)
        self.commands = node.create_publisher(Float64MultiArray, 'arm_controller/commands', qos.COMMANDS)
        self.episodes = node.create_publisher(DiagnosticArray, 'episode', qos.EPISODE)
        self._graph = graph
        self._recorded = 0
        node.create_subscription(DiagnosticArray, '/diagnostics', self._note, qos.DIAGNOSTICS)

    def _note(self, message: DiagnosticArray) -> None:
        self._recorded = int({item.key: item.value for item in message.status[0].values}['messages'])

    def recorded(self, count: int) -> None:
        """Wait until the recorder has written so many messages."""
        self._graph.until(lambda: self._recorded == count)

    def wait(self) -> None:
        """Wait until the recorder listens."""
        publishers = (self.states, self.commands, self.episodes)
        self._graph.until(lambda: all(publisher.get_subscription_count() for publisher in publishers))

    def state(self, stamp: int) -> None:
        """Publish a state."""
        zeros = np.zeros(7)
        self.states.publish(messages.to_joint_state(stamp, JOINTS, zeros, zeros, zeros))

    def command(self, value: float) -> None:
        """Publish a command."""
        self.commands.publish(messages.to_command(np.full(7, value)))


def test_a_command_carries_the_stamp_of_the_state_that_it_answers(graph, tmp_path):
    recorder = graph.start('recorder', output=tmp_path / 'bag')
    robot = Robot(graph)
    robot.wait()
    for tick in range(500):
        robot.state(tick * PERIOD)
        robot.command(tick)
    robot.recorded(1000)
    assert recorder.stop() == 0
    bag = read(tmp_path / 'bag')
    assert [(topic, stamp) for topic, stamp, _ in bag] == [
        entry
        for tick in range(500)
        for entry in (('/joint_states', tick * PERIOD), ('/arm_controller/commands', tick * PERIOD))
    ]
    assert [message.data[0] for topic, _, message in bag if topic != '/joint_states'] == list(range(500))


def test_without_sim_time_messages_carry_the_wall_time_of_their_publication(graph, tmp_path):
    recorder = graph.start('recorder', use_sim_time=False, output=tmp_path / 'bag')
    robot = Robot(graph)
    robot.wait()
    before = time.time_ns()
    robot.state(5)
    robot.command(1.0)
    after = time.time_ns()
    robot.recorded(2)
    assert recorder.stop() == 0
    bag = read(tmp_path / 'bag')
    assert [topic for topic, _, _ in bag] == ['/joint_states', '/arm_controller/commands']
    assert before < bag[0][1] < bag[1][1] < after


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_valid_bag_and_nothing_else(graph, tmp_path, number):
    recorder = graph.start('recorder', output=tmp_path / 'bags' / 'demo')
    robot = Robot(graph)
    robot.wait()
    robot.episodes.publish(messages.to_episode(messages.EpisodeEvent(0, 'start', 0)))
    robot.state(0)
    robot.recorded(2)
    assert recorder.stop(number) == 0
    assert [topic for topic, _, _ in read(tmp_path / 'bags' / 'demo')] == ['/episode', '/joint_states']
    assert [path.name for path in (tmp_path / 'bags').iterdir()] == ['demo']


def test_an_occupied_output_is_refused_in_one_line_and_left_alone(graph, tmp_path):
    (tmp_path / 'bag').mkdir()
    recorder = graph.start('recorder', output=tmp_path / 'bag')
    assert recorder.wait() == 2
    lines = recorder.text.strip().splitlines()
    assert len(lines) == 1
    assert 'already there; choose another path or remove it' in lines[0]
    assert not list((tmp_path / 'bag').iterdir())
    assert not list(tmp_path.glob('.*'))


def test_nothing_heard_leaves_nothing_behind(graph, tmp_path):
    recorder = graph.start('recorder', output=tmp_path / 'bag')
    graph.until(lambda: 'recording' in recorder.text)
    assert recorder.stop() == 0
    assert not (tmp_path / 'bag').exists()
    assert not list(tmp_path.glob('.*'))


def test_messages_are_released_in_the_order_of_their_publication_whatever_the_order_of_arrival():
    order = CausalOrder(window=10, header_time=True)
    order.add(105, 'command', None, b'answer to 100')
    order.add(120, 'state', 200, b'')
    order.add(100, 'state', 100, b'')
    assert [(m.topic, m.stamp) for m in order.release(now=116)] == [('state', 100), ('command', 100)]
    assert [(m.topic, m.stamp) for m in order.release(now=None)] == [('state', 200)]


def test_a_message_that_comes_after_its_window_is_counted():
    order = CausalOrder(window=10, header_time=True)
    order.add(100, 'state', 100, b'')
    list(order.release(now=200))
    order.add(90, 'command', None, b'')
    assert order.late == 1


def test_an_unstamped_message_before_any_state_is_dropped_and_counted():
    order = CausalOrder(window=10, header_time=True)
    order.add(100, 'command', None, b'')
    assert not list(order.release(now=None))
    assert order.timeless == 1

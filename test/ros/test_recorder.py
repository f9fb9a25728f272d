"""The recorder over real DDS."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from bags import read
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.data.bag.mcap_copy import scan
from vdd_ros.data.decode.serialized import FieldType
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.listening import definitions_of
from vdd_ros.nodes.recorder.causal_order import CausalOrder

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
        self.labels = node.create_publisher(String, 'recorder/label', qos.EPISODE)
        self._node = node
        self._graph = graph
        self.messages = 0
        self.printed = ''
        node.create_subscription(DiagnosticArray, '/diagnostics', self._note, qos.DIAGNOSTICS)

    def _note(self, message: DiagnosticArray) -> None:
        self.printed = message.status[0].message
        self.messages = int({item.key: item.value for item in message.status[0].values}['messages'])

    def recorded(self, count: int) -> None:
        """Wait until the recorder has written so many messages."""
        self._graph.until(lambda: self.messages == count)

    def ask(self, name: str) -> tuple[bool, str]:
        """Call a service of the recorder."""
        client = self._node.create_client(Trigger, f'recorder/{name}')
        self._graph.until(client.service_is_ready)
        future = client.call_async(Trigger.Request())
        self._graph.until(future.done)
        return future.result().success, future.result().message

    def wait(self) -> None:
        """Wait until the recorder listens."""
        publishers = (self.states, self.commands, self.episodes, self.labels)
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


@pytest.mark.parametrize('simulated', [False, True])
def test_a_simulation_that_is_recorded_without_its_clock_is_reported(graph, tmp_path, simulated):
    recorder = graph.start('recorder', use_sim_time=simulated, output=tmp_path / 'bag')
    robot = Robot(graph)
    robot.wait()
    for tick in range(20):
        robot.state(5_000_000_000 + tick * PERIOD)
        robot.command(tick)
    robot.recorded(40)
    graph.until(lambda: robot.printed)
    expected = 'record with use_sim_time (`vdd record-live --sim-time`)'
    assert (expected in robot.printed) != simulated
    assert recorder.stop() == 0


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


def test_no_message_leaves_nothing_behind(graph, tmp_path):
    recorder = graph.start('recorder', output=tmp_path / 'bag')
    graph.until(lambda: 'recording' in recorder.text)
    assert recorder.stop() == 0
    assert not (tmp_path / 'bag').exists()
    assert not list(tmp_path.glob('.*'))


def marks(bag: list[tuple[str, int, object]]) -> list[tuple[str, dict[str, str]]]:
    """Return the marks of a bag: kind and labels."""
    found = [message.status[0] for topic, _, message in bag if topic == '/episode']
    return [(status.message, {item.key: item.value for item in status.values}) for status in found]


def test_services_mark_episodes_and_give_the_reason_if_they_do_not(graph, tmp_path):
    recorder = graph.start('recorder', output=tmp_path / 'bag', language='pick', topics="['notes']")
    robot = Robot(graph)
    notes = graph.node('notes').create_publisher(String, 'notes', qos.EPISODE)
    robot.wait()
    assert robot.ask('start') == (False, 'expected messages on /joint_states; found none yet; start the arm first')
    robot.state(0)
    robot.recorded(1)
    assert robot.ask('start') == (True, 'episode 0 started')
    assert not robot.ask('start')[0]
    assert robot.ask('success') == (True, 'episode 0 ended as a success')
    assert robot.ask('failure') == (True, 'outcome=failure: of episode 0')
    robot.labels.publish(String(data='operator=Ada'))
    robot.recorded(5)
    assert robot.ask('start')[0]
    assert robot.ask('discard') == (True, 'episode 1 discarded')
    assert robot.ask('start')[0]
    graph.until(notes.get_subscription_count)  # once its type is known, a further topic is recorded, too
    notes.publish(String(data='hello'))
    robot.recorded(9)
    assert recorder.stop() == 0
    bag = read(tmp_path / 'bag')
    assert [message.data for topic, _, message in bag if topic == '/notes'] == ['hello']
    assert marks(bag) == [
        ('start', {'index': '0', 'language': 'pick'}),
        ('end', {'index': '0', 'outcome': 'success', 'language': 'pick'}),
        ('label', {'index': '0', 'outcome': 'failure'}),
        ('label', {'index': '0', 'operator': 'Ada'}),
        ('start', {'index': '1', 'language': 'pick'}),
        ('discard', {'index': '1', 'reason': 'discarded by the operator'}),
        ('start', {'index': '2', 'language': 'pick'}),
        ('end', {'index': '2', 'outcome': 'aborted', 'language': 'pick'}),
    ]


def test_between_episodes_only_the_pre_roll_is_kept(graph, tmp_path):
    recorder = graph.start('recorder', output=tmp_path / 'bag', continuous=False, pre_roll=0.5)
    robot = Robot(graph)
    robot.wait()
    # In sim time everything belongs to the newest state: a mark comes 0.5 s after the state of 10 s minus 0.5 s.
    for tenth in range(101):
        robot.state(tenth * 100_000_000)
    graph.until(lambda: '/joint_states' in recorder.text)
    graph.until(lambda: robot.ask('start')[0])
    robot.recorded(22)  # the last 0.5 s, 1.5 s before that for what held when it began, and the mark
    assert robot.ask('stop')[0]
    robot.recorded(23)
    robot.state(20_000_000_000)
    assert robot.ask('discard')[0]
    robot.recorded(24)
    assert recorder.stop() == 0
    bag = read(tmp_path / 'bag')
    assert [round(stamp / 1e8) for topic, stamp, _ in bag if topic == '/joint_states'] == list(range(80, 101))
    start = next(message for topic, _, message in bag if topic == '/episode')
    assert (start.header.stamp.sec, start.header.stamp.nanosec) == (9, 500_000_000)
    assert [kind for kind, _ in marks(bag)] == ['start', 'end', 'discard']


def test_a_killed_recorder_loses_nothing_that_was_flushed_and_the_next_one_makes_a_bag_of_it(graph, tmp_path):
    first = graph.start('recorder', output=tmp_path / 'bag')
    robot = Robot(graph)
    robot.wait()
    for tick in range(50):
        robot.state(tick * PERIOD)
    growing = tmp_path / '.bag.partial' / 'bag_0.mcap'
    graph.until(lambda: scan(growing).count == 50)
    first.kill()
    second = graph.start('recorder', output=tmp_path / 'bag')
    graph.until(lambda: 'recording /joint_states' in second.text)
    assert f'{tmp_path}/bag_recovered: 50 messages over 1.7 s; it was not closed; all written data are' in second.text
    # The publishers still count the killed one among their listeners: what is said now may come too early.
    graph.until(lambda: robot.state(0) or robot.messages)
    assert second.stop() == 0
    assert {topic for topic, _, _ in read(tmp_path / 'bag')} == {'/joint_states'}
    assert [stamp for _, stamp, _ in read(tmp_path / 'bag_recovered')] == [tick * PERIOD for tick in range(50)]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ['bag', 'bag_recovered']


def test_a_disk_that_is_nearly_full_ends_the_recording_with_a_whole_bag(graph, tmp_path):
    recorder = graph.start('recorder', output=tmp_path / 'bag', reserve=1e6)
    robot = Robot(graph)
    graph.until(lambda: robot.state(0) or not recorder.alive)
    assert recorder.wait() == 2
    assert 'expected 1e+06 MB free on the disk' in recorder.text and 'the bag is closed and complete' in recorder.text
    assert (tmp_path / 'bag' / 'metadata.yaml').exists() == ('no bag written' not in recorder.text)
    assert not list(tmp_path.glob('.*'))


def test_keys_in_a_terminal_steer_the_recorder_and_the_terminal_is_given_back(graph, tmp_path):
    master, slave = pty.openpty()
    before = subprocess.run(['stty', '-g'], stdin=slave, capture_output=True, text=True).stdout
    command = [sys.executable, '-m', 'vdd_ros.commands.cli', 'record-live', f'{tmp_path}/bag', '--sim-time']
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=subprocess.DEVNULL, env=os.environ)
    shown = bytearray()

    def sees(text: str) -> bool:
        while select.select([master], [], [], 0)[0]:
            shown.extend(os.read(master, 65536))
        if text.encode() not in shown:
            return False
        shown.clear()
        return True

    try:
        robot = Robot(graph)
        robot.wait()
        graph.until(lambda: sees('no episode yet'))
        os.write(master, b' ')
        graph.until(lambda: sees('start the arm first'))
        robot.state(0)
        robot.command(1.0)
        graph.until(lambda: sees('joint_states 1/s') or sees('joint_states 0/s'))
        for key, answer in (
            (b'lpick the cux\x7fp\r', 'from the first episode on'),
            (b' ', 'episode 0 started'),
            (b'y', 'episode 0 ended as a success'),
            (b's', 'episode 1 started'),
            (b'd', 'episode 1 discarded'),
        ):
            os.write(master, key)
            graph.until(lambda: sees(answer))
        os.write(master, b'q')
        graph.until(lambda: sees('') and process.poll() is not None)
        assert process.returncode == 0
        assert subprocess.run(['stty', '-g'], stdin=slave, capture_output=True, text=True).stdout == before
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)
    assert marks(read(tmp_path / 'bag')) == [
        ('start', {'index': '0', 'language': 'pick the cup'}),
        ('end', {'index': '0', 'outcome': 'success', 'language': 'pick the cup'}),
        ('start', {'index': '1', 'language': 'pick the cup'}),
        ('discard', {'index': '1', 'reason': 'discarded by the operator'}),
    ]


def test_keys_without_a_terminal_are_refused_in_one_line(tmp_path):
    command = [
        sys.executable,
        '-m',
        'vdd_ros.commands.cli',
        'record-live',
        f'{tmp_path}/bag',
        '--language',
        'say: "12"',
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2
    assert 'expected a terminal for the keys; found none on standard input' in done.stderr
    assert done.stderr.count('\n') == 1
    assert not list(tmp_path.iterdir())


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


ACTIONS = """
class Grip_Feedback:
    @classmethod
    def get_fields_and_field_types(cls):
        return {'opening': 'double'}


class Grip_FeedbackMessage:
    @classmethod
    def get_fields_and_field_types(cls):
        return {'goal_id': 'unique_identifier_msgs/UUID', 'feedback': 'my_gripper/Grip_Feedback'}


class Grip:
    Feedback = Grip_Feedback

    class Impl:
        FeedbackMessage = Grip_FeedbackMessage
"""
"""What rosidl generates for an action, as far as its feedback goes."""


def test_the_messages_of_an_action_are_found_in_the_package_that_rosidl_generates(tmp_path, monkeypatch):
    folder = tmp_path / 'my_gripper' / 'action'
    folder.mkdir(parents=True)
    (folder / '__init__.py').write_text(ACTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    found = definitions_of('my_gripper/action/Grip_FeedbackMessage')
    assert [name for name, _ in found['my_gripper/action/Grip_FeedbackMessage']] == ['goal_id', 'feedback']
    assert found['my_gripper/action/Grip_Feedback'] == (('opening', FieldType('float64')),)
    assert 'unique_identifier_msgs/msg/UUID' in found
    with pytest.raises(ConfigurationError, match='install the ROS package your_gripper'):
        definitions_of('your_gripper/action/Grip_FeedbackMessage')

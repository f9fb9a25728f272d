"""The bridge over real DDS: what a commander meets."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from vdd_ros.nodes import messages, qos

PERIOD = 35_000_000
CHUNKS = 7
DEEP = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)


def raw(state: JointState) -> tuple:
    """Return everything that a state says, to the last bit."""
    arrays = (state.position, state.velocity, state.effort)
    return messages.from_time(state.header.stamp), list(state.name), *(array.tobytes() for array in arrays)


class Commander:
    """Commands the arm and remembers all that comes back."""

    def __init__(self, graph, name: str = 'commander') -> None:
        """Take part in the test's graph."""
        node = graph.node(name)
        self._graph = graph
        self.states: list[JointState] = []
        self.clocks: list[int] = []
        self.events: list[messages.EpisodeEvent] = []
        self.diagnostics: dict[str, str] = {}
        self._commands = node.create_publisher(Float64MultiArray, 'arm_controller/commands', qos.COMMANDS)
        node.create_subscription(JointState, 'joint_states', self.states.append, DEEP)
        node.create_subscription(DiagnosticArray, 'episode', self._on_episode, qos.EPISODE)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, qos.DIAGNOSTICS)
        node.create_subscription(Clock, '/clock', self._on_clock, qos.CLOCK)
        self._reset = node.create_client(Trigger, 'mujoco_bridge/reset')
        graph.until(lambda: self._reset.service_is_ready() and self._commands.get_subscription_count() and self.states)

    def _on_episode(self, message: DiagnosticArray) -> None:
        self.events.append(messages.from_episode(message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics = {item.key: item.value for item in message.status[0].values}

    def _on_clock(self, message: Clock) -> None:
        self.clocks.append(messages.from_time(message.clock))

    @property
    def stamp(self) -> int:
        """Stamp of the newest state."""
        return messages.from_time(self.states[-1].header.stamp)

    def reset(self) -> messages.EpisodeEvent:
        """Begin an episode and wait for its first state."""
        seen = len(self.events)
        future = self._reset.call_async(Trigger.Request())
        self._graph.until(lambda: future.done() and len(self.events) > seen and self.events[-1].kind == 'start')
        start = self.events[-1]
        self._graph.until(lambda: self.stamp >= start.stamp)  # in realtime it does not stand still
        return start

    def send(self, position: np.ndarray) -> None:
        """Publish a command."""
        self._commands.publish(messages.to_command(position))

    def step(self, position: np.ndarray) -> None:
        """Command, and wait for the state at the end of the policy period or the end of the episode."""
        until, seen = self.stamp + PERIOD, len(self.events)
        self.send(position)
        self._graph.until(lambda: self.stamp >= until or len(self.events) > seen)

    @property
    def position(self) -> np.ndarray:
        """Measured position of the newest state."""
        return np.array(self.states[-1].position)


def test_a_command_advances_the_simulation_by_exactly_one_policy_period(graph):
    graph.start('mujoco_bridge', step_timeout=5.0)
    commander = Commander(graph)
    start = commander.reset()
    del commander.states[:-1]
    for _ in range(10):
        commander.step(commander.position)
    stamps = [messages.from_time(state.header.stamp) for state in commander.states]
    assert stamps == [start.stamp + PERIOD * chunk // CHUNKS for chunk in range(10 * CHUNKS + 1)]
    assert max(commander.clocks) == commander.stamp


def test_equal_commands_give_equal_joint_states_to_the_last_bit(graph):
    offsets = np.cumsum(np.random.default_rng(0).normal(scale=1e-3, size=(40, 7)), axis=0)
    runs = []
    for number in range(2):
        bridge = graph.start('mujoco_bridge', step_timeout=5.0)
        commander = Commander(graph, f'commander{number}')
        commander.reset()
        seen = len(commander.states) - 1
        start = commander.position
        for offset in offsets:
            commander.step(start + offset)
        runs.append([raw(state) for state in commander.states[seen:]])
        assert bridge.stop() == 0
    assert len(runs[0]) == 40 * CHUNKS + 1
    assert runs[0] == runs[1]


def test_commands_are_taken_in_the_order_of_the_joint_names(graph):
    graph.start('mujoco_bridge', step_timeout=5.0)
    commander = Commander(graph)
    commander.reset()
    start = commander.position
    target = start + np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.2])
    for _ in range(20):
        commander.step(target)
    moved = np.abs(commander.position - start)
    assert list(commander.states[-1].name)[np.argmax(moved)] == 'joint7'
    assert moved[6] > 0.1


@pytest.mark.parametrize(
    'command', [np.zeros(6), np.zeros(8), np.full(7, np.nan), np.full(7, np.inf)], ids=['short', 'long', 'nan', 'inf']
)
def test_a_command_that_is_none_is_refused_and_counted_and_moves_nothing(graph, command):
    bridge = graph.start('mujoco_bridge', step_timeout=30.0)
    commander = Commander(graph)
    start = commander.reset()
    commander.send(command)
    graph.until(lambda: commander.diagnostics.get('refused') == '1')
    assert commander.stamp == start.stamp
    assert bridge.text.count('command refused: expected') == 1
    commander.step(commander.position)
    assert commander.stamp == start.stamp + PERIOD


def test_a_reset_brings_the_arm_back_ends_the_episode_and_never_turns_back_time(graph):
    graph.start('mujoco_bridge', step_timeout=5.0)
    commander = Commander(graph)
    first = commander.reset()
    home = commander.position
    for _ in range(10):
        commander.step(home + 0.05)
    last = commander.stamp
    assert np.abs(commander.position - home).max() > 0.01
    second = commander.reset()
    np.testing.assert_array_equal(commander.position, home)
    assert second.stamp > last
    assert [(event.kind, event.index, event.outcome, event.steps) for event in commander.events] == [
        ('start', first.index, '', 0),
        ('end', first.index, 'aborted', 10),
        ('start', first.index + 1, '', 0),
    ]
    stamps = [messages.from_time(state.header.stamp) for state in commander.states]
    assert stamps == sorted(stamps)


def test_commands_outside_of_an_episode_move_nothing_in_lockstep_and_are_counted(graph):
    graph.start('mujoco_bridge')
    commander = Commander(graph)
    stamp = commander.stamp
    commander.send(commander.position)
    graph.until(lambda: commander.diagnostics.get('ignored') == '1')
    assert commander.stamp == stamp


def test_a_silent_commander_is_named_and_the_last_state_sent_again(graph):
    bridge = graph.start('mujoco_bridge', step_timeout=0.2)
    commander = Commander(graph, 'sleepy_commander')
    start = commander.reset()
    seen = len(commander.states)
    graph.until(lambda: len(commander.states) >= seen + 2)
    assert {messages.from_time(state.header.stamp) for state in commander.states[seen:]} == {start.stamp}
    graph.until(lambda: 'sleepy_commander on /arm_controller/commands, silent for 0.2 s' in bridge.text)


def test_in_realtime_time_goes_on_by_itself_and_the_last_command_holds(graph):
    graph.start('mujoco_bridge', mode='realtime', speed=5.0)
    commander = Commander(graph)
    commander.reset()
    target = commander.position + 0.05
    commander.send(target)
    until = commander.stamp + 40 * PERIOD
    graph.until(lambda: commander.stamp >= until)
    assert np.abs(commander.position - target).max() < 0.02
    stamps = np.array([messages.from_time(state.header.stamp) for state in commander.states])
    assert (np.diff(stamps) > 0).all()


@pytest.mark.parametrize('mode', ['lockstep', 'realtime'])
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_bridge_ends_cleanly_on_a_signal(graph, mode, number):
    bridge = graph.start('mujoco_bridge', mode=mode)
    Commander(graph)
    assert bridge.stop(number) == 0
    assert 'Traceback' not in bridge.text


@pytest.mark.parametrize(
    ('parameters', 'complaint'),
    [
        ({'mode': 'fast'}, 'expected one of lockstep, realtime for parameter mode of mujoco_bridge; found \'fast\''),
        ({'speed': 0.0}, 'expected float from 0.01 to 100 for parameter speed of mujoco_bridge; found'),
        ({'spede': 1.0}, 'expected known parameters of mujoco_bridge; found spede; use some of task, mode, speed'),
        ({'controller': 3}, 'expected str for parameter controller of mujoco_bridge; found'),
    ],
)
def test_a_wrong_parameter_is_refused_in_one_line(graph, parameters, complaint):
    bridge = graph.start('mujoco_bridge', **parameters)
    assert bridge.wait() == 2
    assert len(bridge.text.strip().splitlines()) == 1
    assert complaint in bridge.text


def test_a_whole_number_will_do_for_a_real_parameter(graph):
    bridge = graph.start('mujoco_bridge', mode='realtime', speed=2)
    Commander(graph)
    assert bridge.stop() == 0

"""Who commands the bridge in the tests, and remembers all that comes back."""

from __future__ import annotations

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from vdd_ros.nodes import messages, qos

PERIOD = 35_000_000
DEEP = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)


def raw(state: JointState) -> tuple:
    """Return everything that a state says, to the last bit."""
    arrays = (state.position, state.velocity, state.effort)
    return messages.from_time(state.header.stamp), list(state.name), *(array.tobytes() for array in arrays)


class Commander:
    """Commands the arm and remembers all that comes back."""

    def __init__(self, graph, name: str = 'commander', commands: str = 'arm_controller/commands') -> None:
        """Take part in the test's graph."""
        node = graph.node(name)
        self._graph = graph
        self.states: list[JointState] = []
        self.clocks: list[int] = []
        self.events: list[messages.EpisodeEvent] = []
        self.diagnostics: dict[str, str] = {}
        self._commands = node.create_publisher(Float64MultiArray, commands, qos.COMMANDS)
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

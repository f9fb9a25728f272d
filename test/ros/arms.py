"""An arm at the other end of the topics: it says what the test wants, and remembers what it was commanded."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, time_ns

import numpy as np
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.command_measures import received
from vdd_ros.contract.contract import NANOSECONDS, load_contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.control.limits import Limits
from vdd_ros.nodes import messages, qos
from vdd_ros.robot.kinematics import Kinematics

ANSWERED = {'override_name': 'a test', 'override_reason': 'there is no arm'}
"""Parameters of a policy node in wall time, whose artifact has passed no validation."""
JOINTS = [f'joint{number}' for number in range(1, 8)]
HOME = np.array([-0.4, 0.3, 0.0, -2.2, 0.0, 2.5, 0.4])
KINEMATICS = Kinematics.from_contract(load_contract('avoiding_cartesian'))


def tool(joints: np.ndarray) -> np.ndarray:
    """Return where joints bring the tool [m]."""
    return KINEMATICS.tool_position(joints)


class Received(np.ndarray):
    """A command, shape (joint,) [rad]."""

    sent: int | None = None
    """When it was sent [ns]; None where that is not known, as of what was computed from commands."""

    @classmethod
    def of(cls, values: Sequence[float], sent: int) -> Received:
        """Return a command that was sent at a time [ns]."""
        command = np.array(values).view(cls)
        command.sent = sent
        return command


class Arm:
    """Joint states and a clock of the test's choice; remembers the commands."""

    def __init__(self, graph, mover: str = 'policy_node') -> None:
        """Take part in the test's graph; ``mover`` is the node that commands."""
        self._node = node = graph.node('arm')
        self._graph, self._mover = graph, mover
        self.commands: list[np.ndarray] = []
        self._received = 0.0
        self.configured = False
        """Whether the node was asked to configure already."""
        self._states = node.create_publisher(JointState, 'joint_states', qos.JOINT_STATES_OFFERED)
        self._clock = node.create_publisher(Clock, '/clock', qos.CLOCK)
        node.create_subscription(Float64MultiArray, 'arm_controller/commands', self._on_command, qos.COMMANDS)
        self._change = node.create_client(ChangeState, f'{mover}/change_state')

    def _on_command(self, message: Float64MultiArray, info: dict[str, int]) -> None:
        self.commands.append(Received.of(message.data, info['source_timestamp']))
        self._received = monotonic()

    def silence(self) -> float:
        """Return for how long no command came [s]."""
        return monotonic() - self._received

    @staticmethod
    def say_to(publisher: Publisher, position: np.ndarray) -> None:
        """Command the arm by another publisher."""
        publisher.publish(messages.to_command(position))

    def tick(self, stamp: int) -> None:
        """Let the clock go on."""
        self._clock.publish(messages.to_clock(stamp))

    def say(self, stamp: int, position: np.ndarray = HOME, joints: list[str] = JOINTS, clock: bool = True) -> None:
        """Publish where the arm is."""
        if clock:
            self.tick(stamp)
        zeros = np.zeros(len(joints))
        self._states.publish(messages.to_joint_state(stamp, joints, position, zeros, zeros))

    def live(self, delay: int = 0, **change: object) -> bool:
        """Say in wall time that the arm is where it was commanded to be; always true."""
        position = self.commands[-1] if self.commands else HOME
        self.say(time_ns() - delay, **{'position': position, 'clock': False, **change})
        return True

    def change(self, transition: int) -> bool:
        """Ask the node for a transition; return whether it succeeded."""
        self._graph.until(self._change.service_is_ready)
        future = self._change.call_async(ChangeState.Request(transition=Transition(id=transition)))
        self._graph.until(future.done)
        return future.result().success

    def ask(self, service: str, live: bool = True) -> Trigger.Response:
        """Call a service of the node, while the arm lives on."""
        client = self._node.create_client(Trigger, f'{self._mover}/{service}')
        self._graph.until(client.service_is_ready)
        future = client.call_async(Trigger.Request())
        self._graph.until(lambda: (not live or self.live()) and future.done())
        self._node.destroy_client(client)
        return future.result()

    def resume(self) -> None:
        """End a stop; until then a joint state may be too old, where this process had to wait for a processor."""
        self._graph.until(lambda: self.live() and self.ask('resume').success)

    @property
    def listeners(self) -> int:
        """How many nodes receive its joint states."""
        return self._states.get_subscription_count()

    def preflight(self) -> str:
        """Return what the node finds when it looks around, in words, whatever the arm is up to."""
        return self.ask('preflight', live=False).message

    def activate(self, stamp: int | None = None) -> None:
        """Configure the node if it is not, send it a state, and activate it; in wall time without a stamp."""
        if not self.configured:
            assert self.change(Transition.TRANSITION_CONFIGURE)
            self.configured = True
        self._graph.until(lambda: self.listeners == 1)
        deadline = monotonic() + 20
        while not self._active(stamp):  # the state may come before the subscription has it
            assert monotonic() < deadline, 'was not activated'

    def _active(self, stamp: int | None) -> bool:
        if stamp is None:
            self.live()
        else:
            self.say(stamp)
        return self.change(Transition.TRANSITION_ACTIVATE)

    def moves(self, distance: float, **how: object) -> None:
        """Live until the tool was commanded so far from where it is now [m]."""
        begin = tool(self.commands[-1] if self.commands else HOME)
        self._graph.until(lambda: self.live(**how) and self.commands and self._gone(begin) > distance)

    def _gone(self, begin: np.ndarray) -> float:
        return np.linalg.norm(tool(self.commands[-1]) - begin)

    def rests(self, count: int = 60) -> bool:
        """Tell whether so many commands were the same."""
        return len(self.commands) >= count and all(np.array_equal(self.commands[-1], c) for c in self.commands[-count:])

    def keeps_resting(self, count: int = 60) -> None:
        """Wait for so many more commands, and see that they stay."""
        last, seen = self.commands[-1], len(self.commands)
        self._graph.until(lambda: len(self.commands) >= seen + count)
        assert all(np.array_equal(command, last) for command in self.commands[seen:])


def limits_of(**parameters: object) -> Limits:
    """Return the limits that a node with these parameters holds at control rate."""
    contract = load_contract('avoiding_cartesian')
    return Deployment.parse(parameters).limits_of(contract, KINEMATICS, lockstep=False)


def assert_smooth(commands: list[np.ndarray], rate: float, limits: Limits | None = None) -> None:
    """See that commands are finite and within limits of position, speed, acceleration and jerk.

    After a gap of more than `STALL` motion begins from rest.
    """
    limits, path = limits or limits_of(), np.array(commands)
    assert np.isfinite(path).all()
    assert ((path >= KINEMATICS.lower) & (path <= KINEMATICS.upper)).all()
    times = np.array([getattr(command, 'sent', None) or 0 for command in commands])
    period = round(NANOSECONDS / rate)
    for segment in received(times, path, period).segments:
        for order, limit in ((1, limits.velocity), (2, limits.acceleration), (3, limits.jerk)):
            excess = np.abs(np.diff(segment, order, axis=0)) * rate**order - limit
            assert excess.max(initial=0.0) <= 1e-4 * 10 ** (order // 3), (order, int(excess.max(axis=1).argmax()))

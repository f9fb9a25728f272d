"""Demonstrates a task over ROS, in the same way as teleoperation: joint states in, position commands out."""

from __future__ import annotations

import time
from collections import deque

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from vdd_ros.common.errors import ConfigurationError, InterfaceError
from vdd_ros.contract.contract import NANOSECONDS, load_contract
from vdd_ros.control.control_output import Command
from vdd_ros.control.lookahead import CommandWindow
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.arm.arm_state import ArmState
from vdd_ros.nodes.arm.output import INTERFACES, Output
from vdd_ros.nodes.parameters import Parameter, declare
from vdd_ros.nodes.process import guarded, run
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.demonstration import CONTROL_PERIOD, Teleoperation
from vdd_ros.sim.demonstration_tally import DETECTED, MAX_FAILURES, MAX_FIRST_FAILURES, DemonstrationTally
from vdd_ros.sim.tasks import load_task

PARAMETERS = (
    Parameter('task', 'avoiding', 'task: a name, an entry point, FILE.py or MODULE:ATTRIBUTE', path=True),
    Parameter(
        'contract', 'avoiding_cartesian', 'contract that names topics and joints: a file, or one that ships', path=True
    ),
    Parameter('episodes', 300, 'number of successful demonstrations to record', minimum=1, maximum=1_000_000),
    Parameter(
        'max_failures',
        MAX_FAILURES,
        'number of failures after which the node ends with an error',
        minimum=0,
        maximum=1_000_000,
    ),
    Parameter(
        'max_first_failures',
        MAX_FIRST_FAILURES,
        'number of failures without any success after which the node ends with an error',
        minimum=1,
        maximum=1_000_000,
    ),
    Parameter('seed', 0, 'seed of the demonstrations; the same seed gives the same ones', minimum=0, maximum=2**31 - 1),
    Parameter(
        'recorder',
        '',
        'node that must be ready to record before the first demonstration; empty waits for none',
        topic=True,
    ),
    Parameter(
        'timeout',
        30.0,
        'time without joint states, or without the report of the recorder, after which the node ends [s]',
        minimum=1.0,
        maximum=3600.0,
    ),
)


class DemonstratorNode(Node):
    """Runs episodes with the scripted demonstrator of the task, until enough of them have succeeded."""

    def __init__(self) -> None:
        """Declare the parameters, load task and arm, and wait for the bridge."""
        super().__init__('demonstrator')
        self._values = declare(self, PARAMETERS)
        contract = load_contract(self._values['contract'])
        task = load_task(self._values['task'])
        if contract.commanded.type not in (None, INTERFACES['position']) or contract.commanded.quantity != 'position':
            raise ConfigurationError(
                expected=f'positions as Float64MultiArray on {contract.topics.commands}',
                found=f'{contract.commanded.quantity} commands of type {contract.commanded.type}',
                remedy='demonstrate under a contract of positions; record other controllers with `vdd record-live`',
            )
        script = task.new_demonstrator(np.random.default_rng(self._values['seed']))
        self._teleoperation = Teleoperation(Kinematics.from_contract(contract), task, script, contract.joints)
        self._arm = ArmState(contract, self.resolve_topic_name(contract.topics.joint_states), NANOSECONDS)
        self._demonstration: _Demonstration | None = None
        self._latest: messages.JointReading | None = None
        self._requested = False
        self._tally = DemonstrationTally(task.name, self._values['max_failures'], self._values['max_first_failures'])
        self._max_steps, self._time_limit = task.max_steps, task.max_steps * task.period / NANOSECONDS
        self._modes_seen: set[str] = set()
        self._began = self._received = self._ended = time.monotonic()
        self._output = Output(contract)
        self._publish = self._output.open(self, qos.LOCKSTEP)
        self._before: np.ndarray | None = None
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', qos.DIAGNOSTICS)
        self.create_subscription(JointState, contract.topics.joint_states, self._on_state, qos.JOINT_STATES)
        self.create_subscription(DiagnosticArray, contract.topics.episode, self._on_episode, qos.EPISODE)
        self._reset = self.create_client(Trigger, 'mujoco_bridge/reset')
        recorder = self._values['recorder']
        self._ready = self.create_client(Trigger, f'{recorder}/ready') if recorder else None
        self._answer: Future | None = None
        self._recorded: deque[tuple[int, int]] = deque(maxlen=qos.COMPLETE.depth)
        self._awaited: tuple[int, int] | None = None
        if recorder:
            self.create_subscription(DiagnosticArray, f'{recorder}/complete', self._on_complete, qos.COMPLETE)
        wall = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.05, self._look_for_peers, clock=wall)
        self.create_timer(1.0, self._report, clock=wall)

    @property
    def done(self) -> bool:
        """Whether enough demonstrations have succeeded, and are recorded."""
        return self._is_enough and self._awaited is None

    @property
    def _is_enough(self) -> bool:
        return self._tally.successes >= self._values['episodes']

    @guarded
    def _look_for_peers(self) -> None:
        """Begin once every subscriber of the first command exists."""
        self._check_recorded()
        if time.monotonic() - self._received > self._values['timeout']:
            raise InterfaceError(
                expected='joint states, commands taken, ~/reset of mujoco_bridge' + ', a recorder' * bool(self._ready),
                found=f'silence for {self._values["timeout"]:g} s, without {", ".join(self._missing()) or "a reason"}',
                remedy='start what is missing, in the same namespace and ROS domain',
            )
        if self._requested or self._missing():
            return
        if self._ready is None or (self._answer and self._answer.done() and self._answer.result().success):
            self._ask_for_episode()
        elif self._answer is None or self._answer.done():
            self._answer = self._ready.call_async(Trigger.Request())

    def _missing(self) -> list[str]:
        missing = [] if self._latest else ['joint states']
        missing += [f'a subscriber on {topic}' for topic in self._output.missing]
        missing += [] if self._reset.service_is_ready() else ['~/reset of mujoco_bridge']
        return missing + ([] if self._ready is None or self._ready.service_is_ready() else ['~/ready of the recorder'])

    def _ask_for_episode(self) -> None:
        self._requested = True
        self._reset.call_async(Trigger.Request())

    @guarded
    def _on_episode(self, message: DiagnosticArray) -> None:
        event = messages.from_episode(message)
        self._received = time.monotonic()
        if event.kind == 'start' and self._requested:
            self._demonstration, self._before = _Demonstration(event.stamp, self._teleoperation), None
            self._steer()
        elif event.kind == 'end' and self._demonstration is not None:
            self._finish(event)

    def _finish(self, event: messages.EpisodeEvent) -> None:
        self._demonstration = None
        if event.outcome == 'success':
            self._tally.succeed()
            self._modes_seen.add(event.mode)
        else:
            self._tally.fail(self._cause(event))
        self._awaited, self._ended = (event.index, event.stamp), time.monotonic()
        self._go_on()

    @guarded
    def _on_complete(self, message: DiagnosticArray) -> None:
        event = messages.from_episode(message)
        self._recorded.append((event.index, event.stamp))
        self._go_on()

    def _go_on(self) -> None:
        """Begin the next demonstration once the recorder has all messages of the last one."""
        if self._awaited is None or (self._ready is not None and self._awaited not in self._recorded):
            return
        self._awaited = None
        if self._is_enough:
            self._report()
        else:
            self._ask_for_episode()

    def _cause(self, event: messages.EpisodeEvent) -> str:
        if event.outcome == 'aborted':
            return 'the scene was reset'
        late = event.steps >= self._max_steps
        return f'no success within the time limit of {self._time_limit:.3g} s' if late else DETECTED

    def _check_recorded(self) -> None:
        if self._awaited is not None and time.monotonic() - self._ended > self._values['timeout']:
            raise InterfaceError(
                expected=f'all messages of episode {self._awaited[0]} at {self._values["recorder"]}',
                found=f'no report of them for {self._values["timeout"]:g} s',
                remedy='record again with less load on the machine',
            )

    @guarded
    def _on_state(self, message: JointState) -> None:
        reading = self._arm.take(message, self.get_clock().now().nanoseconds)
        if self._arm.incomplete:
            raise self._arm.complaint
        if reading is None:
            return
        self._latest = reading
        self._received = time.monotonic()
        self._steer()

    def _steer(self) -> None:
        if self._demonstration is None or self._latest is None:
            return
        command = self._demonstration.answer(self._latest)
        if command is not None:
            self._send(command, self._latest.stamp)

    def _send(self, command: np.ndarray, stamp: int) -> None:
        before = command if self._before is None else self._before
        # For trajectory controllers: the line from the previous command to this one.
        window = CommandWindow(np.stack([before, command]), stamp, CONTROL_PERIOD, 1, is_smooth=False)
        rest = np.zeros_like(command)
        self._publish(Command(command, rest, rest, -1, clamped=False, window=window), stamp)
        self._before = command

    def _report(self) -> None:
        elapsed = time.monotonic() - self._began
        rate = self._tally.successes / elapsed
        left = f'{(self._values["episodes"] - self._tally.successes) / rate:.0f}' if rate else 'unknown'
        values = {
            'successes': self._tally.successes,
            'episodes': self._values['episodes'],
            'failures': self._tally.failures,
            'modes': len(self._modes_seen),
            'per_second': f'{rate:.2f}',
            'seconds_left': left,
        }
        text = ' '.join(f'{key}={value}' for key, value in values.items())
        self.get_logger().info(f'demonstrations: {text}')
        stamp = self.get_clock().now().nanoseconds
        name = self.get_fully_qualified_name()
        self._diagnostics.publish(messages.to_diagnostics(stamp, name, 'demonstrating', values))


class _Demonstration:
    """One demonstration under way: answers the states at its ticks with joint commands."""

    def __init__(self, start: int, teleoperation: Teleoperation) -> None:
        self._next = start
        self._teleoperation = teleoperation
        self._last: np.ndarray | None = None

    def answer(self, reading: messages.JointReading) -> np.ndarray | None:
        """Return the joint command, shape (joint,) [rad], for a joint state; None before the next control step is due.

        After the end of the motion, its last command is repeated.
        """
        if reading.stamp < self._next:
            return None
        while self._next <= reading.stamp:
            self._next += CONTROL_PERIOD
        if self._last is None:
            self._teleoperation.begin(reading.position)
        if not self._teleoperation.finished:
            self._last = self._teleoperation.command()
        return self._last


def main() -> int:
    """Run the node as a process."""
    return run(DemonstratorNode, attend=lambda node: node.done)


if __name__ == '__main__':
    raise SystemExit(main())

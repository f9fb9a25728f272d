"""One arm under one control loop, independent of the source of plans: from joint states to commands."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import JointState

from vdd_ros.common.errors import InterfaceError, VddError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.control.control_loop import ControlLoop
from vdd_ros.control.control_output import Command, ControlOutput, Stop
from vdd_ros.control.limits import Limits
from vdd_ros.data.decode.live import LiveStreams
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.arm.arm_state import ArmState
from vdd_ros.nodes.arm.commander import Commander
from vdd_ros.nodes.arm.controls import Controls
from vdd_ros.nodes.arm.diagnostics import Diagnostics
from vdd_ros.nodes.arm.lifecycle import ArmNode, unless_closed
from vdd_ros.nodes.arm.output import Output
from vdd_ros.nodes.arm.preflight import Arm, Report, Stream, look, rivals
from vdd_ros.nodes.listening import Listening

_STATE_TYPE = 'sensor_msgs/msg/JointState'
_WATCH_PERIOD = 0.2
_SILENCE_PERIOD = 0.05


@dataclass(frozen=True)
class Setting:
    """Properties of the arm of a node."""

    contract: Contract
    limits: Limits
    """Limits of the joints; in lockstep only those of position and speed are used, by the preflight."""
    period: int
    """Control period [ns]."""
    streams: LiveStreams | None = None
    """Topic features."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Further command topics and their types; each needs a subscriber."""
    notes: Callable[[], Mapping[str, str]] = dict
    """Lines of the preflight, by subject."""
    values: Callable[[], Mapping[str, object]] = dict
    """Further values of the diagnostics."""
    shadow: bool = False
    """Whether another program moves the arm; no publisher of commands is created."""


class ArmDriver:
    """A configured arm, from its construction to `close`: joint states in, commands out, with all checks.

    It subscribes at construction, and sends commands from `start` to `halt`.
    """

    def __init__(self, node: ArmNode, loop: ControlLoop, setting: Setting) -> None:
        """Subscribe to the arm; outputs are discarded before `open`.

        Parameters
        ----------
        node
            Whose parameters (`vdd_ros.nodes.arm.parameters`) describe controller, rates and ages.
        loop
            A loop that is not started.
        setting
            What is known about the arm.

        Raises
        ------
        ConfigurationError
            Contract and controller do not go together.

        """
        contract, values = setting.contract, node.values
        self.node, self.setting = node, setting
        self.closed = False
        self.output = Output(
            contract,
            interface=values['interface'],
            controller=values['controller'],
            controller_joints=values['controller_joints'],
            period=setting.period,
        )
        self.commands = node.resolve_topic_name(self.output.topic)
        """Command topic."""
        self.commander = Commander(
            loop,
            lambda outcome, stamp: self._send(outcome, stamp),
            period=setting.period,
            policy_period=contract.period,
            max_age=round(values['max_age'] * NANOSECONDS),
            now=node.now,
            simulated=node.simulated,
            priority=values['realtime_priority'],
        )
        topic = contract.topics.joint_states
        self.arm = ArmState(contract, node.resolve_topic_name(topic))
        self._send: Callable[[ControlOutput, int], None] = lambda outcome, stamp: None
        self._diagnostics = Diagnostics()
        self._stopped = False
        """Whether the newest diagnostics reported a stop."""
        self._status = node.create_publisher(DiagnosticArray, '/diagnostics', qos.DIAGNOSTICS)
        self.controls = Controls(self)
        self._listening = Listening(node, setting.streams, self._on_stream) if setting.streams else None
        self._states = node.create_subscription(JointState, topic, self._on_state, qos.JOINT_STATES)
        self._timers = [
            node.create_timer(1.0, self._report, clock=node.wall),
            node.create_timer(_WATCH_PERIOD, self._watch, clock=node.wall),
        ]
        if node.simulated:
            self._timers.append(node.create_timer(_SILENCE_PERIOD, self._notice_silence, clock=node.wall))

    def open(self, send: Callable[[ControlOutput, int], None] | None = None) -> Callable[[ControlOutput, int], None]:
        """Start to send outputs, by ``send`` or by a publisher of commands; return the function that sends."""
        self._send = send or self.output.open(self.node)
        return self._send

    @property
    def unheard(self) -> VddError | None:
        """Why no joint state is known; None if one has arrived."""
        return self.arm.complaint if self.arm.reading is None else None

    def start(self) -> None:
        """Run the preflight, start at the measured position.

        Raises
        ------
        InterfaceError
            The arm was not heard, the emergency stop is pressed, or the preflight found a failure; the other failures
            are logged.

        """
        if self.arm.reading is None:
            raise self.arm.complaint
        if self.controls.pressed:
            raise InterfaceError(
                expected='the emergency stop to be released', found='it pressed', remedy='release it, then activate'
            )
        report, log = self.look(), self.node.get_logger()
        if report.failures:
            if not self.node.starting:
                for finding in report.failures[1:]:
                    log.error(str(finding.error))
            raise report.failures[0].error
        log.info(f'preflight:\n{report.text}')
        reading = self.arm.reading
        self.commander.start(reading.stamp, reading.position)

    def halt(self, reason: str) -> None:
        """Brake until the arm is at rest."""
        self.commander.halt(reason)

    def close(self, reason: str) -> None:
        """Brake until the arm is at rest, and release it."""
        self.halt(reason)
        self.closed = True
        for timer in self._timers:
            self.node.destroy_timer(timer)
        self.node.destroy_subscription(self._states)
        if self._listening:
            self._listening.close()
        self.controls.close()
        self.node.destroy_publisher(self._status)
        self.output.close(self.node)

    def look(self) -> Report:
        """Run the preflight; requires a joint state."""
        setting, reading = self.setting, self.arm.reading
        limits = setting.limits
        arm = Arm(
            setting.contract.robot.joints,
            reading.position,
            (self.node.now() - reading.stamp) / NANOSECONDS,
            self.node.values['max_age'],
            self.arm.rate,
            setting.contract.policy_rate,
            NANOSECONDS / setting.period,
            limits.lower,
            limits.upper,
            limits.velocity,
            self.node.simulated,
        )
        return look(self.node, self._streams(), arm, self.notes)

    @property
    def notes(self) -> Mapping[str, str]:
        """Lines of the preflight that do not depend on received messages, by subject."""
        order = f'{self.output.topic} takes {", ".join(self.output.joints)}'
        return {**self.setting.notes(), 'joint order': order}

    def preflight(self) -> tuple[bool, str]:
        """Return whether the arm may move, and a line for each check."""
        if self.unheard is None:
            report = self.look()
            return not report.failures, report.text
        lines = [f'fine: {subject}: {text}' for subject, text in self.notes.items()]
        return False, '\n'.join([*lines, f'failure: {self.unheard}'])

    def _streams(self) -> Sequence[Stream]:
        resolve, setting = self.node.resolve_topic_name, self.setting
        role = 'subscription' if setting.shadow else 'publisher'
        return [
            Stream(resolve(setting.contract.topics.joint_states), _STATE_TYPE, 'subscription', needed=True),
            Stream(self.commands, self.output.type_name, role, needed=not setting.shadow, alone=not setting.shadow),
            *(Stream(resolve(topic), kind, 'publisher', needed=True) for topic, kind in setting.beside.items()),
            Stream(resolve('~/estop'), 'std_msgs/msg/Bool', 'subscription', needed=False),
            *(
                Stream(resolve(topic), kind, 'subscription', needed=not topic.endswith('_static'))
                for topic, kind in (setting.streams.topics.items() if setting.streams else ())
            ),
        ]

    @unless_closed
    def _on_state(self, message: JointState) -> None:
        before, reading = self.arm.reading, self.arm.take(message, self.node.now())
        if reading is None:
            if self.arm.incomplete:
                self.commander.replace(lambda loop: loop.distrust(str(self.arm.complaint)))
                self.node.get_logger().warning(str(self.arm.complaint), throttle_duration_sec=1.0)
            return
        if self.setting.streams and before and reading.stamp < before.stamp:
            self.commander.feed(self.setting.streams.forget)
        self.commander.observe(reading.stamp, reading.position)
        stopped = self.commander.active and isinstance(self.commander.outcome, Stop)
        if stopped != self._stopped and not self.setting.shadow:
            self._report()  # the start and the end of a stop are reported immediately

    @unless_closed
    def _on_stream(self, topic: str, received: int, data: bytes) -> None:
        self.commander.feed(functools.partial(self.setting.streams.take, topic, received, data))
        for feature in self.setting.contract.topic_features:
            if feature.topic == topic:
                self.commander.replace(lambda loop, name=feature.name: loop.hear(name, received))

    @unless_closed
    def _notice_silence(self) -> None:
        self.commander.notice_silence()

    @unless_closed
    def _watch(self) -> None:
        """Log why the arm holds, and check whether another node sends commands."""
        commander, log = self.commander, self.node.get_logger()
        if not commander.active:
            return
        if not isinstance(commander.outcome, Command):
            advice = commander.advice and f'; {commander.advice}'
            log.warning(f'holding: {commander.outcome.reason}{advice}', throttle_duration_sec=1.0)
        if self.setting.shadow:
            # In shadow mode only an operator stops the node; after other stops the comparison continues.
            if isinstance(commander.outcome, Stop) and not self.controls.asked:
                commander.resume()
            return
        if others := rivals(self.node, self.commands):
            reason = f'{", ".join(others)} commands on {self.output.topic}, too'
            log.error(f'giving way: {reason}', throttle_duration_sec=1.0)
            commander.give_way(reason)

    def _publishers(self) -> str:
        """Return the publishers of joint states in words, if there are several."""
        topic = self.node.resolve_topic_name(self.setting.contract.topics.joint_states)
        infos = self.node.get_publishers_info_by_topic(topic)
        names = sorted(f'{info.node_namespace.rstrip("/")}/{info.node_name}' for info in infos)
        return f'{len(names)} publishers of {topic}: {", ".join(names)}' if len(names) > 1 else ''

    @unless_closed
    def _report(self) -> None:
        level, text, values = self._diagnostics.status(self.commander)
        self._stopped = values['outcome'] == 'stop'
        if self.commander.active and (several := self._publishers()):
            values['joint_states'] = several
            if not isinstance(self.commander.outcome, Command):
                text = f'{text}; {several}'
        values = {'operating_mode': self.node.values['operating_mode'], **values, **self.setting.values()}
        if self.controls.pressed:
            level, text = DiagnosticStatus.ERROR, f'emergency stop; {text}'
        name = self.node.get_fully_qualified_name()
        self._status.publish(messages.to_diagnostics(self.node.now(), name, text, values, level))

"""One arm under one control loop, independent of the source of plans: from joint states to commands."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.subscription import Subscription
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
from vdd_ros.nodes.arm.goals import STATUS_TYPE, status_topic
from vdd_ros.nodes.arm.lifecycle import ArmNode, unless_closed
from vdd_ros.nodes.arm.output import Channel, Output
from vdd_ros.nodes.arm.preflight import Arm, Report, Stream, look, rivals
from vdd_ros.nodes.listening import Listening

_STATE_TYPE = 'sensor_msgs/msg/JointState'
_WATCH_PERIOD = 0.2
_SILENCE_PERIOD = 0.05


@dataclass(frozen=True)
class Setting:
    """Configuration of an `ArmDriver`: contract, limits, control period and topic features."""

    contract: Contract
    limits: Limits
    """Limits of the joints. In lockstep, only position and speed limits are used, by the preflight."""
    period: int
    """Control period [ns]."""
    streams: LiveStreams | None = None
    """Topic features."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Further command topics and their types; each needs a subscriber."""
    notes: Callable[[], Mapping[str, str]] = dict
    """Called at every preflight; returns additional lines of its report, by subject."""
    values: Callable[[], Mapping[str, object]] = dict
    """Called for every diagnostics message; returns additional values."""
    shadow: bool = False
    """Whether another node moves the arm; no command publisher is created then."""


class ArmDriver:
    """A configured arm, from its construction to `close`: joint states in, commands out, with all checks.

    The driver subscribes at construction, and sends commands from `start` to `halt`.
    """

    def __init__(self, node: ArmNode, loop: ControlLoop, setting: Setting) -> None:
        """Subscribe to the arm; outputs are discarded before `open`.

        Parameters
        ----------
        node
            The node, whose parameters (`vdd_ros.nodes.arm.parameters`) define controller, rates and ages.
        loop
            A loop that is not started.
        setting
            Properties of the arm.

        Raises
        ------
        ConfigurationError
            The controller does not match the contract.

        """
        contract, values = setting.contract, node.values
        self.node, self.setting = node, setting
        self.closed = False
        self.output = Output(
            contract,
            interface=values['interface'],
            controller=values['controller'],
            controller_joints=values['controller_joints'],
            gripper_interface=values['gripper_interface'],
            period=setting.period,
        )
        self.topics = tuple(node.resolve_topic_name(each.topic) for each in self.output.channels)
        """Command topics, starting with that of the arm."""
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
        ages = values['max_age'], values.get('stream_max_age', values['max_age'])
        self.arm = ArmState(contract, node.resolve_topic_name(topic), round(max(ages) * NANOSECONDS))
        self._begins: dict[str, np.ndarray] = {}
        self._others: list[Subscription] = []
        self._subscribe_to_others()
        self._send: Callable[[ControlOutput, int], None] = lambda outcome, stamp: None
        self._diagnostics = Diagnostics()
        self._stopped = False
        """Whether the last diagnostics reported a stop."""
        self._status = node.create_publisher(DiagnosticArray, '/diagnostics', qos.DIAGNOSTICS)
        self.controls = Controls(node, self.commander)
        self._listening = Listening(node, setting.streams, self._on_stream) if setting.streams else None
        self._states = node.create_subscription(JointState, topic, self._on_state, qos.JOINT_STATES)
        self._timers = [
            node.create_timer(1.0, self._report, clock=node.wall),
            node.create_timer(_WATCH_PERIOD, self._watch, clock=node.wall),
        ]
        if node.simulated:
            self._timers.append(node.create_timer(_SILENCE_PERIOD, self._notice_silence, clock=node.wall))

    def open(self, send: Callable[[ControlOutput, int], None] | None = None) -> Callable[[ControlOutput, int], None]:
        """Start to send outputs, by ``send`` or by default with command publishers; return the sending function."""
        self._send = send or self.output.open(self.node)
        return self._send

    @property
    def waiting_for(self) -> VddError | None:
        """Why no joint state is known; None if a joint state has arrived."""
        return self.arm.complaint if self.arm.reading is None else None

    def start(self) -> None:
        """Run the preflight, and start at the measured position.

        Raises
        ------
        InterfaceError
            There is no joint state of the arm, the emergency stop is pressed, or the preflight found a failure. Further
            failures are logged.

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
        reading = self.arm.reading
        position = reading.position.copy()
        for channel in self.output.channels:
            if not channel.measured and channel.topic in self._begins:
                position[channel.places] = self._begins[channel.topic]
        position = self.commander.loop.placed(reading.stamp, position)
        log.info(f'preflight:\n{report.text}')
        self._ignore_others()
        self.controls.stop_requested = False
        self.commander.start(reading.stamp, position)

    def halt(self, reason: str) -> None:
        """Brake until the arm is at rest."""
        was_active = self.commander.active
        self.commander.halt(reason)
        if was_active:
            commanded = self.commander.loop.commanded
            self._begins = {each.topic: commanded[each.places] for each in self.output.channels if not each.measured}
            self._subscribe_to_others()

    def _subscribe_to_others(self) -> None:
        """Subscribe to the commands of other programs to joints without measurement: the commands start there."""
        for channel in self.output.channels:
            if not channel.measured and not channel.action:
                take = functools.partial(self._on_other, channel)
                self._others.append(self.node.create_subscription(channel.type, channel.topic, take, qos.COMMANDS))

    def _ignore_others(self) -> None:
        """End these subscriptions: while the node commands, it receives its own commands there."""
        for subscription in self._others:
            self.node.destroy_subscription(subscription)
        self._others = []

    def _on_other(self, channel: Channel, message: object) -> None:
        if self.closed or self.commander.active:
            return
        try:
            self._begins[channel.topic] = channel.position(message, self.node.now())
        except InterfaceError as error:
            self.node.get_logger().warning(f'not taken in: {error}', throttle_duration_sec=1.0)

    def close(self, reason: str) -> None:
        """Brake until the arm is at rest, and destroy subscriptions and publishers."""
        self.halt(reason)
        self.closed = True
        for timer in self._timers:
            self.node.destroy_timer(timer)
        self.node.destroy_subscription(self._states)
        self._ignore_others()
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
            setting.contract.joints,
            reading.position,
            (self.node.now() - reading.stamp) / NANOSECONDS,
            self.node.values['max_age'],
            self.arm.rate,
            setting.contract.policy_rate,
            NANOSECONDS / setting.period,
            limits.lower,
            limits.upper,
            limits.velocity,
            setting.contract.measured_joints,
            self.node.simulated,
        )
        return look(self.node, self._streams(), arm, self.notes)

    @property
    def notes(self) -> Mapping[str, str]:
        """Lines of the preflight that do not depend on received messages, by subject."""
        orders = [f'{each.topic} takes {", ".join(each.joints)}' for each in self.output.channels]
        return {**self.setting.notes(), 'joint order': '; '.join(orders)}

    def preflight(self) -> tuple[bool, str]:
        """Return whether the arm may move, and a line for each check."""
        if self.waiting_for is None:
            report = self.look()
            return not report.failures, report.text
        lines = [f'fine: {subject}: {text}' for subject, text in self.notes.items()]
        return False, '\n'.join([*lines, f'failure: {self.waiting_for}'])

    def _streams(self) -> Sequence[Stream]:
        resolve, setting = self.node.resolve_topic_name, self.setting
        role = 'subscription' if setting.shadow else 'publisher'
        return [
            Stream(resolve(setting.contract.topics.joint_states), _STATE_TYPE, 'subscription', needed=True),
            *(
                Stream(status_topic(topic), STATUS_TYPE, 'subscription', needed=True)
                if channel.action
                else Stream(topic, channel.type_name, role, needed=not setting.shadow, alone=not setting.shadow)
                for topic, channel in zip(self.topics, self.output.channels)
            ),
            *(
                Stream(resolve(topic), kind, 'publisher', needed=True, alone=True)
                for topic, kind in setting.beside.items()
            ),
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
            if self.arm.incomplete or self.arm.outdated:
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
                self.commander.replace(lambda loop, name=feature.name: loop.on_message(name, received))

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
            if isinstance(commander.outcome, Stop) and not self.controls.stop_requested:
                commander.resume()
            return
        for problem in self.output.take_problems():
            log.error(problem)
            commander.stop(problem)
        for action in self.output.take_contested():
            reason = f'another client commands by the action {action}, too'
            log.error(f'giving way: {reason}', throttle_duration_sec=1.0)
            commander.give_way(reason)
            return
        for name in [*self.output.topics, *self.setting.beside]:
            if others := rivals(self.node, self.node.resolve_topic_name(name)):
                reason = f'{", ".join(others)} commands on {name}, too'
                log.error(f'giving way: {reason}', throttle_duration_sec=1.0)
                commander.give_way(reason)
                return

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
        values = {
            'operating_mode': self.node.values['operating_mode'],
            'joints': ' '.join(self.setting.contract.joints),
            **values,
            **self.setting.values(),
            'operator_stop': self.controls.stop_requested,
        }
        if self.controls.pressed:
            level, text = DiagnosticStatus.ERROR, f'emergency stop; {text}'
        name = self.node.get_fully_qualified_name()
        self._status.publish(messages.to_diagnostics(self.node.now(), name, text, values, level))

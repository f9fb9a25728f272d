"""Commands an arm by a distilled policy: joint states in, commands out, under a lifecycle, in stages."""

from __future__ import annotations

import functools
import sys
import time
import traceback
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RclpyParameter
from sensor_msgs.msg import JointState

from vdd_ros.contract import NANOSECONDS, load_contract
from vdd_ros.control.outcome import Command
from vdd_ros.errors import ConfigurationError, InterfaceError, VddError
from vdd_ros.kinematics import Kinematics
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.arm_state import ArmState
from vdd_ros.nodes.commander import Commander
from vdd_ros.nodes.gatekeeper import admit
from vdd_ros.nodes.listening import Listening, live_streams
from vdd_ros.nodes.output import Output
from vdd_ros.nodes.parameters import declare
from vdd_ros.nodes.policy_controls import Controls, while_configured
from vdd_ros.nodes.policy_diagnostics import Diagnostics
from vdd_ros.nodes.policy_parameters import PARAMETERS, build_loop, control_period, deployment_of
from vdd_ros.nodes.policy_view import View
from vdd_ros.nodes.preflight import rivals
from vdd_ros.nodes.process import run
from vdd_ros.policy import DistilledPolicy

_SWITCH_INTERVAL = 5e-4
"""How long a thread may keep the others from python [s]; the default of 5 ms is five periods of fast commands."""
_WATCH_PERIOD = 0.2


def transition(callback: Callable[..., None]) -> Callable[..., TransitionCallbackReturn]:
    """Let a lifecycle callback raise: rclpy would swallow it; here it is logged, and the transition fails."""

    @functools.wraps(callback)
    def call(self: PolicyNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            callback(self)
        except VddError as error:
            self.complaint = error
            if not self._starting:  # whoever started the node reads its last line; whoever asked reads the log
                self.get_logger().error(str(error))
        except Exception as error:  # whatever it is, the lifecycle would hide it
            self.complaint = error
            self.get_logger().error(traceback.format_exc())
        else:
            return TransitionCallbackReturn.SUCCESS
        return TransitionCallbackReturn.FAILURE

    return call


class PolicyNode(LifecycleNode):
    """Puts a student, an arm and a person together; what moves the arm is `Commander`."""

    def __init__(self) -> None:
        """Declare the parameters; with autostart, begin by itself."""
        super().__init__('policy_node')
        self.values = declare(self, PARAMETERS)
        """The parameters by name, as they were at the start."""
        self.complaint: Exception | None = None
        self.commander: Commander | None = None
        self.estopped = False
        """Whether the emergency stop is pressed."""
        self._wall = Clock(clock_type=ClockType.STEADY_TIME)
        self.simulated = self.get_parameter('use_sim_time').value
        self._starting = self.values['autostart']
        self.add_on_set_parameters_callback(self._on_parameters)

    def destroy_node(self) -> None:
        """Leave the arm at rest."""
        self._leave('shut down')
        super().destroy_node()

    def now(self) -> int:
        """Return the time of this node [ns]: that of the stamps of joint states."""
        # The node's own clock takes twenty times as long, which counts a thousand times a second.
        return self.get_clock().now().nanoseconds if self.simulated else time.time_ns()

    @transition
    def on_configure(self) -> None:
        """Load the artifact, and listen to the arm."""
        values = self.values
        path = self.get_parameter('artifact').value
        if not path:
            raise ConfigurationError(
                expected='the folder of a student', found='no artifact', remedy='set -p artifact:=PATH'
            )
        expected = load_contract(values['contract']) if values['contract'] else None
        self.policy = self.admitted(DistilledPolicy.load(path, contract=expected, threads=values['threads']))
        self.contract = contract = self.policy.contract
        self.kinematics = Kinematics.from_contract(contract)
        self.period = control_period(values, contract, simulated=self.simulated)
        self.output = Output(
            contract,
            interface=values['interface'],
            controller=values['controller'],
            controller_joints=values['controller_joints'],
            reach=values['trajectory_reach'] or 2 * self.period / NANOSECONDS,
        )
        self.streams = live_streams(contract) if contract.topic_features else None
        loop = build_loop(values, self.policy, self.kinematics, period=self.period, streams=self.streams)
        self.commander = Commander(
            loop,
            lambda outcome, stamp: self._publish(outcome, stamp),
            period=self.period,
            policy_period=contract.period,
            max_age=round(values['max_age'] * NANOSECONDS),
            now=self.now,
            simulated=self.simulated,
            priority=values['realtime_priority'],
        )
        self._listen()
        self.get_logger().info(
            f'{path}: {contract.name}, stage {values["stage"]}, '
            f'{NANOSECONDS / self.period:g} commands a second on {self.resolve_topic_name(self.output.topic)}'
        )
        if self.policy.calibration is None and values['novelty'] != 'ignore':
            self.get_logger().warning(f'{path} does not know what is usual: no watch over what it has not seen')

    def admitted(self, policy: DistilledPolicy) -> DistilledPolicy:
        """Return a policy if it may command this arm; else raise a `GateError`."""
        passage = admit(self.values, policy.artifact, simulated=self.simulated)
        if passage is not None:
            tell = self.get_logger().warning if passage.overridden else self.get_logger().info
            tell(f'{policy.artifact.path}: {passage.text}')
        return policy

    def _listen(self) -> None:
        topic = self.contract.topics.joint_states
        self.arm = ArmState(self.contract, self.resolve_topic_name(topic))
        self._listening = time.monotonic()
        self._diagnostics = Diagnostics()
        self._report_to = self.create_publisher(DiagnosticArray, '/diagnostics', qos.DIAGNOSTICS)
        self._view = View(self)
        self._controls = Controls(self)
        self._ear = Listening(self, self.streams, self._on_stream) if self.streams else None
        self._states = self.create_subscription(JointState, topic, self._on_state, qos.JOINT_STATES)
        shadow = self.values['stage'] == 'shadow'
        self._publish = self._view.shadow() if shadow else self.output.open(self)
        self._timers = [
            self.create_timer(1.0, self._report, clock=self._wall),
            self.create_timer(_WATCH_PERIOD, self._watch, clock=self._wall),
        ]
        if self.simulated:
            self._timers.append(self.create_timer(0.05, self.commander.notice_silence, clock=self._wall))

    @transition
    def on_activate(self) -> None:
        """Look around, anchor at where the arm is, and start."""
        if self.arm.reading is None:
            raise self.arm.complaint
        if self.estopped:
            raise InterfaceError(
                expected='the emergency stop to be released', found='it pressed', remedy='release it, then activate'
            )
        report = self._controls.look()
        if not report.failures:
            self.get_logger().info(f'preflight:\n{report.text}')
        elif not self._starting:
            for finding in report.failures[1:]:
                self.get_logger().error(str(finding.error))
        if report.failures:
            raise report.failures[0].error
        reading = self.arm.reading
        self.commander.start(reading.stamp, reading.position)

    @transition
    def on_deactivate(self) -> None:
        """Bring the arm to rest."""
        self.commander.halt('deactivated')

    @transition
    def on_cleanup(self) -> None:
        """Let go of the artifact and the arm."""
        self._leave('cleaned up')

    @transition
    def on_shutdown(self) -> None:
        """Bring the arm to rest, whatever the state."""
        if self.commander:
            self.commander.halt('shut down')

    def _leave(self, reason: str) -> None:
        if self.commander is None:
            return
        self.commander.halt(reason)
        for timer in self._timers:
            self.destroy_timer(timer)
        self.destroy_subscription(self._states)
        if self._ear:
            self._ear.close()
        self._controls.close()
        self._view.close()
        self.destroy_publisher(self._report_to)
        self.output.close(self)
        self.commander = None

    def attend(self) -> bool:
        """With autostart: configure, wait for the arm, activate; what cannot work ends the process in one line."""
        if not self._starting:
            return False
        waited = time.monotonic() - (self._listening if self.commander else time.monotonic())
        if self.commander is None:
            self._demand(self.trigger_configure())
        elif self.arm.reading or self.arm.incomplete or waited > self.values['startup_timeout']:
            done = self.trigger_activate()
            # Peers may still be unknown: discovery takes its time, and nobody else asks again.
            patient = waited <= self.values['startup_timeout'] and not self.arm.incomplete
            if done == TransitionCallbackReturn.SUCCESS or not patient:
                self._demand(done)
                self._starting = False
        return False

    def _demand(self, result: TransitionCallbackReturn) -> None:
        if result != TransitionCallbackReturn.SUCCESS:
            raise self.complaint

    @property
    def unheard(self) -> VddError | None:
        """Why nothing is known of the arm yet; None once it was heard."""
        return self.arm.complaint if self.arm.reading is None else None

    @while_configured
    def _on_state(self, message: JointState) -> None:
        before, reading = self.arm.reading, self.arm.take(message, self.now())
        if reading is None:
            if self.arm.incomplete:
                self.get_logger().warning(str(self.arm.complaint), throttle_duration_sec=1.0)
            return
        if self.streams and before and reading.stamp < before.stamp:
            self.commander.feed(self.streams.forget)
        self.commander.observe(reading.stamp, reading.position)

    @while_configured
    def _on_stream(self, topic: str, received: int, data: bytes) -> None:
        self.commander.feed(functools.partial(self.streams.take, topic, received, data))
        for feature in self.contract.topic_features:
            if feature.topic == topic:
                self.commander.replace(lambda loop, name=feature.name: loop.hear(name, received))

    @while_configured
    def _watch(self) -> None:
        """Say why the arm is held, and look whether somebody else commands it."""
        commander = self.commander
        if not commander.active:
            return
        if not isinstance(commander.outcome, Command):
            self.get_logger().warning(f'holding: {commander.outcome.reason}', throttle_duration_sec=1.0)
        if self.values['stage'] == 'shadow':
            return
        if others := rivals(self, self.resolve_topic_name(self.output.topic)):
            reason = f'{", ".join(others)} commands on {self.output.topic}, too'
            self.get_logger().error(f'giving way: {reason}', throttle_duration_sec=1.0)
            commander.give_way(reason)

    @while_configured
    def _report(self) -> None:
        level, text, values = self._diagnostics.status(self.commander)
        values = {'stage': self.values['stage'], 'artifact': self.policy.artifact.hash[:12], **values}
        values |= self._view.values() | self._controls.values()
        if self.estopped:
            level, text = DiagnosticStatus.ERROR, f'emergency stop; {text}'
        self._report_to.publish(messages.to_diagnostics(self.now(), self.get_name(), text, values, level))

    def _on_parameters(self, parameters: list[RclpyParameter]) -> SetParametersResult:
        """Heed those that may be set while the node runs."""
        if self.commander is None:
            return SetParametersResult(successful=True)
        for parameter in parameters:
            if parameter.name == 'rules':
                try:
                    experts = self.policy.expert_count
                    routing = deployment_of(self.values).routing_of(self.contract, parameter.value, experts)
                except VddError as error:
                    return SetParametersResult(successful=False, reason=str(error))
                self.commander.replace(lambda loop: loop.replace_routing(routing))
            elif parameter.name == 'artifact':
                self._controls.reload(parameter.value)
        return SetParametersResult(successful=True)


def main() -> int:
    """Run the node as a process."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
    return run(PolicyNode, attend=PolicyNode.attend)


if __name__ == '__main__':
    raise SystemExit(main())

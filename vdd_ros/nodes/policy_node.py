"""Commands an arm by a distilled policy: joint states in, position commands out, under a lifecycle."""

from __future__ import annotations

import functools
import threading
import time
import traceback
from collections import Counter, deque
from typing import Callable

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from vdd_ros.contract import NANOSECONDS, load_contract
from vdd_ros.control.control_loop import Command, ControlLoop, Hold, Stop
from vdd_ros.control.freshness import Freshness
from vdd_ros.control.limits import Limits
from vdd_ros.control.routing import Routing
from vdd_ros.errors import ConfigurationError, InterfaceError, VddError
from vdd_ros.kinematics import Kinematics
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.pacing import Pacer
from vdd_ros.nodes.parameters import INTEGERS, Parameter, declare
from vdd_ros.nodes.process import run
from vdd_ros.policy import DistilledPolicy

PARAMETERS = (
    Parameter('artifact', '', 'folder of the student to act by'),
    Parameter('contract', '', 'contract that the artifact must be of: a file, or one that ships; empty asks for none'),
    Parameter('controller', '', 'position controller, takes NAME/commands; empty: the commands topic of the contract'),
    Parameter('autostart', False, 'configure and activate without being asked, once the arm is heard'),
    Parameter('startup_timeout', 10.0, 'how long autostart waits for the arm [s]', minimum=0.1, maximum=3600.0),
    Parameter('control_rate', 0.0, 'commands per second [Hz]; 0: the policy rate', minimum=0.0, maximum=1000.0),
    Parameter('max_age', 0.25, 'age of the joint state over which the arm holds [s]', minimum=0.001, maximum=10.0),
    Parameter('velocity_scale', 1.0, 'share of the velocity limits of the model', minimum=0.01, maximum=1.0),
    Parameter('max_lag', 0.5, 'how far a command may be from the measured position [rad]', minimum=0.01, maximum=3.2),
    Parameter('routing', 'sample', 'how the expert is chosen from the gating', choices=('sample', 'likeliest')),
    Parameter('forbidden_experts', INTEGERS, 'experts that must not act'),
    Parameter('seed', 0, 'seed of the draws of experts', minimum=0, maximum=2**31 - 1),
    Parameter('threads', 1, 'threads of inference; one has the best tail', minimum=1, maximum=64),
)

_LATENCIES = 1000


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
    """Ticks a `ControlLoop` and sends what it decides.

    In simulated time the ticks are those joint states whose stamps reach the next tick: results depend on stamps alone,
    and lockstep works. In wall time a thread with absolute deadlines ticks.
    """

    _active = False

    def __init__(self) -> None:
        """Declare the parameters; with autostart, begin by itself."""
        super().__init__('policy_node')
        self._values = declare(self, PARAMETERS)
        self.complaint: Exception | None = None
        self._loop: ControlLoop | None = None
        self._pacer: Pacer | None = None
        self._lock = threading.RLock()
        self._wall = Clock(clock_type=ClockType.STEADY_TIME)
        self._simulated = self.get_parameter('use_sim_time').value
        self._starting = self._values['autostart']

    def destroy_node(self) -> None:
        """Leave the arm holding."""
        if self._active:
            self._hold('shut down')
        super().destroy_node()

    @transition
    def on_configure(self) -> None:
        """Load the artifact, and listen to the arm."""
        values = self._values
        if not values['artifact']:
            raise ConfigurationError(
                expected='the folder of a student', found='no artifact', remedy='set -p artifact:=PATH'
            )
        expected = load_contract(values['contract']) if values['contract'] else None
        policy = DistilledPolicy.load(values['artifact'], contract=expected, threads=values['threads'])
        contract = policy.contract
        kinematics = Kinematics.from_contract(contract)
        velocity = kinematics.velocity_limits * values['velocity_scale']
        self._loop = ControlLoop(
            contract,
            policy,
            kinematics,
            limits=Limits(kinematics.lower, kinematics.upper, velocity, values['max_lag']),
            freshness=Freshness(round(values['max_age'] * NANOSECONDS)),
            routing=Routing(values['routing'], frozenset(values['forbidden_experts'])),
            generator=np.random.default_rng(values['seed']),
        )
        rate = values['control_rate']
        self._period = round(NANOSECONDS / rate) if rate else contract.period
        self._joints = contract.robot.joints
        self._reader = messages.JointReader(self._joints)
        self._reading: messages.JointReading | None = None
        self._unheard: VddError = InterfaceError(
            expected=f'joint states on {self.resolve_topic_name(contract.topics.joint_states)}',
            found='none',
            remedy='start the arm, or remap joint_states to it',
        )
        self._counts: Counter[str] = Counter()
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._outcome: Command | Hold | Stop | None = None
        controller = values['controller']
        topic = f'{controller}/commands' if controller else contract.topics.commands
        self._commands = self.create_publisher(Float64MultiArray, topic, qos.COMMANDS)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', qos.DIAGNOSTICS)
        self._states = self.create_subscription(
            JointState, contract.topics.joint_states, self._on_state, qos.JOINT_STATES
        )
        self._listening = time.monotonic()
        self._incomplete = False
        self._timers = [self.create_timer(1.0, self._report, clock=self._wall)]
        if self._simulated:
            self._timers.append(self.create_timer(0.05, self._notice_silence, clock=self._wall))
        self.get_logger().info(f'{values["artifact"]}: {contract.name}, commands on {self._commands.topic_name}')

    @transition
    def on_activate(self) -> None:
        """Anchor at where the arm is, and start."""
        with self._lock:
            reading = self._reading
            if reading is None:
                raise self._unheard
            age = self.get_clock().now().nanoseconds - reading.stamp
            if not np.isfinite(reading.position).all() or age > self._values['max_age'] * NANOSECONDS:
                raise InterfaceError(
                    expected=f'a finite joint state no older than {self._values["max_age"]:g} s',
                    found=f'{reading.position.tolist()}, {age / NANOSECONDS:.3f} s old',
                    remedy='look at the publisher of joint_states and at use_sim_time',
                )
            self._loop.start(reading.stamp, reading.position)
            self._next_tick = reading.stamp
            self._active = True
            if self._simulated:
                self._tick(reading.stamp)
        if not self._simulated:
            self._pacer = Pacer(self._period / NANOSECONDS, self._on_deadline)
            self._pacer.start()

    @transition
    def on_deactivate(self) -> None:
        """Leave the arm holding."""
        self._hold('deactivated')

    @transition
    def on_cleanup(self) -> None:
        """Let go of the artifact and the arm."""
        for timer in self._timers:
            self.destroy_timer(timer)
        self.destroy_subscription(self._states)
        self.destroy_publisher(self._commands)
        self.destroy_publisher(self._diagnostics)
        self._loop = None

    @transition
    def on_shutdown(self) -> None:
        """Leave the arm holding, whatever the state."""
        if self._active:
            self._hold('shut down')

    def _hold(self, reason: str) -> None:
        if self._pacer:
            self._pacer.stop()
            self._pacer = None
        with self._lock:
            self._loop.stop(reason)
            self._tick(self.get_clock().now().nanoseconds)
            self._active = False

    def attend(self) -> bool:
        """With autostart: configure, wait for the arm, activate; what cannot work ends the process in one line."""
        if not self._starting:
            return False
        if self._loop is None:
            self._demand(self.trigger_configure())
        elif self._reading or self._incomplete or time.monotonic() - self._listening > self._values['startup_timeout']:
            self._demand(self.trigger_activate())
            self._starting = False
        return False

    def _demand(self, result: TransitionCallbackReturn) -> None:
        if result != TransitionCallbackReturn.SUCCESS:
            raise self.complaint

    def _on_state(self, message: JointState) -> None:
        try:
            reading = self._reader.read(message)
        except InterfaceError as error:
            # Another device may share the topic; but a message with some joints of the arm should have had them all.
            self._unheard = error
            self._incomplete = not set(self._joints).isdisjoint(message.name)
            return
        with self._lock:
            self._reading = reading
            self._loop.observe(reading.stamp, reading.position)
            if self._active and self._simulated and reading.stamp >= self._next_tick:
                self._tick(reading.stamp)

    def _notice_silence(self) -> None:
        """Tick by the clock where it runs on but joint states have ceased, so that the arm is told to hold."""
        now = self.get_clock().now().nanoseconds
        with self._lock:
            if self._active and now - self._next_tick > self._values['max_age'] * NANOSECONDS:
                self._tick(now)

    def _on_deadline(self) -> None:
        with self._lock:
            self._tick(self.get_clock().now().nanoseconds)

    def _tick(self, now: int) -> None:
        began = time.perf_counter()
        self._outcome = outcome = self._loop.advance(now)
        self._latencies.append(time.perf_counter() - began)
        self._commands.publish(messages.to_command(outcome.position))
        self._next_tick += self._period * max(1, -(-(now - self._next_tick + 1) // self._period))
        self._counts[type(outcome).__name__.lower()] += 1
        if isinstance(outcome, Command):
            self._counts['clamped'] += outcome.clamped
        else:
            self.get_logger().warning(f'holding: {outcome.reason}', throttle_duration_sec=1.0)

    def _report(self) -> None:
        if self._pacer:
            self._pacer.check()
        outcome = self._outcome
        values = {name: self._counts[name] for name in ('command', 'hold', 'stop', 'clamped')}
        if isinstance(outcome, Command):
            values['expert'] = outcome.expert
        if self._latencies:
            p50, p99 = np.percentile(list(self._latencies), [50, 99]) * 1e6
            values |= {'latency_p50_us': f'{p50:.0f}', 'latency_p99_us': f'{p99:.0f}'}
        text = 'inactive' if not self._active else getattr(outcome, 'reason', 'commanding')
        level = DiagnosticStatus.WARN if self._active and not isinstance(outcome, Command) else DiagnosticStatus.OK
        stamp = self.get_clock().now().nanoseconds
        self._diagnostics.publish(messages.to_diagnostics(stamp, self.get_name(), text, values, level))


def main() -> int:
    """Run the node as a process."""
    return run(PolicyNode, attend=PolicyNode.attend)


if __name__ == '__main__':
    raise SystemExit(main())

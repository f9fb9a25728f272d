"""The arm of `benchmarks.control`: publishes its state at 1 kHz, and records its commands.

It runs in a separate process. One joint makes small random steps. The student commands each joint to its measured
position, so that the first command that changes is the response to the step.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.pacing import Pacer
from vdd_ros.nodes.process import new_executor

JOINTS = tuple(f'joint{number}' for number in range(1, 8))
HOME = np.array([-0.4, 0.3, 0.0, -2.2, 0.0, 2.5, 0.4])
RATE = 1000.0
_JUMP = 1e-4
_NOTICED = 1e-9
_SETTLED = 1e-8
_RELOAD_PERIOD = 1.0


@dataclass
class Watch:
    """Commands recorded in a period of time."""

    arrivals: list[int] = field(default_factory=list)
    """Arrival times of commands [ns]."""
    latencies: list[int] = field(default_factory=list)
    """Delays from a step to the first command that reflects it [ns]."""
    lateness: list[float] = field(default_factory=list)
    """99th percentiles of the lateness of commands, as the node reports them once a second [ms]."""
    plans: list[tuple[int, int]] = field(default_factory=list)
    """Arrival time [ns] and number of plans since the start, as the node reports them once a second."""
    ages: list[float] = field(default_factory=list)
    """Age of the oldest stream at these times [s]."""

    def summary(self, seconds: float) -> dict[str, float]:
        """Return counts, and quantiles in ms."""
        gaps = np.diff(self.arrivals) / 1e6 if len(self.arrivals) > 1 else np.array([np.nan])
        latency = np.array(self.latencies or [np.nan]) / 1e6
        return {
            'seconds': seconds,
            'commands': len(self.arrivals),
            'jumps': len(self.latencies),
            'latency_p50': float(np.percentile(latency, 50)),
            'latency_p99': float(np.percentile(latency, 99)),
            'lateness_p99': float(np.median(self.lateness or [np.nan])),
            'plans_per_second': self._plan_rate(),
            'oldest_stream_s': max(self.ages, default=np.nan),
            'gap_p50': float(np.percentile(gaps, 50)),
            'gap_p99': float(np.percentile(gaps, 99)),
            'gap_p999': float(np.percentile(gaps, 99.9)),
            'gap_max': float(gaps.max()),
        }

    def _plan_rate(self) -> float:
        if len(self.plans) < 2:
            return np.nan
        (begin, first), (end, last) = self.plans[0], self.plans[-1]
        return 1e9 * (last - first) / (end - begin)


class Arm(Node):
    """Publishes joint states, and records commands."""

    def __init__(self, rate: float = RATE) -> None:
        """Create publishers and subscriptions; ``rate`` is that of joint states [Hz]."""
        super().__init__('benchmark_arm')
        self._states = self.create_publisher(JointState, 'joint_states', qos.JOINT_STATES_OFFERED)
        self.create_subscription(Float64MultiArray, 'arm_controller/commands', self._on_command, qos.COMMANDS)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, qos.DIAGNOSTICS)
        self.reload = self.create_client(Trigger, 'policy_node/reload')
        self._random = np.random.default_rng(0)
        self._level, self._jumped, self._rest = 0.0, 0, 0
        self._last: float | None = None
        self.watch = Watch()
        self.pacer = Pacer(1 / rate, self._say, name='joint states')

    def _say(self) -> None:
        now = time.monotonic_ns()
        if self._last is not None and not self._jumped and now > self._rest:
            self._level = _JUMP - self._level
            self._jumped = now
        position = HOME.copy()
        position[-1] += self._level
        zeros = np.zeros(len(JOINTS))
        self._states.publish(messages.to_joint_state(time.time_ns(), JOINTS, position, zeros, zeros))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        watch, now = self.watch, time.monotonic_ns()
        for status in message.status:
            watch.lateness += [float(each.value) / 1e3 for each in status.values if each.key == 'lateness_p99_us']
            watch.plans += [(now, int(each.value)) for each in status.values if each.key == 'plans']
            watch.ages += [float(each.value) for each in status.values if each.key.startswith('age_of_')]

    def _on_command(self, message: Float64MultiArray) -> None:
        now, value = time.monotonic_ns(), message.data[-1] - HOME[-1]
        self.watch.arrivals.append(now)
        moved = self._last is not None and abs(value - self._last) > _NOTICED
        if self._jumped and moved and self._rest < self._jumped:
            self.watch.latencies.append(now - self._jumped)
            self._rest = now
        if self._jumped and self._rest > self._jumped and abs(value - self._level) < _SETTLED and not moved:
            # At rest again; the next step comes at a random phase of the planner.
            self._jumped, self._rest = 0, now + int(self._random.uniform(10e6, 30e6))
        self._last = value


def observe(arm: Arm, seconds: float, tell: Callable[[str], None], name: str) -> dict[str, float]:
    """Record for some time."""
    arm.watch = Watch()
    tell(json.dumps({'begin': name}))
    began = time.monotonic()
    time.sleep(seconds)
    watch, arm.watch = arm.watch, Watch()
    found = watch.summary(time.monotonic() - began)
    tell(json.dumps({'end': name, **found}))
    return found


def main() -> int:
    """Run as `python -m benchmarks.control_arm SECONDS RELOAD_SECONDS RATE`; prints a JSON object per line."""
    seconds, reloading, rate = map(float, sys.argv[1:4])
    rclpy.init()
    arm, executor = Arm(rate), new_executor()
    executor.add_node(arm)
    ending = threading.Event()

    def spin() -> None:
        while not ending.is_set():
            executor.spin_once(timeout_sec=0.1)

    spinner = threading.Thread(target=spin)
    spinner.start()
    arm.pacer.start()

    def tell(line: str) -> None:
        sys.stdout.write(line + '\n')
        sys.stdout.flush()

    try:
        deadline = time.monotonic() + 60
        while not arm.watch.arrivals and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(min(2.0, seconds))
        observe(arm, seconds, tell, 'steady')
        if reloading:
            asking = Pacer(_RELOAD_PERIOD, lambda: arm.reload.call_async(Trigger.Request()), name='reloads')
            asking.start()
            observe(arm, reloading, tell, 'reloading')
            asking.stop()
    finally:
        arm.pacer.stop()
        ending.set()
        spinner.join()
        executor.shutdown()
        arm.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    raise SystemExit(main())

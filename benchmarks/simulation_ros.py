"""A bridge in a separate process, with this process as subscriber and commander."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState, PointCloud2
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from vdd_ros.common.domain import in_domain
from vdd_ros.common.errors import InterfaceError
from vdd_ros.common.processes import NodeGraph, Value
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.process import new_executor

SCENE = """
model: panda
timestep: 0.002
keyframe: home
controllers: {arm_controller: {type: position, joints: [joint1, joint2, joint3, joint4, joint5, joint6, joint7]}}
"""
CAMERA = """
attachments: [{model: eye.xml, prefix: look_}]
cameras: {eye: {camera: look_eye, width: 640, height: 480, rate: 10, depth: true, points: true}}
"""
EYE = """
<mujoco>
  <worldbody>
    <camera name="eye" pos="1.6 -1.0 1.0" xyaxes="0.53 0.85 0 -0.4 0.25 0.88"/>
    <light pos="0 0 3"/>
    <geom type="plane" size="3 3 0.1" contype="0" conaffinity="0"/>
  </worldbody>
</mujoco>
"""
TROUBLE = """
joint_states: {position_noise: 0.001, velocity_noise: 0.01, latency: 0.004, jitter: 0.006, drop: 0.05}
commands: {latency: 0.003, jitter: 0.004}
randomization: {mass: {between: [0.8, 1.2]}, stiffness: {between: [0.8, 1.2]}, payload: {mass: [0.0, 0.5]}}
"""

_PATIENCE = 60.0


class Listener:
    """Records all messages of a bridge, with their reception time."""

    def __init__(self, name: str) -> None:
        """Create the node."""
        self.node = node = Node(name)
        self._executor = new_executor()
        self._executor.add_node(node)
        self.states: list[tuple[float, bytes]] = []
        self.pictures = {'image_raw': 0, 'depth/image_raw': 0, 'points': 0}
        self.status: dict[str, str] = {}
        deep = QoSProfile(depth=5000, reliability=ReliabilityPolicy.RELIABLE)
        node.create_subscription(JointState, 'joint_states', self._on_state, deep, raw=True)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, qos.DIAGNOSTICS)
        for topic, kind in (('image_raw', Image), ('depth/image_raw', Image), ('points', PointCloud2)):

            def count(message: bytes, topic: str = topic) -> None:
                self.pictures[topic] += 1

            node.create_subscription(kind, f'eye/{topic}', count, qos_profile_sensor_data, raw=True)
        self.commands = node.create_publisher(Float64MultiArray, 'arm_controller/commands', qos.COMMANDS)
        self.reset = node.create_client(Trigger, 'mujoco_bridge/reset')

    def _on_state(self, message: bytes) -> None:
        self.states.append((time.monotonic(), message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        if message.status[0].name == 'mujoco_bridge':
            self.status = {item.key: item.value for item in message.status[0].values}

    def until(self, condition, patience: float = _PATIENCE) -> None:
        """Spin until a condition holds."""
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() > deadline:
                raise InterfaceError(expected='messages of the bridge', found='none', remedy='read the logs')
            self._executor.spin_once(timeout_sec=0.02)

    def listen(self, seconds: float) -> None:
        """Spin for some time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, 0.1))

    def close(self) -> None:
        """Destroy the node."""
        self._executor.shutdown()
        self.node.destroy_node()


@contextmanager
def bridge(folder: Path, parameters: Mapping[str, Value]) -> Iterator[Listener]:
    """Run a bridge, and yield its listener."""
    with NodeGraph(folder) as graph, in_domain(graph.domain):
        rclpy.init()
        listener = Listener('benchmark')
        try:
            graph.start('mujoco_bridge', parameters)
            ready = (listener.reset.service_is_ready, listener.commands.get_subscription_count)
            listener.until(lambda: listener.states and listener.status and all(each() for each in ready))
            yield listener
        finally:
            listener.close()
            rclpy.try_shutdown()


def pace(folder: Path, seconds: float, *, camera: bool) -> dict[str, float]:
    """Run a bridge in real time at 500 Hz; return its pace, its drift, and message counts.

    The pace is simulated seconds per second. Both ends are medians over a tenth of a second, because reception times
    have more jitter than publication times.
    """
    (folder / 'eye.xml').write_text(EYE, encoding='utf-8')
    (folder / 'scene.yaml').write_text(SCENE + CAMERA * camera, encoding='utf-8')
    parameters = {'scene': str(folder / 'scene.yaml'), 'mode': 'realtime', 'joint_state_rate': 500.0}
    with bridge(folder, parameters) as listener:
        listener.listen(min(1.0, seconds / 2))
        listener.until(lambda: not camera or all(listener.pictures.values()))
        listener.states.clear()
        listener.pictures.update(dict.fromkeys(listener.pictures, 0))
        listener.listen(seconds)
        listener.until(lambda: not camera or listener.pictures['image_raw'])  # a busy machine may take longer for one
        arrived = np.array([when for when, _ in listener.states])
        stamps = np.array([seconds + 1e-9 * rest for seconds, rest in map(_stamp, listener.states)])
        lead = stamps - arrived
        drift = float(np.median(lead[-50:]) - np.median(lead[:50]))
        length = float(arrived[-1] - arrived[0])
        return {
            'seconds': length,
            'states': len(stamps),
            'factor': 1 + drift / length,
            'drift [ms]': 1e3 * drift,
            'spread p99 [ms]': 1e3 * float(np.ptp(np.percentile(lead, [0.5, 99.5]))),
            'pictures [Hz]': listener.pictures['image_raw'] / length,
            'dropped': float(listener.status.get('eye', '0 0 0').split()[2]) if camera else 0.0,
        }


def states_with_disturbances(folder: Path, commands: int, seed: int) -> list[bytes]:
    """Command a bridge in lockstep with all kinds of disturbances; return all joint states as bytes."""
    (folder / 'scene.yaml').write_text(SCENE + 'command_rate: 50\n', encoding='utf-8')
    (folder / 'disturbances.yaml').write_text(TROUBLE, encoding='utf-8')
    parameters = {'scene': str(folder / 'scene.yaml'), 'disturbances': str(folder / 'disturbances.yaml'), 'seed': seed}
    with bridge(folder, {**parameters, 'step_timeout': 60.0}) as listener:
        future = listener.reset.call_async(Trigger.Request())
        listener.until(future.done)
        start = int(future.result().message.split()[-2])
        listener.until(lambda: _nanoseconds(listener.states[-1]) >= start)
        home = np.array([0, -0.785398, 0, -2.356194, 0, 1.570796, 0.785398])
        for number in range(1, commands + 1):
            listener.commands.publish(messages.to_command(home + 0.2 * np.sin(0.05 * number)))
            due = start + number * 20_000_000
            listener.until(lambda due=due: _nanoseconds(listener.states[-1]) >= due)
        return [message for _, message in listener.states if _nanoseconds((0.0, message)) >= start]


def _stamp(arrived: tuple[float, bytes]) -> tuple[int, int]:
    return struct.unpack_from('<iI', arrived[1], 4)


def _nanoseconds(arrived: tuple[float, bytes]) -> int:
    return messages.header_stamp(arrived[1])

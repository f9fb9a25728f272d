"""Reference of `benchmarks.control`: a minimal rclpy node that returns each joint state as a command."""

from __future__ import annotations

from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from vdd_ros.nodes import qos
from vdd_ros.nodes.process import run


class Echo(Node):
    """Returns joint states as commands."""

    def __init__(self) -> None:
        """Create publisher and subscription."""
        super().__init__('echo')
        self._commands = self.create_publisher(Float64MultiArray, 'arm_controller/commands', qos.COMMANDS)
        self.create_subscription(JointState, 'joint_states', self._on_state, qos.JOINT_STATES)

    def _on_state(self, message: JointState) -> None:
        self._commands.publish(Float64MultiArray(data=message.position))


if __name__ == '__main__':
    raise SystemExit(run(Echo))

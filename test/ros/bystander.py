"""A stand-in for the real arm of a person who also simulates: on that person's ROS domain, in wall time, obedient."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import time_ns

import numpy as np
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from vdd_ros.common.domain import in_domain, private_domain
from vdd_ros.nodes import messages, qos

_JOINTS = [f'joint{number}' for number in range(1, 8)]
_HOME = np.array([0.0, -0.4, 0.0, -2.2, 0.0, 1.8, 0.8])
_CONTROLLERS = ('arm_controller', 'forward_position_controller')


class Bystander:
    """Publishes joint states at 100 Hz, goes where it is commanded, and notes who takes part in its domain."""

    def __init__(self, context: Context) -> None:
        """Join the domain of the environment."""
        self.node = node = Node('real_arm', context=context, use_global_arguments=False)
        self.position = _HOME
        self.commands: list[list[float]] = []
        """All that it was commanded."""
        self.others: set[str] = set()
        """Names of all other nodes that were ever in its domain."""
        self._states = node.create_publisher(JointState, 'joint_states', qos.JOINT_STATES_OFFERED)
        for name in _CONTROLLERS:
            node.create_subscription(Float64MultiArray, f'{name}/commands', self._on_command, qos.COMMANDS)
        node.create_timer(0.01, self._publish)
        node.create_timer(0.1, lambda: self.others.update(set(node.get_node_names()) - {'real_arm'}))

    def _on_command(self, message: Float64MultiArray) -> None:
        self.commands.append(list(message.data))
        self.position = np.array(message.data)

    def _publish(self) -> None:
        zeros = np.zeros(len(_JOINTS))
        self._states.publish(messages.to_joint_state(time_ns(), _JOINTS, self.position, zeros, zeros))


@contextmanager
def bystander() -> Iterator[Bystander]:
    """Let such an arm live in the domain that `ROS_DOMAIN_ID` names meanwhile, as in a terminal of that person."""
    with private_domain() as domain, in_domain(domain):
        context = Context()
        context.init(domain_id=int(os.environ['ROS_DOMAIN_ID']))
        arm = Bystander(context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(arm.node)
        thread = threading.Thread(target=executor.spin, name='the real arm')
        thread.start()
        try:
            yield arm
        finally:
            executor.shutdown()
            context.try_shutdown()
            thread.join()
            arm.node.destroy_node()

"""Outputs of a policy node for people: its commands in shadow mode, and the paths of the experts."""

from __future__ import annotations

import traceback
from array import array
from collections import deque
from collections.abc import Callable
from functools import partial

import numpy as np
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription
from sensor_msgs.msg import JointState
from visualization_msgs.msg import MarkerArray

from vdd_ros.common.errors import ConfigurationError, InterfaceError
from vdd_ros.control.control_output import Command, ControlOutput
from vdd_ros.control.expert_preview import preview_experts
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.arm.lifecycle import ArmNode, unless_closed
from vdd_ros.nodes.arm.output import Channel
from vdd_ros.nodes.pacing import Pacer
from vdd_ros.nodes.policy.acting import Acting
from vdd_ros.nodes.policy.markers import to_markers

_COMPARED = 2000
_FEWEST = 100
"""Minimum number of differences for which their 99th percentile is reported."""


class View:
    """Publishes the predicted paths of the experts and, in shadow mode, the differences from the acting node."""

    def __init__(self, node: ArmNode, acting: Acting) -> None:
        """Create the publisher of the paths, which are computed only while a subscriber exists."""
        self._node, self._acting = node, acting
        self.closed = False
        self._kinematics = node.kinematics_of(acting.contract)
        self._paths = node.create_publisher(MarkerArray, '~/expert_paths', qos.DIAGNOSTICS)
        self._pacer = Pacer(1 / node.values['markers_rate'], self._try_to_show, name='expert_paths')
        self._pacer.start()
        self._shadow: Publisher | None = None
        self._others: list[Subscription] = []
        self._differences: dict[str, deque[np.ndarray]] = {}

    def close(self) -> None:
        """Destroy all publishers and subscriptions."""
        self.closed = True
        self._pacer.stop()
        self._node.destroy_publisher(self._paths)
        if self._shadow:
            self._node.destroy_publisher(self._shadow)
        for subscription in self._others:
            self._node.destroy_subscription(subscription)

    def shadow(self) -> Callable[[ControlOutput, int], None]:
        """Monitor the commands of another node, and return the function that publishes on ~/shadow.

        Raises
        ------
        ConfigurationError
            The commands are action goals, which only the action server receives.

        """
        node, output = self._node, self._acting.driver.output
        if actions := [each.topic for each in output.channels if each.action]:
            raise ConfigurationError(
                expected='command topics in the operating mode shadow',
                found=f'the action {", ".join(actions)}, whose goals only its server receives',
                remedy='set interface and gripper_interface to a topic of the controller',
            )
        self._shadow = node.create_publisher(JointState, '~/shadow', qos.COMMANDS)
        for channel in output.channels:
            self._differences[channel.topic] = deque(maxlen=_COMPARED)
            take = partial(self._on_other, channel)
            self._others.append(node.create_subscription(channel.type, channel.topic, take, qos.COMMANDS))
        return self._publish_status

    @property
    def disagreement(self) -> float | None:
        """99th percentile of the last differences, the highest of all joints [rad]; None with too few differences."""
        found = list(self._differences.values())
        if not found or min(map(len, found)) < _FEWEST:
            return None
        return max(float(np.percentile(np.abs(list(each)), 99, axis=0).max()) for each in found)

    def values(self) -> dict[str, str]:
        """Return median and 99th percentile of the last differences between both nodes' commands, by joint [rad]."""
        compared = [each for each in self._differences.values() if each]
        if not compared:
            return {}
        found = np.concatenate([np.percentile(np.abs(list(each)), (50, 99), axis=0) for each in compared], axis=1)
        return {
            f'difference_p{share}_rad': ' '.join(f'{value:.4f}' for value in row) for share, row in zip((50, 99), found)
        }

    def _publish_status(self, outcome: ControlOutput, stamp: int) -> None:
        expert = str(outcome.expert) if isinstance(outcome, Command) and outcome.expert >= 0 else ''
        message = JointState(name=list(self._acting.contract.joints), position=array('d', outcome.position))
        message.header.stamp, message.header.frame_id = messages.to_time(stamp), expert
        self._shadow.publish(message)

    @unless_closed
    def _on_other(self, channel: Channel, message: object) -> None:
        try:
            position = channel.position(message, self._node.now())
        except InterfaceError as error:
            self._node.get_logger().warning(f'not followed: {error}', throttle_duration_sec=1.0)
            return
        commander = self._acting.driver.commander
        if commander.active and isinstance(commander.outcome, Command):
            self._differences[channel.topic].append(position - commander.outcome.position[channel.places])
        commander.follow(position, channel.places)

    def _try_to_show(self) -> None:
        try:
            self._show()
        except Exception:  # noqa: BLE001 - no error of the display may stop the arm
            self._node.get_logger().error(
                f'no expert paths to show: {traceback.format_exc()}', throttle_duration_sec=10.0
            )

    def _show(self) -> None:
        node, policy, commander = self._node, self._acting.policy, self._acting.driver.commander
        if not self._paths.get_subscription_count() or not commander.active:
            return
        steps, outcome = node.values['markers_steps'], commander.outcome
        paths = preview_experts(self._acting.contract, policy, self._kinematics, list(commander.history), steps)
        expert = outcome.expert if isinstance(outcome, Command) else -1
        self._paths.publish(to_markers(node.now(), node.values['markers_frame'], paths, expert, policy.labels))

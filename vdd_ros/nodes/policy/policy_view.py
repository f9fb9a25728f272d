"""Outputs of a policy node for people: its commands in shadow mode, and the paths of the experts."""

from __future__ import annotations

import traceback
from array import array
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from sensor_msgs.msg import JointState
from visualization_msgs.msg import MarkerArray

from vdd_ros.common.errors import InterfaceError
from vdd_ros.control.control_output import Command, ControlOutput
from vdd_ros.control.expert_preview import preview_experts
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.arm.lifecycle import unless_closed
from vdd_ros.nodes.pacing import Pacer
from vdd_ros.nodes.policy.markers import to_markers
from vdd_ros.robot.kinematics import Kinematics

if TYPE_CHECKING:
    from vdd_ros.nodes.policy.policy_node import PolicyNode

_COMPARED = 2000


class View:
    """Publishers of one configured node."""

    def __init__(self, node: PolicyNode) -> None:
        """Create the publisher of the paths; they are computed while a subscriber exists."""
        self._node = node
        self.closed = False
        self._kinematics = Kinematics.from_contract(node.contract)
        self._ways = node.create_publisher(MarkerArray, '~/ways', qos.DIAGNOSTICS)
        self._pacer = Pacer(1 / node.values['markers_rate'], self._try_to_show, name='ways')
        self._pacer.start()
        self._shadow = self._others = None
        self._differences: deque[np.ndarray] = deque(maxlen=_COMPARED)

    def close(self) -> None:
        """Destroy all publishers and subscriptions."""
        self.closed = True
        self._pacer.stop()
        self._node.destroy_publisher(self._ways)
        if self._shadow:
            self._node.destroy_publisher(self._shadow)
            self._node.destroy_subscription(self._others)

    def shadow(self) -> Callable[[ControlOutput, int], None]:
        """Follow the commands of another program, and return the function that publishes on ~/shadow."""
        node = self._node
        self._shadow = node.create_publisher(JointState, '~/shadow', qos.COMMANDS)
        output = node.driver.output
        self._others = node.create_subscription(output.type, output.topic, self._on_other, qos.COMMANDS)
        return self._tell

    def values(self) -> dict[str, str]:
        """Return the differences between the newest commands of both programs, by joint [rad]."""
        if not self._differences:
            return {}
        found = np.percentile(np.abs(list(self._differences)), (50, 99), axis=0)
        return {
            f'difference_p{share}_rad': ' '.join(f'{value:.4f}' for value in row) for share, row in zip((50, 99), found)
        }

    def _tell(self, outcome: ControlOutput, stamp: int) -> None:
        expert = str(outcome.expert) if isinstance(outcome, Command) and outcome.expert >= 0 else ''
        message = JointState(name=list(self._node.contract.robot.joints), position=array('d', outcome.position))
        message.header.stamp, message.header.frame_id = messages.to_time(stamp), expert
        self._shadow.publish(message)

    @unless_closed
    def _on_other(self, message: object) -> None:
        try:
            position = self._node.driver.output.position(message, self._node.now())
        except InterfaceError as error:
            self._node.get_logger().warning(f'not followed: {error}', throttle_duration_sec=1.0)
            return
        commander = self._node.driver.commander
        if commander.active and isinstance(commander.outcome, Command):
            self._differences.append(position - commander.outcome.position)
        commander.follow(position)

    def _try_to_show(self) -> None:
        try:
            self._show()
        except Exception:  # noqa: BLE001 - no error of the display may stop the arm
            self._node.get_logger().error(f'no ways to show: {traceback.format_exc()}', throttle_duration_sec=10.0)

    def _show(self) -> None:
        node = self._node
        if not self._ways.get_subscription_count() or not node.driver.commander.active:
            return
        steps, outcome = node.values['markers_steps'], node.driver.commander.outcome
        ways = preview_experts(node.contract, node.policy, self._kinematics, list(node.driver.commander.history), steps)
        acting = outcome.expert if isinstance(outcome, Command) else -1
        self._ways.publish(to_markers(node.now(), node.values['markers_frame'], ways, acting, node.policy.labels))

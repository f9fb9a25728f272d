"""Controls of an operator: stop, resume, emergency stop."""

from __future__ import annotations

from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from vdd_ros.nodes import qos
from vdd_ros.nodes.arm.commander import Commander
from vdd_ros.nodes.arm.lifecycle import unless_closed


class Controls:
    """The services ``~/stop`` and ``~/resume`` and the emergency stop ``~/estop`` of one commander."""

    def __init__(self, node: Node, commander: Commander) -> None:
        """Create the services and the subscription."""
        self._node, self._commander = node, commander
        self.closed = False
        self.pressed = False
        """Whether the emergency stop is pressed."""
        self.stop_requested = False
        """Whether an operator requested a stop and has not resumed."""
        self._services = [
            self._node.create_service(Trigger, '~/stop', self._on_stop),
            self._node.create_service(Trigger, '~/resume', self._on_resume),
        ]
        self._estop = self._node.create_subscription(Bool, '~/estop', self._on_estop, qos.ESTOP)

    def close(self) -> None:
        """Destroy the services and the subscription."""
        self.closed = True
        for service in self._services:
            self._node.destroy_service(service)
        self._node.destroy_subscription(self._estop)

    @unless_closed
    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.stop_requested = True
        self._commander.stop('stop was asked for', requested=True)
        response.success, response.message = True, 'braking; ~/resume goes on'
        return response

    @unless_closed
    def _on_resume(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        refusal = 'the emergency stop is pressed' if self.pressed else self._commander.resume()
        self.stop_requested = self.stop_requested and refusal is not None
        response.success, response.message = refusal is None, refusal or 'going on'
        return response

    @unless_closed
    def _on_estop(self, message: Bool) -> None:
        self.pressed = message.data
        if message.data:
            self.stop_requested = True
            self._commander.stop('emergency stop')

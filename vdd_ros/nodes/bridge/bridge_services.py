"""Services of the bridge: reset, pause, step."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger

from vdd_ros.common.errors import VddError
from vdd_ros.nodes import qos
from vdd_ros.nodes.bridge.sensor_messages import from_joint_state
from vdd_ros.sim.start import Start


class BridgeServices:
    """Offers ``~/reset`` and ``~/step`` (std_srvs/Trigger), ``~/pause`` (SetBool) and ``~/reset_to`` (JointState)."""

    def __init__(
        self,
        node: Node,
        *,
        reset: Callable[[Start | None], str],
        pause: Callable[[bool], None],
        step: Callable[[], str],
    ) -> None:
        """Create the services on a node.

        Parameters
        ----------
        node
            The node.
        reset
            Called by `~/reset` with None, and by `~/reset_to` with a start state: begins an episode, and returns a
            message.
        pause
            Called by `~/pause`: pauses (true) or resumes (false) simulated time.
        step
            Called by `~/step`: advances paused time a little; returns an error message, or an empty string.

        """
        self._node = node
        self._do_reset, self._do_pause, self._do_step = reset, pause, step
        node.create_service(Trigger, '~/reset', self._on_reset)
        node.create_service(SetBool, '~/pause', self._on_pause)
        node.create_service(Trigger, '~/step', self._on_step)
        node.create_subscription(JointState, '~/reset_to', self._on_reset_to, qos.EPISODE)

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.message, response.success = self._do_reset(None), True
        except VddError as error:
            response.message, response.success = str(error), False
        return response

    def _on_reset_to(self, message: JointState) -> None:
        try:
            self._do_reset(Start('', *from_joint_state(message)))
        except VddError as error:
            self._node.get_logger().warning(f'reset refused: {error}')

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._do_pause(request.data)
        response.success = True
        response.message = 'paused' if request.data else 'resumed'
        return response

    def _on_step(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        complaint = self._do_step()
        response.success, response.message = not complaint, complaint or 'done'
        return response

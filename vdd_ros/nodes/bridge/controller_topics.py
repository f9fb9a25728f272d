"""The topics and services of simulated controllers, as those of ros2_control have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from vdd_ros.common.errors import InterfaceError
from vdd_ros.nodes import qos
from vdd_ros.nodes.bridge.robot_interface import ArmCommands
from vdd_ros.nodes.bridge.sensor_messages import from_trajectory
from vdd_ros.nodes.bridge.world import World
from vdd_ros.sim.controllers import Controller, TrajectoryController


class ControllerTopics:
    """Hears commands, refuses and counts those that a controller would refuse, and hands on the others.

    `take` and `switch` belong to the thread of the physics.
    """

    def __init__(
        self,
        node: Node,
        world: World,
        heard: Callable[[Controller, Float64MultiArray | JointTrajectory], None],
        asked: Callable[[Controller, bool], str],
        arm: Mapping[str, ArmCommands],
    ) -> None:
        """Subscribe to the commands of every controller, and offer ``~/NAME/activate`` for it.

        Parameters
        ----------
        node
            Who subscribes.
        world
            Whose controllers.
        heard
            Called with every message; hands it to `take`, in the thread of the physics.
        asked
            Called to switch a controller; hands it to `switch` there, and returns what that says.
        arm
            Controllers whose commands are those of a contract, by name.

        """
        self._node = node
        self._world = world
        self._asked = asked
        self._arm = arm
        self.refused = 0
        """Commands that were none."""
        self.topics: dict[str, str] = {}
        """Where each controller is commanded, by its name."""
        for name, controller in world.stage.controllers.items():
            follows = isinstance(controller, TrajectoryController)
            kind, suffix = (JointTrajectory, 'joint_trajectory') if follows else (Float64MultiArray, 'commands')
            topic = f'{name}/{suffix}'
            if name in arm:
                topic = arm[name].topic
            self.topics[name] = node.resolve_topic_name(topic)

            def callback(message: Float64MultiArray | JointTrajectory, controller: Controller = controller) -> None:
                heard(controller, message)

            node.create_subscription(kind, self.topics[name], callback, qos.COMMANDS)
            node.create_service(SetBool, f'~/{name}/activate', self._activator(controller))

    def take(self, controller: Controller, message: Float64MultiArray | JointTrajectory) -> bool:
        """Send a command on its way to its controller; return whether it is one."""
        now = self._world.stamp
        try:
            if not controller.active:
                raise InterfaceError(
                    expected=f'commands for active controllers, not {controller.name}',
                    found='one',
                    remedy=f'activate it: ~/{controller.name}/activate',
                )
            if isinstance(controller, TrajectoryController):
                command = from_trajectory(message)
                controller.check(command, now)
            else:
                arm = self._arm.get(controller.name)
                command = controller.check(np.array(message.data) if arm is None else arm.read(message))
        except InterfaceError as error:
            self._refuse(error)
            return False

        def deliver(stamp: int) -> None:
            try:
                if controller.active:
                    controller.accept(command, stamp)
            except InterfaceError as error:  # it has become late on its way
                self._refuse(error)

        self._world.send(deliver)
        return True

    def switch(self, controller: Controller, active: bool) -> str:
        """Let a controller begin or end; return why it cannot, or nothing."""
        other = self._world.switch(controller, active)
        return '' if other is None else f'{other[1]} is moved by {other[0].name}: deactivate that first'

    def _refuse(self, error: InterfaceError) -> None:
        self.refused += 1
        self._node.get_logger().warning(f'command refused: {error}', throttle_duration_sec=1.0)

    def _activator(self, controller: Controller) -> Callable[[SetBool.Request, SetBool.Response], SetBool.Response]:
        def answer(request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
            complaint = self._asked(controller, request.data)
            response.success = not complaint
            response.message = complaint or f'{controller.name} is {"active" if request.data else "inactive"}'
            return response

        return answer

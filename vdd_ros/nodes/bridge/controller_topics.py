"""The topics and services of simulated controllers, equal to those of ros2_control."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from vdd_ros.common.errors import InterfaceError
from vdd_ros.nodes import qos
from vdd_ros.nodes.bridge.robot_interface import Commands
from vdd_ros.nodes.bridge.sensor_messages import from_trajectory
from vdd_ros.nodes.bridge.world import World
from vdd_ros.nodes.messages import from_time
from vdd_ros.sim.controllers import Controller, TrajectoryController


class ControllerTopics:
    """Receives commands, refuses and counts invalid ones, and delivers the others to the controllers.

    `take` and `switch` must be called in the physics thread.
    """

    def __init__(
        self,
        node: Node,
        world: World,
        on_command: Callable[[Controller, Float64MultiArray | JointTrajectory], None],
        on_switch: Callable[[Controller, bool], str],
        agreed: Mapping[str, Commands],
        simulated: Callable[[int], int],
    ) -> None:
        """Subscribe to the commands of every controller, and offer ``~/NAME/activate`` for it.

        Parameters
        ----------
        node
            The node that subscribes.
        world
            The world with the controllers.
        on_command
            Called with every message; passes it to `take` in the physics thread.
        on_switch
            Called to switch a controller; calls `switch` in the physics thread, and returns the problem, or an empty
            text.
        agreed
            Commands of the controllers that a contract describes, by controller name.
        simulated
            Converts the stamp of a message [ns] to simulation time [ns].

        """
        self._node, self._world = node, world
        self._on_switch = on_switch
        self._agreed = agreed
        self._simulated = simulated
        self.taken: Counter[str] = Counter()
        """Number of accepted commands of each controller, by its name."""
        self.refused = 0
        """Number of refused commands."""
        self.names: dict[str, str] = {}
        """Command topic of each controller as the contract has it, with a leading slash, by controller name."""
        self.topics: dict[str, str] = {}
        """Command topic of each controller, by controller name."""
        for name, controller in world.stage.controllers.items():
            follows = isinstance(controller, TrajectoryController)
            kind, suffix = (JointTrajectory, 'joint_trajectory') if follows else (Float64MultiArray, 'commands')
            topic = f'{name}/{suffix}'
            if name in agreed:
                topic, kind = agreed[name].topic, agreed[name].type
            self.names[name] = f'/{topic.lstrip("/")}'
            self.topics[name] = node.resolve_topic_name(topic)

            def callback(message: Float64MultiArray | JointTrajectory, controller: Controller = controller) -> None:
                on_command(controller, message)

            node.create_subscription(kind, self.topics[name], callback, qos.COMMANDS)
            node.create_service(SetBool, f'~/{name}/activate', self._activator(controller))

    def takes_gripper_commands(self, name: str) -> bool:
        """Return whether the contract commands a controller by messages of type GripperCommand."""
        return name in self._agreed and self._agreed[name].type.__name__ == 'GripperCommand'

    def begin_of(self, message: JointTrajectory) -> int:
        """Return the start of a trajectory in simulation time [ns]; a trajectory without stamp starts now."""
        stamp = from_time(message.header.stamp)
        return self._simulated(stamp) if stamp else self._world.stamp

    def take(self, controller: Controller, message: Any) -> bool:
        """Deliver a command to its controller; return whether the command was accepted.

        A command is a message from the topic, or, for a position controller, an array of positions, shape (joint,)
        [rad].
        """
        now = self._world.stamp
        try:
            if not controller.active:
                raise InterfaceError(
                    expected=f'commands for active controllers, not {controller.name}',
                    found='one',
                    remedy=f'activate it: ~/{controller.name}/activate',
                )
            agreed = self._agreed.get(controller.name)
            if isinstance(controller, TrajectoryController):
                command = from_trajectory(message)
                if command.stamp:
                    command = replace(command, stamp=self._simulated(command.stamp))
                controller.check(command, now)
            elif isinstance(message, np.ndarray):
                command = controller.check(message)
            else:
                command = controller.check(np.array(message.data) if agreed is None else agreed.read(message))
        except InterfaceError as error:
            self._refuse(error)
            return False

        def deliver(stamp: int) -> None:
            try:
                if controller.active:
                    controller.accept(command, stamp)
            except InterfaceError as error:  # it has become late in transport
                self._refuse(error)

        self._world.send(deliver)
        self.taken[controller.name] += 1
        return True

    def switch(self, controller: Controller, active: bool) -> str:
        """Activate or deactivate a controller; return why this is impossible, or an empty text."""
        other = self._world.switch(controller, active)
        return '' if other is None else f'{other[1]} is moved by {other[0].name}: deactivate that first'

    def _refuse(self, error: InterfaceError) -> None:
        self.refused += 1
        self._node.get_logger().warning(f'command refused: {error}', throttle_duration_sec=1.0)

    def _activator(self, controller: Controller) -> Callable[[SetBool.Request, SetBool.Response], SetBool.Response]:
        def respond(request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
            complaint = self._on_switch(controller, request.data)
            response.success = not complaint
            response.message = complaint or f'{controller.name} is {"active" if request.data else "inactive"}'
            return response

        return respond

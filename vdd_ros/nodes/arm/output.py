"""Output to a position controller or a trajectory controller of ros2_control, in its joint order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import Contract
from vdd_ros.control.control_output import ControlOutput
from vdd_ros.nodes import messages, qos

INTERFACES = {'position': Float64MultiArray, 'trajectory': JointTrajectory}
TYPE_NAMES = {'position': 'std_msgs/msg/Float64MultiArray', 'trajectory': 'trajectory_msgs/msg/JointTrajectory'}
_ENDINGS = {'position': 'commands', 'trajectory': 'joint_trajectory'}


class Output:
    """One controller: its topic, its joints in its order, its units."""

    def __init__(
        self,
        contract: Contract,
        *,
        interface: str = 'position',
        controller: str = '',
        controller_joints: Sequence[str] = (),
        period: int = 0,
    ) -> None:
        """Describe a controller.

        Parameters
        ----------
        contract
            Whose joints are commanded, and how the controller counts them (`contract.commanded`).
        interface
            `position`: takes Float64MultiArray on NAME/commands. `trajectory`: takes JointTrajectory on
            NAME/joint_trajectory.
        controller
            Its name; empty for the commands topic of the contract.
        controller_joints
            The joints in the order of the controller's configuration; empty for the order of the contract.
        period
            Control period [ns]: so far ahead of the tick that decides on it a command of a trajectory is due.

        Raises
        ------
        ConfigurationError
            The controller's joints are not those of the contract.

        """
        joints = contract.robot.joints
        names = contract.commanded.names or joints
        ordered = tuple(controller_joints) or names
        if sorted(ordered) != sorted(names):
            raise ConfigurationError(
                expected=f'controller_joints that are {", ".join(names)}, in any order',
                found=', '.join(ordered),
                remedy='list the joints of the controller as its own configuration does',
            )
        self.interface = interface
        self.type = INTERFACES[interface]
        self.topic = f'{controller}/{_ENDINGS[interface]}' if controller else contract.topics.commands
        self.joints = ordered
        self.type_name = TYPE_NAMES[interface]
        self._period = period
        self._publisher: Publisher | None = None
        self._order = [names.index(name) for name in ordered]
        self._back = [ordered.index(name) for name in names]
        self._factor, self._offset = np.array(contract.commanded.factor), np.array(contract.commanded.offset)

    def message(self, output: ControlOutput) -> Float64MultiArray | JointTrajectory | None:
        """Convert an output, in the order of the contract, to a message for the controller.

        A trajectory controller receives nothing after an error of the loop, which has no future commands: its present
        trajectory ends at rest.
        """
        if self.interface == 'position':
            return messages.to_command(self.numbers(output.position))
        if output.window is None:
            return None
        stamps, positions, velocities = output.window.points()
        positions = self.numbers(positions)
        if velocities is not None:
            velocities = (velocities / self._factor)[:, self._order]
        return messages.to_trajectory(self.joints, stamps, positions, velocities)

    def numbers(self, position: np.ndarray) -> np.ndarray:
        """Convert positions of shape (..., joint) [rad] to the units and the joint order of the controller."""
        return ((position - self._offset) / self._factor)[..., self._order]

    def position(self, message: Float64MultiArray | JointTrajectory, now: int) -> np.ndarray:
        """Convert a message for the controller to a command, shape (joint,) [rad] in the order of the contract.

        Of a trajectory, the command is its position one control period after ``now`` [ns].

        Raises
        ------
        InterfaceError
            It has other joints than the controller, or numbers that are not finite.

        """
        if self.interface == 'position':
            values = messages.from_command(message, self.joints)
        else:
            values = messages.from_trajectory(message, self.joints, now + self._period)
        return values[self._back] * self._factor + self._offset

    def open(self, node: Node) -> Callable[[ControlOutput, int], None]:
        """Create a publisher, and return the function that sends outputs."""
        self._publisher = publisher = node.create_publisher(self.type, self.topic, qos.COMMANDS)

        def send(output: ControlOutput, stamp: int) -> None:
            if (message := self.message(output)) is not None:
                publisher.publish(message)

        return send

    def close(self, node: Node) -> None:
        """Destroy the publisher, if there is one."""
        if self._publisher:
            node.destroy_publisher(self._publisher)
            self._publisher = None

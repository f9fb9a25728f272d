"""Output to the controllers of a contract, each on its topic, in its joint order and units."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile

from vdd_ros.common.errors import ConfigurationError, InterfaceError
from vdd_ros.contract import message_types as types
from vdd_ros.contract.contract import Contract, Controller
from vdd_ros.contract.features import TopicFeature
from vdd_ros.control.control_output import ControlOutput
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.arm.action_types import FOLLOW_JOINT_TRAJECTORY, GRIPPER_COMMAND
from vdd_ros.nodes.arm.goals import GoalSender
from vdd_ros.nodes.recorder.raw_subscription import message_class

TRAJECTORY = 'trajectory_msgs/msg/JointTrajectory'
INTERFACES = {
    'position': 'std_msgs/msg/Float64MultiArray',
    'trajectory': TRAJECTORY,
    'follow_joint_trajectory': TRAJECTORY,
}
_STATES = 'sensor_msgs/msg/JointState'
_ENDINGS = {
    'position': 'commands',
    'trajectory': 'joint_trajectory',
    'follow_joint_trajectory': 'follow_joint_trajectory',
}


class Channel:
    """One controller: its topic or action, its joints in the controller's order, and its units."""

    def __init__(
        self,
        controller: Controller,
        *,
        type_name: str,
        topic: str,
        names: Sequence[str],
        period: int,
        action: str = '',
    ) -> None:
        """Describe a controller.

        Parameters
        ----------
        controller
            The controller, as described by the contract.
        type_name, topic
            Message type and topic of the commands.
        names
            Joint names as used in the messages of the controller, in the order of these messages.
        period
            Control period [ns]. A command read from a trajectory is the position one control period ahead.
        action
            Type of the action whose goals contain the messages; ``topic`` is then the action name. Empty for a topic.

        Raises
        ------
        ConfigurationError
            The message type is not installed.

        """
        self.topic, self.type_name, self.joints = topic, type_name, tuple(names)
        self.action = action
        """Type of the action for the commands; empty if they are published on a topic."""
        self.places = controller.places
        """Indices of the controller's joints among those of the contract."""
        self.measured = controller.measured
        """Whether the joint states measure the controller's joints."""
        self.type = message_class(type_name)
        self._period = period
        self._order = [controller.names.index(name) for name in names]
        self._back = [self.joints.index(name) for name in controller.names]
        reading = controller.reading
        self._factor, self._offset = np.array(reading.factor), np.array(reading.offset)

    def message(self, output: ControlOutput, stamp: int) -> object | None:
        """Convert an output for ``stamp`` [ns], in the order of the contract, to a message for the controller.

        After an error of the loop, which then has no future commands, a trajectory controller receives no message
        (None). Its last trajectory ends at rest.
        """
        if self.type_name == TRAJECTORY:
            return None if output.window is None else self._trajectory(output)
        values = self.numbers(output.position)
        if self.type_name == _STATES:
            message = self.type(name=list(self.joints), position=array('d', values))
            message.header.stamp = messages.to_time(stamp)
            return message
        if self.type_name in types.ARRAYS:
            return self.type(data=array('d' if 'Float64' in self.type_name else 'f', values))
        if self.type_name == types.GRIPPER_COMMAND:
            return self.type(position=float(values[0]))
        kind, value = type(self.type().data), float(values[0])
        return self.type(data=value >= 0.5 if kind is bool else round(value) if kind is int else value)

    def _trajectory(self, output: ControlOutput) -> object:
        stamps, positions, velocities = output.window.points()
        positions = self.numbers(positions)
        if velocities is not None:
            velocities = (velocities[:, self.places] / self._factor)[:, self._order]
        return messages.to_trajectory(self.joints, stamps, positions, velocities)

    def numbers(self, position: np.ndarray) -> np.ndarray:
        """Convert joint positions of the contract to units and joint order of the controller.

        ``position`` has shape (..., joint of the contract) [rad]. The result has shape (..., joint of the controller).
        """
        return ((position[..., self.places] - self._offset) / self._factor)[..., self._order]

    def position(self, message: object, now: int = 0) -> np.ndarray:
        """Convert a message for the controller to positions of its joints in the order of the contract, shape (joint,).

        For a trajectory, the command is the position one control period after ``now`` [ns].

        Raises
        ------
        InterfaceError
            The message has other joints than the controller, or values that are not finite.

        """
        if self.type_name == TRAJECTORY:
            values = messages.from_trajectory(message, self.joints, now + self._period)
        elif self.type_name == _STATES:
            values = messages.JointReader(self.joints).read(message).position
        elif self.type_name in types.ARRAYS:
            values = messages.from_command(message, self.joints)
        else:
            number = message.position if self.type_name == types.GRIPPER_COMMAND else message.data
            values = np.array([number], dtype=np.float64)
            if not np.isfinite(values).all():
                raise InterfaceError(
                    expected=f'a finite number on {self.topic}', found=str(number), remedy='look for the NaN there'
                )
        return values[self._back] * self._factor + self._offset


class Output:
    """Sends control outputs to all controllers that a node commands together, as topics or as action goals."""

    def __init__(
        self,
        contract: Contract,
        *,
        interface: str = 'position',
        controller: str = '',
        controller_joints: Sequence[str] = (),
        gripper_interface: str = 'topic',
        period: int = 0,
    ) -> None:
        """Describe the controllers.

        Parameters
        ----------
        contract
            Defines the controllers and the order of joints.
        interface
            Interface of the arm controller. `position`: Float64MultiArray on NAME/commands. `trajectory`:
            JointTrajectory on NAME/joint_trajectory. `follow_joint_trajectory`: the action
            NAME/follow_joint_trajectory.
        controller
            Name of the arm controller; empty for the commands topic of the contract.
        controller_joints
            Joints in the order of the arm controller's configuration; empty for the order of the contract.
        gripper_interface
            `action`: further controllers of type GripperCommand use the action of that name instead of the topic.
        period
            Control period [ns]: see `Channel`.

        Raises
        ------
        ConfigurationError
            The controller's joints differ from those of the contract, a message type is not installed, or an action
            has no name.

        """
        arm, *further = contract.controllers
        ordered = tuple(controller_joints) or arm.names
        if sorted(ordered) != sorted(arm.names):
            raise ConfigurationError(
                expected=f'controller_joints that are {", ".join(arm.names)}, in any order',
                found=', '.join(ordered),
                remedy='list the joints of the controller as its own configuration does',
            )
        self.channels: tuple[Channel, ...] = (
            _arm_channel(arm, interface, controller, ordered, period),
            *(_further_channel(each, gripper_interface, period) for each in further),
        )
        """The channel of the arm, then the others in the order of the contract."""
        self._publishers: list[Publisher | GoalSender] = []

    def open(self, node: Node, profile: QoSProfile = qos.COMMANDS) -> Callable[[ControlOutput, int], None]:
        """Create publishers and action clients, and return the function that sends an output for a stamp [ns]."""
        self._publishers = [
            GoalSender(node, each.action, each.topic)
            if each.action
            else node.create_publisher(each.type, each.topic, profile)
            for each in self.channels
        ]
        # The arm last: where a simulation waits for its command, the others have been sent.
        pairs = list(zip(self.channels, self._publishers))[::-1]

        def send(output: ControlOutput, stamp: int) -> None:
            for channel, publisher in pairs:
                if (message := channel.message(output, stamp)) is not None:
                    publisher.publish(message)

        return send

    @property
    def topics(self) -> list[str]:
        """The names of all channels that are topics; the other channels are actions."""
        return [channel.topic for channel in self.channels if not channel.action]

    @property
    def missing(self) -> list[str]:
        """Topics without subscriber and actions without server, after `open`."""
        pairs = zip(self.channels, self._publishers)
        return [channel.topic for channel, publisher in pairs if not _is_taken(publisher)]

    def take_contested(self) -> list[str]:
        """Return the actions to which another client has sent a goal since the last call, after `open`."""
        return [each.action for each in self._senders if each.take_rival()]

    def take_problems(self) -> list[str]:
        """Return why goals were not executed since the last call, by action with problems, after `open`."""
        return [problem for each in self._senders if (problem := each.take_problem())]

    @property
    def _senders(self) -> list[GoalSender]:
        return [each for each in self._publishers if isinstance(each, GoalSender)]

    def close(self, node: Node) -> None:
        """Destroy publishers and clients, if there are any."""
        for publisher in self._publishers:
            if isinstance(publisher, GoalSender):
                publisher.close()
            else:
                node.destroy_publisher(publisher)
        self._publishers = []


def _is_taken(publisher: Publisher | GoalSender) -> bool:
    if isinstance(publisher, GoalSender):
        return publisher.is_taken
    return bool(publisher.get_subscription_count())


def _arm_channel(arm: Controller, interface: str, name: str, joints: Sequence[str], period: int) -> Channel:
    topic = f'{name}/{_ENDINGS[interface]}' if name else arm.topic
    action = FOLLOW_JOINT_TRAJECTORY if interface == 'follow_joint_trajectory' else ''
    if action and not name:
        raise ConfigurationError(
            expected='the name of a controller with interface follow_joint_trajectory',
            found='none',
            remedy='set the parameter controller: its action is NAME/follow_joint_trajectory',
        )
    return Channel(arm, type_name=INTERFACES[interface], topic=topic, names=joints, period=period, action=action)


def _further_channel(controller: Controller, gripper_interface: str, period: int) -> Channel:
    takes_action = gripper_interface == 'action' and controller.type == types.GRIPPER_COMMAND
    return Channel(
        controller,
        type_name=controller.type,
        topic=controller.topic,
        names=_in_messages(controller),
        period=period,
        action=GRIPPER_COMMAND if takes_action else '',
    )


def _in_messages(controller: Controller) -> tuple[str, ...]:
    """Return the joints of a further controller in the order in which its messages have them."""
    feature = controller.reading
    if not isinstance(feature, TopicFeature) or types.kind(feature.type) == 'joints' or len(controller.names) == 1:
        return controller.names
    wanted = types.position_paths(feature.type, feature.size)
    return tuple(controller.names[feature.paths.index(path)] for path in wanted)

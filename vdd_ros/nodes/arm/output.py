"""Where commands go: to the controllers of a contract, each on its topic, in its own joint order and units."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher

from vdd_ros.common.errors import ConfigurationError, InterfaceError
from vdd_ros.contract import message_types as types
from vdd_ros.contract.contract import Contract, Controller
from vdd_ros.contract.features import TopicFeature
from vdd_ros.control.control_output import ControlOutput
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.recorder.raw_subscription import message_class

TRAJECTORY = 'trajectory_msgs/msg/JointTrajectory'
INTERFACES = {'position': 'std_msgs/msg/Float64MultiArray', 'trajectory': TRAJECTORY}
_STATES = 'sensor_msgs/msg/JointState'
_ENDINGS = {'position': 'commands', 'trajectory': 'joint_trajectory'}


class Channel:
    """One controller as a commanding node sees it: its topic, its joints in its order, its units."""

    def __init__(
        self, controller: Controller, *, type_name: str, topic: str, names: Sequence[str], period: int
    ) -> None:
        """Describe a controller.

        Parameters
        ----------
        controller
            What the contract says of it.
        type_name, topic
            What it takes, and where.
        names
            Its joints in the order of its messages, as those call them.
        period
            Control period [ns]: so far ahead of the tick that decides on it a command of a trajectory is due.

        Raises
        ------
        ConfigurationError
            Its message type is not installed.

        """
        self.topic, self.type_name, self.joints = topic, type_name, tuple(names)
        self.places = controller.places
        """Where its joints are among those of the contract."""
        self.measured = controller.measured
        """Whether the joint states measure its joints."""
        self.type = message_class(type_name)
        self._period = period
        self._order = [controller.names.index(name) for name in names]
        self._back = [self.joints.index(name) for name in controller.names]
        reading = controller.reading
        self._factor, self._offset = np.array(reading.factor), np.array(reading.offset)

    def message(self, output: ControlOutput, stamp: int) -> object | None:
        """Convert what was decided at ``stamp`` [ns], in the order of the contract, to what the controller takes.

        A trajectory controller gets nothing where a loop has failed and knows no commands to come: the trajectory that
        it has ends at rest.
        """
        if self.type_name == TRAJECTORY:
            return None if output.window is None else self._trajectory(output)
        values = ((output.position[self.places] - self._offset) / self._factor)[self._order]
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
        positions = ((positions[:, self.places] - self._offset) / self._factor)[:, self._order]
        if velocities is not None:
            velocities = (velocities[:, self.places] / self._factor)[:, self._order]
        return messages.to_trajectory(self.joints, stamps, positions, velocities)

    def position(self, message: object, now: int = 0) -> np.ndarray:
        """Convert what the controller is told to joint values, shape (its joint,), in the order of the contract.

        Of a trajectory that is where it leads a control period after ``now`` [ns], as a command does.

        Raises
        ------
        InterfaceError
            It has other joints than the controller, or numbers that are not finite.

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
    """All controllers that a node commands at once."""

    def __init__(
        self,
        contract: Contract,
        *,
        interface: str = 'position',
        controller: str = '',
        controller_joints: Sequence[str] = (),
        period: int = 0,
    ) -> None:
        """Describe the controllers.

        Parameters
        ----------
        contract
            Which there are, and how they count joints. What follows is of the arm's, the first one.
        interface
            `position`: takes Float64MultiArray on NAME/commands. `trajectory`: takes JointTrajectory on
            NAME/joint_trajectory.
        controller
            Its name; empty for the commands topic of the contract.
        controller_joints
            The joints in the order of the controller's configuration; empty for the order of the contract.
        period
            Control period of all [ns]: see `Channel`.

        Raises
        ------
        ConfigurationError
            The controller's joints are not those of the contract, or a message type is not installed.

        """
        arm, *further = contract.controllers
        ordered = tuple(controller_joints) or arm.names
        if sorted(ordered) != sorted(arm.names):
            raise ConfigurationError(
                expected=f'controller_joints that are {", ".join(arm.names)}, in any order',
                found=', '.join(ordered),
                remedy='list the joints of the controller as its own configuration does',
            )
        topic = f'{controller}/{_ENDINGS[interface]}' if controller else arm.topic
        self.channels: tuple[Channel, ...] = (
            Channel(arm, type_name=INTERFACES[interface], topic=topic, names=ordered, period=period),
            *(
                Channel(each, type_name=each.type, topic=each.topic, names=_in_messages(each), period=period)
                for each in further
            ),
        )
        """That of the arm, then the others in the order of the contract."""
        self._publishers: list[Publisher] = []

    def open(self, node: Node) -> Callable[[ControlOutput, int], None]:
        """Make the publishers, and return what sends what was decided at a stamp [ns]; none is there before."""
        self._publishers = [node.create_publisher(each.type, each.topic, qos.COMMANDS) for each in self.channels]
        # The arm last: where a simulation waits for its command, the others have been sent.
        pairs = list(zip(self.channels, self._publishers))[::-1]

        def send(output: ControlOutput, stamp: int) -> None:
            for channel, publisher in pairs:
                if (message := channel.message(output, stamp)) is not None:
                    publisher.publish(message)

        return send

    @property
    def missing(self) -> list[str]:
        """The topics that nobody listens to, once the publishers are made."""
        pairs = zip(self.channels, self._publishers)
        return [channel.topic for channel, publisher in pairs if not publisher.get_subscription_count()]

    def close(self, node: Node) -> None:
        """Withdraw the publishers, if there are any."""
        for publisher in self._publishers:
            node.destroy_publisher(publisher)
        self._publishers = []


def _in_messages(controller: Controller) -> tuple[str, ...]:
    """Return the joints of a further controller in the order in which its messages have them."""
    feature = controller.reading
    if not isinstance(feature, TopicFeature) or types.kind(feature.type) == 'joints' or len(controller.names) == 1:
        return controller.names
    wanted = types.position_paths(feature.type, feature.size)
    return tuple(controller.names[feature.paths.index(path)] for path in wanted)

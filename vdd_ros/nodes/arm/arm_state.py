"""State of the arm: the last joint state, the rate of joint states, or the reason why there is no joint state."""

from __future__ import annotations

from collections import deque

import numpy as np
from sensor_msgs.msg import JointState

from vdd_ros.common.errors import ConfigurationError, InterfaceError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.data.decode.sources import MEASURED, further_states, joint_type
from vdd_ros.nodes.messages import JointReader, JointReading

_WINDOW = 200
_TYPE = 'sensor_msgs/msg/JointState'


class ArmState:
    """Processes joint states; messages without all joints of the robot are rejected.

    Joints of further controllers, such as those of a gripper, may arrive in separate messages. A reading contains the
    joints of the robot as measured at its stamp, the last values of the other joints, and NaN for joints without
    measurement.
    """

    def __init__(self, contract: Contract, topic: str, max_age: int) -> None:
        """Prepare for the joints of a contract on a resolved topic.

        Values of further controllers may be older than those of the robot's joints by up to ``max_age`` [ns].

        Raises
        ------
        ConfigurationError
            The contract's joint states have a message type that this node does not support.

        """
        if joint_type(contract, MEASURED) != _TYPE:
            raise ConfigurationError(
                expected=f'a contract whose joint states are {_TYPE}',
                found=joint_type(contract, MEASURED),
                remedy='let the driver publish joint states; bags may hold other types, a live arm may not',
            )
        self._names = set(contract.measured.names or contract.robot.joints)
        self._by_arrival = contract.measured.stamp == 'receive'
        self._reader = JointReader(contract.robot.joints, contract.measured)
        self._further = [
            (each, JointReader(each.joints, further_states(contract, each)))
            for each in contract.controllers[1:]
            if each.measured
        ]
        self._newest: dict[str, JointReading] = {}
        self._size, self._max_age, self._topic = len(contract.joints), max_age, topic
        self._stamps: deque[int] = deque(maxlen=_WINDOW)
        self.reading: JointReading | None = None
        """The last joint state."""
        self.incomplete = False
        """Whether the last message has some joints of a controller, but not all."""
        self.outdated = False
        """Whether the last message arrived while joints of a further controller were missing or too old."""
        self.complaint = InterfaceError(
            expected=f'joint states on {topic}', found='none', remedy='start the arm, or remap joint_states to it'
        )
        """Why there is no joint state; afterwards, the last error in a message."""

    @property
    def rate(self) -> float:
        """Rate of joint states by their own stamps [Hz]; NaN before there are two."""
        stamps = sorted(set(self._stamps))
        return (len(stamps) - 1) / (stamps[-1] - stamps[0]) * NANOSECONDS if len(stamps) > 1 else float('nan')

    def take(self, message: JointState, now: int) -> JointReading | None:
        """Process a message that arrived at ``now`` [ns]; return the joint state, or None."""
        self.incomplete = self.outdated = False
        for controller, reader in self._further:
            if not set(controller.joints).isdisjoint(message.name):
                found = self._read(reader, message, now)
                if found is None:
                    self.incomplete = True
                    return None
                self._newest[controller.name] = found
        if self._further and self._names.isdisjoint(message.name):
            return None
        reading = self._read(self._reader, message, now)
        if reading is None:
            # Another device may share the topic, but a message with some joints of the arm should contain all of them.
            self.incomplete = not self._names.isdisjoint(message.name)
            return None
        if (position := self._complete(reading)) is None:
            self.outdated = True
            return None
        self.reading = JointReading(reading.stamp, position, reading.velocity)
        self._stamps.append(reading.stamp)
        return self.reading

    def _complete(self, reading: JointReading) -> np.ndarray | None:
        """Return the position of all joints, shape (joint,) [rad], or note which joints are missing or too old."""
        position = np.full(self._size, np.nan)
        position[: len(reading.position)] = reading.position
        for controller, _ in self._further:
            newest = self._newest.get(controller.name)
            age = float('inf') if newest is None else (reading.stamp - newest.stamp) / NANOSECONDS
            if abs(age) * NANOSECONDS > self._max_age:
                self.complaint = InterfaceError(
                    expected=f'{", ".join(controller.joints)} on {self._topic}, no older than the joints of the robot',
                    found='none yet' if newest is None else f'{age:.3f} s older',
                    remedy='start their publisher, or merge its joint states into that topic',
                )
                return None
            position[controller.places] = newest.position
        return position

    def _read(self, reader: JointReader, message: JointState, now: int) -> JointReading | None:
        """Read some joints of a message, or note the error."""
        try:
            reading = reader.read(message)
        except InterfaceError as error:
            self.complaint = error
            return None
        return JointReading(now, reading.position, reading.velocity) if self._by_arrival else reading

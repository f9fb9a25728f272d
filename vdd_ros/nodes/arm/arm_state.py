"""State of the arm: its newest joint state, the rate of joint states, or the reason why there is none."""

from __future__ import annotations

from collections import deque

from sensor_msgs.msg import JointState

from vdd_ros.common.errors import ConfigurationError, InterfaceError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.data.decode.sources import MEASURED, joint_type
from vdd_ros.nodes.messages import JointReader, JointReading

_WINDOW = 200
_TYPE = 'sensor_msgs/msg/JointState'


class ArmState:
    """Processes joint states; messages without all joints of the contract are rejected."""

    def __init__(self, contract: Contract, topic: str) -> None:
        """Prepare for the joints of a contract on a resolved topic.

        Raises
        ------
        ConfigurationError
            The contract's joint states are of a type that this node does not read.

        """
        if joint_type(contract, MEASURED) != _TYPE:
            raise ConfigurationError(
                expected=f'a contract whose joint states are {_TYPE}',
                found=joint_type(contract, MEASURED),
                remedy='let the driver publish joint states; bags may hold other types, a live arm may not',
            )
        self._joints = contract.measured.names or contract.robot.joints
        self._by_arrival = contract.measured.stamp == 'receive'
        self._reader = JointReader(contract.robot.joints, contract.measured)
        self._stamps: deque[int] = deque(maxlen=_WINDOW)
        self.reading: JointReading | None = None
        """The newest joint state."""
        self.incomplete = False
        """Whether the newest message has some joints of the arm, but not all."""
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
        try:
            reading = self._reader.read(message)
        except InterfaceError as error:
            # Another device may share the topic, but a message with some joints of the arm should contain all of them.
            self.complaint = error
            self.incomplete = not set(self._joints).isdisjoint(message.name)
            return None
        if self._by_arrival:
            reading = JointReading(now, reading.position, reading.velocity)
        self.incomplete = False
        self.reading = reading
        self._stamps.append(reading.stamp)
        return reading

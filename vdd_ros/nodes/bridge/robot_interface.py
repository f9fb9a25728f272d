"""The simulated arm on ROS as the real one: topics, joint names and units of a contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import Contract
from vdd_ros.nodes import messages
from vdd_ros.nodes.arm.output import Output
from vdd_ros.sim.arm import Measurement
from vdd_ros.sim.controllers import Controller, PositionController

_JOINT_STATE = 'sensor_msgs/msg/JointState'


@dataclass(frozen=True)
class ArmCommands:
    """Where the arm is commanded, and how its commands are read."""

    topic: str
    """Takes Float64MultiArray."""
    read: Callable[[Float64MultiArray], np.ndarray]
    """Converts a message to positions in the order of the controller, shape (joint,) [rad]; raises InterfaceError."""


class RobotInterface:
    """Conversion between the simulation and the messages of the arm.

    Without a contract, topics, joint names and units are those of the model. With a contract, the simulated arm has the
    topics, joint names, signs, units and offsets that the contract states for the real one. Its controller is a
    position controller: it takes Float64MultiArray on `topics.commands`, whatever type of commands the contract has.
    """

    def __init__(self, joints: Sequence[str], contract: Contract | None = None) -> None:
        """Prepare the conversion of the joints of a simulation.

        Raises
        ------
        ConfigurationError
            The contract has other joints, or message types or velocity commands that the simulated arm does not offer.

        """
        self._contract = contract
        self._names = list(joints)
        self.joint_states, self.episode = 'joint_states', 'episode'
        self._plain = True
        if contract is None:
            return
        _refuse_foreign(contract, joints)
        self.joint_states, self.episode = contract.topics.joint_states, contract.topics.episode
        stream, moved = contract.measured, contract.robot.joints
        self._plain = stream.factor == (1.0,) and stream.offset == (0.0,)
        self._factor, self._offset = np.ones(len(joints)), np.zeros(len(joints))
        places = [self._names.index(joint) for joint in moved]
        self._factor[places], self._offset[places] = stream.factor, stream.offset
        for place, name in zip(places, stream.names or moved):
            self._names[place] = name

    def state(self, state: Measurement, stamp: int) -> JointState:
        """Convert a measurement to a message of a stamp [ns]."""
        position, velocity = state.position, state.velocity
        if not self._plain:
            position, velocity = (position - self._offset) / self._factor, velocity / self._factor
        return messages.to_joint_state(stamp, self._names, position, velocity, state.effort)

    def commands(self, controllers: Mapping[str, Controller]) -> dict[str, ArmCommands]:
        """Return how the controller of the arm is commanded, by its name; empty without a contract.

        Raises
        ------
        ConfigurationError
            No position controller has the joints of the contract.

        """
        if self._contract is None:
            return {}
        contract, joints = self._contract, self._contract.robot.joints
        positions = [each for each in controllers.values() if isinstance(each, PositionController)]
        fitting = [each for each in positions if set(each.joints) == set(joints)]
        if not fitting:
            raise ConfigurationError(
                expected=f'a position controller of the joints {", ".join(joints)} in the scene',
                found=', '.join(controllers) or 'no controller',
                remedy='add it to `controllers` of the scene file',
            )
        controller = next((each for each in fitting if each.active), fitting[0])
        output = Output(contract)
        order = [joints.index(joint) for joint in controller.joints]

        def read(message: Float64MultiArray) -> np.ndarray:
            return output.position(message, 0)[order]

        return {controller.name: ArmCommands(output.topic, read)}


def _refuse_foreign(contract: Contract, joints: Sequence[str]) -> None:
    missing = [joint for joint in contract.robot.joints if joint not in joints]
    found = ''
    if missing:
        found = f'no {", ".join(missing)} among {", ".join(joints)}'
    elif contract.measured.type not in (None, _JOINT_STATE):
        found = f'{contract.measured.type} for joint states'
    if found:
        raise ConfigurationError(
            expected=f'the joints of the contract {contract.name} in the scene, and JointState for their states',
            found=found,
            remedy='name the task of this robot, or simulate in process: vdd validate --ros-episodes 0',
        )

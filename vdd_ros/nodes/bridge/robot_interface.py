"""ROS interface of the simulated arm, equal to that of the real arm: topics, joint names and units of a contract."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import Contract
from vdd_ros.contract.contract import Controller as ContractController
from vdd_ros.data.decode.sources import further_states
from vdd_ros.nodes import messages
from vdd_ros.nodes.arm.output import TRAJECTORY, Channel, Output
from vdd_ros.nodes.bridge.sensor_messages import from_trajectory
from vdd_ros.sim.arm import Measurement
from vdd_ros.sim.controllers import Controller, PositionController, TrajectoryController

_JOINT_STATE = 'sensor_msgs/msg/JointState'


@dataclass(frozen=True)
class Commands:
    """Topic, message type and conversion of a controller's commands."""

    topic: str
    type: type
    """Message type."""
    read: Callable[[Any], Any]
    """Converts a message to a command; raises InterfaceError. The command of a position controller is an array of
    positions in the controller's order, shape (joint,) [rad]; that of a trajectory controller is a `TrajectoryGoal`."""


class RobotInterface:
    """Conversion between the simulation and the messages of the arm.

    Without a contract, topics, joint names and units are those of the model. With a contract, the simulated arm has the
    topics, joint names, signs, units and offsets that the contract states for the real arm. The arm controller is a
    position controller: it accepts Float64MultiArray on `topics.commands`, regardless of the command type in the
    contract. Further controllers, such as that of a gripper, accept the message type of their action.
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
        self._factor, self._offset = np.ones(len(joints)), np.zeros(len(joints))
        arm, *further = contract.controllers
        streams = [(arm.joints, contract.measured)]
        streams += [(each.joints, further_states(contract, each)) for each in further if each.measured]
        for moved, stream in streams:
            places = [joints.index(joint) for joint in moved]
            self._factor[places], self._offset[places] = stream.factor, stream.offset
            for place, name in zip(places, stream.names or moved):
                self._names[place] = name
        self._plain = bool((self._factor == 1.0).all() and (self._offset == 0.0).all())

    def state(self, state: Measurement, stamp: int) -> JointState:
        """Convert a measurement to a message with a stamp [ns]."""
        position, velocity = state.position, state.velocity
        if not self._plain:
            position, velocity = (position - self._offset) / self._factor, velocity / self._factor
        return messages.to_joint_state(stamp, self._names, position, velocity, state.effort)

    def commands(self, controllers: Mapping[str, Controller]) -> dict[str, Commands]:
        """Return the commands of the controllers of the contract, by controller name; empty without a contract.

        Raises
        ------
        ConfigurationError
            A controller of the contract has no counterpart with the same joints, or a trajectory controller would need
            a conversion of units.

        """
        if self._contract is None:
            return {}
        found = {}
        measured = [each for each in self._contract.controllers if each.measured]
        for wanted, channel in zip(self._contract.controllers, Output(self._contract).channels):
            if wanted in measured:
                controller = _matching(controllers, wanted)
                found[controller.name] = _commands(controller, wanted, channel)
        return found


def _matching(controllers: Mapping[str, Controller], wanted: ContractController) -> Controller:
    """Return the simulated controller of the joints of one of a contract; position controllers come first."""
    fitting = [each for each in controllers.values() if set(getattr(each, 'joints', ())) == set(wanted.joints)]
    fitting.sort(key=lambda each: (not isinstance(each, PositionController), not each.active))
    if not fitting:
        raise ConfigurationError(
            expected=f'a controller of the joints {", ".join(wanted.joints)} in the scene',
            found=', '.join(controllers) or 'no controller',
            remedy='add it to `controllers` of the scene file',
        )
    return fitting[0]


def _commands(controller: Controller, wanted: ContractController, channel: Channel) -> Commands:
    if isinstance(controller, TrajectoryController):
        reading = wanted.reading
        if (wanted.type, wanted.names, reading.factor, reading.offset) != (TRAJECTORY, wanted.joints, (1.0,), (0.0,)):
            raise ConfigurationError(
                expected=f'a position controller for {wanted.type} on {wanted.topic}',
                found=f'the trajectory controller {controller.name}, which takes {TRAJECTORY} with the joint names '
                'and units of the model',
                remedy=f'give {controller.name} `type: position` in the scene file',
            )
        return Commands(wanted.topic, JointTrajectory, from_trajectory)
    return Commands(channel.topic, channel.type, functools.partial(_positions, channel, wanted, controller))


def _positions(channel: Channel, wanted: ContractController, controller: Controller, message: Any) -> np.ndarray:
    return channel.position(message)[[wanted.joints.index(joint) for joint in controller.joints]]


def _refuse_foreign(contract: Contract, joints: Sequence[str]) -> None:
    moved = [joint for each in contract.controllers if each.measured for joint in each.joints]
    missing = [joint for joint in moved if joint not in joints]
    found = ''
    if missing:
        found = f'{", ".join(joints) or "no joint"} in controllers of the scene, without {", ".join(missing)}'
    elif contract.measured.type not in (None, _JOINT_STATE):
        found = f'{contract.measured.type} for joint states'
    if found:
        raise ConfigurationError(
            expected=f'the joints of the contract {contract.name} in the scene, and JointState for their states',
            found=found,
            remedy='add them to `controllers` of the scene file, name the task of this robot, or simulate in process: '
            'vdd validate --ros-episodes 0',
        )

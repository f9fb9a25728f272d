"""The robot model: the model named by the contract, otherwise the URDF that the robot publishes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vdd_ros.common.errors import ModelError
from vdd_ros.contract.contract import Contract
from vdd_ros.robot.kinematics import Kinematics

TOPIC = 'robot_description'


class DescriptionMissing(ModelError):
    """The robot has not published its description yet."""


def kinematics_of(contract: Contract, description: str, topic: str = TOPIC) -> Kinematics:
    """Load the robot of a contract.

    Parameters
    ----------
    contract
        The contract. If it names a model, this model is loaded.
    description
        URDF to load otherwise, as received; empty if none was received.
    topic
        Topic of the URDF, for the error message.

    Raises
    ------
    DescriptionMissing
        The contract names no model, and no URDF was received.
    ModelError
        The model is absent or malformed, or lacks the tool or a joint of the contract.

    """
    if contract.robot.model:
        return Kinematics.from_contract(contract)
    if not description:
        raise DescriptionMissing(
            expected=f'a URDF on {topic}, since the contract {contract.name} names no robot.model',
            found='none',
            remedy='start robot_state_publisher, or name the model in the contract',
        )
    robot = contract.robot
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f'{TOPIC}.urdf')
        file.write_text(description, encoding='utf-8')
        return Kinematics(file, robot.tool, robot.joints, robot.tool_weights)

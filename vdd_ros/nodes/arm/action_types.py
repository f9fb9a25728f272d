"""The actions of ros2_control. They need control_msgs, which ROS installations have, but the ROS wheels lack."""

from __future__ import annotations

import importlib

from vdd_ros.common.errors import ConfigurationError

FOLLOW_JOINT_TRAJECTORY = 'control_msgs/action/FollowJointTrajectory'
GRIPPER_COMMAND = 'control_msgs/action/GripperCommand'


def action_class(kind: str) -> type:
    """Return the Python class of an action type.

    Raises
    ------
    ConfigurationError
        The package of the action is not installed.
    """
    package, _, name = kind.partition('/action/')
    try:
        return getattr(importlib.import_module(f'{package}.action'), name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            expected=f'the action type {kind}',
            found=' '.join(str(error).split()),
            remedy=f'install the ROS package {package}, or command the controller on its topic',
        ) from error


def are_installed() -> bool:
    """Return whether control_msgs with its actions is installed."""
    try:
        action_class(FOLLOW_JOINT_TRAJECTORY)
    except ConfigurationError:
        return False
    return True

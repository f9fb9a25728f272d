"""From joint values to the features of a contract: the one way, for bags and for the live arm."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np

from vdd_ros.contract import NANOSECONDS, Contract, Feature, TopicFeature

_AXES = {'x': 0, 'y': 1, 'z': 2}
_NONE: Mapping[str, np.ndarray] = MappingProxyType({})


class ToolPoint(Protocol):
    """What decoding needs of kinematics; `vdd_ros.kinematics.Kinematics` is one."""

    def tool_position(self, joints: np.ndarray) -> np.ndarray:
        """Map joints of shape (..., joint) [rad] to positions of shape (..., 3) [m]."""
        ...


def feature_values(
    contract: Contract, feature: Feature, joints: np.ndarray, kinematics: ToolPoint | None
) -> np.ndarray:
    """Evaluate a feature of the arm.

    Parameters
    ----------
    contract, feature
        The feature, and the contract it is part of.
    joints
        Shape (..., joint), in the order of ``contract.robot.joints`` [rad]: measured or commanded as the feature says.
    kinematics
        Needed for features in tool space.

    Returns
    -------
    Shape (..., ``contract.width(feature)``), [rad] in joint space and [m] in tool space.

    """
    if feature.space == 'joint':
        values = np.asarray(joints, dtype=np.float64)
        return values[..., joint_indices(contract, feature)] if feature.joints else values
    return kinematics.tool_position(joints)[..., axis_indices(feature)]


def axis_indices(feature: Feature) -> list[int]:
    """Return the places of a feature's coordinates in a position; none in joint space."""
    return [_AXES[axis] for axis in feature.axes]


def joint_indices(contract: Contract, feature: Feature) -> list[int]:
    """Return the places of a feature's joints among those of the robot; none in tool space."""
    return [contract.robot.joints.index(joint) for joint in contract.joints_of(feature)] * (feature.space == 'joint')


def observation_values(
    contract: Contract,
    measured: np.ndarray,
    commanded: np.ndarray,
    kinematics: ToolPoint | None,
    topics: Mapping[str, np.ndarray] = _NONE,
) -> np.ndarray:
    """Evaluate every feature of the observation, side by side.

    ``measured`` and ``commanded`` have shape (..., joint) [rad], and ``topics`` holds, by name, the values of each
    feature that is read from a topic of its own, shape (..., width); the result has shape (..., observation).
    """
    streams = {'measured': measured, 'commanded': commanded}
    parts = [
        topics[feature.name]
        if isinstance(feature, TopicFeature)
        else feature_values(contract, feature, streams[feature.source], kinematics)
        for feature in contract.observation
    ]
    return np.concatenate(parts, axis=-1)


def action_values(
    contract: Contract,
    before: np.ndarray,
    after: np.ndarray,
    kinematics: ToolPoint | None,
    topics_before: Mapping[str, np.ndarray] = _NONE,
    topics_after: Mapping[str, np.ndarray] = _NONE,
) -> np.ndarray:
    """Evaluate the action that leads from one command to the next, every feature side by side.

    Parameters
    ----------
    contract, kinematics
        As for `feature_values`.
    before, after
        The joints commanded before the tick and before the next, shape (..., joint) [rad]. If the contract's commands
        say velocities, ``after`` holds those [rad/s], and ``before`` is not looked at.
    topics_before, topics_after
        The same of each feature that is commanded on a topic of its own, by name, shape (..., width).

    Returns
    -------
    Shape (..., action): by the feature's mode the change, the new value, or the change per second.

    """
    seconds = contract.period / NANOSECONDS
    told_velocity = contract.commanded.quantity == 'velocity'
    parts = []
    for feature in contract.actions:
        topic = isinstance(feature, TopicFeature)
        new = topics_after[feature.name] if topic else feature_values(contract, feature, after, kinematics)
        mode = contract.mode_of(feature)
        if mode == 'absolute' or (told_velocity and not topic):
            parts.append(new)
            continue
        old = topics_before[feature.name] if topic else feature_values(contract, feature, before, kinematics)
        parts.append(new - old if mode == 'delta' else (new - old) / seconds)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def change_factors(contract: Contract) -> np.ndarray:
    """Return what an action is multiplied with to be a change of the command, shape (action,).

    1 where its mode is `delta`, the policy period [s] where it is `velocity`, NaN where the action is the new value.
    """
    factor = {'delta': 1.0, 'velocity': contract.period / NANOSECONDS, 'absolute': np.nan}
    return np.repeat(
        [factor[contract.mode_of(feature)] for feature in contract.actions],
        [contract.width(feature) for feature in contract.actions],
    )

"""From joint values to the features of a contract: the one way, for bags and for the live arm."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vdd_ros.contract import Contract, Feature

_AXES = {'x': 0, 'y': 1, 'z': 2}


class ToolPoint(Protocol):
    """What decoding needs of kinematics; `vdd_ros.kinematics.Kinematics` is one."""

    def tool_position(self, joints: np.ndarray) -> np.ndarray:
        """Map joints of shape (..., joint) [rad] to positions of shape (..., 3) [m]."""
        ...


def feature_values(
    contract: Contract, feature: Feature, joints: np.ndarray, kinematics: ToolPoint | None
) -> np.ndarray:
    """Evaluate a feature.

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
        return np.asarray(joints, dtype=np.float64)
    return kinematics.tool_position(joints)[..., axis_indices(feature)]


def axis_indices(feature: Feature) -> list[int]:
    """Return the places of a feature's coordinates in a position; none in joint space."""
    return [_AXES[axis] for axis in feature.axes]


def observation_values(
    contract: Contract, measured: np.ndarray, commanded: np.ndarray, kinematics: ToolPoint | None
) -> np.ndarray:
    """Evaluate every feature of the observation, side by side.

    ``measured`` and ``commanded`` have shape (..., joint) [rad]; the result has shape (..., observation).
    """
    streams = {'measured': measured, 'commanded': commanded}
    parts = [
        feature_values(contract, feature, streams[feature.source], kinematics) for feature in contract.observation
    ]
    return np.concatenate(parts, axis=-1)

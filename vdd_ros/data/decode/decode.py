"""Compute the features of a contract from joint values, for bags and for the live arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, Protocol

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS, Contract, Feature
from vdd_ros.contract.features import ActionMode, TopicFeature
from vdd_ros.data.decode.frames import Frames, Rows, side_by_side
from vdd_ros.data.decode.rotation import six_dimensional

_AXES = {'x': 0, 'y': 1, 'z': 2}
_NONE: Mapping[str, np.ndarray] = MappingProxyType({})


class ToolPoint(Protocol):
    """The part of the kinematics needed for decoding; implemented by `vdd_ros.robot.kinematics.Kinematics`."""

    def tool_position(self, joints: np.ndarray) -> np.ndarray:
        """Map joints of shape (..., joint) [rad] to positions of shape (..., 3) [m]."""
        ...

    def tool_orientation(self, joints: np.ndarray) -> np.ndarray:
        """Map joints of shape (..., joint) [rad] to unit quaternions of shape (..., 4), w x y z."""
        ...


@dataclass(frozen=True, eq=False)
class Part:
    """A feature of the observation or the action, resolved against the contract."""

    name: str
    source: Literal['measured', 'commanded', 'topic']
    """Source of the feature. Commands of further controllers are also `commanded`, in observations and actions."""
    space: Literal['joint', 'tool', 'topic']
    columns: slice
    """Columns of the feature in the observation or action."""
    places: np.ndarray
    """Indices of the joints in the contract, or of the axes in a position, shape (width,); empty for topic features."""
    turns: bool
    """Whether six values for the orientation of the tool follow the axes."""
    mode: ActionMode
    factor: float
    """Factor from an action to a change of the command: 1 for the mode `delta`, the policy period [s] for `velocity`,
    NaN for `absolute`."""


class Decoding:
    """Maps joints to the features of a contract. It is resolved once, since the live arm decodes every tick."""

    def __init__(self, contract: Contract, kinematics: ToolPoint | None) -> None:
        """Bind a contract to the kinematics for features in tool space."""
        self.observed, self.done = _parts(contract)
        """The features of the observation and of the action, in order."""
        self._commands_velocity = contract.commanded.quantity == 'velocity'
        self._kinematics = kinematics
        self._robot = len(contract.robot.joints)

    def values(self, part: Part, joints: np.ndarray) -> np.ndarray:
        """Evaluate a feature computed from joints.

        Parameters
        ----------
        part
            An entry of `observed` or `done` that is not a topic feature.
        joints
            Shape (..., joint) [rad], in the order of ``contract.joints``: measured or commanded, as the part requires.

        Returns
        -------
        A new array of shape (..., width), [rad] in joint space and [m] in tool space. A rotation is given by the first
        two columns of its matrix.

        """
        if part.space == 'joint':
            return np.asarray(joints, dtype=np.float64).take(part.places, -1)
        joints = joints[..., : self._robot]
        if not part.turns:
            return self._kinematics.tool_position(joints).take(part.places, -1)
        quaternion = self._kinematics.tool_orientation(joints)[..., [1, 2, 3, 0]]
        turned = six_dimensional(quaternion.reshape(-1, 4)).reshape(*quaternion.shape[:-1], 6)
        if not len(part.places):
            return turned
        return side_by_side([self._kinematics.tool_position(joints).take(part.places, -1), turned])

    def observation(
        self, measured: np.ndarray, commanded: np.ndarray, topics: Mapping[str, np.ndarray | Frames] = _NONE
    ) -> np.ndarray | Rows:
        """Evaluate and concatenate all features of the observation: see `observation_values`."""
        values = []
        for part in self.observed:
            if part.space == 'topic':
                values.append(topics[part.name])
            else:
                values.append(self.values(part, measured if part.source == 'measured' else commanded))
        return side_by_side(values)

    def action(
        self,
        before: np.ndarray,
        after: np.ndarray,
        topics_before: Mapping[str, np.ndarray] = _NONE,
        topics_after: Mapping[str, np.ndarray] = _NONE,
    ) -> np.ndarray:
        """Evaluate the action between two commands: see `action_values`."""
        values = []
        for part in self.done:
            topic = part.space == 'topic'
            new = topics_after[part.name] if topic else self.values(part, after)
            is_velocity = self._commands_velocity and not topic and (part.places < self._robot).all()
            if part.mode != 'absolute' and not is_velocity:
                old = topics_before[part.name] if topic else self.values(part, before)
                new = (new - old) / part.factor
            values.append(new)
        return side_by_side(values)


def observation_values(
    contract: Contract,
    measured: np.ndarray,
    commanded: np.ndarray,
    kinematics: ToolPoint | None,
    topics: Mapping[str, np.ndarray | Frames] = _NONE,
) -> np.ndarray | Rows:
    """Evaluate and concatenate all features of the observation except `Contract.images`.

    With image features the result is a `Rows`.

    ``measured`` and ``commanded`` have shape (..., joint) [rad], in the order of ``contract.joints``. ``topics`` maps
    the name of each topic feature to values of shape (..., width). The result has shape (..., observation).
    """
    return Decoding(contract, kinematics).observation(measured, commanded, topics)


def action_values(
    contract: Contract,
    before: np.ndarray,
    after: np.ndarray,
    kinematics: ToolPoint | None,
    topics_before: Mapping[str, np.ndarray] = _NONE,
    topics_after: Mapping[str, np.ndarray] = _NONE,
) -> np.ndarray:
    """Evaluate and concatenate the features of the action between two commands.

    Parameters
    ----------
    contract, kinematics
        See `Decoding`.
    before, after
        The joints commanded before a tick and before the next one, shape (..., joint) [rad]. For velocity commands,
        ``after`` holds the velocities of the robot's joints [rad/s], and ``before`` is not used for them.
    topics_before, topics_after
        The commanded values of each topic feature without a controller, before the same ticks, by name, shape
        (..., width).

    Returns
    -------
    Shape (..., action): change, new value, or change per second, depending on the mode of the feature.

    """
    return Decoding(contract, kinematics).action(before, after, topics_before, topics_after)


def change_factors(contract: Contract) -> np.ndarray:
    """Return the factor from an action to a change of the command, shape (action,): see `Part`."""
    parts = Decoding(contract, None).done
    return np.concatenate([np.full(part.columns.stop - part.columns.start, part.factor) for part in parts])


@lru_cache(maxsize=64)
def _parts(contract: Contract) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    return _looked_up(contract, contract.observation), _looked_up(contract, contract.actions)


def _looked_up(contract: Contract, features: Sequence[Feature | TopicFeature]) -> tuple[Part, ...]:
    parts, column = [], 0
    factors = {'delta': 1.0, 'velocity': contract.period / NANOSECONDS, 'absolute': np.nan}
    for feature in features:
        if feature in contract.arrays:
            continue
        places: list[int] = []
        if feature.space == 'joint':
            places = [contract.robot.joints.index(joint) for joint in contract.joints_of(feature)]
        elif feature.space == 'tool':
            places = [_AXES[axis] for axis in feature.axes]
        controller = contract.controller_of(feature) if isinstance(feature, TopicFeature) else None
        source, space = feature.source, feature.space
        if controller is not None:
            source, space, places = 'commanded', 'joint', [*range(controller.places.start, controller.places.stop)]
        columns = slice(column, column + contract.width(feature))
        taken, mode = np.array(places, dtype=np.intp), contract.mode_of(feature)
        turns = feature.space == 'tool' and feature.rotation is not None
        parts.append(Part(feature.name, source, space, columns, taken, turns, mode, factors[mode]))
        column = columns.stop
    return tuple(parts)

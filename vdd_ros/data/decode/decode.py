"""From joint values to the features of a contract: the one way, for bags and for the live arm."""

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
    """What decoding needs of kinematics; `vdd_ros.robot.kinematics.Kinematics` is one."""

    def tool_position(self, joints: np.ndarray) -> np.ndarray:
        """Map joints of shape (..., joint) [rad] to positions of shape (..., 3) [m]."""
        ...

    def tool_orientation(self, joints: np.ndarray) -> np.ndarray:
        """Map joints of shape (..., joint) [rad] to unit quaternions of shape (..., 4), w x y z."""
        ...


@dataclass(frozen=True, eq=False)
class Part:
    """A feature of the observation or of the action, with what the contract says of it looked up."""

    name: str
    source: Literal['measured', 'commanded', 'topic']
    """`commanded` also of what further controllers are commanded, as part of the observation or of the action."""
    space: Literal['joint', 'tool', 'topic']
    columns: slice
    """Where its numbers are in the observation or in the action."""
    places: np.ndarray
    """Where its joints are among those of the contract, or its axes in a position, shape (width,); of a topic, none."""
    turns: bool
    """Whether the six numbers of the tool's orientation follow those of the axes."""
    mode: ActionMode
    factor: float
    """What an action is multiplied with to be a change of the command: 1 where its mode is `delta`, the policy
    period [s] where it is `velocity`, NaN where it is the new value."""


class Decoding:
    """The contract's way from joints to features, looked up once: a moving arm asks at every tick."""

    def __init__(self, contract: Contract, kinematics: ToolPoint | None) -> None:
        """Bind a contract to kinematics, which features in tool space need."""
        self.observed, self.done = _parts(contract)
        """The parts of the observation, and those of the action, in the order of their numbers."""
        self._told_velocity = contract.commanded.quantity == 'velocity'
        self._kinematics = kinematics
        self._robot = len(contract.robot.joints)

    def values(self, part: Part, joints: np.ndarray) -> np.ndarray:
        """Evaluate a part of the arm.

        Parameters
        ----------
        part
            Of `observed` or `done`, but not one that is read from a topic of its own.
        joints
            Shape (..., joint), in the order of ``contract.joints`` [rad]: measured or commanded as the part says.

        Returns
        -------
        An array of its own, shape (..., width), [rad] in joint space and [m] in tool space; of a rotation the first two
        columns of its matrix.

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
        """Evaluate every feature of the observation, side by side: see `observation_values`."""
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
        """Evaluate the action that leads from one command to the next: see `action_values`."""
        values = []
        for part in self.done:
            topic = part.space == 'topic'
            new = topics_after[part.name] if topic else self.values(part, after)
            is_velocity = self._told_velocity and not topic and (part.places < self._robot).all()
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
    """Evaluate every feature of the observation, side by side; with pictures, as `Rows`.

    ``measured`` and ``commanded`` have shape (..., joint) [rad], in the order of ``contract.joints``, and ``topics``
    holds, by name, the values of each feature that is heard on a topic of its own, shape (..., width); the result has
    shape (..., observation).
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
    """Evaluate the action that leads from one command to the next, every feature side by side.

    Parameters
    ----------
    contract, kinematics
        As for `Decoding`.
    before, after
        The joints commanded before the tick and before the next, shape (..., joint) [rad]. If the contract's commands
        say velocities, ``after`` holds those of the robot's joints [rad/s], and ``before`` is not looked at for them.
    topics_before, topics_after
        The same of each feature that is commanded on a topic of its own and is of no controller, by name, shape
        (..., width).

    Returns
    -------
    Shape (..., action): by the feature's mode the change, the new value, or the change per second.

    """
    return Decoding(contract, kinematics).action(before, after, topics_before, topics_after)


def change_factors(contract: Contract) -> np.ndarray:
    """Return what an action is multiplied with to be a change of the command, shape (action,): see `Part`."""
    parts = Decoding(contract, None).done
    return np.concatenate([np.full(part.columns.stop - part.columns.start, part.factor) for part in parts])


@lru_cache(maxsize=64)
def _parts(contract: Contract) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    return _looked_up(contract, contract.observation), _looked_up(contract, contract.actions)


def _looked_up(contract: Contract, features: Sequence[Feature | TopicFeature]) -> tuple[Part, ...]:
    parts, column = [], 0
    factors = {'delta': 1.0, 'velocity': contract.period / NANOSECONDS, 'absolute': np.nan}
    for feature in features:
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

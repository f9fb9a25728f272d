"""The contract on a moving arm: observation windows out of its joints, joint commands out of the policy's actions."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np

from vdd_ros.contract import NANOSECONDS, Contract
from vdd_ros.data.decode import (
    ToolPoint,
    action_values,
    axis_indices,
    feature_values,
    joint_indices,
    observation_values,
)
from vdd_ros.features import TopicFeature


_NONE: Mapping[str, np.ndarray] = MappingProxyType({})


class Kinematics(ToolPoint, Protocol):
    """What a Cartesian contract needs; `vdd_ros.kinematics.Kinematics` is one."""

    def tool_orientation(self, joints: np.ndarray) -> np.ndarray:
        """Map joints of shape (joint,) [rad] to a unit quaternion of shape (4,), w x y z."""
        ...

    def solve(self, position: np.ndarray, orientation: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return joints of shape (joint,) [rad] that bring the tool to a pose, near ``start``."""
        ...


class _Remembering:
    """Kinematics that know where the tool is at the last few joints: a loop asks for those again and again."""

    _KEPT = 4

    def __init__(self, kinematics: Kinematics) -> None:
        self._kinematics = kinematics
        self._known: dict[bytes, np.ndarray] = {}
        self.tool_orientation, self.solve = kinematics.tool_orientation, kinematics.solve

    def tool_position(self, joints: np.ndarray) -> np.ndarray:
        """Map joints of shape (..., joint) [rad] to positions of shape (..., 3) [m]."""
        if joints.ndim != 1:
            return self._kinematics.tool_position(joints)
        key = joints.tobytes()
        position = self._known.get(key)
        if position is None:
            if len(self._known) == self._KEPT:
                del self._known[next(iter(self._known))]
            position = self._known[key] = self._kinematics.tool_position(joints)
        return position


class Embodiment:
    """One arm in motion under one contract; used alike by the control loop and by simulated rollouts.

    Holds the last joint command that really left, and the last few observations. In tool space, what the contract
    does not command (height, orientation) stays where it was when the arm was anchored.
    """

    def __init__(self, contract: Contract, kinematics: Kinematics | None) -> None:
        """Bind a contract to kinematics, which contracts in joint space do without."""
        self.contract = contract
        self._kinematics = None if kinematics is None else _Remembering(kinematics)
        self._history: deque[np.ndarray] = deque(maxlen=contract.span + 1)
        self._moves_tool = any(feature.space == 'tool' for feature in contract.actions)
        self._commanded = np.zeros(0)

    @property
    def commanded(self) -> np.ndarray:
        """The last joint command, shape (joint,) [rad]; after `anchor` the measured position."""
        return self._commanded

    def anchor(self, measured: np.ndarray) -> None:
        """Start from a measured position, shape (joint,) [rad]: the arm is commanded to be where it is."""
        self._history.clear()
        self._commanded = np.array(measured, dtype=np.float64)
        if self._moves_tool:
            self._reference = self._kinematics.tool_position(self._commanded)
            self._orientation = self._kinematics.tool_orientation(self._commanded)

    def observe(self, measured: np.ndarray, topics: Mapping[str, np.ndarray] = _NONE) -> np.ndarray:
        """Take in one tick's measured position, shape (joint,) [rad], and return the observation window.

        ``topics`` holds, by name, the values of each feature that is read from a topic of its own, shape (width,).

        Returns shape (observation_horizon, observation), oldest first; before the arm has moved long enough, the
        oldest observation stands in for those that would be older, as in the windows that the policy was trained on.
        """
        row = observation_values(self.contract, measured, self._commanded, self._kinematics, topics)
        self._history.append(row)
        newest = len(self._history) - 1
        stamps = range(self.contract.observation_horizon - 1, -1, -1)
        return np.array([self._history[max(newest - i * self.contract.observation_stride, 0)] for i in stamps])

    def target(self, action: np.ndarray) -> np.ndarray:
        """Return the joints, shape (joint,) [rad], that an action of one step, shape (action,), asks for.

        The inverse of `action_values`: first the tool is brought to its place, then joints that are commanded by
        themselves to theirs. Features that are commanded on topics of their own are not the arm's.
        """
        return self._step(action, self._commanded)

    def waypoints(self, actions: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return the joints that actions of shape (step, action) ask for one by one, shape (step, joint) [rad].

        They go out from the joints ``start``, shape (joint,) [rad].
        """
        steps = []
        for action in actions:
            start = self._step(action, start)
            steps.append(start)
        return np.array(steps)

    def done(self, before: np.ndarray, after: np.ndarray) -> np.ndarray | None:
        """Return the action, shape (action,), that leads from one command to the next, shape (joint,) [rad] each.

        None if part of it is commanded on topics of their own.
        """
        contract = self.contract
        if any(isinstance(feature, TopicFeature) for feature in contract.actions):
            return None
        if contract.commanded.quantity == 'velocity':
            after = (after - before) / (contract.period / NANOSECONDS)
        return action_values(contract, before, after, self._kinematics)

    def motions(self, chunk: np.ndarray) -> np.ndarray:
        """Return which way chunks of shape (expert, step, action) lead from the newest command, one row each."""
        contract, column, parts = self.contract, 0, []
        for feature in contract.actions:
            part = chunk[..., column : column + contract.width(feature)]
            column += part.shape[-1]
            if isinstance(feature, TopicFeature):
                continue
            if contract.mode_of(feature) == 'absolute':
                parts.append(part[:, -1] - feature_values(contract, feature, self._commanded, self._kinematics))
            else:
                parts.append(part.sum(axis=1))
        return np.concatenate(parts, axis=-1)

    def _step(self, action: np.ndarray, commanded: np.ndarray) -> np.ndarray:
        contract, target, column = self.contract, commanded, 0
        tool: np.ndarray | None = None
        set_by_themselves: list[tuple[list[int], np.ndarray]] = []
        for feature in contract.actions:
            value = np.asarray(action[column : column + contract.width(feature)], dtype=np.float64)
            column += len(value)
            if isinstance(feature, TopicFeature):
                continue
            mode = contract.mode_of(feature)
            if mode != 'absolute':
                step = value if mode == 'delta' else value * (contract.period / NANOSECONDS)
                value = feature_values(contract, feature, commanded, self._kinematics) + step
            if feature.space == 'tool':
                tool = self._reference.copy() if tool is None else tool
                tool[axis_indices(feature)] = value
            else:
                set_by_themselves.append((joint_indices(contract, feature), value))
        if tool is not None and not np.isfinite(tool).all():
            return np.full_like(commanded, np.nan)  # inverse kinematics has no answer to that
        if tool is not None:
            target = self._kinematics.solve(tool, self._orientation, target)
        target = np.array(target)
        for places, value in set_by_themselves:
            target[places] = value
        return target

    def sent(self, command: np.ndarray) -> None:
        """Note the joint command, shape (joint,) [rad], that left in the end."""
        self._commanded = np.array(command, dtype=np.float64)

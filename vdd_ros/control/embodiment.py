"""The contract on a moving arm: observation windows out of its joints, joint commands out of the policy's actions."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np

from vdd_ros.contract import NANOSECONDS, Contract
from vdd_ros.data.decode import Decoding, Part, ToolPoint

_NONE: Mapping[str, np.ndarray] = MappingProxyType({})


class Kinematics(ToolPoint, Protocol):
    """What a Cartesian contract needs; `vdd_ros.kinematics.Kinematics` is one."""

    def tool_orientation(self, joints: np.ndarray) -> np.ndarray:
        """Map joints of shape (joint,) [rad] to a unit quaternion of shape (4,), w x y z."""
        ...

    def solve(self, position: np.ndarray, orientation: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return joints of shape (joint,) [rad] that bring the tool to a pose, near ``start``."""
        ...


class Embodiment:
    """One arm in motion under one contract; used alike by the control loop and by simulated rollouts.

    Holds the last joint command that really left, and the last few observations. In tool space, what the contract
    does not command (height, orientation) stays where it was when the arm was anchored.
    """

    def __init__(self, contract: Contract, kinematics: Kinematics | None) -> None:
        """Bind a contract to kinematics, which contracts in joint space do without."""
        self.contract = contract
        self._kinematics = kinematics
        self._decoding = Decoding(contract, kinematics)
        self._moves_tool = [part for part in self._decoding.done if part.space == 'tool']
        self._moves_joints = [part for part in self._decoding.done if part.space == 'joint']
        self._history: deque[np.ndarray] = deque(maxlen=contract.span + 1)
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
        row, history = self._decoding.observation(measured, self._commanded, topics), self._history
        history.extend([row] if history else [row] * history.maxlen)
        return np.array(list(history)[:: self.contract.observation_stride])

    def target(self, action: np.ndarray) -> np.ndarray:
        """Return the joints, shape (joint,) [rad], that an action of one step, shape (action,), asks for.

        The inverse of `action_values`: first the tool is brought to its place, then joints that are commanded by
        themselves to theirs. Features that are commanded on topics of their own are not the arm's.
        """
        return self._step(np.asarray(action, dtype=np.float64), self._commanded)

    def waypoints(self, actions: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return the joints that actions of shape (step, action) ask for one by one, shape (step, joint) [rad].

        They go out from the joints ``start``, shape (joint,) [rad].
        """
        steps = []
        for action in np.asarray(actions, dtype=np.float64):
            start = self._step(action, start)
            steps.append(start)
        return np.array(steps)

    def done(self, before: np.ndarray, after: np.ndarray) -> np.ndarray | None:
        """Return the action, shape (action,), that leads from one command to the next, shape (joint,) [rad] each.

        None if part of it is commanded on topics of their own.
        """
        if any(part.space == 'topic' for part in self._decoding.done):
            return None
        if self.contract.commanded.quantity == 'velocity':
            after = (after - before) / (self.contract.period / NANOSECONDS)
        return self._decoding.action(before, after)

    def motions(self, chunk: np.ndarray) -> np.ndarray:
        """Return which way chunks of shape (expert, step, action) lead from the newest command, one row each."""
        ways = []
        for part in self._decoding.done:
            values = chunk[..., part.columns]
            if part.space == 'topic':
                continue
            if part.mode == 'absolute':
                ways.append(values[:, -1] - self._decoding.values(part, self._commanded))
            else:
                ways.append(values.sum(axis=1))
        return np.concatenate(ways, axis=-1)

    def _step(self, action: np.ndarray, commanded: np.ndarray) -> np.ndarray:
        target = commanded
        if self._moves_tool:
            tool = self._reference.copy()
            for part in self._moves_tool:
                tool[part.places] = self._asked(part, action, commanded)
            if not all(map(math.isfinite, tool.tolist())):
                return np.full_like(commanded, np.nan)  # inverse kinematics has no answer to that
            target = self._kinematics.solve(tool, self._orientation, target)
        target = np.array(target)
        for part in self._moves_joints:
            target[part.places] = self._asked(part, action, commanded)
        return target

    def _asked(self, part: Part, action: np.ndarray, commanded: np.ndarray) -> np.ndarray:
        """Return the values that an action asks of a part of the arm, shape (width,)."""
        value = action[part.columns]
        if part.mode == 'absolute':
            return value
        change = value if part.mode == 'delta' else value * part.factor
        return self._decoding.values(part, commanded) + change

    def sent(self, command: np.ndarray) -> None:
        """Note the joint command, shape (joint,) [rad], that left in the end."""
        self._commanded = np.array(command, dtype=np.float64)

"""The contract on a moving arm: observation windows from joints, joint commands from actions."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.data.decode.decode import Decoding, Part, ToolPoint
from vdd_ros.data.decode.rotation import from_six_dimensional

REACH_TOLERANCE = 2e-4
"""Distance of the tool point from its target within which a step of the policy is reached [m]."""
TURN_TOLERANCE = 2e-3
"""Angle between the orientation of the tool and its target within which a step is reached [rad]."""

_NONE: Mapping[str, np.ndarray] = MappingProxyType({})


class Solution(Protocol):
    """Result of inverse kinematics; `vdd_ros.robot.kinematics.Solution` implements it."""

    joints: np.ndarray
    """Shape (joint,) [rad]."""
    distance: float
    """Distance of the tool point from its target [m]."""
    angle: float
    """Angle between the orientation of the tool and its target [rad]."""
    slowed: tuple[str, ...]
    """Joints that would exceed their permitted change; the tool is on its path to the pose."""

    @property
    def reason(self) -> str:
        """Why the pose is not reached."""
        ...


class Kinematics(ToolPoint, Protocol):
    """Interface to the kinematics for contracts in tool space; `vdd_ros.robot.kinematics.Kinematics` implements it."""

    def step_limits(self, seconds: float) -> np.ndarray:
        """Return the maximum change of each joint in a time [s], shape (joint,) [rad]."""
        ...

    def toward(
        self, position: np.ndarray, orientation: np.ndarray, start: np.ndarray, max_change: np.ndarray | None
    ) -> Solution:
        """Return the joints for a pose of the tool, or for a part of the path within a change from ``start``."""
        ...


class Steps(NamedTuple):
    """Joint positions of several actions in sequence."""

    joints: np.ndarray
    """Shape (step, joint) [rad]; the steps within reach."""
    fault: str
    """Why the next step is out of reach; empty if all steps are within reach."""
    slowed: str
    """Why a step falls short of its pose: a joint would be too fast."""


class PolicyInterface:
    """One arm in motion under one contract; used by the control loop and by in-process rollouts.

    Holds the last joint command that was sent and the last observations. In tool space, axes that the contract does not
    command (height, orientation) keep their value from the anchor.

    No step exceeds the velocity limit of a joint within a policy period; the tool then falls short of its step. A pose
    that is out of reach, or behind a singularity, gives no command.
    """

    def __init__(self, contract: Contract, kinematics: Kinematics | None) -> None:
        """Bind a contract to kinematics, which contracts in joint space do not need."""
        self.contract = contract
        self._kinematics = kinematics
        self._decoding = Decoding(contract, kinematics)
        self._moves_tool = [part for part in self._decoding.done if part.space == 'tool']
        self._moves_joints = [part for part in self._decoding.done if part.space == 'joint']
        self._history: deque[np.ndarray] = deque(maxlen=contract.span + 1)
        self._commanded = np.zeros(0)
        self._is_new = True
        self._is_absolute = any(part.mode == 'absolute' for part in self._moves_tool)
        self._step_limits = kinematics.step_limits(contract.period / NANOSECONDS) if self._moves_tool else None

    @property
    def commanded(self) -> np.ndarray:
        """The last joint command, shape (joint,) [rad]; after `anchor` the measured position."""
        return self._commanded

    @property
    def has_tool(self) -> bool:
        """Whether `tool_pose` is available, which requires kinematics."""
        return self._kinematics is not None

    def tool_pose(self, joints: np.ndarray) -> tuple[float, ...]:
        """Map joints of shape (joint,) [rad] to x, y, z [m] and roll, pitch, yaw [rad] (fixed axes) of the tool."""
        w, x, y, z = self._kinematics.tool_orientation(joints).tolist()
        roll = math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
        pitch = math.asin(min(max(2 * (w * y - z * x), -1.0), 1.0))
        yaw = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
        return (*self._kinematics.tool_position(joints).tolist(), roll, pitch, yaw)

    def tool_paths(self, chunks: np.ndarray) -> np.ndarray:
        """Return the paths of the tool of chunks of shape (expert, step, action), shape (expert, step, 3) [m].

        They start from the newest command, as `waypoints` does, but ignore limits and reach: 16 chunks of 12 steps take
        15 us in tool space and .8 ms in joint space, where `waypoints` takes tens of milliseconds.
        """
        shape = chunks.shape[:2]
        if self._moves_tool:
            paths = np.tile(self._reference, (*shape, 1))
            for part in self._moves_tool:
                paths[..., part.places] = self._along(part, chunks)[..., : len(part.places)]
            return paths
        joints = np.tile(self._commanded, (*shape, 1))
        for part in self._moves_joints:
            joints[..., part.places] = self._along(part, chunks)
        return self._kinematics.tool_position(joints)

    def _along(self, part: Part, chunks: np.ndarray) -> np.ndarray:
        values = chunks[..., part.columns]
        if part.mode == 'absolute':
            return values
        changes = values if part.mode == 'delta' else values * part.factor
        return self._decoding.values(part, self._commanded) + np.cumsum(changes, axis=1)

    def anchor(self, measured: np.ndarray) -> None:
        """Start from a measured position, shape (joint,) [rad], which is also used as the command."""
        self._history.clear()
        self._is_new = True
        self._commanded = np.array(measured, dtype=np.float64)
        if self._moves_tool:
            self._reference = self._kinematics.tool_position(self._commanded)
            self._orientation = self._kinematics.tool_orientation(self._commanded)

    def observe(self, measured: np.ndarray, topics: Mapping[str, np.ndarray] = _NONE) -> np.ndarray:
        """Process the measured position of a tick, shape (joint,) [rad], and return the observation window.

        ``topics`` contains the values of the topic features by name, shape (width,).

        Returns shape (observation_horizon, observation), oldest first. At the start, the oldest observation is
        repeated, as in the training windows.
        """
        row, history = self._decoding.observation(measured, self._commanded, topics), self._history
        history.extend([row] if history else [row] * history.maxlen)
        return np.array(list(history)[:: self.contract.observation_stride])

    def target(self, action: np.ndarray) -> np.ndarray:
        """Return the joint positions, shape (joint,) [rad], for an action of one step, shape (action,).

        The inverse of `action_values`: first the tool is moved to its pose, then the directly commanded joints. Topic
        features are not part of the arm. The result is not finite if the action is not finite or out of reach.
        """
        steps = self.waypoints(np.asarray(action)[None], self._commanded)
        return steps.joints[0] if len(steps.joints) else np.full_like(self._commanded, np.nan)

    def waypoints(self, actions: np.ndarray, start: np.ndarray) -> Steps:
        """Return the joint positions of actions of shape (step, action), up to the first one out of reach.

        They start from the joints ``start``, shape (joint,) [rad]. A step that is not finite is NaN in the result.
        """
        # If the first pose is far away, the start gate must be able to compute the distance.
        free = self._is_new and self._is_absolute
        steps, fault, slowed = [], '', ''
        for action in np.asarray(actions, dtype=np.float64):
            start, solution = self._step(action, start, None if free else self._step_limits)
            if solution is not None and (solution.distance > REACH_TOLERANCE or solution.angle > TURN_TOLERANCE):
                if not solution.slowed:
                    fault = solution.reason
                    break
                slowed = slowed or solution.reason
            steps.append(start)
            free = False
        return Steps(np.array(steps).reshape(-1, len(self._commanded)), fault, slowed)

    def done(self, before: np.ndarray, after: np.ndarray) -> np.ndarray | None:
        """Return the action, shape (action,), between two consecutive commands, shape (joint,) [rad] each.

        None if part of it is commanded on other topics.
        """
        if any(part.space == 'topic' for part in self._decoding.done):
            return None
        if self.contract.commanded.quantity == 'velocity':
            after = (after - before) / (self.contract.period / NANOSECONDS)
        return self._decoding.action(before, after)

    def motions(self, chunk: np.ndarray) -> np.ndarray:
        """Return the direction of chunks of shape (expert, step, action) from the newest command, one row each."""
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

    def _step(
        self, action: np.ndarray, commanded: np.ndarray, step_limits: np.ndarray | None
    ) -> tuple[np.ndarray, Solution | None]:
        target, solution = commanded, None
        if self._moves_tool:
            tool, orientation = self._reference.copy(), self._orientation
            for part in self._moves_tool:
                asked, axes = self._asked(part, action, commanded), len(part.places)
                tool[part.places] = asked[:axes]
                if part.turns:
                    orientation = from_six_dimensional(asked[axes:])[[3, 0, 1, 2]]
            if not all(map(math.isfinite, [*tool.tolist(), *orientation.tolist()])):
                return np.full_like(commanded, np.nan), None  # inverse kinematics has no solution for it
            solution = self._kinematics.toward(tool, orientation, target, step_limits)
            target = solution.joints
        target = np.array(target)
        for part in self._moves_joints:
            target[part.places] = self._asked(part, action, commanded)
        return target, solution

    def _asked(self, part: Part, action: np.ndarray, commanded: np.ndarray) -> np.ndarray:
        """Return the target values of an action for a part of the arm, shape (width,)."""
        value = action[part.columns]
        if part.mode == 'absolute':
            return value
        change = value if part.mode == 'delta' else value * part.factor
        return self._decoding.values(part, commanded) + change

    def sent(self, command: np.ndarray) -> None:
        """Store the joint command that was sent."""
        self._is_new = self._is_new and np.array_equal(command, self._commanded)
        self._commanded = np.array(command, dtype=np.float64)
